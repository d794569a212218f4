"""Means over training runs that differ only in their seed, with Student's t over the seeds.

    over_seeds([0.61, 0.64, 0.58])              # one number per run: mean, interval, p against 0
    ratios_over_seeds(esr_seconds, full_seconds)  # paired by seed, symmetric in the logarithm

An interval over seeds generalises to other seeds on the same problems. One that resamples problems
(decaylab.maths.statistics) generalises to other problems with the same seeds. Neither does both.

Fewer than three seeds have no interval: with two, Student's t spans 12.7 standard errors on either
side. Nor do seeds that disagree: t assumes variation around one value, which fails if some runs
collapsed. If a fifth of all runs collapse, half of all sets of three seeds contain no collapsed
run, and no interval over three seeds can show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit

from decaylab.maths.clusters import check_fraction, finite_column

METHOD = "Student t over training seeds"
LOG_METHOD = "Student t over training seeds on the log scale"
LEAST_SEEDS = 3
APART = 0.1
"""Largest gap between neighbouring seeds, for fractions. With a larger gap the seeds disagree."""
FACTOR = 1.5
"""The same for ratios: the largest factor between neighbouring seeds."""
ONE_SEED = "one training seed: no interval over seeds"
TWO_SEEDS = "two training seeds: no interval over seeds, which takes three"
DISAGREE = "the training seeds disagree: no interval over seeds"
ALIKE = "the same for every training seed: no interval over seeds"


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds with its interval; NaN where undefined, with the reason in ``note``.

    p_value: two-sided, of Student's t test that the mean is 0 (for a ratio, 1).
    """

    value: float
    low: float
    high: float
    standard_error: float
    p_value: float
    seeds: int
    method: str = METHOD
    note: str = ""


def disagree(values: ArrayLike, apart: float) -> bool:
    """Whether two neighbours among the sorted values differ by more than ``apart``."""
    return bool(np.diff(np.sort(np.asarray(values, dtype=np.float64))).max(initial=0.0) > apart)


def apart_by(errors: ArrayLike) -> float:
    """Gap at which seeds disagree, for fractions: the larger of `APART` and four standard errors.

    errors: over problems, one per seed. Sampling alone rarely puts neighbours among three seeds
    that far apart.
    """
    return max(
        APART, 4 * float(np.nan_to_num(np.asarray(errors, dtype=np.float64)).max(initial=0.0))
    )


def over_seeds(values: ArrayLike, *, level: float = 0.95, apart: float = math.inf) -> OverSeeds:
    """Mean of one number per seed, with a Student's t interval at seeds - 1 degrees of freedom.

    apart: largest gap between neighbouring seeds that still allows an interval; see `disagree`.

    Raises ValueError for values that are not finite.
    """
    check_fraction("level", level)
    x = finite_column("values", values)
    if x.size < 2:
        value = float(x[0]) if x.size else math.nan
        return OverSeeds(value, *(math.nan,) * 4, x.size, note=ONE_SEED if x.size else "no run")
    value, error, degrees = float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size)), x.size - 1
    if x.size < LEAST_SEEDS or disagree(x, apart):
        note = TWO_SEEDS if x.size < LEAST_SEEDS else DISAGREE
        return OverSeeds(value, math.nan, math.nan, error, math.nan, x.size, note=note)
    if error <= 1e-12 * max(1.0, abs(value)):
        return OverSeeds(value, math.nan, math.nan, 0.0, math.nan, x.size, note=ALIKE)
    reach = float(stdtrit(degrees, 0.5 + level / 2)) * error
    p_value = 2 * float(stdtr(degrees, -abs(value) / error))
    return OverSeeds(value, value - reach, value + reach, error, p_value, x.size)


def ratios_over_seeds(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> OverSeeds:
    """Geometric mean of first / second, paired by seed; the interval is symmetric in the logarithm.

    Seeds whose neighbouring ratios differ by more than `FACTOR` have no interval.
    standard_error: of the logarithm, times the value (delta method).

    Raises ValueError for numbers that are not above 0, or columns of different lengths.
    """
    a, b = finite_column("first", first), finite_column("second", second)
    if a.shape != b.shape or np.any(np.minimum(a, b) <= 0):
        raise ValueError("first and second must have the same length, with all values above 0")
    logs = over_seeds(np.log(a / b), level=level, apart=math.log(FACTOR))
    value, low, high = (math.exp(end) for end in (logs.value, logs.low, logs.high))
    return replace(
        logs,
        value=value,
        low=low,
        high=high,
        standard_error=value * logs.standard_error,
        method=LOG_METHOD,
    )


def power_over_seeds(seeds: int, effect: float, *, numbers: int = 1, level: float = 0.95) -> float:
    """Power of Student's t test over ``seeds`` seeds.

    effect: in standard deviations between seeds. numbers: how many comparisons share the test,
    which is then at (1 - level) / numbers, Holm's first step. An effect counts as found if it is
    significant, two-sided, with the correct sign. Source: the noncentral t with noncentrality
    effect x sqrt(seeds).
    """
    check_fraction("level", level)
    if seeds < 2:
        return 0.0
    critical = float(stdtrit(seeds - 1, 1 - (1 - level) / (2 * numbers)))
    return 1 - float(nctdtr(seeds - 1, effect * math.sqrt(seeds), critical))


def seeds_that_decide(
    effect: float, *, numbers: int = 1, level: float = 0.95, power: float = 0.8
) -> int:
    """The fewest seeds, at least three, with this power; see `power_over_seeds`."""
    check_fraction("power", power)
    if not effect > 0:
        raise ValueError(f"effect must be above 0, got {effect}")
    seeds = LEAST_SEEDS
    while power_over_seeds(seeds, effect, numbers=numbers, level=level) < power:
        seeds += 1
    return seeds


def smallest_detectable_over_seeds(
    standard_error: float, seeds: int, *, level: float = 0.95, power: float = 0.8
) -> float:
    """Smallest true mean that Student's t test over ``seeds`` seeds finds with this power.

    In the unit of the standard error. Found: significant at the level, two-sided, with the correct
    sign. Uses the noncentral t: with 3 seeds the normal approximation gives less than half of the
    value. NaN with fewer than 2 seeds, or if all seeds are equal.
    """
    check_fraction("level", level)
    check_fraction("power", power)
    if seeds < 2 or not standard_error > 0:
        return math.nan
    degrees = seeds - 1
    critical = float(stdtrit(degrees, 0.5 + level / 2))

    def lacking(noncentrality: float) -> float:
        return 1 - float(nctdtr(degrees, noncentrality, critical)) - power

    top = critical
    while lacking(top) < 0:
        top *= 2
    return float(brentq(lacking, 0.0, top)) * standard_error
