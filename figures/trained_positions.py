"""Which positions training saw, on curves by position: a line for each rollout length.

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

FIRST, LINE = 4.0, 8.0  # points from the axes to the first line, and from a line to the next
MOST = 3  # lengths that are drawn


def trained_lengths(frame: pd.DataFrame) -> dict[str, float]:
    """Of each trained student the rollout length of its training, as far as the table knows:
    infinity for full rollouts."""
    rows = frame[frame.rollout_length.notna() & (frame.checkpoint != BASE)]
    rows = rows.drop_duplicates("checkpoint")
    return dict(zip(rows.checkpoint, rows.rollout_length, strict=True))


def lengths_text(lengths: Mapping[str, float]) -> str:
    """The rollout length of each student, those of one length together."""
    names: dict[float, list[str]] = {}
    for name, length in lengths.items():
        names.setdefault(length, []).append(name)
    texts = [f"{', '.join(of)} {length_text(length)}" for length, of in names.items()]
    return "; ".join(texts)


def length_text(length: float) -> str:
    return "full rollouts" if math.isinf(length) else f"N = {length:g}"


def drawn_lengths(lengths: Mapping[str, float]) -> dict[float, str]:
    """Each rollout length that has a line, and the last student that was trained on it; of many
    lengths the last ones."""
    last = {length: name for name, length in lengths.items() if 0 < length < math.inf}
    return dict(list(last.items())[-MOST:])


def draw_trained(
    axes: Axes, lengths: Mapping[str, float], looks: Mapping[str, Look], panel: str
) -> None:
    """Above the axes a line for each rollout length N of training, from 0 to N, with N at its end,
    in the colour of the last student of that length; of full rollouts there is none."""
    right, tall = axes.get_xlim()[1], style.size_points(axes)[1]
    shown = {name: length for name, length in lengths.items() if name in looks and length <= right}
    for place, (length, name) in enumerate(drawn_lengths(shown).items()):
        colour = looks[name].colour
        height = 1.0 + (FIRST + LINE * place) / tall
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
