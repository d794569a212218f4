"""The one place that knows sizes: a figure over a page, in a column, and panel by panel.

A figure declares its panels as `Part`s, each with a title and a function that draws it, and a
`Sheet` sets them: beside each other on a page, below each other in a column, or each alone, at
most as large as `style.PANEL_HEIGHT` allows. What is too long for a printed column keeps the
panels that carry the claim; the others stand alone. All in inches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from . import style
from .layout import EDGE, Block, Page, page
from .running_text import filled, text_width

IN_COLUMN = 0.8  # of a panel's height that is left, before a column leaves panels out


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
    a panel that stands alone has neither. claim: letters of the panels that carry the claim, the
    most important first; by default all in their order. words: changes each text of the figure.
    """

    parts: Mapping[str, Part]
    page: Sequence[Block] = ()
    title: str = ""
    subtitle: str = ""
    claim: Sequence[str] = ()
    words: Callable[[str], str] | None = None

    def draw(self, width: style.Width) -> Figure:
        """The figure with all panels. A page is at most `style.PAGE_HEIGHT` high, a column as high
        as it needs, for a screen."""
        if width == "column":
            return self._draw(width, list(self.parts), math.inf)
        return self._draw(width, list(self.parts), style.PAGE_HEIGHT)

    def printed(self, width: style.Width) -> Figure:
        """The figure for paper: a column is at most `style.COLUMN_HEIGHT` high, without the panels
        that do not fit (`left_out`)."""
        if width == "page":
            return self.draw(width)
        left = self.left_out
        letters = [letter for letter in self.parts if letter not in left]
        return self._draw(width, letters, style.COLUMN_HEIGHT)

    @property
    def left_out(self) -> list[str]:
        """Letters of the panels that a printed column has no room for."""
        least = _least_height(self._column(list(self.parts)))
        if least <= style.COLUMN_HEIGHT:
            return []
        kept: list[str] = []
        for letter in self.claim or self.parts:
            if kept and _least_height(self._column([*kept, letter])) > style.COLUMN_HEIGHT:
                break
            kept.append(letter)
        return [letter for letter in self.parts if letter not in kept]

    def _column(self, letters: Sequence[str]) -> Page:
        """These panels below each other."""
        return self._set("column", letters, [self.parts[letter].block for letter in letters])

    def _set(self, width: style.Width, letters: Sequence[str], blocks: Sequence[Block]) -> Page:
        keys = _once(handle for letter in letters for handle in self.parts[letter].handles)
        return Page(width, blocks, self.title, self.subtitle, keys)

    def _draw(self, width: style.Width, letters: Sequence[str], room: float) -> Figure:
        whole = self._column(letters)
        if width == "page":
            whole = self._set(width, letters, self.page or whole.blocks)
        with style.context():
            figure, axes = whole.draw(room)
            for letter in letters:
                _fill(self.parts[letter], axes, f"{letter}  " if len(self.parts) > 1 else "")
        return self._worded(figure)

    def _worded(self, figure: Figure) -> Figure:
        if self.words:
            for text in figure.findobj(Text):
                text.set_text(self.words(text.get_text()))
        return figure

    def panels(self) -> dict[str, Figure]:
        """Each panel as a figure of its own, a column wide and at most `style.PANEL_HEIGHT` high,
        without a letter."""
        return {name: self._worded(_alone(part)) for name, part in self._single()}

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


def _least_height(whole: Page) -> float:
    """Of a page whose panels are as low as a column may have them."""
    return whole.head + EDGE + sum(block.scaled(IN_COLUMN).tall for block in whole.blocks)


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
