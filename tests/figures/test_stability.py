"""Accuracy over checkpoints: by hand, against brute force, on the test problems and on held-out
ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import grown, trained

from decaylab.analyses.stability import Settings, measure
from decaylab.maths.statistics import paired_difference, proportion, wilson
from decaylab.runs.trained import TrainedRun

SETTINGS = Settings("last_boxed")


def column(*right: int) -> np.ndarray:
    return np.array(right, dtype=float)[:, None]


BASE = column(0, 0, 0, 1)
# 3/4 at 50, 1/4 at 100, 2/4 at 150
CHECKPOINTS = {50: column(1, 1, 1, 0), 100: column(0, 0, 1, 0), 150: column(1, 0, 1, 0)}


def pick(
    frame: pd.DataFrame, what: str, view: str = "test", seed: float = math.nan, arm: str = "full"
) -> Any:
    chosen = (frame.what == what) & (frame["view"] == view) & (frame.checkpoint == arm)
    chosen &= frame.training_seed.isna() if math.isnan(seed) else frame.training_seed == seed
    (row,) = frame[chosen].itertuples()
    return row


def one(**more: Any) -> TrainedRun:
    return trained("full", 0, CHECKPOINTS, BASE, BASE, **more)


def test_peak_last_and_lowest_by_hand() -> None:
    frame = measure([one()], SETTINGS)
    found = {
        what: pick(frame, what, seed=0)
        for what in ("peak_accuracy", "last_accuracy", "lowest_accuracy")
    }
    assert {what: (row.value, row.step) for what, row in found.items()} == {
        "peak_accuracy": (0.75, 50),
        "last_accuracy": (0.5, 150),
        "lowest_accuracy": (0.25, 100),
    }
    assert (
        pick(frame, "peak_minus_lowest", seed=0).value == 0.5
        and pick(frame, "peak_minus_last", seed=0).value == 0.25
    )
    curve = frame[frame.what == "accuracy"]
    assert list(zip(curve.step, curve.value, strict=True)) == [
        (0, 0.25),
        (50, 0.75),
        (100, 0.25),
        (150, 0.5),
    ]
    assert "the highest of 3 noisy numbers: biased upwards" in found["peak_accuracy"].note
    assert "biased downwards" in found["lowest_accuracy"].note and found["last_accuracy"].note == ""


def test_the_student_before_training_is_no_checkpoint() -> None:
    """Base is worse than any checkpoint; a lowest accuracy that counted it would be its 0."""
    frame = measure(
        [
            trained(
                "full",
                0,
                CHECKPOINTS,
                column(0, 0, 0, 0),
                BASE,
                held_out={0: 0.0, 50: 0.6, 100: 0.4, 150: 0.5},
            )
        ],
        SETTINGS,
    )
    assert pick(frame, "lowest_accuracy", seed=0).value == 0.25
    assert pick(frame, "lowest_accuracy", "validation", seed=0).value == 0.4


def test_of_equal_checkpoints_the_earliest_is_the_peak_and_the_lowest() -> None:
    same = {50: column(1, 0), 100: column(1, 0), 150: column(0, 1)}
    frame = measure([trained("full", 0, same, column(0, 0), column(1, 1))], SETTINGS)
    assert (
        pick(frame, "peak_accuracy", seed=0).step,
        pick(frame, "lowest_accuracy", seed=0).step,
    ) == (50, 50)
    assert pick(frame, "peak_minus_lowest", seed=0).value == 0


def test_differences_on_the_test_problems_are_paired_by_problem() -> None:
    runs = grown()
    frame = measure(runs, SETTINGS)
    for run in runs[:3]:
        rows = run.outcomes[~run.outcomes.checkpoint.isin(["base", "teacher"])]
        right = (
            rows.assign(right=(rows.grade_last_boxed == "correct") * 1.0)
            .groupby(["step", "problem_id"])
            .right.mean()
        )
        table = right.unstack().to_numpy()
        values = table.mean(axis=1)
        expected = paired_difference(
            table[np.argmax(values)], table[np.argmin(values)], np.arange(40)
        )
        row = pick(frame, "peak_minus_lowest", seed=run.seed, arm=run.arm)
        assert (row.value, row.low, row.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
        assert row.value == pytest.approx(np.ptp(values)) and row.problems == 40
        level = proportion(
            (rows.grade_last_boxed == "correct")[rows.step == 100].astype(float),
            pd.factorize(rows.problem_id[rows.step == 100])[0],
        )
        at = frame[
            (frame.what == "accuracy")
            & (frame.checkpoint == run.arm)
            & (frame.training_seed == run.seed)
        ]
        at = at[(at["view"] == "test") & (at.step == 100)]
        assert (at.value.item(), at.low.item(), at.high.item()) == pytest.approx(
            (level.value, level.low, level.high)
        )


def test_chance_is_that_of_every_way_to_hand_outcomes_to_checkpoints() -> None:
    """All 6^4 permutations of three checkpoints on four problems, by enumeration."""
    frame = measure([one()], SETTINGS)
    table = np.stack([grades[:, 0] for grades in CHECKPOINTS.values()])
    ranges = []
    for orders in itertools.product(itertools.permutations(range(3)), repeat=4):
        shuffled = np.stack(
            [table[list(order), place] for place, order in enumerate(orders)], axis=1
        )
        ranges.append(np.ptp(shuffled.mean(axis=1)))
    drawn = np.array(ranges)
    assert pick(frame, "peak_minus_lowest_by_chance", seed=0).value == pytest.approx(
        drawn.mean(), abs=0.02
    )
    assert pick(frame, "peak_minus_lowest", seed=0).p_value == pytest.approx(
        np.mean(drawn >= 0.5 - 1e-9), abs=0.05
    )
    assert math.isnan(pick(frame, "peak_minus_last", seed=0).p_value)


def test_a_real_collapse_is_told_from_chance_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)

    def right(chance: float) -> np.ndarray:
        return (rng.random((200, 1)) < chance).astype(float)

    collapse = {50: right(0.7), 100: right(0.45), 150: right(0.4)}
    noise = {50: right(0.6), 100: right(0.6), 150: right(0.6)}
    base = right(0.5)
    frame = measure(
        [trained("full", 0, collapse, base, base), trained("prefix-20", 0, noise, base, base)],
        SETTINGS,
    )
    assert pick(frame, "peak_minus_lowest", seed=0).p_value < 0.01
    quiet = pick(frame, "peak_minus_lowest", seed=0, arm="prefix-20")
    assert quiet.p_value > 0.1 and quiet.value > 0
    assert pick(frame, "peak_minus_lowest_by_chance", seed=0, arm="prefix-20").value > 0.03, (
        "noise alone spreads"
    )


def test_held_out_problems_give_levels_with_intervals_and_no_paired_difference() -> None:
    frame = measure([one(held_out={0: 0.2, 50: 0.6, 100: 0.45, 150: 0.5})], SETTINGS)
    peak = pick(frame, "peak_accuracy", "validation", seed=0)
    low, high = wilson(0.6, 100, stats.t.ppf(0.975, 99))
    assert (peak.value, peak.step, peak.problems) == (0.6, 50, 100)
    assert (peak.low, peak.high) == pytest.approx((float(low), float(high)), abs=0.01)
    apart = pick(frame, "peak_minus_lowest", "validation", seed=0)
    assert (
        apart.value == pytest.approx(0.15)
        and math.isnan(apart.low)
        and "no paired interval" in apart.note
    )
    assert not (
        (frame["view"] == "validation") & (frame.what == "peak_minus_lowest_by_chance")
    ).any()


def test_means_over_seeds_have_the_t_interval() -> None:
    runs = grown()
    frame = measure(runs, SETTINGS)
    for view, what in itertools.product(
        ("test", "validation"), ("peak_accuracy", "last_accuracy", "peak_minus_lowest")
    ):
        singles = [pick(frame, what, view, seed=seed, arm="prefix-20").value for seed in range(3)]
        row = pick(frame, what, view, arm="prefix-20")
        low, high = stats.ttest_1samp(singles, 0.0).confidence_interval(0.95)
        assert (row.value, row.low, row.high) == pytest.approx(
            (np.mean(singles), max(low, 0), min(high, 1))
        )
        assert math.isnan(row.step) and math.isnan(row.p_value)
        assert "no paired interval" not in row.note


def test_a_run_that_was_not_evaluated_at_every_checkpoint_has_no_rows_on_the_test_problems() -> (
    None
):
    """Last and best alone would hide the checkpoint at which it fell."""
    few = {step: CHECKPOINTS[step] for step in (50, 150)}
    held_out = {0: 0.2, 50: 0.6, 100: 0.45, 150: 0.5}
    frame = measure([trained("full", 0, few, BASE, BASE, held_out=held_out)], SETTINGS)
    assert set(frame["view"]) == {"validation"}
    single = trained("full", 0, {50: CHECKPOINTS[50]}, BASE, BASE, held_out={0: 0.2, 50: 0.6})
    assert len(measure([single], SETTINGS)) == 0
    without = trained("full", 0, CHECKPOINTS, BASE, BASE)
    assert set(measure([without], SETTINGS)["view"]) == {"test"}


def test_checkpoints_that_were_asked_different_problems_are_refused() -> None:
    bad = {50: column(1, 1, 0, 0), 100: column(1, 0, 1)}
    with pytest.raises(
        ValueError, match="full-seed-0: its checkpoints were evaluated on different problems"
    ):
        measure([trained("full", 0, bad, BASE, BASE)], SETTINGS)
