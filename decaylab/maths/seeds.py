"""Means over training runs that differ by their seed alone, with Student's t over the seeds.

    over_seeds([0.61, 0.64, 0.58])              # one number a run: mean, interval, p against 0
    ratios_over_seeds(esr_seconds, full_seconds)  # paired by seed, symmetric in the logarithm

Such an interval holds for other seeds on the problems that were asked. One that resamples problems
(decaylab.maths.statistics) holds for other problems and the seeds at hand. Neither holds for both.

Fewer than three seeds have no interval: of two, Student's t reaches 12.7 standard errors to either
side. Nor have seeds that disagree, since t takes them to vary around one value: some runs that
collapsed are no such thing. Where a fifth of all runs collapse, three seeds hold none that did half
of the time; no interval over three seeds can know of it then.
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
"""Between two neighbouring seeds, for fractions: seeds that lie further apart disagree."""
FACTOR = 1.5
"""The same for ratios: neighbours that differ by a larger factor."""
ONE_SEED = "one training seed: no interval over seeds"
TWO_SEEDS = "two training seeds: no interval over seeds, which takes three"
DISAGREE = "the training seeds disagree: no interval over seeds"
ALIKE = "the same for every training seed: no interval over seeds"


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds with its interval. p_value: two-sided, of Student's t test that it is 0; of
    a ratio, that it is 1.

    Undefined is NaN, and ``note`` says why.
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
    """Whether two neighbours among the sorted values lie further apart than that."""
    return bool(np.diff(np.sort(np.asarray(values, dtype=np.float64))).max(initial=0.0) > apart)


def apart_by(errors: ArrayLike) -> float:
    """How far apart seeds disagree, of fractions with these standard errors over problems: `APART`,
    and four errors.

    Neighbours among three seeds are seldom as far apart by their samples alone.
    """
    return max(
        APART, 4 * float(np.nan_to_num(np.asarray(errors, dtype=np.float64)).max(initial=0.0))
    )


def over_seeds(values: ArrayLike, *, level: float = 0.95, apart: float = math.inf) -> OverSeeds:
    """Mean of one number a seed, with the interval of Student's t at one degree of freedom less
    than there are seeds.

    apart: seeds whose neighbours lie further from each other have no interval; see `disagree`.

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
    """Geometric mean of first / second, paired by seed, with an interval symmetric in the
    logarithm.

    Seeds whose neighbouring ratios differ by more than `FACTOR` have no interval.
    standard_error: of the logarithm, times the value (delta method).

    Raises ValueError for numbers that are not above 0, or columns of different lengths.
    """
    a, b = finite_column("first", first), finite_column("second", second)
    if a.shape != b.shape or np.any(np.minimum(a, b) <= 0):
        raise ValueError("a ratio needs as many numbers on both sides, all above 0")
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
    """Chance that Student's t test over so many seeds finds an effect, in standard deviations
    between seeds.

    numbers: how many are compared; the test is then at (1 - level) / numbers, Holm's first step.
    Found is: significant, two-sided, and of the right sign. Source: the noncentral t with
    noncentrality effect x sqrt(seeds).
    """
    check_fraction("level", level)
    if seeds < 2:
        return 0.0
    critical = float(stdtrit(seeds - 1, 1 - (1 - level) / (2 * numbers)))
    return 1 - float(nctdtr(seeds - 1, effect * math.sqrt(seeds), critical))


def seeds_that_decide(
    effect: float, *, numbers: int = 1, level: float = 0.95, power: float = 0.8
) -> int:
    """The fewest seeds, three or more, that find an effect with this power; effect and numbers as
    in `power_over_seeds`."""
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
    """Smallest true mean that Student's t test over so many seeds finds with this power, in the
    unit of the error.

    Found is: significant at the level, two-sided, and of the right sign. By the noncentral t: with
    3 seeds the normal approximation would promise less than half of it. NaN with fewer than 2
    seeds, or where they do not differ at all.
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
