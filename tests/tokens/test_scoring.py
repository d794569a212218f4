"""Scoring against slow definitions in float64 and against chains of known law; what must change no
number, and what must.

Position i of a response is predicted from everything before it: row 0 from the prompt alone.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from markov import (
    END,
    FIRST_KIND,
    GOLD,
    TOKENS,
    MarkovTokenizer,
    World,
    decaying_world,
    flat_world,
    paths,
)
from tiny_models import byte_tokenizer, tiny_llama
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from decaylab.errors import UserError
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens import scoring
from decaylab.tokens.ranks import rank, top
from decaylab.tokens.scoring import (
    Rollout,
    ScoredRollout,
    Scorer,
    ScoringSettings,
    token_statistics,
)
from decaylab.tokens.token_table import COLUMNS

VOCAB = 261  # of the byte tokenizer
END_OF_TURN = 1
LOOSE = {"rtol": 1e-4, "atol": 2e-5}
REMOVED = ("student_removed_mass", "teacher_removed_mass")
COUNTS = ("token_rank", "student_top1_rank", "top16_overlap")
HOLED = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|other|>")


def policy(
    seed: int, name: str = "tiny", *, special: Sequence[str] | None = None, **changes: Any
) -> Policy:
    """A tiny Llama over bytes."""
    tokenizer = byte_tokenizer(special=special) if special else byte_tokenizer()
    model = tiny_llama(seed, **{"vocab_size": VOCAB, **changes})
    return Policy(name, model, tokenizer, PolicyIdentity(name, "folder", "", name))


@pytest.fixture(scope="module")
def student() -> Policy:
    return policy(0, "small")


@pytest.fixture(scope="module")
def teacher() -> Policy:
    return policy(1, "large")


def rollouts(count: int = 6, seed: int = 0) -> list[Rollout]:
    """Prompts and responses of many lengths, other prompts for the teacher; every second one ends
    its turn."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> tuple[int, ...]:
        return tuple(rng.integers(5, VOCAB, length).tolist())

    found = []
    for number in range(count):
        response = text(int(rng.integers(1, 14))) + ((END_OF_TURN,) if number % 2 else ())
        found.append(
            Rollout(
                f"r{number}",
                text(int(rng.integers(1, 9))),
                text(int(rng.integers(1, 12))),
                response,
            )
        )
    return found


def slow_logits(one: Policy, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    """One forward on one rollout; the row before each response token, in float64."""
    with torch.inference_mode():
        whole = one.weights(input_ids=torch.tensor([prompt + response])).logits[0].double()
    return whole[len(prompt) - 1 : len(prompt) + len(response) - 1]


def slow_rank(values: Sequence[float], token: int) -> int:
    return 1 + sum(value > values[token] for value in values)


def slow_top(values: Sequence[float], count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda index: -values[index])[:count]


def slow_columns(
    student_logits: Tensor, teacher_logits: Tensor, tokens: Sequence[int]
) -> dict[str, np.ndarray]:
    """Every column but the removed masses, from torch.distributions and plain loops, over logits of
    shared ids."""
    found: dict[str, list[float]] = {}
    for s_row, t_row, token in zip(student_logits, teacher_logits, tokens, strict=True):
        s, t = Categorical(logits=s_row), Categorical(logits=t_row)
        middle = Categorical(probs=(s.probs + t.probs) / 2)
        sp, tp = s.probs.tolist(), t.probs.tolist()
        s_top, t_top = slow_top(sp, 16), slow_top(tp, 16)
        both = set(s_top) & set(t_top)
        row = {
            "student_logprob": math.log(sp[token]) if sp[token] else -math.inf,
            "teacher_logprob": math.log(tp[token]) if tp[token] else -math.inf,
            "student_entropy": float(s.entropy()),
            "teacher_entropy": float(t.entropy()),
            "student_top1_probability": sp[s_top[0]],
            "student_top2_probability": sp[s_top[1]],
            "teacher_top1_probability": tp[t_top[0]],
            "teacher_top2_probability": tp[t_top[1]],
            "reverse_kl": float(kl_divergence(s, t)),
            "forward_kl": float(kl_divergence(t, s)),
            "js": float((kl_divergence(s, middle) + kl_divergence(t, middle)) / 2),
            "token_rank": slow_rank(tp, token),
            "student_top1_rank": slow_rank(tp, s_top[0]),
            "top16_overlap": len(both),
            "student_overlap_mass": sum(sp[index] for index in both),
            "teacher_overlap_mass": sum(tp[index] for index in both),
        }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def slow(
    one: Rollout, student: Policy, teacher: Policy, temperature: float = 1.0
) -> dict[str, np.ndarray]:
    logits = (
        slow_logits(student, one.student_prompt, one.response) / temperature,
        slow_logits(teacher, one.teacher_prompt, one.response) / temperature,
    )
    return slow_columns(*logits, one.response)


def assert_columns(
    found: dict[str, Any], expected: dict[str, Any], rtol: float = 1e-4, atol: float = 2e-5
) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=atol, err_msg=name)


