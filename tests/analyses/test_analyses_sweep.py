"""Sweeps of known outcomes: by hand, against a slow loop, against scipy; which interval holds for
what."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import RULES, grown, outcome_rows, trained

from decaylab.analyses.sweep import Settings, measure
from decaylab.maths.statistics import (
    cautious_error,
    holm,
    paired_difference,
    proportion,
    smallest_detectable_difference,
)
from decaylab.runs.trained import TrainedRun
from decaylab.runs.vocabulary import ONE_RUN, OVER_SEEDS, THESE_SEEDS

SETTINGS = Settings(RULES)


def pick(
    frame: pd.DataFrame,
    what: str,
    arm: str,
    estimand: str = THESE_SEEDS,
    view: str = "last",
    rule: str = "last_boxed",
    seed: float = math.nan,
) -> Any:
    chosen = (
        (frame.what == what)
        & (frame.checkpoint == arm)
        & (frame.estimand == estimand)
        & (frame["view"] == view)
    )
    chosen &= frame.condition == rule
    chosen &= frame.training_seed.isna() if math.isnan(seed) else frame.training_seed == seed
    (row,) = frame[chosen].itertuples()
    return row


def means(run: TrainedRun, name: str, rule: str = "last_boxed") -> dict[str, float]:
    """Mean correctness of each problem, by a loop over the rows. name: base, teacher, or a
    checkpoint rule."""
    sums: dict[str, list[float]] = {}
    for row in run.outcomes.to_dict("records"):
        mine = row["checkpoint"] == name or (
            row["checkpoint"] not in ("base", "teacher") and row["step"] == run.chosen.get(name)
        )
        if mine:
            sums.setdefault(row["problem_id"], []).append(float(row[f"grade_{rule}"] == "correct"))
    return {problem: sum(values) / len(values) for problem, values in sums.items()}


# --- by hand
# ---------------------------------------------------------------------------

BASE = np.array([[0.0], [0.0], [1.0], [0.0]])
TEACHER = np.array([[1.0], [1.0], [1.0], [0.0]])
FIRST, SECOND = np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([[1.0], [0.0], [1.0], [1.0]])
FULL_FIRST, FULL_SECOND = (
    np.array([[0.0], [0.0], [1.0], [0.0]]),
    np.array([[1.0], [0.0], [0.0], [1.0]]),
)


def by_hand() -> pd.DataFrame:
    runs = [
        trained("prefix-20", 0, {50: FIRST}, BASE, TEACHER),
        trained("full", 0, {50: FULL_FIRST}, BASE, TEACHER),
        trained("prefix-20", 1, {50: SECOND}, BASE, TEACHER),
        trained("full", 1, {50: FULL_SECOND}, BASE, TEACHER),
    ]
    return measure(runs, SETTINGS)


def test_accuracies_and_differences_by_hand() -> None:
    """Prefix: 3/4 and 3/4. Base 1/4, teacher 3/4; full 1/4 and 2/4, so less full: 2/4 and 1/4, mean
    .375.

    By problem, less full: (2 - 1)/2, (1 - 0)/2, (2 - 1)/2, (1 - 1)/2 = .5, .5, .5, 0.
    """
    frame = by_hand()
    assert [pick(frame, "avg_at_1", "prefix-20", ONE_RUN, seed=seed).value for seed in (0, 1)] == [
        0.75,
        0.75,
    ]
    assert [pick(frame, "avg_at_1", "full", ONE_RUN, seed=seed).value for seed in (0, 1)] == [
        0.25,
        0.5,
    ]
    for estimand in (THESE_SEEDS, OVER_SEEDS):
        assert pick(frame, "avg_at_1", "full", estimand).value == pytest.approx(0.375)
        assert pick(frame, "avg_at_1_minus_base", "prefix-20", estimand).value == pytest.approx(0.5)
        assert pick(frame, "avg_at_1_minus_teacher", "prefix-20", estimand).value == pytest.approx(
            0.0
        )
        assert pick(frame, "avg_at_1_minus_full", "prefix-20", estimand).value == pytest.approx(
            0.375
        )
    assert [
        pick(frame, "avg_at_1_minus_full", "prefix-20", ONE_RUN, seed=seed).value for seed in (0, 1)
    ] == [0.5, 0.25]
    row = pick(frame, "avg_at_1_minus_full", "prefix-20")
    assert (row.problems, row.rollouts, row.tokens) == (4, 8, 80)
    # Three of the four problems differ, all to one side: of the 8 sign patterns 2 are as extreme.
    assert row.p_value == 0.25
    assert (row.selector, row.rollout_length, row.step) == ("prefix", 20, 50)
    assert pick(frame, "avg_at_1", "full").rollout_length == math.inf


def three_seeds(third: np.ndarray) -> pd.DataFrame:
    """As `by_hand`, with a third seed whose full rollouts are those of the first."""
    runs = [
        trained(arm, seed, {50: grades}, BASE, TEACHER)
        for seed, (mine, full) in enumerate(
            ((FIRST, FULL_FIRST), (SECOND, FULL_SECOND), (third, FULL_FIRST))
        )
        for arm, grades in (("prefix-20", mine), ("full", full))
    ]
    return measure(runs, SETTINGS)


def test_the_interval_over_seeds_knows_the_pairing_of_seeds() -> None:
    """Less full by seed: .5, .25 and .25; each of four problems tells a seed's number to .25, so
    that they do not disagree."""
    row = pick(
        three_seeds(np.array([[1.0], [0.0], [1.0], [0.0]])),
        "avg_at_1_minus_full",
        "prefix-20",
        OVER_SEEDS,
    )
    reference = stats.ttest_1samp([0.5, 0.25, 0.25], 0.0)
    low, high = reference.confidence_interval(0.95)
    assert (row.low, row.high) == (pytest.approx(max(low, -1)), pytest.approx(min(high, 1)))
    assert (
        row.p_value == pytest.approx(reference.pvalue)
        and row.method == "Student t over training seeds"
    )


def test_two_seeds_and_seeds_that_are_alike_have_no_interval() -> None:
    two = pick(by_hand(), "avg_at_1_minus_full", "prefix-20", OVER_SEEDS)
    assert (
        two.value == 0.375
        and math.isnan(two.low)
        and math.isnan(two.p_value)
        and "which takes three" in two.note
    )
    runs = [
        trained("random-20", 0, {50: FIRST}, BASE, TEACHER),
        trained("random-20", 1, {50: FULL_FIRST}, BASE, TEACHER),
        trained("random-20", 2, {50: FULL_FIRST}, BASE, TEACHER),
        trained("full", 0, {50: np.array([[0.0], [1.0], [1.0], [0.0]])}, BASE, TEACHER),
        trained("full", 1, {50: np.array([[0.0], [0.0], [0.0], [0.0]])}, BASE, TEACHER),
        trained("full", 2, {50: np.array([[0.0], [0.0], [0.0], [0.0]])}, BASE, TEACHER),
    ]
    same = pick(measure(runs, SETTINGS), "avg_at_1_minus_full", "random-20", OVER_SEEDS)
    assert (
        same.value == 0.25
        and math.isnan(same.low)
        and "the same for every training seed" in same.note
    )


def test_seeds_that_disagree_have_no_interval() -> None:
    """Of 400 problems full rollouts get half in each seed; the arm all but one half in two seeds,
    and nothing in the third."""
    none, place = np.zeros((400, 1)), np.arange(400)[:, None]
    mine = [(place < right).astype(float) for right in (210, 211, 0)]
    runs = [
        trained(arm, seed, {50: grades}, none, none + 1)
        for seed in range(3)
        for arm, grades in (("prefix-20", mine[seed]), ("full", (place < 200).astype(float)))
    ]
    row = pick(measure(runs, SETTINGS), "avg_at_1_minus_full", "prefix-20", OVER_SEEDS)
    assert math.isnan(row.low) and "the training seeds disagree" in row.note


# --- against a slow loop, scipy and the library's estimators
# -----------------------------------------------------


@pytest.mark.parametrize("view", ["last", "best"])
@pytest.mark.parametrize("rule", RULES)
def test_every_difference_is_that_of_a_slow_loop_over_problems_and_seeds(
    view: str, rule: str
) -> None:
    runs = grown()
    frame = measure(runs, SETTINGS)
    full = {run.seed: means(run, view, rule) for run in runs if run.arm == "full"}
    problems = sorted(full[0])
    codes = np.arange(len(problems))
    for arm in ("prefix-5", "random-20"):
        mine = {run.seed: means(run, view, rule) for run in runs if run.arm == arm}
        references = {
            "base": {seed: means(runs[0], "base", rule) for seed in mine},
            "teacher": {seed: means(runs[0], "teacher", rule) for seed in mine},
            "full": full,
        }
        for name, reference in references.items():
            found = {
                seed: sum(mine[seed][problem] - reference[seed][problem] for problem in problems)
                / len(problems)
                for seed in mine
            }
            here = pick(frame, f"avg_at_2_minus_{name}", arm, THESE_SEEDS, view, rule)
            assert here.value == pytest.approx(np.mean(list(found.values())))
            over = pick(frame, f"avg_at_2_minus_{name}", arm, OVER_SEEDS, view, rule)
            test = stats.ttest_1samp(list(found.values()), 0.0)
            assert (over.value, over.p_value) == (
                pytest.approx(here.value),
                pytest.approx(test.pvalue),
            )
            assert (over.low, over.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
            apart = np.array(
                [
                    sum(mine[seed][problem] - reference[seed][problem] for seed in mine) / 3
                    for problem in problems
                ]
            )
            error = math.sqrt(
                len(problems) / (len(problems) - 1) * np.sum((apart - apart.mean()) ** 2)
            ) / len(problems)
            assert here.standard_error == pytest.approx(error), (
                "clustered by problem, seeds of a problem together"
            )
            for seed, value in found.items():
                one = pick(frame, f"avg_at_2_minus_{name}", arm, ONE_RUN, view, rule, seed=seed)
                assert one.value == pytest.approx(value)
                x = np.repeat([mine[seed][problem] for problem in problems], 2)
                y = np.repeat([reference[seed][problem] for problem in problems], 2)
                assert one.low == pytest.approx(
                    paired_difference(x, y, np.repeat(codes, 2)).low, abs=0.02
                )


def test_levels_have_the_clustered_interval_by_problem_and_the_t_interval_by_seed() -> None:
    runs = grown()
    frame = measure(runs, SETTINGS)
    mine = [run for run in runs if run.arm == "prefix-20"]
    rows = pd.concat([run.outcomes[run.outcomes.step == 150] for run in mine])
    pooled = proportion(
        (rows.grade_last_boxed == "correct").astype(float), pd.factorize(rows.problem_id)[0]
    )
    here = pick(frame, "avg_at_2", "prefix-20")
    assert (here.value, here.low, here.high) == pytest.approx(
        (pooled.value, pooled.low, pooled.high)
    )
    assert (here.problems, here.rollouts) == (40, 240)
    singles = [np.mean(list(means(run, "last").values())) for run in mine]
    over = pick(frame, "avg_at_2", "prefix-20", OVER_SEEDS)
    assert (over.low, over.high) == pytest.approx(
        tuple(stats.ttest_1samp(singles, 0.0).confidence_interval(0.95))
    )
    assert math.isnan(over.p_value), "that an accuracy is 0 is no question"
    for seed, single in enumerate(singles):
        assert pick(frame, "avg_at_2", "prefix-20", ONE_RUN, seed=seed).value == pytest.approx(
            single
        )
    base = pick(frame, "avg_at_2", "base", "mean over rollouts", "fresh")
    assert (
        base.value == pytest.approx(np.mean(list(means(runs[0], "base").values())))
        and base.rollouts == 80
    )


def test_runs_that_share_their_problems_are_no_independent_evidence() -> None:
    """Three copies of one run: the interval by problem is that of the run, not one of three times
    as many rollouts."""
    rng = np.random.default_rng(3)
    right, base = (
        (rng.random((60, 1)) < 0.6).astype(float),
        (rng.random((60, 1)) < 0.5).astype(float),
    )
    runs = [trained("full", seed, {50: right}, base, base) for seed in range(3)]
    frame = measure(runs, SETTINGS)
    single, pooled = (
        pick(frame, "avg_at_1", "full", ONE_RUN, seed=0),
        pick(frame, "avg_at_1", "full"),
    )
    assert (single.low, single.high) == pytest.approx((pooled.low, pooled.high), abs=1e-3)
    assert single.standard_error == pytest.approx(pooled.standard_error)


def test_p_values_are_corrected_over_the_arms_of_one_comparison() -> None:
    frame = measure(grown(), SETTINGS)
    for what, view, estimand in itertools.product(
        ("avg_at_2_minus_base", "avg_at_2_minus_full"), ("last", "best"), (THESE_SEEDS, OVER_SEEDS)
    ):
        rows = frame[
            (frame.what == what)
            & (frame["view"] == view)
            & (frame.estimand == estimand)
            & (frame.condition == "anywhere")
        ]
        assert len(rows) == (4 if what.endswith("base") else 3) and rows.training_seed.isna().all()
        np.testing.assert_allclose(rows.p_value_holm, holm(rows.p_value))
    assert frame[frame.estimand == ONE_RUN].p_value.isna().all()


def test_the_smallest_detectable_difference_follows_the_paired_error() -> None:
    frame = measure(grown(), SETTINGS)
    change = pick(frame, "avg_at_2_minus_full", "prefix-5")
    least = pick(frame, "avg_at_2_minus_full_detectable", "prefix-5")
    assert least.value == pytest.approx(smallest_detectable_difference(cautious_error(change)))
    over = pick(frame, "avg_at_2_minus_full", "prefix-5", OVER_SEEDS)
    assert pick(
        frame, "avg_at_2_minus_full_detectable", "prefix-5", OVER_SEEDS
    ).value == pytest.approx(
        5.6535 * over.standard_error, rel=1e-3
    )  # noncentral t with 2 degrees of freedom
    assert (
        pick(frame, "avg_at_2_minus_full_detectable", "prefix-5", OVER_SEEDS).value
        > 2 * 2.8 * over.standard_error
    )


# --- corners
# ---------------------------------------------------------------------------


def test_one_seed_has_its_interval_by_problem_and_none_over_seeds() -> None:
    frame = measure(grown(seeds=1), SETTINGS)
    over = pick(frame, "avg_at_2_minus_base", "full", OVER_SEEDS)
    assert math.isnan(over.low) and over.note == "one training seed: no interval over seeds"
    here = pick(frame, "avg_at_2_minus_base", "full")
    assert here.low < here.value < here.high and here.value == over.value
    least = pick(frame, "avg_at_2_minus_base_detectable", "full", OVER_SEEDS)
    assert math.isnan(least.value) and "one training seed" in least.note


def test_full_rollout_is_paired_over_the_seeds_that_both_have() -> None:
    runs = grown()
    kept = [run for run in runs if not (run.arm == "full" and run.seed == 1)]
    row = pick(measure(kept, SETTINGS), "avg_at_2_minus_full", "prefix-5")
    both = [run for run in runs if run.seed != 1]
    expected = pick(measure(both, SETTINGS), "avg_at_2_minus_full", "prefix-5")
    assert row.value == expected.value and row.low == expected.low
    assert row.note == "1 of 3 seeds have no run of full, left out" and expected.note == ""


def test_a_rule_that_takes_nothing_has_no_rows() -> None:
    runs = [trained("full", seed, {50: FIRST}, BASE, TEACHER) for seed in range(2)]
    assert set(measure(runs, SETTINGS)["view"]) == {"fresh", "last"}


def test_arms_without_full_rollout_are_told_against_base_and_teacher_alone() -> None:
    frame = measure(grown(arms=("prefix-5", "prefix-20")), SETTINGS)
    assert not frame.what.str.contains("full").any() and frame.what.str.contains("teacher").any()


def test_responses_that_took_too_long_are_counted_as_not_correct() -> None:
    run = trained("full", 0, {50: FIRST}, BASE, TEACHER)
    late = (run.outcomes.checkpoint == "step-000050") & (run.outcomes.problem_id == "p000")
    run.outcomes.loc[late, "grade_last_boxed"] = "timeout"
    row = pick(measure([run], SETTINGS), "avg_at_1", "full", ONE_RUN, seed=0)
    assert (
        row.value == 0.5
        and row.note == "1 of 4 responses took too long to grade and count as not correct"
    )


def test_runs_that_were_asked_other_problems_are_refused() -> None:
    other = trained("full", 1, {50: FIRST[:3]}, BASE, TEACHER)
    with pytest.raises(
        ValueError, match="full was not evaluated like the others, on 4 problems x 1 samples"
    ):
        measure([trained("full", 0, {50: FIRST}, BASE, TEACHER), other], SETTINGS)
    renamed = trained("full", 1, {50: FIRST}, BASE, TEACHER)
    renamed.outcomes["problem_id"] = renamed.outcomes["problem_id"].replace("p003", "p004")
    with pytest.raises(ValueError, match="not evaluated like the others"):
        measure([trained("full", 0, {50: FIRST}, BASE, TEACHER), renamed], SETTINGS)
    with pytest.raises(ValueError, match="needs at least one run"):
        measure([], SETTINGS)
    with pytest.raises(ValueError, match="two runs of full have the same seed"):
        measure([trained("full", 0, {50: FIRST}, BASE, TEACHER)] * 2, SETTINGS)


def test_the_order_of_rows_changes_nothing() -> None:
    runs = grown(arms=("prefix-5", "full"))
    shuffled = [
        TrainedRun(**{**run.__dict__, "outcomes": run.outcomes.sample(frac=1, random_state=9)})
        for run in runs
    ]
    pd.testing.assert_frame_equal(measure(runs, SETTINGS), measure(shuffled, SETTINGS))


def test_each_answer_rule_has_its_own_numbers() -> None:
    right = np.zeros((4, 1))
    rows = [outcome_rows("base", 0.0, right), outcome_rows("step-000050", 50.0, right, right + 1)]
    run = trained("full", 0, {50: FIRST}, BASE, TEACHER)
    run = TrainedRun(**{**run.__dict__, "outcomes": pd.concat(rows)})
    frame = measure([run], SETTINGS)
    assert [pick(frame, "avg_at_1", "full", rule=rule).value for rule in RULES] == [0.0, 1.0]
