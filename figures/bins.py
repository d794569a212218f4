"""Values by bin of response positions, and dots with intervals: what the figures of token
statistics share.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

from . import style
from .curves import Look

Floats = NDArray[np.float64]
BASE = Look("base student", style.STUDENT, "o")
PUBLISHED_CAPTION = (
    "Grey, dashed and hollow: published, arXiv 2605.27028, another pair and other problems, "
    "without intervals, as far as "
    "positions were measured here."
)
WIDE = 5.0  # inches; a figure wider than that is a page
SIGNAL_STEP = 1.95
KEY_COLUMNS: dict[style.Width, int] = {"page": 4, "column": 2}
FLOOR = "#d9d9d9"
NARROWEST = 6.0  # points; with a bin narrower than that the axis goes with the square root
# an interval longer than so many times the largest value ends at the frame, with an arrowhead
REACH = 2.5


def pick(
    frame: pd.DataFrame, what: str, view: str, checkpoint: str, condition: str = "all"
) -> pd.DataFrame:
    """The rows of one curve, by position."""
    rows = frame[
        (frame.what == what)
        & (frame["view"] == view)
        & (frame.checkpoint == checkpoint)
        & (frame.condition == condition)
    ]
    return rows.sort_values(["position_low", "position_high"])


def looks(frame: pd.DataFrame) -> dict[str, Look]:
    """How each student is drawn: the base student first, then the checkpoints as the table has
    them."""
    names = [str(name) for name in frame.checkpoint.unique()]
    trained = [name for name in names if name != "base"]
    found = {"base": BASE} if "base" in names else {}
    for i, name in enumerate(trained):
        found[name] = Look(name, *style.checkpoint_look(i, len(trained)))
    return found


def robust(what: str) -> str:
    """The quantity whose rows have an interval in a bin: the winsorised mean over problems."""
    return f"winsorised_{what}"


ROBUST_NOTE = "Lines: winsorised means; dots: plain means."


# The position axis


def bin_places(rows: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Lower ends, upper ends and centres of the rows' bins; an open bin is drawn as wide as the
    last closed one."""
    lows, highs = (rows[name].to_numpy(dtype=float) for name in ("position_low", "position_high"))
    closed = np.isfinite(highs)
    last = np.flatnonzero(closed & (lows == lows[closed].max(initial=-math.inf)))
    width = highs[last[0]] - lows[last[0]] if last.size else 1.0
    highs = np.where(closed, highs, lows + width)
    return lows, highs, (lows + highs) / 2


def position_axis(axes: Axes, rows: pd.DataFrame, *, name: bool = True) -> None:
    """Ticks at the ends of the bins that hold a value, numbers where they have room; the open bin
    says from where on."""
    lows, highs, centres = bin_places(rows)
    known = (
        rows.value.notna().to_numpy()
        if rows.value.notna().any()
        else np.ones(len(rows), dtype=bool)
    )
    opened = known & ~np.isfinite(rows.position_high.to_numpy(dtype=float))
    edges = sorted({*lows[known], *highs[known & ~opened]})
    ticks = {edge: f"{edge:g}" for edge in edges}
    ticks |= {
        at: f"\u2265 {low:g}" if low else "all"
        for at, low in zip(centres[opened], lows[opened], strict=True)
    }
    token_axis(
        axes, ticks, float(highs[known].max()), float((highs - lows)[known].min()), name=name
    )


def token_axis(
    axes: Axes, ticks: dict[float, str], longest: float, narrowest: float, *, name: bool = True
) -> None:
    """From 0 to the longest; with the square root where the narrowest step could not be seen
    otherwise."""
    across = style.size_points(axes)[0]
    squeezed = narrowest / longest * across < NARROWEST
    if squeezed:
        axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, longest)
    axes.xaxis.set_minor_locator(NullLocator())
    places = across * (
        np.sqrt(np.array(sorted(ticks)) / longest)
        if squeezed
        else np.array(sorted(ticks)) / longest
    )
    shown = set(style.far_apart(places.tolist(), 24.0))
    axes.set_xticks(
        sorted(ticks), [ticks[at] if i in shown else "" for i, at in enumerate(sorted(ticks))]
    )
    if name:
        axes.set_xlabel(
            "position in the response (tokens)" + (",\nsquare-root axis" if squeezed else "")
        )


def _root(values: Floats) -> Floats:
    return np.sqrt(np.maximum(values, 0.0))


