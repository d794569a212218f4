"""The loss and its written-down gradient against autograd on the naive formula in float64, over
every kind of head.

Naive: full logits, log_softmax over the shared ids alone, sums as they stand in the definition.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from head_families import family
from tiny_training import NAIVE, bare, shared_logprobs
from torch import Tensor

from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens import chunks
from decaylab.tokens.heads import Head
from decaylab.trainer.loss import FORMS, TokenLosses, chunked_loss

WIDTH, SIZE, POSITIONS = 97, 32, 7
WHOLE = SharedVocabulary(WIDTH, frozenset())
NARROW = SharedVocabulary(90, frozenset({0, 3, 50}))
EXACT = ("reverse-kl", "forward-kl", "js")
KINDS = (
    "llama",
    "llama tied",
    "phi with a bias",
    "gemma2 capped",
    "granite scaled",
    "cohere scaled",
)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * scale
    )


def plain() -> Any:
    """A head that does not come apart: its states are the logits."""
    return SimpleNamespace(model=None, shell=None, logits=lambda states: states)


PLAIN = (plain(), plain())


def tokens_of(vocabulary: SharedVocabulary, count: int = POSITIONS, seed: int = 0) -> Tensor:
    shared = torch.tensor([one for one in range(vocabulary.size) if one not in vocabulary.holes])
    return shared[
        torch.randint(len(shared), (count,), generator=torch.Generator().manual_seed(seed))
    ]


def weights_of(count: int = POSITIONS) -> Tensor:
    """Of a selection: 0, 1 and what lies between and above."""
    return torch.tensor([1.0, 0.0, 0.25, 1.5, 1.0, 0.0, 0.7][:count], dtype=torch.float64)


def explicit(kind: str, model: Any, states: Tensor) -> Tensor:
    """The head written out."""
    output = model.get_output_embeddings()
    logits = states @ output.weight.T
    if kind == "phi with a bias":
        logits = logits + output.bias
    if kind == "gemma2 capped":
        return 3.0 * torch.tanh(logits / 3.0)
    return (
        logits / 8.0
        if kind == "granite scaled"
        else logits * 0.1
        if kind == "cohere scaled"
        else logits
    )


def naive(
    form: str, s_logits: Tensor, t_logits: Tensor, tokens: Tensor, vocabulary: SharedVocabulary
) -> Tensor:
    s, places = shared_logprobs(s_logits, tokens, vocabulary)
    t, _ = shared_logprobs(t_logits, tokens, vocabulary)
    return NAIVE[form](s, t, places)


def logits_pair(
    vocabulary: SharedVocabulary = WHOLE, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        normal(POSITIONS, WIDTH, scale=scale),
        normal(POSITIONS, WIDTH, seed=1, scale=scale),
        tokens_of(vocabulary),
    )


def of_logits(
    s: Tensor,
    t: Tensor,
    tokens: Tensor,
    form: str = "reverse-kl",
    weights: Tensor | None = None,
    **more: Any,
) -> tuple[TokenLosses, Tensor]:
    """Loss, and gradient in the logits."""
    vocabulary = more.get("vocabulary", SharedVocabulary(s.shape[-1], frozenset()))
    weights = torch.ones(len(s), dtype=s.dtype) if weights is None else weights
    found, gradient = chunked_loss(PLAIN, (s, t), tokens, vocabulary, weights, form)
    assert gradient is not None
    return found, gradient


def at_once(monkeypatch: pytest.MonkeyPatch, positions: int, width: int = WIDTH) -> None:
    monkeypatch.setitem(chunks.HEAD_ELEMENTS, "cpu", positions * width)
    monkeypatch.setitem(chunks.BACKWARD_FACTOR, "cpu", 1)


# --- loss and gradient against autograd
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [WHOLE, NARROW], ids=["whole", "narrow with holes"])
@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_in_the_logits_are_those_of_autograd_on_the_naive_formula(
    form: str, vocabulary: SharedVocabulary
) -> None:
    s, t, tokens = logits_pair(vocabulary)
    weights = weights_of()
    found, gradient = of_logits(s, t, tokens, form, weights, vocabulary=vocabulary)
    own = s.clone().requires_grad_()
    expected = naive(form, own, t, tokens, vocabulary)
    (slope,) = torch.autograd.grad((weights * expected).sum(), own)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-13)
    assert slope.abs().amax(1).gt(1e-2).equal(weights > 0) and not gradient[weights == 0].any()
    outside = [one for one in range(WIDTH) if not vocabulary.holds(one)]
    assert not gradient[:, outside].any()


@pytest.mark.parametrize("form", EXACT)
def test_the_gradient_is_the_slope_of_the_loss_that_is_given_back(form: str) -> None:
    """Central differences of the code's own value, in every logit of one position and along random
    lines of all."""
    s, t, tokens = logits_pair(NARROW)
    weights, step = weights_of(), 1e-5
    _, gradient = of_logits(s, t, tokens, form, weights, vocabulary=NARROW)

    def value(moved: Tensor) -> float:
        found, none = chunked_loss(PLAIN, (moved, t), tokens, NARROW, None, form)
        assert none is None
        return float((weights * found.loss).sum())

    lines = [torch.zeros_like(s) for _ in range(WIDTH)]
    for place, line in enumerate(lines):
        line[3, place] = 1.0
    for line in [*lines, *(normal(*s.shape, seed=seed) for seed in range(5))]:
        slope = (value(s + step * line) - value(s - step * line)) / (2 * step)
        assert slope == pytest.approx(float((gradient * line).sum()), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("vocabulary", [WHOLE, NARROW], ids=["whole", "wider head"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["reverse-kl", "policy-gradient"])
def test_the_gradient_passes_through_every_kind_of_head_to_states_and_parameters(
    form: str, kind: str, vocabulary: SharedVocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = family(kind).double(), family("llama").double()
    states, theirs = normal(POSITIONS, SIZE, scale=0.7), normal(POSITIONS, SIZE, seed=1, scale=0.7)
    tokens, weights = tokens_of(vocabulary), weights_of()
    at_once(monkeypatch, 3)
    heads = Head(bare(student)), Head(bare(teacher))
    assert heads[0].shell is not None
    found, gradient = chunked_loss(heads, (states, theirs), tokens, vocabulary, weights, form)
    own = states.clone().requires_grad_()
    expected = naive(
        form, explicit(kind, student, own), explicit("llama", teacher, theirs), tokens, vocabulary
    ).detach()
    torch.testing.assert_close(found.loss, expected, rtol=1e-10, atol=1e-12)
    trained = list(student.get_output_embeddings().parameters())
    loss = naive(
        form, explicit(kind, student, own), explicit("llama", teacher, theirs), tokens, vocabulary
    )
    slope, *own_slopes = torch.autograd.grad((weights * loss).sum(), [own, *trained])
    assert gradient is not None and slope.abs().max() > 1e-3
    torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-12)
    assert len(trained) == (2 if kind == "phi with a bias" else 1)
    for weight, expected in zip(trained, own_slopes, strict=True):
        assert weight.grad is not None and expected.abs().max() > 1e-3
        torch.testing.assert_close(weight.grad, expected, rtol=1e-9, atol=1e-12)
    assert all(one.grad is None for one in teacher.parameters())


def test_a_head_that_is_frozen_hands_the_gradient_on_and_gets_none() -> None:
    student = family("llama").double()
    student.requires_grad_(False)
    states, theirs, tokens = (
        normal(POSITIONS, SIZE),
        normal(POSITIONS, SIZE, seed=1),
        tokens_of(WHOLE),
    )
    head = Head(bare(student))
    _, gradient = chunked_loss((head, head), (states, theirs), tokens, WHOLE, weights_of())
    own = states.clone().requires_grad_()
    loss = naive(
        "reverse-kl",
        explicit("llama", student, own),
        explicit("llama", student, theirs),
        tokens,
        WHOLE,
    )
    torch.testing.assert_close(gradient, torch.autograd.grad((weights_of() * loss).sum(), own)[0])
    assert student.get_output_embeddings().weight.grad is None


def test_a_head_that_does_not_come_apart_gets_the_gradient_in_its_logits() -> None:
    """OPT: its states are the model's own logits, so the rest of the way is the model's own
    graph."""
    student, teacher = family("opt").double(), family("llama").double()
    heads = Head(bare(student)), Head(bare(teacher))
    assert heads[0].shell is None and heads[1].shell is not None
    logits, theirs = normal(POSITIONS, WIDTH), normal(POSITIONS, SIZE, seed=1)
    found, gradient = chunked_loss(heads, (logits, theirs), tokens_of(NARROW), NARROW, weights_of())
    own = logits.clone().requires_grad_()
    expected = naive(
        "reverse-kl", own, explicit("llama", teacher, theirs), tokens_of(NARROW), NARROW
    )
    torch.testing.assert_close(found.loss, expected.detach())
    torch.testing.assert_close(
        gradient, torch.autograd.grad((weights_of() * expected).sum(), own)[0]
    )


# --- the other columns
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_column_is_that_of_the_definition_whatever_is_trained_on(form: str) -> None:
    s_logits, t_logits, tokens = logits_pair(NARROW)
    found, _ = of_logits(s_logits, t_logits, tokens, form, vocabulary=NARROW)
    s, places = shared_logprobs(s_logits, tokens, NARROW)
    t, _ = shared_logprobs(t_logits, tokens, NARROW)
    rows = range(POSITIONS)
    expected = {
        "reverse_kl": (s.exp() * (s - t)).sum(1),
        "student_entropy": -(s.exp() * s).sum(1),
        "teacher_entropy": -(t.exp() * t).sum(1),
        "student_logprob": s[rows, places],
        "teacher_logprob": t[rows, places],
    }
    for name, column in expected.items():
        torch.testing.assert_close(getattr(found, name), column, rtol=1e-11, atol=1e-12, msg=name)
        assert (
            column[:, None]
            - torch.stack([one for other, one in expected.items() if other != name], 1)
        ).abs().max() > 0.1
    assert found.loss.equal(found.reverse_kl) == (form == "reverse-kl")


def test_a_position_by_hand() -> None:
    """s = (1/2, 1/4, 1/4), t = (1/4, 1/2, 1/4), token 0. Everything is a multiple of ln 2.

    KL(s || t) = 1/2 ln 2 - 1/4 ln 2 = 1/4 ln 2, and as much the other way; k1 = ln 2. m = (3/8,
    3/8, 1/4).
    Reverse: s (log s/t - KL) = ln 2 (1/2 x 3/4, 1/4 x -5/4, 1/4 x -1/4). Forward: s - t.
    k1 (1[y] - s) = ln 2 (1/2, -1/4, -1/4).
    """
    s, t = (
        torch.tensor([[0.5, 0.25, 0.25]]).double().log(),
        torch.tensor([[0.25, 0.5, 0.25]]).double().log(),
    )
    token, two = torch.tensor([0]), math.log(2)
    js = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3)
    inner = (0.5 * math.log(4 / 3), 0.25 * math.log(2 / 3), 0.0)
    expected = {
        "reverse-kl": (two / 4, (two * 3 / 8, -two * 5 / 16, -two / 16)),
        "forward-kl": (two / 4, (0.25, -0.25, 0.0)),
        "js": (
            js,
            tuple(
                0.5 * (one - share * js)
                for one, share in zip(inner, (0.5, 0.25, 0.25), strict=True)
            ),
        ),
        "policy-gradient": (two, (two / 2, -two / 4, -two / 4)),
    }
    for form, (value, slope) in expected.items():
        found, gradient = of_logits(s, t, token, form)
        assert float(found.loss) == pytest.approx(value, rel=1e-12), form
        assert gradient[0].tolist() == pytest.approx(slope, rel=1e-12, abs=1e-15), form
        assert float(found.reverse_kl) == pytest.approx(two / 4)


def test_the_nearest_wrong_losses_and_gradients_are_far_away() -> None:
    """Swapped policies, mean for sum, bits, another temperature, a position off, a gradient of the
    value of k1 itself."""
    s, t, tokens = logits_pair()
    for form in FORMS:
        found, gradient = of_logits(s, t, tokens, form)
        swapped, other_way = of_logits(t, s, tokens, form)
        if form != "js":  # which is the same both ways
            assert (found.loss - swapped.loss).abs().max() > 0.1
        assert (gradient - other_way).abs().max() > 0.01
        cooler, _ = of_logits(s / 0.7, t / 0.7, tokens, form)
        later, _ = of_logits(s, t.roll(1, 0), tokens, form)
        for wrong in (
            found.loss / WIDTH,
            found.loss / math.log(2),
            cooler.loss,
            later.loss,
            found.loss.roll(1),
        ):
            assert (found.loss - wrong).abs().max() > 0.05, form
    losses = {form: of_logits(s, t, tokens, form) for form in FORMS}
    for one in FORMS:
        for other in FORMS:
            if one < other:
                assert (losses[one][0].loss - losses[other][0].loss).abs().max() > 0.1, (one, other)
                assert (losses[one][1] - losses[other][1]).abs().max() > 0.01, (one, other)
    value_alone = torch.nn.functional.one_hot(tokens, WIDTH) - s.softmax(
        -1
    )  # of log s(y), not times k1
    assert (losses["policy-gradient"][1] - value_alone).abs().max() > 0.1
    uncentred = s.softmax(-1) * (
        s.log_softmax(-1) - t.log_softmax(-1)
    )  # reverse KL without its baseline
    assert (losses["reverse-kl"][1] - uncentred).abs().max() > 0.05


# --- the policy gradient
# ---------------------------------------------------------------------------


def test_the_expected_policy_gradient_is_the_exact_reverse_kl_gradient() -> None:
    """Every token of the vocabulary, weighted with its probability under the student: value and
    gradient."""
    s, t = normal(1, 6, scale=1.5), normal(1, 6, seed=1, scale=1.5)
    own, theirs = s.softmax(-1)[0], t.softmax(-1)[0]
    every = torch.arange(6)
    found, slopes = of_logits(
        s.expand(6, -1).clone(), t.expand(6, -1).clone(), every, "policy-gradient"
    )
    exact, gradient = of_logits(s, t, every[:1])
    torch.testing.assert_close((own * found.loss).sum(), exact.loss[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(own @ slopes, gradient[0], rtol=1e-12, atol=1e-13)
    assert (theirs @ slopes - gradient[0]).abs().max() > 0.01  # tokens of the teacher would not do
    assert (own @ (slopes + slopes) - gradient[0]).abs().max() > 0.01


def test_the_expected_policy_gradient_holds_over_shared_ids_alone() -> None:
    vocabulary = SharedVocabulary(5, frozenset({2}))
    s, t = normal(1, 7, scale=1.5), normal(1, 7, seed=1, scale=1.5)
    every = torch.tensor([0, 1, 3, 4])
    own = s[0, every].softmax(-1)
    _, slopes = of_logits(
        s.expand(4, -1).clone(),
        t.expand(4, -1).clone(),
        every,
        "policy-gradient",
        vocabulary=vocabulary,
    )
    _, gradient = of_logits(s, t, every[:1], vocabulary=vocabulary)
    torch.testing.assert_close(own @ slopes, gradient[0], rtol=1e-12, atol=1e-13)


# --- chunks
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [1, 2, 3, 6, 7, 100])
def test_chunks_of_any_size_give_the_same(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = family("llama tied").double(), family("phi with a bias").double()
    heads = Head(bare(student)), Head(bare(teacher))
    states, tokens = (normal(POSITIONS, SIZE), normal(POSITIONS, SIZE, seed=1)), tokens_of(WHOLE)
    weight = student.get_output_embeddings().weight
    whole, slope = chunked_loss(heads, states, tokens, WHOLE, weights_of())
    own, weight.grad = weight.grad, None
    sizes = []
    plain_logits = Head.logits
    monkeypatch.setattr(
        Head, "logits", lambda self, rows: sizes.append(len(rows)) or plain_logits(self, rows)
    )
    at_once(monkeypatch, positions)
    found, gradient = chunked_loss(heads, states, tokens, WHOLE, weights_of())
    assert max(sizes) == min(positions, POSITIONS) and sum(sizes) == 2 * POSITIONS
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(weight.grad, own, rtol=1e-10, atol=1e-12)


def test_a_chunk_is_as_small_as_the_wider_of_the_two_heads_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The teacher's logits are 97 wide, the student's 50: 5 positions of the wider one."""
    seen = []
    at_once(monkeypatch, 5)
    heads = (
        plain(),
        SimpleNamespace(model=None, shell=None, logits=lambda rows: seen.append(len(rows)) or rows),
    )
    vocabulary = SharedVocabulary(50, frozenset())
    chunked_loss(heads, (normal(8, 50), normal(8, 97)), tokens_of(vocabulary, 8), vocabulary)
    assert seen == [5, 3]


