"""Panels of bars in groups, a bar a model, and what the captions of such figures share. Drawing
never computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decaylab import printing

from . import artists, style, words
from .artists import NUMBERS, PERCENT, Look
from .page import Block, balanced, page

Floats = NDArray[np.float64]
# an interval longer than so many times the largest value ends at the frame, with an arrowhead
REACH = 2.5
# Room for names on the left and a number on the right in half a page
PLACE = Block(left=0.92, right=0.55, between=1.55, above=0.3, below=0.42)
PITCH, TIGHT_PITCH = 9.0, 4.5  # points a bar, the same without numbers
GAP = 5.0  # points between groups
COLUMNS = (30, 62)  # points right of the bars where each column of texts ends
NARROWER = 0.44  # inches that the columns take from the bars


@dataclass(frozen=True)
class Series:
    """The numbers of one model in a panel, as rows of the measurements table by group."""

    name: str
    look: Look
    rows: pd.DataFrame


@dataclass(frozen=True)
class Panel:
    """Groups of bars, one of each series in a group.

    groups: key and name, from above. axis: name and unit of the numbers, which are ``scale`` of
    that in the table.
    places: decimals of the numbers that are written beside the bars; None: they are not, and the
    bars stand closer. change: around zero, with signs. columns: texts right of the bars, a text a
    group, in place of those numbers.
    """

    gid: str
    title: str
    axis: str
    groups: Mapping[str, str]
    series: Sequence[Series]
    scale: float = PERCENT
    places: int | None = 1
    change: bool = False
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def pitch(self) -> float:
        return TIGHT_PITCH if self.places is None else PITCH

    @property
    def step(self) -> float:
        """Points from group to group: at least what a name of two lines takes."""
        lines = "".join(self.groups.values())
        least = 2.0 * PITCH if "\n" in lines else 0.0
        return max(len(self.series) * self.pitch + GAP, least)

    @property
    def points(self) -> float:
        return len(self.groups) * self.step

    def bars(self, which: int) -> Floats:
        """Where the bars of a series stand, in points from above."""
        first = (self.step - len(self.series) * self.pitch) / 2
        places = np.arange(len(self.groups)) * self.step + first + (which + 0.5) * self.pitch
        return np.asarray(places, dtype=np.float64)


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


def draw_panels(
    panels: Sequence[Panel], measurements: pd.DataFrame, width: style.Width, title: str
) -> Figure:
    """A page of panels with the key of their series above and the counts below."""
    with style.context():
        figure, axes = new_page(panels, measurements, width, title)
        for panel in panels:
            draw_panel(axes[panel.gid], panel)
    return figure


def new_page(
    panels: Sequence[Panel],
    measurements: pd.DataFrame,
    width: style.Width,
    title: str,
    before: Sequence[Block] = (),
) -> tuple[Figure, dict[str, Axes]]:
    """Empty panels by gid, two in a row on a page, with title, key and note.

    before: blocks of other panels, which stand above.
    """
    heights = {panel.gid: panel.points / style.POINTS_PER_INCH for panel in panels}
    looks = {series.name: series.look for panel in panels for series in panel.series}
    most = counts(measurements, ("problems", "rollouts"))
    return page(
        width,
        [*before, balanced(heights, width, PLACE)],
        title=title,
        handles=[artists.handle(look, size=3.6) for look in looks.values()],
        note=words.filled(NOTE, measurements, counts=most),
    )


# The panels


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Bars from zero with their markers, intervals and numbers; grey: twice the noise floor."""
    if panel.columns:
        # The room that other panels have for one number is too little for two columns
        place = axes.get_position()
        narrow = place.width - NARROWER / style.root(axes).get_figwidth()
        axes.set_position((place.x0, place.y0, narrow, place.height))
    for (name, texts), aside in zip(panel.columns.items(), COLUMNS):
        artists.beside(axes, -8.0, name, aside)  # heights are points from above
        for i, text in enumerate(texts):
            artists.beside(axes, (i + 0.5) * panel.step, text, aside)
    axes.set_xlim(*_span(panel))
    style.ticks_within(axes)
    axes.set_ylim(panel.points, 0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.axvline(0.0, color=style.INK, linewidth=0.6, zorder=1)
    for i, series in enumerate(panel.series):
        _draw_series(axes, panel, series, panel.bars(i))
    middles = (np.arange(len(panel.groups)) + 0.5) * panel.step
    axes.set_yticks(middles, list(panel.groups.values()), linespacing=1.1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(panel.axis)
    axes.set_title(f"{panel.gid}  {panel.title}", pad=4)


def _draw_series(axes: Axes, panel: Panel, series: Series, places: Floats) -> None:
    rows = series.rows.reindex(list(panel.groups))
    gid, colour = f"{panel.gid}.{series.name}", series.look.colour
    value = rows.value.to_numpy(dtype=float) * panel.scale
    if not series.look.hollow:
        thick = 0.62 * panel.pitch
        axes.barh(places, value, thick, color=colour, alpha=0.3, linewidth=0, zorder=2)
    # What lies within twice the noise floor cannot be told from noise
    floor = 2 * rows.noise_floor.to_numpy(dtype=float) * panel.scale
    for place, end in zip(places, floor, strict=True):
        if math.isfinite(end):
            left = -end if panel.change else 0.0
            band = axes.barh(place, end - left, panel.pitch, left, color="#999999", linewidth=0)
            band[0].set(alpha=0.6, gid=f"{gid}.floor")
    look: dict[str, Any] = {"upright": False, "markersize": 3.6, "zorder": 4}
    artists.draw(axes, places, rows, series.look, gid, scale=panel.scale, **look)
    if panel.places is None:
        return
    # Undefined is a dash; what lies under twice the noise floor stands in brackets
    for (_, row), place, number in zip(rows.iterrows(), places, value, strict=True):
        text = printing.rounded(number, panel.places, signed=panel.change).replace("-", "\u2212")
        if "at least:" in str(row.note):
            text = f"\u2265 {text}"
        if row.under_floor is True:
            text = f"({text})"
        if row.name in series.rows.index:
            artists.beside(axes, place, text, 32, colour=style.darker(colour))


def _span(panel: Panel) -> tuple[float, float]:
    """All of 0 to 100 per cent; of other units from 0; of changes the same to both sides, 5 points
    at least."""
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
PUBLISHED = "Grey and hollow: published, {run}, another pair and problem set, without intervals."
NOTE = "Lines: {level} intervals, problem-clustered. {counts} per model."


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
