"""Comparisons of runs: against pandas on the raw outcomes, by rollout and by problem."""

from __future__ import annotations

import itertools
import math

import made_decay
import numpy as np
import pandas as pd
import pytest
from made_decay import LENGTHS, RULE

from decaylab.analyses import prefix_decay
from decaylab.analyses.compare import STUDENTS, TEACHERS, Settings, Side, measure
from decaylab.maths.statistics import holm
from decaylab.runs import vocabulary
from decaylab.runs.panels import identical_rollouts
from decaylab.runs.vocabulary import (
    ACCURACY,
    ADVANTAGE,
    CONTINUATION_TOKENS,
    HALF_DECAY,
    MEAN_KL,
    MEAN_OVER_PROBLEMS,
    OPEN,
    RETAINED,
    STUDENT_ACCURACY,
    STUDENT_PREFIX,
    against,
    difference,
)

GOOD, FAIR = {20: 0.8, 40: 0.6}, {20: 0.6, 40: 0.4}


def settings(by_rollout: bool = True, compared: str = TEACHERS, **more: object) -> Settings:
    return Settings(LENGTHS, RULE, compared, by_rollout, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two teachers on one student's rollouts."""
    return made_decay.rollouts(GOOD, seed=1), made_decay.rollouts(FAIR, alone=0.8, seed=2)


@pytest.fixture(scope="module")
def frame(tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return measure([Side("good", tables[0]), Side("fair", tables[1])], settings())


def value(frame: pd.DataFrame, what: str, name: str, **at: object) -> pd.Series:
    return vocabulary.row(frame, what=what, checkpoint=name, **at)


def raw(table: pd.DataFrame, length: int) -> pd.DataFrame:
    """Continuations at a length by pandas alone: grade, the student's grade, problem, rollout."""
    student = table[table.condition == "student"].set_index("rollout_id").grade_last_boxed
    rows = table[(table.condition == "student-prefix") & (table.prefix_tokens == length)]
    return pd.DataFrame(
        {
            "rollout": rows.prefix_rollout_id,
            "problem": rows.problem_id,
            "right": (rows.grade_last_boxed == "correct").astype(float),
            "student": (rows.prefix_rollout_id.map(student) == "correct").astype(float),
        }
    )


@pytest.mark.parametrize("length", [20, 40])
def test_a_difference_by_rollout_is_that_of_a_merge_on_the_rollouts(
    tables: tuple[pd.DataFrame, pd.DataFrame], frame: pd.DataFrame, length: int
) -> None:
    good, fair = (raw(table, length) for table in tables)
    both = good.merge(fair, on=["rollout", "problem"], suffixes=("", "_fair"))
    change = both.right_fair - both.right
    row = value(frame, difference(ACCURACY), "fair", prefix_tokens=length)
    assert row.condition == against("good") and row.value == pytest.approx(change.mean())
    by_problem = (change - change.mean()).groupby(both.problem).sum()
    count = len(by_problem)
    error = math.sqrt(count / (count - 1) * (by_problem**2).sum()) / len(both)
    assert row.standard_error == pytest.approx(error)
    assert (row.problems, row.rollouts) == (count, len(both))
    for name, rows in (("good", good), ("fair", fair)):
        at = {"prefix_tokens": length}
        accuracy, own = rows.right.mean(), rows.student.mean()
        assert value(frame, ACCURACY, name, **at).value == pytest.approx(accuracy)
        assert value(frame, STUDENT_ACCURACY, name, **at).value == pytest.approx(own)
        assert value(frame, ADVANTAGE, name, **at).value == pytest.approx(accuracy - own)


def test_numbers_of_a_run_are_those_of_its_own_measurement(
    tables: tuple[pd.DataFrame, pd.DataFrame], frame: pd.DataFrame
) -> None:
    """With one student and all rollouts in common, nothing changes beside another run."""
    own = prefix_decay.measure(tables[1], prefix_decay.Settings(LENGTHS, RULE, False))
    for what, length in itertools.product((ACCURACY, RETAINED, STUDENT_ACCURACY), (20, 40)):
        at = {"condition": STUDENT_PREFIX, "view": OPEN, "prefix_tokens": length}
        alone = vocabulary.row(own, what=what, **at)
        beside = value(frame, what, "fair", **at)
        columns = ["value", "low", "high", "standard_error", "problems", "rollouts"]
        assert beside[columns].tolist() == pytest.approx(alone[columns].tolist(), nan_ok=True)
    half, gap = (vocabulary.row(own, what=what) for what in (HALF_DECAY, ADVANTAGE))
    beside = value(frame, HALF_DECAY, "fair")
    assert (beside.value, beside.low) == pytest.approx((half.value, half.low))
    beside = value(frame, ADVANTAGE, "fair", prefix_tokens=0)
    assert (beside.value, beside.low, beside.high) == pytest.approx((gap.value, gap.low, gap.high))


def test_a_difference_is_that_of_the_two_numbers_beside_it(frame: pd.DataFrame) -> None:
    for what, lengths in ((ACCURACY, (0, 20, 40)), (RETAINED, (20, 40))):
        for length in lengths:
            good, fair = (
                value(frame, what, name, prefix_tokens=length).value for name in ("good", "fair")
            )
            change = value(frame, difference(what), "fair", prefix_tokens=length).value
            assert change == pytest.approx(fair - good, nan_ok=True)
    good, fair = (value(frame, HALF_DECAY, name).value for name in ("good", "fair"))
    change = value(frame, difference(HALF_DECAY), "fair").value
    assert change == pytest.approx(
        fair - good if np.isfinite([good, fair]).all() else math.nan, nan_ok=True
    )


def test_tokens_are_means_of_what_the_teacher_wrote(
    tables: tuple[pd.DataFrame, pd.DataFrame], frame: pd.DataFrame
) -> None:
    for name, table in zip(("good", "fair"), tables, strict=True):
        for length in LENGTHS:
            condition = "student-prefix" if length else "teacher"
            rows = table[(table.condition == condition) & (table.prefix_tokens == length)]
            row = value(frame, CONTINUATION_TOKENS, name, prefix_tokens=length)
            assert row.value == pytest.approx(rows.tokens.mean())
            assert row.low < row.value < row.high


def test_p_values_are_corrected_over_lengths_and_runs(frame: pd.DataFrame) -> None:
    for what, tests in ((ADVANTAGE, 6), (difference(ACCURACY), 3)):
        rows = frame[frame.what == what]
        assert len(rows) == tests
        assert rows.p_value_holm.tolist() == pytest.approx(holm(rows.p_value).tolist())


def test_a_rollout_that_one_teacher_could_not_continue_counts_in_none(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    good, fair = tables
    lost = (fair.condition == "student-prefix") & (fair.prefix_tokens == 20)
    lost &= fair.problem_id == "p/00"
    assert lost.any()
    found = measure([Side("good", good), Side("fair", fair[~lost])], settings())
    kept = raw(good, 20).query("problem != 'p/00'")
    row = value(found, ACCURACY, "good", prefix_tokens=20)
    assert row.value == pytest.approx(kept.right.mean()) and row.rollouts == len(kept)


def test_other_rollouts_are_paired_by_the_means_of_problems(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    good = tables[0]
    other = made_decay.rollouts(FAIR, student=0.5, seed=3, student_seed=101)
    assert identical_rollouts([good, tables[1]]) == (160, 160)
    assert identical_rollouts([good, other]) == (0, 160)
    found = measure([Side("good", good), Side("other", other)], settings(False, STUDENTS))
    for length in (20, 40):
        ours, theirs = (raw(table, length).groupby("problem") for table in (good, other))
        means = pd.concat(
            {"ours": ours.right.mean(), "theirs": theirs.right.mean()}, axis=1
        ).dropna()
        change = means.theirs - means.ours
        row = value(found, difference(ACCURACY), "other", prefix_tokens=length)
        assert row.value == pytest.approx(change.mean()) and row.problems == len(means)
        assert row.standard_error == pytest.approx(change.sem())
        assert row.estimand == MEAN_OVER_PROBLEMS
        behind = ours.size()[means.index].sum(), theirs.size()[means.index].sum()
        assert row.rollouts == min(behind)
        assert value(found, ACCURACY, "other", prefix_tokens=length).rollouts == behind[1]


def test_the_kl_of_problems_that_both_runs_scored_is_paired(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    rng = np.random.default_rng(0)
    names = [f"p/{number:02}" for number in range(40)]
    counts = rng.integers(20, 90, 40).astype(float)
    kl = [
        pd.DataFrame({"sum": counts * rng.gamma(2, scale, 40), "count": counts}, index=names)
        for scale in (0.05, 0.2)
    ]
    sides = [Side("good", tables[0], kl[0]), Side("fair", tables[1], kl[1].iloc[:30])]
    found = measure(sides, settings())
    shared = [one.iloc[:30] for one in kl]
    means = [one["sum"].sum() / one["count"].sum() for one in shared]
    assert value(found, MEAN_KL, "good").value == pytest.approx(means[0])
    row = value(found, difference(MEAN_KL), "fair")
    assert row.value == pytest.approx(means[1] - means[0]) and row.unit == "nats"
    assert row.low < row.value < row.high and row.problems == 30
    assert row.tokens == int(counts[:30].sum())
    alone = measure([Side("good", tables[0], kl[0]), Side("fair", tables[1])], settings())
    assert difference(MEAN_KL) not in set(alone.what)
    assert value(alone, MEAN_KL, "good").problems == 40


def test_three_runs_have_three_pairs_of_differences(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    third = made_decay.rollouts(FAIR, alone=0.7, seed=9)
    found = measure([Side("a", tables[0]), Side("b", tables[1]), Side("c", third)], settings())
    pairs = found[found.what == difference(HALF_DECAY)][["checkpoint", "condition"]]
    assert pairs.to_numpy().tolist() == [
        ["b", "against a"],
        ["c", "against a"],
        ["c", "against b"],
    ]


def test_a_length_that_no_rollout_reaches_is_undefined_with_a_reason() -> None:
    tables = [made_decay.rollouts({20: 0.8, 200: 0.5}, seed=seed) for seed in (1, 2)]
    chosen = Settings((0, 20, 200), RULE, TEACHERS, True)  # type: ignore[arg-type]
    found = measure([Side("a", tables[0]), Side("b", tables[1])], chosen)
    rows = found[found.prefix_tokens == 200]
    assert rows.value.isna().all() and (rows.note != "").all()
    assert value(found, ADVANTAGE, "a", prefix_tokens=20).p_value_holm <= 1
