"""Which teacher to distil from, of several compared on one student: one to three lines.

    verdict(measurements)      # rows of a comparison, `analyses.compare.measure`

A teacher's advantage holds if it is ahead of the student both alone and after the first prefix
length, by p-values of the sign-flip test, Holm-corrected over all lengths and runs. If no advantage
holds, the answer is not to distil. Of the teachers whose advantage holds, one is left out if
another is more accurate at some prefix length and less accurate at none. Several students of one
teacher are judged the same way, but none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from decaylab.claims.verdicts import listed, p_words, pick, points
from decaylab.printing import rounded
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import (
    ACCURACY,
    ADVANTAGE,
    CONTINUATION_TOKENS,
    HALF_DECAY,
    STUDENTS,
    against,
    detectable,
    difference,
)

NONE = "None of them: do not distil."
NAMED = 4  # teachers or students listed one by one


def verdict(frame: pd.DataFrame) -> tuple[str, ...]:
    """The answer first, then its evidence."""
    names = [str(name) for name in frame["checkpoint"].unique()]
    holding = [name for name in names if held_to(frame, name) > 0]
    if not holding:
        return tuple(_none(frame, names))
    if frame["category"].iloc[0] == STUDENTS:
        return tuple(_students(frame, names, holding))
    return tuple(_teachers(frame, names, holding))


def held_to(frame: pd.DataFrame, name: str) -> float:
    """The last prefix length, in tokens, up to which the teacher is ahead of the student at every
    length; NaN if it is not ahead without a prefix."""
    last = math.nan
    for row in sorted(pick(frame, ADVANTAGE, checkpoint=name), key=lambda row: row.prefix_tokens):
        if not _shown(row) or row.value <= 0:
            break
        last = row.prefix_tokens
    return last


def better(frame: pd.DataFrame, name: str, other: str) -> list[Measurement]:
    """The lengths at which one run is more accurate than another, as rows of differences; empty if
    it is less accurate at some length."""
    rows = [
        *pick(frame, difference(ACCURACY), checkpoint=name, condition=against(other)),
        *pick(frame, difference(ACCURACY), checkpoint=other, condition=against(name)),
    ]
    shown = [row for row in rows if _shown(row)]
    ahead = [row for row in shown if (row.value > 0) == (row.checkpoint == name)]
    return ahead if len(ahead) == len(shown) else []


def _shown(row: Measurement) -> bool:
    """Whether a difference is shown at the level of the comparison."""
    return bool(row.p_value_holm <= 1 - row.level + 1e-12)


# The lines


def _none(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    if frame["category"].iloc[0] == STUDENTS:
        yield f"{NONE} The teacher has no lasting advantage over any of these students."
    else:
        yield f"{NONE} No teacher has a lasting advantage over the student."
    yield f"Teacher minus student: {_told(frame, names)}."
    alone = pick(frame, detectable(ADVANTAGE), prefix_tokens=0.0)
    sizes = [row.value for row in alone if not math.isnan(row.value)]
    if sizes:
        yield (
            f"{alone[0].problems} problems detect an advantage of {rounded(100 * max(sizes), 1)} "
            "points in four of five cases; a smaller one may have been missed."
        )


def _teachers(frame: pd.DataFrame, names: Sequence[str], holding: Sequence[str]) -> Iterator[str]:
    beaten = {name: other for name in holding for other in holding if better(frame, other, name)}
    left = [name for name in holding if name not in beaten] or list(holding)
    if len(left) == 1:
        yield f"Distil from {left[0]}: {_holds(frame, left[0])}."
    else:
        yield (
            f"Distil from {' or '.join(left)}: each has a lasting advantage, and none is shown to "
            f"be the best; {_cheapest(frame, left)}."
        )
    behind = []
    for name, other in beaten.items():
        row = better(frame, other, name)[0]
        behind.append(
            f"{name} is behind {other} ({points(row)} {_after(row.prefix_tokens)}{p_words(row)})"
            if row.checkpoint == name
            else f"{other} is ahead of {name} ({points(row)} {_after(row.prefix_tokens)}"
            f"{p_words(row)})"
        )
    if behind:
        yield f"{'; '.join(behind[:NAMED])}."
    if without := [name for name in names if name not in holding]:
        yield f"No lasting advantage, teacher minus student: {_told(frame, without)}."


def _students(frame: pd.DataFrame, names: Sequence[str], holding: Sequence[str]) -> Iterator[str]:
    yield f"The teacher has a lasting advantage over {listed(holding)}."
    told = [f"{name}: {_holds(frame, name)}" for name in holding[:NAMED]]
    yield f"{'; '.join(told)}."
    if without := [name for name in names if name not in holding]:
        yield f"No lasting advantage, teacher minus student: {_told(frame, without)}."


def _holds(frame: pd.DataFrame, name: str) -> str:
    """A teacher's advantage alone and at the last prefix length at which it holds, in words."""
    alone, *_ = pick(frame, ADVANTAGE, checkpoint=name, prefix_tokens=0.0)
    last = held_to(frame, name)
    after, *_ = pick(frame, ADVANTAGE, checkpoint=name, prefix_tokens=last)
    half = pick(frame, HALF_DECAY, checkpoint=name)
    text = f"ahead of the student by {points(alone)} alone and {points(after)} {_after(last)}"
    return f"{text}, half-decay length {_length(half[0])}" if half else text


def _length(row: Measurement) -> str:
    """A half-decay length with its interval, in tokens."""
    if math.isnan(row.value):
        return f"undefined ({row.note})"
    if math.isinf(row.value):
        return row.note
    high = "beyond the longest prefix" if math.isinf(row.high) else rounded(row.high)
    return f"{rounded(row.value)} tokens [{rounded(row.low)}, {high}]"


def _told(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """The teachers' advantages alone, and after the first prefix if the advantage is gone there."""
    told = []
    for name in names[:NAMED]:
        rows = sorted(pick(frame, ADVANTAGE, checkpoint=name), key=lambda row: row.prefix_tokens)
        text = f"{name} {points(rows[0])} alone"
        if held_to(frame, name) == 0 and len(rows) > 1:
            text += f", but {points(rows[1])} {_after(rows[1].prefix_tokens)}"
        told.append(text)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(told) + more


def _cheapest(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """A phrase on the teacher with the shortest answers."""
    tokens = {
        name: pick(frame, CONTINUATION_TOKENS, checkpoint=name, prefix_tokens=0.0)[0].value
        for name in names
    }
    name = min(tokens, key=tokens.__getitem__)
    return f"{name} writes the shortest answers, {rounded(tokens[name])} tokens"


def _after(length: float) -> str:
    return f"after {length:g} tokens" if length else "without a prefix"
