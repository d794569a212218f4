"""Means over tokens by cell (a position bin, a category), with errors that resample the problem; numpy and scipy only.

    sums, counts = sums_by_problem(reverse_kl, problems, bins, problem_count, bin_count), ...
    before = means(sums, counts)
    change = difference(after, before)       # paired by problem
    low, high = interval(change)

Everything is linear in the problems' influences, [problems, cells], so that paired changes, ratios and bands are all made
of the same columns.

Source: clustered standard errors Miller, arXiv 2411.00640, appendix A, with G/(G-1); ratios by the delta method on the
log scale (Fieller 1940 gives the same to first order); bands by max-t as in ``statistics.simultaneous_critical``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from decaylab.clusters import Floats, Ints, check_fraction
from decaylab.statistics import simultaneous_critical

Estimand = Literal["tokens", "problems"]


@dataclass(frozen=True)
class CellMeans:
    """A number for each cell with what its interval needs.

    value: [cells], NaN where no token is. influence: of each problem on it, [problems, cells], 0 where it has no token.
    present: whether a problem has a token in the cell. tokens: [cells]. log_scale: intervals are symmetric in the
    logarithm.
    """

    value: Floats
    influence: Floats
    present: NDArray[np.bool_]
    tokens: Ints
    log_scale: bool = False

    @property
    def problems(self) -> Ints:
        """Problems with a token in the cell, [cells]."""
        return np.asarray(self.present.sum(axis=0), dtype=np.int64)

    @property
    def standard_error(self) -> Floats:
        """Clustered by problem, [cells]; NaN with fewer than 2 problems."""
        count = self.problems.astype(np.float64)
        factor = np.where(count > 1, count / np.maximum(count - 1, 1), np.nan)
        return np.asarray(np.sqrt(factor * (self.influence**2).sum(axis=0)))


def sums_by_problem(
    values: ArrayLike | None, problems: ArrayLike, cells: ArrayLike, problem_count: int, cell_count: int
) -> Floats:
    """Sum of values over the tokens of each problem in each cell, [problems, cells]; without values, their number.

    problems, cells: codes of each token, [tokens]; a token of a negative cell is in none.
    """
    where = np.asarray(cells)
    inside = where >= 0
    place = np.asarray(problems)[inside] * cell_count + where[inside]
    weights = None if values is None else np.asarray(values)[inside]
    found = np.bincount(place, weights, minlength=problem_count * cell_count)
    return found.reshape(problem_count, cell_count).astype(np.float64)


def means(sums: Floats, counts: Floats, estimand: Estimand = "tokens") -> CellMeans:
    """Mean over the tokens of a cell (``tokens``), or mean of the problems' means (``problems``)."""
    present = counts > 0
    total, problems = counts.sum(axis=0), present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if estimand == "tokens":
            value = sums.sum(axis=0) / total
            influence = (sums - counts * value) / total
        else:
            own = np.where(present, sums / np.where(present, counts, 1), 0.0)
            value = own.sum(axis=0) / problems
            influence = np.where(present, own - value, 0.0) / problems
    influence = np.where(total > 0, influence, 0.0)
    return CellMeans(value, influence, present, total.astype(np.int64))


def difference(after: CellMeans, before: CellMeans) -> CellMeans:
    """after - before, paired by problem."""
    return CellMeans(
        after.value - before.value,
        _where_defined(after.influence - before.influence, after, before),
        after.present | before.present,
        np.minimum(after.tokens, before.tokens),
    )


def ratio(after: CellMeans, before: CellMeans) -> CellMeans:
    """after / before, paired by problem; NaN where before is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(before.value > 0, after.value / before.value, np.nan)
        influence = (after.influence - value * before.influence) / before.value
    influence = np.where(np.isfinite(value), influence, 0.0)
    return CellMeans(
        value, influence, after.present | before.present, np.minimum(after.tokens, before.tokens), log_scale=True
    )


def _where_defined(influence: Floats, *parts: CellMeans) -> Floats:
    defined = np.all([np.isfinite(part.value) for part in parts], axis=0)
    return np.where(defined, influence, 0.0)


def interval(estimate: CellMeans, *, level: float = 0.95, critical: float | None = None) -> tuple[Floats, Floats]:
    """Low and high, [cells]: Student's t with G-1 degrees of freedom; NaN with fewer than 2 problems.

    critical: multiplier of a simultaneous band (`band_multiplier`); a cell with few problems keeps its own, larger, t.
    """
    check_fraction("level", level)
    degrees = np.maximum(estimate.problems - 1, 1)
    multiplier = np.asarray(stdtrit(degrees, 1 - (1 - level) / 2))
    if critical is not None:
        multiplier = np.maximum(multiplier, critical)
    reach = multiplier * estimate.standard_error
    if not estimate.log_scale:
        return estimate.value - reach, estimate.value + reach
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        factor = np.where(estimate.value > 0, np.exp(reach / estimate.value), np.nan)
    return estimate.value / factor, estimate.value * factor


def band_multiplier(estimate: CellMeans, *, level: float = 0.95, seed: int = 0) -> float:
    """Multiplier of the band that holds at all cells at once, over the cells with at least 2 problems; NaN if none."""
    usable = (estimate.problems > 1) & np.isfinite(estimate.value)
    scale = np.where(estimate.log_scale & (estimate.value > 0), estimate.value, 1.0)
    if not usable.any():
        return float("nan")
    return simultaneous_critical((estimate.influence / scale)[:, usable], level=level, seed=seed)
