"""The arms of the committed sweeps, as what they train on and what training gave them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from measured import MEASURED as FIRST_EDITION

from decaylab.errors import UserError
from decaylab.runs import found_runs, trained_arms

MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measurements"
SELECTORS, LENGTHS = MEASURED / "selector", MEASURED / "rollout-length"


def test_arms_have_budget_and_gain_over_seeds_of_their_sweep() -> None:
    arms, notes = trained_arms.of_sweeps(found_runs.find([SELECTORS]))
    budgets = {arm.name: arm.budget for arm in arms}
    assert budgets["prefix-40"] == budgets["top-reverse-kl-40"] == 40
    assert budgets["full"] is budgets["importance"] is None
    assert "after-teacher-prefix-40" not in budgets
    assert notes == [
        "after-teacher-prefix-40: left out, since its tokens stand behind the teacher's own prefix"
    ]
    frame = pd.read_csv(SELECTORS / "measurements.csv")
    rows = frame[(frame.what == "avg_at_1_minus_base") & (frame.checkpoint == "middle-40")]
    row = rows[rows.estimand == "mean over training seeds"].iloc[0]
    (arm,) = (arm for arm in arms if arm.name == "middle-40")
    assert (arm.gain, arm.low, arm.high) == (row.value, row.low, row.high)
    assert arm.estimand == row.estimand


def test_an_arm_of_two_sweeps_counts_once_and_lengths_are_budgets() -> None:
    arms, _ = trained_arms.of_sweeps(found_runs.find([LENGTHS, SELECTORS]))
    names = [arm.name for arm in arms]
    assert len(names) == len(set(names))
    assert {arm.name: arm.budget for arm in arms}["prefix-120"] == 120
    assert {arm.sweep for arm in arms if arm.name == "prefix-40"} == {"rollout-length"}


def test_a_run_that_is_no_sweep_is_named() -> None:
    with pytest.raises(UserError, match="is a run of signals, not a sweep; leave it out"):
        trained_arms.of_sweeps(found_runs.find([MEASURED / "signals"]))


def test_a_sweep_of_an_earlier_version_is_to_be_run_again() -> None:
    with pytest.raises(UserError, match="was written by an earlier version"):
        trained_arms.of_sweeps(found_runs.find([FIRST_EDITION / "selector"]))
