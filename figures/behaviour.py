"""Rollout behaviour of every checkpoint: how long responses are, how they end, repeat and box, how
often they are right.

    a   percentiles of the response length
    b   natural stops, several boxes, repetition
    c   accuracy under each answer rule
    d   published lengths where they are given, on their own axis: they are in another unit

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from . import style
from .artists import Look
from .colours import looks
from .groups import (
    Panel,
    counts,
    draw_panels,
    intervals,
    published_sentence,
    published_series,
    series_of,
)

LENGTHS = {"p10": "10th\npercentile", "p50": "median", "p90": "90th\npercentile", "mean": "mean"}
SHARES = {
    "natural_stop_share": "natural\nstops",
    "several_boxes_share": "several\nboxes",
    "repetition_3gram": "repeated\n3-grams",
}
LENGTHS_SENTENCE = (
    "(a) Response length in tokens, end-of-turn token left out: of a percentile the least length "
    "that so many of the "
    "rollouts do not exceed."
)
BOUND_SENTENCE = "\u2265: rollouts were cut off, so that the number is a lower bound."


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.behaviour.measure`.
        published: rows of `decaylab.paper.publication.response_length`, drawn grey and hollow in a
        panel of their own.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, two beside each
        other).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no response length.
    """
    known = looks(measurements)
    panels = [
        lengths_panel(measurements, known),
        _shares(measurements, known),
        _accuracy(measurements, known),
    ]
    if not panels[0].series:
        raise ValueError("measurements hold no response length; pass those of behaviour")
    if published is not None:
        panels.append(published_panel(published, "d"))
    return draw_panels([panel for panel in panels if panel.series], measurements, width, title)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, and how the intervals were made."""
    levels = measurements[~measurements.what.str.endswith("_change")]
    rules = ", ".join(dict.fromkeys(levels[levels.what == "accuracy"].condition))
    text = [
        f"Rollouts that each model wrote itself ({counts(levels)}).",
        LENGTHS_SENTENCE,
        "(b) Shares of rollouts that ended by themselves and that hold more than one box; of the "
        "3-grams of a response "
        "those that came before in it, mean over rollouts.",
        f"(c) Accuracy, mean over rollouts, under each answer rule ({rules}).",
    ]
    if levels.note.str.contains("at least:").any():
        text.append(BOUND_SENTENCE)
    if published is not None:
        text.append(
            f"(d) {published_sentence(published)} The unit is characters / 3.5, not tokens."
        )
    return " ".join([*text, intervals(levels)])


def lengths_panel(measurements: pd.DataFrame, known: Mapping[str, Look]) -> Panel:
    """Panel a: percentiles and mean of the response length, in tokens; without series where none
    was measured."""
    rows = measurements[measurements.what.isin([f"response_tokens_{name}" for name in LENGTHS])]
    rows = rows.assign(group=rows.what.str.removeprefix("response_tokens_"))
    return Panel(
        "a", "Response length", "tokens", LENGTHS, series_of(rows, known), scale=1.0, numbers=".0f"
    )


def _shares(measurements: pd.DataFrame, known: Mapping[str, Look]) -> Panel:
    rows = measurements[measurements.what.isin(SHARES)]
    return Panel(
        "b",
        "How responses end and repeat",
        "share (%)",
        SHARES,
        series_of(rows.assign(group=rows.what), known),
    )


def _accuracy(measurements: pd.DataFrame, known: Mapping[str, Look]) -> Panel:
    rows = measurements[measurements.what == "accuracy"]
    rules = {rule: rule.replace("_", "\n") for rule in dict.fromkeys(rows.condition)}
    series = series_of(rows.assign(group=rows.condition), known)
    return Panel("c", "Accuracy under each answer rule", "accuracy (%)", rules, series)


def published_panel(published: pd.DataFrame, gid: str) -> Panel:
    """The published lengths, grey and hollow, on an axis of their own: they are in another unit."""
    rows = published[published.what.str.startswith("response_length_")]
    order = {name: i for i, name in enumerate(looks(rows))}
    rows = rows.assign(group=rows.what.str.removeprefix("response_length_")).sort_values(
        "checkpoint", key=lambda names: names.map(order), kind="stable"
    )
    series = published_series(rows)
    return Panel(
        gid,
        "Published length, other pair",
        "characters / 3.5",
        LENGTHS,
        series,
        scale=1.0,
        numbers=".0f",
    )
