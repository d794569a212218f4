"""Values by bin of response positions: what the figures of token statistics share.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from decaylab.runs.vocabulary import ALL, BASE, select

from . import artists, style
from .artists import NUMBERS, Look
from .colours import folded, looks
from .curves import shifts
from .layout import Block
from .page import Part
from .running_text import in_lines

Floats = NDArray[np.float64]
Draw = Callable[[Axes], None]
FLOOR = "#d9d9d9"
NARROWEST = 6.0  # points; with a bin narrower than that the axis goes with the square root
REACH = 2.5  # the axis ends at this multiple of the largest value, however long the intervals
PUBLISHED_TICKS = (0.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0)
LABEL = 15  # characters a line of a curve's name at its end


def pick(
    frame: pd.DataFrame, what: str, view: str, checkpoint: str, condition: str = ALL
) -> pd.DataFrame:
    """The rows of one curve, by position; there may be none."""
    rows = select(frame, what=what, view=view, checkpoint=checkpoint, condition=condition)
    return rows.sort_values(["position_low", "position_high"])


def robust(what: str) -> str:
    """The quantity whose rows have an interval in a bin: the winsorised mean over problems."""
    return f"winsorised_{what}"


# The position axis


def bin_places(rows: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Lower ends, upper ends and centres of the rows' bins; an open bin is drawn as wide as the
    last closed one."""
    lows = rows.position_low.to_numpy(dtype=float)
    highs = rows.position_high.to_numpy(dtype=float)
    closed = np.isfinite(highs)
    last = np.flatnonzero(closed & (lows == lows[closed].max(initial=-math.inf)))
    width = 1.0  # a single bin without an end
    if last.size:
        width = highs[last[0]] - lows[last[0]]
    highs = np.where(closed, highs, lows + width)
    return lows, highs, (lows + highs) / 2


def position_axis(axes: Axes, rows: pd.DataFrame, *, name: bool = True) -> None:
    """Ticks at the ends of the bins that hold a value, numbers where they have room; the open bin
    says from where on."""
    known = rows.value.notna().to_numpy()
    if not known.any():
        known = ~known
    lows, highs, centres = (places[known] for places in bin_places(rows))
    opened = ~np.isfinite(rows.position_high.to_numpy(dtype=float)[known])
    edges = np.concatenate([lows, highs[~opened]]).tolist()
    ticks = {edge: f"{edge:g}" for edge in edges}
    for low, centre in zip(lows[opened], centres[opened], strict=True):
        ticks[float(centre)] = f"\u2265 {low:g}" if low else "all"
    token_axis(axes, ticks, float(highs.max()), float((highs - lows).min()), name=name)


def token_axis(
    axes: Axes, ticks: dict[float, str], longest: float, narrowest: float, *, name: bool = True
) -> None:
    """From 0 to the longest; with the square root where the narrowest step could not be seen
    otherwise."""
    # early bins are narrow: on a linear axis of long responses they would fall together
    squeezed = narrowest / longest * style.size_points(axes)[0] < NARROWEST
    if squeezed:
        axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, longest)
    style.ticks(axes, ticks, 24.0)
    if name:
        scale = ",\nsquare-root axis" if squeezed else ""
        axes.set_xlabel(f"position in the response (tokens){scale}")


def _root(values: Floats) -> Floats:
    return np.sqrt(np.maximum(values, 0.0))


def value_axis(
    axes: Axes, curves: Iterable[pd.DataFrame], scale: float = 1.0, *, change: bool = False
) -> None:
    """From 0, or around 0 for a change, over the values and the intervals as far as these do not
    run away."""
    table = pd.concat(curves)[NUMBERS].to_numpy(dtype=float) * scale
    table = table[np.isfinite(table[:, 0])]
    if not len(table):
        artists.no_value(axes)
    # one interval that runs away must not flatten every curve
    reach = float(np.abs(table[:, 0]).max(initial=0.0)) or scale
    bounds = np.where(np.isfinite(table), table, 0.0)
    low, high = 0.0, reach
    if len(table):
        high = min(REACH * reach, max(float(bounds.max()), 0.05 * reach))
    if change:
        low = max(-REACH * reach, min(float(bounds.min(initial=0.0)), -0.05 * reach))
    room = 0.06 * (high - low)
    axes.set_ylim(low - room * change, high + room)
    style.ticks_within(axes, upright=True)


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
) -> list[style.EndLabel]:
    """Line, markers and interval bars at the centres of the bins, moved aside by ``shift`` points;
    its label. The limits of the axes must be set before."""
    places = bin_places(rows)[2] if at is None else at
    known = rows.value.notna().to_numpy() & (places <= axes.get_xlim()[1])
    if not known.any():
        return []
    places, rows = places[known], rows[known]
    artists.draw(axes, places, rows, look, gid, shift=shift, scale=scale)
    end = float(rows.value.iloc[-1]) * scale
    return [style.EndLabel(float(places[-1]), end, in_lines(look.name, LABEL), look.colour)]


