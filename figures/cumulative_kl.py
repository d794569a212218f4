"""Choosing N: the share of the KL that lies before each position, and N, where it reaches the share
that the rule requires.

    survivors    thick: sum over positions of the mean over the rollouts that reach them, the rule
                 of arXiv 2605.27028
    all tokens   thin: sum over tokens, whichever rollout they are in (condition ``mass``)

Every student on its own rollouts. `signals` draws the same curves among others. Drawing reads rows
of the measurements table and computes no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import FRESH, select

from . import artists, bins, next_byte, style, words
from .artists import NUMBERS, PERCENT, Look
from .bins import pick
from .colours import looks
from .layout import Block
from .page import Part, Sheet, drawing

SHARE, POSITION = "cumulative_kl_share", "cumulative_kl_position"
LONGEST = 4.6  # inches of a page's strip
HORIZON, THRESHOLD = "cumulative_kl_horizon", "cumulative_kl_threshold"
SURVIVORS, MASS = "survivors", "mass"
NAMES = {SURVIVORS: "survivors", MASS: "all tokens"}
LINE_INCHES = 0.12  # of a student in the strip of N
APART = 0.6  # of a line between the two ways to sum
THIN = 0.7  # points: curves over all tokens
REFUSAL = "the paper prints its rule for N without a curve"
CAPTION = """Share of the reverse KL before a position, every student on its own rollouts; dotted:
    N, where {share} % is reached. Survivors: the mean over the rollouts that reach a position,
    summed over positions; all tokens: summed over tokens. Bars: {level} intervals,
    problem-clustered."""
DETAILS = """Share of the reverse KL that lies before a position, every student on its own rollouts.
    Lines join the bin ends and N, which is read position by position. Thick, survivors: {survivors}
    Thin, all tokens: {mass} Bars: pointwise {level} intervals ({methods}); those of thin lines
    stand in the table. The rule was checked by its authors on two pairs: take N as the middle of
    a sweep. {counts}"""
LENGTHS = "{estimand}; N, where {share} % is reached, in tokens: {lengths}."


@next_byte.named
@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's one panel: the curves, and N in a strip below.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`.
        published: None; the paper prints the rule without a curve.

    Raises:
        ValueError: the rows hold no cumulative KL, or published rows are given.
    """
    _check(measurements, published)
    known = looks(measurements)
    strip = strip_inches(len(NAMES) * (len(known) + APART) - APART)
    block = Block([[SHARE], [POSITION]], [1.65, strip], left=0.72, apart=0.06, fixed=[POSITION])

    def draw(axes: dict[str, Axes]) -> None:
        _draw(axes[SHARE], axes[POSITION], measurements)

    title = "Where the KL of a rollout lies"
    part = Part(title, block, draw, [*bins.handles(known), *_handles()])
    return Sheet({"a": part}, [replace(block, heights=[2.3, min(strip, LONGEST)])])


draw = drawing(sheet)


def _draw(axes: Axes, below: Axes, measurements: pd.DataFrame) -> None:
    known = looks(measurements)
    draw_shares(axes, measurements, known, list(NAMES), SURVIVORS, SURVIVORS)
    for name, look in known.items():
        rows = curve_of(measurements, name, MASS).dropna(subset="value")
        x, y = rows.position_high, rows.value * PERCENT
        axes.plot(x, y, color=look.colour, linewidth=THIN, gid=f"{MASS}.{name}", zorder=2)
        draw_drop(axes, measurements, name, MASS, look.colour)
    draw_lengths(below, measurements, known, {name: name for name in NAMES})
    middles = [(len(known) - 1) / 2 + i * (len(known) + APART) for i in range(len(NAMES))]
    below.set_yticks(middles, [f"N, {name}" for name in NAMES.values()])
    below.tick_params(axis="y", length=0)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown and how it is summed, in at most 60 words.

    Raises:
        ValueError: the rows hold no cumulative KL, or published rows are given.
    """
    _check(measurements, published)
    rows = select(measurements, what=POSITION)
    return words.filled(CAPTION, rows, share=f"{threshold_of(measurements, SURVIVORS):g}")


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is summed how, N with its interval and horizon, counts, and how intervals were made."""
    _check(measurements, published)
    rows = select(measurements, what=[SHARE, POSITION])
    counts = words.counts_text(measurements, FRESH)
    return words.filled(
        DETAILS,
        rows,
        survivors=length_text(measurements, SURVIVORS),
        mass=length_text(measurements, MASS),
        counts=f"Counts: {counts}." if counts else "",
    )


def _check(measurements: pd.DataFrame, published: pd.DataFrame | None) -> None:
    bins.refuse_published(published, REFUSAL)
    if not (measurements.what == POSITION).any():
        raise ValueError("measurements hold no cumulative_kl_position; pass those of signals")


def _handles() -> list[Any]:
    thick = Look(f"thick: {NAMES[SURVIVORS]}", style.INK, "o")
    thin = Look(f"thin: {NAMES[MASS]}", style.INK, "")
    return [
        artists.handle(thick, line=True, linewidth=1.2),
        artists.handle(thin, line=True, linewidth=THIN),
    ]


# What the figure of the signals has of it too


def strip_inches(lines: float) -> float:
    """Height of a strip with this many lines of N."""
    return LINE_INCHES * lines + 0.06


