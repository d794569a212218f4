"""Choosing N: the share of the KL that lies before each position, and N, where it reaches the share
that the rule asks for.

    survivors    thick: sum over positions of the mean over the rollouts that reach them, the rule
    of arXiv 2605.27028
    all tokens   thin: sum over tokens, whatever rollout they stand in (condition ``mass``)

Every student on its own rollouts. `signals` draws the same curves among others. Drawing reads rows
of the measurements table and computes no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import bins, style
from .bins import pick
from .colours import recoloured
from .curves import PERCENT, Look

VIEW = "fresh"
SURVIVORS, MASS = "survivors", "mass"
NAMES = {SURVIVORS: "survivors", MASS: "all tokens"}
LINE_INCHES = 0.12  # of a student in the strip of N
APART = 0.6  # of a line between the two ways to sum


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`.
        published: None; the paper prints the rule without a curve.
        width: ``column`` (3.4 in) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no cumulative KL, or published rows are given.
    """
    _check(measurements, published)
    found = recoloured(bins.looks(measurements), measurements)
    with style.context():
        head = 0.22 + bins.key_height([*found.values(), *NAMES], width)
        strip = LINE_INCHES * (2 * len(found) + APART) + 0.08
        tall, foot = (2.3, 0.78) if width == "page" else (2.0, 0.85)
        figure = style.new_figure(width, head + tall + 0.06 + strip + foot)
        across, up = figure.get_size_inches()
        axes, below = with_strip(figure, (0.72, across - 0.14), up - head, tall, strip)
        place_axis(axes, measurements, [*NAMES], name=False)
        share_axis(axes)
        _all_tokens(axes, measurements, found)
        draw_shares(axes, measurements, found, SURVIVORS, SURVIVORS)
        draw_threshold(axes, measurements, SURVIVORS, SURVIVORS)
        style.name_y_axis(axes, "share of KL (%)")
        draw_lengths(below, measurements, found, {name: name for name in NAMES})
        middles = [(len(found) - 1) / 2 + i * (len(found) + APART) for i in range(len(NAMES))]
        below.set_yticks(middles, [f"N, {name}" for name in NAMES.values()])
        below.tick_params(axis="y", length=0)
        bins.key(figure, found.values(), more=_key())
        bins.note(figure, _note(measurements), None)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what is summed how, N with its interval and horizon, counts, and how
    intervals were made.

    Raises:
        ValueError: the rows hold no cumulative KL, or published rows are given.
    """
    _check(measurements, published)
    rows = measurements[measurements.what.isin(["cumulative_kl_share", "cumulative_kl_position"])]
    methods = "; ".join(dict.fromkeys(rows[rows.method != ""].method))
    counted = bins.counts_text(measurements, VIEW)
    text = [
        "Share of the reverse KL that lies before a position, every student on its own rollouts. "
        "Lines join the bin ends; N is "
        "read position by position.",
        f"Thick, survivors: {length_text(measurements, SURVIVORS)}",
        f"Thin, all tokens: {length_text(measurements, MASS)}",
        f"Bars: pointwise {rows.level.iloc[0] * PERCENT:g} % intervals ({methods}); those of thin "
        "lines stand in the table.",
        "The rule was checked by its authors on two pairs: take N as the middle of a sweep.",
        *([f"Counts: {counted}."] if counted else []),
    ]
    return " ".join(text)


def _check(measurements: pd.DataFrame, published: pd.DataFrame | None) -> None:
    bins.refuse_published(published, "the paper prints its rule for N without a curve")
    if not (measurements.what == "cumulative_kl_position").any():
        raise ValueError("measurements hold no cumulative_kl_position; pass those of signals")


def _note(frame: pd.DataFrame) -> str:
    level = frame[frame.what == "cumulative_kl_position"].level.iloc[0]
    return (
        f"Bars: {level * PERCENT:g} % intervals, problem-clustered. Survivors: mean over the "
        "rollouts that reach a position, "
        "summed over positions. All tokens: summed over tokens."
    )


def _key() -> list[Line2D]:
    thick = Line2D(
        [],
        [],
        color=style.INK,
        linewidth=1.2,
        marker="o",
        markersize=4.0,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=f"thick: {NAMES[SURVIVORS]}",
    )
    return [thick, Line2D([], [], color=style.INK, linewidth=0.7, label=f"thin: {NAMES[MASS]}")]


def _all_tokens(axes: Axes, frame: pd.DataFrame, found: Mapping[str, Look]) -> None:
    """The curves over all tokens, thin, without markers and intervals."""
    for name, look in found.items():
        rows = curve_of(frame, name, MASS)
        known = rows[rows.value.notna()]
        axes.plot(
            known.position_high,
            known.value * PERCENT,
            color=look.colour,
            linewidth=0.7,
            gid=f"{MASS}.{name}",
        )


# What the figure of the signals has of it too


def with_strip(
    figure: Figure, across: tuple[float, float], top: float, tall: float, strip: float
) -> tuple[Axes, Axes]:
    """Axes from left to right and below them a strip for N, in inches."""
    left, right = across
    bottom = top - tall - 0.06
    return (
        style.add_axes(figure, left, top - tall, right, top),
        style.add_axes(figure, left, bottom - strip, right, bottom),
    )


def place_axis(axes: Axes, frame: pd.DataFrame, conditions: list[str], *, name: bool) -> None:
    """The bin ends, up to the furthest horizon of these conditions; without ``name`` the numbers
    stand below, in the strip."""
    rows = frame[frame.condition.isin(conditions) & frame.value.notna()]
    ends = {0.0, *rows[rows.what == "cumulative_kl_share"].position_high}
    longest = max([1.0, *ends, *rows[rows.what == "cumulative_kl_horizon"].value])
    narrowest = float(np.diff(sorted({*ends, longest})).min())
    ticks = ends if len(ends) > 1 else {0.0, longest}
    bins.token_axis(axes, {end: f"{end:g}" for end in ticks}, longest, narrowest, name=name)
    axes.tick_params(labelbottom=name)


def share_axis(axes: Axes) -> None:
    """From 0 to all, with room for a marker."""
    axes.set_ylim(0, PERCENT * 1.04)
    axes.set_yticks(range(0, 101, 20))


def curve_of(frame: pd.DataFrame, checkpoint: str, condition: str) -> pd.DataFrame:
    """The shares before each bin end in order, from none at 0 to all at the horizon where there is
    any KL."""
    share = pick(frame, "cumulative_kl_share", VIEW, checkpoint, condition)
    if not pick(frame, "cumulative_kl_position", VIEW, checkpoint, condition).value.notna().any():
        return share
    horizon = pick(frame, "cumulative_kl_horizon", VIEW, checkpoint, condition)
    start = horizon.assign(position_high=0.0, value=0.0)
    end = horizon.assign(position_high=horizon.value, value=1.0)
    return pd.concat([start, share, end], ignore_index=True)


def draw_shares(
    axes: Axes, frame: pd.DataFrame, found: Mapping[str, Look], condition: str, gid: str
) -> None:
    """Each student's curve at the bin ends with its intervals, and a dotted line from N down to the
    strip."""
    threshold = frame[
        (frame.what == "cumulative_kl_threshold") & (frame.condition == condition)
    ].value
    for i, (name, look) in enumerate(found.items()):
        rows = curve_of(frame, name, condition)
        aside = (i - (len(found) - 1) / 2) * 1.2
        at = rows.position_high.to_numpy(dtype=float)
        bins.draw_bins(axes, rows, look, f"{gid}.{name}", aside, PERCENT, at=at)
        place = pick(frame, "cumulative_kl_position", VIEW, name, condition).value
        axes.vlines(
            place, 0, threshold.iloc[0] * PERCENT, color=look.colour, linewidth=0.7, linestyle=":"
        )


def draw_threshold(axes: Axes, frame: pd.DataFrame, condition: str, gid: str) -> None:
    """The share at which N is read, as a line with its number."""
    for share in frame[
        (frame.what == "cumulative_kl_threshold") & (frame.condition == condition)
    ].value.head(1):
        line = axes.axhline(
            share * PERCENT, color=style.INK, linewidth=0.8, linestyle=":", zorder=0
        )
        line.set_gid(f"{gid}.threshold")
        beside = (0, share * PERCENT), (3, 1.5), axes.get_yaxis_transform(), "offset points"
        axes.annotate(f"{share * PERCENT:g} %", *beside, fontsize=style.SMALL)


def draw_lengths(
    axes: Axes, frame: pd.DataFrame, found: Mapping[str, Look], gids: Mapping[str, str]
) -> None:
    """N of each condition and student with its interval, a line each, the number on the side that
    has more room.

    gids: of each condition, in the order in which they are drawn.
    """
    place_axis(axes, frame, [*gids], name=True)
    axes.set_ylim(len(gids) * (len(found) + APART) - APART - 0.4, -0.6)
    axes.set_yticks([])
    for i, (condition, gid) in enumerate(gids.items()):
        for line, name in enumerate(found):
            height = line + i * (len(found) + APART)
            rows = pick(frame, "cumulative_kl_position", VIEW, name, condition)
            bins.draw_dots(axes, rows, [height] * len(rows), found[name], f"{gid}.{name}.N")
            for _, row in rows[rows.value.notna()].iterrows():
                _write_length(axes, row, height, found[name])


def _write_length(axes: Axes, row: pd.Series, height: float, look: Look) -> None:
    low, high = row[["value", "low", "high"]].min(), row[["value", "low", "high"]].max()
    room = axes.transLimits.transform(axes.transScale.transform([(low, height), (high, height)]))[
        :, 0
    ]
    left = room[0] > 1 - room[1]
    axes.annotate(
        bins.number(row, ".0f"),
        (low if left else high, height),
        (-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=style.SMALL,
        color=style.darker(look.colour),
    )


def length_text(frame: pd.DataFrame, condition: str) -> str:
    """How a condition is summed, and N of every student with its interval and horizon; undefined
    with the reason."""
    rows = frame[frame.condition == condition]
    place = rows[rows.what == "cumulative_kl_position"]
    share = rows[rows.what == "cumulative_kl_threshold"].value.iloc[0] * PERCENT
    lengths = [
        f"{row.checkpoint} {bins.number(row, '.0f')} ({row.note})" for _, row in place.iterrows()
    ]
    return (
        f"{place.estimand.iloc[0]}; N, where {share:g} % is reached, in tokens: "
        f"{'; '.join(lengths)}."
    )
