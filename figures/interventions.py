"""Interventions: what content and style of a prefix, and one changed step, do to what is written
behind it.

    made prefixes     correct minus wrong content, student's minus teacher's style, interaction
    changed rollouts  a step repaired or broken, minus the prefix as it was written
    KL                the same effects on the reverse KL of what the student writes behind
    edits             accuracy by label, and the difference from the reference

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from decaylab.runs.vocabulary import (
    ACCURACY,
    BROKEN,
    CONTENT,
    EDIT,
    INTERACTION,
    MEAN_KL,
    REPAIRED,
    STUDENT,
    STYLE,
    TEACHER,
    against,
    effect,
    select,
)

from . import style, words
from .artists import Look
from .groups import Panel, Series, counts, intervals, sheet_of
from .page import Sheet, drawing

LOOKS = {
    STUDENT: Look("continued by the student", style.STUDENT, "o"),
    TEACHER: Look("continued by the teacher", style.TEACHER, "p"),
}
MADE_EFFECTS, CHANGES = (CONTENT, STYLE, INTERACTION), (REPAIRED, BROKEN)
POINTS, KL = "difference in accuracy (points)", "difference in KL (0.001 nats per token)"
THOUSANDTHS = 1000.0
LEAST_PROBLEMS = 5  # behind a changed step that is drawn; intervals of fewer fill the frame
CAPTION = """What a prefix does to the accuracy of what is written behind it, by student and
    teacher: {parts}. {counts}. Lines: {level} intervals, problem-clustered."""
MADE_PARTS = """correct minus wrong content, student's minus teacher's style; a step of a rollout
    repaired or broken, against the prefix as written"""
EDIT_PARTS = "by label of the edits, and against the reference"
DETAILS = """{parts} ({counts}). {more} {intervals}"""
MORE = """Interaction: the effect of content in the student's style minus that in the teacher's.
    Repaired: the first wrong step of a rollout; broken: a correct one, before the first wrong one
    if there is one; each prefix is cut right behind that step. Steps of fewer
    than 5 problems are in the table alone. KL: the reverse KL of what the student writes behind the
    prefix."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.interventions.measure`.
        published: nobody has published such numbers; None.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no effect.
    """
    panels = panels_of(measurements)
    if not panels:
        raise ValueError("measurements hold no accuracy_effect; pass those of interventions")
    return sheet_of(panels, title, claim=["a"])


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    number = counts(measurements, ("problems",)).capitalize()
    return words.filled(CAPTION, measurements, parts=_parts(measurements), counts=number)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    parts = _parts(measurements)
    arms = measurements[measurements.what.isin([ACCURACY, MEAN_KL])]
    number = counts(arms, ("problems", "rollouts")).replace("rollouts", "continuations")
    return words.filled(
        DETAILS,
        parts=parts[0].upper() + parts[1:],
        counts=f"at most {number} an arm",
        more="" if _own(measurements) else " ".join(MORE.split()),
        intervals=intervals(measurements),
    )


def _own(measurements: pd.DataFrame) -> bool:
    return bool((measurements.condition == EDIT).any())


def _parts(measurements: pd.DataFrame) -> str:
    return " ".join((EDIT_PARTS if _own(measurements) else MADE_PARTS).split())


def panels_of(measurements: pd.DataFrame) -> list[Panel]:
    """The panels that the rows allow, lettered."""
    found = _of_edits if _own(measurements) else _of_the_world
    panels = [panel for panel in found(measurements) if panel.series]
    return [replace(panel, gid=letter) for panel, letter in zip(panels, "abcd")]


def _of_the_world(measurements: pd.DataFrame) -> Iterator[Panel]:
    accuracy = select(measurements, what=effect(ACCURACY))
    divergence = select(measurements, what=effect(MEAN_KL))
    yield _panel("Made prefixes", POINTS, select(accuracy, condition=list(MADE_EFFECTS)))
    yield _panel("A step repaired or broken", POINTS, select(accuracy, condition=list(CHANGES)))
    made = select(divergence, condition=list(MADE_EFFECTS))
    yield replace(_panel("KL behind made prefixes", KL, made), scale=THOUSANDTHS)
    changed = select(divergence, condition=list(CHANGES))
    yield replace(_panel("KL behind a changed step", KL, changed), scale=THOUSANDTHS)


def _of_edits(measurements: pd.DataFrame) -> Iterator[Panel]:
    levels = select(measurements, what=ACCURACY, condition=EDIT)
    yield replace(_panel("By label", "accuracy (%)", levels), change=False)
    differences = select(measurements, what=effect(ACCURACY))
    compared = differences[differences.condition.str.startswith(against(""))]
    for condition in compared.condition.unique()[:1]:
        yield _panel(f"Difference {condition}", POINTS, compared)


def _panel(title: str, axis: str, rows: pd.DataFrame) -> Panel:
    """Groups in the order of the rows, a dot for each policy that continues."""
    single = rows.category.str.startswith("step ")
    rows = rows[rows.value.notna() & (~single | (rows.problems >= LEAST_PROBLEMS))]
    keyed = rows.assign(group=rows.condition + " " + rows.category)
    names = {}
    for row in keyed.itertuples():
        own = row.condition == EDIT or str(row.condition).startswith(against(""))
        names[str(row.group)] = str(row.category if own else f"{row.condition},\n{row.category}")
    return Panel("", title, axis, names, _series(keyed), change=True)


def _series(keyed: pd.DataFrame) -> Sequence[Series]:
    tables = {author: select(keyed, view=author).set_index("group") for author in LOOKS}
    return [Series(author, LOOKS[author], table) for author, table in tables.items() if len(table)]
