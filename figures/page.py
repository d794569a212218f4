"""The one place that knows sizes: a figure over a page, in a column, and panel by panel.

A figure declares its panels as `Part`s, each with a title and a function that draws it, and a
`Sheet` sets them: beside each other on a page, below each other in a column, or each alone, at
most as large as `style.PANEL_HEIGHT` allows. All in inches.

Panels stand in a mosaic of a fixed size rather than in a constrained layout: labels at the ends of
curves and the numbers of an axis are placed by how large a panel is, which a constrained layout
does not know before the figure is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .running_text import filled, text_width

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


@dataclass(frozen=True)
class Part:
    """One panel of a figure, with what belongs to it, such as a strip below.

    title: what it shows, above the first of its axes, ``pad`` points from it. block: its place in a
    column. draw: fills its axes, which it is given by name. handles: of its key. pieces: what
    stands alone in its place where it is too long for that.
    """

    title: str
    block: Block
    draw: Callable[[dict[str, Axes]], None]
    handles: Sequence[Artist] = ()
    pad: float = 4.0
    colour: str = style.INK
    pieces: Sequence[Part] = ()


@dataclass(frozen=True)
class Sheet:
    """A figure: its panels by letter.

    page: how they stand on a page; by default as in a column. title, subtitle: above the panels;
    a panel that stands alone has neither.
    """

    parts: Mapping[str, Part]
    page: Sequence[Block] = ()
    title: str = ""
    subtitle: str = ""

    def draw(self, width: style.Width) -> Figure:
        """The figure at its printed size; a page is at most `style.PAGE_HEIGHT` high."""
        blocks = [part.block for part in self.parts.values()]
        if width == "page" and self.page:
            blocks = list(self.page)
        room = style.PAGE_HEIGHT if width == "page" else math.inf
        keys = _once(handle for part in self.parts.values() for handle in part.handles)
        with style.context():
            figure, axes = page(
                width, blocks, title=self.title, subtitle=self.subtitle, handles=keys, room=room
            )
            for letter, part in self.parts.items():
                _fill(part, axes, f"{letter}  " if len(self.parts) > 1 else "")
        return figure

    def panels(self) -> dict[str, Figure]:
        """Each panel as a figure of its own, a column wide and at most `style.PANEL_HEIGHT` high,
        without a letter."""
        return {name: _alone(part) for name, part in self._single()}

    def _single(self) -> Iterator[tuple[str, Part]]:
        for letter, part in self.parts.items():
            if not part.pieces:
                yield letter, part
            for number, piece in enumerate(part.pieces, start=1):
                yield f"{letter}{number}", piece


def _alone(part: Part) -> Figure:
    """A panel as a figure of its own."""
    with style.context():
        keys, room = _once(part.handles), style.PANEL_HEIGHT
        figure, axes = page("column", [part.block], handles=keys, room=room)
        _fill(part, axes, "")
    return figure


def drawing(sheet: Callable[..., Sheet]) -> Callable[..., Figure]:
    """A function that draws the figure of a module's ``sheet`` at its printed size: it takes what
    that takes, and ``width``, by default a page."""

    def draw(*given: Any, width: style.Width = "page", **named: Any) -> Figure:
        return sheet(*given, **named).draw(width)

    return draw


def _once(handles: Iterable[Artist]) -> list[Artist]:
    """The entries of a key, each name once."""
    return list({str(handle.get_label()): handle for handle in handles}.values())


def _fill(part: Part, axes: dict[str, Axes], letter: str) -> None:
    """Draws a panel and writes its title, in as many lines as it needs above its axes."""
    names = dict.fromkeys(itertools.chain.from_iterable(part.block.mosaic))
    own = {name: axes[name] for name in names if name != "."}
    part.draw(own)
    first = next(iter(own.values()))
    # the letter stands before the first line alone
    room = _title_room(first, own.values()) * style.SMALL / style.BOLD - text_width(letter)
    lines = letter + "\n".join(filled(part.title, room))
    first.set_title(lines, pad=part.pad, color=part.colour, linespacing=1.1)


def _title_room(axes: Axes, own: Iterable[Axes]) -> float:
    """Points from the left of the axes to the next panel on the right, or to the page's edge."""
    figure, place = style.root(axes), axes.get_position()
    across = figure.get_figwidth()
    rights = [across - EDGE]
    for other in set(figure.axes) - set(own):
        there = other.get_position()
        level = there.y0 < place.y1 and place.y0 < there.y1
        if level and there.x0 > place.x0 + 1e-6:
            rights.append(there.x0 * across - EDGE)
    return float(min(rights) - place.x0 * across) * style.POINTS_PER_INCH


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
    across = style.WIDTH_INCHES[width]
    points = (across - 2 * EDGE) * style.POINTS_PER_INCH
    title_lines = filled(title, points * style.SMALL / style.NORMAL)
    subtitle_lines = filled(subtitle, points, most=2)
    columns = _key_columns(handles, across)
    texts = TITLE_LINE * len(title_lines), LINE * len(subtitle_lines)
    key = KEY_LINE * math.ceil(len(handles) / columns)
    head = EDGE + key + GAP + sum(texts)
    blocks = _fitted(blocks, room - head - EDGE)
    # a figure is as high as what stands on it
    top = head + sum(block.tall for block in blocks)
    figure = style.new_figure(width, top + EDGE)
    _write(figure, title_lines, top, "title", style.NORMAL)
    _write(figure, subtitle_lines, top - texts[0], "subtitle")
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
        top -= block.tall
    return figure, axes


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
