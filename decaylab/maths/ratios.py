"""Ratios of two mean differences over the same rollouts, with Fieller's interval.

    ratio_of_differences((handed, student), (teacher, student), problems)

Arrays in, estimates out, as in decaylab.maths.statistics: one entry per rollout, problems as
integer codes, NaN where undefined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from decaylab.maths.clusters import (
    Floats,
    check_fraction,
    checked_rollouts,
    masses_by_problem,
)
from decaylab.maths.statistics import ONE_PROBLEM, UNDEFINED, Estimate

FIELLER = "Fieller's interval over problems"
NO_DENOMINATOR = "the denominator is within 2 standard errors of 0"
OPEN_ENDED = (
    "the denominator is not shown to differ from 0 at this level: the interval is unbounded"
)


def ratio_of_differences(
    numerator: tuple[ArrayLike, ArrayLike],
    denominator: tuple[ArrayLike, ArrayLike],
    problems: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """Mean of the first pair's difference over that of the second pair, over the same rollouts.

    The interval has every ratio r that a clustered t test of numerator - r x denominator = 0 does
    not reject. It is unbounded, with a note, where that test does not reject a denominator of 0.
    NaN with a note where the denominator is within 2 clustered standard errors of 0.

    Args:
        numerator: two columns of values in [0, 1], [rollouts].
        denominator: likewise, of the same rollouts.
        problems: the problem of each rollout, as an integer.
        level: of the interval.

    Raises:
        ValueError: values outside [0, 1], or arrays of different lengths.

    Source: Fieller 1954; the errors are clustered by problem, with G/(G-1) and Student's t.
    """
    check_fraction("level", level)
    columns, codes, weights = checked_rollouts((*numerator, *denominator), problems, None)
    masses = masses_by_problem(columns, codes, weights)
    count = masses.shape[1]
    if count < 2:
        note = ONE_PROBLEM if count else "no rollouts"
        return Estimate(*UNDEFINED, FIELLER, count, weights.size, note)
    means, covariance = _means(masses)
    above, below = means.tolist()
    error = float(np.sqrt(covariance[1, 1]))
    if abs(below) <= max(2 * error, 1e-9):
        return Estimate(*UNDEFINED, FIELLER, count, weights.size, NO_DENOMINATOR)
    value = above / below
    residual = np.array([1.0, -value]) / below
    standard_error = float(np.sqrt(max(residual @ covariance @ residual, 0.0)))
    quantile = float(stdtrit(count - 1, 1 - (1 - level) / 2))
    low, high = _ends(above, below, covariance * quantile**2)
    note = OPEN_ENDED if np.isinf(low) else ""
    return Estimate(value, low, high, standard_error, FIELLER, count, weights.size, note)


def _means(masses: Floats) -> tuple[Floats, Floats]:
    """The means of both differences, [2], and their clustered covariance, [2, 2].

    masses: sums by problem of rollouts and of the four columns, [5, problems].
    """
    rollouts, sums = masses[0], masses[1::2] - masses[2::2]
    total = rollouts.sum()
    means = sums.sum(axis=1) / total
    influences = (sums - means[:, None] * rollouts) / total
    count = rollouts.size
    return means, count / (count - 1) * influences @ influences.T


def _ends(above: float, below: float, scaled: Floats) -> tuple[float, float]:
    """The two ratios r at which (above - r x below)^2 equals the scaled variance of that.

    Unbounded where the parabola in r does not open upwards.
    """
    square = below**2 - scaled[1, 1]
    middle = above * below - scaled[0, 1]
    rest = above**2 - scaled[0, 0]
    if square <= 0:
        return -np.inf, np.inf
    reach = np.sqrt(max(middle**2 - square * rest, 0.0))
    return float((middle - reach) / square), float((middle + reach) / square)
