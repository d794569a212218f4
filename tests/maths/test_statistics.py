"""Each estimate against a definition written another way, a hand-sized case, its corners, and a
near miss."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import reference
from coverage_parts import error, paired
from scipy.stats import chi2, norm, t
from simulate import clustered, grades, layout, ragged

from decaylab.maths.clusters import per_problem_sums
from decaylab.maths.statistics import (
    Estimate,
    avg_at_k,
    cautious_error,
    holm,
    influence,
    paired_difference,
    pass_at_k,
    proportion,
    sign_flip_p,
    simultaneous_critical,
    smallest_detectable_difference,
    wilson,
)

# Three problems of two rollouts: all right, half right, all wrong.
THREE = np.array([7, 7, -2, -2, 40, 40])
HALF = np.array([1.0, 1, 1, 0, 0, 0])
SIXTH = np.array([1.0, 0, 0, 0, 0, 0])


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


# --- proportion
# ---------------------------------------------------------------------------


def test_proportion_of_three_problems_by_hand() -> None:
    """Scores 1, 0, -1: SE = sqrt(3/2 * 2) / 6 = .2887; unclustered it is .204, without G/(G-1)
    .236.

    A pseudo-problem has size (4+4+4)/6 = 2; spread 3/2 * 2 + 1/2 * 4 * (1/4 + 1/4) = 4; size 6 * 8
    * (1/4) / 4 = 3.
    """
    estimate = proportion(HALF, THREE)
    assert estimate.value == 0.5
    assert estimate.standard_error == pytest.approx(math.sqrt(3) / 6)
    assert (estimate.low, estimate.high) == pytest.approx(
        reference.wilson(0.5, 3.0, float(t.ppf(0.975, 2)))
    )
    assert (estimate.problems, estimate.rollouts, estimate.note) == (3, 6, "")


def test_proportion_agrees_with_the_slow_definition() -> None:
    x, _, problems, _ = ragged()
    expected = reference.proportion_interval(x.tolist(), problems.tolist(), float(t.ppf(0.95, 24)))
    estimate = proportion(x, problems, level=0.9)
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert estimate.standard_error == pytest.approx(
        reference.clustered_se(list(x), list(problems), [1.0] * x.size)
    )


def test_weighted_proportion_is_the_ratio_with_its_linearised_error() -> None:
    x, _, problems, weights = ragged()
    estimate = proportion(x, problems, weights=weights)
    assert estimate.value == pytest.approx(np.average(x, weights=weights))
    assert estimate.standard_error == pytest.approx(
        reference.clustered_se(list(x), list(problems), list(weights))
    )


def test_scaling_the_weights_changes_nothing_and_a_zero_weight_is_an_absence() -> None:
    x, _, problems, weights = ragged()
    plain, scaled = (
        proportion(x, problems, weights=weights),
        proportion(x, problems, weights=weights * 1000),
    )
    assert (plain.low, plain.high) == pytest.approx((scaled.low, scaled.high))
    weights[problems == problems[0]] = 0
    kept = problems != problems[0]
    assert proportion(x, problems, weights=weights) == proportion(
        x[kept], problems[kept], weights=weights[kept]
    )


def test_order_and_names_of_problems_do_not_matter() -> None:
    x, _, problems, _ = ragged()
    order = np.random.default_rng(1).permutation(x.size)
    a, b = proportion(x, problems), proportion(x[order], -3 * problems[order])
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_the_estimand_is_the_mean_over_rollouts_not_over_problems() -> None:
    assert proportion([1, 0, 0, 0], [0, 1, 1, 1]).value == 0.25


def test_repeating_a_rollout_adds_no_evidence() -> None:
    x, _, problems, _ = ragged()
    once, thrice = proportion(x, problems), proportion(np.repeat(x, 3), np.repeat(problems, 3))
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high), abs=0.01)
    assert once.standard_error == pytest.approx(thrice.standard_error)


def test_a_problem_mean_on_each_of_its_rollouts_stands_for_the_rollouts() -> None:
    x, _, problems, _ = ragged()
    codes, place = np.unique(problems, return_inverse=True)
    means = (per_problem_sums(x, problems, codes) / np.bincount(place))[place]
    raw, averaged = proportion(x, problems), proportion(means, problems)
    assert (raw.value, raw.standard_error) == pytest.approx(
        (averaged.value, averaged.standard_error)
    )
    assert (raw.low, raw.high) == pytest.approx((averaged.low, averaged.high))


def test_all_right_counts_problems_not_rollouts() -> None:
    """30 problems all right: low = n / (n + t^2) = 30 / (30 + 2.045^2) = .878, whatever the number
    of samples."""
    for samples in (1, 4, 64):
        estimate = proportion(np.ones(30 * samples), np.repeat(np.arange(30), samples))
        assert estimate.low == pytest.approx(30 / (30 + t.ppf(0.975, 29) ** 2))
        assert (estimate.value, estimate.high, estimate.standard_error) == (1.0, 1.0, 0.0)


def test_no_more_evidence_than_rollouts() -> None:
    """38 problems of one right and one wrong, one of each extreme: p(1-p) / SE^2 is far above the
    80 rollouts."""
    x, problems, multiplier = (
        np.tile([1.0, 0.0], 40),
        np.repeat(np.arange(40), 2),
        float(t.ppf(0.975, 39)),
    )
    x[:4] = [1, 1, 0, 0]
    estimate = proportion(x, problems)
    assert (estimate.low, estimate.high) == pytest.approx(reference.wilson(0.5, 80, multiplier))
    weights = np.where(problems < 20, 1.0, 3.0)  # sum(w)^2 / sum(w^2) = 160^2 / 400 = 64
    estimate = proportion(x, problems, weights=weights)
    assert (estimate.low, estimate.high) == pytest.approx(reference.wilson(0.5, 64, multiplier))


def test_right_and_wrong_mirror_each_other() -> None:
    x, _, problems, _ = ragged()
    right, wrong = proportion(x, problems), proportion(1 - x, problems)
    assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1 - wrong.low))


def test_one_problem_has_a_value_but_no_interval_and_none_has_neither() -> None:
    one, none = proportion([1, 0], [3, 3]), proportion([], [])
    assert (
        one.value == 0.5
        and one.note
        and all(map(math.isnan, (one.low, one.high, one.standard_error)))
    )
    assert math.isnan(none.value) and none.note == "no rollouts" and none.rollouts == 0


def test_a_critical_value_widens_and_never_narrows() -> None:
    plain, wide = proportion(HALF, THREE), proportion(HALF, THREE, critical=6.0)
    assert wide.low < plain.low and wide.high > plain.high and wide.method != plain.method
    assert proportion(HALF, THREE, critical=1.0).low == plain.low


def test_intervals_carry_the_name_of_their_method_and_a_band_says_that_it_is_one() -> None:
    """Also where there is no interval."""
    names = {
        proportion: "clustered Wilson",
        partial(paired_difference, SIXTH): "paired t with pseudo-problems",
    }
    for interval, name in names.items():
        assert interval(HALF, THREE).method == name
        assert interval(HALF, THREE, critical=3.0).method == f"simultaneous {name}"
    lone, none = proportion([1, 0], [4, 4]), proportion([], [])
    assert lone.method == none.method == "clustered Wilson" and (lone.problems, none.problems) == (
        1,
        0,
    )


def test_wilsons_ends_stay_within_0_and_1_to_the_bit_and_hold_the_value() -> None:
    """In floating point the formula itself leaves them by a rounding error."""
    values, sizes = np.linspace(0, 1, 101)[:, None], np.arange(1, 400)[None]
    low, high = wilson(values, sizes, 1.96)
    assert low.min() == 0 and high.max() == 1 and (low <= values).all() and (values <= high).all()


@pytest.mark.parametrize(
    ("values", "problems", "weights", "level"),
    [
        ([1, 2], [0, 1], None, 0.95),
        ([1, np.nan], [0, 1], None, 0.95),
        ([1, 0], [0], None, 0.95),
        ([1, 0], [0, 1], [1, -1], 0.95),
        ([1, 0], [0, 1], [1], 0.95),
        ([1, 0], [0.5, 1], None, 0.95),
        ([1, 0], [0, 1], None, 95),
    ],
)
def test_misuse_is_a_value_error(
    values: list[float], problems: list[int], weights: list[float], level: float
) -> None:
    with pytest.raises(ValueError):
        proportion(values, problems, weights=weights, level=level)


# --- paired difference
# ---------------------------------------------------------------------------


def test_paired_difference_of_three_problems_by_hand() -> None:
    """Differences sum to 1, 1, 0 a problem; scores 1/3, 1/3, -2/3; SE = sqrt(3/2 * 6/9) / 6 = 1/6.

    Without G/(G-1) it is .136; from the two SEs as if independent, sqrt(.2887^2 + .1667^2) = .333.
    """
    estimate = paired_difference(HALF, SIXTH, THREE)
    assert estimate.value == pytest.approx(1 / 3)
    assert estimate.standard_error == pytest.approx(1 / 6)


@pytest.mark.parametrize("seed", range(5))
def test_paired_difference_agrees_with_the_slow_definition(seed: int) -> None:
    x, y, problems, weights = ragged(seed)
    multiplier = float(t.ppf(0.975, 24))
    for given in (np.ones(x.size), weights):
        expected = reference.paired_interval(
            x.tolist(), y.tolist(), problems.tolist(), given.tolist(), multiplier
        )
        estimate = paired_difference(x, y, problems, weights=given)
        assert (estimate.low, estimate.high) == pytest.approx(expected)
    weighted = paired_difference(x, y, problems, weights=weights)
    assert weighted.standard_error == pytest.approx(
        reference.clustered_se(list(x - y), list(problems), list(weights))
    )


def test_swapping_the_arms_mirrors_the_difference() -> None:
    x, y, problems, _ = ragged()
    a, b = paired_difference(x, y, problems), paired_difference(y, x, problems)
    assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low))


def test_equal_outcomes_leave_a_width_that_shrinks_with_more_problems() -> None:
    widths = []
    for count in (20, 80, 320):
        problems = np.repeat(np.arange(count), 4)
        estimate = paired_difference(problems % 2, problems % 2, problems)
        assert estimate.value == 0 and estimate.low == pytest.approx(-estimate.high)
        widths.append(estimate.high)
    assert widths[0] > widths[1] > widths[2] > 0.005


def test_identical_outcomes_count_as_one_whole_difference_either_way() -> None:
    """Whatever the outcomes and the samples: t sqrt(2) / 30 = .096. Tango's score interval has t^2
    / (30 + t^2) = .122."""
    problems = np.repeat(np.arange(30), 4)
    for outcomes in (np.ones(120), problems % 3 > 0, np.arange(120) % 2):
        estimate = paired_difference(outcomes, outcomes, problems)
        assert (
            estimate.high == pytest.approx(t.ppf(0.975, 29) * math.sqrt(2) / 30)
            and estimate.low == -estimate.high
        )


def test_one_problem_that_differs_by_hand() -> None:
    """-1 in one of 10: deviations -.9 and nine of .1; their squares sum to .9, cubes to -.72,
    fourth powers to .657.

    K = .81 / .657 = 1.2329; pseudo (.9 + .2) / 1.3329 = .8253; SE sqrt(10/9 * .9 + .8253) / 10 =
    .13510; the middle moves from -.1 by -.72 / .9 / 2 / 10 = -.04.
    """
    estimate = paired_difference(np.r_[0.0, np.ones(9)], np.ones(10), np.arange(10))
    assert estimate.low == pytest.approx(-0.14 - t.ppf(0.975, 9) * 0.13510, abs=1e-4)
    assert estimate.high == pytest.approx(-0.14 + t.ppf(0.975, 9) * 0.13510, abs=1e-4)


def test_small_differences_say_little_of_larger_ones_by_hand() -> None:
    """1/4 in one of 10 either way: squares sum to 1/8, fourth powers to 1/128. K = 2, but 4 sum d^2
    = 1/2.

    Pseudo (.125 + .2) / (.5 + .1) = .54167, not .325 / 2.1; SE sqrt(10/9 * .125 + .54167) / 10 =
    .082496.
    """
    first, second = np.ones(40), np.ones(40)
    first[0] = second[4] = 0
    estimate = paired_difference(first, second, np.repeat(np.arange(10), 4))
    assert (
        estimate.high == pytest.approx(t.ppf(0.975, 9) * 0.082496, rel=1e-4)
        and estimate.low == -estimate.high
    )


def test_a_fall_of_30_points_over_6_problems_is_shown() -> None:
    """16 samples each, -5/16 on average; two squared-and-added Wilson intervals give [-.63,
    .07]."""
    first, second = np.ones((6, 16)), np.ones((6, 16))
    for row, wrong in zip(second, (3, 6, 5, 4, 6, 6), strict=True):
        row[:wrong] = 0
    estimate = paired_difference(second.ravel(), first.ravel(), np.repeat(np.arange(6), 16))
    assert estimate.value == -0.3125 and estimate.low > -0.55 and estimate.high < -0.1


def test_the_interval_holds_its_value_even_where_it_is_skewed() -> None:
    for level in (0.01, 0.2, 0.95):
        estimate = paired_difference(
            np.r_[0.0, np.ones(9)], np.ones(10), np.arange(10), level=level
        )
        assert estimate.low <= estimate.value <= estimate.high


def test_pairing_narrows_what_goes_together() -> None:
    x, y, problems, _ = ragged(count=200)
    away = np.random.default_rng(5).permutation(y.size)
    paired, shuffled = paired_difference(x, y, problems), paired_difference(x, y[away], problems)
    assert paired.high - paired.low < 0.9 * (shuffled.high - shuffled.low)


def test_all_right_against_all_wrong_stays_within_one() -> None:
    estimate = paired_difference(np.ones(40), np.zeros(40), np.repeat(np.arange(10), 4))
    assert (estimate.value, estimate.high) == (1.0, 1.0) and 0 < estimate.low < 1
    turned = paired_difference(np.zeros(40), np.ones(40), np.repeat(np.arange(10), 4))
    assert (turned.value, turned.low) == (-1.0, -1.0) and -1 < turned.high < 0


def test_two_problems_have_an_interval() -> None:
    """At a level that leaves it within -1 and 1, since t of one degree of freedom is wide."""
    x, y, problems = [1.0, 1, 0], [0.0, 1, 0], [0, 0, 1]
    expected = reference.paired_interval(x, y, problems, [1.0] * 3, float(t.ppf(0.6, 1)))
    estimate = paired_difference(x, y, problems, level=0.2)
    assert (estimate.low, estimate.high) == pytest.approx(
        expected
    ) and -1 < estimate.low < estimate.high < 1


def test_a_difference_over_one_problem_has_no_interval() -> None:
    estimate = paired_difference([1, 1], [0, 1], [3, 3])
    assert estimate.value == 0.5 and math.isnan(estimate.low) and estimate.note
    assert paired_difference([1, 0, 0, 0], [0, 0, 0, 0], [3] * 4).value == 0.25
    assert math.isnan(paired_difference([], [], []).value)


# --- coverage
# ---------------------------------------------------------------------------

COVERAGE = [
    (sizes, count, icc)
    for sizes in ("equal", "unequal")
    for count in (30, 200)
    for icc in (0.0, 0.3, 0.7)
]


def coverage(draw: Callable[[np.random.Generator], bool], replicates: int = 800) -> float:
    """Share of the replicates that hold the truth; three standard errors of it are .023 at .95."""
    rng = np.random.default_rng(11)
    return sum(draw(rng) for _ in range(replicates)) / replicates


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(("sizes", "count", "icc"), COVERAGE)
def test_proportion_covers_at_its_rate(sizes: str, count: int, icc: float, accuracy: float) -> None:
    def draw(rng: np.random.Generator) -> bool:
        problems = layout(count, sizes, rng)
        return holds(
            proportion(grades(clustered(accuracy, icc, problems, rng), rng), problems), accuracy
        )

    covered = coverage(draw)
    assert covered >= 0.93
    if count == 200 and accuracy < 0.99:
        assert covered <= 0.975  # .97 and what 800 replicates leave open


@pytest.mark.slow
@pytest.mark.parametrize("problems", [10, 30, 100, 500])
@pytest.mark.parametrize("relation", paired.RELATIONS)
def test_paired_difference_covers_at_its_rate(relation: str, problems: int) -> None:
    """.93 to .98 at accuracies .5 to .99. The upper end is open where the counts are too coarse:
    where fewer than 5 problems differ, and with 30 problems that differ by single samples of four
    (docs/prefix-decay.md)."""
    for case in paired.cases():
        if case.problems == problems and case.relation == relation:
            row = paired.measured(case, 1000, seed=1)
            assert row["coverage"] >= 0.93 - 3 * row["error"], case
            single_samples = relation == "outcome" and (problems, case.samples) == (30, 4)
            if row["differing"] >= paired.DIFFERING and not single_samples:
                assert row["coverage"] <= 0.98 + 3 * row["error"], case


@pytest.mark.slow
@pytest.mark.parametrize("case", paired.LUMPS)
def test_paired_difference_covers_where_a_few_problems_fail_wholly_amid_noise(
    case: paired.Case,
) -> None:
    """About .91 at the worst; .67 to .93 where the number of differing problems has no bound by
    their size."""
    row = paired.measured(case, 1000, seed=1)
    assert row["coverage"] >= 0.91 - 3 * row["error"]


@pytest.mark.slow
@pytest.mark.parametrize("case", paired.FALLS)
def test_a_true_fall_is_found_about_as_often_as_by_tests_that_do_not_hold_for_few_problems(
    case: paired.Case,
) -> None:
    row = paired.measured(case, 1000, seed=1)
    flips = paired.by_sign_flips(case, 1000, seed=1)
    assert row["found"] >= flips - 0.05 and row["found"] >= row["t_found"] - (
        0.3 if case.problems < 10 else 0.13
    )


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.9, 0.8), (0.99, 0.95)])
@pytest.mark.parametrize(("count", "icc"), [(30, 0.0), (30, 0.7), (200, 0.3)])
def test_paired_difference_covers_with_problems_of_unequal_sizes(
    count: int, icc: float, first: float, second: float
) -> None:
    def draw(rng: np.random.Generator) -> bool:
        problems = layout(count, "unequal", rng)
        chance = clustered(first, icc, problems, rng)
        lesser = (
            chance * clustered(second / first, icc, problems, rng) if second < first else chance
        )
        return holds(
            paired_difference(grades(chance, rng), grades(lesser, rng), problems), first - second
        )

    covered = coverage(draw, 1000)
    assert covered >= 0.93 - 3 * error(0.93, 1000)
    if first < 0.99:
        assert covered <= 0.98 + 3 * error(0.98, 1000)


def test_paired_difference_covers_where_hardly_anything_differs() -> None:
    """3 % of the right outcomes are lost; without pseudo-problems .83 hold that."""

    def draw(rng: np.random.Generator) -> bool:
        problems = layout(30, "equal", rng)
        x = grades(clustered(0.5, 0.3, problems, rng), rng)
        return holds(paired_difference(x, x * grades(np.full(x.size, 0.97), rng), problems), 0.015)

    assert coverage(draw, 500) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("count", [30, 200])
def test_the_simultaneous_band_holds_four_lengths_at_once(count: int) -> None:
    """Accuracy falls and rollouts close as the prefix grows; pointwise intervals hold all four in
    .83 to .86."""
    codes = np.arange(count)

    def draw(rng: np.random.Generator) -> bool:
        problems = layout(count, "equal", rng)
        chance, closes = clustered(0.9, 0.3, problems, rng), rng.random(problems.size)
        lengths = []
        for step, accuracy in enumerate((0.9, 0.8, 0.7, 0.6)):
            still = closes < 1 - 0.15 * step
            lengths.append((grades(chance[still] * accuracy / 0.9, rng), problems[still], accuracy))
        columns = np.stack([influence(x, own, codes) for x, own, _ in lengths], axis=1)
        critical = simultaneous_critical(columns, draws=2000)
        return all(
            holds(proportion(x, own, critical=critical), accuracy) for x, own, accuracy in lengths
        )

    assert coverage(draw, 600) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(("count", "accuracy"), [(30, 0.6), (30, 0.9), (200, 0.9)])
def test_the_band_of_differences_holds_four_lengths_at_once(count: int, accuracy: float) -> None:
    """The same arm beside four references that are as accurate; pointwise intervals hold all four
    in .86 to .9."""
    codes, problems = np.arange(count), np.repeat(np.arange(count), 4)

    def draw(rng: np.random.Generator) -> bool:
        chance = clustered(accuracy, 0.3, problems, rng)
        alone, others = grades(chance, rng), [grades(chance, rng) for _ in range(4)]
        columns = np.stack([influence(x - alone, problems, codes) for x in others], axis=1)
        critical = simultaneous_critical(columns, draws=2000)
        return all(
            holds(paired_difference(x, alone, problems, critical=critical), 0.0) for x in others
        )

    covered = coverage(draw, 1000)
    assert 0.93 - 3 * error(0.93, 1000) <= covered <= 0.98 + 3 * error(0.98, 1000)


# --- simultaneous bands
# ---------------------------------------------------------------------------


def test_influence_squares_to_the_standard_error() -> None:
    x, _, problems, weights = ragged()
    codes = np.unique(problems)[::-1]
    column = influence(x, problems, codes, weights=weights)
    assert column.sum() == pytest.approx(0, abs=1e-12)
    expected = proportion(x, problems, weights=weights).standard_error
    assert math.sqrt(25 / 24 * (column**2).sum()) == pytest.approx(expected)


def test_an_absent_problem_has_no_influence_and_an_unknown_one_is_refused() -> None:
    assert influence([1, 0], [4, 2], [2, 3, 4]).tolist() == [-0.25, 0, 0.25]
    assert influence([], [], [2, 3]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="codes"):
        influence([1, 0], [4, 5], [2, 3, 4])


def test_critical_of_one_length_or_of_copies_is_the_pointwise_quantile() -> None:
    column = np.random.default_rng(0).standard_normal((40, 1))
    pointwise = t.ppf(0.975, 39)
    for columns in (column, np.repeat(column, 5, axis=1), column * [[1, -3]]):
        assert simultaneous_critical(columns, draws=100_000) == pytest.approx(pointwise, rel=0.015)
        assert simultaneous_critical(columns) >= pointwise


def test_the_unit_of_the_columns_does_not_matter_to_the_critical_value_and_two_problems_have_one() -> (  # noqa: E501
    None
):
    columns = np.random.default_rng(0).standard_normal((40, 2)) @ np.array([[1.0, 0.8], [0, 0.6]])
    assert simultaneous_critical(1e-3 * columns) == pytest.approx(simultaneous_critical(columns))
    assert simultaneous_critical(columns[:2, :1], draws=2000) >= t.ppf(0.975, 1)


def test_critical_of_independent_lengths_lies_under_bonferroni_and_near_sidak() -> None:
    columns = np.eye(200)[:, :4]
    critical = simultaneous_critical(columns, draws=100_000)
    sidak = t.ppf((1 + 0.95**0.25) / 2, 199)
    assert critical == pytest.approx(sidak, rel=0.01)
    assert critical < t.ppf(1 - 0.025 / 4, 199) * 1.005
    assert simultaneous_critical(np.zeros((200, 4)), draws=100_000) == pytest.approx(
        critical, rel=0.01
    )


def test_critical_of_few_problems_shares_one_estimated_scale() -> None:
    """5 problems, 2 independent lengths: P(max |T| <= c) = E[(2 Phi(c s) - 1)^2] 4 s^2 chi-square;
    normal: 2.24."""
    critical = simultaneous_critical(np.eye(5)[:, :2], draws=200_000)
    scale = np.sqrt(chi2(4).ppf((np.arange(100_000) + 0.5) / 100_000) / 4)
    assert np.mean((2 * norm.cdf(critical * scale) - 1) ** 2) == pytest.approx(0.95, abs=0.002)


def test_critical_follows_the_seed_and_is_nan_for_one_problem() -> None:
    columns = np.random.default_rng(0).standard_normal((40, 3))
    assert simultaneous_critical(columns, seed=3) == simultaneous_critical(columns, seed=3)
    assert simultaneous_critical(columns, seed=3) != simultaneous_critical(columns, seed=4)
    assert math.isnan(simultaneous_critical(np.zeros((1, 3))))
    with pytest.raises(ValueError, match="lengths"):
        simultaneous_critical(np.zeros(5))


# --- tests and corrections
# ---------------------------------------------------------------------------


def test_sign_flip_enumerates_few_problems() -> None:
    """Sums 1, 1, 1: two of the eight patterns reach |3|, p = 1/4."""
    assert sign_flip_p([1, 1, 1], [0, 1, 2]) == 0.25
    differences = np.array([0.1, 0.2, 0.3, -0.3, 0.7, 0.5, 0.2])
    problems = np.array([1, 1, 2, 3, 4, 5, 5])
    assert sign_flip_p(differences, problems) == reference.sign_flip_p([0.3, 0.3, -0.3, 0.7, 0.7])


def test_sign_flip_enumerates_up_to_14_problems_and_no_more() -> None:
    """All of one sign: 2 of the 2^14 patterns are as extreme, exactly. Of 2^15, 99 random ones show
    at least 1 in 100."""
    assert sign_flip_p(np.ones(14), np.arange(14), draws=99) == 2 / 2**14
    assert sign_flip_p(np.ones(15), np.arange(15), draws=99) == 1 / 100


def test_unless_told_otherwise_the_draws_are_many_and_those_of_seed_0() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, 30)
    assert sign_flip_p(differences, np.arange(30)) == sign_flip_p(
        differences, np.arange(30), seed=0, draws=10_000
    )
    columns = np.random.default_rng(0).standard_normal((40, 3))
    assert simultaneous_critical(columns) == simultaneous_critical(
        columns, level=0.95, seed=0, draws=20_000
    )


def test_sign_flip_flips_problems_not_rollouts() -> None:
    """20 rollouts of one problem, all better: flipping rollouts would give 2 / 2^20, flipping the
    problem gives 1."""
    assert sign_flip_p(np.ones(20), np.zeros(20, dtype=int)) == 1.0


def test_problems_without_a_difference_change_nothing() -> None:
    assert sign_flip_p([1, 1, 1, 0, 0, 1, -1], [0, 1, 2, 3, 4, 5, 5]) == 0.25
    assert sign_flip_p(np.zeros(8), np.arange(8)) == 1.0
    assert sign_flip_p([], np.zeros(0, dtype=int)) == 1.0


def test_random_patterns_approach_the_enumeration() -> None:
    """15 sums of +1 and 4 of -1: |sum| >= 11 has 2 * (C(19,0) + ... + C(19,4)) of the 2^19
    patterns."""
    differences = np.array([1.0] * 15 + [-1.0] * 4)
    exact = 2 * sum(math.comb(19, wrong) for wrong in range(5)) / 2**19
    p = sign_flip_p(differences, np.arange(19), draws=40_000)
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))
    assert (
        p
        == sign_flip_p(differences, np.arange(19), draws=40_000)
        != sign_flip_p(differences, np.arange(19), seed=1)
    )


@pytest.mark.parametrize("problems", [15, 200, 201, 202, 500])
def test_random_patterns_are_counted_once_each_however_many_problems_there_are(
    problems: int,
) -> None:
    """Half the sums +1 and half -1 add up to 0, or to 1 at an odd number, the least there can be:
    every pattern is as extreme.

    From 201 problems on, 10,000 patterns are drawn in more than one piece.
    """
    assert sign_flip_p((-1.0) ** np.arange(problems), np.arange(problems)) == 1.0


def test_the_sign_flip_p_over_as_many_problems_as_math_500_has_is_the_exact_one() -> None:
    """275 sums of +1 and 225 of -1: |sum| >= 50 where at most 225 signs, or at least 275, are
    minus; p = .028."""
    exact = 2 * sum(math.comb(500, wrong) for wrong in range(226)) / 2**500
    p = sign_flip_p([1.0] * 275 + [-1.0] * 225, np.arange(500))
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000)) and 0.02 < exact < 0.03


def test_a_monte_carlo_p_is_never_zero() -> None:
    assert sign_flip_p(np.ones(100), np.arange(100), draws=999) == 0.001


def test_sign_flip_rejects_a_true_null_at_its_level() -> None:
    rng = np.random.default_rng(2)
    problems = np.repeat(np.arange(12), 4)
    p = [sign_flip_p(rng.normal(rng.normal(size=12)[problems], 1), problems) for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_holm_by_hand_and_nan_is_not_counted() -> None:
    """Sorted .01 .03 .04 times 3, 2, 1 = .03 .06 .04, made monotone .03 .06 .06. Counting the NaN
    would give .04."""
    assert holm([0.03, np.nan, 0.01, 0.04]) == pytest.approx(
        [0.06, np.nan, 0.03, 0.06], nan_ok=True
    )
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0
    assert holm([1.0, 0.0]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError):
        holm([1.2])


# --- the small ones
# ---------------------------------------------------------------------------


def test_smallest_detectable_difference_is_found_with_its_power() -> None:
    """(1.960 + .842) * .01 = .028; a one-sided quantile would give .0249."""
    difference = smallest_detectable_difference(0.01)
    assert difference == pytest.approx(0.02802, abs=1e-5)
    assert 1 - norm.cdf(norm.ppf(0.975) - difference / 0.01) == pytest.approx(0.8)
    assert math.isnan(smallest_detectable_difference(math.nan))
    with pytest.raises(ValueError, match="power"):
        smallest_detectable_difference(0.01, power=80)


def test_the_cautious_error_is_the_larger_of_the_plain_one_and_that_of_the_interval() -> None:
    """Two problems of 40 disagree: the plain error is far below what the interval implies. And
    where it has none: NaN."""
    first, codes = np.ones(40), np.arange(40)
    near = paired_difference(first, np.where(codes < 1, 0.0, 1.0), codes)
    half = (near.high - near.low) / 2
    assert near.standard_error < half / 1.96 and cautious_error(near) == pytest.approx(
        half / 1.959964, rel=1e-6
    )
    wide = Estimate(0.5, 0.4, 0.6, 0.2, "", 10, 10)
    assert cautious_error(wide) == 0.2
    assert cautious_error(wide, level=1e-9) > 1e6  # an interval of no level that is still wide
    assert math.isnan(cautious_error(paired_difference([1.0], [0.0], [3])))


def test_avg_at_k_is_the_mean_over_problems_and_samples() -> None:
    assert avg_at_k([[1, 0, 0, 0], [1, 1, 1, 0]]) == 0.5
    assert math.isnan(avg_at_k(np.zeros((0, 4))))
    with pytest.raises(ValueError):
        avg_at_k([1, 0])


def test_pass_at_k_counts_the_picks_that_hold_a_right_one() -> None:
    """4 samples, 1 right, k = 2: 1 - C(3,2)/C(4,2) = 1/2. The biased plug-in 1 - (3/4)^2 is
    .4375."""
    assert pass_at_k(4, 1, 2) == 0.5
    for samples in range(1, 7):
        for right in range(samples + 1):
            for k in range(1, samples + 1):
                expected = reference.pass_at_k([1] * right + [0] * (samples - right), k)
                assert float(pass_at_k(samples, right, k)) == pytest.approx(expected)


def test_pass_at_k_is_elementwise_exact_at_the_ends_and_stable_for_many_samples() -> None:
    assert pass_at_k([64, 64, 4], [0, 64, 2], 4).tolist() == [0, 1, 1]
    assert float(pass_at_k(5000, 1, 2500)) == pytest.approx(0.5)


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 2), (4, -1, 2)])
def test_pass_at_k_refuses_what_it_cannot_estimate(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(samples, correct, k)
