"""The jackknife over problems: each replicate leaves one problem out; no I/O.

estimate(value, replicates, level)    # an Estimate whose interval is value +- t standard errors
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from decaylab.maths.clusters import Floats, check_fraction
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM, UNDEFINED, Estimate

METHOD = "jackknife over problems"
ROUNDING = 1e-12
UNDEFINED_WITHOUT = "undefined without one of the problems: no interval"


def standard_error(replicates: Floats) -> float:
    """sqrt((G-1)/G x sum of squared deviations) of the replicates [problems].

    NaN with fewer than 2, or if one is not finite.

    Source: Efron and Stein 1981.
    """
    count = replicates.size
    if count < 2 or not np.all(np.isfinite(replicates)):
        return float("nan")
    deviations = replicates - replicates.mean()
    error = float(np.sqrt((count - 1) / count * (deviations @ deviations)))
    return error if error > ROUNDING else 0.0


def estimate(
    value: float,
    replicates: Floats,
    *,
    rollouts: int,
    level: float,
    within: tuple[float, float] = (-np.inf, np.inf),
    note: str = "",
) -> Estimate:
    """A value with an interval of Student's t at G-1 degrees of freedom around it.

    Args:
        value: over all problems.
        replicates: the same without each problem, [problems].
        rollouts: behind it.
        level: of the interval.
        within: the possible values, to which the interval is clipped.
        note: why the value is undefined, if it is.
    """
    check_fraction("level", level)
    count = replicates.size
    if not np.isfinite(value):
        return Estimate(*UNDEFINED, METHOD, count, rollouts, note)
    error = standard_error(replicates)
    if not error > 0:
        reason = ALIKE if error == 0 else UNDEFINED_WITHOUT
        reason = ONE_PROBLEM if count < 2 else reason
        return Estimate(value, *UNDEFINED[:3], METHOD, count, rollouts, reason)
    reach = float(stdtrit(count - 1, 0.5 + level / 2)) * error
    low, high = max(within[0], value - reach), min(within[1], value + reach)
    return Estimate(value, float(low), float(high), error, METHOD, count, rollouts)