def assert_same(first: Sequence[ScoredRollout], second: Sequence[ScoredRollout]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.rollout_id == other.rollout_id
        assert_columns(one.columns, other.columns)


def shifted(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The near miss of every off-by-one: each row is the next one's."""
    return {name: np.roll(values, -1) for name, values in columns.items()}


# --- each column against an independent definition
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0, 2.5])
def test_every_column_of_every_token_is_that_of_the_slow_definition(
    student: Policy, teacher: Policy, temperature: float
) -> None:
    asked = rollouts()
    for one, found in zip(
        asked, Scorer(student, teacher, ScoringSettings(temperature)).score(asked), strict=True
    ):
        expected = slow(one, student, teacher, temperature)
        assert set(found.columns) == set(COLUMNS) - {"token_id", "token"} == {*expected, *REMOVED}
        assert all(values.shape == (len(one.response),) for values in found.columns.values())
        assert_columns(found.columns, expected)
        assert_columns(found.columns, dict.fromkeys(REMOVED, 0.0), atol=0)


def test_the_nearest_wrong_columns_are_far_away(student: Policy, teacher: Policy) -> None:
    """Swapped direction, bits, mean for sum, another temperature, one position off, ranks from 0,
    renormalised top 16."""
    (one,) = rollouts(1, seed=4)
    (found,) = Scorer(student, teacher).score([one])
    columns = found.columns

    def far(name: str, wrong: Any) -> None:
        assert np.abs(columns[name] - wrong).max() > 1e-2, name

    swapped = slow(
        Rollout("", one.teacher_prompt, one.student_prompt, one.response), teacher, student
    )
    for name in (
        "reverse_kl",
        "student_logprob",
        "student_entropy",
        "token_rank",
        "student_overlap_mass",
    ):
        far(name, swapped[name])
    for name, values in shifted(columns).items():
        if name not in REMOVED:
            far(name, values)
    for name, values in slow(one, student, teacher, temperature=1.1).items():
        if name not in COUNTS:
            far(name, values)
    for name in ("reverse_kl", "forward_kl", "js", "student_entropy", "student_logprob"):
        far(name, columns[name] / math.log(2))
        if name != "student_logprob":
            far(name, columns[name] / VOCAB)
    far("token_rank", columns["token_rank"] - 1)
    far("student_overlap_mass", np.ones(len(one.response)))
    far("student_top2_probability", columns["student_top1_probability"])


def test_a_row_by_hand() -> None:
    """s = (.5, .3, .2), t = (.2, .3, .5), token 1: rank 2; s's own top, token 0, is the teacher's
    third; all 3 overlap."""
    s, t = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.2, 0.3, 0.5]]).log()
    found = token_statistics(s, t, torch.tensor([1]), SharedVocabulary(3, frozenset()))
    got = {name: values[0].tolist() for name, values in found.items()}
    assert (got["token_rank"], got["student_top1_rank"], got["top16_overlap"]) == (2, 3, 3)
    assert got["reverse_kl"] == pytest.approx(0.3 * math.log(2.5))  # .5 ln 2.5 + .2 ln .4
    assert got["student_logprob"] == got["teacher_logprob"] == pytest.approx(math.log(0.3))
    assert (got["student_top1_probability"], got["student_top2_probability"]) == pytest.approx(
        (0.5, 0.3)
    )
    assert (got["student_overlap_mass"], got["teacher_overlap_mass"]) == pytest.approx((1, 1))
    assert (got["student_top_ids"], got["teacher_top_ids"]) == ([0, 1, 2], [2, 1, 0])


def test_masses_of_the_overlap_are_of_the_whole_vocabulary_by_hand() -> None:
    """20 ids. The student's top 16 are 0-15, the teacher's 4-19: 12 in common, of weight 12 x 2 in
    16 x 2 + 4 = 36."""
    s = torch.tensor([[2.0] * 16 + [1.0] * 4]).log()
    found = token_statistics(s, s.flip(1), torch.tensor([0]), SharedVocabulary(20, frozenset()))
    assert int(found["top16_overlap"]) == 12
    assert (
        float(found["student_overlap_mass"])
        == pytest.approx(24 / 36)
        == float(found["teacher_overlap_mass"])
    )
    assert float(found["student_overlap_mass"]) != pytest.approx(
        24 / 32
    )  # renormalised over the top 16


def test_logits_are_logits_whatever_is_added_to_a_row() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t, tokens = (
        torch.randn(4, 50, generator=generator),
        torch.randn(4, 50, generator=generator),
        torch.arange(4),
    )
    plain, moved = (
        token_statistics(s + by, t - by, tokens, SharedVocabulary(50, frozenset()))
        for by in (0.0, 8.0)
    )
    assert_columns(
        {k: v.numpy() for k, v in moved.items()}, {k: v.numpy() for k, v in plain.items()}
    )


def test_16_bit_logits_are_widened_before_anything_is_done_to_them() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(4, 400, generator=generator).mul(3).bfloat16() for _ in range(2))
    found = token_statistics(s, t, torch.arange(4), SharedVocabulary(400, frozenset()), 0.7)
    expected = slow_columns(s.double() / 0.7, t.double() / 0.7, [0, 1, 2, 3])
    for name in ("reverse_kl", "js", "student_entropy", "teacher_logprob"):
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=1e-5, err_msg=name)
        assert found[name].dtype == torch.float32