def test_a_head_wider_than_the_whole_allowance_goes_one_position_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(chunks.HEAD_ELEMENTS, "cpu", 10)
    s, t, tokens = logits_pair()
    found, _ = of_logits(s, t, tokens)
    torch.testing.assert_close(found.loss, naive("reverse-kl", s, t, tokens, WHOLE))


def test_what_was_given_is_left_as_it_was_and_no_gradient_is_taken_unasked() -> None:
    s, t, tokens = logits_pair()
    weights = weights_of()
    before = [one.clone() for one in (s, t, weights)]
    of_logits(s, t, tokens, "forward-kl", weights)
    assert all(one.equal(other) for one, other in zip((s, t, weights), before, strict=True))
    student = family("llama").double()
    head = Head(bare(student))
    states = normal(POSITIONS, SIZE), normal(POSITIONS, SIZE, seed=1)
    found, gradient = chunked_loss((head, head), states, tokens, WHOLE)
    assert gradient is None and not any(one.requires_grad for one in found)
    assert all(one.grad is None for one in student.parameters())


def test_a_second_call_adds_to_the_gradient_of_the_head() -> None:
    student = family("llama").double()
    head, weight = Head(bare(student)), student.get_output_embeddings().weight
    states, tokens = (normal(POSITIONS, SIZE), normal(POSITIONS, SIZE, seed=1)), tokens_of(WHOLE)
    chunked_loss((head, head), states, tokens, WHOLE, weights_of())
    once = weight.grad.clone()
    chunked_loss((head, head), states, tokens, WHOLE, weights_of())
    torch.testing.assert_close(weight.grad, 2 * once)


