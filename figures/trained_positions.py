"""Which positions training saw, on curves by position: of each student a line in its own colour.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import BASE

from . import style
from .artists import Look

LINE = 4.0  # points from a line to the next, the first above the axes
MOST = 3  # students whose positions are drawn; of more the last ones'


def trained_lengths(frame: pd.DataFrame) -> dict[str, float]:
    """Of each trained student the rollout length of its training, as far as the table knows:
    infinity for full rollouts."""
    rows = frame[frame.rollout_length.notna() & (frame.checkpoint != BASE)]
    rows = rows.drop_duplicates("checkpoint")
    return dict(zip(rows.checkpoint, rows.rollout_length, strict=True))


def length_text(length: float) -> str:
    return "full rollouts" if math.isinf(length) else f"N = {length:g}"


def draw_trained(
    axes: Axes, lengths: Mapping[str, float], looks: Mapping[str, Look], panel: str
) -> None:
    """Above the axes a line in the colour of each student that was trained on the first N tokens,
    from 0 to N, with N at its end; of full rollouts there is none."""
    right, tall = axes.get_xlim()[1], style.size_points(axes)[1]
    inside = [name for name in lengths if name in looks and 0 < lengths[name] <= right]
    for place, name in enumerate(inside[-MOST:]):
        length, colour = lengths[name], looks[name].colour
        height = 1.0 + LINE * (place + 1) / tall
        across = axes.get_xaxis_transform()
        axes.hlines(
            height, 0, length, color=colour, linewidth=2.2, transform=across, clip_on=False
        ).set_gid(f"{panel}.{name}.trained")
        text = axes.annotate(
            f"trained to {length:g}", (length, height), (4, 0), across, "offset points", va="center"
        )
        text.set(fontsize=style.SMALL, color=style.darker(colour), annotation_clip=False)


def draw_given(axes: Axes, length: float, panel: str) -> None:
    """A dotted line at the N that was given for the measurement, where no training is known."""
    if 0 < length <= axes.get_xlim()[1]:
        line = axes.axvline(length, color=style.INK, linestyle=":", zorder=1)
        line.set(linewidth=0.8, gid=f"{panel}.rollout-length")
        where = (length, 1.0), (0, 2), axes.get_xaxis_transform(), "offset points"
        axes.annotate(f"N = {length:g}", *where, ha="center", fontsize=style.SMALL)
