"""Token truth: probability on correct tokens where a step is decided, of student and teacher on the
student's prefixes.

    a      masses by the state of the prefix, and the chance of a repair behind a step
    b      what one token by the teacher is worth: teacher minus student
    c, d   the same by token position: true to the problem where the prefix is correct so far,
           consistent with the equation where it is already wrong

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    BASE,
    BEHIND_CORRECT,
    BEHIND_WRONG,
    CONSISTENCY,
    CORRECT_SO_FAR,
    REPAIR,
    REPAIRED,
    STUDENT,
    TEACHER,
    TRUTH,
    gain,
    of_policy,
    select,
)

from . import style, words
from .artists import Look
from .colours import looks
from .groups import Panel, Series, counts, intervals, series_of, sheet_of
from .page import Sheet, drawing

GROUPS = {
    (TRUTH, CORRECT_SO_FAR): "true;\ncorrect so far",
    (TRUTH, REPAIRED): "true;\nrepaired",
    (CONSISTENCY, ALREADY_WRONG): "consistent;\nalready wrong",
    (REPAIR, BEHIND_WRONG): "repair behind\na wrong step",
    (REPAIR, BEHIND_CORRECT): "repair behind\na correct step",
}
BY_POSITION = {
    (TRUTH, CORRECT_SO_FAR): "By position: true, correct so far",
    (CONSISTENCY, ALREADY_WRONG): "By position: consistent, already wrong",
}
GAIN = "teacher minus student (points)"
CAPTION = """Probability that student and teacher give to correct tokens where a step is decided, on
    the student's own prefixes: true to the problem, or consistent with the equation as it was
    written. {counts}. Lines: {level} intervals, problem-clustered."""
DETAILS = """Where a step is decided, on the student's own prefixes ({counts}). True: mass on the
    tokens with which the step can still become correct. Consistent: mass on those with which the
    equation can still become its own result, on whatever numbers. Repair: chance that a repair
    opens behind the first wrong step, or behind a correct one. (b) The expected gain of one token:
    the teacher's minus the student's. {more} {intervals}"""
POSITIONS = "Other panels: the gain by the token's position in the response."


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.token_truth.measure`.
        published: nobody has published such numbers; None.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no gain.
    """
    panels = panels_of(measurements)
    if not panels:
        raise ValueError("measurements hold no truth_gain; pass those of token-truth")
    return sheet_of(panels, title, claim=["b"])


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    number = counts(measurements, ("problems", "rollouts"))
    return words.filled(CAPTION, measurements, counts=number.capitalize())


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    more = POSITIONS if len(panels_of(measurements)) > 2 else ""
    number = counts(measurements, ("problems", "rollouts"))
    return words.filled(DETAILS, counts=number, more=more, intervals=intervals(measurements))


def panels_of(measurements: pd.DataFrame) -> list[Panel]:
    """The panels that the rows allow, lettered."""
    known = looks(measurements)
    whole = select(measurements, position_low=0.0, position_high=math.inf)
    axis = "probability (%)"
    gains = series_of(_grouped(whole, gain), known)
    panels = [
        Panel("a", "On correct tokens", axis, _named(whole), _masses(whole, known)),
        Panel("b", "Gain of one token", GAIN, _named(whole), gains, change=True),
    ]
    panels += [_by_position(measurements, at, known) for at in BY_POSITION]
    panels = [panel for panel in panels if panel.series and panel.groups]
    return [replace(panel, gid=letter) for panel, letter in zip(panels, "abcd")]


def _named(whole: pd.DataFrame) -> dict[str, str]:
    """The groups that some model has a number for, each by its quantity and state."""
    names = {}
    for (what, state), name in GROUPS.items():
        if select(whole, what=gain(what), condition=state).value.notna().any():
            names[f"{what} {state}"] = name
    return names


def _grouped(whole: pd.DataFrame, name: Callable[[str], str]) -> pd.DataFrame:
    """The rows of one number of each group. name: of the number, by its quantity."""
    tables = []
    for what, state in GROUPS:
        rows = select(whole, what=name(what), condition=state)
        tables.append(rows.assign(group=f"{what} {state}"))
    return pd.concat(tables)


def _masses(whole: pd.DataFrame, known: Mapping[str, Look]) -> list[Series]:
    """Student and teacher on the prefixes of each model."""
    found = []
    for who in (STUDENT, TEACHER):
        rows = _grouped(whole, partial(of_policy, policy=who))
        for series in series_of(rows, known):
            found.append(_of(series, who))
    return found


def _of(series: Series, who: str) -> Series:
    if who == STUDENT:
        return series
    name = "teacher" if series.name == BASE else f"teacher behind {series.look.name}"
    return Series(f"teacher.{series.name}", Look(name, style.TEACHER, "p"), series.rows)


def _by_position(
    measurements: pd.DataFrame, at: tuple[str, str], known: Mapping[str, Look]
) -> Panel:
    """The gain in one state in each bin that has a value."""
    what, state = at
    rows = select(measurements, what=gain(what), condition=state)
    bins = rows[~((rows.position_low == 0) & rows.position_high.map(math.isinf))]
    bins = bins[bins.value.notna()].sort_values("position_low", kind="stable")
    keyed = bins.assign(group=bins.position_low.map("{:g}".format))
    spans = zip(keyed.group, keyed.position_low, keyed.position_high, strict=True)
    groups = {group: _span(low, high) for group, low, high in spans}
    return Panel("", BY_POSITION[at], GAIN, groups, series_of(keyed, known), change=True)


def _span(low: float, high: float) -> str:
    return f"{low:g}+" if math.isinf(high) else f"{low:g}\u2013{high - 1:g}"
