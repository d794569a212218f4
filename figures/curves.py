"""Curves and reference lines that are named at their ends, and the axes that they stand on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import artists, style
from .artists import NUMBERS, PERCENT, Look

WITH_BANDS = [*NUMBERS, "band_low", "band_high"]


def draw_curve(
    axes: Axes, rows: pd.DataFrame, at: str, look: Look, gid: str, shift: float = 0.0
) -> list[style.EndLabel]:
    """A line with its intervals in per cent, moved aside by so many points; its label, or none if
    empty. at: the column of its places."""
    rows = rows[rows.value.notna()]
    if rows.empty:
        return []
    artists.draw(axes, rows[at], rows, look, gid, scale=PERCENT, shift=shift)
    low, high = axes.get_xlim()
    end = rows[at].iloc[-1] + shift / style.size_points(axes)[0] * (high - low)
    return [style.EndLabel(end, rows.value.iloc[-1] * PERCENT, look.name, look.colour)]


def draw_reference(
    axes: Axes, number: tuple[float, float, float], look: Look, gid: str, **shade: Any
) -> list[style.EndLabel]:
    """Value, low and high as a line over the whole panel, shaded by its interval; its label, or
    none if undefined."""
    artists.across(axes, number, look, gid, **shade)
    if math.isnan(number[0]):
        return []
    return [style.EndLabel(axes.get_xlim()[1], number[0], look.name, look.colour)]


def shifts(count: int, apart: float) -> list[float]:
    """By how many points each of so many curves is moved aside, so that their bars can be told
    apart: at most ``apart`` from each other, and all within the width of a marker."""
    apart = min(apart, artists.MARKER / max(1, count - 1))
    return [(place - (count - 1) / 2) * apart for place in range(count)]


def length_axis(axes: Axes, lengths: Sequence[float]) -> None:
    """Ticks at these lengths or steps, with numbers where they have room."""
    low, high = min(lengths), max(lengths)
    if low == high:
        low, high = low - 1, high + 1
    room = 0.04 * (high - low)
    axes.set_xlim(low - room, high + room)
    style.ticks(axes, {length: f"{length:g}" for length in lengths}, 18.0)


def step_axis(axes: Axes, steps: Iterable[float]) -> None:
    """Training steps from 0."""
    length_axis(axes, sorted({0.0, *steps}))


def accuracy_axis(axes: Axes, curves: Iterable[pd.DataFrame]) -> None:
    """Per cent, around what is drawn and at least 20 points high, to whole tens; 0 and 100 keep
    room for a marker."""
    curves = list(curves)
    if not any(rows.value.notna().any() for rows in curves):
        artists.no_value(axes)
    low, high = extent(curves, WITH_BANDS)
    low, high = max(0.0, 10 * math.floor(low / 10)), min(100.0, 10 * math.ceil(high / 10))
    if high - low < 20 and high > 50:
        low = max(0.0, high - 20)
    high = max(high, low + 20)
    room = 0.03 * (high - low)
    axes.set_ylim(low - room, high + room)
    # The taller the axis, the wider apart its numbers
    steps = {60: 20, 20: 10, 0: 5}
    step = next(step for least, step in steps.items() if high - low > least)
    axes.set_yticks(np.arange(step * math.ceil(low / step), high + 1, step))


def extent(curves: Iterable[pd.DataFrame], columns: Sequence[str]) -> tuple[float, float]:
    """The least and the largest of these numbers, in per cent; 0 to 100 where there is none."""
    tables = [rows[list(columns)].to_numpy(dtype=float).ravel() for rows in curves]
    values = np.concatenate(tables) * PERCENT
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, PERCENT)
