"""Values along rollouts: how likely a correct answer is from each position, for student and
teacher, and what knows it.

    a   both values by position, over the rollouts that are unfinished there
    b   the teacher's advantage: the teacher's value less the student's, at the same prefixes
    c   how the teacher's score of a segment goes with the change of the student's value over it
    d   both values by position as a share of the final length, which looks into the future
    e   AUROC of each signal for the outcome of fresh continuations, in three comparisons

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab import printing
from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    ALL_PREFIXES,
    AUROC,
    COMPARISONS,
    OPEN,
    SAME_POSITION,
    SAME_PROBLEM,
    SCORE_CORRELATION,
    SCORE_RANK_CORRELATION,
    SHARE_OF_LENGTH,
    STUDENT,
    TEACHER,
    VALUE,
    VALUE_ADVANTAGE,
)

from . import artists, style, words
from .artists import PERCENT, Look
from .curves import accuracy_axis, draw_curve, extent, length_axis, shifts
from .groups import Panel, Series, draw_panel
from .layout import Block
from .page import Part, Sheet, drawing

AT, LOW, HIGH = "prefix_tokens", "position_low", "position_high"
VALUES = {
    STUDENT: Look("student\ncontinues", style.STUDENT, "s"),
    TEACHER: Look("teacher\ncontinues", style.TEACHER, "o"),
}
ADVANTAGE = Look("teacher\nless student", style.TEACHER, "o")
ALIGNED = {
    SCORE_CORRELATION: Look("Pearson,\nnoise taken off", style.WINE, "D"),
    SCORE_RANK_CORRELATION: Look("Spearman, raw", style.SKY, "v", "--"),
}
COMPARED = {
    ALL_PREFIXES: Look("all prefixes", style.BLACK, "o"),
    SAME_POSITION: Look("same position", style.ORANGE, "^"),
    SAME_PROBLEM: Look("same position of the same problem", style.ESR, "D"),
}
IGNORANCE = 0.5
CAPTION = """How likely a correct answer is from each position of the student's rollouts, continued
    afresh by student and teacher; how the teacher's score goes with the student's change of value;
    which signal knows the outcome (AUROC). {counts}. Bars: {level} intervals, problem-clustered;
    shaded: {level} for all positions at once."""
DETAILS = """(a) Share of correct answers among fresh continuations of the student's rollouts that
    are unfinished at a position, by the student and by the teacher. (b) Teacher's share less the
    student's at the same prefixes. (c) Correlation, over segments between two positions, of the
    summed log teacher / student of what the student wrote with the change of the student's value;
    a point stands at the start of its segment, the last segment goes to the end of the rollout.
    Pearson: the variance of the change is taken less its sampling part. Spearman: raw, lowered by
    noise. (d) As (a), by position as a share of the final length, which looks into the future and
    is no rule for stopping. (e) AUROC of each signal at a prefix for the outcome of the student's
    fresh continuations there: pairs of a right and a wrong one of two prefixes, among all of them,
    at one position, and at one position of one problem. 0.5 is ignorance; below it, low values go
    with right answers; position is 0.5 by construction in the last two. {counts}, answer rule
    {rule}, seed {seed}. Bars: pointwise {level} intervals ({methods}). Bands: {level} for all
    positions of a curve at once."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.values.measure`.
        published: not drawn; every diagnostic's figure takes it.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no values by position.
    """
    _first(measurements)
    parts = {
        "a": _part("a", "Correct answers from each position", _values, measurements),
        "b": _part("b", "The teacher's advantage", _advantage, measurements),
        "c": _part("c", "Score and change of value", _aligned, measurements),
        "d": _part("d", "By share of the final length", _by_share, measurements),
        "e": _signals_part(measurements),
    }
    rows = [Block([list(pair)], [1.5], **BESIDE) for pair in ("ab", "cd")]
    return Sheet(parts, [*rows, parts["e"].block], title, claim="abce")


BESIDE: dict[str, Any] = {"right": 1.05, "between": 1.55}
draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return _filled(CAPTION, measurements)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, answer rule, and how the intervals were made."""
    row = _first(measurements)
    drawn = vocabulary.rows(measurements, what=[VALUE, VALUE_ADVANTAGE, *ALIGNED, AUROC])
    methods = words.methods(drawn[drawn.low.notna()])
    return _filled(DETAILS, measurements, rule=row.answer_rule, seed=row.seed, methods=methods)


def _first(measurements: pd.DataFrame) -> pd.Series[Any]:
    """The student's value at the first position."""
    rows = _curve(measurements, VALUE, STUDENT)
    if rows.empty:
        raise ValueError("measurements hold no value by position; pass those of values")
    return rows.iloc[0]


def _filled(template: str, measurements: pd.DataFrame, **fields: Any) -> str:
    row = _first(measurements)
    counts = f"{row.rollouts} rollouts of {row.problems} problems"
    level = f"{printing.percent(row.level):g} %"
    return words.filled(template, level=level, counts=counts, **fields)


