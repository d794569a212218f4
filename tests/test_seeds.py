"""Means over training seeds against scipy's t test, and what so few seeds can show against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from decaylab import statistics as st
from decaylab.seeds import ALIKE, ONE_SEED, over_seeds, ratios_over_seeds, smallest_detectable_over_seeds

VALUES = np.array([0.61, 0.64, 0.58, 0.70])


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_mean_interval_and_p_are_those_of_scipys_t_test(count: int, level: float) -> None:
    """The normal quantile, G degrees of freedom or a deviation over G would give another interval."""
    values = VALUES[:count]
    found = over_seeds(values, level=level)
    reference = stats.ttest_1samp(values, 0.0)
    interval = reference.confidence_interval(level)
    assert (found.value, found.seeds) == (pytest.approx(values.mean()), count)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.standard_error == pytest.approx(stats.sem(values))


def test_three_seeds_by_hand() -> None:
    """.5, .6, .7: mean .6, deviation .1, error .1 / sqrt(3) = .0577; t(2) = 4.303: .6 +- .2484."""
    found = over_seeds([0.5, 0.6, 0.7])
    assert (found.value, found.standard_error) == (pytest.approx(0.6), pytest.approx(0.0577, abs=1e-4))
    assert (found.low, found.high) == (pytest.approx(0.3516, abs=1e-4), pytest.approx(0.8484, abs=1e-4))


def test_one_seed_or_seeds_that_agree_have_no_interval_and_say_why() -> None:
    one, same, none = over_seeds([0.4]), over_seeds([0.4, 0.4, 0.4]), over_seeds([])
    assert (one.value, one.note) == (0.4, ONE_SEED) and (same.value, same.note) == (pytest.approx(0.4), ALIKE)
    assert math.isnan(none.value) and none.note == "no run"
    for found in (one, same, none):
        assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.p_value)


def test_ratios_are_the_t_test_of_the_paired_logarithms() -> None:
    """The ratio of the means, or logarithms that are not paired, would differ: the runs of a seed go together."""
    first, second = np.array([1.0, 2.0, 8.0]), np.array([2.0, 5.0, 14.0])
    found = ratios_over_seeds(first, second)
    reference = stats.ttest_rel(np.log(first), np.log(second))
    interval = np.exp(list(reference.confidence_interval(0.95)))
    assert found.value == pytest.approx(stats.gmean(first / second))
    assert (found.low, found.high) == (pytest.approx(interval[0]), pytest.approx(interval[1]))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.value != pytest.approx(first.sum() / second.sum(), rel=0.02)
    turned = ratios_over_seeds(second, first)
    assert (turned.low, turned.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


@pytest.mark.parametrize("bad", [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_a_ratio_of_what_is_not_positive_is_refused(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="all above 0"):
        ratios_over_seeds(*bad)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_experiments(seeds: int) -> None:
    least = smallest_detectable_over_seeds(1 / math.sqrt(seeds), seeds)  # of one run the deviation is 1
    drawn = np.random.default_rng(0).normal(least, 1.0, (20000, seeds))
    found = stats.ttest_1samp(drawn, 0.0, axis=1)
    assert np.mean((found.pvalue < 0.05) & (drawn.mean(axis=1) > 0)) == pytest.approx(0.8, abs=0.01)


def test_few_seeds_need_more_than_the_normal_approximation_says_and_many_do_not() -> None:
    normal = st.smallest_detectable_difference(1.0)
    assert smallest_detectable_over_seeds(1.0, 3) > 2 * normal
    assert smallest_detectable_over_seeds(1.0, 400) == pytest.approx(normal, rel=0.01)
    assert smallest_detectable_over_seeds(2.0, 3) == pytest.approx(2 * smallest_detectable_over_seeds(1.0, 3))
    assert math.isnan(smallest_detectable_over_seeds(1.0, 1)) and math.isnan(
        smallest_detectable_over_seeds(math.nan, 3)
    )


def test_intervals_over_seeds_carry_the_name_of_their_method_and_one_of_ratios_says_that_it_is_on_the_log_scale() -> (
    None
):
    assert over_seeds(VALUES).method == "Student t over training seeds"
    assert over_seeds([0.4]).method == "Student t over training seeds"
    assert ratios_over_seeds(VALUES, VALUES[::-1]).method == "Student t over training seeds on the log scale"
