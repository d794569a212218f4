"""Response lengths: percentiles and mean of every model's own rollouts, in tokens. Behaviour table,
left, measured.

    a   10th, 50th and 90th percentile and mean, of base student, checkpoints and teacher
    b   the published lengths where they are given, on their own axis: their unit is characters /
        3.5

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import pandas as pd

from . import behaviour, style
from .colours import looks
from .groups import sheet_of
from .page import Sheet, drawing

CAPTION = """Percentiles and mean of the response length, of rollouts that each model wrote itself:
    {counts} per model. Lines: {level} intervals, problem-clustered. {bound}"""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels; parameters as of `behaviour.sheet`.

    Raises:
        ValueError: the rows hold no response length.
    """
    rows = behaviour.lengths_of(measurements)
    panels = [behaviour.lengths_panel(rows, looks(rows))]
    if published is not None:
        panels.append(behaviour.published_panel(published, "b"))
    return sheet_of(panels, title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return behaviour.short_caption(CAPTION, behaviour.lengths_of(measurements))


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    return behaviour.sentences(behaviour.lengths_of(measurements), published, "b")
