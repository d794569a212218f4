"""The loss over spans of two tokenizers: against autograd in float64, against the loss of one
tokenizer, and by enumeration of all texts that a small student can write."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import (
    BYTES,
    assert_gradients,
    byte_policy,
    far,
    gradient_of,
    grads,
    naive_rows,
    options,
    rollouts,
    slow_weights,
)
from torch import Tensor
from two_tokenizers import merging_tokenizer, pair, policy, spanned

from decaylab.policies.alignment import Aligner, Alignment, Span
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens import chunks
from decaylab.tokens.heads import Head
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.metrics import denominator, record
from decaylab.trainer.span_loss import Side, span_gradient, span_losses
from decaylab.trainer.span_step import SpanGradient, log_ratios
from decaylab.trainer.step import NotFinite

Models = tuple[Policy, Policy]


@pytest.fixture(scope="module")
def models() -> Models:
    return pair()


def stepped(
    of: Models, chosen: Any, given: Sequence[TrainingRollout], budget: int | None = None
) -> tuple[dict[str, Tensor], SpanGradient]:
    """The mean gradient of a step over spans, and what took it."""
    student = of[0].weights
    student.zero_grad(set_to_none=True)
    vocabularies = OwnVocabulary(of[0]), OwnVocabulary(of[1])
    heads = Head(of[0]), Head(of[1])
    taken = SpanGradient(heads, vocabularies, chosen, Meter(torch.device("cpu")), budget)
    taken.add(given)
    count = denominator(taken.sums.values, chosen.normalise)
    return {name: one / count for name, one in grads(student).items()}, taken


def policy_gradient(**changes: Any) -> Any:
    return options(divergence="policy-gradient", **changes)


def of_tokens(of: Policy, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """log-probability of each token; the ends of a turn are one event."""
    (logits,) = naive_rows(of.weights, [(prompt, response)])
    absent = list(of.absent_ids)
    logits = logits.clone()
    logits[:, absent] = -math.inf
    laws = logits.log_softmax(-1)
    ends = sorted(of.end_ids)
    rows = []
    for law, token in zip(laws, response, strict=True):
        rows.append(law[ends].logsumexp(0) if token in ends else law[token])
    return torch.stack(rows)


def naive(
    of: Models, chosen: Any, given: Sequence[TrainingRollout], budget: int | None = None
) -> tuple[float, dict[str, Tensor]]:
    """The step's loss and gradient by autograd: full logits, one rollout at a time."""
    surrogate, value, count, selecting = torch.zeros((), dtype=torch.float64), 0.0, 0, 0
    for one in given:
        own = of_tokens(of[0], one.scored.student_prompt, one.scored.response)
        theirs = of_tokens(of[1], one.scored.teacher_prompt, one.theirs).detach()
        ratios = torch.zeros(len(own), dtype=torch.float64)
        parts = ratios.clone()
        for span in one.spans:
            ratio = own[span.student].detach().sum() - theirs[span.teacher].sum()
            ratios[span.student] = ratio
            parts[span.student] = ratio / (span.student.stop - span.student.start)
        name, time = one.scored.rollout_id, len(own)
        listed = slow_weights(chosen.selector, time, budget or time, {}, chosen.seed, name)
        weights = torch.tensor(listed, dtype=torch.float64)
        chosen_here = int((weights > 0).sum())
        share = chosen_here if chosen.normalise == "rollouts" else 1
        surrogate = surrogate + (weights * ratios * own).sum() / share
        value += float((weights * parts).sum()) / share
        count, selecting = count + chosen_here, selecting + (chosen_here > 0)
    over = selecting if chosen.normalise == "rollouts" else count
    named = dict(of[0].weights.named_parameters())
    found = torch.autograd.grad(surrogate / over, list(named.values()))
    return value / over, dict(zip(named, found, strict=True))


