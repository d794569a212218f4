"""Which teacher? Several teachers of one student, or several students of one teacher, on the same
problems.

    a   accuracy after k tokens of the student's rollouts, a curve each, beside the outcome of those
        very rollouts
    b   paired differences from the reference, the run named first

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    ACCURACY,
    DIFFERENCE,
    STUDENT_ACCURACY,
    STUDENT_PREFIX,
    TEACHERS,
    against,
)

from . import artists, style, words
from .artists import Look
from .colours import LONGEST_NAME
from .curves import accuracy_axis, draw_curve, extent, length_axis, shifts
from .layout import Block, beside_first
from .page import Part, Sheet, drawing
from .running_text import in_lines, short

AT = "prefix_tokens"
COLOURS = (style.TEACHER, style.ESR, style.WINE, style.ORANGE, style.SKY, style.FULL_ROLLOUT)
MARKERS = ("o", "^", "D", "v", "P", "X")
OUTCOME = Look("the student's\nown outcome", style.STUDENT, "s", "--")
MARGIN = 15  # characters of a name in a line
APART = 2.5  # points between curves at one length, less than a marker is wide
CAPTION = """Accuracy of each {role} after the first k tokens of the student's rollouts, beside
    {outcome}, and its difference from {reference} on the same problems. {problems} problems,
    answer rule {rule}. Bars: {level} intervals, problem-clustered."""
DETAILS = """(a) Accuracy of each {role} after the first k tokens of the student's
    rollouts; dashed: {outcome}. (b) Its difference from {reference}, paired on the same problems.
    {problems} problems, answer rule {rule}, {estimand}. Bars: pointwise {level} intervals
    ({methods})."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.compare.measure`.
        published: nothing was published of this; drawn nowhere.
        title: a line above the panels.

    Raises:
        ValueError: the rows hold no comparison.
    """
    looks = _looks(measurements)
    parts = {
        "a": Part(
            "Accuracy of the teacher after k tokens",
            Block([["a"]], [2.1], right=1.1),
            lambda axes: _accuracy(axes["a"], measurements, looks),
        ),
        "b": Part(
            "Paired difference from the reference",
            Block([["b"]], [2.1], right=1.1),
            lambda axes: _differences(axes["b"], measurements, looks),
        ),
    }
    return Sheet(parts, [beside_first({"a": (0.0, 2.3)}, ["b"])], title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return _filled(CAPTION, measurements)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    accuracy = _rows(measurements, ACCURACY)
    return _filled(
        DETAILS,
        measurements,
        estimand=str(accuracy.estimand.iloc[0]),
        methods=words.methods(_rows(measurements, [ACCURACY, DIFFERENCE])),
    )


def _filled(template: str, measurements: pd.DataFrame, **fields: str) -> str:
    accuracy = _rows(measurements, ACCURACY)
    teachers = _compared(measurements) == TEACHERS
    return words.filled(
        template,
        accuracy,
        None,
        role="teacher" if teachers else "student's teacher",
        outcome="the outcome of those very rollouts" if teachers else "each student's own outcome",
        reference=next(iter(_looks(measurements))),
        problems=f"{accuracy.problems.max():,}",
        rule=str(accuracy.answer_rule.iloc[0]),
        **fields,
    )


def _rows(measurements: pd.DataFrame, what: str | list[str]) -> pd.DataFrame:
    rows = vocabulary.select(measurements, what=what)
    if rows.empty:
        raise ValueError("measurements hold no comparison; `decaylab compare` makes one")
    return rows


def _compared(measurements: pd.DataFrame) -> str:
    return str(measurements.category.iloc[0])


def _looks(measurements: pd.DataFrame) -> dict[str, Look]:
    """How each run is drawn, the reference first."""
    names = [str(name) for name in _rows(measurements, ACCURACY).checkpoint.unique()]
    looks = {}
    for name, colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
        looks[name] = Look(_short(name, names), colour, marker)
    return looks


def _short(name: str, names: list[str]) -> str:
    """A model's name in lines that fit the margin, without its owner where that says nothing."""
    last = name.rpartition("/")[2]
    if [other.rpartition("/")[2] for other in names].count(last) > 1:
        last = name
    return in_lines(short(last, LONGEST_NAME), MARGIN)


def _curve(measurements: pd.DataFrame, what: str, name: str, condition: str) -> pd.DataFrame:
    rows = vocabulary.select(measurements, what=what, checkpoint=name, condition=condition)
    return rows.sort_values(AT)


def _accuracy(axes: Axes, measurements: pd.DataFrame, looks: dict[str, Look]) -> None:
    curves = {name: _curve(measurements, ACCURACY, name, STUDENT_PREFIX) for name in looks}
    outcomes = {
        name: _curve(measurements, STUDENT_ACCURACY, name, STUDENT_PREFIX) for name in looks
    }
    own = {name: Look("", look.colour, look.marker, "--") for name, look in looks.items()}
    if _compared(measurements) == TEACHERS:  # one student, whose outcome is the same for all
        first = next(iter(looks))
        outcomes, own = {first: outcomes[first]}, {first: OUTCOME}
    every = [*curves.values(), *outcomes.values()]
    length_axis(axes, sorted({float(length) for rows in every for length in rows[AT]}))
    accuracy_axis(axes, [rows[["value", "low", "high", "band_low", "band_high"]] for rows in every])
    labels = []
    for name, rows in outcomes.items():
        ends = draw_curve(axes, rows, AT, own[name], f"a.{name}.outcome")
        labels += [end for end in ends if end.text]
    for (name, look), shift in zip(looks.items(), shifts(len(looks), APART), strict=True):
        labels += draw_curve(axes, curves[name], AT, look, f"a.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "accuracy (%)")
    axes.set_xlabel("prefix length k (student tokens)")


def _differences(axes: Axes, measurements: pd.DataFrame, looks: dict[str, Look]) -> None:
    reference, *others = looks
    curves = {name: _curve(measurements, DIFFERENCE, name, against(reference)) for name in others}
    lengths = sorted({float(length) for rows in curves.values() for length in rows[AT]})
    length_axis(axes, lengths)
    low, high = extent(curves.values(), artists.NUMBERS)
    low, high = min(low, -5.0), max(high, 5.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    style.ticks_within(axes, upright=True)
    axes.axhline(0.0, color=looks[reference].colour, linewidth=0.9, zorder=0, gid="b.reference")
    labels = [
        style.EndLabel(axes.get_xlim()[1], 0.0, looks[reference].name, looks[reference].colour)
    ]
    for (name, rows), shift in zip(curves.items(), shifts(len(curves), APART), strict=True):
        labels += draw_curve(axes, rows, AT, looks[name], f"b.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "difference (points)")
    axes.set_xlabel("prefix length k (student tokens)")
