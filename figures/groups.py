"""Panels of dots in groups, a dot a model, and what the captions of such figures share. Drawing
never computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from . import artists, style, words
from .artists import NUMBERS, PERCENT, Look
from .colours import folded
from .layout import Block, balanced
from .page import Part, Sheet

Floats = NDArray[np.float64]
# an interval longer than so many times the largest value ends at the frame, with an arrowhead
REACH = 2.5
# Room for names on the left in half a page
PLACE = Block(left=0.92, right=0.2, between=1.2, above=0.3, below=0.42)
DASH = 7.0  # points from the dash of an undefined number to that of the next model
PITCH = 6.0  # points a dot
GAP = 4.0  # points between groups
NAME = 8.4  # points that a line of a name takes
ALONE = 125.0  # points that a panel alone has for its groups
MOST_DENSE = 1.6  # times that room of a panel in a column
LOWEST = 0.72  # of the height of other panels, whose names need their room too
KEYS = 0.75  # inches of a page that the key may take
COLUMNS = (30, 62)  # points right of the dots where each column of texts ends
COLUMNS_INCHES = 0.7  # that they take


@dataclass(frozen=True)
class Series:
    """The numbers of one model in a panel, as rows of the measurements table by group."""

    name: str
    look: Look
    rows: pd.DataFrame


@dataclass(frozen=True)
class Panel:
    """Groups of dots, one of each series in a group.

    groups: key and name, from above. axis: name and unit of the numbers, which are ``scale`` of
    that in the table. change: around zero. columns: texts right of the dots, a text a group. span:
    ends of the axis, by default as far as the numbers reach.
    """

    gid: str
    title: str
    axis: str
    groups: Mapping[str, str]
    series: Sequence[Series]
    scale: float = PERCENT
    change: bool = False
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    span: tuple[float, float] | None = None

    @property
    def least(self) -> float:
        """Points from group to group that the names take."""
        return NAME * max((name.count("\n") + 1 for name in self.groups.values()), default=1)

    @property
    def step(self) -> float:
        """Points from group to group."""
        return max(len(self.series) * PITCH + GAP, self.least + GAP / 2)

    @property
    def points(self) -> float:
        return len(self.groups) * self.step

    @property
    def published(self) -> bool:
        return all(series.look.hollow for series in self.series)

    def dots(self, which: int) -> Floats:
        """Where the dots of a series stand, in points from above."""
        pitch = (self.step - GAP) / len(self.series)
        first = GAP / 2 + (which + 0.5) * pitch
        return np.asarray(np.arange(len(self.groups)) * self.step + first, dtype=np.float64)

    def pieces(self) -> list[Panel]:
        """The panel in as few as have room for the names of their groups, each alone."""
        keys = list(self.groups)
        count = math.ceil(len(keys) * self.least / ALONE)
        size = math.ceil(len(keys) / max(1, count))
        found = []
        for start in range(0, len(keys), size):
            some = {key: self.groups[key] for key in keys[start : start + size]}
            texts = {name: all_[start : start + size] for name, all_ in self.columns.items()}
            found.append(replace(self, groups=some, columns=texts))
        return found


def series_of(rows: pd.DataFrame, known: Mapping[str, Look], by: str = "group") -> list[Series]:
    """The series of each model that has rows; column ``by`` says in which group a row belongs."""
    tables = {name: rows[rows.checkpoint == name].set_index(by) for name in known}
    return [Series(name, known[name], table) for name, table in tables.items() if len(table)]


def published_series(rows: pd.DataFrame, by: str = "group") -> list[Series]:
    """The same of published rows, grey and hollow."""
    rows = rows.assign(checkpoint="published." + rows.checkpoint)
    known = {
        name: Look(name.replace(".", ": ", 1), style.PUBLISHED, marker)
        for name, marker in zip(rows.checkpoint.unique(), "osD^vPX")
    }
    return series_of(rows, known, by)


# The page


def sheet_of(
    panels: Sequence[Panel],
    title: str = "",
    *,
    before: Mapping[str, Part] | None = None,
    above: Sequence[Block] = (),
    claim: Sequence[str] = (),
) -> Sheet:
    """The panels two in a row on a page. before: other panels, which stand above them in these
    blocks. claim: see `Sheet`."""
    parts = dict(before or {})
    parts |= {panel.gid: _part(panel) for panel in panels}
    share = 1.0
    blocks = [*above, _page(panels, share)]
    # dots stand closer, and cells are lower, where all of them must fit a page
    while sum(block.tall for block in blocks) > style.PAGE_HEIGHT - KEYS and share > 0:
        share = max(share - 0.02, 0.0)
        blocks = [block.scaled(max(share, LOWEST)) for block in above]
        blocks.append(_page(panels, share))
    return Sheet(parts, blocks, title, claim=claim)


def _page(panels: Sequence[Panel], share: float) -> Block:
    points = {
        panel.gid: max(share * panel.points, panel.least * len(panel.groups)) for panel in panels
    }
    heights = {gid: tall / style.POINTS_PER_INCH for gid, tall in points.items()}
    return balanced(heights, "page", PLACE)


def _part(panel: Panel) -> Part:
    pieces = panel.pieces()
    whole = _single(panel)
    return whole if len(pieces) < 2 else replace(whole, pieces=[_single(one) for one in pieces])


def _single(panel: Panel) -> Part:
    # the dots of very many models stand closer
    inches = min(panel.points, ALONE * MOST_DENSE) / style.POINTS_PER_INCH
    block = replace(PLACE, mosaic=[[panel.gid]], heights=[inches], apart=0.0)
    if panel.columns:
        block = replace(block, right=COLUMNS_INCHES + 0.3)
    colour = style.PUBLISHED if panel.published else style.INK
    return Part(
        panel.title,
        block,
        lambda axes: draw_panel(axes[panel.gid], panel),
        _key(panel),
        colour=colour,
    )


def _key(panel: Panel) -> list[Artist]:
    """An entry for each model; a single one needs none."""
    if len(panel.series) < 2:
        return []
    looks = folded({series.name: series.look for series in panel.series})
    return [artists.handle(look, size=3.6) for look in looks]


# The panels


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Dots with their intervals; grey: twice the noise floor."""
    if panel.columns and not style.narrow(axes):
        # The room that other panels have on the right is too little for two columns
        place = axes.get_position()
        less = place.width - COLUMNS_INCHES / style.root(axes).get_figwidth()
        axes.set_position((place.x0, place.y0, less, place.height))
    axes.set_ylim(panel.points, 0)
    for (name, texts), aside in zip(panel.columns.items(), COLUMNS):
        artists.beside(axes, -8.0, name, aside)  # heights are points from above
        for i, text in enumerate(texts):
            artists.beside(axes, (i + 0.5) * panel.step, text, aside)
    axes.set_xlim(*_span(panel))
    style.ticks_within(axes)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.5)
    axes.hlines(
        np.arange(1, len(panel.groups)) * panel.step,
        *axes.get_xlim(),
        color="#e6e6e6",
        linewidth=0.5,
        zorder=0,
    )
    axes.set_axisbelow(True)
    if panel.change:
        axes.axvline(0.0, color=style.INK, linewidth=0.6, zorder=1)
    for i, series in enumerate(panel.series):
        _draw_series(axes, panel, series, i)
    middles = (np.arange(len(panel.groups)) + 0.5) * panel.step
    axes.set_yticks(middles, list(panel.groups.values()), linespacing=1.1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(panel.axis)


def _draw_series(axes: Axes, panel: Panel, series: Series, which: int) -> None:
    places = panel.dots(which)
    rows = series.rows.reindex(list(panel.groups))
    gid = f"{panel.gid}.{series.name}"
    value = rows.value.to_numpy(dtype=float) * panel.scale
    # What lies within twice the noise floor cannot be told from noise
    floor = 2 * rows.noise_floor.to_numpy(dtype=float) * panel.scale
    for place, end in zip(places, floor, strict=True):
        if math.isfinite(end):
            left = -end if panel.change else 0.0
            band = axes.barh(place, end - left, PITCH, left, color="#999999", linewidth=0)
            band[0].set(alpha=0.6, gid=f"{gid}.floor")
    look: dict[str, Any] = {"upright": False, "markersize": 3.6, "zorder": 4}
    artists.draw(axes, places, rows, series.look, gid, scale=panel.scale, **look)
    for (_, row), place, number in zip(rows.iterrows(), places, value, strict=True):
        if "at least:" in str(row.note) and math.isfinite(number):
            _mark(axes, "\u2265", (number, place), (-4, 0), "right")
        elif row.name in series.rows.index and math.isnan(number):
            _mark(axes, "\u2013", (axes.get_xlim()[0], place), (2 + DASH * which, 0), "left")


def _mark(
    axes: Axes,
    sign: str,
    at: tuple[float, float],
    aside: tuple[float, float],
    align: Literal["left", "right"],
) -> None:
    """A sign beside a place: a lower bound, or an undefined number."""
    text = axes.annotate(sign, at, aside, textcoords="offset points", va="center", ha=align)
    text.set(fontsize=style.SMALL, annotation_clip=False)


def _span(panel: Panel) -> tuple[float, float]:
    """All of 0 to 100 per cent; of other units from 0; of changes the same to both sides, 5 points
    at least."""
    if panel.span:
        return panel.span
    if panel.scale == PERCENT and not panel.change:
        return 0.0, PERCENT
    tables = [series.rows[NUMBERS].to_numpy(dtype=float) for series in panel.series]
    table = np.concatenate(tables)
    table = np.abs(np.where(np.isfinite(table), table, 0.0)) * panel.scale
    most = 1.05 * min(float(table.max(initial=0.0)), REACH * float(table[:, 0].max(initial=0.0)))
    return (-max(most, 5.0), max(most, 5.0)) if panel.change else (0.0, most or 1.0)


# What captions share

INTERVALS = """Lines: pointwise {level} intervals ({methods}), which resample problems; {arrowhead};
    seed {seeds}."""
PUBLISHED = """Grey and hollow, in panels of their own: published, {run}, another pair and problem
    set, without intervals."""


def counts(rows: pd.DataFrame, of: Sequence[str] = ("problems", "rollouts", "tokens")) -> str:
    """The most problems, rollouts and tokens behind any row of a model; from and to where models
    differ."""
    each = rows.groupby("checkpoint")[list(of)].max()
    return ", ".join(f"{words.span(each[name])} {name}" for name in of)


def intervals(rows: pd.DataFrame) -> str:
    """How the intervals were made."""
    seeds = ", ".join(f"{seed}" for seed in sorted(set(rows.seed)))
    return words.filled(INTERVALS, rows, seeds=seeds)


def published_sentence(published: pd.DataFrame | None) -> str:
    return words.of_published(PUBLISHED, published)