def test_no_position_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one position"):
        of_logits(normal(0, 5), normal(0, 5), torch.zeros(0, dtype=torch.long))


# --- corners
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_student_equal_to_its_teacher_has_loss_and_gradient_zero_to_the_bit(
    form: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = family("gemma2 capped").to(dtype)
    head, states = Head(bare(model)), normal(POSITIONS, SIZE).to(dtype)
    at_once(monkeypatch, 3)
    found, gradient = chunked_loss(
        (head, head), (states, states.clone()), tokens_of(NARROW), NARROW, weights_of(), form
    )
    assert (
        not found.loss.any()
        and not found.reverse_kl.any()
        and found.student_entropy.equal(found.teacher_entropy)
    )
    assert (
        gradient is not None
        and not gradient.any()
        and not model.get_output_embeddings().weight.grad.any()
    )


@pytest.mark.parametrize("form", FORMS)
def test_minus_infinity_in_both_is_an_id_that_neither_has(form: str) -> None:
    s, t, tokens = logits_pair()
    gone = [4, 60]
    tokens = torch.where(torch.isin(tokens, torch.tensor(gone)), 5, tokens)
    expected, slope = of_logits(
        s, t, tokens, form, weights_of(), vocabulary=SharedVocabulary(WIDTH, frozenset(gone))
    )
    s[:, gone], t[:, gone] = -math.inf, -math.inf
    found, gradient = of_logits(s, t, tokens, form, weights_of())
    for name, one, other in zip(found._fields, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13, msg=name)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("form", "infinite"), [("reverse-kl", False), ("forward-kl", True), ("js", False)]
)
def test_minus_infinity_in_the_student_alone(form: str, infinite: bool) -> None:
    """What the student never writes: a term of 0 in the reverse KL, the limit of ever lower logits;
    forward KL is infinite."""
    s, t, tokens = logits_pair()
    s[:, 4] = -math.inf
    found, gradient = of_logits(s, t, torch.full_like(tokens, 5), form)
    assert bool(found.loss.isinf().all()) == infinite and bool(found.reverse_kl.isfinite().all())
    low = s.clone()
    low[:, 4] = -2000.0
    own = low.requires_grad_()
    loss = naive("js" if form == "js" else form, own, t, tokens, WHOLE)
    (slope,) = torch.autograd.grad(loss.sum(), own)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12)
    if not infinite:
        torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "infinite"), [("reverse-kl", True), ("forward-kl", False), ("js", False)]
)
def test_minus_infinity_in_the_teacher_alone(form: str, infinite: bool) -> None:
    s, t, tokens = logits_pair()
    t[:, 4] = -math.inf
    found, gradient = of_logits(s, t, torch.full_like(tokens, 5), form)
    assert bool(found.loss.isinf().all()) == infinite and bool(found.reverse_kl.isinf().all())
    if infinite:
        assert not gradient.isfinite().all(1).any()
        return
    low = t.clone()
    low[:, 4] = -2000.0
    own = s.clone().requires_grad_()
    loss = naive(form, own, low, tokens, WHOLE)
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(loss.sum(), own)[0], rtol=1e-10, atol=1e-12
    )


