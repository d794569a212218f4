"""Winsorised means over problems, by cell: for values too skewed for an interval of the plain mean.

    level = winsorised((sums, counts))                       # from token_means.sums_by_problem
    change, relative = winsorised_change(after, before)      # paired by problem
    low, high = interval(level)
    band_low, band_high = band(level)                        # simultaneous over all cells

In a position bin, one problem in three hundred may have ten times the median KL. Four out of five
samples of 60 problems miss that problem, so no interval of the plain mean is valid: on the embedded
pair, 95 % intervals covered .60 to .78 in the first bin. A winsorised mean depends on no single
problem. It averages the problems' means over their tokens in the cell, with the highest and the
lowest tenth pulled in to the next value:

    mean over problems of min(max(x, a), b)
    b = x of rank ceil(0.9 n) from below, a = x of rank ceil(0.9 n) from above

Intervals are percentiles of a bootstrap over problems, widened for few problems. A cell with fewer
than `LEAST_PROBLEMS` problems has none. Coverage was measured on problems drawn from those of the
embedded pair and on log-normal problem means (``benchmarks/coverage.py --part bins``).

Source: winsorised means Tukey and McLaughlin 1963; expanded percentile intervals Hesterberg 2015,
section 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from decaylab.maths.clusters import Floats, Ints, bootstrap_weights, check_fraction

PULLED_IN = 0.1
# A band needs more problems: it lies further out, where the bootstrap of few problems falls short.
LEAST_PROBLEMS, LEAST_IN_BAND = 40, 100
DRAWS, LEAST_BEYOND = 2000, 2  # replicates, and how many must lie beyond each end of a band
DRAWS_AT_ONCE = 200  # bounds the memory of the replicates
ESTIMAND = "winsorised mean of problem means (a tenth pulled in on either side)"
CHANGE_ESTIMAND = "winsorised mean of the problems' changes (a tenth pulled in on either side)"
RATIO_ESTIMAND = (
    "winsorised geometric mean of the problems' ratios, minus 1 (a tenth pulled in on either side; "
    "problems above 0 on both sides)"
)
METHOD = "percentile bootstrap over problems"

SumsAndCounts = tuple[Floats, Floats]


@dataclass(frozen=True)
class Winsorised:
    """An estimate per cell, with its bootstrap.

    Attributes:
        value: [cells], NaN without problems.
        replicates: [draws, cells], NaN with fewer than `LEAST_PROBLEMS`.
        problems: number of problems, [cells].
        tokens: number of tokens, [cells]; for a change, on the smaller side.
    """

    value: Floats
    replicates: Floats
    problems: Ints
    tokens: Ints

    @property
    def alike(self) -> NDArray[np.bool_]:
        """Whether nearly all problems have the same value, [cells]: the bootstrap hardly varies."""
        spread = np.ptp(np.quantile(self.replicates, (0.01, 0.99), axis=0), axis=0)
        return np.asarray(spread <= 1e-12 * np.abs(self.value))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether the cell has an interval, [cells]."""
        return np.asarray(np.isfinite(self.replicates).all(axis=0) & ~self.alike)

    @property
    def standard_error(self) -> Floats:
        """Standard deviation of the replicates, [cells]; NaN without an interval."""
        error = np.full(self.value.size, np.nan)
        error[self.usable] = self.replicates[:, self.usable].std(axis=0, ddof=1)
        return error


def winsorised(tokens: SumsAndCounts, *, draws: int = DRAWS, seed: int = 0) -> Winsorised:
    """Winsorised mean of the problems' means in each cell.

    tokens: sum of a quantity over the tokens of each problem in each cell, and their number, both
    [problems, cells]. A problem without tokens in a cell is left out there.
    """
    sums, counts = tokens
    means = _problem_means(tokens, counts > 0)
    return _bootstrapped(means, counts.sum(axis=0).astype(np.int64), draws, seed)


def winsorised_change(
    after: SumsAndCounts, before: SumsAndCounts, *, draws: int = DRAWS, seed: int = 0
) -> tuple[Winsorised, Winsorised]:
    """Change of the problems' means in each cell: in their unit, and relative, as a fraction.

    Both are paired by problem, over the problems with tokens on both sides. The first is the
    winsorised mean of the problems' changes. The second is the winsorised geometric mean of their
    ratios, minus 1, over the problems above 0 on both sides.
    """
    both = (after[1] > 0) & (before[1] > 0)
    late, early = _problem_means(after, both), _problem_means(before, both)
    # An infinite mean must leave the cell without a value, not drop out as inf / inf.
    lost = both & ~(np.isfinite(late) & np.isfinite(early))
    late, early = np.where(lost, np.inf, late), np.where(lost, 1.0, early)
    ratios = np.divide(late, early, out=np.full(both.shape, np.nan), where=early > 0)
    logs = np.log(ratios, out=np.full(both.shape, np.nan), where=ratios > 0)
    tokens = np.minimum(after[1].sum(axis=0), before[1].sum(axis=0)).astype(np.int64)
    change, ratio = (_bootstrapped(values, tokens, draws, seed) for values in (late - early, logs))
    return change, Winsorised(
        np.expm1(ratio.value), np.expm1(ratio.replicates), ratio.problems, tokens
    )


