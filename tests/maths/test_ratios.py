"""Fieller's interval against its definition: the ratios that a clustered t test does not reject."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import t

from decaylab.maths.ratios import NO_DENOMINATOR, OPEN_ENDED, ratio_of_differences
from decaylab.maths.statistics import ONE_PROBLEM, Estimate


def drawn(seed: int, problems: int, handed: float = 0.6, teacher: float = 0.8) -> list[np.ndarray]:
    """Grades of what was handed back, the student and the teacher; problems of unequal sizes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(problems), rng.integers(1, 6, problems))
    easy = rng.uniform(-0.2, 0.2, problems)[codes]
    grades = [
        (rng.random(codes.size) < np.clip(mean + easy, 0, 1)).astype(float)
        for mean in (handed, 0.35, teacher)
    ]
    return [*grades, codes]


def shares(columns: list[np.ndarray], level: float = 0.95) -> Estimate:
    handed, student, teacher, codes = columns
    return ratio_of_differences((handed, student), (teacher, student), codes, level=level)


def statistic(ratio: float, columns: list[np.ndarray]) -> float:
    """t of the mean of (handed - student) - ratio (teacher - student), problem by problem."""
    handed, student, teacher, codes = columns
    values = (handed - student) - ratio * (teacher - student)
    mean, total = values.mean(), 0.0
    for problem in np.unique(codes):
        total += (values[codes == problem] - mean).sum() ** 2
    count = np.unique(codes).size
    return float(mean / (math.sqrt(count / (count - 1) * total) / values.size))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ends_are_the_ratios_at_which_the_t_test_turns(seed: int, level: float) -> None:
    columns = drawn(seed, 40)
    found = shares(columns, level)
    quantile = t.ppf((1 + level) / 2, np.unique(columns[3]).size - 1)
    low = brentq(lambda r: statistic(r, columns) - quantile, found.value - 2, found.value)
    high = brentq(lambda r: statistic(r, columns) + quantile, found.value, found.value + 2)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.problems == 40 and found.rollouts == columns[3].size and not found.note


def test_the_value_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    # Problem by problem, gains .5 of 1 and 1 of .5: the ratios are .5 and 2, that of sums is 1.
    handed, student, teacher = [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]
    columns = [np.tile(column, 30).astype(float) for column in (handed, student, teacher)]
    codes = np.repeat(np.arange(60), 2)
    assert shares([*columns, codes]).value == pytest.approx(3 / 3)
    uneven = np.r_[columns[0], 1.0], np.r_[columns[1], 0.0], np.r_[columns[2], 0.0], np.r_[codes, 0]
    assert shares([*uneven]).value == pytest.approx(91 / 90)


def test_the_interval_is_not_that_of_the_linearised_error() -> None:
    columns = drawn(1, 25)
    found = shares(columns)
    reach = t.ppf(0.975, 24) * found.standard_error
    ends = found.value - found.low, found.high - found.value
    assert abs(ends[0] - ends[1]) > 0.02 and min(abs(end - reach) for end in ends) > 0.005


def test_the_standard_error_is_that_of_replicates() -> None:
    found = [shares(drawn(seed, 120)) for seed in range(300)]
    values = np.array([one.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(values.std(), rel=0.12)


def test_a_share_of_nothing_is_undefined() -> None:
    found = shares(drawn(0, 30, teacher=0.35))
    assert math.isnan(found.value) and math.isnan(found.low) and found.note == NO_DENOMINATOR
    assert found.problems == 30


def test_an_interval_is_unbounded_where_the_denominator_is_not_shown() -> None:
    """Between 2 standard errors and the t quantile of 4 problems, which is 3.18."""
    handed, student = np.array([1.0, 0, 1, 1]), np.zeros(4)
    teacher = np.array([1.0, 1, 0, 1])  # .75, standard error .25: 3 of them
    found = ratio_of_differences((handed, student), (teacher, student), np.arange(4))
    assert found.value == pytest.approx(1) and found.note == OPEN_ENDED
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_negative_denominator_is_one_too() -> None:
    handed, student, teacher, codes = drawn(2, 60)
    turned = ratio_of_differences((handed, student), (student, teacher), codes)
    assert turned.value == pytest.approx(-shares([handed, student, teacher, codes]).value)


def test_one_problem_and_none_are_undefined() -> None:
    one = ratio_of_differences(([1.0, 0], [0.0, 0]), ([1.0, 1], [0.0, 0]), [3, 3])
    none = ratio_of_differences(([], []), ([], []), [])
    assert math.isnan(one.value) and one.note == ONE_PROBLEM
    assert math.isnan(none.value) and none.note == "no rollouts" and none.rollouts == 0


def test_values_outside_0_and_1_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        ratio_of_differences(([2.0], [0.0]), ([1.0], [0.0]), [0])


def test_a_denominator_of_exactly_2_standard_errors_is_within_them() -> None:
    # .75 and .25: mean .5, and an error of half their distance.
    found = ratio_of_differences(([1.0, 0], [0.0, 0]), ([0.75, 0.25], [0.0, 0]), [0, 1])
    assert math.isnan(found.value) and found.note == NO_DENOMINATOR


def test_a_small_denominator_that_does_not_vary_is_enough_even_over_2_problems() -> None:
    found = ratio_of_differences(([0.06, 0.06], [0.0, 0]), ([0.05, 0.05], [0.0, 0]), [0, 1])
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))
    nothing = ratio_of_differences(([1.0, 1], [0.0, 0]), ([0.5, 0.5], [0.5, 0.5]), [0, 1])
    assert math.isnan(nothing.value) and nothing.note == NO_DENOMINATOR