def test_float64_logits_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(4, 400, generator=generator, dtype=torch.float64) for _ in range(2))
    found = token_statistics(s, t, torch.arange(4), SharedVocabulary(400, frozenset()), 0.7)
    expected = slow_columns(s / 0.7, t / 0.7, [0, 1, 2, 3])
    for name in ("reverse_kl", "js", "student_entropy", "teacher_logprob"):
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=1e-12, err_msg=name)


def test_tokens_of_probability_0_are_told_as_infinities_and_never_as_nan() -> None:
    inf = math.inf
    s = torch.tensor([[0.0, 1.0, -inf, 2.0], [0.0, 1.0, -inf, 2.0]])
    t = torch.tensor([[0.0, 1.0, 2.0, -inf], [0.0, 1.0, -inf, 2.0]])
    found = token_statistics(s, t, torch.tensor([3, 2]), SharedVocabulary(4, frozenset()))
    assert_columns(
        {k: v.numpy() for k, v in found.items()}, slow_columns(s.double(), t.double(), [3, 2])
    )
    assert found["reverse_kl"][0] == inf and found["teacher_logprob"].tolist() == [-inf, -inf]
    assert found["token_rank"].tolist() == [4, 4]


# --- the largest of a row, and ranks
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [1, 5, 16, 17, 64, 2047, 2048, 2112, 2113, 2175, 5000])
@pytest.mark.parametrize("levels", [None, 12])
def test_top_holds_what_a_full_sort_holds(vocab: int, levels: int | None) -> None:
    """levels: of how many values there are, so that ties abound; ids of equal values may stand in
    any order."""
    values = torch.randn(9, vocab, generator=torch.Generator().manual_seed(vocab))
    if levels:
        values = (values * levels / 8).round()
    found, ids = top(values, 16)
    expected, expected_ids = values.sort(1, descending=True)
    assert torch.equal(found, expected[:, :16]) and torch.equal(values.gather(1, ids), found)
    assert all(len(set(row)) == min(16, vocab) for row in ids.tolist())
    if not levels:
        assert torch.equal(ids, expected_ids[:, :16])


@pytest.mark.parametrize(
    "where", ["one block", "behind the last block", "one in each block", "across"]
)
def test_top_finds_them_wherever_they_stand(where: str) -> None:
    values = torch.zeros(1, 64 * 40 + 7)
    places = {
        "one block": list(range(640, 656)),
        "behind the last block": list(range(2560, 2567)),
        "one in each block": list(range(3, 2560, 64))[:16],
        "across": [0, 63, 64, 127, 2559, 2560, 2566],
    }[where]
    values[0, places] = torch.arange(len(places), 0, -1.0)
    assert top(values, 16)[1][0, : len(places)].tolist() == places


def test_ranks_count_from_1_and_ties_share_the_better_one() -> None:
    values = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 40, (50,), generator=torch.Generator().manual_seed(1))
    by_sorting = (values.argsort(1, descending=True) == tokens[:, None]).int().argmax(1) + 1
    assert torch.equal(
        rank(values, tokens, values.topk(min(3, values.shape[1])).values), by_sorting
    )
    tied = torch.tensor([[3.0, 5.0, 5.0, 1.0, 3.0, 3.0]])
    for count in (1, 2, 3, 6):
        largest = tied.topk(count).values
        assert [int(rank(tied, torch.tensor([token]), largest)) for token in range(6)] == [
            3,
            1,
            1,
            6,
            3,
            3,
        ]


# --- positions
# ---------------------------------------------------------------------------


def test_row_0_depends_on_the_prompts_alone_and_its_token_on_the_response(
    student: Policy, teacher: Policy
) -> None:
    prompts = (7, 8, 9), (50, 51, 52, 53)
    pair = [Rollout("a", *prompts, (30, 31, 32)), Rollout("b", *prompts, (40, 31, 32))]
    a, b = (one.columns for one in Scorer(student, teacher).score(pair))
    of_the_token = ("student_logprob", "teacher_logprob", "token_rank")
    for name in a:
        first, second = float(a[name][0]), float(b[name][0])
        if name in of_the_token:
            assert first != pytest.approx(second, rel=1e-3), name
        else:
            assert first == pytest.approx(second, rel=1e-4, abs=1e-6), name
    assert (
        abs(a["reverse_kl"][1] - b["reverse_kl"][1]) > 1e-2
    )  # what comes behind does depend on it