def value_axis(
    axes: Axes, curves: Iterable[pd.DataFrame], scale: float = 1.0, *, change: bool = False
) -> None:
    """From 0, or around 0 for a change, over the values and the intervals as far as these do not
    run away."""
    rows = pd.concat([*curves])
    table = rows[["value", "low", "high"]].to_numpy(dtype=float) * scale
    table = table[np.isfinite(table[:, 0])]
    if not len(table):
        axes.text(
            0.5,
            0.5,
            "no value",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=style.SMALL,
        )
    reach = float(np.abs(table[:, 0]).max(initial=0.0)) or scale
    bounds = np.where(np.isfinite(table), table, 0.0)
    low = max(-REACH * reach, min(float(bounds.min(initial=0.0)), -0.05 * reach)) if change else 0.0
    high = (
        min(REACH * reach, max(float(bounds.max(initial=0.0)), 0.05 * reach))
        if len(table)
        else reach
    )
    axes.set_ylim(low - 0.06 * (high - low) if change else 0.0, high + 0.06 * (high - low))
    bottom, top = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])


# What is drawn on it


def draw_bins(
    axes: Axes,
    rows: pd.DataFrame,
    look: Look,
    gid: str,
    shift: float = 0.0,
    scale: float = 1.0,
    *,
    at: Floats | None = None,
    hollow: bool = False,
) -> list[style.EndLabel]:
    """Line, markers and interval bars at the centres of the bins, moved sideways by ``shift``
    points; its label.

    The limits of the axes must be set before.
    """
    places = bin_places(rows)[2] if at is None else at
    known = rows.value.notna().to_numpy() & (places <= axes.get_xlim()[1])
    if not known.any():
        return []
    places, table = (
        places[known],
        rows.loc[known, ["value", "low", "high"]].to_numpy(dtype=float) * scale,
    )
    aside = axes.transData + ScaledTranslation(
        shift / style.POINTS_PER_INCH, 0, style.root(axes).dpi_scale_trans
    )
    _bars(axes, places, table, look, gid, aside)
    axes.plot(
        places,
        table[:, 0],
        color=look.colour,
        linestyle=look.line,
        linewidth=1.0 if hollow else 1.2,
        marker=look.marker,
        transform=aside,
        clip_on=False,
        gid=gid,
        zorder=1.5 if hollow else 3,
        **_marker(look, hollow),
    )
    return [
        style.EndLabel(
            float(places[-1]), float(table[-1, 0]), textwrap.fill(look.name, 15), look.colour
        )
    ]


def _bars(
    axes: Axes, places: Floats, table: Floats, look: Look, gid: str, aside: Transform
) -> None:
    """Interval bars; one that runs out of the axes ends in an arrowhead."""
    known = np.isfinite(table).all(axis=1)
    places, (low, high) = places[known], table[known, 1:].T
    if not known.any():
        return
    bars = axes.vlines(places, low, high, color=look.colour, linewidth=0.9, transform=aside)
    bars.set_gid(f"{gid}.bars")
    bottom, top = axes.get_ylim()
    for head, end, cut in (("v", bottom, low < bottom), ("^", top, high > top)):
        if cut.any():
            ends = np.full(int(cut.sum()), end)
            axes.plot(
                places[cut],
                ends,
                head,
                color=look.colour,
                markersize=3,
                transform=aside,
                clip_on=False,
                gid=f"{gid}.cut",
            )


def _marker(look: Look, hollow: bool) -> dict[str, Any]:
    return {
        "markersize": 4.0,
        "markerfacecolor": "white" if hollow else look.colour,
        "markeredgecolor": look.colour if hollow else "white",
        "markeredgewidth": 0.9 if hollow else 0.4,
    }


def draw_plain(
    axes: Axes, rows: pd.DataFrame, look: Look, gid: str, shift: float = 0.0, scale: float = 1.0
) -> None:
    """The plain means as small dots at the centres of the bins; one beyond the frame is left
    out."""
    values = rows.value.to_numpy(dtype=float) * scale
    places, (low, high) = bin_places(rows)[2], axes.get_ylim()
    kept = np.isfinite(values) & (places <= axes.get_xlim()[1]) & (values >= low) & (values <= high)
    aside = axes.transData + ScaledTranslation(
        shift / style.POINTS_PER_INCH, 0, style.root(axes).dpi_scale_trans
    )
    axes.plot(
        places[kept],
        values[kept],
        ".",
        color=look.colour,
        markersize=3,
        transform=aside,
        clip_on=False,
        gid=f"{gid}.plain",
    )


def draw_band(axes: Axes, rows: pd.DataFrame, look: Look, gid: str, scale: float = 1.0) -> None:
    """The band that holds in all bins at once."""
    known = (rows.band_low.notna() & rows.band_high.notna()).to_numpy()
    if known.any():
        low, high = (
            rows.loc[known, name].to_numpy(dtype=float) * scale
            for name in ("band_low", "band_high")
        )
        places = bin_places(rows)[2][known]
        axes.fill_between(
            places, low, high, color=look.colour, alpha=0.13, linewidth=0, gid=gid, zorder=0.5
        )


