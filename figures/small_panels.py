"""A page of small panels, several in a row, above rows of arms in three panels beside each other:
room for many arms.

Arms have their names above their small panel and left of their row, in two lines where the page is
a column.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import arms, style
from .arms import Arm

LEFT, RIGHT, AXIS, STEPS = (
    0.55,
    0.12,
    0.42,
    0.18,
)  # inches: of the panels, below rows, below a panel that has its steps


@dataclass(frozen=True)
class Measures:
    """How large things are at a print width, in inches.

    a_row: panels a row. panel, title: heights of a small panel and of its name. gap: between
    panels. names: room left of rows. row, head: heights of a row and of the titles above. shares:
    of the first two of the three panels of rows.
    characters, lines: of a name.
    """

    a_row: int
    panel: float
    title: float
    gap: float
    names: float
    row: float
    head: float
    shares: tuple[float, float]
    characters: int
    lines: int


MEASURES: dict[style.Width, Measures] = {
    "page": Measures(4, 0.66, 0.24, 0.16, 1.6, 0.17, 0.24, (0.44, 0.28), 28, 1),
    "column": Measures(3, 0.55, 0.34, 0.13, 1.02, 0.23, 0.37, (0.42, 0.29), 15, 2),
}


def layout(
    found: Sequence[Arm],
    steps: Sequence[tuple[float, ...]],
    width: style.Width,
    head: float,
    foot: float,
) -> tuple[Figure, list[Axes], list[Axes]]:
    """The figure, its small panels and the three panels of rows.

    steps: of each small panel, which says below which of them they must be written. head, foot:
    inches above and below.
    """
    sizes = MEASURES[width]
    blocks = [
        range(first, min(first + sizes.a_row, len(steps)))
        for first in range(0, len(steps), sizes.a_row)
    ]
    below = [STEPS * any(has_steps(steps, place, width) for place in block) for block in blocks]
    tall = sizes.row * len(found)
    total = (
        head
        + sum(sizes.title + sizes.panel + one for one in below)
        + 0.16
        + sizes.head
        + tall
        + AXIS
        + foot
    )
    figure = style.new_figure(width, total)
    right = style.WIDTH_INCHES[width] - RIGHT
    each = (right - LEFT - sizes.gap * (sizes.a_row - 1)) / sizes.a_row
    axes, top = [], total - head
    for block, under in zip(blocks, below, strict=True):
        top -= sizes.title
        lefts = [LEFT + (each + sizes.gap) * column for column in range(len(block))]
        axes += [
            style.add_axes(figure, left, top - sizes.panel, left + each, top) for left in lefts
        ]
        top -= sizes.panel + under
    return figure, axes, _rows(figure, found, foot + AXIS + tall, sizes, right)


def _rows(
    figure: Figure, found: Sequence[Arm], top: float, sizes: Measures, right: float
) -> list[Axes]:
    """Three panels beside each other, a row for each arm."""
    room = right - sizes.names - 2 * sizes.gap
    widths = [share * room for share in (*sizes.shares, 1 - sum(sizes.shares))]
    lefts = [sizes.names + sum(widths[:place]) + sizes.gap * place for place in range(3)]
    places = [(left, left + width) for left, width in zip(lefts, widths, strict=True)]
    axes = arms.row_axes(figure, found, top, places, row_inches=sizes.row)
    axes[0].set_yticks(
        range(len(found)), [name_of(arm.name, sizes) for arm in found], linespacing=0.95
    )
    return axes


def has_steps(steps: Sequence[tuple[float, ...]], place: int, width: style.Width) -> bool:
    """Whether a panel has its steps written below: where the panel below it has others, or there is
    none."""
    below = place + MEASURES[width].a_row
    return below >= len(steps) or steps[below] != steps[place]


def name_of(name: str, sizes: Measures) -> str:
    """A name in as many lines as it may have, cut where that is too few."""
    lines = textwrap.wrap(name, sizes.characters) or [""]
    kept = lines[: sizes.lines]
    if len(lines) > sizes.lines:
        kept[-1] = kept[-1][: sizes.characters - 1] + "\u2026"
    return "\n".join(kept)


def title(axes: Axes, name: str, width: style.Width, colour: str = style.INK) -> None:
    """The name of a small panel above it."""
    text = name_of(name, MEASURES[width])
    axes.set_title(
        text, pad=3, fontweight="normal", fontsize=style.SMALL, linespacing=1.0, color=colour
    )


def name_values(figure: Figure, axes: Sequence[Axes], name: str) -> None:
    """What the small panels show, once for all of them."""
    places = [one.get_position() for one in axes]
    middle = (min(place.y0 for place in places) + max(place.y1 for place in places)) / 2
    left = 0.08 / figure.get_size_inches()[0]
    figure.text(left, middle, name, rotation=90, va="center", ha="left", gid="values")
