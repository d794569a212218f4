"""The page of a figure: a title and a key above, panels in blocks, a note below. All in inches.

Panels stand in a mosaic of a fixed size rather than in a constrained layout: labels at the ends of
curves and the numbers of an axis are placed by how large a panel is, which a constrained layout
does not know before the figure is drawn.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style

EDGE = 0.08  # from the page's edge to title, key and note
LINE = 0.13  # of a line of small text
KEY_LINE = 0.155
CHARACTERS: dict[style.Width, int] = {"page": 126, "column": 60}  # of small text in a line


@dataclass(frozen=True)
class Block:
    """Panels on a grid of their own, as `Figure.subplot_mosaic` has it.

    mosaic: names of panels row by row, ``.`` for a hole. heights: of the rows. widths: of the
    columns, in any unit. left, right: from the page's edges. between: columns, beside: rows.
    above, below: for titles and for the names of axes.
    """

    mosaic: Sequence[Sequence[str]]
    heights: Sequence[float]
    left: float = 0.55
    right: float = 0.12
    widths: Sequence[float] | None = None
    between: float = 0.47
    apart: float = 0.75
    above: float = 0.28
    below: float = 0.45

    @property
    def inches(self) -> float:
        """How high the grid is, without what stands above and below it."""
        return sum(self.heights) + self.apart * (len(self.heights) - 1)


def page(
    width: style.Width,
    blocks: Sequence[Block],
    *,
    title: str = "",
    handles: Sequence[Artist] = (),
    note: str = "",
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with its title, key and note, and its empty panels by name."""
    across = style.WIDTH_INCHES[width]
    title = textwrap.fill(title, 110 if width == "page" else 52)
    note = textwrap.fill(note, CHARACTERS[width])
    title_inches = 0.02 + 0.145 * len(title.splitlines())
    columns = _key_columns(handles, across)
    key_inches = KEY_LINE * math.ceil(len(handles) / columns)
    foot = 0.08 + LINE * len(note.splitlines())
    tall = sum(block.above + block.inches + block.below for block in blocks)
    total = EDGE + title_inches + key_inches + tall + foot
    figure = style.new_figure(width, total)
    left, top = EDGE / across, total - 0.06
    if title:
        figure.text(left, top / total, title, va="top", fontsize=style.NORMAL, gid="title")
    top -= title_inches
    if handles:
        figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(left, top / total),
            ncols=columns,
            frameon=False,
            fontsize=style.SMALL,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.8,
            columnspacing=1.4,
            labelspacing=0.3,
        ).set_gid("key")
    top -= key_inches
    axes: dict[str, Axes] = {}
    for block in blocks:
        axes |= _panels(figure, block, top - block.above)
        top -= block.above + block.inches + block.below
    note_text = figure.text(left, 0.06 / total, note, va="bottom", linespacing=1.2, gid="note")
    note_text.set_fontsize(style.SMALL)
    return figure, axes


def _panels(figure: Figure, block: Block, top: float) -> dict[str, Axes]:
    """The panels of a block from ``top`` inches down."""
    across, up = figure.get_size_inches()
    columns = len(block.mosaic[0])
    wide = (across - block.left - block.right - block.between * (columns - 1)) / columns
    grid = {
        "left": block.left / across,
        "right": 1 - block.right / across,
        "top": top / up,
        "bottom": (top - block.inches) / up,
        # of a grid, spaces are in units of the mean panel
        "wspace": block.between / wide,
        "hspace": block.apart / float(np.mean(block.heights)),
    }
    names: list[Any] = [list(row) for row in block.mosaic]
    return figure.subplot_mosaic(
        names,
        height_ratios=list(block.heights),
        width_ratios=block.widths,
        gridspec_kw=grid,
    )


def _key_columns(handles: Sequence[Artist], across: float) -> int:
    """As many as fit beside each other, by the longest name."""
    if not handles:
        return 1
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = (across - 2 * EDGE) * style.POINTS_PER_INCH
    return max(1, min(len(handles), int(room // (3.9 * longest + 30))))


def staggered(columns: Sequence[Mapping[str, tuple[float, float]]], **measures: Any) -> Block:
    """A block whose columns hold panels at heights of their own.

    columns: of each panel top and bottom, in inches from above. measures: of the `Block`.
    """
    ends = {end for column in columns for panel in column.values() for end in panel}
    edges = sorted({0.0, *ends})
    mosaic = []
    for top, bottom in itertools.pairwise(edges):
        row = []
        for column in columns:
            within = [
                name for name, (first, last) in column.items() if first <= top and bottom <= last
            ]
            row.append(within[0] if within else ".")
        mosaic.append(row)
    heights = [bottom - top for top, bottom in itertools.pairwise(edges)]
    return Block(mosaic, heights, apart=0.0, **measures)