def draw_floor(
    axes: Axes,
    curves: Iterable[pd.DataFrame],
    gid: str,
    scale: float = 1.0,
    *,
    change: bool = False,
) -> None:
    """Twice the noise floor, from zero up or to both sides of it: of all curves the highest in each
    bin."""
    rows = pd.concat([*curves])
    rows = (
        rows[rows.noise_floor.notna()]
        .sort_values("noise_floor")
        .drop_duplicates("position_low", keep="last")
    )
    rows = rows.sort_values("position_low")
    if not len(rows):
        return
    lows, highs, _ = bin_places(rows)
    twice = np.repeat(2 * scale * rows.noise_floor.to_numpy(dtype=float), 2)
    ends = np.stack([lows, highs], axis=1).ravel()
    axes.fill_between(
        ends, -twice if change else 0.0, twice, color=FLOOR, linewidth=0, gid=gid, zorder=0.2
    )


def shifts(axes: Axes, rows: pd.DataFrame, count: int) -> list[float]:
    """Points by which so many curves stand beside each other, within the room between two bins."""
    places = axes.transData.transform(np.stack([bin_places(rows)[2], np.zeros(len(rows))], axis=1))[
        :, 0
    ]
    gaps = np.diff(np.unique(places)) * style.POINTS_PER_INCH / style.root(axes).dpi
    step = min(3.0, 0.7 * float(gaps.min(initial=20.0)) / max(1, count))
    return [(i - (count - 1) / 2) * step for i in range(count)]


def draw_dots(
    axes: Axes,
    rows: pd.DataFrame,
    heights: Sequence[float],
    look: Look,
    gid: str,
    scale: float = 1.0,
) -> None:
    """A dot with its interval bar at each height, which is in the units of the y axis."""
    table, known = (
        rows[["value", "low", "high"]].to_numpy(dtype=float) * scale,
        rows.value.notna().to_numpy(),
    )
    at = np.array(heights, dtype=float)
    bars = np.isfinite(table).all(axis=1)
    if bars.any():
        drawn = axes.hlines(
            at[bars], table[bars, 1], table[bars, 2], color=look.colour, linewidth=0.9
        )
        drawn.set_gid(f"{gid}.bars")
    if known.any():
        axes.plot(
            table[known, 0],
            at[known],
            look.marker,
            gid=gid,
            clip_on=False,
            zorder=3,
            **_marker(look, hollow=False),
        )


# Words


def key_height(found: Iterable[object], width: style.Width) -> float:
    """Inches that the key takes with so many entries."""
    return 0.16 * math.ceil(len([*found]) / KEY_COLUMNS[width])


def key(figure: Figure, found: Iterable[Look], more: Sequence[Line2D] = ()) -> None:
    """What each colour and marker means, and the lines of ``more`` by their labels, at the upper
    edge."""
    across, up = figure.get_size_inches()
    handles: list[Line2D] = []
    for look in found:
        drawn = {**_marker(look, look.colour == style.PUBLISHED), "linestyle": look.line}
        handles.append(
            Line2D([], [], label=look.name, color=look.colour, marker=look.marker, **drawn)
        )
    figure.legend(
        handles=[*handles, *more],
        loc="upper left",
        bbox_to_anchor=(0.08 / across, 1 - 0.06 / up),
        ncols=KEY_COLUMNS["page" if across > WIDE else "column"],
        frameon=False,
        fontsize=style.SMALL,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        columnspacing=1.4,
    )


def note(figure: Figure, text: str, published: pd.DataFrame | None) -> None:
    """A line at the foot of the figure."""
    across, up = figure.get_size_inches()
    whole = (
        text
        if published is None
        else f"{text} Grey: published, another pair, other problems, no interval."
    )
    filled = textwrap.fill(whole, 130 if across > WIDE else 64)
    figure.text(
        0.08 / across,
        0.06 / up,
        filled,
        fontsize=style.SMALL,
        va="bottom",
        linespacing=1.2,
        gid="note",
    )


def number(row: pd.Series, form: str = ".2f", scale: float = 1.0) -> str:
    """A value with its interval."""
    if math.isnan(row.value):
        return "undefined"
    text = f"{row.value * scale:{form}}"
    return (
        text
        if math.isnan(row.low) or math.isnan(row.high)
        else f"{text} [{row.low * scale:{form}}, {row.high * scale:{form}}]"
    )


