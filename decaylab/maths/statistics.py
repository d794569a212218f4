"""Proportions and their differences, with intervals that resample the problem; no I/O.

Data are in long form, one entry per rollout: ``problems`` (any integers) and values in [0, 1]. The
estimand is always the mean over rollouts, sum(w x) / sum(w); the independent unit is always the
problem. Undefined values are NaN, with the reason in ``Estimate.note``.

    proportion(correct, problems)       # accuracy, with an interval that is valid near 0 and 1
    paired_difference(prefixed, unprefixed, problems)     # over the same rollouts

Ratios of such means are in decaylab.maths.retention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from decaylab.maths.clusters import (
    Floats,
    check_fraction,
    checked_rollouts,
    clustered_se,
    finite_column,
    masses_by_problem,
    per_problem_sums,
)

# Each clustered variance behind an interval includes half a problem that is all correct and half a
# problem that is all wrong (Jeffreys' prior counts, with the problem as the unit). Without them the
# design effect of a few failures is so noisy that intervals cover .88 to .91 at accuracy .99
# (measured; tests/maths/test_statistics.py has the rest).
PSEUDO_PROBLEMS = 0.5
# Weight, in problems, of an unseen difference of a whole problem (see paired_difference).
UNSEEN = 0.1
UNDEFINED = (float("nan"),) * 4
ALIKE = "the same in every problem: no interval"
ONE_PROBLEM = "fewer than 2 problems: no interval"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and sample size.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.
        standard_error: of the value (linearised, clustered by problem); the interval is not built
            from it.
        method: the interval's name.
        problems: number of problems with a weight above 0.
        rollouts: number of rollouts with a weight above 0.
        note: why something is NaN or was left out, or "".
    """

    value: float
    low: float
    high: float
    standard_error: float
    method: str
    problems: int
    rollouts: int
    note: str = ""


def proportion(
    values: ArrayLike,
    problems: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    critical: float | None = None,
) -> Estimate:
    """Mean over rollouts of values in [0, 1], with a problem-clustered Wilson interval.

    The Wilson score interval is taken at the effective sample size p(1-p) / SE^2, with Student's t
    at G-1 degrees of freedom in place of z. SE^2 and p in that ratio include the pseudo-problems
    (see PSEUDO_PROBLEMS). The size is at most the number of rollouts (sum(w)^2 / sum(w^2) with
    weights). If the clustered variance is zero, it is the effective number of problems,
    sum(m)^2 / sum(m^2) for problems of mass m.

    critical: multiplier for a simultaneous band (``simultaneous_critical``). The estimate's own t
        quantile is used if it is larger, so a band never narrows the interval.

    Raises ValueError for values outside [0, 1], arrays of different lengths, or negative weights.

    Source: Wilson 1927; clustered SE Miller, arXiv 2411.00640, appendix A, with G/(G-1); effective
    size and t Korn and Graubard 1998, Franco et al. 2019. The pseudo-problems are ours.
    """
    (x,), codes, w = checked_rollouts((values,), problems, weights)
    masses, method = masses_by_problem((x,), codes, w), _method("clustered Wilson", critical)
    count = masses.shape[1]
    if count < 2:
        return _without_interval(masses[1], masses[0], method, w.size)
    mass, sums, multiplier = masses[0], masses[1], _multiplier(count, level, critical)
    total, square, hits = float(mass.sum()), float(mass @ mass), float(sums.sum())
    value, size = hits / total, square / total  # size: of a pseudo-problem
    residual = (sums - value * mass) / total
    seen = total + 2 * PSEUDO_PROBLEMS * size
    centre = (hits + PSEUDO_PROBLEMS * size) / seen
    around = sums - centre * mass
    spread = count / (count - 1) * float(around @ around) + PSEUDO_PROBLEMS * size**2 * (
        centre**2 + (1 - centre) ** 2
    )
    effective = min(total * seen * centre * (1 - centre) / spread, total**2 / float(w @ w))
    if float(residual @ residual) < 1e-20:
        effective = total**2 / square
    low, high = (float(end) for end in wilson(value, effective, multiplier))
    return Estimate(value, low, high, clustered_se(residual), method, count, w.size)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    problems: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    critical: float | None = None,
) -> Estimate:
    """Mean of first - second over the same rollouts, with a t interval that allows for rare events.

    If few problems differ, the estimate of their spread is poor and skewed. So the squared
    deviations of the problems' sums gain half a pseudo-problem in each direction, of the size of
    those that differ: (sum e^2 + .2) / (K + .1). Here e is the deviation of a problem, in units of
    an average problem, and K = (sum e^2)^2 / sum e^4 is about the number of problems that differ.
    K is at most 4 sum d^2 over their differences d, since differences below half a problem say
    little about larger ones. If no problem differs, that adds one whole problem in each direction,
    so identical outcomes have an interval too. The centre moves by sum e^3 / sum e^2 / 2, divided
    by the number of problems, towards the longer tail. Ends are clipped to [-1, 1].

    critical: as in ``proportion``. Raises ValueError as ``proportion`` does.

    Source: clustered t as in ``proportion``; pseudo-counts Bonett and Price 2012; skewness Johnson
    1978. Scaling both by the size of the differences, and the constants, are ours: by enumeration,
    coverage with one sample per problem is at least .927 for any accuracies at 10 to 500 problems
    (benchmarks/coverage.py measures the rest).
    """
    (x, y), codes, w = checked_rollouts((first, second), problems, weights)
    masses, method = (
        masses_by_problem((x, y), codes, w),
        _method("paired t with pseudo-problems", critical),
    )
    count = masses.shape[1]
    if count < 2:
        return _without_interval(masses[1] - masses[2], masses[0], method, w.size)
    mass, sums = masses[0], masses[1] - masses[2]
    total = float(mass.sum())
    size = float(mass @ mass) / total  # of an average problem
    value = float(masses[1].sum()) / total - float(masses[2].sum()) / total
    deviations = (sums - value * mass) / size
    squares, fourths = float(deviations @ deviations), float((deviations**2) @ (deviations**2))
    differing = (
        min(squares**2 / fourths, 4 * float(sums @ sums) / size**2) if fourths > 1e-20 else 0.0
    )
    pseudo = (squares + 2 * UNSEEN) / (differing + UNSEEN)
    skew = float((deviations**3).sum()) / squares / 2 if fourths > 1e-20 else 0.0
    middle = value + skew * size / total
    reach = (
        _multiplier(count, level, critical)
        * np.sqrt(count / (count - 1) * squares + pseudo)
        * size
        / total
    )
    low, high = max(-1.0, min(value, middle - reach)), min(1.0, max(value, middle + reach))
    return Estimate(
        value,
        float(low),
        float(high),
        clustered_se((sums - value * mass) / total),
        method,
        count,
        w.size,
    )


