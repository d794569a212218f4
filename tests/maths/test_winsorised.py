"""Winsorised means against scipy's, bootstraps against resampling by hand, and how often the
intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t
from scipy.stats.mstats import winsorize

from decaylab.maths import winsorised as ws

Floats = NDArray[np.float64]


def reference(values: Floats) -> float:
    """A tenth on either side pulled in, by scipy; NaN does not take part."""
    return float(np.mean(winsorize(values[~np.isnan(values)], limits=(0.1, 0.1))))


def of(means: Floats) -> ws.SumsAndCounts:
    """Sums and counts, of 3 tokens a problem, with these means [problems, cells]; NaN is a problem
    without tokens."""
    counts = np.where(np.isnan(means), 0.0, 3.0)
    return np.where(np.isnan(means), 0.0, means) * 3, counts


def skewed(problems: int, cells: int = 3, seed: int = 0) -> Floats:
    means = np.random.default_rng(seed).lognormal(0, 1, (problems, cells))
    means[::4, 1] = math.nan
    return means


# --- values
# ---------------------------------------------------------------------------


def test_a_tenth_is_pulled_in_on_either_side_by_hand() -> None:
    """1 to 10: 10 counts as 9 and 1 as 2: (2 + 2 + 3 + ... + 9 + 9) / 10 = 5.5; with 100 for the 10
    it is the same."""
    values = np.arange(1.0, 11)[:, None]
    assert ws.winsorised(of(values)).value[0] == 5.5
    assert ws.winsorised(of(np.where(values == 10, 100.0, values))).value[0] == 5.5


@pytest.mark.parametrize("problems", [1, 5, 9, 10, 11, 19, 20, 47, 100])
def test_the_value_is_scipys(problems: int) -> None:
    means = skewed(problems)
    found = ws.winsorised(of(means))
    for cell in range(3):
        if problems > 1 or cell != 1:
            assert found.value[cell] == pytest.approx(reference(means[:, cell]))
    assert found.problems.tolist() == (~np.isnan(means)).sum(axis=0).tolist()
    assert found.tokens.tolist() == (3 * found.problems).tolist()


def test_a_problem_counts_with_its_mean_whatever_its_tokens() -> None:
    sums, counts = np.array([[1.0], [40.0], [3.0]]), np.array([[1.0], [20.0], [3.0]])
    assert ws.winsorised((sums, counts)).value[0] == pytest.approx((1 + 2 + 1) / 3)


def test_changes_are_paired_and_have_two_tails() -> None:
    """The mean of the problems' differences, and the geometric mean of their ratios less 1, each
    with its own extremes."""
    before, after = skewed(50), skewed(50, seed=1)
    change, relative = ws.winsorised_change(of(after), of(before))
    for cell in range(3):
        assert change.value[cell] == pytest.approx(reference(after[:, cell] - before[:, cell]))
        ratio = math.exp(reference(np.log(after[:, cell] / before[:, cell])))
        assert relative.value[cell] == pytest.approx(ratio - 1)
    assert change.value[0] != pytest.approx(
        reference(after[:, 0]) - reference(before[:, 0]), rel=0.01
    )


def test_a_problem_without_tokens_on_one_side_or_with_a_kl_of_zero_has_no_change_or_no_ratio() -> (
    None
):
    before, after = np.ones((3, 1)), np.full((3, 1), 2.0)
    before[0], after[1] = math.nan, 0.0
    change, relative = ws.winsorised_change(of(after), of(before))
    assert (change.problems[0], relative.problems[0]) == (2, 1)
    assert (change.value[0], relative.value[0]) == (0.0, pytest.approx(1.0))


# --- the bootstrap
# ---------------------------------------------------------------------------


def test_replicates_are_the_statistic_of_resampled_problems() -> None:
    means = skewed(60)
    found = ws.winsorised(of(means), draws=25, seed=4)
    drawn = np.random.default_rng(4).integers(0, 60, (25, 60))
    for replicate, rows in enumerate(drawn):
        expected = [reference(means[rows, cell]) for cell in range(3)]
        assert found.replicates[replicate] == pytest.approx(np.array(expected))


def test_a_change_is_bootstrapped_over_the_same_problems_on_both_sides() -> None:
    before = skewed(60)
    change, relative = ws.winsorised_change(of(1.1 * before), of(before), draws=50)
    assert np.ptp(relative.replicates[:, 0]) < 1e-12 and relative.alike[0]
    assert change.replicates[:, 0] == pytest.approx(
        0.1 * ws.winsorised(of(before), draws=50).replicates[:, 0]
    )


def test_intervals_are_percentiles_widened_for_few_problems() -> None:
    """With 60 problems t = 2.001, times sqrt(60/59) 2.018: the normal tail .0218 in place of
    .025."""
    found = ws.winsorised(of(skewed(60)))
    low, high = ws.interval(found)
    ordered = np.sort(found.replicates[:, 0])
    assert (
        low[0] == ordered[int(0.0218 * 1999)] and high[0] == ordered[math.ceil((1 - 0.0218) * 1999)]
    )
    assert np.quantile(found.replicates[:, 0], 0.025) > low[0]


def test_a_band_is_bonferroni_over_the_cells_with_problems_enough() -> None:
    means = skewed(140)  # of which 105 reach the second cell
    means[:50, 2] = math.nan  # enough for an interval, too few for a band
    found = ws.winsorised(of(means))
    assert found.problems.tolist() == [140, 105, 90] and found.usable.all()
    for ends, pointwise in zip(ws.band(found), ws.interval(found, level=0.975), strict=True):
        np.testing.assert_array_equal(ends[:2], pointwise[:2])
        assert math.isnan(ends[2])


def test_too_few_problems_and_problems_that_are_alike_have_no_interval() -> None:
    means = np.concatenate([skewed(ws.LEAST_PROBLEMS), np.ones((ws.LEAST_PROBLEMS, 1))], axis=1)
    found = ws.winsorised(of(means))
    assert found.usable.tolist() == [True, False, True, False]
    assert found.alike.tolist() == [False, False, False, True]
    low, high = ws.interval(found)
    assert (
        np.isnan([low[1], high[3], found.standard_error[1]]).all()
        and np.isfinite([low[0], high[2]]).all()
    )
    assert np.isnan(ws.band(ws.winsorised(of(means[:9])))[0]).all()


def test_no_problem_and_a_value_that_is_not_finite_have_no_number() -> None:
    nothing = ws.winsorised((np.zeros((0, 2)), np.zeros((0, 2))))
    assert np.isnan(nothing.value).all() and nothing.problems.tolist() == [0, 0]
    means = skewed(60)
    means[5, 0] = math.inf
    found = ws.winsorised(of(means))
    assert math.isnan(found.value[0]) and not found.usable[0] and found.usable[1]


def test_where_nine_problems_in_ten_are_alike_there_is_no_interval_of_width_zero() -> None:
    means = np.zeros((200, 2))
    means[:10, 0], means[:50, 1] = 1.0, 1.0
    found = ws.winsorised(of(means))
    assert found.alike.tolist() == [True, False] and found.usable.tolist() == [False, True]
    assert np.isnan(ws.interval(found)[0][0]) and np.isnan(ws.band(found)[0][0])


def test_what_is_infinite_on_one_side_or_both_leaves_no_change_instead_of_dropping_out() -> None:
    for before, after in ((math.inf, 1.0), (1.0, math.inf), (math.inf, math.inf)):
        early, late = skewed(60), skewed(60, seed=1)
        early[7, 0], late[7, 0] = before, after
        for found in ws.winsorised_change(of(late), of(early)):
            assert math.isnan(found.value[0]) and not found.usable[0] and found.usable[2]


def test_of_more_cells_than_the_draws_reach_for_there_is_no_band() -> None:
    few, many = (
        ws.winsorised(of(np.random.default_rng(0).lognormal(0, 1, (120, cells))))
        for cells in (25, 26)
    )
    assert np.isfinite(ws.band(few)[0]).all() and np.isnan(ws.band(many)[0]).all()
    assert np.isfinite(ws.interval(many)[0]).all()


def test_a_band_takes_two_draws_beyond_each_end() -> None:
    """A quarter lies beyond either end of a band of level .5 in one cell: 2 of 8 draws, and fewer
    than 2 of 7."""
    means = skewed(120, cells=2)[:, :1]
    enough, too_few = (
        ws.band(ws.winsorised(of(means), draws=draws), level=0.5) for draws in (8, 7)
    )
    assert np.isfinite(enough).all() and np.isnan(too_few).all()


def test_an_interval_takes_40_problems_and_a_band_100_and_is_the_interval_itself_where_no_other_cell_has_them() -> (  # noqa: E501
    None
):
    means = np.random.default_rng(3).lognormal(0, 1, (100, 4))
    for cell, present in enumerate((100, 99, 40, 39)):
        means[present:, cell] = math.nan
    found = ws.winsorised(of(means))
    assert found.usable.tolist() == [True, True, True, False]
    for ends, pointwise in zip(ws.band(found), ws.interval(found), strict=True):
        assert ends[0] == pointwise[0] and np.isnan(ends[1:]).all()


def test_the_error_is_the_deviation_of_the_replicates() -> None:
    found = ws.winsorised(of(skewed(60)), draws=7)
    draws = found.replicates[:, 0]
    assert found.standard_error[0] == pytest.approx(
        math.sqrt(np.sum((draws - draws.mean()) ** 2) / 6)
    )


def test_by_default_2000_draws_of_the_seed_0() -> None:
    means, earlier = skewed(60), skewed(60, seed=1)
    change, relative = ws.winsorised_change(of(means), of(earlier))
    rows = np.random.default_rng(0).integers(0, 60, (2000, 60))[-1]
    for found, values in (
        (ws.winsorised(of(means)), reference(means[rows, 0])),
        (change, reference(means[rows, 0] - earlier[rows, 0])),
        (relative, math.exp(reference(np.log(means[rows, 0] / earlier[rows, 0]))) - 1),
    ):
        assert len(found.replicates) == 2000 and found.replicates[-1, 0] == pytest.approx(values)


def test_problems_of_nothing_but_zeros_are_alike_and_one_that_differs_is_not() -> None:
    means = np.zeros((60, 2))
    means[:30, 1] = 1e-9
    found = ws.winsorised(of(means))
    assert found.alike.tolist() == [True, False] and math.isnan(found.standard_error[0])


def test_one_token_on_either_side_is_enough_for_a_change_and_none_is_not() -> None:
    after = np.array([[2.0], [5.0], [9.0], [0.0]]), np.array([[1.0], [2.0], [3.0], [0.0]])
    before = np.array([[6.0], [1.0], [0.0], [4.0]]), np.array([[2.0], [1.0], [0.0], [1.0]])
    change, relative = ws.winsorised_change(after, before)
    assert change.problems.tolist() == relative.problems.tolist() == [2]
    assert (change.value[0], change.tokens[0]) == (pytest.approx((2 - 3 + 2.5 - 1) / 2), 4)


@pytest.mark.parametrize("problems", [40, 41, 60])
def test_the_percentiles_are_those_of_students_t_of_one_degree_of_freedom_less_than_problems(
    problems: int,
) -> None:
    """Of replicates that are as even as a ruler, so that each end is its percentile."""
    ruler = ws.Winsorised(
        np.array([0.5]), np.linspace(0, 1, 100_001)[:, None], np.array([problems]), np.array([900])
    )
    tail = norm.cdf(math.sqrt(problems / (problems - 1)) * t.ppf(0.025, problems - 1))
    low, high = ws.interval(ruler)
    assert (low[0], high[0]) == pytest.approx((tail, 1 - tail), abs=1.1e-5)


def test_a_problem_has_a_ratio_where_both_sides_are_above_0_and_their_ratio_is() -> None:
    """The ratio of the last, 1e-200 / 1e200, is less than any number above 0."""
    after, before = (
        np.array([[3.0], [2.0], [0.0], [0.0], [1e-200]]),
        np.array([[1.0], [0.0], [2.0], [0.0], [1e200]]),
    )
    change, relative = ws.winsorised_change(of(after), of(before))
    assert (change.problems[0], relative.problems[0]) == (5, 1) and relative.value[
        0
    ] == pytest.approx(2.0)


def test_problems_needed_by_hand() -> None:
    """15 of 60 reach the cell, a quarter: 40 need 160 problems. None of 30 does: more than any
    number can be said of."""
    assert (ws.problems_needed(15, 60), ws.problems_needed(39, 60)) == (160, 62)
    assert ws.problems_needed(0, 30) == ws.problems_needed(1, 30) == 1200


def test_the_largest_share_by_hand() -> None:
    assert ws.largest_share(np.array([[1.0, 0.0], [3.0, 0.0]]))[0] == 0.75
    assert ws.largest_share(np.array([[0.1], [0.3]]))[0] == pytest.approx(0.75)
    assert np.isnan(ws.largest_share(np.array([[0.0, math.inf, -1.0], [0.0, 1.0, 0.5]]))).all()


# --- coverage
# ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("population", "problems"), [("embedded pair", 60), ("log-normal", 60), ("log-normal", 200)]
)
def test_intervals_and_bands_hold(population: str, problems: int) -> None:
    """.95 nominal, .93 asked; 60 draws here, so that a rate of .93 may be seen as low as .93 - 3 x
    .033 = .831 in a cell.

    1,000 draws of each are in benchmarks/results/coverage-bins.json.
    """
    from coverage_parts import bins

    found = bins.coverage(population, problems, draws=60)
    rates = np.array([row["coverage"] for row in found])
    assert rates.min() >= 0.831 and rates.mean() >= 0.935
    bands = [row["band"] for row in found if "band" in row]
    assert not bands if problems == 60 else min(bands) >= 0.831
