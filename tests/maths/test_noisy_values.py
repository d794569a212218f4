"""Variance parts and correlations of values that are known from a few draws."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from decaylab.maths import noisy_values as nv
from decaylab.maths.noisy_values import Counts, change_and_signal, variance_parts


@pytest.mark.parametrize("draws", [2, 3, 5])
@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, 1.0])
def test_noise_is_unbiased_for_every_chance(draws: int, chance: float) -> None:
    """By enumeration; dividing by r in place of r - 1 would fail."""
    right = np.arange(draws + 1)
    law = [math.comb(draws, x) * chance**x * (1 - chance) ** (draws - x) for x in right]
    noise = Counts.of(right, np.full(draws + 1, draws)).noise
    assert np.dot(law, noise) == pytest.approx(chance * (1 - chance) / draws)


def test_a_known_value_has_no_noise() -> None:
    counts = Counts.of([1, 0, 1], [0, 0, 2])
    assert counts.values.tolist() == [1, 0, 0.5]
    assert counts.noise.tolist() == [0, 0, 0.25]


def test_a_single_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Counts.of([1], [1])
    with pytest.raises(ValueError, match="at least 2"):
        Counts.of([1], [-2])


@pytest.mark.parametrize(("correct", "draws"), [(-1, 2), (3, 2), (2, 0)])
def test_impossible_counts_are_refused(correct: int, draws: int) -> None:
    with pytest.raises(ValueError, match="between 0 and draws"):
        Counts.of([correct], [draws])


def test_variance_parts_are_unbiased_by_enumeration() -> None:
    """Two problems of two and three prefixes and a third of one, two draws each: every outcome."""
    chances = np.array([0.1, 0.6, 0.9, 0.9, 0.3, 0.5])
    problems = np.array([0, 0, 1, 1, 1, 2])
    expected = np.zeros(3)
    for counts in product(range(3), repeat=6):
        law = [
            (1 - p) ** 2 if x == 0 else 2 * p * (1 - p) if x == 1 else p * p
            for x, p in zip(counts, chances)
        ]
        parts = variance_parts(Counts.of(counts, [2] * 6), problems)
        expected += np.prod(law) * np.array([parts.sampling, parts.prefixes, parts.problems])
    within = [chances[:2].var(ddof=1), chances[2:5].var(ddof=1)]
    means = np.array([chances[:2].mean(), chances[2:5].mean()])
    # of fixed problems: the spread of their means, less the share of their prefixes' spread
    between = means.var(ddof=1) - np.mean([within[0] / 2, within[1] / 3])
    assert expected[0] == pytest.approx((chances * (1 - chances)).mean() / 2)
    assert expected[1] == pytest.approx((within[0] * 1 + within[1] * 2) / 3)
    assert expected[2] == pytest.approx(between)


def test_variance_parts_of_one_prefix_a_problem_are_undefined() -> None:
    parts = variance_parts(Counts.of([1, 2], [2, 2]), [0, 1])
    assert parts.sampling == 0.125
    assert math.isnan(parts.prefixes)
    assert math.isnan(parts.problems)
    assert math.isnan(variance_parts(Counts.of([1, 2], [2, 2]), [0, 0]).problems)
    assert math.isnan(variance_parts(Counts.of([], []), []).sampling)


def test_covariance_and_correlations_of_a_hand_sized_case() -> None:
    """Known ends: no noise, so they are numpy's."""
    signal, problems = np.array([1.0, 3.0, 2.0, 5.0]), np.array([0, 0, 1, 2])
    start, end = Counts.of([0, 1, 0, 0], [0] * 4), Counts.of([0, 0, 1, 1], [0] * 4)
    found = change_and_signal(signal, start, end, problems)
    change = np.array([0.0, -1.0, 1.0, 1.0])
    assert found.covariance.value == pytest.approx(np.cov(signal, change)[0, 1])
    assert found.pearson.value == pytest.approx(np.corrcoef(signal, change)[0, 1])
    ranks = np.corrcoef([1, 3, 2, 4], [2, 1, 3.5, 3.5])[0, 1]
    assert found.spearman.value == pytest.approx(ranks)
    kept = [np.cov(signal[problems != each], change[problems != each])[0, 1] for each in range(3)]
    error = np.sqrt(2 / 3 * ((kept - np.mean(kept)) ** 2).sum())
    assert found.covariance.standard_error == pytest.approx(error)


