"""Values of prefixes that are known from a few draws: their variance, and what goes with their
change; no I/O.

A value is the chance of a right answer from a prefix, estimated by the share of right ones among
its fresh continuations. Each estimate carries sampling noise of known size, p (1 - p) / r, of which
x (r - x) / r^2 / (r - 1) is an unbiased estimate from x right ones of r.

    variance_parts(correct, draws, problems)         # sampling, between prefixes, between problems
    change_and_signal(signal, Counts(...), Counts(...), problems)   # covariance and correlations
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from decaylab.maths import jackknife
from decaylab.maths.clusters import Floats, Ints, finite_column
from decaylab.maths.statistics import Estimate

NOTHING_LEFT = "no variance of the change is left beside sampling noise: undefined"
CONSTANT = "the signal is the same everywhere: undefined"
NO_CHANGE = "the values do not change: undefined"
FEW = "fewer than 3 segments: undefined"
FEWEST, NOTHING = 3, 1e-12


@dataclass(frozen=True)
class Counts:
    """Right continuations and continuations of each prefix, [prefixes].

    draws of 0 mark a value that is known: that of a rollout that has ended, whose ``correct`` is
    its outcome, 0 or 1.
    """

    correct: Floats
    draws: Floats

    @classmethod
    def of(cls, correct: ArrayLike, draws: ArrayLike) -> Counts:
        """Raises ValueError for a single draw, whose noise cannot be estimated, or a number of
        right ones that is not possible."""
        right, drawn = finite_column("correct", correct), finite_column("draws", draws)
        if right.shape != drawn.shape:
            raise ValueError("correct and draws must have one entry per prefix")
        if np.any((drawn < 0) | (drawn == 1)):
            raise ValueError("draws must be at least 2, or 0 where the value is known")
        if np.any((right < 0) | (right > np.maximum(drawn, 1))):
            raise ValueError("correct must lie between 0 and draws")
        return cls(right, drawn)

    @property
    def values(self) -> Floats:
        return self.correct / np.maximum(self.draws, 1)

    @property
    def noise(self) -> Floats:
        """Unbiased estimate of each value's sampling variance; 0 where it is known."""
        spread = self.values * (1 - self.values)
        return np.where(self.draws > 1, spread / np.maximum(self.draws - 1, 1), 0.0)


@dataclass(frozen=True)
class VarianceParts:
    """Variances of values at one position, each estimated without bias; NaN if undefined.

    sampling: of a value around the chance that it estimates, mean over prefixes. prefixes: of the
    true values of one problem's prefixes. problems: of the problems' mean true values. The last two
    are over problems with at least two prefixes, and can come out below 0.
    """

    sampling: float
    prefixes: float
    problems: float


def variance_parts(counts: Counts, problems: ArrayLike) -> VarianceParts:
    """Takes the variance of values apart.

    The spread of the estimates within a problem is that of the true values plus sampling noise; the
    spread of the problems' means is theirs plus a share 1/n of both.

    problems: integer codes, [prefixes].
    """
    values, noise = counts.values, counts.noise
    if values.size == 0:
        return VarianceParts(np.nan, np.nan, np.nan)
    place = np.unique(np.asarray(problems), return_inverse=True)[1]
    size = np.bincount(place).astype(np.float64)
    means = np.bincount(place, values) / size
    squares = np.bincount(place, (values - means[place]) ** 2)
    several = size > 1
    if not several.any():
        return VarianceParts(float(noise.mean()), np.nan, np.nan)
    spread = squares[several] / (size[several] - 1)
    noise_of = np.bincount(place, noise)[several] / size[several]
    degrees = size[several] - 1
    prefixes = float(degrees @ (spread - noise_of) / degrees.sum())
    if several.sum() < 2:
        return VarianceParts(float(noise.mean()), prefixes, np.nan)
    between = means[several].var(ddof=1) - (spread / size[several]).mean()
    return VarianceParts(float(noise.mean()), prefixes, float(between))


@dataclass(frozen=True)
class ChangeAndSignal:
    """How a signal goes with the change of value over the same segments.

    covariance: needs no correction for noise. pearson: the variance of the change is taken less its
    sampling part. spearman: raw, lowered by the noise.
    """

    covariance: Estimate
    pearson: Estimate
    spearman: Estimate


def change_and_signal(
    signal: ArrayLike, start: Counts, end: Counts, problems: ArrayLike, *, level: float = 0.95
) -> ChangeAndSignal:
    """Covariance and correlations of a signal with the change of value over segments.

    Noise in the values is independent of the signal, so it adds nothing to the covariance. It adds
    its own variance to that of the change, which is estimated at both ends and taken off.

    Args:
        signal: [segments].
        start, end: the values at both ends of each segment, from draws of their own.
        problems: integer codes, [segments].
        level: of the intervals, by the jackknife over problems; the ranks behind Spearman's
            correlation are held.

    Raises:
        ValueError: arrays of different lengths or a signal that is not finite.
    """
    x, codes = finite_column("signal", signal), np.asarray(problems)
    if not x.shape == start.correct.shape == end.correct.shape == codes.shape:
        raise ValueError("signal, start, end and problems must have one entry per segment")
    place: Ints = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    change = end.values - start.values
    sums = _sums(x, change, start.noise + end.noise, place)
    ranks = _sums(rankdata(x), rankdata(change), np.zeros(x.size), place)
    return ChangeAndSignal(
        _estimated(_covariance, sums, level, (-np.inf, np.inf)),
        _estimated(_pearson, sums, level, (-1.0, 1.0)),
        _estimated(_pearson, ranks, level, (-1.0, 1.0), NO_CHANGE),
    )


def _sums(x: Floats, y: Floats, noise: Floats, place: Ints) -> Floats:
    """Sums over segments by problem, [7, problems]: of 1, x, y, x^2, y^2, x y and the noise of y.

    x and y are taken less their means over all, which changes no moment but spares rounding.
    """
    x, y = (each - each.sum() / max(each.size, 1) for each in (x, y))
    columns = (np.ones(x.size), x, y, x * x, y * y, x * y, noise)
    return np.stack([np.bincount(place, one) for one in columns])


def _estimated(
    formula: Callable[[Floats], Floats],
    sums: Floats,
    level: float,
    within: tuple[float, float],
    nothing: str = NOTHING_LEFT,
) -> Estimate:
    whole = sums.sum(axis=1, keepdims=True)
    number, x, _, squares = whole[:4, 0]
    value, note = float(formula(whole)[0]), nothing
    if _moment(number, x, x, squares) <= NOTHING:
        note = CONSTANT
    if number < FEWEST:
        value, note = np.nan, FEW
    replicates = formula(whole - sums)
    return jackknife.estimate(
        value, replicates, rollouts=int(number), level=level, within=within, note=note
    )


def _covariance(sums: Floats) -> Floats:
    number, x, y, _, _, products, _ = sums
    return _moment(number, x, y, products)


def _pearson(sums: Floats) -> Floats:
    """Elementwise; NaN where a variance is not above 0."""
    number, x, y, squares, changes, products, noise = sums
    first = _moment(number, x, x, squares)
    second = _moment(number, y, y, changes) - noise / np.maximum(number, 1)
    defined = (first > NOTHING) & (second > NOTHING)
    scale = np.sqrt(np.where(defined, first * second, 1.0))
    return np.where(defined, _moment(number, x, y, products) / scale, np.nan)


def _moment(number: Floats, x: Floats, y: Floats, products: Floats) -> Floats:
    """Sum of (x - mean) (y - mean) / (n - 1)."""
    return (products - x * y / np.maximum(number, 1)) / np.maximum(number - 1, 1)
