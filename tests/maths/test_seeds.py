"""Means over training seeds against scipy's t test, and what so few seeds can show against
simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from decaylab.maths import statistics as st
from decaylab.maths.seeds import (
    ALIKE,
    APART,
    DISAGREE,
    ONE_SEED,
    TWO_SEEDS,
    apart_by,
    disagree,
    over_seeds,
    power_over_seeds,
    ratios_over_seeds,
    seeds_that_decide,
    smallest_detectable_over_seeds,
)

VALUES = np.array([0.61, 0.64, 0.58, 0.70])


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [3, 4])
def test_mean_interval_and_p_are_those_of_scipys_t_test(count: int, level: float) -> None:
    """The normal quantile, G degrees of freedom or a deviation over G would give another
    interval."""
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
    assert (found.value, found.standard_error) == (
        pytest.approx(0.6),
        pytest.approx(0.0577, abs=1e-4),
    )
    assert (found.low, found.high) == (
        pytest.approx(0.3516, abs=1e-4),
        pytest.approx(0.8484, abs=1e-4),
    )


def test_one_seed_or_seeds_that_agree_have_no_interval_and_say_why() -> None:
    one, same, none = over_seeds([0.4]), over_seeds([0.4, 0.4, 0.4]), over_seeds([])
    two = over_seeds([0.4, 0.5])
    assert (one.value, one.note) == (0.4, ONE_SEED) and (same.value, same.note) == (
        pytest.approx(0.4),
        ALIKE,
    )
    assert (two.value, two.note) == (pytest.approx(0.45), TWO_SEEDS)
    assert (two.standard_error, same.standard_error) == (pytest.approx(0.05), 0.0)
    assert math.isnan(none.value) and none.note == "no run"
    for found in (one, two, same, none):
        assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.p_value)


def test_seeds_that_differ_by_rounding_alone_agree_and_those_that_differ_by_more_do_not() -> None:
    """Neighbouring numbers near 1,000,000 lie 1e-10 apart. Of .5 and 2.6e-12 either side the error
    is 1.5e-12."""
    large = 1e6 + math.pi
    for values in ([large, np.nextafter(large, 0), large], [0.1 + 0.2 - 0.3, 0.0, 0.0]):
        assert over_seeds(values).note == ALIKE
    assert over_seeds([0.5 - 2.6e-12, 0.5, 0.5 + 2.6e-12]).note == ""


def test_ratios_are_the_t_test_of_the_paired_logarithms() -> None:
    """The ratio of the means, or logarithms that are not paired, would differ: the runs of a seed
    go together."""
    first, second = np.array([1.0, 2.0, 8.0]), np.array([2.0, 5.0, 14.0])
    found = ratios_over_seeds(first, second)
    reference = stats.ttest_rel(np.log(first), np.log(second))
    interval = np.exp(list(reference.confidence_interval(0.95)))
    assert found.value == pytest.approx(stats.gmean(first / second))
    assert (found.low, found.high) == (pytest.approx(interval[0]), pytest.approx(interval[1]))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.standard_error == pytest.approx(found.value * stats.sem(np.log(first / second)))
    assert found.value != pytest.approx(first.sum() / second.sum(), rel=0.02)
    turned = ratios_over_seeds(second, first)
    assert (turned.low, turned.high) == (
        pytest.approx(1 / found.high),
        pytest.approx(1 / found.low),
    )


@pytest.mark.parametrize("bad", [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_a_ratio_of_what_is_not_positive_is_refused(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="all values above 0"):
        ratios_over_seeds(*bad)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_experiments(
    seeds: int,
) -> None:
    least = smallest_detectable_over_seeds(
        1 / math.sqrt(seeds), seeds
    )  # of one run the deviation is 1
    drawn = np.random.default_rng(0).normal(least, 1.0, (20000, seeds))
    found = stats.ttest_1samp(drawn, 0.0, axis=1)
    assert np.mean((found.pvalue < 0.05) & (drawn.mean(axis=1) > 0)) == pytest.approx(0.8, abs=0.01)


def test_one_number_is_compared_unless_more_are_named() -> None:
    """Of the noncentral t: 5 seeds find an effect of 1.7 deviations in 81 % of cases alone, in
    fewer as one of two numbers."""
    critical = stats.t.ppf(0.975, 4)
    assert power_over_seeds(5, 1.7) == pytest.approx(stats.nct.sf(critical, 4, 1.7 * math.sqrt(5)))
    assert seeds_that_decide(1.7) == 5 < seeds_that_decide(1.7, numbers=2)


@pytest.mark.parametrize(("level", "power"), [(0.1, 0.5), (0.1, 0.6), (0.5, 0.3), (0.95, 0.9)])
def test_the_smallest_detectable_difference_has_the_power_of_the_noncentral_t(
    level: float, power: float
) -> None:
    least = smallest_detectable_over_seeds(1.0, 4, level=level, power=power)
    assert stats.nct.sf(stats.t.ppf(0.5 + level / 2, 3), 3, least) == pytest.approx(power)


def test_few_seeds_need_more_than_the_normal_approximation_says_and_many_do_not() -> None:
    normal = st.smallest_detectable_difference(1.0)
    assert smallest_detectable_over_seeds(1.0, 3) > 2 * normal
    assert smallest_detectable_over_seeds(1.0, 400) == pytest.approx(normal, rel=0.01)
    assert smallest_detectable_over_seeds(2.0, 3) == pytest.approx(
        2 * smallest_detectable_over_seeds(1.0, 3)
    )
    for error, seeds in ((1.0, 1), (math.nan, 3), (0.0, 3)):
        assert math.isnan(smallest_detectable_over_seeds(error, seeds))


def test_intervals_over_seeds_carry_the_name_of_their_method_and_one_of_ratios_says_that_it_is_on_the_log_scale() -> (  # noqa: E501
    None
):
    assert over_seeds(VALUES).method == "Student t over training seeds"
    assert over_seeds([0.4]).method == "Student t over training seeds"
    assert (
        ratios_over_seeds(VALUES, VALUES[::-1]).method
        == "Student t over training seeds on the log scale"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.60, 0.62, 0.20], True),
        ([0.20, 0.62, 0.60], True),
        ([0.5, 0.59, 0.68], False),
        ([0.5, 0.6001], False),
        ([0.1, 0.1, 0.9, 0.9], True),
        ([0.5], False),
    ],
)
def test_seeds_disagree_where_neighbours_lie_apart(values: list[float], expected: bool) -> None:
    """The range would not do: three seeds 9 points from each other span 18 and vary around one
    value."""
    assert disagree(values, 0.11) is expected


def test_neighbours_as_far_apart_as_allowed_agree() -> None:
    assert disagree([0.75, 0.5, 1.0], 0.25) is False and disagree([0.75, 0.5, 1.0], 0.2499) is True


@pytest.mark.parametrize(("factor", "note"), [(1.45, ""), (1.55, DISAGREE)])
def test_neighbouring_ratios_disagree_beyond_a_factor_of_one_and_a_half(
    factor: float, note: str
) -> None:
    assert ratios_over_seeds([1.0, factor, factor**2], [1.0] * 3).note == note


def test_seeds_that_disagree_have_no_interval_and_say_so() -> None:
    found = over_seeds([0.60, 0.62, 0.20], apart=APART)
    assert found.value == pytest.approx(0.4733, abs=1e-4) and found.note == DISAGREE
    assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.p_value)
    assert not math.isnan(over_seeds([0.60, 0.62, 0.20]).low), (
        "of what may vary by any amount t is given"
    )
    ratios = ratios_over_seeds([0.2, 0.33, 1.4], [1.0, 1.0, 1.0])
    assert ratios.note == DISAGREE and math.isnan(ratios.high) and 0.2 < ratios.value < 1.4
    assert not math.isnan(ratios_over_seeds([0.2, 0.25, 0.3], [1.0, 1.0, 1.0]).low)


def test_seeds_of_few_problems_may_lie_further_apart_by_chance() -> None:
    assert (
        apart_by([0.01, 0.02]) == APART and apart_by([]) == APART and apart_by([math.nan]) == APART
    )
    assert apart_by([0.02, 0.05]) == pytest.approx(0.2)


@pytest.mark.parametrize(("seeds", "numbers"), [(3, 1), (3, 6), (5, 6)])
def test_the_power_over_seeds_is_that_of_the_corrected_t_test(seeds: int, numbers: int) -> None:
    drawn = np.random.default_rng(0).normal(3.0, 1.0, (20000, seeds))
    found = stats.ttest_1samp(drawn, 0.0, axis=1)
    rate = np.mean((found.pvalue < 0.05 / numbers) & (found.statistic > 0))
    assert power_over_seeds(seeds, 3.0, numbers=numbers) == pytest.approx(rate, abs=0.01)


def test_the_seeds_that_decide_are_the_fewest_with_the_power() -> None:
    """Six arms, an effect of 3 deviations: 3 seeds find it in 21 % of cases, 4 in 56 %, 5 in 86
    %."""
    assert [round(power_over_seeds(seeds, 3.0, numbers=6), 2) for seeds in (2, 3, 4, 5)] == [
        0.04,
        0.21,
        0.56,
        0.86,
    ]
    assert (
        seeds_that_decide(3.0, numbers=6) == 5
        and seeds_that_decide(3.0) == 4
        and seeds_that_decide(100.0) == 3
    )
    assert seeds_that_decide(0.5) == math.ceil((1.96 + 0.84) ** 2 / 0.25) + 2, (
        "near the normal approximation"
    )
    assert power_over_seeds(1, 3.0) == 0
    assert seeds_that_decide(3.0, power=power_over_seeds(4, 3.0)) == 4, (
        "exactly the power that is asked"
    )
    with pytest.raises(ValueError, match="effect must be above 0"):
        seeds_that_decide(0.0)