# --- a step against autograd
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
@pytest.mark.parametrize("selector", ["full", "prefix-mask", "suffix", "random", "rising"])
def test_a_step_has_the_loss_and_gradient_of_autograd_on_full_logits(
    models: Models, selector: str, normalise: str
) -> None:
    chosen = policy_gradient(selector=selector, normalise=normalise, batch_tokens=60)
    given = spanned(*models)
    budget = None if selector in ("full", "rising") else 4
    found, taken = stepped(models, chosen, given, budget)
    loss, expected = naive(models, chosen, given, budget)
    assert_gradients(found, expected)
    assert record(taken.sums.values, chosen)["loss"] == pytest.approx(loss, rel=1e-10)


def test_each_token_carries_the_ratio_of_its_whole_span_and_neither_a_part_nor_its_own(
    models: Models,
) -> None:
    chosen, given = policy_gradient(), spanned(*models)
    found, _ = stepped(models, chosen, given)
    sizes = {
        (span.student.stop - span.student.start, span.teacher.stop - span.teacher.start)
        for one in given
        for span in one.spans
    }
    assert {(1, 1), (2, 1)} <= sizes and any(theirs > 1 for _, theirs in sizes)
    apart = [dataclasses.replace(one, spans=_token_by_token(one)) for one in given]
    assert far(found, naive(models, chosen, apart)[1])


def _token_by_token(rollout: TrainingRollout) -> tuple[Span, ...]:
    """Spans of one token of the student, the first with all tokens of the teacher."""
    found = []
    for span in rollout.spans:
        for place in range(span.student.start, span.student.stop):
            theirs = span.teacher if place == span.student.start else slice(0, 0)
            found.append(Span(slice(place, place + 1), theirs, span.stop))
    return tuple(found)


def test_the_ends_of_a_turn_are_one_event_and_ids_without_a_token_have_no_mass() -> None:
    student = policy("student", merging_tokenizer((("a", "b"),)), 0, vocab_size=270)
    wide = policy("teacher", merging_tokenizer((("b", "a"),), shift=7), 1, vocab_size=280)
    student.end_ids |= {2}
    assert student.absent_ids and wide.absent_ids
    of, chosen = (student, wide), policy_gradient()
    given = spanned(*of)
    assert any(one.ended for one in given)
    found, taken = stepped(of, chosen, given)
    loss, expected = naive(of, chosen, given)
    assert_gradients(found, expected)
    assert record(taken.sums.values, chosen)["loss"] == pytest.approx(loss, rel=1e-10)
    student.end_ids -= {2}
    assert far(expected, naive(of, chosen, given)[1], share=1e-4)


# --- one tokenizer on both sides
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["full", "prefix-mask", "top-student-entropy"])
def test_with_one_tokenizer_loss_and_gradient_are_those_of_the_policy_gradient(
    selector: str,
) -> None:
    of = byte_policy(0), byte_policy(1)
    chosen = policy_gradient(selector=selector, batch_tokens=60)
    given = [dataclasses.replace(one, offset=0) for one in rollouts(vocab=BYTES)]
    budget = None if selector == "full" else 3
    pair_of_models = of[0].weights, of[1].weights
    whole = SharedVocabulary(BYTES, frozenset())
    expected, plain = gradient_of(pair_of_models, chosen, [given], budget, whole)
    spans = [
        dataclasses.replace(one, theirs=one.scored.response, spans=one_by_one(one)) for one in given
    ]
    found, taken = stepped(of, chosen, spans, budget)
    count = denominator(plain.sums.values, chosen.normalise)
    for name, one in expected.items():
        assert found[name].equal(one / count), name
    columns = ("loss", "tokens_selected", "mean_selected_position", "student_entropy")
    ours, theirs = record(taken.sums.values, chosen), record(plain.sums.values, chosen)
    assert [ours[name] for name in columns] == [theirs[name] for name in columns]
    assert math.isnan(ours["reverse_kl"]) and math.isnan(ours["teacher_entropy"])


def one_by_one(rollout: TrainingRollout) -> tuple[Span, ...]:
    places = range(len(rollout.scored.response))
    return tuple(Span(slice(n, n + 1), slice(n, n + 1), n + 1) for n in places)