def _curve(measurements: pd.DataFrame, what: str, condition: str) -> pd.DataFrame:
    """The rows of one curve, by position."""
    rows = vocabulary.select(measurements, what=what, condition=condition, view=OPEN)
    return rows.sort_values(AT)


def _part(letter: str, title: str, fill: Any, measurements: pd.DataFrame) -> Part:
    block = Block([[letter]], [1.5], right=1.1)
    return Part(title, block, lambda axes: fill(axes[letter], measurements, letter))


# The panels


def _values(axes: Axes, measurements: pd.DataFrame, letter: str) -> None:
    curves = {role: _curve(measurements, VALUE, role) for role in VALUES}
    length_axis(axes, sorted({*pd.concat(curves.values())[AT]}))
    accuracy_axis(axes, curves.values())
    labels = []
    for (role, rows), shift in zip(curves.items(), shifts(2, 3.0), strict=True):
        look = VALUES[role]
        artists.band(axes, rows[AT], rows, look.colour, f"{letter}.{role}.band", PERCENT)
        labels += draw_curve(axes, rows, AT, look, f"{letter}.{role}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "value (%)")
    axes.set_xlabel("position (student tokens)")


def _advantage(axes: Axes, measurements: pd.DataFrame, letter: str) -> None:
    rows = vocabulary.select(measurements, what=VALUE_ADVANTAGE, view=OPEN).sort_values(AT)
    length_axis(axes, rows[AT].tolist())
    low, high = extent([rows], [*artists.NUMBERS, "band_low", "band_high"])
    low, high = min(low, -5.0), max(high, 5.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    style.ticks_within(axes, upright=True)
    axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    artists.band(axes, rows[AT], rows, ADVANTAGE.colour, f"{letter}.band", PERCENT)
    style.label_ends(axes, draw_curve(axes, rows, AT, ADVANTAGE, f"{letter}.advantage"))
    style.name_y_axis(axes, "difference (points)")
    axes.set_xlabel("position (student tokens)")


def _aligned(axes: Axes, measurements: pd.DataFrame, letter: str) -> None:
    """Correlations by segment, each at its start."""
    curves = {what: vocabulary.select(measurements, what=what).sort_values(LOW) for what in ALIGNED}
    length_axis(axes, sorted({*pd.concat(curves.values())[LOW]}))
    if not any(rows.value.notna().any() for rows in curves.values()):
        artists.no_value(axes)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    labels = []
    for (what, rows), shift in zip(curves.items(), shifts(2, 3.0), strict=True):
        look, known = ALIGNED[what], rows[rows.value.notna()]
        artists.draw(axes, rows[LOW], rows, look, f"{letter}.{what}", shift=shift)
        if len(known):
            end = known.iloc[-1]
            labels.append(style.EndLabel(end[LOW], end.value, look.name, look.colour))
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "correlation")
    axes.set_xlabel("start of the segment (student tokens)")


def _by_share(axes: Axes, measurements: pd.DataFrame, letter: str) -> None:
    """Both values in each quarter of the final length, in its middle."""
    rows = vocabulary.select(measurements, what=VALUE, view=SHARE_OF_LENGTH)
    rows = rows.assign(middle=PERCENT * (rows[LOW] + rows[HIGH]) / 2)
    curves = {role: vocabulary.select(rows, condition=role) for role in VALUES}
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100])
    accuracy_axis(axes, curves.values())
    labels = []
    for (role, curve), shift in zip(curves.items(), shifts(2, 3.0), strict=True):
        labels += draw_curve(axes, curve, "middle", VALUES[role], f"{letter}.{role}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "value (%)")
    axes.set_xlabel("position (% of the final length)")


def _signals_part(measurements: pd.DataFrame) -> Part:
    rows = vocabulary.select(measurements, what=AUROC)
    series = []
    for comparison in COMPARISONS:
        found = vocabulary.select(rows, view=comparison).set_index("category")
        series.append(Series(comparison, COMPARED[comparison], found))
    names = {str(name): str(name) for name in rows.category.unique()}
    panel = Panel("e", "", "AUROC for a correct answer", names, series, scale=1.0, span=(0.0, 1.0))
    block = Block([["e"]], [panel.points / style.POINTS_PER_INCH], left=1.5, right=0.3)
    handles = [artists.handle(look, size=3.6) for look in COMPARED.values()]

    def fill(axes: dict[str, Axes]) -> None:
        draw_panel(axes["e"], panel)
        axes["e"].set_xticks(np.linspace(0, 1, 5))
        axes["e"].axvline(IGNORANCE, color=style.INK, linewidth=0.6, zorder=1, gid="e.ignorance")

    return Part("Which signal knows the outcome", block, fill, handles)
