"""The bound from a few of the teacher's probabilities: against a slow definition, the exact KL, and
transformers' scores."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.maths import divergences
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings
from decaylab.runs import store
from decaylab.tokens import score_store, served_scores
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.tokens.served_scores import (
    LEAST_MASS,
    NONE,
    ServedScorer,
    _likeliest,
    likeliest_rows,
    partial_reverse_kl,
    rows_of_ids,
)

HOST = LoadSettings("float32", "cpu")
VOCAB = 12
ROUNDING = 2e-5  # nats: what float32 log-probabilities leave uncertain


def engine_test(function: Any) -> Any:
    missing = importlib.util.find_spec("vllm") is None
    skipped = pytest.mark.skipif(missing, reason="needs engine: vllm is not installed")
    return pytest.mark.engine(skipped(function))


def random_pair(
    positions: int = 50, vocab: int = VOCAB, scale: float = 2.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(positions, vocab, generator=generator, dtype=torch.float64) * scale
        for _ in "st"
    )
    return student.log_softmax(-1), teacher.log_softmax(-1)


def nested(order_by: Tensor, student: Tensor, teacher: Tensor, count: int) -> tuple[Tensor, Tensor]:
    ids = order_by.argsort(-1, descending=True)[:, :count]
    return student.gather(1, ids), teacher.gather(1, ids)


def slow_bound(student: Sequence[float], teacher: Sequence[float]) -> float:
    """KL of the two distributions over the ids and one outcome more, by the definition."""
    ours, theirs = [math.exp(one) for one in student], [math.exp(one) for one in teacher]
    ours, theirs = [*ours, 1 - sum(ours)], [*theirs, 1 - sum(theirs)]
    return sum(p * math.log(p / q) for p, q in zip(ours, theirs, strict=True) if p > 0)


# The bound


def test_the_bound_is_the_kl_over_the_ids_and_one_outcome_more() -> None:
    student, teacher = nested(random_pair()[1], *random_pair(), 4)
    found = partial_reverse_kl(student, teacher)
    slow = [
        slow_bound(ours, theirs)
        for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert found.reverse_kl_bound.tolist() == pytest.approx(slow, abs=1e-12)
    assert torch.allclose(found.student_mass, student.exp().sum(-1))
    assert torch.allclose(found.teacher_mass, teacher.exp().sum(-1))


def test_a_bound_that_can_be_computed_by_hand() -> None:
    """Student (1/2, 1/4, 1/4), teacher (1/4, 1/4, 1/2), the first id alone: ln 2 / 2 + (1/2) ln
    (2/3)."""
    student, teacher = (
        torch.tensor([[0.5, 0.25, 0.25]]).log(),
        torch.tensor([[0.25, 0.25, 0.5]]).log(),
    )
    found = partial_reverse_kl(student[:, :1], teacher[:, :1])
    assert found.reverse_kl_bound.item() == pytest.approx(
        math.log(2) / 2 + math.log(2 / 3) / 2, abs=1e-6
    )
    exact = divergences.reverse_kl(student, teacher).item()  # ln 2 / 2 - ln 2 / 4
    assert exact == pytest.approx(math.log(2) / 4, abs=1e-6)
    # The nearest wrong ones: no bucket, both renormalised (which sees nothing here), the other
    # direction.
    for wrong in (math.log(2) / 2, 0.0, math.log(1 / 2) / 4 + 3 / 4 * math.log(3 / 2)):
        assert abs(found.reverse_kl_bound.item() - wrong) > 1e-2


def test_putting_outcomes_together_never_raises_the_kl_whatever_the_ids() -> None:
    """Data-processing inequality, over every subset of six ids."""
    student, teacher = random_pair(20, 6, 3.0)
    exact = divergences.reverse_kl(student, teacher)
    for subset in range(1, 2**6):
        ids = [place for place in range(6) if subset >> place & 1]
        bound = partial_reverse_kl(student[:, ids], teacher[:, ids]).reverse_kl_bound
        assert (bound <= exact + 1e-9).all()


@pytest.mark.parametrize("by", ["student", "teacher", "neither"])
def test_the_bound_grows_with_every_id_and_ends_at_the_exact_kl(by: str) -> None:
    student, teacher = random_pair()
    order = {"student": student, "teacher": teacher, "neither": torch.rand(student.shape)}[by]
    exact = divergences.reverse_kl(student, teacher)
    before = torch.zeros(len(student), dtype=torch.float64)
    for count in range(1, VOCAB + 1):
        bound = partial_reverse_kl(*nested(order, student, teacher, count)).reverse_kl_bound
        assert (bound >= before - 1e-9).all()
        before = bound
    assert torch.allclose(before, exact, atol=1e-9)
    floats = partial_reverse_kl(student.float(), teacher.float()).reverse_kl_bound
    assert torch.allclose(floats.double(), exact, atol=ROUNDING)


def test_padding_counts_for_nothing() -> None:
    student, teacher = nested(random_pair()[0], *random_pair(), 5)
    empty = torch.full((len(student), 2), -torch.inf, dtype=torch.float64)
    padded = partial_reverse_kl(torch.cat([student, empty], 1), torch.cat([teacher, empty], 1))
    for one, other in zip(padded, partial_reverse_kl(student, teacher), strict=True):
        assert torch.equal(one, other)


def test_a_teachers_mass_that_rounding_may_have_eaten_keeps_the_bound_finite_and_a_bound() -> None:
    """The teacher's known ids seem to hold everything and the student writes others: exact is at
    least what is said."""
    student = torch.tensor([[0.7, 0.1, 0.2]]).log()
    teacher = torch.tensor([[0.9, 0.1 - 1e-7, 1e-7]], dtype=torch.float64).log()
    over = teacher[:, :2].float() + 1e-7  # as float32 may have it: masses that sum to more than 1
    found = partial_reverse_kl(student[:, :2], over).reverse_kl_bound.item()
    exact = divergences.reverse_kl(student.double(), teacher).item()
    assert 2 < 0.2 * math.log(0.2 / LEAST_MASS) - 0.3 < found <= exact
    agreed = partial_reverse_kl(teacher.float(), teacher.float() + 1e-7)
    assert agreed.reverse_kl_bound.item() == pytest.approx(0, abs=ROUNDING)
    assert agreed.teacher_mass.item() <= 1


def test_what_a_teacher_never_writes_makes_the_bound_infinite_as_the_kl_is() -> None:
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert partial_reverse_kl(student, teacher).reverse_kl_bound.item() == math.inf
    assert partial_reverse_kl(teacher, student).reverse_kl_bound.item() == pytest.approx(
        math.log(2), abs=1e-6
    )


# Alignment of what vLLM gives


class FakeEngine:
    """Answers as vLLM does, from a law: token i follows from token i - 1 alone, as a row of a table
    says."""

    def __init__(self, table: Tensor) -> None:
        self.table = table.log_softmax(-1).float()
        self.policy = SimpleNamespace(head_width=table.shape[1])

    def run(
        self, prompts: Sequence[tuple[int, ...]], parameters: Sequence[dict[str, Any]]
    ) -> list[Any]:
        return [self.one(ids, one) for ids, one in zip(prompts, parameters, strict=True)]

    def one(self, ids: tuple[int, ...], asked: dict[str, Any]) -> Any:
        if "prompt_logprob_token_ids" in asked:
            start, wanted = asked["prompt_logprob_start"], asked["prompt_logprob_token_ids"]
            assert len(wanted) == len(ids) - 1 - start  # vLLM refuses anything else
            rows = self.table[list(ids[start:-1])]
            scores = rows.gather(1, torch.from_numpy(wanted).clamp(min=0)).masked_fill(
                torch.from_numpy(wanted) < 0, -torch.inf
            )
            return SimpleNamespace(prompt_token_id_logprobs=scores.numpy())
        flat = SimpleNamespace(start_indices=[0], end_indices=[0], token_ids=[], logprobs=[])
        for before, token in zip(ids, ids[1:]):
            values, places = self.table[before].topk(asked["prompt_logprobs"])
            flat.start_indices.append(len(flat.token_ids))
            flat.token_ids += [token, *places.tolist()]
            flat.logprobs += [float(self.table[before, token]), *values.tolist()]
            flat.end_indices.append(len(flat.token_ids))
        return SimpleNamespace(prompt_logprobs=flat)


def test_each_row_scores_the_token_of_its_response_position_by_either_route() -> None:
    """The law of token i is the row of token i - 1: a shift by one would read another row."""
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(3)) * 2
    fake: Any = FakeEngine(table)
    contexts = [((3, 1, 4), (1, 5, 9, 2)), ((6,), (5,))]
    wanted = [np.array([[0, 1, 5]] * 4), np.array([[5, 2, 7]])]
    law = table.log_softmax(-1)
    for rows in (likeliest_rows(fake, contexts, 3), rows_of_ids(fake, contexts, wanted)):
        for (prompt, response), row in zip(contexts, rows, strict=True):
            before = (prompt + response)[len(prompt) - 1 : -1]
            for place, (last, token) in enumerate(zip(before, response, strict=True)):
                assert row.ids[place, 0] == token
                for index, value in zip(row.ids[place], row.logprobs[place], strict=True):
                    expected = float(law[last, index]) if index != NONE else -math.inf
                    assert value == pytest.approx(expected, abs=1e-5)
                kept = [index for index in row.ids[place] if index != NONE]
                assert len(set(kept)) == len(kept)  # the taken token counts once


def test_an_entry_of_another_token_is_not_taken_for_the_responses() -> None:
    flat = SimpleNamespace(
        start_indices=[0, 0, 2], end_indices=[0, 2, 4], token_ids=[7, 1, 8, 1], logprobs=[-1.0] * 4
    )
    assert _likeliest(flat, 1, (7, 8)).ids[:, 0].tolist() == [7, 8]
    with pytest.raises(AssertionError):
        _likeliest(flat, 1, (8, 7))


# Against transformers


@pytest.fixture(scope="module")
def pair() -> tuple[Policy, Policy]:
    student, teacher = (loading.load(name, HOST) for name in ("abacus-student", "abacus-teacher"))
    return student, teacher


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    settings = VllmSettings(cache_gib=0.25, max_logprobs=520)
    with VllmEngine(served_policies.serve("abacus-teacher", HOST), settings) as made:
        yield made


@pytest.fixture(scope="module")
def rollouts(pair: tuple[Policy, Policy]) -> list[Rollout]:
    """Sampled by the student at temperature 1, each behind prompts of its own length."""
    student, _ = pair
    asked = load_problems("abacus", limit=12)
    requests = [
        Request(tuple(student.prompt_ids(one, asked.instruction)), (), 120, "s", one.problem_id, 0)
        for one in asked.problems
    ]
    made = TransformersEngine(student).sample(requests, SamplingSettings(1.0))
    return [
        Rollout(
            request.problem_id, request.prompt_ids, request.prompt_ids[place % 3 :], response.ids
        )
        for place, (request, response) in enumerate(zip(requests, made, strict=True))
    ]


@engine_test
def test_the_engines_scores_are_those_of_transformers(
    pair: tuple[Policy, Policy], engine: VllmEngine, rollouts: list[Rollout]
) -> None:
    exact = Scorer(*pair).score(rollouts)
    found = ServedScorer(pair[0], engine, 16).score(rollouts)
    for one, other in zip(found, exact, strict=True):
        assert one.rollout_id == other.rollout_id
        for name in ("student_logprob", "teacher_logprob", "student_entropy"):
            assert one.columns[name] == pytest.approx(other.columns[name], abs=1e-4)


@engine_test
def test_the_bound_from_the_engine_grows_to_the_exact_kl(
    pair: tuple[Policy, Policy], engine: VllmEngine, rollouts: list[Rollout]
) -> None:
    exact = np.concatenate([one.columns["reverse_kl"] for one in Scorer(*pair).score(rollouts)])
    before, gaps = np.zeros(len(exact)), []
    for count in (1, 4, 16, 64, 520):
        scored = ServedScorer(pair[0], engine, count).score(rollouts)
        bound = np.concatenate([one.columns["reverse_kl_bound"] for one in scored])
        assert (bound <= exact + 1e-4).all()
        assert (bound >= before - 1e-4).all()
        before = bound
        gaps.append(float((exact - bound).mean()))
    assert gaps[0] > 1e-3  # one id is not enough, or the test shows nothing
    assert abs(gaps[-1]) < 1e-5
    print("mean exact", exact.mean(), "gaps", gaps)
    whole = np.concatenate([one.columns["teacher_mass"] for one in scored])
    assert whole == pytest.approx(1, abs=1e-5)


@engine_test
def test_more_ids_than_the_engine_tells_and_longer_rollouts_than_it_reads_are_refused(
    pair: tuple[Policy, Policy], engine: VllmEngine
) -> None:
    with pytest.raises(UserError, match="521 ids per position .* 520; raise max_logprobs"):
        ServedScorer(pair[0], engine, 521)
    with pytest.raises(UserError, match="rollout r needs 1025 positions, more than the 1024"):
        ServedScorer(pair[0], engine, 4).score([Rollout("r", (5,), (5,) * 24, (6,) * 1000)])
    last = ServedScorer(pair[0], engine, 4).score([Rollout("r", (5,), (5,) * 23, (6,) * 1000)])
    assert last[0].columns["reverse_kl_bound"].shape == (1000,)


# Stored part by part


class Stub:
    """Gives each token its own id as every statistic; ends the process at a part."""

    def __init__(self, last: int = 99) -> None:
        self.last, self.scored = last, list[str]()

    def table(self, rollouts: Sequence[Rollout], on_progress: Any) -> pa.Table:
        if len(self.scored) >= self.last:
            raise KeyboardInterrupt
        self.scored += [one.rollout_id for one in rollouts]
        ids = np.concatenate([one.response for one in rollouts])
        columns = {**dict.fromkeys(served_scores.COLUMNS, ids), "route": ["a route"] * len(ids)}
        return score_store.token_rows(served_scores.SCHEMA, rollouts, columns)


def test_served_scores_are_stored_part_by_part_and_resumed(tmp_path: Path) -> None:
    rollouts = [Rollout(f"r{place}", (1,), (1, 2), (10 * place, 7)) for place in range(5)]
    key = score_store.ScoreKey("s", "t", 1.0, "model", "served, 3 ids")

    def stored(scorer: Stub) -> Path:
        return served_scores.scored(
            rollouts, key, lambda: scorer, tmp_path, Reporter(quiet=True), name="x", part_tokens=8
        )

    first, second = Stub(last=2), Stub()
    with pytest.raises(KeyboardInterrupt):
        stored(first)
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.glob("*.parquet")] == ["part-00000.parquet"]
    path = stored(second)
    assert (first.scored, second.scored) == (["r0", "r1"], ["r2", "r3", "r4"])
    table = store.read_table(path, served_scores.TOKENS)
    assert table["rollout_id"].to_pylist() == [f"r{place}" for place in range(5) for _ in "ab"]
    assert table["position"].to_pylist() == [0, 1] * 5
    assert table["reverse_kl_bound"].to_pylist() == [0, 7, 10, 7, 20, 7, 30, 7, 40, 7]
    assert table.schema.remove_metadata().equals(served_scores.SCHEMA)
    assert sorted(entry.name for entry in folder.glob("*.parquet")) == ["tokens.parquet"]
    assert stored(Stub(last=0)) == path
