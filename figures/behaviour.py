"""Rollout behaviour of every checkpoint: how long responses are, how they end, repeat and box, how
often they are correct.

    a   percentiles of the response length
    b   natural stops, several boxes, repetition
    c   accuracy under each answer rule
    d   published lengths where they are given, on their own axis: they are in another unit

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from decaylab.runs import vocabulary

from . import groups, style, words
from .artists import Look
from .colours import looks
from .groups import (
    Panel,
    Series,
    counts,
    intervals,
    published_series,
    series_of,
    sheet_of,
)
from .page import Sheet, drawing

LENGTHS = {"p10": "10th\npercentile", "p50": "median", "p90": "90th\npercentile", "mean": "mean"}
MEASURED, PUBLISHED = "response_tokens_", "response_length_"  # begin the quantities of lengths
SHARES = {
    "natural_stop_share": "natural\nstops",
    "several_boxes_share": "several\nboxes",
    "repetition_3gram": "repeated\n3-grams",
}
CAPTION = """Response length, how responses end and repeat, and accuracy under each answer rule, of
    rollouts that each model wrote itself: {counts} per model. Lines: {level} intervals,
    problem-clustered. {bound}"""
DETAILS = """Rollouts that each model wrote itself ({counts}). (a) Response length in tokens without
    the end-of-turn token: a percentile is the smallest length that this share of the rollouts does
    not exceed. {more} {bound} {theirs} {intervals}"""
SHARES_AND_RULES = """(b) Shares of rollouts that stopped naturally{boxes};
    of the 3-grams of a response those that came before in it, mean over rollouts. (c) Accuracy,
    mean over rollouts, under each answer rule ({rules})."""
BOUND = "\u2265: rollouts were cut off, so the number is a lower bound."
UNIT = f"({{letter}}) {groups.PUBLISHED} The unit is characters / 3.5, not tokens."


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.behaviour.measure`.
        published: rows of `decaylab.paper.publication.response_length`, in a grey panel of their
            own.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no response length.
    """
    known = looks(measurements)
    shares = series_of(vocabulary.select(measurements, what=[*SHARES]), known, "what")
    accuracy = vocabulary.select(measurements, what="accuracy")
    measured = {what: name for what, name in SHARES.items() if what in set(measurements.what)}
    panels = [
        lengths_panel(measurements, known),
        Panel("b", "How responses end and repeat", "share (%)", measured, shares),
        rules_panel("c", "Accuracy by answer rule", series_of(accuracy, known, "condition")),
    ]
    if published is not None:
        panels.append(published_panel(published, "d"))
    return sheet_of([panel for panel in panels if panel.series], title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return short_caption(CAPTION, _levels(measurements))


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    levels = _levels(measurements)
    rules = dict.fromkeys(vocabulary.select(levels, what="accuracy").condition)
    boxed = (levels.what == "several_boxes_share").any()
    boxes = " and that hold more than one box" if boxed else ""
    more = SHARES_AND_RULES.format(rules=", ".join(rules), boxes=boxes)
    return sentences(levels, published, "d", more)


def _levels(measurements: pd.DataFrame) -> pd.DataFrame:
    return measurements[~measurements.what.str.endswith(vocabulary.change(""))]


def short_caption(template: str, rows: pd.DataFrame) -> str:
    """A short caption with its counts, and whether lengths are bounds."""
    bound = BOUND if rows.note.str.contains("at least:").any() else ""
    return words.filled(template, rows, counts=counts(rows, ("problems", "rollouts")), bound=bound)


def sentences(
    rows: pd.DataFrame, published: pd.DataFrame | None, letter: str, more: str = ""
) -> str:
    """Details that begin with the lengths. letter: of the published ones."""
    return words.filled(
        DETAILS,
        counts=counts(rows),
        more=more,
        bound=BOUND if rows.note.str.contains("at least:").any() else "",
        theirs=words.of_published(UNIT, published, letter=letter),
        intervals=intervals(rows),
    )


def lengths_of(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows of percentiles and mean of the response length.

    Raises:
        ValueError: there is none.
    """
    rows = _by_statistic(measurements, MEASURED)
    if rows.empty:
        raise ValueError("measurements hold no response length; pass those of behaviour")
    return rows


def lengths_panel(measurements: pd.DataFrame, known: Mapping[str, Look]) -> Panel:
    """Panel a: percentiles and mean of the response length, in tokens."""
    series = series_of(lengths_of(measurements), known)
    return Panel("a", "Response length", "tokens", LENGTHS, series, 1.0)


def published_panel(published: pd.DataFrame, gid: str) -> Panel:
    """The published lengths, grey and hollow, on an axis of their own: they are in another unit."""
    rows = _by_statistic(published, PUBLISHED)
    # In the order of the measured models: base, checkpoints, teacher
    order = list(looks(rows))
    rows = rows.sort_values("checkpoint", key=lambda names: names.map(order.index), kind="stable")
    title, axis = "Published: length, other pair", "characters / 3.5"
    return Panel(gid, title, axis, LENGTHS, published_series(rows), 1.0)


def _by_statistic(frame: pd.DataFrame, prefix: str) -> pd.DataFrame:
    rows = vocabulary.select(frame, what=[prefix + name for name in LENGTHS])
    return rows.assign(group=rows.what.str.removeprefix(prefix))


def rules_panel(gid: str, title: str, series: Sequence[Series]) -> Panel:
    """Accuracy under each answer rule that some model has."""
    rules = itertools.chain.from_iterable(model.rows.index for model in series)
    names = {rule: rule.replace("_", "\n") for rule in dict.fromkeys(rules)}
    return Panel(gid, title, "accuracy (%)", names, series)
