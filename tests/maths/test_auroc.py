"""AUROC of prefixes' scores for the outcomes of fresh continuations, against loops over pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, t

from decaylab.maths import auroc, jackknife
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM

Array = NDArray[Any]


def slow(
    scores: Array, correct: Array, draws: Array, keys: list[Any], left_out: Any = None
) -> tuple[float, float]:
    """The share of concordant pairs and their number: every pair of one right and one wrong
    continuation of two prefixes, one after another."""
    concordant = number = 0.0
    for i, first in enumerate(scores):
        for j, second in enumerate(scores):
            if i == j or keys[i][0] != keys[j][0] or left_out in (keys[i][1], keys[j][1]):
                continue
            pairs = correct[i] * (draws[j] - correct[j])
            number += pairs
            concordant += pairs * ((first > second) + 0.5 * (first == second))
    return (concordant / number if number else float("nan")), number


def made(seed: int, count: int = 40) -> dict[str, Array]:
    """Prefixes with ties in the scores, of unequal draws, some all right or all wrong."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(2, 6, count)
    correct = rng.binomial(draws, rng.choice([0.0, 0.3, 0.7, 1.0], count))
    scores = np.round(correct / draws + rng.normal(0, 0.6, count), 1)
    problems, positions = rng.integers(0, 8, count) * 3 - 5, rng.integers(0, 3, count) * 10
    return {
        "scores": scores,
        "correct": correct,
        "draws": draws,
        "problems": problems,
        "positions": positions,
    }


def strata_of(kind: str, one: dict[str, Array]) -> Array | None:
    if kind == "all":
        return None
    return one["positions"] if kind == "position" else one["positions"] * 1000 + one["problems"]


