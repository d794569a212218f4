"""Cascade ratios: reverse KL after / before training over the positions from N on, a row for each
student.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import ALL, select

from . import artists, style
from .arms import with_pieces
from .artists import NUMBERS, Look
from .layout import Block
from .page import Part
from .running_text import short

WHAT = "cascade_ratio"
CEILING = 4.0  # of the axis of ratios, unless a ratio itself is higher: intervals have any length
MARGIN = 16  # characters of a name beside a ratio
ROW, ROOM, HIGHEST = 0.16, 0.1, 1.8  # inches: of a row, beyond all rows, of a panel at most
NAME = 8.2  # points that a name takes


def height(students: int) -> float:
    """Of the panel, in inches."""
    return min(ROW * students + ROOM, HIGHEST)


def cascade_part(
    frame: pd.DataFrame, view: str, letter: str, title: str, known: Mapping[str, Look], place: Block
) -> Part:
    """The panel of one view. known: of the trained students; place: its margins in a column."""
    every = select(frame, what=WHAT, condition=ALL)

    def part(some: Sequence[str]) -> Part:
        looks = {name: known[name] for name in some}
        block = replace(place, mosaic=[[letter]], heights=[height(len(some))], above=0.3)
        return Part(title, block, lambda axes: _draw(axes[letter], every, view, letter, looks))

    return with_pieces(part, list(known))


def _draw(
    axes: Axes, every: pd.DataFrame, view: str, panel: str, known: Mapping[str, Look]
) -> None:
    """A dot with its interval for each student. Names stand beside the rows, of very many beside as
    many as have room."""
    _ratio_axis(axes, every)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_yticks([])
    axes.axvline(1.0, color=style.INK, linewidth=0.6, zorder=0)
    of_view = {str(name): rows for name, rows in select(every, view=view).groupby("checkpoint")}
    pitch = style.size_points(axes)[1] / max(1, len(known))
    step = math.ceil(NAME / pitch)
    for row, (name, look) in enumerate(known.items()):
        drawn = of_view.get(name, every[:0]).dropna(subset="value")
        artists.draw(axes, [row] * len(drawn), drawn, look, f"{panel}.{name}", upright=False)
        if row % step == 0:
            undefined = "" if len(drawn) else " \u2013"
            words = short(look.name, MARGIN - len(undefined)) + undefined
            artists.beside(axes, row, words, 9, colour=style.darker(look.colour), align="left")
    for low in every.position_low.head(1):
        axes.set_xlabel(f"reverse KL from {low:g} on, after / before")


def _ratio_axis(axes: Axes, every: pd.DataFrame) -> None:
    """Around 1 and all ratios; intervals as far as the ceiling."""
    ends = every[NUMBERS].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    ceiling = np.fmax(CEILING, every.value.max())  # undefined ones aside
    low, high = ends.min(initial=0.95), min(ends.max(initial=1.05), ceiling)
    axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    style.ticks_within(axes)