def place_axis(axes: Axes, frame: pd.DataFrame, conditions: list[str], *, name: bool) -> None:
    """The bin ends, up to the furthest horizon of these conditions; without ``name`` the numbers
    stand below, in the strip."""
    rows = select(frame, condition=conditions).dropna(subset="value")
    ends = {0.0} | set(select(rows, what=SHARE).position_high)
    longest = max(1.0, max(ends), select(rows, what=HORIZON).value.max())
    narrowest = float(np.diff(sorted(ends | {longest})).min())
    ticks = ends if len(ends) > 1 else {0.0, longest}
    bins.token_axis(axes, {end: f"{end:g}" for end in ticks}, longest, narrowest, name=name)
    axes.tick_params(labelbottom=name)


def curve_of(frame: pd.DataFrame, checkpoint: str, condition: str) -> pd.DataFrame:
    """The shares before each bin end in order, from none at 0 by way of N to all at the horizon,
    where there is any KL."""
    share = pick(frame, SHARE, FRESH, checkpoint, condition)
    length = pick(frame, POSITION, FRESH, checkpoint, condition)
    if not length.value.notna().any():
        return share
    # the table has the ends of the bins alone; 0, N and the horizon follow from what the shares are
    horizon = pick(frame, HORIZON, FRESH, checkpoint, condition)
    start = horizon.assign(position_high=0.0, value=0.0)
    end = horizon.assign(position_high=horizon.value, value=1.0)
    reached = threshold_of(frame, condition) / PERCENT
    middle = horizon.assign(position_high=length.value.iloc[0], value=reached)
    curve = pd.concat([start, share, middle, end], ignore_index=True)
    return curve.sort_values(["position_high", "value"], ignore_index=True)


def threshold_of(frame: pd.DataFrame, condition: str) -> float:
    """The share at which N is read, in per cent."""
    shares = select(frame, what=THRESHOLD, condition=condition).value
    return float(shares.iloc[0]) * PERCENT


def draw_shares(
    axes: Axes,
    frame: pd.DataFrame,
    known: Mapping[str, Look],
    conditions: list[str],
    condition: str,
    gid: str,
) -> None:
    """Each student's curve at the bin ends with its intervals, the share at which N is read, and a
    dotted line from N down to the strip.

    conditions: those whose curves stand on this axis, of which this draws one.
    """
    place_axis(axes, frame, conditions, name=False)
    axes.set_ylim(0, PERCENT * 1.04)  # with room for a marker
    axes.set_yticks(range(0, 101, 20))
    style.name_y_axis(axes, "share of KL (%)")
    threshold = threshold_of(frame, condition)
    dots: dict[str, Any] = {"color": style.INK, "linewidth": 0.8, "linestyle": ":", "zorder": 0}
    if not np.isnan(threshold):
        axes.axhline(threshold, gid=f"{gid}.threshold", **dots)
        left = axes.get_yaxis_transform()
        number = axes.annotate(f"{threshold:g} %", (0, threshold), (3, 1.5), left, "offset points")
        number.set_fontsize(style.SMALL)
    for name, look in known.items():
        rows = curve_of(frame, name, condition)
        at = rows.position_high.to_numpy(dtype=float)
        bins.draw_bins(axes, rows, look, f"{gid}.{name}", scale=PERCENT, at=at)
        draw_drop(axes, frame, name, condition, look.colour)


def draw_drop(axes: Axes, frame: pd.DataFrame, name: str, condition: str, colour: str) -> None:
    """A dotted line from the curve at N down to the strip."""
    place = pick(frame, POSITION, FRESH, name, condition).value
    line = axes.vlines(place, 0, threshold_of(frame, condition), color=colour, linestyle=":")
    line.set(linewidth=0.7, gid=f"{condition}.{name}.drop")


def draw_lengths(
    axes: Axes, frame: pd.DataFrame, known: Mapping[str, Look], gids: Mapping[str, str]
) -> None:
    """N of each condition and student with its interval, a line each, the number on the side that
    has more room.

    gids: of each condition, in the order in which they are drawn.
    """
    place_axis(axes, frame, list(gids), name=True)
    axes.set_ylim(len(gids) * (len(known) + APART) - APART - 0.4, -0.6)
    axes.set_yticks([])
    for i, (condition, gid) in enumerate(gids.items()):
        for line, (name, look) in enumerate(known.items()):
            height = line + i * (len(known) + APART)
            rows = pick(frame, POSITION, FRESH, name, condition).dropna(subset="value")
            heights = [height] * len(rows)
            artists.draw(axes, heights, rows, look, f"{gid}.{name}.N", upright=False)
            for _, length in rows.iterrows():
                _write_length(axes, length, height, look)


def _write_length(axes: Axes, length: pd.Series[Any], height: float, look: Look) -> None:
    low, high = length[NUMBERS].min(), length[NUMBERS].max()
    left, right = axes.get_xlim()
    first, begin, end, last = style.places_points(axes, [left, low, high, right])
    place, aside, align = high, 5, "left"
    if begin - first > last - end:
        place, aside, align = low, -5, "right"
    text = words.number(length, 0)
    number = axes.annotate(text, (place, height), (aside, 0), textcoords="offset points")
    number.set(ha=align, va="center", fontsize=style.SMALL, color=style.darker(look.colour))


def length_text(frame: pd.DataFrame, condition: str) -> str:
    """How a condition is summed, and N of every student with its interval and horizon; undefined
    with the reason."""
    places = select(frame, what=POSITION, condition=condition)
    lengths = [
        f"{place.checkpoint} {words.number(place, 0)} ({place.note})"
        for _, place in places.iterrows()
    ]
    share = f"{threshold_of(frame, condition):g}"
    return words.filled(LENGTHS, places, share=share, lengths="; ".join(lengths))
