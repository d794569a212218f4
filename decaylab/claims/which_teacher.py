"""Which teacher to distil from, of several compared on one student: one to three lines.

    verdict(measurements)      # rows of a comparison, `analyses.compare.measure`

A teacher's advantage holds if it is ahead of the student both alone and after the first prefix
length, on at least 30 problems, by p-values of the sign-flip test, Holm-corrected over all lengths
and runs. The answer is not to distil only if every teacher's advantage is shown to be below the
smallest size that counts, alone or after the first prefix; if none holds and one may be larger, the
question is not decided. Of the teachers whose advantage holds, one is left out if another is more
accurate at some prefix length and less accurate at none. Several students of one teacher are judged
the same way, but none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from decaylab.claims.verdicts import (
    LEAST_LEVEL,
    LEAST_PROBLEMS,
    POINTS,
    Effect,
    pick,
    problems_needed,
    too_few,
    usable,
    widened,
)
from decaylab.claims.wording import listed, p_words, points
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

NONE, OPEN = "None of them: do not distil", "Not decided"
SIZE = f"{100 * POINTS:g} points"  # of an advantage that counts
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
    for row in _advantages(frame, name):
        if not _shown(row) or row.value <= 0:
            break
        last = row.prefix_tokens
    return last


def excluded(frame: pd.DataFrame, name: str) -> bool:
    """Whether a lasting advantage of a size that counts is excluded: alone or after the first
    prefix, by intervals corrected for these two."""
    return any(map(_below, _advantages(frame, name)[:2]))


def _below(row: Measurement) -> bool:
    """Whether one of two advantages is shown to be below the smallest size that counts."""
    return usable(row) and widened(row, 2).high < POINTS


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
    """Whether a difference is shown at the level of the comparison, on enough problems."""
    return bool(row.problems >= LEAST_PROBLEMS and row.p_value_holm <= 1 - row.level + 1e-12)


def _advantages(frame: pd.DataFrame, name: str) -> list[Measurement]:
    """The teacher's advantages over the student, by prefix length; the first is without one."""
    return sorted(pick(frame, ADVANTAGE, checkpoint=name), key=lambda row: row.prefix_tokens)


# The lines


def _none(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    left = [name for name in names if not excluded(frame, name)]
    if frame["category"].iloc[0] == STUDENTS:
        over, whose = "any of these students", "the teacher is not shown to have"
    else:
        over, whose = "the student", "no teacher is shown to have"
    if left:
        yield (
            f"{OPEN}: {whose} a lasting advantage over {over}, and one of {SIZE} or more is not "
            f"excluded for {_named(left)}."
        )
    else:
        yield f"{NONE}; a lasting advantage of {SIZE} or more over {over} is excluded."
    yield f"Teacher minus student: {_told(frame, names)}."
    if left:
        yield from _would_decide(frame, left)


def _would_decide(frame: pd.DataFrame, left: Sequence[str]) -> Iterator[str]:
    """What would show whether these teachers have a lasting advantage."""
    rows = [row for name in left for row in _advantages(frame, name)[:2]]
    if few := too_few(rows):
        yield few
    elif rows[0].level < LEAST_LEVEL:
        yield f"The intervals are at {100 * rows[0].level:g} %: compare again with --level 0.95."
    elif needed := problems_needed(Effect(0.0, POINTS), rows):
        alone = pick(frame, detectable(ADVANTAGE), prefix_tokens=0.0)
        sizes = [row.value for row in alone if row.checkpoint in left and row.value > POINTS]
        would = f"{needed:,} problems would detect an advantage of {SIZE} in four of five cases"
        yield f"About {would}{_detected(rows[0].problems, sizes)}."


def _detected(problems: int, sizes: Sequence[float]) -> str:
    """What these problems detect, as the end of a sentence."""
    if not sizes:
        return ""
    return f"; these {problems:,} detect one of {rounded(100 * max(sizes), 1)} points"


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
        yield f"No lasting advantage is shown, teacher minus student: {_told(frame, without)}."


def _students(frame: pd.DataFrame, names: Sequence[str], holding: Sequence[str]) -> Iterator[str]:
    yield f"The teacher has a lasting advantage over {listed(holding)}."
    told = [f"{name}: {_holds(frame, name)}" for name in holding[:NAMED]]
    yield f"{'; '.join(told)}."
    if without := [name for name in names if name not in holding]:
        yield f"No lasting advantage is shown, teacher minus student: {_told(frame, without)}."


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
    """The teachers' advantages alone, and after the first prefix if that one decides."""
    told = []
    for name in names[:NAMED]:
        rows = _advantages(frame, name)
        text = f"{name} {points(rows[0])} alone"
        gone = held_to(frame, name) == 0 and len(rows) > 1
        if gone or excluded(frame, name) and not _below(rows[0]):
            text += f", {points(rows[1])} {_after(rows[1].prefix_tokens)}"
        told.append(text)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(told) + more


def _named(names: Sequence[str]) -> str:
    """``a, b and 3 more``."""
    more = [f"{len(names) - NAMED} more"] * (len(names) > NAMED)
    return listed([*names[:NAMED], *more])


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
