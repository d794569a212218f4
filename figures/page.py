"""The page of a figure: a title and a key above, panels in blocks, a note below. All in inches.

Panels stand in a mosaic of a fixed size rather than in a constrained layout: labels at the ends of
curves and the numbers of an axis are placed by how large a panel is, which a constrained layout
does not know before the figure is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .running_text import filled

EDGE = 0.08  # from the page's edge to title, key and note
TITLE_LINE, LINE = 0.15, 0.13  # of a line of the title, and of small text
KEY_LINE = 0.155
GAP = 0.04  # above the key
LEVEL = 0.9  # panels whose ends differ by less end a row together
SLACK = 0.4  # a panel stands on the left unless the right ends higher by more than that


@dataclass(frozen=True)
class Block:
    """Panels on a grid of their own, as `Figure.subplot_mosaic` has it.

    mosaic: names of panels row by row, ``.`` for a hole. heights: of the rows. widths: of the
    columns, in any unit. left, right: from the page's edges. between: columns, beside: rows.
    above, below: for titles and for the names of axes.
    """

    mosaic: Sequence[Sequence[str]] = ()
    heights: Sequence[float] = ()
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


def staggered(columns: Sequence[Mapping[str, tuple[float, float]]], place: Block) -> Block:
    """A block whose columns hold panels at heights of their own.

    columns: of each panel top and bottom, in inches from above. place: its margins and gaps.
    """
    edges = {0.0}
    for column in columns:
        edges |= set(itertools.chain(*column.values()))
    mosaic, heights = [], []
    for top, bottom in itertools.pairwise(sorted(edges)):
        heights.append(bottom - top)
        row = []
        for column in columns:
            names = [name for name, (high, low) in column.items() if high <= top and bottom <= low]
            row.append(names[0] if names else ".")
        mosaic.append(row)
    return replace(place, mosaic=mosaic, heights=heights, apart=0.0)


def beside_first(
    width: style.Width,
    first: Mapping[str, tuple[float, float]],
    others: Sequence[str],
    each: float,
) -> Block:
    """The first panels over the left half of a page and the others stacked on the right; in a
    column all below each other.

    first: of each top and bottom, in inches. each: how high the others are in a column.
    """
    columns: list[dict[str, tuple[float, float]]] = [dict(first)]
    tall = max(bottom for _, bottom in first.values())
    place, apart = Block(right=1.1), 0.7
    top = tall + apart
    if width == "page" and others:
        place, apart = Block(right=1.05, widths=[2.1, 1.75], between=1.55), 0.72
        top, each = 0.0, (tall - apart * (len(others) - 1)) / len(others)
        columns.append({})
    for name in others:
        columns[-1][name] = (top, top + each)
        top += each + apart
    return staggered(columns, place)


def balanced(heights: Mapping[str, float], width: style.Width, place: Block) -> Block:
    """Panels of these heights in two columns on a page, in one else.

    A panel stands where the page is shorter, so that a long one leaves no hole; panels whose ends
    differ by little end a row together. place: margins, and the room above and below each panel.
    """
    columns: list[dict[str, tuple[float, float]]] = [{}, {}] if width == "page" else [{}]
    used = [0.0] * len(columns)
    for name, height in heights.items():
        column = 0 if used[0] <= min(used) + SLACK else 1
        top = used[column] + place.above
        columns[column][name] = (top, top + height)
        used[column] = top + height + place.below
        if column == len(columns) - 1 and max(used) - min(used) < LEVEL:
            used = [max(used)] * len(columns)
    return staggered(columns, replace(place, above=0.0))


def page(
    width: style.Width,
    blocks: Sequence[Block],
    *,
    title: str = "",
    subtitle: str = "",
    handles: Sequence[Artist] = (),
    note: str = "",
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with its title, key and note, and its empty panels by name.

    subtitle: small, in at most two lines; what goes beyond is left out, with an ellipsis.
    """
    across = style.WIDTH_INCHES[width]
    room = (across - 2 * EDGE) * style.POINTS_PER_INCH
    title_lines = filled(title, room * style.SMALL / style.NORMAL)
    subtitle_lines, note_lines = filled(subtitle, room, most=2), filled(note, room)
    columns = _key_columns(handles, across)
    texts = TITLE_LINE * len(title_lines), LINE * len(subtitle_lines)
    key = KEY_LINE * math.ceil(len(handles) / columns)
    # a figure is as high as what stands on it
    tall = sum(block.above + block.inches + block.below for block in blocks)
    top = EDGE + tall + key + GAP + sum(texts) + LINE * len(note_lines) + EDGE
    figure = style.new_figure(width, top + EDGE)
    _write(figure, title_lines, top, "title", style.NORMAL)
    _write(figure, subtitle_lines, top - texts[0], "subtitle")
    _write(figure, note_lines, EDGE + LINE * len(note_lines), "note")
    top -= sum(texts) + GAP
    if handles:
        figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(EDGE / across, top / figure.get_figheight()),
            ncols=columns,
            frameon=False,
            fontsize=style.SMALL,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.8,
            columnspacing=1.4,
            labelspacing=0.3,
        ).set_gid("key")
    top -= key
    axes: dict[str, Axes] = {}
    for block in blocks:
        axes |= _panels(figure, block, top - block.above)
        top -= block.above + block.inches + block.below
    return figure, axes


def _write(
    figure: Figure, lines: Sequence[str], top: float, gid: str, size: float = style.SMALL
) -> None:
    """A text from ``top`` inches down; nothing if it is empty."""
    if lines:
        across, up = figure.get_size_inches()
        text = figure.text(EDGE / across, top / up, "\n".join(lines), va="top", gid=gid)
        text.set(fontsize=size, linespacing=1.2)


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
    # an average letter of small text is 3.9 points wide; marker and gaps take 30
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = (across - 2 * EDGE) * style.POINTS_PER_INCH
    return max(1, min(len(handles), int(room // (3.9 * longest + 30))))
