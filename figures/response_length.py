"""Response lengths: percentiles and mean of every model's own rollouts, in tokens. Behaviour table,
left, measured.

    a   10th, 50th and 90th percentile and mean, of base student, checkpoints and teacher b   the
    published lengths where they are given, on their own axis: their unit is characters / 3.5

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from . import behaviour, style
from .colours import looks
from .groups import counts, draw_panels, intervals, published_sentence


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
    rows = _lengths(measurements)
    panels = [behaviour.lengths_panel(rows, looks(rows))]
    if published is not None:
        panels.append(behaviour.published_panel(published, "b"))
    return draw_panels(panels, rows, width, title)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, and how the intervals were made."""
    rows = _lengths(measurements)
    text = [f"Rollouts that each model wrote itself ({counts(rows)}).", behaviour.LENGTHS_SENTENCE]
    if rows.note.str.contains("at least:").any():
        text.append(behaviour.BOUND_SENTENCE)
    if published is not None:
        text.append(
            f"(b) {published_sentence(published)} The unit is characters / 3.5, not tokens."
        )
    return " ".join([*text, intervals(rows)])


def _lengths(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = measurements[
        measurements.what.isin([f"response_tokens_{name}" for name in behaviour.LENGTHS])
    ]
    if not len(rows):
        raise ValueError("measurements hold no response length; pass those of behaviour")
    return rows
