"""Where panels stand on a page: blocks of panels below each other, with title and key above them.
All in inches.

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
LEAST = 0.05  # of a panel's height that is left where many must fit a page
LEVEL = 0.9  # panels whose ends differ by less end a row together
SLACK = 0.4  # a panel stands on the left unless the right ends higher by more than that


@dataclass(frozen=True)
class Block:
    """Panels on a grid of their own, as `Figure.subplot_mosaic` has it.

    mosaic: names of panels row by row, ``.`` for a hole. heights: of the rows. widths: of the
    columns, in any unit. left, right: from the page's edges. between: columns, beside: rows.
    above, below: for titles and for the names of axes. fixed: panels that keep their height where
    others shrink, such as strips with a line of text.
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
    fixed: Sequence[str] = ()

    @property
    def inches(self) -> float:
        """How high the grid is, without what stands above and below it."""
        return sum(self.heights) + self.apart * (len(self.heights) - 1)

    @property
    def tall(self) -> float:
        """How high the block is with all that stands above and below the grid."""
        return self.above + self.inches + self.below

    def scaled(self, share: float) -> Block:
        """The same with panels of this share of their height; gaps and fixed panels stay."""
        heights = []
        for row, height in zip(self.mosaic, self.heights, strict=True):
            stays = set(row) == {"."} or any(name in self.fixed for name in row)
            heights.append(height if stays else share * height)
        return replace(self, heights=heights)


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


def beside_first(first: Mapping[str, tuple[float, float]], others: Sequence[str]) -> Block:
    """The first panels over the left half of a page and the others stacked on the right.

    first: of each top and bottom, in inches.
    """
    tall = max(bottom for _, bottom in first.values())
    if not others:
        return staggered([first], Block(right=1.1))
    apart = 0.72
    each = (tall - apart * (len(others) - 1)) / len(others)
    tops = [place * (each + apart) for place in range(len(others))]
    second = {name: (top, top + each) for name, top in zip(others, tops, strict=True)}
    return staggered([first, second], Block(right=1.05, widths=[2.1, 1.75], between=1.55))


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
    room: float = math.inf,
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with its title and key, and its empty panels by name.

    subtitle: small, in at most two lines; what goes beyond is left out, with an ellipsis. room:
    inches that the figure may be high; where it is higher, its panels shrink.
    """
    return Page(width, blocks, title, subtitle, handles).draw(room)


@dataclass(frozen=True)
class Page:
    """Blocks below each other, with title, subtitle and key above them; see `page`."""

    width: style.Width
    blocks: Sequence[Block]
    title: str = ""
    subtitle: str = ""
    handles: Sequence[Artist] = ()

    @property
    def across(self) -> float:
        return style.WIDTH_INCHES[self.width]

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The lines of title and subtitle."""
        points = (self.across - 2 * EDGE) * style.POINTS_PER_INCH
        title = filled(self.title, points * style.SMALL / style.NORMAL)
        return title, filled(self.subtitle, points, most=2)

    @property
    def key(self) -> float:
        """Height of the key."""
        return KEY_LINE * math.ceil(len(self.handles) / _key_columns(self.handles, self.across))

    @property
    def head(self) -> float:
        """Height of all that stands above the blocks."""
        title, subtitle = self.texts
        return EDGE + TITLE_LINE * len(title) + LINE * len(subtitle) + GAP + self.key

    def draw(self, room: float) -> tuple[Figure, dict[str, Axes]]:
        """The figure and its empty panels by name."""
        blocks = _fitted(self.blocks, room - self.head - EDGE)
        # a figure is as high as what stands on it
        top = self.head + sum(block.tall for block in blocks)
        figure = style.new_figure(self.width, top + EDGE)
        title, subtitle = self.texts
        _write(figure, title, top, "title", style.NORMAL)
        top -= TITLE_LINE * len(title)
        _write(figure, subtitle, top, "subtitle")
        top -= LINE * len(subtitle) + GAP
        if self.handles:
            _legend(figure, self.handles, top, _key_columns(self.handles, self.across))
        top -= self.key
        axes: dict[str, Axes] = {}
        for block in blocks:
            axes |= _panels(figure, block, top - block.above)
            top -= block.tall
        return figure, axes


def _legend(figure: Figure, handles: Sequence[Artist], top: float, columns: int) -> None:
    """The key from ``top`` inches down."""
    across, up = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(EDGE / across, top / up),
        ncols=columns,
        frameon=False,
        fontsize=style.SMALL,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        columnspacing=1.4,
        labelspacing=0.3,
    ).set_gid("key")


def _fitted(blocks: Sequence[Block], room: float) -> list[Block]:
    """The blocks with panels so low that all fit."""
    tall = sum(block.tall for block in blocks)
    if tall <= room:
        return list(blocks)
    least = sum(block.scaled(0.0).tall for block in blocks)
    share = max(LEAST, (room - least) / (tall - least))
    return [block.scaled(share) for block in blocks]


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