def test_nan_stays_where_it_stands() -> None:
    s, t, tokens = logits_pair()
    s[2, 7], t[4, 0] = math.nan, math.nan
    for form in EXACT:
        found, gradient = of_logits(s, t, tokens, form)
        assert found.loss.isnan().nonzero().flatten().tolist() == [2, 4]
        assert gradient.isnan().any(1).nonzero().flatten().tolist() == [2, 4]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_added_to_a_row_of_logits_changes_nothing_and_a_gradient_sums_to_zero(
    form: str,
) -> None:
    s, t, tokens = logits_pair()
    found, gradient = of_logits(s, t, tokens, form)
    moved, same = of_logits(s + 30, t - 30, tokens, form)
    torch.testing.assert_close(found.loss, moved.loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, same, rtol=1e-9, atol=1e-12)
    assert gradient.sum(1).abs().max() < 1e-12


# --- precision
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_float32_and_16_bit_logits_give_the_loss_that_their_values_have(form: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        s, t, tokens = logits_pair()
        s, t = s.to(dtype), t.to(dtype)
        found, gradient = of_logits(s, t, tokens, form, weights_of().float())
        exact, slope = of_logits(s.double(), t.double(), tokens, form, weights_of())
        assert found.loss.dtype == torch.float32 and gradient.dtype == dtype
        torch.testing.assert_close(found.loss.double(), exact.loss, rtol=2e-5, atol=2e-6)
        coarse = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(gradient.double(), slope, rtol=coarse, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_heads_run_in_16_bits_and_losses_in_32(form: str) -> None:
    """The product of the head is in bfloat16; of those logits the divergence is as exact as
    ever."""
    student, teacher = family("llama"), family("phi with a bias")
    heads = Head(bare(student)), Head(bare(teacher))
    states = normal(POSITIONS, SIZE).float(), normal(POSITIONS, SIZE, seed=1).float()
    tokens = tokens_of(WHOLE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = heads[0].logits(states[0]), heads[1].logits(states[1])
        found, gradient = chunked_loss(heads, states, tokens, WHOLE, weights_of().float(), form)
    assert logits[0].dtype == torch.bfloat16 and found.loss.dtype == torch.float32
    exact, _ = of_logits(logits[0].double(), logits[1].double(), tokens, form)
    for name, one, other in zip(found._fields, found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=5e-6, msg=name)
    plain_found, plain_gradient = chunked_loss(
        heads, states, tokens, WHOLE, weights_of().float(), form
    )
    assert gradient is not None and plain_gradient is not None and gradient.dtype == torch.float32
    assert 0 < (gradient - plain_gradient).abs().max() < 0.05 * plain_gradient.abs().max()
    assert (found.loss - plain_found.loss).abs().max() > 1e-5


def test_a_trained_head_takes_its_gradient_through_many_chunks_under_autocast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Autocast keeps one copy of a weight in 16 bits; each chunk goes back through it."""
    student = family("llama")
    head, weight = Head(bare(student)), student.get_output_embeddings().weight
    states, tokens = (
        (normal(POSITIONS, SIZE).float(), normal(POSITIONS, SIZE, seed=1).float()),
        tokens_of(WHOLE),
    )
    chunked_loss((head, head), states, tokens, WHOLE, weights_of().float())
    plain_grad, weight.grad = weight.grad, None
    at_once(monkeypatch, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chunked_loss((head, head), states, tokens, WHOLE, weights_of().float())
    assert weight.grad.dtype == torch.float32
    assert (weight.grad - plain_grad).abs().max() < 0.05 * plain_grad.abs().max()