@pytest.mark.parametrize("kind", ["all", "position", "position and problem"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_value_and_replicates_are_those_of_a_loop_over_pairs(kind: str, seed: int) -> None:
    one = made(seed)
    strata = strata_of(kind, one)
    groups = np.zeros(40) if strata is None else strata
    keys = list(zip(groups.tolist(), one["problems"].tolist()))
    data = one["scores"], one["correct"], one["draws"]
    found = auroc.auroc(*data, one["problems"], strata)
    value, number = slow(*data, keys)
    assert found.value == pytest.approx(value)
    left_out = [slow(*data, keys, problem) for problem in np.unique(one["problems"])]
    without = [value for value, pairs in left_out if pairs < number]
    count = len(without)
    error = np.sqrt((count - 1) / count * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert found.problems == count
    assert found.standard_error == pytest.approx(error)
    reach = t.ppf(0.975, count - 1) * error / (found.value * (1 - found.value))
    odds = np.log(found.value / (1 - found.value))
    assert found.low == pytest.approx(1 / (1 + np.exp(reach - odds)))
    assert found.high == pytest.approx(1 / (1 + np.exp(-reach - odds)))
    assert found.rollouts == one["draws"].sum()


def test_over_all_prefixes_with_one_draw_each_it_is_the_mann_whitney_statistic() -> None:
    one = made(3)
    right = one["correct"] > one["draws"] / 2
    found = auroc.auroc(one["scores"], right, np.ones(40), one["problems"])
    u = mannwhitneyu(one["scores"][right], one["scores"][~right]).statistic
    assert found.value == pytest.approx(u / (right.sum() * (~right).sum()))


def test_pairs_of_continuations_of_one_prefix_do_not_count() -> None:
    """They always tie: with them the value here would be 16.5 of 17."""
    found = auroc.auroc([1.0, 0.0], [5, 0], [5, 4], [0, 1])
    assert found.value == 1.0
    found = auroc.auroc([1.0, 0.0, 1.0], [4, 0, 4], [5, 4, 4], [0, 1, 2])
    assert found.value == pytest.approx((4 * 4 + 4 * 4 + 4 * 0.5) / (4 * 4 + 4 * 4 + 4))


def test_a_score_that_is_the_same_within_each_stratum_scores_one_half_without_an_interval() -> None:
    one = made(4)
    found = auroc.auroc(
        one["positions"], one["correct"], one["draws"], one["problems"], one["positions"]
    )
    assert found.value == 0.5
    assert np.isnan(found.low)
    assert found.note == ALIKE


def test_higher_scores_with_right_answers_are_above_one_half_and_the_reverse_below() -> None:
    one = made(5)
    rest = one["correct"], one["draws"], one["problems"]
    up, down = auroc.auroc(one["scores"], *rest), auroc.auroc(-one["scores"], *rest)
    assert up.value > 0.5
    assert up.value + down.value == pytest.approx(1)
    assert up.low == pytest.approx(1 - down.high)


def test_a_difference_is_paired() -> None:
    one = made(6)
    rest = one["correct"], one["draws"], one["problems"]
    other = np.round(one["scores"] + np.random.default_rng(0).normal(0, 0.1, 40), 2)
    first, second = auroc.auroc(one["scores"], *rest), auroc.auroc(other, *rest)
    found = auroc.difference(one["scores"], other, *rest)
    assert found.value == pytest.approx(first.value - second.value)
    apart = np.hypot(first.standard_error, second.standard_error)
    assert found.standard_error < apart / 2
    same = auroc.difference(one["scores"], one["scores"], *rest)
    assert same.value == 0


@pytest.mark.parametrize(
    ("correct", "problems", "note"),
    [
        ([2, 2, 2], [0, 1, 2], auroc.NO_PAIRS),
        ([0, 0, 0], [0, 1, 2], auroc.NO_PAIRS),
        ([2, 1, 0], [7, 7, 7], ONE_PROBLEM),
    ],
)
def test_without_pairs_or_with_one_problem_it_says_so(
    correct: list[int], problems: list[int], note: str
) -> None:
    found = auroc.auroc([0.1, 0.2, 0.3], correct, [2, 2, 2], problems)
    assert found.note == note
    assert np.isnan(found.low)
    assert np.isnan(found.value) == (note == auroc.NO_PAIRS)


def test_problems_without_a_pair_do_not_count() -> None:
    """Of the third problem's two positions, each has no other prefix."""
    scores, correct = [0.1, 0.9, 0.3, 0.8, 0.5, 0.6], [0, 1, 2, 1, 2, 0]
    strata = [0, 0, 0, 0, 1, 2]
    found = auroc.auroc(scores, correct, [2] * 6, [0, 0, 1, 1, 2, 2], strata)
    short = auroc.auroc(scores[:4], correct[:4], [2] * 4, [0, 0, 1, 1])
    assert (found.value, found.low) == (short.value, short.low)
    assert found.problems == 2


def test_two_problems_of_one_pair_each() -> None:
    """One pair is concordant and one ties: without either, the share is .5 or 1."""
    problems = [0, 0, 1, 1]
    found = auroc.auroc([2.0, 1.0, 3.0, 3.0], [1, 0, 1, 0], [1] * 4, problems, problems)
    assert (found.value, found.problems) == (0.75, 2)
    assert found.standard_error == pytest.approx(0.25)
    assert 0 <= found.low < 0.75 < found.high <= 1


def test_an_interval_that_hangs_on_one_problem_is_none() -> None:
    """Without problem 0 there is no right continuation left."""
    found = auroc.auroc([0.9, 0.1, 0.2], [2, 0, 0], [2, 2, 2], [0, 1, 2])
    assert found.value == 1.0
    assert found.note == jackknife.UNDEFINED_WITHOUT


def test_a_difference_has_a_t_interval_within_its_range() -> None:
    one = made(7)
    rest = one["correct"], one["draws"], one["problems"]
    found = auroc.difference(one["scores"], -one["scores"], *rest, level=0.9)
    reach = t.ppf(0.95, found.problems - 1) * found.standard_error
    assert found.high == pytest.approx(min(1, found.value + reach))
    assert found.low == pytest.approx(found.value - reach)
    few = auroc.difference([1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2, 2, 1], [2, 3, 2], [0, 1, 2])
    assert few.low == -1 or few.high == 1
    turned = auroc.difference([0.0, 1.0, 3.0], [1.0, 2.0, 0.0], [2, 2, 1], [2, 3, 2], [0, 1, 2])
    assert (turned.low, turned.high) == pytest.approx((-few.high, -few.low))


def test_no_prefix_is_no_pair() -> None:
    assert auroc.auroc([], [], [], np.zeros(0, dtype=int)).note == auroc.NO_PAIRS
    assert np.isnan(auroc.difference([], [], [], [], np.zeros(0, dtype=int)).value)


def test_what_cannot_be_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and draws"):
        auroc.auroc([0.1], [3], [2], [0])
    with pytest.raises(ValueError, match="one entry per prefix"):
        auroc.auroc([0.1, 0.2], [1], [2], [0])
    with pytest.raises(ValueError, match="finite"):
        auroc.auroc([np.nan], [1], [2], [0])
