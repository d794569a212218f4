"""Retained advantage and half-decay length: by hand, against slow definitions, and where they are
undefined."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import reference
from scipy.stats import sem
from simulate import Ints, clustered, grades

from decaylab.maths.clusters import bootstrap_weights, percentile_interval
from decaylab.maths.retention import (
    NO_ADVANTAGE,
    OpenRollouts,
    half_decay,
    half_decay_length,
    retained_advantage,
)
from decaylab.maths.statistics import ONE_PROBLEM


def arms(share: float, rng: np.random.Generator, problems: Ints) -> OpenRollouts:
    """Student about .4, teacher about .88, prefixed in between at this share of the advantage."""
    student = clustered(0.4, 0.3, problems, rng)
    teacher = student + 0.8 * (1 - student)
    return OpenRollouts(
        grades(student + share * (teacher - student), rng),
        grades(student, rng),
        grades(teacher, rng),
        problems,
    )


def test_retained_advantage_by_hand() -> None:
    """A = 5/8, S = 2/8, A0 = 6/8: R = 3/4. The nearest wrong ones: A/A0 = .83, (A0 - A)/(A0 - S) =
    1/4."""
    problems = np.arange(8)
    prefixed, student, teacher = (
        np.array([1.0] * right + [0.0] * (8 - right)) for right in (5, 2, 6)
    )
    assert retained_advantage(prefixed, student, teacher, problems).value == pytest.approx(0.75)
    assert retained_advantage(teacher, student, teacher, problems).value == 1
    assert retained_advantage(student, student, teacher, problems).value == 0


def test_retained_advantage_interval_agrees_with_its_linearised_error() -> None:
    """An error divided by the root of the draws would make the interval 45 times too narrow."""
    open_ = arms(0.6, np.random.default_rng(0), np.repeat(np.arange(300), 4))
    estimate = retained_advantage(*open_)
    assert estimate.high - estimate.low == pytest.approx(
        2 * 1.96 * estimate.standard_error, rel=0.1
    )
    assert estimate.low < 0.6 < estimate.high


def test_retained_advantage_resamples_problems_not_rollouts() -> None:
    open_ = arms(0.6, np.random.default_rng(0), np.repeat(np.arange(100), 4))
    copies = [np.repeat(np.asarray(column), 5) for column in open_]
    once, five = retained_advantage(*open_), retained_advantage(*copies)
    assert (once.low, once.high) == pytest.approx((five.low, five.high))


def test_retained_advantage_follows_the_seed() -> None:
    open_ = arms(0.6, np.random.default_rng(0), np.repeat(np.arange(50), 4))
    assert retained_advantage(*open_, seed=1) == retained_advantage(*open_, seed=1)
    assert retained_advantage(*open_, seed=1).low != retained_advantage(*open_, seed=2).low


def test_retained_advantage_is_undefined_without_an_advantage() -> None:
    """A0 - S = 2/8 with SE sqrt(8/7 * (2 * 9/16 + 6 * 1/16)) / 8 = .164: 2 SE = .327 is not
    reached, 1 SE is."""
    student, teacher = np.zeros(8), np.array([1.0, 1, 0, 0, 0, 0, 0, 0])
    estimate = retained_advantage(student, student, teacher, np.arange(8))
    assert math.isnan(estimate.value) and math.isnan(estimate.low) and estimate.note == NO_ADVANTAGE
    same = retained_advantage(np.ones(8), np.ones(8), np.ones(8), np.arange(8))
    assert math.isnan(same.value) and same.note == NO_ADVANTAGE
    rounding = retained_advantage([0.4] * 4, [0.3] * 4, [0.1 + 0.2] * 4, np.arange(4))
    assert math.isnan(rounding.value) and rounding.note == NO_ADVANTAGE
    assert "2 problems" in retained_advantage([1], [0], [1], [5]).note
    assert retained_advantage([], [], [], []).note == "no rollouts"


def test_a_replicate_without_an_advantage_widens_the_interval_to_infinity() -> None:
    """Teacher right on 4 of 8 problems, student on none: 1 replicate in 256 has no advantage; level
    .999 shows it."""
    teacher = np.array([1.0] * 4 + [0.0] * 4)
    prefixed = 1 - teacher
    estimate = retained_advantage(
        prefixed, np.zeros(8), teacher, np.arange(8), level=0.999, draws=4000
    )
    assert estimate.high == math.inf and estimate.value == 1


def slow_share(prefixed: list[float], student: list[float], unprefixed: list[float]) -> float:
    """Of one replicate, in exact arithmetic: what a share without an advantage counts as is in the
    docstring of R."""
    gain, room = (
        sum(Fraction(x).limit_denominator(100) for x in one) for one in (prefixed, unprefixed)
    )
    base = sum(Fraction(x).limit_denominator(100) for x in student)
    gain, room = gain - base, room - base
    return float(gain / room) if room > 0 else math.copysign(math.inf, gain) if gain else 0.0


# Of five problems the teacher is ahead by .8 in four and behind by .2 in the last. A replicate that
# draws the last four times has no advantage, and the prefixed teacher is ahead, level or behind in
# it by what the other problem is.
LAST_AGAINST = OpenRollouts(
    [0.6, 1.0, 0.4, 0.6, 0.4], [0.2, 0.2, 0.2, 0.2, 0.5], [1.0, 1.0, 1.0, 1.0, 0.3], range(5)
)


def test_the_interval_is_that_of_problems_drawn_one_by_one() -> None:
    replicates = []
    for weights in bootstrap_weights(5, draws=4000, seed=7):
        drawn = np.repeat(np.arange(5), weights.astype(int))
        replicates.append(
            slow_share(*(np.asarray(one)[drawn].tolist() for one in LAST_AGAINST[:3]))
        )
    counts = {end: replicates.count(end) for end in (math.inf, -math.inf, 0.0)}
    assert min(counts.values()) > 3
    for level in (0.5, 0.95, 0.99, 0.995, 0.998, 0.999):
        found = retained_advantage(*LAST_AGAINST, level=level, seed=7, draws=4000)
        assert (found.low, found.high) == pytest.approx(
            percentile_interval(np.array(replicates), level)
        )
    assert (found.problems, found.rollouts, found.method) == (
        5,
        5,
        "percentile bootstrap over problems",
    )


def test_the_standard_error_of_the_share_is_that_of_its_linear_part() -> None:
    """(A - S - R (A0 - S)) / (A0 - S) by rollout: with one rollout a problem its standard error by
    scipy."""
    open_ = arms(0.6, np.random.default_rng(1), np.arange(60))
    prefixed, student, teacher = (np.asarray(one) for one in open_[:3])
    found = retained_advantage(*open_)
    room = (teacher - student).mean()
    assert found.value == pytest.approx((prefixed - student).mean() / room)
    assert found.standard_error == pytest.approx(
        sem(prefixed - student - found.value * (teacher - student)) / room
    )


@pytest.mark.parametrize("accuracy", [0.0, 0.4, 1.0])
def test_where_student_and_teacher_are_equal_nothing_is_left_or_lost(accuracy: float) -> None:
    """Equal in every rollout, or in the mean alone; whatever the teacher gets right after a
    prefix."""
    same = np.full(12, accuracy)
    for prefixed in (same, np.zeros(12), np.ones(12)):
        for unprefixed in (same, same + 1e-12):
            found = retained_advantage(prefixed, same, unprefixed.clip(0, 1), np.arange(12))
            assert math.isnan(found.value) and math.isnan(found.high) and found.note == NO_ADVANTAGE
            assert half_decay(
                [8], [OpenRollouts(prefixed, same, unprefixed.clip(0, 1), range(12))]
            ).note.endswith(NO_ADVANTAGE)
    even = np.arange(12) % 2
    found = retained_advantage(even, even, 1 - even, np.arange(12))
    assert math.isnan(found.value) and found.note == NO_ADVANTAGE


def test_an_advantage_must_be_above_two_of_its_standard_errors() -> None:
    """A0 - S of 3, 3, 3, -1 eighths: mean 1/4, deviation 1/4, error 1/8, exactly two of them; a
    little more is above."""
    student = np.array([0.125, 0.125, 0.125, 0.25])
    for last, shown in ((0.125, False), (0.13, True), (0.12, False)):
        teacher = np.array([0.5, 0.5, 0.5, last])
        assert (
            math.isnan(retained_advantage(teacher, student, teacher, range(4)).value) is not shown
        ), last


def test_half_decay_length_by_hand() -> None:
    """Between .8 at 50 and .2 at 100, .5 lies half way: 75. Nearest wrong: the neighbours 50 and
    100."""
    assert half_decay_length([0, 50, 100], [1, 0.8, 0.2]) == pytest.approx(75)
    assert half_decay_length([50, 100], [0.2, 0.9]) == pytest.approx(
        50 * 0.5 / 0.8
    )  # from R(0) = 1
    assert half_decay_length([0, 50, 100], [1, 0.5, 0.2]) == 50
    assert half_decay_length([0, 50, 100], [1, 0.5, 0.9]) == 50
    assert half_decay_length([0, 50, 100], [0.4, 0.9, 0.2]) == 0
    assert half_decay_length([1, 2], [0.75, 0.25]) == 1.5 and half_decay_length(
        [1, 2], [0.25, 0.1]
    ) == pytest.approx(2 / 3)


def test_half_decay_length_takes_the_first_of_several_crossings() -> None:
    assert half_decay_length([0, 10, 20, 30, 40], [1, 0.4, 0.9, 0.4, 0.1]) < 10


def test_half_decay_length_agrees_with_a_walk_along_the_curve() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        lengths, curve = np.cumsum(rng.integers(1, 60, 5)), rng.uniform(0.1, 1.2, 5)
        expected = reference.half_decay_length(lengths.tolist(), curve.tolist())
        assert half_decay_length(lengths, curve) == pytest.approx(expected, abs=0.07)


def test_half_decay_length_is_censored_or_undefined() -> None:
    assert half_decay_length([0, 50], [1, 0.6]) == math.inf
    assert math.isnan(half_decay_length([0, 50, 100], [1, math.nan, 0.2]))
    assert math.isnan(half_decay_length([0, 50, 100], [1, 0.9, math.nan]))
    assert half_decay_length([0, 50, 100], [1, 0.25, math.nan]) == pytest.approx(100 / 3)
    assert half_decay_length([0, 50], [1, -math.inf]) == pytest.approx(0, abs=1e-9)
    assert half_decay_length([0, 50, 100], [1, math.inf, 0.2]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("lengths", "retained"),
    [([-1, 5], [1, 0.5]), ([5, 5], [1, 0.5]), ([5, 1], [1, 0.5]), ([], []), ([1, 2, 3], [1, 0.5])],
)
def test_half_decay_length_refuses_lengths_that_do_not_rise_or_pair_up(
    lengths: list[int], retained: list[float]
) -> None:
    with pytest.raises(ValueError, match="prefix_tokens"):
        half_decay_length(lengths, retained)


def curve_arms(shares: tuple[float, ...], count: int = 150) -> list[OpenRollouts]:
    """Ever fewer of the same rollouts open at each length."""
    rng, problems = np.random.default_rng(4), np.repeat(np.arange(count), 4)
    return [
        arms(share, rng, problems[: problems.size * (10 - step) // 10])
        for step, share in enumerate(shares)
    ]


def test_half_decay_is_the_crossing_of_the_retained_curve() -> None:
    lengths, opened = (0, 50, 100, 150), curve_arms((1, 0.8, 0.55, 0.3))
    retained = [retained_advantage(*one).value for one in opened]
    estimate = half_decay(lengths, opened)
    assert estimate.value == half_decay_length(lengths, retained)
    assert 50 < estimate.low < estimate.value < estimate.high <= 150
    assert (
        estimate == half_decay(lengths, opened)
        and estimate.low != half_decay(lengths, opened, seed=1).low
    )
    assert (estimate.problems, estimate.rollouts) == (150, 600)


def test_half_decay_draws_the_same_problems_at_every_length() -> None:
    """R = 51/101 at both lengths: a replicate is at most .5 at both (46 % of them) or at neither,
    so that the middle 20 % reach from the first length to infinity. Problems drawn anew at each
    length would let 71 % cross by 100 tokens.
    """
    prefixed = (np.arange(101) < 51).astype(float)
    same = OpenRollouts(prefixed, np.zeros(101), np.ones(101), np.arange(101))
    estimate = half_decay((50, 100), [same, same], level=0.2)
    assert estimate.low <= 50 and estimate.high == math.inf


def slow_crossing(lengths: Sequence[float], curve: Sequence[float]) -> float:
    """The first point at most .5, joined to the one before it by a straight line; (0, 1) stands
    before the first."""
    before = (0.0, 1.0)
    for length, share in zip(lengths, curve):
        if share <= 0.5:
            return (
                before[0] + (length - before[0]) * (before[1] - 0.5) / (before[1] - share)
                if length
                else 0.0
            )
        before = (length, share)
    return math.inf


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draws", [1, 2, 3, 80])
def test_half_decay_replicates_are_those_of_problems_drawn_one_by_one(draws: int) -> None:
    """Ever fewer rollouts open at each length; the error needs two replicates."""
    lengths, opened = (1, 50, 100), curve_arms((1, 0.9, 0.1), count=40)
    expected = []
    for weights in bootstrap_weights(40, draws=draws, seed=3):
        curve = []
        for one in opened:
            drawn = np.repeat(np.arange(len(one.problems)), weights[one.problems].astype(int))
            curve.append(slow_share(*(np.asarray(column)[drawn].tolist() for column in one[:3])))
        expected.append(slow_crossing(lengths, curve))
    assert np.isfinite(expected).all()
    found = half_decay(lengths, opened, seed=3, draws=draws, level=0.8)
    assert (found.low, found.high) == pytest.approx(percentile_interval(np.array(expected), 0.8))
    error = statistics.stdev(expected) if draws > 1 else math.nan
    assert found.standard_error == pytest.approx(error, nan_ok=True)
    assert found.method == "percentile bootstrap over problems" and found.note == ""


def test_unless_told_otherwise_2000_replicates_of_seed_0_give_95_percent() -> None:
    stated = {"level": 0.95, "seed": 0, "draws": 2000}
    opened = curve_arms((1, 0.9, 0.1), count=40)
    assert half_decay((0, 50, 100), opened) == half_decay((0, 50, 100), opened, **stated)
    parts = np.random.default_rng(0).random((3, 30)) / 2
    shares = OpenRollouts(
        parts[0] + 0.25, parts[1], parts[2] + 0.5, range(30)
    )  # no two replicates are the same
    assert retained_advantage(*shares) == retained_advantage(*shares, **stated)
    assert retained_advantage(*shares) != retained_advantage(*shares, draws=2001)
    last = OpenRollouts(
        [0, 0], [0, 0], [1, 1], range(2)
    )  # some replicates lack both: how many, and of how many, is counted
    assert half_decay((0, 100), [opened[0], last]) == half_decay(
        (0, 100), [opened[0], last], **stated
    )


def test_half_decay_is_censored_at_the_longest_length() -> None:
    estimate = half_decay((0, 50, 100), curve_arms((1, 0.95, 0.9)))
    assert (estimate.value, estimate.high) == (math.inf, math.inf)
    assert estimate.note == "not reached by 100 tokens" and math.isnan(estimate.standard_error)


def test_half_decay_says_at_which_length_it_is_undefined() -> None:
    good, problems = curve_arms((0.9,))[0], np.arange(20)
    flat = OpenRollouts(np.ones(20), np.ones(20), np.ones(20), problems)
    estimate = half_decay((50, 100), [good, flat])
    assert math.isnan(estimate.value) and estimate.note == f"at prefix length 100: {NO_ADVANTAGE}"
    crossed = half_decay((50, 100), [curve_arms((0.2,))[0], flat])
    assert crossed.high < 50 and crossed.note == ""
    with pytest.raises(ValueError, match="arms"):
        half_decay((50, 100), [good])


def test_a_length_at_which_one_problem_is_open_has_no_share() -> None:
    lone = OpenRollouts([0, 0], [0, 0], [1, 1], [5, 5])
    estimate = half_decay((50, 100), [curve_arms((0.9,))[0], lone])
    assert estimate.note == f"at prefix length 100: {ONE_PROBLEM}" and estimate.problems == 150


def test_problems_without_an_open_rollout_do_not_count_towards_the_error_of_an_advantage() -> None:
    """A0 - S of .3, .3, .3, -.1 is 2 standard errors over 4 problems; G/(G-1) over 40 would make
    them 1.76."""
    few = OpenRollouts([0.5, 0.5, 0.5, 0.2], [0.2, 0.2, 0.2, 0.31], [0.5, 0.5, 0.5, 0.2], range(4))
    estimate = half_decay((50, 100), [curve_arms((0.9,), count=40)[0], few])
    assert estimate.note == f"at prefix length 100: {NO_ADVANTAGE}"


def test_no_length_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix_tokens and retained must have the same length"):
        half_decay((), [])


@pytest.mark.parametrize("rollouts", [1, 4])
def test_half_decay_counts_the_replicates_it_leaves_out(rollouts: int) -> None:
    """Two of 40 problems are open at 100 tokens: (38/40)^40 = .13 of the replicates draw
    neither."""
    problems = np.repeat(np.arange(40), 4)
    first = arms(0.9, np.random.default_rng(0), problems)
    size = 2 * rollouts
    last = OpenRollouts(np.zeros(size), np.zeros(size), np.ones(size), np.repeat([0, 1], rollouts))
    estimate = half_decay((50, 100), [first, last], draws=2000)
    assert estimate.value > 50
    assert int(estimate.note.split()[0]) / 2000 == pytest.approx(0.129, abs=0.03)
