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

WIDEST = 4.0  # high end over low end
NONE = math.nan
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
    obstacles = [one.obstacle for one in (kl, half) if one.obstacle] or _too_uncertain(
        kl, half, decay
    )
    found = [one.found for one in (half, kl) if one.found]
    if obstacles or decay is None:
        return Advice(
            None, _paragraph(f"No rollout length is recommended: {'; '.join(obstacles)}", *found)
        )
    value, low, high = _smaller(kl, half)
    tokens, name = max(1, round(value)), "half-decay" if half.value < kl.value else "cumulative KL"
    shorter = f"{round(value / 2)} and " if tokens > 1 else ""
    return Advice(
        tokens,
        _paragraph(
            f"Recommended rollout length: {tokens} tokens (interval {low:.0f} to {high:.0f}), by "
            f"the {name}: "
            "the smaller of two lengths",
            *found,
            _at(decay, tokens),
            "Neither length has been shown to be the best one for training: the rule of the "
            "cumulative KL was checked by "
            "its authors on two pairs, at 45 % (arXiv 2605.27028), half-decay on none, and which "
            "bound is right is open. "
            f"Train with {shorter}{2 * tokens} tokens beside it",
        ),
    )


def _by_kl(signals: pd.DataFrame) -> _Length:
    base = signals[(signals["checkpoint"] == "base") & (signals["view"] == "fresh")]
    rows = {
        what: _row(base, f"cumulative_kl_{what}", "survivors")
        for what in ("position", "horizon", "threshold")
    }
    position, horizon, threshold = rows["position"], rows["horizon"], rows["threshold"]
    if position is None or horizon is None or threshold is None:
        return _Length(NONE, NONE, NONE, "", "the signals of the base student were not measured")
    if math.isnan(position.value):
        return _Length(NONE, NONE, NONE, "", f"the cumulative KL is undefined ({position.note})")
    found = (
        f"{_percent(threshold.value)} of the base student's reverse KL over the first "
        f"{horizon.value:g} tokens lies in the "
        f"first {_interval(position)}"
    )
    bins = base[(base["what"] == "reverse_kl") & (base["position_low"] < horizon.value)]
    under = int(bins["under_floor"].sum())
    if bins["noise_floor"].isna().all():
        found += " (its noise floor was not measured)"
    obstacle = (
        f"the reverse KL is under twice its noise floor in {under} of {len(bins)} position bins"
        if under
        else ""
    )
    return _Length(position.value, position.low, position.high, found, obstacle)


def _by_decay(decay: pd.DataFrame | None) -> _Length:
    if decay is None:
        return _Length(
            NONE,
            NONE,
            NONE,
            "",
            "there is no decay curve of this pair; `decaylab prefix-decay` measures it",
        )
    gap, half = (
        _row(decay, what, "student-prefix") for what in ("teacher_advantage", "half_decay_length")
    )
    if gap is None or half is None:
        return _Length(
            NONE, NONE, NONE, "", "the decay run continued no prefix of the student's rollouts"
        )
    if math.isnan(gap.low) or math.isnan(gap.high):
        return _Length(
            NONE, NONE, NONE, "", "the teacher's advantage has no interval: too few problems"
        )
    advantage = f"the teacher's advantage over the student is {_points(gap)}"
    if not gap.low > 0:
        return _Length(NONE, NONE, NONE, "", f"{advantage}: none that could be lost")
    if math.isnan(half.value):
        return _Length(
            NONE, NONE, NONE, advantage, f"the half-decay length is undefined ({half.note})"
        )
    longest = _curve(decay)["prefix_tokens"].max()
    if math.isfinite(half.value):
        halved = f"halved after {_interval(half)} student tokens"
    else:
        halved = f"not halved within {longest:g} student tokens, the longest prefix"
        halved += f" (interval from {half.low:.0f})" if math.isfinite(half.low) else ""
    return _Length(half.value, half.low, half.high, f"{advantage} and is {halved}", "")


def _too_uncertain(kl: _Length, half: _Length, decay: pd.DataFrame | None) -> list[str]:
    value, low, high = _smaller(kl, half)
    if any(math.isnan(end) for one in (kl, half) for end in (one.low, one.high)):
        return ["one of the two lengths has no interval"]
    if (
        decay is not None
        and math.isinf(half.value)
        and value > (longest := _curve(decay)["prefix_tokens"].max())
    ):
        return [
            f"both lengths lie beyond the longest prefix of the decay curve, {longest:g} tokens; "
            "continue longer ones"
        ]
    if high > WIDEST * low:
        return [
            f"the interval of the smaller length, {low:.0f} to {high:.0f} tokens, spans more than "
            "a factor of "
            f"{WIDEST:g}; {REMEDY}"
        ]
    return []


def _smaller(kl: _Length, half: _Length) -> tuple[float, float, float]:
    return min(kl.value, half.value), min(kl.low, half.low), min(kl.high, half.high)


def _at(decay: pd.DataFrame, tokens: int) -> str:
    """What the decay curve says at the longest prefix that fits into the recommended length."""
    curve = _curve(decay)
    within = curve[curve["prefix_tokens"] <= tokens].nlargest(1, "prefix_tokens")
    if within.empty:
        return (
            f"The shortest prefix measured, {curve['prefix_tokens'].min():g} tokens, is longer "
            "than that"
        )
    length = within["prefix_tokens"].item()
    said = (
        f"With {length:g} student tokens before it, the teacher's accuracy changes by "
        f"{_points(_first(within))}"
    )
    open_at = decay[(decay["view"] == "open") & (decay["prefix_tokens"] == length)]
    left = _row(open_at, "retained_advantage", "student-prefix")
    if left is None or math.isnan(left.value):
        return said
    return f"{said}, and {_percent(left.value)} of its advantage is left"


def _curve(decay: pd.DataFrame) -> pd.DataFrame:
    """The decay curve at the prefix lengths at which a rollout was still open."""
    chosen = decay[
        (decay["what"] == "accuracy_difference") & (decay["condition"] == "student-prefix")
    ]
    return chosen[(chosen["view"] == "open") & (chosen["rollouts"] > 0)]


class _Row(NamedTuple):
    value: float
    low: float
    high: float
    level: float
    note: str


def _row(frame: pd.DataFrame, what: str, condition: str) -> _Row | None:
    chosen = frame[(frame["what"] == what) & (frame["condition"] == condition)]
    return None if chosen.empty else _first(chosen)


def _first(rows: pd.DataFrame) -> _Row:
    return _Row(*rows.iloc[0][list(_Row._fields)])


def _interval(row: _Row) -> str:
    high = "beyond the longest prefix" if math.isinf(row.high) else f"{row.high:.0f}"
    return f"{row.value:.0f} ({_percent(row.level)} interval {row.low:.0f} to {high})"


def _points(row: _Row) -> str:
    return (
        f"{100 * row.value:.1f} points ({_percent(row.level)} interval {100 * row.low:.1f} to "
        f"{100 * row.high:.1f})"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _paragraph(*sentences: str) -> str:
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