def named(checkpoint: str) -> str:
    return "the base student" if checkpoint == "base" else checkpoint


def counts(frame: pd.DataFrame, view: str) -> dict[str, str]:
    """How much stands behind the curves of each student; the bins together hold every token
    once."""
    told = {}
    for name in looks(frame):
        rows = pick(frame, "reverse_kl", view, name)
        if len(rows):
            numbers = rows.problems.max(), rows.rollouts.max(), rows.tokens.sum()
            told[name] = "{:,} problems, {:,} rollouts, {:,} tokens".format(*numbers)
    return told


def counts_text(frame: pd.DataFrame, view: str) -> str:
    return "; ".join(f"{name} {text}" for name, text in counts(frame, view).items())


def floor_text(rows: pd.DataFrame) -> str:
    """The size of the noise floor of these rows in words, and how many of them lie within twice of
    it."""
    known = rows[rows.noise_floor.notna()]
    if not len(known):
        return "Noise floor: not measured."
    under = int(known.under_floor.sum())
    sizes = [f"{of.noise_floor.max():.1e} {unit}" for unit, of in known.groupby("unit", sort=False)]
    few = f"{under} of {len(known)} values lie under it" if under else "no value lies under it"
    return (
        f"Grey band: twice the noise floor (floor at most {', '.join(sizes)}, often too small "
        f"to be seen); {few}."
    )


# Published curves, and a panel for each signal


def refuse_published(published: pd.DataFrame | None, reason: str) -> None:
    """Raises ValueError where published rows are given to a figure for which there are none; all
    figures are called alike."""
    if published is not None:
        raise ValueError(f"published must be None here: {reason}")


def published_within(
    published: pd.DataFrame | None, what: str, axes: Axes
) -> dict[str, pd.DataFrame]:
    """The published curves of a quantity, by checkpoint, as far as the axis goes."""
    if published is None:
        return {}
    rows = published[(published.what == what) & (bin_places(published)[2] <= axes.get_xlim()[1])]
    return {str(name): of for name, of in rows.groupby("checkpoint")}


def published_looks(published: pd.DataFrame | None) -> list[Look]:
    return (
        []
        if published is None
        else [_published_look(str(name)) for name in published.checkpoint.unique()]
    )


def _published_look(name: str) -> Look:
    return Look(f"published, {name}", style.PUBLISHED, "o" if name == "base" else "s", "--")


def draw_published(
    axes: Axes, curves: Mapping[str, pd.DataFrame], panel: str
) -> list[style.EndLabel]:
    """Grey, dashed and hollow; the base student with a circle, a trained one with a square."""
    labels = []
    for name, rows in curves.items():
        look = _published_look(name)
        labels += draw_bins(axes, rows, look, f"{panel}.published.{name}", hollow=True)
    return labels


def signal_axes(figure: Figure, names: Mapping[str, str], top: float) -> dict[str, Axes]:
    """A panel for each signal from ``top`` inches down, titled a, b, c: in a row on a page, else
    below each other."""
    page = figure.get_size_inches()[0] > WIDE
    axes = {}
    for i, (name, title) in enumerate(names.items()):
        left, upper = (0.55 + 2.27 * i, top) if page else (0.55, top - SIGNAL_STEP * i)
        axes[name] = style.add_axes(
            figure, left, upper - 1.25, left + (1.8 if page else 2.7), upper
        )
        axes[name].set_title(f"{'abc'[i]}  {title}")
    return axes


def draw_signals(
    axes: Mapping[str, Axes],
    frame: pd.DataFrame,
    view: str,
    published: pd.DataFrame | None,
    found: Mapping[str, Look] | None = None,
) -> None:
    """Each signal of every student, with what was published behind it. found: how each is drawn, by
    default `looks`."""
    found = looks(frame) if found is None else found
    for what, panel in axes.items():
        curves = {name: pick(frame, robust(what), view, name) for name in found}
        plain = {name: pick(frame, what, view, name) for name in found}
        every = pd.concat([*curves.values()])
        position_axis(panel, every)
        behind = published_within(published, what, panel)
        value_axis(panel, [every, *plain.values(), *behind.values()])
        draw_floor(panel, curves.values(), f"{what}.floor")
        draw_published(panel, behind, what)
        if "base" in curves:
            draw_band(panel, curves["base"], found["base"], f"{what}.base.band")
        for shift, (name, rows) in zip(
            shifts(panel, every, len(curves)), curves.items(), strict=True
        ):
            draw_bins(panel, rows, found[name], f"{what}.{name}", shift)
            draw_plain(panel, plain[name], found[name], f"{what}.{name}", shift)
        style.name_y_axis(panel, "nats")