def draw_plain(
    axes: Axes, rows: pd.DataFrame, look: Look, gid: str, shift: float = 0.0, scale: float = 1.0
) -> None:
    """The plain means as small dots at the centres of the bins; those beyond the frame are left
    out: they have no interval, and would hide the curves' scale."""
    values, places = rows.value.to_numpy(dtype=float) * scale, bin_places(rows)[2]
    low, high = axes.get_ylim()
    kept = (places <= axes.get_xlim()[1]) & (values >= low) & (values <= high)
    dot: dict[str, Any] = {
        "marker": ".",
        "markersize": 3,
        "markeredgewidth": 1.0,
        "markeredgecolor": look.colour,
    }
    artists.points(axes, places[kept], values[kept], look, f"{gid}.plain", shift=shift, **dot)


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
    # the last of equal bins is the one of the highest floor
    rows = pd.concat(curves).dropna(subset="noise_floor").sort_values("noise_floor")
    rows = rows.drop_duplicates("position_low", keep="last").sort_values("position_low")
    if not len(rows):
        return
    lows, highs, _ = bin_places(rows)
    twice = np.repeat(2 * scale * rows.noise_floor.to_numpy(dtype=float), 2)
    ends = np.stack([lows, highs], axis=1).ravel()
    bottom = -twice if change else np.zeros_like(twice)
    axes.fill_between(ends, bottom, twice, color=FLOOR, linewidth=0, gid=gid, zorder=0.2)


# Published curves


def refuse_published(published: pd.DataFrame | None, reason: str) -> None:
    """Raises ValueError where published rows are given to a figure for which there are none; all
    figures are called alike."""
    if published is not None:
        raise ValueError(f"published must be None here: {reason}")


def published_look(name: str) -> Look:
    """Grey, dashed and hollow; the base student with a circle, a trained one with a square."""
    if name == BASE:
        return Look("base student", style.PUBLISHED, "o", "--")
    return Look(name, style.PUBLISHED, "s", "--")


def draw_published(
    axes: Axes, curves: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]
) -> None:
    """Published curves on axes of their own, as far as they were printed, named at their ends."""
    every = pd.concat(curves.values())
    lows, highs, _ = bin_places(every)
    longest = float(highs.max())
    # their bins leave gaps, whose ends would be ticks at odd places
    named = {tick: f"{tick:g}" for tick in PUBLISHED_TICKS if tick <= longest}
    token_axis(axes, named, longest, float((highs - lows).min()))
    value_axis(axes, [every])
    labels = []
    for name, rows in curves.items():
        labels += draw_bins(axes, rows, looks[name], f"published.{name}")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "nats")


# A panel for each signal


def signal_row(names: Iterable[str]) -> Block:
    """Three panels beside each other on a page."""
    return Block([list(names)], [1.35], right=0.15)


def signal_part(
    letter: str,
    what: str,
    title: str,
    frame: pd.DataFrame,
    view: str,
    more: Draw | None = None,
    known: Mapping[str, Look] | None = None,
) -> Part:
    """The panel of one signal. more: what else is drawn on it; known: how each student is drawn, by
    default in its colour."""
    known = known or looks(frame)

    def draw(axes: dict[str, Axes]) -> None:
        draw_signal(axes[letter], what, frame, view, letter, known)
        if more is not None:
            more(axes[letter])

    return Part(title, Block([[letter]], [1.5], right=0.15), draw, handles(known))


def draw_signal(
    axes: Axes, what: str, frame: pd.DataFrame, view: str, panel: str, known: Mapping[str, Look]
) -> None:
    """A signal of every student: winsorised means with their intervals, plain means as dots."""
    curves = {name: pick(frame, robust(what), view, name) for name in known}
    plain = {name: pick(frame, what, view, name) for name in known}
    every = pd.concat(curves.values())
    position_axis(axes, every)
    value_axis(axes, [*curves.values(), *plain.values()])
    draw_floor(axes, curves.values(), f"{panel}.floor")
    if BASE in curves:
        rows, colour = curves[BASE], known[BASE].colour
        artists.band(axes, bin_places(rows)[2], rows, colour, f"{panel}.{BASE}.band")
    aside = shifts(len(curves), artists.MARKER)
    for shift, (name, rows) in zip(aside, curves.items(), strict=True):
        draw_bins(axes, rows, known[name], f"{panel}.{name}", shift)
        draw_plain(axes, plain[name], known[name], f"{panel}.{name}", shift)
    style.name_y_axis(axes, "nats")


def handles(known: Mapping[str, Look]) -> list[Line2D]:
    """The entries of the key: each student; none where there is but one."""
    if len(known) == 1:
        return []
    return [artists.handle(look, line=True) for look in folded(known)]