def test_ends_of_a_correlation_stay_within_its_range_and_the_signal_may_lie_far_from_0() -> None:
    signal = 1e5 + np.array([0.0, 0.1, 1.0, 0.9, 2.2])
    start, end = Counts.of([1, 1, 0, 0, 0], [0] * 5), Counts.of([0, 0, 0, 0, 1], [0] * 5)
    found = change_and_signal(signal, start, end, np.arange(5))
    assert found.pearson.value == pytest.approx(np.corrcoef(signal, [-1, -1, 0, 0, 1])[0, 1])
    assert found.pearson.high == 1
    turned = change_and_signal(-signal, start, end, np.arange(5))
    assert turned.pearson.low == -1
    assert turned.pearson.high == pytest.approx(-found.pearson.low)
    constant = change_and_signal(np.full(5, 37.3), start, end, np.arange(5))
    assert constant.pearson.note == nv.CONSTANT
    assert constant.covariance.value == pytest.approx(0, abs=1e-12)


def simulated(
    draws: int, chances: str, rng: np.random.Generator, count: int = 4000
) -> tuple[np.ndarray, Counts, Counts, float, float]:
    """Segments whose true change is known; the true covariance and correlation with the signal."""
    if chances == "U-shaped":
        start, end = rng.beta(0.3, 0.3, count), rng.beta(0.3, 0.3, count)
    else:
        start = rng.uniform(0.2, 0.8, count)
        end = np.clip(start + rng.normal(0, 0.15, count), 0, 1)
    signal = 2 * (end - start) + rng.normal(0, 0.5, count)
    drawn = np.full(count, draws)
    true = np.cov(signal, end - start)[0, 1], np.corrcoef(signal, end - start)[0, 1]
    first, last = (Counts.of(rng.binomial(draws, p), drawn) for p in (start, end))
    return signal, first, last, *true


@pytest.mark.parametrize("draws", [4, 8, 16])
@pytest.mark.parametrize("chances", ["U-shaped", "in the middle"])
def test_the_corrected_correlation_is_unbiased_and_the_raw_one_is_lowered(
    draws: int, chances: str
) -> None:
    rng = np.random.default_rng(draws)
    errors, raw = [], []
    for _ in range(60):
        signal, start, end, covariance, correlation = simulated(draws, chances, rng)
        found = change_and_signal(signal, start, end, np.arange(signal.size) // 8)
        errors.append((found.covariance.value - covariance, found.pearson.value - correlation))
        raw.append(np.corrcoef(signal, end.values - start.values)[0, 1] - correlation)
    mean, error = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / np.sqrt(60)
    assert np.all(np.abs(mean) < 4 * error)
    assert np.mean(raw) < -10 * error[1]


def test_nothing_but_noise_is_undefined_with_its_reason() -> None:
    start, end = Counts.of([1, 1, 1, 1], [2] * 4), Counts.of([1, 1, 1, 1], [2] * 4)
    found = change_and_signal([1.0, 2.0, 3.0, 5.0], start, end, [0, 1, 2, 3])
    assert found.covariance.value == 0
    assert math.isnan(found.pearson.value)
    assert found.pearson.note == nv.NOTHING_LEFT
    assert found.spearman.note == nv.NO_CHANGE


def test_a_constant_signal_and_too_few_segments_are_undefined() -> None:
    start, end = Counts.of([0, 0, 1], [2] * 3), Counts.of([2, 0, 0], [2] * 3)
    assert change_and_signal([1.0] * 3, start, end, [0, 1, 2]).pearson.note == nv.CONSTANT
    few = change_and_signal(
        [1.0, 2.0], Counts.of([0, 0], [2, 2]), Counts.of([1, 1], [2, 2]), [0, 1]
    )
    assert few.covariance.note == nv.FEW
