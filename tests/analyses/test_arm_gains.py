"""What one token is worth to each arm, by hand; rank correlations over arms, tested or not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses.arm_gains import LEAST_ARMS, Masked, Settings, measure
from decaylab.runs.trained_arms import TrainedArm


def arm(name: str, gain: float = 0.1, budget: int | None = 40) -> TrainedArm:
    return TrainedArm(name, "random", budget, gain, gain - 0.05, gain + 0.05, "over seeds", "s")


def masked(gains: list[float], share: float = 0.5, truth: bool = True) -> Masked:
    """Draws with these differences, of one problem each."""
    pairs = [(1.0, 0.0) if gain > 0 else (0.0, 1.0) if gain < 0 else (1.0, 1.0) for gain in gains]
    draws = pd.DataFrame(pairs, columns=["with", "without"]).assign(problem=range(len(pairs)))
    places = pd.DataFrame(
        {"problem": [0, 0, 1], "weight": [1.0, 3.0, 1.0], "gain": [0.2, 0.4, 0.0]}
    )
    return Masked(draws, places if truth else None, 38.5, share)


def only(frame: pd.DataFrame, **at: Any) -> pd.Series:
    for name, value in at.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_numbers_of_an_arm_are_means_over_its_tokens() -> None:
    table = masked([1, 0, -1, 1, 0])
    table.draws.loc[4, "with"] = math.nan  # could not be handed back
    frame = measure([arm("a", 0.07)], {"a": table}, Settings(run="mine"))
    row = only(frame, what="one_token_gain")
    assert row.value == pytest.approx((1 + 0 - 1 + 1) / 4)
    assert (row.tokens, row.problems) == (4, 4)
    assert "1 of 5 tokens could not be handed back, left out" in row.note
    truth = only(frame, what="masked_truth_gain")
    assert truth.value == pytest.approx((1 * 0.2 + 3 * 0.4 + 0) / 5)
    assert truth.low < truth.value < truth.high
    trained = only(frame, what="training_gain")
    assert (trained.value, trained.low, trained.high) == (0.07, 0.07 - 0.05, 0.07 + 0.05)
    assert only(frame, what="masked_kl_share").value == 0.5
    assert only(frame, what="tokens_per_rollout").value == 38.5
    assert "rank_correlation" not in set(frame["what"])


def made(count: int, order: list[float]) -> pd.DataFrame:
    arms = [arm(f"a{place}", 0.01 * place) for place in range(count)]
    tables = {
        f"a{place}": masked([1, 0, 0], share, truth=False)
        for place, share in zip(range(count), order, strict=True)
    }
    return measure([*arms, arm("full", 0.9, None)], tables | {"full": masked([1])}, Settings())


def test_few_arms_have_a_correlation_without_a_test() -> None:
    row = only(made(4, [0.1, 0.3, 0.2, 0.4]), condition="masked_kl_share")
    ranks = np.corrcoef([0, 1, 2, 3], [0, 2, 1, 3])[0, 1]
    assert row.value == pytest.approx(ranks)
    assert math.isnan(row.p_value) and f"4 arms: fewer than {LEAST_ARMS}" in row.note
    assert (row.category, row.rollout_length) == ("4 arms", 40)


def test_enough_arms_of_one_budget_are_tested_and_all_rollouts_are_none_of_them() -> None:
    frame = made(10, [0.01 * place for place in range(10)])
    row = only(frame, condition="masked_kl_share")
    assert row.value == pytest.approx(1.0) and row.p_value < 0.001
    assert row.category == "10 arms"
    shuffled = only(made(10, [3, 8, 1, 9, 0, 5, 2, 7, 4, 6]), condition="masked_kl_share")
    assert shuffled.p_value > 0.2


def test_what_is_the_same_for_every_arm_has_no_correlation() -> None:
    row = only(made(4, [0.5] * 4), condition="masked_kl_share")
    assert math.isnan(row.value) and "the same for every arm" in row.note
