"""Differences in retained advantage and half-decay length between two teachers, or two students.

    retained_difference(first, second)                  # at one length, each an OpenRollouts
    half_decay_difference(prefix_tokens, firsts, seconds)

Both sides use the same problems. A bootstrap replicate draws problems once for both sides, so the
variation they share cancels. Every difference is first minus second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decaylab.maths.clusters import (
    Floats,
    Ints,
    bootstrap_weights,
    checked_rollouts,
    clustered_se,
    per_problem_sums,
    percentile_interval,
)
from decaylab.maths.retention import (
    PERCENTILE,
    DecayCurve,
    OpenRollouts,
    no_advantage,
    problems_of,
    share_left,
)
from decaylab.maths.statistics import UNDEFINED, Estimate

PAIRED = f"paired {PERCENTILE}"


def retained_difference(
    first: OpenRollouts,
    second: OpenRollouts,
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> Estimate:
    """Retained advantage of the first minus that of the second, at one prefix length.

    NaN with a note where one of them is undefined. Where both are infinite in a replicate, their
    difference is unknown: it widens the interval on both sides.

    Source: `retention.retained_advantage` on both sides.
    """
    codes = problems_of([first, second])
    sides = [_sums(one, codes) for one in (first, second)]
    rollouts = min(int(side[0].sum()) for side in sides)
    for side in sides:
        if note := no_advantage(side[:, side[0] > 0]):
            return Estimate(*UNDEFINED, PAIRED, codes.size, rollouts, note)
    values = [float(share_left(side.sum(axis=1))) for side in sides]
    weights = bootstrap_weights(codes.size, draws=draws, seed=seed)
    shares = [share_left((weights @ side.T).T) for side in sides]
    known = ~np.isnan(shares[0]) & ~np.isnan(shares[1])
    with np.errstate(invalid="ignore"):
        differences = (shares[0] - shares[1])[known]
    open_ended = np.isnan(differences)  # infinite on both sides
    low, _ = percentile_interval(np.where(open_ended, -np.inf, differences), level)
    _, high = percentile_interval(np.where(open_ended, np.inf, differences), level)
    residual = _residual(sides[0], values[0]) - _residual(sides[1], values[1])
    value, error = values[0] - values[1], clustered_se(residual)
    note = _left_out(draws, int(known.sum()))
    return Estimate(value, low, high, error, PAIRED, codes.size, rollouts, note)


def half_decay_difference(
    prefix_tokens: Sequence[int],
    firsts: Sequence[OpenRollouts],
    seconds: Sequence[OpenRollouts],
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> Estimate:
    """Half-decay length of the first minus that of the second, in tokens.

    A curve that does not fall to .5 is censored: its half-decay length is beyond its last length.
    If one side is censored, the value is NaN and the note gives the smallest possible difference.
    A censored replicate gives the low end its smallest possible difference and the high end its
    largest, which may be infinite. NaN with a note where one side is undefined.
    """
    codes = problems_of([*firsts, *seconds])
    curves = [DecayCurve(prefix_tokens, arms, codes) for arms in (firsts, seconds)]
    rollouts = min(curve.rollouts for curve in curves)
    for curve in curves:
        if np.isnan(curve.value):
            return Estimate(*UNDEFINED, PAIRED, codes.size, rollouts, curve.reason)
    weights = bootstrap_weights(codes.size, draws=draws, seed=seed)
    most = [curve.replicates(weights) for curve in curves]
    known = ~np.isnan(most[0]) & ~np.isnan(most[1])
    first, second = (side[known] for side in most)
    least_first, least_second = (
        np.minimum(first, curves[0].longest),
        np.minimum(second, curves[1].longest),
    )
    low, _ = percentile_interval(least_first - second, level)
    _, high = percentile_interval(first - least_second, level)
    value, note = _value(*curves)
    every = first - second if np.all(np.isfinite([first, second])) else np.zeros(0)
    error = float(every.std(ddof=1)) if every.size > 1 else np.nan
    note = "; ".join(filter(None, [note, _left_out(draws, int(known.sum()))]))
    return Estimate(value, low, high, error, PAIRED, codes.size, rollouts, note)


def _value(first: DecayCurve, second: DecayCurve) -> tuple[float, str]:
    """The difference; where a side is censored, NaN and a note with its bound."""
    if np.isinf(first.value) and np.isinf(second.value):
        return (
            np.nan,
            "neither half-decay length is reached by "
            f"{min(first.longest, second.longest):g} tokens",
        )
    if np.isinf(first.value):
        apart, word, longest = first.longest - second.value, "longer", first.longest
    elif np.isinf(second.value):
        apart, word, longest = second.longest - first.value, "shorter", second.longest
    else:
        return first.value - second.value, ""
    at_least = f"at least {apart:.1f} tokens {word}, " if apart > 0 else ""
    return np.nan, f"{at_least}one half-decay length is not reached by {longest:g} tokens"


def _sums(arm: OpenRollouts, codes: Ints) -> Floats:
    """Rollouts, prefixed, student, unprefixed by problem: [4, problems]."""
    columns, own, weights = checked_rollouts(arm[:3], arm.problems, None)
    return per_problem_sums(np.stack([weights, *columns], axis=1), own, codes).T


def _residual(sums: Floats, value: float) -> Floats:
    """Influence of each problem on the retained advantage, [problems]."""
    room = sums[3].sum() - sums[2].sum()
    residual: Floats = (sums[1] - sums[2] - value * (sums[3] - sums[2])) / room
    return residual


def _left_out(draws: int, kept: int) -> str:
    return f"{draws - kept} of {draws} replicates undefined, left out" if kept < draws else ""
