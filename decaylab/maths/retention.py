"""How much of the teacher's advantage survives a prefix: retained advantage R, half-decay length.

    retained_advantage(prefixed, student, unprefixed, problems)
    half_decay(prefix_tokens, [OpenRollouts(prefixed, student, unprefixed, problems), ...])

The half-decay length is the prefix length at which half of the teacher's advantage is gone.
Arrays in, estimates out, as in decaylab.maths.statistics: one entry per rollout, problems as
integer codes, NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from decaylab.maths.clusters import (
    Floats,
    Ints,
    bootstrap_weights,
    checked_rollouts,
    clustered_se,
    masses_by_problem,
    per_problem_sums,
    percentile_interval,
)
from decaylab.maths.statistics import ONE_PROBLEM, UNDEFINED, Estimate

PERCENTILE = "percentile bootstrap over problems"
NO_ADVANTAGE = "the teacher's advantage is not above 2 standard errors"


class OpenRollouts(NamedTuple):
    """The rollouts unfinished at one prefix length: three grades of each, and its problem.

    Attributes:
        prefixed: grade of the teacher after the prefix, [rollouts], in [0, 1].
        student: grade of the student's own rollout, likewise.
        unprefixed: grade of the teacher alone, likewise.
        problems: the problem of each rollout, as an integer.
    """

    prefixed: ArrayLike
    student: ArrayLike
    unprefixed: ArrayLike
    problems: ArrayLike


def retained_advantage(
    prefixed: ArrayLike,
    student: ArrayLike,
    unprefixed: ArrayLike,
    problems: ArrayLike,
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> Estimate:
    """R = (A - S) / (A0 - S): the share of the teacher's advantage that is left after the prefix.

    A, S and A0 are the means of ``prefixed``, ``student`` and ``unprefixed`` (the teacher alone)
    over the same rollouts. 1 is all of the advantage, 0 none; values below 0 and above 1 are
    possible. NaN with a note where A0 - S is not above 2 clustered standard errors.

    The interval is the percentile bootstrap over problems. R is undefined in a replicate whose
    A0 - S is not positive: it counts as +inf if A > S, -inf if A < S, and 0 if they are equal. Such
    replicates widen the interval, possibly to infinity, rather than being dropped.

    Source: our own definition.
    """
    arms, codes, w = checked_rollouts((prefixed, student, unprefixed), problems, None)
    masses, method = masses_by_problem(arms, codes, w), PERCENTILE
    count = masses.shape[1]
    note = no_advantage(masses)
    if note:
        return Estimate(*UNDEFINED, method, count, w.size, note)
    total = masses.sum(axis=1)
    value = float(share_left(total))
    room = (total[3] - total[2]) / total[0]
    residual = (masses[1] - masses[2] - value * (masses[3] - masses[2])) / total[0] / room
    replicates = share_left((bootstrap_weights(count, draws=draws, seed=seed) @ masses.T).T)
    low, high = percentile_interval(replicates, level)
    return Estimate(value, low, high, clustered_se(residual), method, count, w.size)


def half_decay_length(prefix_tokens: ArrayLike, retained: ArrayLike) -> float:
    """First prefix length, in tokens, at which the retained advantage is at most .5.

    Interpolated linearly. R(0) = 1 by definition, and is added where the first length is above 0.
    inf: R never falls to .5, so the length is censored at "> longest". NaN: R is NaN at or before
    the crossing.

    Source: our own definition.
    """
    lengths, curve = (
        np.asarray(prefix_tokens, dtype=np.float64),
        np.asarray(retained, dtype=np.float64),
    )
    if lengths.ndim != 1 or lengths.size == 0 or curve.shape != lengths.shape:
        raise ValueError(
            "prefix_tokens and retained must have the same length, got shapes "
            f"{lengths.shape} and {curve.shape}"
        )
    if lengths[0] < 0 or np.any(np.diff(lengths) <= 0):
        raise ValueError(
            f"prefix_tokens must be strictly increasing and at least 0, got {lengths.tolist()}"
        )
    return float(crossings(lengths, curve[None])[0])


def half_decay(
    prefix_tokens: Sequence[int],
    arms: Sequence[OpenRollouts],
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> Estimate:
    """Half-decay length in tokens with a percentile bootstrap interval over problems.

    arms: one ``OpenRollouts`` per prefix length.

    A replicate draws problems once and uses them at every length; its ratios are those of
    ``retained_advantage``. Value and interval ends may be inf: censored at the longest length, with
    a note. The curve ends before the first length whose retained advantage is undefined. If it has
    not fallen to .5 by then, the value is NaN with a note; a replicate that has not counts as inf.
    A replicate without a rollout at a length it needs is left out and counted in the note.
    standard_error is NaN unless every replicate is finite.
    """
    curve = DecayCurve(prefix_tokens, arms)
    count, rollouts = curve.codes.size, curve.rollouts
    if np.isnan(curve.value):
        return Estimate(*UNDEFINED, PERCENTILE, count, rollouts, curve.reason)
    replicates = curve.replicates(bootstrap_weights(count, draws=draws, seed=seed))
    kept = replicates[~np.isnan(replicates)]
    low, high = percentile_interval(kept, level)
    error = float(kept.std(ddof=1)) if kept.size > 1 and np.all(np.isfinite(kept)) else np.nan
    remarks = [f"not reached by {curve.lengths[-1]:g} tokens"] if np.isinf(curve.value) else []
    if kept.size < draws:
        remarks.append(f"{draws - kept.size} of {draws} replicates undefined, left out")
    return Estimate(curve.value, low, high, error, PERCENTILE, count, rollouts, "; ".join(remarks))


class DecayCurve:
    """The retained advantage by prefix length, and the sums by problem behind it.

    The curve ends at ``longest``, before the first length at which R is undefined.

    Attributes:
        codes: the problems.
        value: the half-decay length, in tokens.
        reason: why it is NaN.
        lengths: all prefix lengths.
    """

    def __init__(
        self,
        prefix_tokens: Sequence[int],
        arms: Sequence[OpenRollouts],
        codes: Ints | None = None,
    ) -> None:
        """codes: the problems, if there are more than these arms contain."""
        self.lengths = np.asarray(prefix_tokens, dtype=np.float64)
        if self.lengths.size != len(arms):
            raise ValueError(
                f"arms must have one entry per prefix length: {self.lengths.size} lengths, "
                f"{len(arms)} entries"
            )
        longs = [checked_rollouts(arm[:3], arm.problems, None) for arm in arms]
        if codes is None:
            codes = problems_of(arms)
        self.codes = codes
        self.masses = [
            per_problem_sums(np.stack([w, *x], axis=1), own, codes).T for x, own, w in longs
        ]
        notes = [no_advantage(columns[:, columns[0] > 0]) for columns in self.masses]
        retained = [
            np.nan if note else float(share_left(m.sum(axis=1)))
            for note, m in zip(notes, self.masses, strict=True)
        ]
        self.value, self.reason = half_decay_length(self.lengths, retained), ""
        self.rollouts = longs[0][2].size
        if np.isnan(self.value):
            bad = next(i for i, note in enumerate(notes) if note)
            self.reason = f"at prefix length {self.lengths[bad]:g}: {notes[bad]}"
        self.usable = next((i for i, note in enumerate(notes) if note), len(notes))

    @property
    def longest(self) -> float:
        """The last length of the curve, in tokens; 0 if R is undefined at the first length."""
        return float(self.lengths[self.usable - 1]) if self.usable else 0.0

    def replicates(self, weights: Floats) -> Floats:
        """The half-decay length of each bootstrap replicate. weights: [draws, problems]."""
        curves = [share_left((weights @ sums.T).T) for sums in self.masses[: self.usable]]
        return crossings(self.lengths[: self.usable], np.stack(curves, axis=1))


def problems_of(arms: Sequence[OpenRollouts]) -> Ints:
    """Sorted codes of all problems in these arms."""
    if not arms:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.concatenate([np.asarray(arm.problems) for arm in arms]))


def no_advantage(masses: Floats) -> str:
    """Why R is undefined; "" if it is defined.

    masses: sums of rollouts, prefixed, student and unprefixed by problem, [4, problems].
    """
    total, count = masses.sum(axis=1), masses.shape[1]
    if count < 2:
        return ONE_PROBLEM if count else "no rollouts"
    room = (total[3] - total[2]) / total[0]
    error = clustered_se((masses[3] - masses[2] - room * masses[0]) / total[0])
    return "" if room > 2 * error and room > 1e-9 else NO_ADVANTAGE


def share_left(sums: Floats) -> Floats:
    """(A - S) / (A0 - S) from sums of rollouts, prefixed, student and unprefixed, [4, ...].

    Where A0 <= S, see ``retained_advantage``.
    """
    rollouts, prefixed, student, unprefixed = sums
    slack = 1e-9 * rollouts
    gain, room = prefixed - student, unprefixed - student
    gain = np.where(np.abs(gain) <= slack, 0.0, gain)
    ratio = gain / np.where(room > slack, room, 1.0)
    lost = np.where(gain > 0, np.inf, np.where(gain < 0, -np.inf, 0.0))
    return np.where(rollouts > 0, np.where(room > slack, ratio, lost), np.nan)


def crossings(lengths: Floats, curves: Floats) -> Floats:
    """Half-decay length of each curve [curves, lengths].

    Where one of the two points around the crossing is infinite, the crossing is at the other.
    """
    if lengths[0] > 0:
        lengths = np.concatenate([[0.0], lengths])
        curves = np.concatenate([np.ones((len(curves), 1)), curves], axis=1)
    stops = (curves <= 0.5) | np.isnan(curves)
    right = stops.argmax(axis=1)
    left, row = np.maximum(right - 1, 0), np.arange(len(curves))
    bounded = np.clip(curves, -1e12, 1e12)  # the limit of the interpolation, without inf - inf
    above, below = bounded[row, left], bounded[row, right]
    share = (above - 0.5) / np.where(above > below, above - below, 1.0)
    found = np.where(
        right == 0, lengths[0], lengths[left] + share * (lengths[right] - lengths[left])
    )
    return np.where(stops.any(axis=1), np.where(np.isnan(below), np.nan, found), np.inf)
