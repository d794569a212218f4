"""Retained advantage and half-decay length: by hand, against slow definitions, and where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from simulate import Ints, clustered, grades

from decaylab.retention import NO_ADVANTAGE, OpenRollouts, half_decay, half_decay_length, retained_advantage


def arms(share: float, rng: np.random.Generator, problems: Ints) -> OpenRollouts:
    """Student about .4, teacher about .88, prefixed in between at this share of the advantage."""
    student = clustered(0.4, 0.3, problems, rng)
    teacher = student + 0.8 * (1 - student)
    return OpenRollouts(
        grades(student + share * (teacher - student), rng), grades(student, rng), grades(teacher, rng), problems
    )


def test_retained_advantage_by_hand() -> None:
    """A = 5/8, S = 2/8, A0 = 6/8: R = 3/4. The nearest wrong ones: A/A0 = .83, (A0 - A)/(A0 - S) = 1/4."""
    problems = np.arange(8)
    prefixed, student, teacher = (np.array([1.0] * right + [0.0] * (8 - right)) for right in (5, 2, 6))
    assert retained_advantage(prefixed, student, teacher, problems).value == pytest.approx(0.75)
    assert retained_advantage(teacher, student, teacher, problems).value == 1
    assert retained_advantage(student, student, teacher, problems).value == 0


def test_retained_advantage_interval_agrees_with_its_linearised_error() -> None:
    """An error divided by the root of the draws would make the interval 45 times too narrow."""
    open_ = arms(0.6, np.random.default_rng(0), np.repeat(np.arange(300), 4))
    estimate = retained_advantage(*open_)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * estimate.standard_error, rel=0.1)
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
    """A0 - S = 2/8 with SE sqrt(8/7 * (2 * 9/16 + 6 * 1/16)) / 8 = .164: 2 SE = .327 is not reached, 1 SE is."""
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
    """Teacher right on 4 of 8 problems, student on none: 1 replicate in 256 has no advantage; level .999 shows it."""
    teacher = np.array([1.0] * 4 + [0.0] * 4)
    prefixed = 1 - teacher
    estimate = retained_advantage(prefixed, np.zeros(8), teacher, np.arange(8), level=0.999, draws=4000)
    assert estimate.high == math.inf and estimate.value == 1


def test_half_decay_length_by_hand() -> None:
    """Between .8 at 50 and .2 at 100, .5 lies half way: 75. Nearest wrong: the neighbours 50 and 100."""
    assert half_decay_length([0, 50, 100], [1, 0.8, 0.2]) == pytest.approx(75)
    assert half_decay_length([50, 100], [0.2, 0.9]) == pytest.approx(50 * 0.5 / 0.8)  # from R(0) = 1
    assert half_decay_length([0, 50, 100], [1, 0.5, 0.2]) == 50
    assert half_decay_length([0, 50, 100], [1, 0.5, 0.9]) == 50
    assert half_decay_length([0, 50, 100], [0.4, 0.9, 0.2]) == 0


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
    return [arms(share, rng, problems[: problems.size * (10 - step) // 10]) for step, share in enumerate(shares)]


def test_half_decay_is_the_crossing_of_the_retained_curve() -> None:
    lengths, opened = (0, 50, 100, 150), curve_arms((1, 0.8, 0.55, 0.3))
    retained = [retained_advantage(*one).value for one in opened]
    estimate = half_decay(lengths, opened)
    assert estimate.value == half_decay_length(lengths, retained)
    assert 50 < estimate.low < estimate.value < estimate.high <= 150
    assert estimate == half_decay(lengths, opened) and estimate.low != half_decay(lengths, opened, seed=1).low
    assert (estimate.problems, estimate.rollouts) == (150, 600)


def test_half_decay_draws_the_same_problems_at_every_length() -> None:
    """R = 51/101 at both lengths: a replicate is at most .5 at both (46 % of them) or at neither, so that the middle
    20 % reach from the first length to infinity. Problems drawn anew at each length would let 71 % cross by 100 tokens.
    """
    prefixed = (np.arange(101) < 51).astype(float)
    same = OpenRollouts(prefixed, np.zeros(101), np.ones(101), np.arange(101))
    estimate = half_decay((50, 100), [same, same], level=0.2)
    assert estimate.low <= 50 and estimate.high == math.inf


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


def test_half_decay_counts_the_replicates_it_leaves_out() -> None:
    """Two of 40 problems are open at 100 tokens: (38/40)^40 = .13 of the replicates draw neither."""
    problems = np.repeat(np.arange(40), 4)
    first = arms(0.9, np.random.default_rng(0), problems)
    last = OpenRollouts(np.zeros(8), np.zeros(8), np.ones(8), np.repeat([0, 1], 4))
    estimate = half_decay((50, 100), [first, last], draws=2000)
    assert estimate.value > 50
    assert int(estimate.note.split()[0]) / 2000 == pytest.approx(0.129, abs=0.03)