# --- what is exact, by enumeration
# ---------------------------------------------------------------------------

SIZE, LONG = 3, 2  # letters a, b and an end; texts of at most two letters
END = 2
Law = dict[tuple[int, ...], Tensor]


def law(seed: int) -> Law:
    """Logits of the next letter behind each text; behind two letters the text ends."""
    rng = torch.Generator().manual_seed(seed)
    found = {}
    for length in range(LONG):
        for text in itertools.product(range(2), repeat=length):
            found[text] = torch.randn(SIZE, generator=rng, dtype=torch.float64)
    return found


def texts(of: Law) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Every response with its log-probability; that of two letters has no end of its own."""
    for text in [(END,), (0, END), (1, END), *itertools.product(range(2), repeat=2)]:
        parts = [of[text[:n]].log_softmax(0)[token] for n, token in enumerate(text)]
        yield text, torch.stack(parts).sum()


def expected_gradient(
    student: Law, cut: Callable[[tuple[int, ...]], tuple[list[int], list[float]]]
) -> dict[tuple[int, ...], Tensor]:
    """The mean over all responses of the gradient in the student's logits that the code gives.

    cut: a response in, the number of the span of each token and the teacher's log-probability of
    each span out.
    """
    total = {text: torch.zeros(SIZE, dtype=torch.float64) for text in student}
    vocabulary: Any = SimpleNamespace(
        ends=torch.tensor([END]),
        logprobs=lambda logits: logits - logits.logsumexp(-1, keepdim=True),
    )
    vocabulary.ending = lambda laws: OwnVocabulary.ending(vocabulary, laws)
    vocabulary.ends_as_one = lambda laws: laws  # one id ends a turn
    vocabulary.taken = lambda laws, tokens: OwnVocabulary.taken(vocabulary, laws, tokens)
    plain: Any = SimpleNamespace(model=None, shell=None, logits=lambda states: states)
    for text, logprob in texts(student):
        spans, theirs = cut(text)
        logits = torch.stack([student[text[:n]] for n in range(len(text))])
        side = Side(plain, vocabulary, logits, torch.tensor(text), torch.tensor(spans))
        # A teacher of one token a span: that token has the span's log-probability.
        rows = [[value, math.log(-math.expm1(value)), -1e30] for value in theirs]
        laws = torch.tensor(rows, dtype=torch.float64)
        other = Side(
            plain,
            vocabulary,
            laws,
            torch.zeros(len(theirs), dtype=torch.long),
            torch.arange(len(theirs)),
        )
        _, ratios = span_losses(side, other)
        slope = span_gradient(side, ratios, torch.ones(len(text), dtype=torch.float64))
        for n in range(len(text)):
            total[text[:n]] += logprob.exp() * slope[n]
    return total


def slopes(value: Tensor, of: Law) -> dict[tuple[int, ...], Tensor]:
    return dict(zip(of, torch.autograd.grad(value, list(of.values())), strict=True))


def kl(student: Law, teacher: dict[tuple[int, ...], Tensor]) -> Tensor:
    return torch.stack([p.exp() * (p - teacher[text]) for text, p in texts(student)]).sum()


def test_the_expected_gradient_of_a_span_is_that_of_the_reverse_kl_up_to_its_end() -> None:
    """The teacher has a token for each whole text: one span."""
    student, teacher = law(0), dict(texts(law(1)))
    found = expected_gradient(student, lambda text: ([0] * len(text), [float(teacher[text])]))
    for logits in student.values():
        logits.requires_grad_()
    expected = slopes(kl(student, teacher), student)
    for text, one in expected.items():
        torch.testing.assert_close(found[text], one, rtol=1e-10, atol=1e-12)
        assert one.abs().max() > 1e-2


def test_the_parts_of_a_ratio_at_each_token_alone_have_another_expectation() -> None:
    """log t of the span in equal parts, a token with its own part: without the reward behind it."""
    student, teacher = law(0), dict(texts(law(1)))

    def parts(text: tuple[int, ...]) -> tuple[list[int], list[float]]:
        return list(range(len(text))), [float(teacher[text]) / len(text)] * len(text)

    found = expected_gradient(student, parts)
    for logits in student.values():
        logits.requires_grad_()
    first = slopes(kl(student, teacher), student)[()]
    assert (found[()] - first).abs().max() > 0.05 * first.abs().max()


def test_a_boundary_that_depends_on_what_follows_leaves_a_gradient_for_one_law_of_text() -> None:
    """The teacher writes "ab" as one token and has the student's law of text: no response has a
    log-ratio other than 0, and the first letter's gradient is not 0."""
    student = law(0)
    ratios = []

    def looking_ahead(text: tuple[int, ...]) -> tuple[list[int], list[float]]:
        own = [float(student[text[:n]].log_softmax(0)[token]) for n, token in enumerate(text)]
        behind_a = student[(0,)].log_softmax(0)
        not_b = math.log(-math.expm1(float(behind_a[1])))
        if text == (0, 1):
            spans, theirs = [0, 0], [sum(own)]
        elif text[0] == 0:
            # The token "a" says that no "b" follows.
            spans, theirs = [0, 1], [own[0] + not_b, own[1] - not_b]
        else:
            spans, theirs = list(range(len(text))), own
        ratios.append(sum(own) - sum(theirs))
        return spans, theirs

    found = expected_gradient(student, looking_ahead)
    assert np.allclose(ratios, 0, atol=1e-12)
    first, behind_a = student[()].softmax(0), student[(0,)].softmax(0)
    # P(a, no b) x -log P(no b | a) x (1[a] - s)
    mean = first[0] * (1 - behind_a[1]) * -math.log1p(-float(behind_a[1]))
    expected = mean * (torch.eye(SIZE, dtype=torch.float64)[0] - first)
    torch.testing.assert_close(found[()], expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().max() > 0.01


# --- chunks, and what is refused
# ---------------------------------------------------------------------------


def test_spans_may_lie_across_chunks(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, given = policy_gradient(), spanned(*models)
    whole, _ = stepped(models, chosen, given)
    monkeypatch.setitem(chunks.HEAD_ELEMENTS, "cpu", 1)
    assert_gradients(stepped(models, chosen, given)[0], whole, rtol=1e-12)


def test_the_log_ratio_of_a_finished_response_is_that_of_its_tokens(models: Models) -> None:
    given = spanned(*models)
    _, taken = stepped(models, policy_gradient(batch_tokens=10**6), given)
    total = 0.0
    for one in given:
        own = of_tokens(models[0], one.scored.student_prompt, one.scored.response)
        theirs = of_tokens(models[1], one.scored.teacher_prompt, one.theirs)
        total += float((own.sum() - theirs.sum()).detach())
    assert taken.sums.values["log_ratio"] == pytest.approx(total, rel=1e-9)
    assert taken.sums.values["spans"] == sum(len(one.spans) for one in given)
    losses = np.arange(float(sum(len(one.scored.response) for one in given)))
    assert sum(log_ratios(losses, given)) == losses.sum()
    first = len(given[0].scored.response)
    assert log_ratios(losses, given)[0] == losses[:first].sum()


def test_a_loss_that_is_not_finite_names_the_place() -> None:
    student, teacher = pair()
    with torch.no_grad():
        teacher.weights.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(NotFinite, match="response position 0 of rollout train-1/4"):
        stepped((student, teacher), policy_gradient(), spanned(student, teacher))


def test_alignments_of_the_helper_have_open_tokens_too(models: Models) -> None:
    given = spanned(*models)
    aligner = Aligner(*models)
    for one in given:
        found = aligner.align(one.ids)
        assert isinstance(found, Alignment) and found.ended == one.ended
        assert one.scored.response == found.student[: len(one.scored.response)]
    assert any(len(one.ids) > len(one.scored.response) for one in given)
