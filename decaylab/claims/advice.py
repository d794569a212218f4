"""One paragraph: the rollout length that the measurements of a pair speak for, or why they speak
for none; pandas only.

The rule: the smaller of two lengths, in response tokens.

    half-decay      a teacher that continues the student's rollouts has lost half of its advantage
    (arm student-prefix) cumulative KL   the survivors' curve of the reverse KL of the base student
    has reached its share

and its interval: the smaller of the two low ends to the smaller of the two high ends, which holds
the smaller length wherever both intervals hold theirs. No length is recommended where either is
undefined, the teacher has no advantage to lose, the KL is under its noise floor, or that interval
spans more than a factor of 4.

Source: cumulative KL arXiv 2605.27028; half-decay and taking the smaller are ours, and no training
run has tested them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from decaylab.printing import percent, rounded
from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import BASE, FRESH, OPEN, STUDENT_PREFIX, SURVIVORS

WIDEST = 4.0  # high end over low end
REMEDY = "score more problems, or continue more rollouts, to narrow it"


@dataclass(frozen=True)
class Advice:
    """recommended: rollout length in tokens, None where the measurements do not allow it. text: one
    paragraph."""

    recommended: int | None
    text: str


class _Length(NamedTuple):
    """One of the two lengths with its interval, what was found in words, and what forbids its use
    ("": nothing)."""

    value: float
    low: float
    high: float
    found: str
    obstacle: str


def advise(signals: pd.DataFrame, decay: pd.DataFrame | None) -> Advice:
    """The rollout length to start from, with its evidence; or why there is none.

    Args:
        signals: measurements of `analyses.signals`, the base student among them.
        decay: measurements of `analyses.prefix_decay` for the same pair, None without any.
    """
    kl, half = _by_kl(signals), _by_decay(decay)
    obstacles = [each.obstacle for each in (kl, half) if each.obstacle]
    obstacles = obstacles or _too_uncertain(kl, half, decay)
    evidence = [each.found for each in (half, kl) if each.found]
    if obstacles or decay is None:
        reasons = f"No rollout length is recommended: {'; '.join(obstacles)}"
        return Advice(None, _paragraph(reasons, *evidence))
    value, low, high = _smaller(kl, half)
    tokens, name = max(1, round(value)), "half-decay" if half.value < kl.value else "cumulative KL"
    shorter = f"{round(value / 2)} and " if tokens > 1 else ""
    return Advice(
        tokens,
        _paragraph(
            f"Recommended rollout length: {tokens} tokens (interval {rounded(low)} to "
            f"{rounded(high)}), by the {name}: the smaller of two lengths",
            *evidence,
            _at(decay, tokens),
            "Neither length has been shown to be the best one for training: the rule of the "
            "cumulative KL was checked by its authors on two pairs, at 45 % (arXiv 2605.27028), "
            "half-decay on none, and which bound is right is open. "
            f"Also train with {shorter}{2 * tokens} tokens, to compare",
        ),
    )


def _none(obstacle: str, found: str = "") -> _Length:
    """No length, and why."""
    return _Length(math.nan, math.nan, math.nan, found, obstacle)


def _by_kl(signals: pd.DataFrame) -> _Length:
    base = vocabulary.select(signals, checkpoint=BASE, view=FRESH)
    position, horizon, threshold = (
        _row(base, what=f"cumulative_kl_{what}", condition=SURVIVORS)
        for what in ("position", "horizon", "threshold")
    )
    if position is None or horizon is None or threshold is None:
        return _none("the signals of the base student were not measured")
    if math.isnan(position["value"]):
        return _none(f"the cumulative KL is undefined ({position['note']})")
    evidence = (
        f"{_percent(threshold['value'])} of the base student's reverse KL over the first "
        f"{horizon['value']:g} tokens lies in the first {_interval(position)}"
    )
    bins = vocabulary.select(base, what="reverse_kl")
    bins = bins[bins["position_low"] < horizon["value"]]
    under, obstacle = int(bins["under_floor"].sum()), ""
    if bins["noise_floor"].isna().all():
        evidence += " (its noise floor was not measured)"
    if under:
        obstacle = (
            f"the reverse KL is under twice its noise floor in {under} of {len(bins)} position bins"
        )
    return _Length(position["value"], position["low"], position["high"], evidence, obstacle)


def _by_decay(decay: pd.DataFrame | None) -> _Length:
    if decay is None:
        return _none("there is no decay curve of this pair; `decaylab prefix-decay` measures it")
    gap, half = (
        _row(decay, what=what, condition=STUDENT_PREFIX)
        for what in ("teacher_advantage", "half_decay_length")
    )
    if gap is None or half is None:
        return _none("the decay run continued no prefix of the student's rollouts")
    if math.isnan(gap["low"]) or math.isnan(gap["high"]):
        return _none("the teacher's advantage has no interval: too few problems")
    advantage = f"the teacher's advantage over the student is {_points(gap)}"
    if not gap["low"] > 0:
        return _none(f"{advantage}: none that could be lost")
    if math.isnan(half["value"]):
        return _none(f"the half-decay length is undefined ({half['note']})", advantage)
    if math.isfinite(half["value"]):
        halved = f"halved after {_interval(half)} student tokens"
    else:
        halved = f"not halved within {_longest(decay):g} student tokens, the longest prefix"
        if math.isfinite(half["low"]):
            halved += f" (interval from {rounded(half['low'])})"
    return _Length(half["value"], half["low"], half["high"], f"{advantage} and is {halved}", "")


def _too_uncertain(kl: _Length, half: _Length, decay: pd.DataFrame | None) -> list[str]:
    value, low, high = _smaller(kl, half)
    if any(math.isnan(end) for length in (kl, half) for end in (length.low, length.high)):
        return ["one of the two lengths has no interval"]
    if decay is not None and math.isinf(half.value) and value > _longest(decay):
        return [
            "both lengths lie beyond the longest prefix of the decay curve, "
            f"{_longest(decay):g} tokens; continue longer ones"
        ]
    if high > WIDEST * low:
        return [
            f"the interval of the smaller length, {rounded(low)} to {rounded(high)} tokens, spans "
            f"more than a factor of {WIDEST:g}; {REMEDY}"
        ]
    return []


def _smaller(kl: _Length, half: _Length) -> tuple[float, float, float]:
    return min(kl.value, half.value), min(kl.low, half.low), min(kl.high, half.high)


def _at(decay: pd.DataFrame, tokens: int) -> str:
    """What the decay curve says at the longest prefix that fits into the recommended length."""
    curve = _curve(decay)
    within = curve[curve["prefix_tokens"] <= tokens].nlargest(1, "prefix_tokens")
    if within.empty:
        shortest = curve["prefix_tokens"].min()
        return f"The shortest prefix measured, {shortest:g} tokens, is longer than that"
    length = within["prefix_tokens"].item()
    change = (
        f"With {length:g} student tokens before it, the teacher's accuracy changes by "
        f"{_points(within.iloc[0])}"
    )
    at = {"condition": STUDENT_PREFIX, "view": OPEN, "prefix_tokens": length}
    left = _row(decay, what="retained_advantage", **at)
    if left is None or math.isnan(left["value"]):
        return change
    return f"{change}, and {_percent(left['value'])} of its advantage is left"


def _curve(decay: pd.DataFrame) -> pd.DataFrame:
    """The decay curve at the prefix lengths at which a rollout was still open."""
    at = {"condition": STUDENT_PREFIX, "view": OPEN}
    rows = vocabulary.select(decay, what="accuracy_difference", **at)
    return rows[rows["rollouts"] > 0]


def _longest(decay: pd.DataFrame) -> float:
    return float(_curve(decay)["prefix_tokens"].max())


def _row(frame: pd.DataFrame, **at: object) -> pd.Series | None:
    """The first row at these coordinates."""
    rows = vocabulary.select(frame, **at)
    return None if rows.empty else rows.iloc[0]


def _interval(row: pd.Series) -> str:
    high = "beyond the longest prefix" if math.isinf(row["high"]) else rounded(row["high"])
    value, low = rounded(row["value"]), rounded(row["low"])
    return f"{value} ({_percent(row['level'])} interval {low} to {high})"


def _points(row: pd.Series) -> str:
    value, low, high = (rounded(percent(row[end]), 1) for end in ("value", "low", "high"))
    return f"{value} points ({_percent(row['level'])} interval {low} to {high})"


def _percent(fraction: float) -> str:
    return f"{percent(fraction):.3g} %"


def _paragraph(*sentences: str) -> str:
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
