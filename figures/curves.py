"""Curves of accuracy against prefix length: line, interval bars and band from rows of the
measurements table, and axes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from . import style
from .artists import PERCENT as PERCENT
from .artists import Look as Look

COLUMNS = ["value", "low", "high", "band_low", "band_high"]


def draw_curve(
    axes: Axes, rows: pd.DataFrame, look: Look, gid: str, shift: float, *, hollow: bool = False
) -> list[style.EndLabel]:
    """Line, markers and pointwise interval bars, moved sideways by ``shift`` points; its label, or
    none if empty."""
    rows = rows[rows.value.notna()]
    if not len(rows):
        return []
    table = rows[COLUMNS].to_numpy(dtype=float) * PERCENT
    aside = ScaledTranslation(shift / style.POINTS_PER_INCH, 0, style.root(axes).dpi_scale_trans)
    moved = axes.transData + aside
    bars = np.isfinite(table[:, 1]) & np.isfinite(table[:, 2])
    at = rows.prefix_tokens.to_numpy(dtype=float)
    if bars.any():
        axes.vlines(
            at[bars],
            table[bars, 1],
            table[bars, 2],
            color=look.colour,
            linewidth=0.9,
            transform=moved,
            clip_on=False,
        ).set_gid(f"{gid}.bars")
    axes.plot(
        at,
        table[:, 0],
        color=look.colour,
        linestyle=look.line,
        linewidth=1.0 if look.line != "-" else 1.3,
        marker=look.marker,
        markersize=4.0,
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour if hollow else "white",
        markeredgewidth=0.9 if hollow else 0.4,
        transform=moved,
        clip_on=False,
        gid=gid,
        zorder=1.5 if hollow else 3,
    )
    low, high = axes.get_xlim()
    end = float(at[-1]) + shift / style.size_points(axes)[0] * (high - low)
    return [style.EndLabel(end, float(table[-1, 0]), look.name, look.colour)]


def draw_band(axes: Axes, rows: pd.DataFrame, look: Look, gid: str) -> None:
    """The band that holds at all lengths at once."""
    rows = rows[rows.band_low.notna() & rows.band_high.notna()]
    if not len(rows):
        return
    low, high = rows.band_low.to_numpy() * PERCENT, rows.band_high.to_numpy() * PERCENT
    if len(rows) == 1:  # an area over a single length has no width
        axes.vlines(
            rows.prefix_tokens, low, high, color=look.colour, alpha=0.15, linewidth=7, zorder=0
        ).set_gid(gid)
        return
    axes.fill_between(
        rows.prefix_tokens.to_numpy(),
        low,
        high,
        color=look.colour,
        alpha=0.15,
        linewidth=0,
        gid=gid,
        zorder=0,
    )


def lengths_of(curves: Iterable[pd.DataFrame]) -> list[float]:
    return sorted({float(length) for rows in curves for length in rows.prefix_tokens})


def length_axis(axes: Axes, lengths: list[float]) -> None:
    """Ticks at the measured lengths; numbers where they have room."""
    low, high = (
        (min(lengths), max(lengths)) if len(set(lengths)) > 1 else (lengths[0] - 1, lengths[0] + 1)
    )
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    shown = set(style.far_apart(places(axes, lengths), 18.0))
    axes.set_xticks(
        lengths, [f"{length:g}" if i in shown else "" for i, length in enumerate(lengths)]
    )


def accuracy_axis(axes: Axes, curves: Iterable[pd.DataFrame]) -> None:
    """Per cent, around what is drawn and at least 20 points high, to whole tens; 0 and 100 keep
    room for a marker."""
    low, high = extent(curves, COLUMNS)
    low, high = max(0.0, 10 * math.floor(low / 10)), min(100.0, 10 * math.ceil(high / 10))
    low, high = (
        (max(0.0, high - 20), high) if high - low < 20 and high > 50 else (low, max(high, low + 20))
    )
    room = 0.03 * (high - low)
    axes.set_ylim(low - room, high + room)
    step = 20 if high - low > 60 else 10 if high - low > 20 else 5
    axes.set_yticks(np.arange(step * math.ceil(low / step), high + 1, step))


def extent(curves: Iterable[pd.DataFrame], columns: list[str]) -> tuple[float, float]:
    values = (
        np.concatenate([rows[columns].to_numpy(dtype=float).ravel() for rows in curves]) * PERCENT
    )
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, PERCENT)


def places(axes: Axes, lengths: list[float]) -> list[float]:
    """Places along the x axis in points."""
    low, high = axes.get_xlim()
    across = style.size_points(axes)[0]
    return [(length - low) / (high - low) * across for length in lengths]
