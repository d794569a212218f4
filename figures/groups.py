"""Panels of bars in groups, a bar a model, and what the captions of such figures share. Drawing
never computes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .artists import PERCENT, Look, handle
from .colours import BASE
from .page import Block, page, pairs

# an interval longer than so many times the largest value ends at the frame, with an arrowhead
REACH = 2.5
LONGEST_NAME = 30  # characters in the legend
# room for names on the left and a number on the right in half a page
PLACE = Block(left=0.92, right=0.55, between=1.55)
PITCH, TIGHT_PITCH, GAP = (
    9.0,
    4.5,
    5.0,
)  # points a bar, the same without numbers, points between groups


@dataclass(frozen=True)
class Series:
    """The numbers of one model in a panel, as rows of the measurements table by group. hollow:
    published."""

    name: str
    look: Look
    rows: pd.DataFrame
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """Groups of bars, one of each series in a group.

    groups: key and name, from above. axis: name and unit of the numbers, which are ``scale`` of
    that in the table.
    numbers: how they are written beside the bars; empty: they are not, and the bars stand closer.
    change: around zero.
    """

    gid: str
    title: str
    axis: str
    groups: Mapping[str, str]
    series: Sequence[Series]
    scale: float = PERCENT
    numbers: str = ".1f"
    change: bool = False

    @property
    def pitch(self) -> float:
        return PITCH if self.numbers else TIGHT_PITCH

    @property
    def step(self) -> float:
        """Points from group to group: at least what a name of two lines takes."""
        return max(
            len(self.series) * self.pitch + GAP,
            2.0 * PITCH if "\n" in "".join(self.groups.values()) else 0.0,
        )

    @property
    def points(self) -> float:
        return len(self.groups) * self.step

    def places(self, which: int) -> np.ndarray:
        """Where the bars of a series stand, in points from above."""
        first = (self.step - len(self.series) * self.pitch) / 2
        return np.arange(len(self.groups)) * self.step + first + (which + 0.5) * self.pitch


def looks(checkpoints: Iterable[str]) -> dict[str, Look]:
    """Colour and marker of each model, in the order in which they are drawn: base, checkpoints,
    teacher."""
    found = list(dict.fromkeys(checkpoints))
    trained = [name for name in found if name not in ("base", "teacher")]
    known = {"base": BASE} if "base" in found else {}
    known |= {
        name: Look(_short(name), *style.checkpoint_look(i, len(trained)))
        for i, name in enumerate(trained)
    }
    return known | ({"teacher": Look("teacher", style.TEACHER, "p")} if "teacher" in found else {})


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"\u2026{name[1 - LONGEST_NAME :]}"


def series_of(rows: pd.DataFrame, known: Mapping[str, Look]) -> list[Series]:
    """The series of each model that has rows; column ``group`` says where a row belongs."""
    tables = {name: rows[rows.checkpoint == name].set_index("group") for name in known}
    return [Series(name, known[name], table) for name, table in tables.items() if len(table)]


def published_series(rows: pd.DataFrame) -> list[Series]:
    """The same of published rows, grey and hollow."""
    names = list(dict.fromkeys(rows.checkpoint))
    known = {
        name: Look(f"published: {name}", style.PUBLISHED, marker)
        for name, marker in zip(names, "osD^vPX", strict=False)
    }
    return [
        Series(f"published.{one.name}", one.look, one.rows, hollow=True)
        for one in series_of(rows, known)
    ]


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
    names = {series.name: series.look for panel in panels for series in panel.series}
    handles = [handle(look) for look in names.values()]
    blocks = [*before, *pairs(heights, width, PLACE)]
    return page(width, blocks, title=title, handles=handles, note=_note(measurements))


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Bars from zero with their markers, intervals and numbers; grey: twice the noise floor."""
    low, high = _span(panel)
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.set_ylim(panel.points, 0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.axvline(0.0, color=style.INK, linewidth=0.6, zorder=1)
    for i, one in enumerate(panel.series):
        _draw_series(axes, panel, one, panel.places(i))
    middles = (np.arange(len(panel.groups)) + 0.5) * panel.step
    axes.set_yticks(middles, list(panel.groups.values()), linespacing=1.1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(panel.axis)
    axes.set_title(f"{panel.gid}  {panel.title}", pad=4)


def _draw_series(axes: Axes, panel: Panel, one: Series, places: np.ndarray) -> None:
    rows = one.rows.reindex(list(panel.groups))
    value, low, high, floor = (
        rows[name].to_numpy(dtype=float) * panel.scale
        for name in ("value", "low", "high", "noise_floor")
    )
    gid, colour, thick = f"{panel.gid}.{one.name}", one.look.colour, 0.62 * panel.pitch
    if not one.hollow:
        axes.barh(places, value, thick, color=colour, alpha=0.3, linewidth=0, zorder=2)
    floored = np.isfinite(floor)
    if floored.any():
        left = -2 * floor[floored] if panel.change else 0.0
        ends = 2 * floor[floored]
        bands = axes.barh(
            places[floored], ends - left, panel.pitch, left, color="#999999", alpha=0.6, linewidth=0
        )
        for band in bands:
            band.set_gid(f"{gid}.floor")
    axes.plot(value, places, linestyle="", **_marker(one), gid=gid, clip_on=False, zorder=4)
    bars = ~np.isnan(low) & ~np.isnan(high)
    if bars.any():
        _draw_bars(axes, places[bars], low[bars], high[bars], colour, gid)
    if panel.numbers:
        measured = rows.index.isin(one.rows.index)
        for place, number, here in zip(
            places, _numbers(rows, value, panel.numbers), measured, strict=True
        ):
            if here:
                beside_bar(axes, place, number, colour)


def _draw_bars(
    axes: Axes, places: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, gid: str
) -> None:
    """Intervals; one that goes on beyond the frame ends in an arrowhead."""
    left, right = axes.get_xlim()
    axes.hlines(
        places, low.clip(left), high.clip(max=right), color=colour, linewidth=1.0, zorder=3
    ).set_gid(f"{gid}.bars")
    for head, end, cut in (("<", left, low < left), (">", right, high > right)):
        if cut.any():
            axes.plot(
                np.full(int(cut.sum()), end),
                places[cut],
                head,
                color=colour,
                markersize=3.0,
                clip_on=False,
                gid=f"{gid}.cut",
            )


def beside_bar(axes: Axes, place: float, text: str, colour: str) -> None:
    """Writes a number right of the axes, at the height of its bar."""
    axes.annotate(
        text,
        (1, place),
        (32, -0.3),
        axes.get_yaxis_transform(),
        "offset points",
        ha="right",
        va="center",
        fontsize=style.SMALL,
        color=style.darker(colour),
        annotation_clip=False,
    )


def _numbers(rows: pd.DataFrame, value: np.ndarray, form: str) -> list[str]:
    """Undefined is a dash; what lies under twice the noise floor stands in brackets; a lower bound
    says so."""
    texts = []
    for number, under, note in zip(value, rows.under_floor, rows.note, strict=True):
        text = "\u2013" if math.isnan(number) else format(number, form).replace("-", "\u2212")
        text = f"\u2265 {text}" if "at least:" in str(note) else text
        texts.append(f"({text})" if under is True else text)
    return texts


def _marker(one: Series) -> dict[str, Any]:
    return {
        "color": one.look.colour,
        "marker": one.look.marker,
        "markersize": 3.6,
        "markerfacecolor": "white" if one.hollow else one.look.colour,
        "markeredgecolor": one.look.colour if one.hollow else "white",
        "markeredgewidth": 0.9 if one.hollow else 0.3,
    }


def _span(panel: Panel) -> tuple[float, float]:
    """All of 0 to 100 per cent; of other units from 0; of changes the same to both sides, 5 points
    at least."""
    if panel.scale == PERCENT and not panel.change:
        return 0.0, PERCENT
    table = np.concatenate(
        [one.rows[["value", "low", "high"]].to_numpy(dtype=float) for one in panel.series]
    )
    table = np.abs(np.where(np.isfinite(table), table, 0.0)) * panel.scale
    most = 1.05 * min(float(table.max(initial=0.0)), REACH * float(table[:, 0].max(initial=0.0)))
    return (-max(most, 5.0), max(most, 5.0)) if panel.change else (0.0, most or 1.0)


# What captions share


def counts(rows: pd.DataFrame, of: Sequence[str] = ("problems", "rollouts", "tokens")) -> str:
    """The most problems, rollouts and tokens behind any row of a model; from and to where models
    differ."""
    each = rows.groupby("checkpoint")[list(of)].max()
    return ", ".join(f"{_range(each[name])} {name}" for name in of)


def _range(numbers: pd.Series[int]) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def intervals(rows: pd.DataFrame) -> str:
    """How the intervals were made."""
    methods = "; ".join(sorted(set(rows.method) - {""}))
    return (
        f"Lines: pointwise {_levels(rows)} intervals ({methods}), which resample problems; an "
        "arrowhead: it goes on; "
        f"seed {_seeds(rows)}."
    )


def published_sentence(published: pd.DataFrame) -> str:
    return (
        f"Grey and hollow: published, {published.run.iloc[0]}, another pair and problem set, "
        "without intervals."
    )


def _levels(rows: pd.DataFrame) -> str:
    return " / ".join(f"{level * PERCENT:g} %" for level in sorted(set(rows.level)))


def _seeds(rows: pd.DataFrame) -> str:
    return ", ".join(f"{seed}" for seed in sorted(set(rows.seed)))


def _note(measurements: pd.DataFrame) -> str:
    """The line at the foot of a figure."""
    most = counts(measurements, ("problems", "rollouts"))
    return f"Lines: {_levels(measurements)} intervals, problem-clustered. {most} a model."
