"""Hand-back: what following the teacher for m tokens is worth to the student, by position.

    a   corrective gain after k student tokens, a curve for each m, beside the gain where the
        teacher finishes itself
    b   usable share: the gain as a share of that
    c   controls, which have to contain 0

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    CONTINUATION_GAIN,
    CORRECTIVE_GAIN,
    GAIN_MINUS_CONTINUATION,
    HAND_BACK,
    HAND_BACK_CONTROL,
    TO_THE_END,
    USABLE_SHARE,
    teacher_tokens,
)

from . import artists, style, words
from .artists import NUMBERS, Look
from .curves import draw_curve, extent, length_axis, shifts
from .layout import Block, beside_first
from .page import Part, Sheet, drawing

AT = "prefix_tokens"
COLOURS = (style.SKY, style.STUDENT, style.ORANGE, style.WINE, style.ESR, style.FULL_ROLLOUT)
MARKERS = ("o", "^", "D", "v", "P", "X")
FINISHES = Look("teacher finishes\nitself", style.TEACHER, "s", "--")
AFRESH = Look("0 tokens", style.BLACK, "o")
AGAIN = Look("all tokens,\nagainst its\ncontinuation", style.TEACHER, "s")
APART = 2.5  # points between curves at one length
LEAST, MOST = -100.0, 200.0  # per cent of panel b: an interval of a share may be unbounded
CAPTION = """What {counts} teacher tokens after the first k of a student's rollout are worth to the
    student, which then finishes: accuracy minus the outcomes of those very rollouts, and its share
    of the gain where the teacher finishes itself. {problems} problems. Bars: {level} intervals,
    problem-clustered."""
DETAILS = """(a) Corrective gain: accuracy of the student that finishes after k of its own tokens
    and m of the teacher's, minus the outcomes of the rollouts that the prefixes are cut from,
    unfinished ones only; dashed: the gain where the teacher finishes. (b) Usable share: the first
    divided by the second; not drawn where the second is within 2 standard errors of 0. (c)
    Controls, both 0 by construction: the student continues its own prefix afresh; and the teacher
    finishes, against its ordinary continuation. {problems} problems, answer rule {rule},
    {estimand}. Bars: pointwise {level} intervals ({methods}); {arrowhead}."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.hand_back.measure`.
        published: nothing was published of this; drawn nowhere.
        title: a line above the panels.

    Raises:
        ValueError: the rows hold no hand-back.
    """
    looks = _looks(measurements)
    parts = {
        "a": Part(
            "Gain of the student from m teacher tokens at k",
            Block([["a"]], [2.1], right=1.1),
            lambda axes: _gains(axes["a"], measurements, looks),
        ),
        "b": Part(
            "Share of the teacher's own gain",
            Block([["b"]], [1.55], right=1.1),
            lambda axes: _shares(axes["b"], measurements, looks),
        ),
        "c": Part(
            "Controls: must contain 0",
            Block([["c"]], [1.55], right=1.1),
            lambda axes: _controls(axes["c"], measurements),
        ),
    }
    return Sheet(parts, [beside_first({"a": (0.0, 3.4)}, ["b", "c"])], title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    *first, last = [look.name.split()[0] for look in _looks(measurements).values()]
    counts = f"{', '.join(first)} or {last}" if first else last
    return _filled(CAPTION, measurements, counts=counts)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    drawn = [CORRECTIVE_GAIN, USABLE_SHARE, GAIN_MINUS_CONTINUATION, CONTINUATION_GAIN]
    methods = words.methods(vocabulary.rows(measurements, what=drawn))
    return _filled(DETAILS, measurements, methods=methods)


def _filled(template: str, measurements: pd.DataFrame, **fields: str) -> str:
    gains = _asked(measurements)
    problems, rule = f"{gains.problems.max():,}", str(gains.answer_rule.iloc[0])
    return words.filled(template, gains, None, problems=problems, rule=rule, **fields)


def _asked(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = vocabulary.select(measurements, what=CORRECTIVE_GAIN, condition=HAND_BACK)
    if rows.empty:
        raise ValueError("measurements hold no hand-back; `prefix-decay --hand-back` makes one")
    return rows


def _looks(measurements: pd.DataFrame) -> dict[str, Look]:
    """How each number of teacher tokens is drawn, by its category."""
    looks = {}
    categories = _asked(measurements).category.unique()
    for category, colour, marker in zip(categories, cycle(COLOURS), cycle(MARKERS), strict=False):
        count = str(category).rpartition(" ")[2]
        looks[str(category)] = Look(f"{count} token{'s' * (count != '1')}", colour, marker)
    return looks


def _curve(measurements: pd.DataFrame, what: str, condition: str, category: str) -> pd.DataFrame:
    at = {"what": what, "condition": condition, "category": category}
    return vocabulary.select(measurements, **at).sort_values(AT)


def _gains(axes: Axes, measurements: pd.DataFrame, looks: dict[str, Look]) -> None:
    curves = {
        category: _curve(measurements, CORRECTIVE_GAIN, HAND_BACK, category) for category in looks
    }
    finishes = vocabulary.select(measurements, what=CONTINUATION_GAIN).sort_values(AT)
    _points_axis(axes, [finishes, *curves.values()])
    labels = draw_curve(axes, finishes, AT, FINISHES, "a.finishes")
    moved = shifts(len(curves), APART)
    for (category, rows), shift in zip(curves.items(), moved, strict=True):
        name = category.rpartition(" ")[2]
        labels += draw_curve(axes, rows, AT, looks[category], f"a.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "corrective gain (points)")


def _shares(axes: Axes, measurements: pd.DataFrame, looks: dict[str, Look]) -> None:
    curves = {
        category: _curve(measurements, USABLE_SHARE, HAND_BACK, category) for category in looks
    }
    every = [*curves.values()]
    length_axis(axes, sorted({float(length) for rows in every for length in rows[AT]}))
    if not any(rows.value.notna().any() for rows in every):
        artists.no_value(axes)
    low, high = extent([rows.dropna(subset="value") for rows in every], NUMBERS)
    # All values, and of their intervals what fits.
    least, most = extent([rows.dropna(subset="value") for rows in every], ["value"])
    low, high = max(low, min(LEAST, least)), min(high, max(MOST, most))
    low, high = min(low, 0.0), max(high, 100.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    style.ticks_within(axes, upright=True)
    for level in (0.0, 100.0):
        axes.axhline(level, color=style.INK, linewidth=0.6, linestyle=":", zorder=0)
    labels = []
    for (category, rows), shift in zip(curves.items(), shifts(len(curves), APART), strict=True):
        name = category.rpartition(" ")[2]
        labels += draw_curve(axes, rows, AT, looks[category], f"b.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "usable share (%)")
    axes.set_xlabel("prefix length k (student tokens)")


def _controls(axes: Axes, measurements: pd.DataFrame) -> None:
    drawn = {
        "afresh": (AFRESH, CORRECTIVE_GAIN, teacher_tokens(0)),
        "again": (AGAIN, GAIN_MINUS_CONTINUATION, teacher_tokens(TO_THE_END)),
    }
    curves = {
        name: _curve(measurements, what, HAND_BACK_CONTROL, category)
        for name, (_, what, category) in drawn.items()
    }
    _points_axis(axes, [*curves.values()])
    labels = []
    for (name, (look, *_)), shift in zip(drawn.items(), shifts(2, APART), strict=True):
        labels += draw_curve(axes, curves[name], AT, look, f"c.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "difference (points)")


def _points_axis(axes: Axes, curves: list[pd.DataFrame]) -> None:
    """Differences in points around 0, at the lengths of all curves."""
    length_axis(axes, sorted({float(length) for rows in curves for length in rows[AT]}))
    if not any(rows.value.notna().any() for rows in curves):
        artists.no_value(axes)
    low, high = extent(curves, NUMBERS)
    low, high = min(low, -5.0), max(high, 5.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    style.ticks_within(axes, upright=True)
    axes.axhline(0.0, color=style.INK, linewidth=0.6, linestyle=":", zorder=0, gid="zero")
    axes.set_xlabel("prefix length k (student tokens)")