def test_row_0_is_what_the_model_says_behind_its_own_prompt(
    student: Policy, teacher: Policy
) -> None:
    one = Rollout("a", (7, 8, 9), (50, 51, 52, 53), (30, 31))
    (found,) = Scorer(student, teacher).score([one])
    with torch.inference_mode():
        s = (
            student.weights(input_ids=torch.tensor([one.student_prompt]))
            .logits[0]
            .double()
            .log_softmax(-1)
        )
        t = (
            teacher.weights(input_ids=torch.tensor([one.teacher_prompt]))
            .logits[0]
            .double()
            .log_softmax(-1)
        )
    assert found.columns["student_logprob"][0] == pytest.approx(float(s[-1, 30]), rel=1e-4)
    assert found.columns["teacher_logprob"][0] == pytest.approx(float(t[-1, 30]), rel=1e-4)
    expected = float((s[-1].exp() * (s[-1] - t[-1])).sum())
    assert found.columns["reverse_kl"][0] == pytest.approx(expected, rel=1e-4)
    early = float((s[-2].exp() * (s[-2] - t[-2])).sum())
    assert abs(early - expected) > 0.01


def test_the_end_of_turn_token_has_a_row_and_nothing_stands_behind_it(
    student: Policy, teacher: Policy
) -> None:
    ended = Rollout("ended", (7, 8), (9,), (30, 31, END_OF_TURN))
    cut = Rollout("cut", (7, 8), (9,), (30, 31))
    long, short = Scorer(student, teacher).score([ended, cut])
    assert len(long.columns["js"]) == 3 and len(short.columns["js"]) == 2
    assert_columns({name: values[:2] for name, values in long.columns.items()}, short.columns)
    expected = float(slow_logits(student, (7, 8), ended.response).log_softmax(-1)[2, END_OF_TURN])
    assert long.columns["student_logprob"][2] == pytest.approx(expected, rel=1e-4)


def test_each_policy_reads_its_own_prompt(student: Policy, teacher: Policy) -> None:
    own = Rollout("own", (7, 8), (90, 91, 92), (30, 31, 32))
    other = Rollout("other", (7, 8), (60, 61, 62), (30, 31, 32))
    first, second = (one.columns for one in Scorer(student, teacher).score([own, other]))
    for name in ("student_logprob", "student_entropy", "student_top1_probability"):
        np.testing.assert_allclose(first[name], second[name], **LOOSE)
        assert (
            np.abs(
                first[name.replace("student", "teacher")]
                - second[name.replace("student", "teacher")]
            ).min()
            > 1e-3
        )


# --- what changes nothing
# ---------------------------------------------------------------------------


def test_a_batch_is_its_rollouts_one_by_one_in_the_order_of_the_input(
    student: Policy, teacher: Policy
) -> None:
    asked = rollouts(9)
    batched = Scorer(student, teacher).score(asked)
    assert [one.rollout_id for one in batched] == [one.rollout_id for one in asked]
    contexts = [one.context for one in asked]
    assert contexts not in (sorted(contexts), sorted(contexts, reverse=True))
    assert_same(batched, [Scorer(student, teacher).score([one])[0] for one in asked])
    assert_same(batched[::-1], Scorer(student, teacher).score(asked[::-1]))


@pytest.mark.parametrize("batch_tokens", [1, 30, 57, 10_000])
def test_the_token_budget_of_a_batch_changes_no_number(
    student: Policy, teacher: Policy, batch_tokens: int
) -> None:
    asked = rollouts(9)
    found = Scorer(student, teacher, ScoringSettings(batch_tokens=batch_tokens)).score(asked)
    assert_same(found, Scorer(student, teacher).score(asked))


@pytest.mark.parametrize(
    "head, few", [(VOCAB, VOCAB), (7 * VOCAB, 3 * VOCAB), (2 * VOCAB, 2**20), (1, 1)]
)
def test_how_many_positions_are_taken_at_a_time_changes_no_number(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, head: int, few: int
) -> None:
    whole = Scorer(student, teacher).score(rollouts())
    monkeypatch.setitem(scoring.HEAD_ELEMENTS, "cpu", head)
    monkeypatch.setitem(scoring.STATISTICS_ELEMENTS, "cpu", few)
    assert_same(Scorer(student, teacher).score(rollouts()), whole)


