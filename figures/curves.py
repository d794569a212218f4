"""Curves of accuracy against prefix length, from rows of the measurements table, and their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import artists, style
from .artists import NUMBERS, PERCENT, Look

BAND = ["band_low", "band_high"]


def draw_curve(
    axes: Axes, rows: pd.DataFrame, look: Look, gid: str, shift: float
) -> list[style.EndLabel]:
    """Line, markers and pointwise interval bars, moved aside by ``shift`` points; its label, or
    none if empty."""
    rows = rows.dropna(subset="value")
    if not len(rows):
        return []
    at = rows.prefix_tokens.to_numpy(dtype=float)
    artists.draw(axes, at, rows, look, gid, scale=PERCENT, shift=shift)
    last = float(at[-1]), float(rows.value.iloc[-1]) * PERCENT
    x, _ = axes.transData.inverted().transform(artists.moved(axes, shift).transform(last))
    return [style.EndLabel(float(x), last[1], look.name, look.colour)]


def draw_band(axes: Axes, rows: pd.DataFrame, look: Look, gid: str) -> None:
    """The band that holds at all lengths at once."""
    rows = rows.dropna(subset=BAND)
    low, high = rows[BAND].to_numpy(dtype=float).T * PERCENT
    artists.band(axes, rows.prefix_tokens, low, high, look.colour, gid)


def lengths_of(curves: Iterable[pd.DataFrame]) -> list[float]:
    """The lengths of all curves, in rising order."""
    return sorted({float(length) for rows in curves for length in rows.prefix_tokens})


def length_axis(axes: Axes, lengths: list[float]) -> None:
    """Ticks at the measured lengths; numbers where they have room."""
    low, high = min(lengths), max(lengths)
    if low == high:
        low, high = low - 1, high + 1
    room = 0.04 * (high - low)
    axes.set_xlim(low - room, high + room)
    style.ticks(axes, {length: f"{length:g}" for length in lengths}, 18.0)


def accuracy_axis(axes: Axes, curves: Iterable[pd.DataFrame]) -> None:
    """Per cent, around what is drawn and at least 20 points high, to whole tens; 0 and 100 keep
    room for a marker."""
    low, high = extent(curves, NUMBERS + BAND)
    low, high = max(0.0, 10 * math.floor(low / 10)), min(100.0, 10 * math.ceil(high / 10))
    if high > 50:
        low = max(0.0, min(low, high - 20))
    else:
        high = max(high, low + 20)
    room = 0.03 * (high - low)
    axes.set_ylim(low - room, high + room)
    step = 5
    if high - low > 20:
        step = 20 if high - low > 60 else 10
    axes.set_yticks(np.arange(step * math.ceil(low / step), high + 1, step))


def extent(curves: Iterable[pd.DataFrame], columns: list[str]) -> tuple[float, float]:
    """The least and the largest number of these columns, in per cent; 0 and 100 of none."""
    values = pd.concat([*curves])[columns].to_numpy(dtype=float) * PERCENT
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, PERCENT)