def wilson(value: ArrayLike, effective: ArrayLike, multiplier: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's score interval of proportions at effective sample sizes: low and high, elementwise.

    Source: Wilson 1927.
    """
    p, shrink = (
        np.asarray(value, dtype=np.float64),
        np.asarray(multiplier) ** 2 / np.asarray(effective),
    )
    middle = (p + shrink / 2) / (1 + shrink)
    half = np.sqrt(shrink * np.maximum(p * (1 - p), 0.0) + shrink**2 / 4) / (1 + shrink)
    return np.minimum(p, np.maximum(middle - half, 0.0)), np.maximum(
        p, np.minimum(middle + half, 1.0)
    )


def influence(
    values: ArrayLike, problems: ArrayLike, codes: ArrayLike, *, weights: ArrayLike | None = None
) -> Floats:
    """Influence of each problem on the mean over rollouts, [codes]: sum of w (x - mean) / sum(w).

    A problem without rollouts has influence 0. Stack the columns of several lengths for
    ``simultaneous_critical``. For a difference, pass the differences as values. Raises ValueError
    for a problem that is not in ``codes``.
    """
    x = finite_column("values", values)
    w = np.ones(x.size) if weights is None else np.asarray(weights, dtype=np.float64)
    mass, sums = per_problem_sums(np.stack([w, w * x], axis=1), problems, codes).T
    total = mass.sum()
    return np.zeros(mass.size) if total == 0 else (sums - mass * (sums.sum() / total)) / total


def simultaneous_critical(
    residuals: ArrayLike, *, level: float = 0.95, seed: int = 0, draws: int = 20000
) -> float:
    """Multiplier of a simultaneous band over lengths: quantile of max |T|.

    residuals: influences, [problems, lengths]. T is multivariate t with G-1 degrees of freedom and
    the empirical correlation of the columns; an all-zero column counts as independent of the
    others. Never below the pointwise t quantile. NaN with fewer than 2 problems.

    Source: Hothorn, Bretz and Westfall 2008 (max-t), by Monte Carlo.
    """
    columns = np.asarray(residuals, dtype=np.float64)
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise ValueError(
            "residuals must be [problems, lengths] with at least one length, got shape "
            f"{columns.shape}"
        )
    if columns.shape[0] < 2:
        return float("nan")
    norms = np.sqrt((columns**2).sum(axis=0))
    unit = columns / np.where(norms > 0, norms, 1.0)
    correlation = unit.T @ unit
    np.fill_diagonal(correlation, 1.0)
    eigenvalues, vectors = np.linalg.eigh(correlation)
    rng, degrees = np.random.default_rng(seed), columns.shape[0] - 1
    normal = (
        rng.standard_normal((draws, columns.shape[1]))
        @ (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))).T
    )
    largest = np.abs(normal).max(axis=1) / np.sqrt(rng.chisquare(degrees, draws) / degrees)
    return max(float(np.quantile(largest, level)), _multiplier(columns.shape[0], level, None))


def sign_flip_p(
    differences: ArrayLike, problems: ArrayLike, *, seed: int = 0, draws: int = 10000
) -> float:
    """Two-sided p-value of the sign-flip test over problems.

    Under the null, each problem's sum of differences is equally likely to have either sign. With up
    to 14 non-zero sums, all sign patterns are enumerated. With more, p = (b+1) / (draws+1), where b
    counts random patterns at least as extreme. 1 if all sums are zero.

    Source: Fisher 1935; (b+1)/(draws+1) Phipson and Smyth 2010.
    """
    x = finite_column("differences", differences)
    codes = np.asarray(problems)
    sums = per_problem_sums(x, codes, np.unique(codes))
    slack = 1e-9 * float(np.abs(x).sum())  # a pattern that ties in exact arithmetic must tie here
    sums = sums[np.abs(sums) > slack]
    observed = abs(float(sums.sum())) - slack
    if sums.size == 0:
        return 1.0
    if sums.size <= 14:
        patterns = 1 - 2 * ((np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1)
        return float(np.mean(np.abs(patterns @ sums) >= observed))
    rng, extreme, chunk = np.random.default_rng(seed), 0, max(1, 2_000_000 // sums.size)
    for start in range(0, draws, chunk):
        signs = 1 - 2 * rng.integers(0, 2, (min(chunk, draws - start), sums.size), dtype=np.int8)
        extreme += int(np.sum(np.abs(signs @ sums) >= observed))
    return (extreme + 1) / (draws + 1)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values, in the order given; NaN stays NaN and is not counted.

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("p_values must lie in [0, 1]")
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int(np.sum(~np.isnan(p)))]  # argsort puts NaN last
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def smallest_detectable_difference(
    standard_error: float, *, level: float = 0.95, power: float = 0.8
) -> float:
    """Smallest true difference detected at this level with this power: (z + z') standard errors."""
    check_fraction("level", level)
    check_fraction("power", power)
    return float((ndtri(1 - (1 - level) / 2) + ndtri(power)) * standard_error)


def cautious_error(estimate: Estimate, *, level: float = 0.95) -> float:
    """The larger of the standard error and the one that the interval implies.

    Near 0 and 1 the plain standard error is far too small.
    """
    return max(
        estimate.standard_error,
        (estimate.high - estimate.low) / (2 * float(ndtri(0.5 + level / 2))),
    )


def avg_at_k(correct: ArrayLike) -> float:
    """Mean correctness over [problems, samples]; NaN if empty."""
    grades = np.asarray(correct, dtype=np.float64)
    if grades.ndim != 2:
        raise ValueError(f"correct must be [problems, samples], got shape {grades.shape}")
    return float(grades.mean()) if grades.size else float("nan")


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> Floats:
    """Unbiased estimate of P(at least one of k samples is correct): 1 - C(n-c, k) / C(n, k).

    Elementwise, from c correct of n samples. Raises ValueError unless 1 <= k <= n and 0 <= c <= n:
    no unbiased estimator exists for k > n.

    Source: Chen et al., arXiv 2107.03374, equation 1.
    """
    n, c = np.broadcast_arrays(
        np.asarray(samples, dtype=np.int64), np.asarray(correct, dtype=np.int64)
    )
    if k < 1 or np.any(n < k):
        raise ValueError(
            f"k must lie between 1 and the number of samples, got k={k} with {n.min(initial=k)} "
            "samples"
        )
    if np.any((c < 0) | (c > n)):
        raise ValueError("correct must lie between 0 and samples")
    miss = np.ones(n.shape)
    for drawn in range(k):
        miss = miss * np.maximum(n - c - drawn, 0) / (n - drawn)
    return 1.0 - miss


def _without_interval(sums: Floats, mass: Floats, method: str, rollouts: int) -> Estimate:
    if mass.size == 0:
        return Estimate(*UNDEFINED, method, 0, 0, "no rollouts")
    return Estimate(float(sums[0] / mass[0]), *UNDEFINED[:3], method, 1, rollouts, ONE_PROBLEM)


def _multiplier(count: int, level: float, critical: float | None) -> float:
    check_fraction("level", level)
    quantile = float(stdtrit(count - 1, 1 - (1 - level) / 2))
    return quantile if critical is None else max(critical, quantile)


def _method(name: str, critical: float | None) -> str:
    return name if critical is None else f"simultaneous {name}"