def test_what_a_short_rollout_is_padded_with_changes_no_number(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = (
        Rollout("short", (7,), (8, 9), (30,)),
        Rollout("long", (7,) * 9, (8,) * 40, tuple(range(30, 60))),
    )
    alone = Scorer(student, teacher).score([short])
    zeros = torch.zeros
    for padding in (0, 200):
        monkeypatch.setattr(
            torch, "zeros", lambda *shape, fill=padding, **how: zeros(*shape, **how) + fill
        )
        assert_same(Scorer(student, teacher).score([long, short])[1:], alone)


def test_batches_stay_within_the_budget_and_long_rollouts_come_first(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, batches = rollouts(12), []
    batch = Scorer._batch
    monkeypatch.setattr(
        Scorer, "_batch", lambda self, some, shown: batches.append(some) or batch(self, some, shown)
    )
    told: list[tuple[int, int]] = []
    Scorer(student, teacher, ScoringSettings(batch_tokens=60)).score(
        asked, lambda *done: told.append(done)
    )
    assert (
        all(len(some) * max(one.context for one in some) <= 60 for some in batches)
        and len(batches) > 3
    )
    assert [one.context for some in batches for one in some] == sorted(
        (one.context for one in asked), reverse=True
    )
    assert told == [(sum(len(one.response) for one in some), len(some)) for some in batches]


def test_a_rollout_beyond_the_budget_is_a_batch_of_its_own(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sizes = Scorer._batch, []
    monkeypatch.setattr(
        Scorer,
        "_batch",
        lambda self, some, shown: sizes.append(len(some)) or batch(self, some, shown),
    )
    Scorer(student, teacher, ScoringSettings(batch_tokens=1)).score(rollouts(4))
    assert sizes == [1, 1, 1, 1]


def test_the_context_of_a_rollout_is_the_longer_prompt_and_the_response() -> None:
    assert (
        Rollout("r", (5,) * 3, (5,) * 7, (5,) * 4).context
        == Rollout("r", (5,) * 7, (5,), (5,) * 4).context
        == 11
    )


def test_ids_are_padded_to_the_longest_context_without_its_last_token() -> None:
    head: Any = SimpleNamespace(
        model=SimpleNamespace(device="cpu"), states=lambda ids, rows, columns: ids
    )
    ids = scoring.states(head, [((7, 8), (30, 31, 32)), ((9,), (40,))])
    assert ids.tolist() == [[7, 8, 30, 31], [9, 0, 0, 0]]


def test_no_rollouts_are_no_results(student: Policy, teacher: Policy) -> None:
    assert Scorer(student, teacher).score([]) == []


# --- one policy against itself
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["exact", "wide head", "holes"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_policy_is_exactly_no_distance_from_itself(form: str, temperature: float) -> None:
    width = VOCAB if form == "exact" else VOCAB + 59
    one = policy(0, vocab_size=width)
    other = Policy(
        "itself",
        one.weights,
        byte_tokenizer(special=HOLED) if form == "holes" else one.tokenizer,
        one.identity,
    )
    asked = [
        Rollout(r.rollout_id, r.student_prompt, r.student_prompt, r.response) for r in rollouts()
    ]
    for found in Scorer(one, other, ScoringSettings(temperature)).score(asked):
        for name in ("reverse_kl", "forward_kl", "js"):
            assert found.columns[name].dtype == np.float32 and not found.columns[name].any(), name
        assert (found.columns["top16_overlap"] == 16).all() and (
            found.columns["student_top1_rank"] == 1
        ).all()
        assert (found.columns["student_logprob"] == found.columns["teacher_logprob"]).all()
        assert bool((found.columns["student_removed_mass"] > 1e-4).all()) == (form != "exact")
    near = policy(0, vocab_size=width)
    with torch.no_grad():
        near.weights.get_output_embeddings().weight[9] += 1e-3
    moved = Scorer(one, near, ScoringSettings(temperature)).score(asked)
    assert any(found.columns["reverse_kl"].any() for found in moved)


# --- vocabularies
# ---------------------------------------------------------------------------


def test_a_wide_head_a_hole_and_an_id_that_one_lacks_are_cut_on_both_sides_and_the_mass_told() -> (
    None
):
    """The student's 4 is <|bos|>, the teacher's <|other|>, and its last id is new; heads of 270 and
    290 logits."""
    small, large = policy(0, vocab_size=270), policy(1, special=HOLED, vocab_size=290)
    large.tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    scorer = Scorer(small, large)
    assert (scorer.vocabulary.size, scorer.vocabulary.holes) == (VOCAB, {4})
    shared = [index for index in range(VOCAB) if index != 4]
    asked = rollouts()
    for one, found in zip(asked, scorer.score(asked), strict=True):
        s = slow_logits(small, one.student_prompt, one.response)
        t = slow_logits(large, one.teacher_prompt, one.response)
        places = [shared.index(token) for token in one.response]
        assert_columns(found.columns, slow_columns(s[:, shared], t[:, shared], places))
        for name, logits in zip(REMOVED, (s, t), strict=True):
            kept = logits.softmax(-1)[:, shared].sum(-1)
            np.testing.assert_allclose(found.columns[name], 1 - kept, rtol=1e-3, atol=1e-6)
            assert (found.columns[name] > 1e-4).all()
        whole = s.log_softmax(-1)[range(len(one.response)), list(one.response)]
        assert (
            np.abs(found.columns["student_logprob"] - whole.numpy()).max() > 1e-3
        )  # not renormalised


def test_vocabularies_that_disagree_are_refused_before_anything_is_run() -> None:
    other = Policy(
        "rotated",
        tiny_llama(1, vocab_size=VOCAB),
        byte_tokenizer(shift=1),
        PolicyIdentity("", "folder", "", ""),
    )
    with pytest.raises(UserError, match=r"id 5 is '!' in small and .* in rotated"):
        Scorer(policy(0, "small"), other)


# --- chains of known law
# ---------------------------------------------------------------------------


class Chain(torch.nn.Module):
    """The law of a Markov policy as a causal language model; two more logits, for prompt tokens,
    that no response has.

    The kind stands in the prompt; the last token decides. Rows of logits are moved by some number
    each, as logits may be.
    """

    base_model_prefix, dtype, device = "body", torch.float32, torch.device("cpu")

    def __init__(self, law: np.ndarray) -> None:
        super().__init__()
        spare = np.broadcast_to([[[0.2, 0.05]]], (*law.shape[:2], 2))
        with np.errstate(divide="ignore"):
            self.table = torch.tensor(
                np.log(np.concatenate([law, spare], axis=-1)), dtype=torch.float32
            )

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> Any:
        kinds = (input_ids - FIRST_KIND).clamp(min=0).cummax(1).values
        last = torch.where(input_ids < FIRST_KIND, input_ids, 0)
        return SimpleNamespace(logits=self.table[kinds, last] + input_ids[..., None])


def chain_policy(name: str, law: np.ndarray) -> Any:
    width = len(TOKENS) + len(GOLD)
    return SimpleNamespace(
        name=name,
        weights=Chain(law),
        tokenizer=MarkovTokenizer(),
        head_width=width,
        context_length=10**9,
    )


def chain_rollouts(world: World, count: int = 40) -> list[tuple[Rollout, list[tuple[int, int]]]]:
    """Rollouts of the student, and the state (kind, last token) before each of their tokens."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        kind, last, ids, states = number % len(GOLD), 0, [], []
        while len(ids) < 12 and (not ids or last != END):
            states.append((kind, last))
            last = int(rng.choice(len(TOKENS), p=world.student.law[kind, last]))
            ids.append(last)
        prompt = (FIRST_KIND + kind,)
        found.append((Rollout(f"r{number}", prompt, (1, *prompt), tuple(ids)), states))
    return found


def law_row(s: list[float], t: list[float], token: int) -> dict[str, float]:
    """Every column of one row, from two laws, by the words of its definition."""
    pairs = list(zip(s, t, strict=True))

    def kl(first: list[float], second: list[float]) -> float:
        return sum(
            p * (math.log(p / q) if q else math.inf)
            for p, q in zip(first, second, strict=True)
            if p
        )

    def log(p: float) -> float:
        return math.log(p) if p else -math.inf

    middle = [(p + q) / 2 for p, q in pairs]
    return {
        "student_logprob": log(s[token]),
        "teacher_logprob": log(t[token]),
        "student_entropy": -sum(p * math.log(p) for p in s if p),
        "teacher_entropy": -sum(p * math.log(p) for p in t if p),
        "student_top1_probability": sorted(s)[-1],
        "student_top2_probability": sorted(s)[-2],
        "teacher_top1_probability": sorted(t)[-1],
        "teacher_top2_probability": sorted(t)[-2],
        "reverse_kl": kl(s, t),
        "forward_kl": kl(t, s),
        "js": (kl(s, middle) + kl(t, middle)) / 2,
        "token_rank": slow_rank(t, token),
        "student_top1_rank": slow_rank(t, s.index(max(s))),
        "top16_overlap": len(TOKENS),
        "student_overlap_mass": 1.0,
        "teacher_overlap_mass": 1.0,
        "student_removed_mass": 0.2,  # spare weight of .25 in 1.25
        "teacher_removed_mass": 0.2,
    }


@pytest.mark.parametrize("world", [decaying_world(), flat_world()], ids=["decaying", "flat"])
def test_every_column_of_a_chain_is_its_closed_form(world: World) -> None:
    """The flat world's policies write tokens that the other never does: infinite KLs, and JS below
    ln 2 all the same."""
    student, teacher = (
        chain_policy("student", world.student.law),
        chain_policy("teacher", world.teacher.law),
    )
    asked = chain_rollouts(world)
    scorer = Scorer(student, teacher, ScoringSettings(batch_tokens=50))
    for (one, states), found in zip(asked, scorer.score([one for one, _ in asked]), strict=True):
        laws = [(world.student.law[at].tolist(), world.teacher.law[at].tolist()) for at in states]
        rows = [law_row(s, t, token) for (s, t), token in zip(laws, one.response, strict=True)]
        assert set(rows[0]) == set(found.columns)
        assert_columns(
            found.columns, {name: [row[name] for row in rows] for name in rows[0]}, atol=2e-6
        )
        assert (found.columns["js"] <= math.log(2) + 1e-6).all()


def test_the_mean_reverse_kl_at_a_position_of_a_chain_is_its_closed_form() -> None:
    """Every text of up to three tokens, weighed by its probability, against the law of the last
    token, position by position."""
    world, kind = decaying_world(), 0
    texts = list(paths(world.student.law, kind, 0, 3))
    chances = [chance for _, chance in texts]
    assert sum(chances) == pytest.approx(1)
    prompt = (FIRST_KIND + kind,)
    asked = [
        Rollout("", prompt, prompt, text if len(text) == 3 else (*text, END)) for text, _ in texts
    ]
    scorer = Scorer(
        chain_policy("student", world.student.law), chain_policy("teacher", world.teacher.law)
    )
    found = [one.columns["reverse_kl"] for one in scorer.score(asked)]
    laws = world.student.law[kind], world.teacher.law[kind]
    kls = np.array(
        [
            law_row(s, t, 0)["reverse_kl"]
            for s, t in zip(laws[0].tolist(), laws[1].tolist(), strict=True)
        ]
    )
    at, means = np.eye(len(TOKENS))[0], []
    for position in range(3):
        reaching = [
            (chance, row[position])
            for chance, row in zip(chances, found, strict=True)
            if len(row) > position
        ]
        means.append(
            sum(chance * value for chance, value in reaching)
            / sum(chance for chance, _ in reaching)
        )
        assert means[-1] == pytest.approx(float(at @ kls / at.sum()), rel=1e-5), position
        at = at @ laws[0]
        at[END] = 0.0
    assert len({round(mean, 3) for mean in means}) == 3  # a shift by one would be seen


# --- the top 5 for viewing
# ---------------------------------------------------------------------------


def test_the_top_5_are_kept_for_the_rollouts_that_are_shown_and_for_no_other(
    student: Policy, teacher: Policy
) -> None:
    asked = rollouts(4)
    found = Scorer(student, teacher).score(asked, shown=frozenset({"r1", "r2"}))
    assert [bool(one.top) for one in found] == [False, True, True, False]
    assert not any(
        "top_ids" in name or "top_logprobs" in name for one in found for name in one.columns
    )
    one = asked[2]
    prompts = {"student": (student, one.student_prompt), "teacher": (teacher, one.teacher_prompt)}
    for name, (policy_, prompt) in prompts.items():
        ids, probabilities = found[2].top[name]
        expected = slow_logits(policy_, prompt, one.response).softmax(-1).topk(5)
        assert ids.dtype == np.int32 and ids.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(probabilities, expected.values, rtol=1e-4)
        np.testing.assert_allclose(
            probabilities[:, 0], found[2].columns[f"{name}_top1_probability"], rtol=1e-6
        )


# --- memory
# ---------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return found


class Numbered(MarkovTokenizer):
    """An id for each number below a count."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def get_vocab(self) -> dict[str, int]:
        return {str(index): index for index in range(self.count)}


def numbered_policy(model: Any) -> Any:
    vocab = model.config.vocab_size
    return SimpleNamespace(
        name="tiny", weights=model, tokenizer=Numbered(vocab), head_width=vocab, context_length=256
    )


def test_no_tensor_of_rollouts_by_time_by_vocabulary_exists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """8 x 64 tokens of 4,096 ids are 2,097,152 logits; the largest tensor here is the head itself,
    of 4,096 x 16."""
    rows, time, vocab, width = 8, 64, 4096, 16
    small = {"vocab_size": vocab, "hidden_size": width, "num_hidden_layers": 1}
    student, teacher = (numbered_policy(tiny_llama(seed, **small)) for seed in (0, 1))
    monkeypatch.setitem(scoring.HEAD_ELEMENTS, "cpu", 8 * vocab)
    ids = torch.randint(2, vocab, (rows, time), generator=torch.Generator().manual_seed(0)).tolist()
    asked = [Rollout(str(row), (5,), (5,), tuple(ids[row])) for row in range(rows)]
    scorer = Scorer(student, teacher, ScoringSettings(batch_tokens=rows * (time + 1)))
    with Largest() as spy:
        found = scorer.score(asked)
    assert spy.elements <= vocab * width == 65536
    with Largest() as usual, torch.inference_mode():
        student.weights(input_ids=torch.tensor(ids))
    assert usual.elements >= rows * time * vocab
    monkeypatch.undo()
    assert_same(found, scorer.score(asked))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]
)
def test_running_out_of_memory_halves_the_batches_says_so_and_changes_no_number(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    asked, sizes, said = rollouts(9), [], []
    expected = Scorer(student, teacher).score(asked)
    batch = Scorer._batch

    def failing(self: Scorer, some: list[Rollout], shown: frozenset[str]) -> list[ScoredRollout]:
        sizes.append(len(some))
        if len(some) > 3:
            raise error
        return batch(self, some, shown)

    monkeypatch.setattr(Scorer, "_batch", failing)
    told: list[tuple[int, int]] = []
    scorer = Scorer(student, teacher, on_warning=said.append)
    assert_same(scorer.score(asked, lambda *done: told.append(done)), expected)
    halved = sum(one.context for one in asked) // 2
    assert said[0] == f"out of memory: scoring continues with batches of {halved} tokens"
    failed = [size for size in sizes if size > 3]
    assert failed[0] == 9 and sum(sizes) == 9 + sum(failed) and len(said) == len(failed)
    assert all(after <= before // 2 for before, after in pairwise([*failed, sizes[len(failed)]]))
    assert (
        said[-1] == f"out of memory: scoring continues with batches of {scorer.batch_tokens} tokens"
    )
    assert sum(count for _, count in told) == 9 and sum(tokens for tokens, _ in told) == sum(
        len(r.response) for r in asked
    )


def test_memory_for_one_rollout_at_a_time_is_enough(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sizes, asked = Scorer._batch, [], rollouts(2)
    expected = Scorer(student, teacher).score(asked)

    def failing(self: Scorer, some: list[Rollout], shown: frozenset[str]) -> list[ScoredRollout]:
        sizes.append(len(some))
        if len(some) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch(self, some, shown)

    monkeypatch.setattr(Scorer, "_batch", failing)
    assert_same(Scorer(student, teacher).score(asked), expected)
    assert sizes == [2, 1, 1]


def test_one_rollout_that_does_not_fit_and_other_faults_are_not_swallowed(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: RuntimeError) -> None:
        def batch(self: Scorer, some: list[Rollout], shown: frozenset[str]) -> list[ScoredRollout]:
            raise error

        monkeypatch.setattr(Scorer, "_batch", batch)

    raising(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        Scorer(student, teacher).score(rollouts(4))
    raising(RuntimeError("a fault of ours"))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Scorer(student, teacher).score(rollouts(4))


# --- what is refused
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_nan_is_refused_by_policy_rollout_and_position(side: str) -> None:
    """Behind token 4 one policy has no number: the third row of a response that has it in second
    place."""
    world = decaying_world()
    law = world.student.law.copy()
    law[0, 4] = math.nan
    sound, broken = chain_policy("sound", world.student.law), chain_policy("broken", law)
    scorer = Scorer(broken, sound) if side == "student" else Scorer(sound, broken)
    prompts = (FIRST_KIND,), (1, 1, FIRST_KIND)
    asked = [Rollout("well", *prompts, (1, 1, 2, 1, 4)), Rollout("ill", *prompts, (1, 4, 1, 1))]
    message = (
        "NaN in the logits of broken at response position 2 of rollout ill; try --dtype float32"
    )
    for order in (asked, asked[::-1]):
        with pytest.raises(UserError, match=message):
            scorer.score(order)
    assert len(scorer.score(asked[:1])) == 1
    at_once = Rollout("at once", (FIRST_KIND, 4), (FIRST_KIND, 4), (1, 1))
    with pytest.raises(UserError, match="at response position 0 of rollout at once"):
        scorer.score([asked[0], at_once])


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_rollout_beyond_a_policys_context_is_refused_before_any_is_scored(
    student: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """16 positions: the last token is predicted and never read, so 17 tokens of prompt and response
    fit, and 18 do not."""
    short = policy(2, "short", max_position_embeddings=16)
    scorer = Scorer(short, teacher) if side == "student" else Scorer(student, short)
    long, prompt = tuple(range(30, 70)), (7,) * 5

    def asked(response: int) -> list[Rollout]:
        other = (8,) * 9  # the other policy has room
        prompts = (prompt, other) if side == "student" else (other, prompt)
        return [Rollout("fits", (7,), (7,), (30,)), Rollout("edge", *prompts, long[:response])]

    assert len(scorer.score(asked(12))[1].columns["js"]) == 12
    monkeypatch.setattr(Scorer, "_batch", lambda *args: pytest.fail("scored"))
    with pytest.raises(
        UserError, match=r"rollout edge needs 17 positions, more than the context of short \(16\)"
    ):
        scorer.score(asked(13))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_empty_prompt_or_response_is_no_rollout(empty: int) -> None:
    parts: list[tuple[int, ...]] = [(7,), (8,), (9,)]
    parts[empty] = ()
    with pytest.raises(ValueError, match="rollout r9: prompt and response must not be empty"):
        Rollout("r9", *parts)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.0}, {"temperature": math.nan}, {"batch_tokens": 0}]
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ScoringSettings(**changes)


def test_a_token_that_is_not_shared_has_no_numbers() -> None:
    scorer = Scorer(policy(0, vocab_size=270), policy(1, special=HOLED, vocab_size=290))
    for token in (4, VOCAB):  # a hole, and an id beyond the tokenizers
        with pytest.raises(ValueError, match=f"rollout r: token {token} at response position 1"):
            scorer.score([Rollout("r", (7,), (7,), (30, token, 31))])


def test_a_rollout_longer_than_longrope_was_made_for_is_refused_as_it_would_change_those_beside_it() -> (  # noqa: E501
    None
):
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 16,
    }
    scorer = Scorer(
        *(policy(seed, max_position_embeddings=64, rope_parameters=rope) for seed in (0, 1))
    )
    short, long = (
        Rollout(name, (7, 8), (9,), tuple(range(30, end)))
        for name, end in (("short", 34), ("long", 60))
    )
    with pytest.raises(UserError, match="rollout long needs 31 positions, more than the context"):
        scorer.score([short, long])


MEMORY = """
import sys, types
import torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from decaylab.tokens.scoring import Rollout, Scorer
VOCAB = 49152
sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, max_position_embeddings=1024, **sizes)).eval()
tokenizer = types.SimpleNamespace(get_vocab=lambda: {str(i): i for i in range(VOCAB)}, get_added_vocab=dict)
one = types.SimpleNamespace(name="one", weights=model, tokenizer=tokenizer, head_width=VOCAB, context_length=1024)
scorer = Scorer(one, one)
rollouts = [Rollout(str(i), (1, 2), (1, 2), tuple(range(3, 259))) for i in range(8)]
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
before = peak()
scorer.score(rollouts)
print(peak() - before)
"""  # noqa: E501


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_positions_of_a_batch() -> None:
    """8 rollouts of 256 tokens over 49,152 ids: logits of all would take 384 MiB for each policy.

    So would small results that are kept between the chunks and pin what those free: 690 MiB where
    this is 110.
    """
    grown = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    ).stdout
    assert float(grown) < 250
