"""What selections took, by hand and against sums over the records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import grown, metrics, trained

from decaylab.analyses.token_selection import Settings, measure
from decaylab.runs.trained import TrainedRun

ONE = np.ones((2, 1))


def run(arm: str, seed: int = 0, **columns: Any) -> TrainedRun:
    return trained(arm, seed, {50: ONE}, ONE, ONE, recorded=metrics(2, **columns))


def number(frame: pd.DataFrame, what: str, arm: str, seed: float = math.nan) -> Any:
    chosen = (frame.what == what) & (frame.checkpoint == arm)
    (row,) = frame[
        chosen & (frame.training_seed.isna() if math.isnan(seed) else frame.training_seed == seed)
    ].itertuples()
    return row


def test_position_and_share_by_hand() -> None:
    """Step 1: 10 tokens at mean 4, step 2: 30 at mean 8: (40 + 240) / 40 = 7; the mean of the
    steps' means would be 6.

    KL inside 1 + 2, outside 5 + 0: 3/8; the mean of the steps' shares would be (1/6 + 1) / 2.
    """
    frame = measure(
        [
            run(
                "random-20",
                tokens_selected=[10, 30],
                mean_selected_position=[4.0, 8.0],
                reverse_kl_inside=[1.0, 2.0],
                reverse_kl_outside=[5.0, 0.0],
                tokens_sampled=[100, 60],
            )
        ],
        Settings(),
    )
    assert number(frame, "mean_selected_position", "random-20", 0).value == 7
    assert number(frame, "selected_kl_share", "random-20", 0).value == pytest.approx(3 / 8)
    assert number(frame, "tokens_selected", "random-20", 0).value == 40
    assert number(frame, "tokens_sampled", "random-20", 0).value == 160
    assert number(frame, "mean_selected_position", "random-20", 0).unit == "tokens"


def test_a_step_that_selected_nothing_counts_for_nothing() -> None:
    one = run("random-20", tokens_selected=[0, 30], mean_selected_position=[math.nan, 8.0])
    assert number(measure([one], Settings()), "mean_selected_position", "random-20", 0).value == 8


def test_the_share_of_a_rollout_that_stops_with_its_selection_is_undefined_and_of_full_rollout_1() -> (  # noqa: E501
    None
):
    """Inside over all sampled would be 1 for ESR, which tells nothing of what full rollouts
    hold."""
    outside = {"reverse_kl_outside": 0.0}
    frame = measure(
        [run("prefix-20", **outside), run("prefix-mask-20"), run("full", **outside)], Settings()
    )
    stopped = number(frame, "selected_kl_share", "prefix-20", 0)
    assert math.isnan(stopped.value) and "nothing else was sampled" in stopped.note
    mean = number(frame, "selected_kl_share", "prefix-20")
    assert math.isnan(mean.value) and "nothing else was sampled" in mean.note
    assert number(frame, "selected_kl_share", "prefix-mask-20", 0).value == 0.75
    assert number(frame, "selected_kl_share", "full", 0).value == 1
    assert number(frame, "mean_selected_position", "prefix-20", 0).value == 5


def test_of_rollouts_that_stop_later_than_the_selection_the_share_says_up_to_where() -> None:
    one = trained("random-20", 0, {50: ONE}, ONE, ONE, rollout_length=160.0)
    row = number(measure([one], Settings()), "selected_kl_share", "random-20", 0)
    assert row.value == 0.75 and "rollouts that stop at 160 tokens" in row.estimand
    whole = number(measure([run("random-20")], Settings()), "selected_kl_share", "random-20", 0)
    assert "full rollouts" in whole.estimand


def test_means_over_seeds_have_the_t_interval_within_what_is_possible() -> None:
    runs = grown()
    frame = measure(runs, Settings())
    for what in ("mean_selected_position", "tokens_sampled", "selected_kl_share"):
        singles = [number(frame, what, "random-20", seed).value for seed in range(3)]
        row = number(frame, what, "random-20")
        if np.ptp(singles) < 1e-12:
            assert "the same for every training seed" in row.note
            continue
        low, high = stats.ttest_1samp(singles, 0.0).confidence_interval(0.95)
        assert (row.value, row.low, row.high) == pytest.approx(
            (np.mean(singles), max(low, 0), high)
        )
    assert frame[frame.training_seed.notna()].low.isna().all(), "what is counted has no interval"
    assert set(frame["view"]) == {"training"} and (frame.rollouts > 0).all()