def interval(estimate: Winsorised, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high, [cells]; NaN where `Winsorised.usable` is false."""
    check_fraction("level", level)
    return _percentiles(estimate, (1 - level) / 2)


def band(estimate: Winsorised, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high, [cells], simultaneous by Bonferroni over all cells of `LEAST_IN_BAND` problems.

    NaN in other cells. NaN everywhere if there are too many cells for the number of draws: 2,000
    draws allow 25 cells.
    """
    check_fraction("level", level)
    banded = estimate.usable & (estimate.problems >= LEAST_IN_BAND)
    tail = (1 - level) / 2 / max(int(banded.sum()), 1)
    banded &= tail * len(estimate.replicates) >= LEAST_BEYOND
    low, high = _percentiles(estimate, tail)
    return np.where(banded, low, np.nan), np.where(banded, high, np.nan)


def largest_share(sums: Floats) -> Floats:
    """Largest problem's share of each cell's sum, [cells]; NaN where the sum is not above 0.

    sums: [problems, cells].
    """
    total = sums.sum(axis=0)
    shares = np.divide(
        sums.max(axis=0, initial=0.0),
        total,
        out=np.full(total.shape, np.nan),
        where=(total > 0) & np.isfinite(total),
    )
    return np.asarray(shares)


def problems_needed(present: int, problems: int) -> int:
    """Problems to measure so that about `LEAST_PROBLEMS` reach a cell.

    present: how many of ``problems`` reach it now.
    """
    return -(-LEAST_PROBLEMS * problems // max(present, 1))


def _problem_means(tokens: SumsAndCounts, taking_part: NDArray[np.bool_]) -> Floats:
    """Mean of each problem in each cell, [problems, cells]; NaN where it is left out."""
    return np.asarray(np.divide(*tokens, out=np.full(taking_part.shape, np.nan), where=taking_part))


def _bootstrapped(means: Floats, tokens: Ints, draws: int, seed: int) -> Winsorised:
    """Value and bootstrap from the problems' means, [problems, cells], NaN where left out."""
    problems = np.asarray((~np.isnan(means)).sum(axis=0))
    value = np.concatenate(
        [np.empty(0), *(_replicates(np.ones((1, len(means))), column) for column in means.T)]
    )
    replicates = np.full((draws, value.size), np.nan)
    if (problems >= LEAST_PROBLEMS).any():
        weights = bootstrap_weights(len(means), draws=draws, seed=seed)
        for cell in np.flatnonzero(problems >= LEAST_PROBLEMS):
            replicates[:, cell] = _replicates(weights, means[:, cell])
    return Winsorised(value, replicates, problems, tokens)


def _replicates(weights: Floats, means: Floats) -> Floats:
    """Winsorised mean of one cell, [draws]. weights: [draws, problems]; means: [problems]."""
    ascending = np.argsort(means, kind="stable")[: int((~np.isnan(means)).sum())]
    values = means[ascending]
    if not values.size or not np.isfinite(values).all():
        return np.full(len(weights), np.nan)
    parts = [
        weights[start : start + DRAWS_AT_ONCE, ascending]
        for start in range(0, len(weights), DRAWS_AT_ONCE)
    ]
    return np.concatenate([_winsorised_mean(part, values) for part in parts])


def _winsorised_mean(weights: Floats, values: Floats) -> Floats:
    """Winsorised mean, [draws], of ascending values [problems]; NaN where all weights are 0.

    weights: whole numbers, [draws, problems].
    """
    mass, sums = weights.cumsum(axis=1), (weights * values).cumsum(axis=1)
    total, draws = mass[:, -1], np.arange(len(weights))
    rank = np.ceil((1 - PULLED_IN) * total - 1e-9)
    high = np.argmax(mass >= rank[:, None], axis=1)
    low = np.argmax(mass > (total - rank)[:, None], axis=1)
    middle = sums[draws, high] - sums[draws, low]
    pulled = mass[draws, low] * values[low] + (total - mass[draws, high]) * values[high]
    with np.errstate(invalid="ignore"):
        return np.asarray((middle + pulled) / total)


def _percentiles(estimate: Winsorised, tail: float) -> tuple[Floats, Floats]:
    """The percentiles with this tail on either side, widened as Student's t widens the normal."""
    ends = np.full((2, estimate.value.size), np.nan)
    for cell in np.flatnonzero(estimate.usable):
        count = float(estimate.problems[cell])
        wider = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, tail)))
        replicates = np.sort(estimate.replicates[:, cell])
        last = replicates.size - 1
        ends[:, cell] = replicates[[int(np.floor(wider * last)), int(np.ceil((1 - wider) * last))]]
    return ends[0], ends[1]
