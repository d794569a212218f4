"""Accuracy against the rollout length N at which training rollouts stop: Fig. 1 right of arXiv
2605.27028, measured.

For each checkpoint rule (last, best) a panel of accuracy, with base student, teacher and full
rollout across it, and one of the difference to full rollout on the same problems (to the base
student where no full rollout was trained).

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from . import arms, style
from .arms import ESR, REFERENCES, Number, across, bar_handles, draw_number, look_handle, reported
from .artists import PERCENT

PREFIX = "prefix"
PUBLISHED = replace(ESR, name="published", colour=style.PUBLISHED, line="--")
LEVEL_INCHES, CHANGE_INCHES, GAP = 1.75, 1.3, 0.66


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.sweep.measure`.
        published: rows of `publication.n_sweep`, drawn grey, dashed and hollow where the best
        checkpoint is, if it is.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no accuracy of a prefix arm.
    """
    what, rule = reported(measurements)
    rows = measurements[(measurements.condition == rule) & (measurements.selector != "")]
    if not ((rows.what == what) & (rows.selector == PREFIX)).any():
        raise ValueError(
            "measurements hold no accuracy of a prefix arm; pass those of a sweep over "
            "rollout-length"
        )
    views = arms.views_of(rows[rows.what == what])
    other = _other(rows, what)
    note = _note(measurements)
    handles = [*bar_handles(), *([look_handle(PUBLISHED)] if published is not None else [])]
    with style.context():
        head, foot = arms.key_inches(len(handles), width), arms.foot_inches(note, width)
        figure, axes = _layout(views, other, width, head, foot)
        _limits(axes, measurements, what, other, published)
        for place, view in enumerate(views):
            theirs = published if published is not None and view == views[-1] else None
            letter = "abcd"[2 * place] if width == "column" else "abcd"[place]
            _levels(axes[view, "level"], measurements, view, letter, theirs)
            if other:
                _changes(
                    axes[view, "change"],
                    measurements,
                    view,
                    _after(letter, len(views), width),
                    other,
                )
        arms.key(figure, handles, width)
        arms.foot(figure, note, width)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, answer rule, and how the intervals were
    made."""
    what, rule = reported(measurements)
    rows = measurements[(measurements.condition == rule) & (measurements.selector != "")]
    other = _other(rows, what)
    text = [
        f"Accuracy ({arms.samples_of(what)}) of students trained on rollouts that stop at N "
        "tokens (ESR), at the "
        f"{' and at the '.join(arms.VIEWS[view] for view in arms.views_of(rows[rows.what == what]))}.",  # noqa: E501
        f"{arms.counts(measurements, what, rule)}.",
        "Dashed: base student, teacher and full rollout on the same problems.",
    ]
    if other:
        text.append(
            f"Differences to {REFERENCES[other].name} are paired by problem, and over seeds by "
            "seed."
        )
    if published is not None:
        text.append(arms.published_text(published))
    return " ".join([*text, arms.interval_text(rows)])


def _note(measurements: pd.DataFrame) -> str:
    what, rule = reported(measurements)
    level = f"{measurements.level.iloc[0] * PERCENT:g} %"
    return f"Bars, shaded: {level} intervals. {arms.counts(measurements, what, rule)}."


def _other(rows: pd.DataFrame, what: str) -> str:
    """What the difference is taken to."""
    return next(
        (name for name in ("full", "base") if (rows.what == f"{what}_minus_{name}").any()), ""
    )


def _after(letter: str, views: int, width: style.Width) -> str:
    """The letter of the panel of differences that goes with one of levels."""
    return chr(ord(letter) + (1 if width == "column" or views == 1 else 2))


def _layout(
    views: list[str], other: str, width: style.Width, head: float, foot: float
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Levels above differences, the checkpoint rules beside each other; of a single rule the two
    beside each other."""
    kinds = ["level", "change"] if other else ["level"]
    title, axis = 0.22, 0.42
    if width == "page" and len(views) > 1:
        spots = {
            (view, kind): (place, row)
            for place, view in enumerate(views)
            for row, kind in enumerate(kinds)
        }
    elif width == "page":
        spots = {(views[0], kind): (place, 0) for place, kind in enumerate(kinds)}
    else:
        order = [(view, kind) for view in views for kind in kinds]
        spots = {key: (0, row) for row, key in enumerate(order)}
    heights: dict[int, float] = {}
    for (_, kind), (_, row) in spots.items():
        heights[row] = max(
            heights.get(row, 0.0), LEVEL_INCHES if kind == "level" else CHANGE_INCHES
        )
    total = head + foot + sum(heights.values()) + len(heights) * (title + axis)
    figure = style.new_figure(width, total)
    axes = {}
    for key, (column, row) in spots.items():
        left = 0.55 + 3.5 * column
        top = total - head - title - sum(heights[above] + title + axis for above in range(row))
        axes[key] = style.add_axes(
            figure, left, top - heights[row], left + (2.05 if width == "page" else 1.95), top
        )
    return figure, axes


def _limits(
    axes: dict[tuple[str, str], Axes],
    measurements: pd.DataFrame,
    what: str,
    other: str,
    published: pd.DataFrame | None,
) -> None:
    """The same heights in the panels of every checkpoint rule."""
    _, rule = reported(measurements)
    views = sorted({view for view, _ in axes})
    levels = [number for view in views for _, number in _numbers(measurements, what, view).values()]
    lines = [
        end
        for name in REFERENCES
        for view in views
        for end in arms.reference(measurements, what, rule, name, view)
    ]
    theirs = [] if published is None else (published.value.to_numpy(dtype=float) * PERCENT).tolist()
    low, high = arms.span(levels, [*lines, *theirs], least=10.0)
    changes = [
        number
        for view in views
        for _, number in _numbers(measurements, f"{what}_minus_{other}", view).values()
    ]
    ends = {
        "level": (max(low, -2.0), min(high, 102.0)),
        "change": arms.span(changes, [0.0], least=10.0),
    }
    for (_, kind), one in axes.items():
        one.set_ylim(*ends[kind])
        arms.value_ticks(one, 6, upright=True)


def _length_axis(axes: Axes, lengths: list[float], *, name: bool = True) -> None:
    """On a logarithmic axis, with numbers where they have room."""
    axes.set_xscale("log")
    low, high = min(lengths), max(lengths)
    factor = 1.35 if low == high else (high / low) ** 0.07
    axes.set_xlim(low / factor, high * factor)
    across_points = style.size_points(axes)[0]
    ends = np.log(axes.get_xlim())
    places = [
        (math.log(length) - ends[0]) / (ends[1] - ends[0]) * across_points for length in lengths
    ]
    shown = set(style.far_apart(places, 16.0))
    axes.set_xticks(
        lengths, [f"{length:g}" if i in shown else "" for i, length in enumerate(lengths)]
    )
    axes.xaxis.set_minor_locator(NullLocator())
    if name:
        axes.set_xlabel("N, tokens of a training rollout (log axis)")


def _numbers(measurements: pd.DataFrame, what: str, view: str) -> dict[float, tuple[str, Number]]:
    """By rollout length: the prefix arm there and its number."""
    _, rule = reported(measurements)
    rows = measurements[
        (measurements.what == what)
        & (measurements.condition == rule)
        & (measurements["view"] == view)
        & (measurements.selector == PREFIX)
    ]
    groups = (own for _, own in rows.groupby("rollout_length", sort=True))
    return {
        float(own.rollout_length.iloc[0]): (str(own.checkpoint.iloc[0]), Number.of(own))
        for own in groups
    }


def _levels(
    axes: Axes, measurements: pd.DataFrame, view: str, letter: str, published: pd.DataFrame | None
) -> None:
    what, rule = reported(measurements)
    numbers = _numbers(measurements, what, view)
    lines = {name: arms.reference(measurements, what, rule, name, view) for name in REFERENCES}
    theirs = published[published.selector == PREFIX] if published is not None else None
    lengths = sorted({*numbers, *(theirs.rollout_length if theirs is not None else [])})
    _length_axis(axes, lengths)
    labels = []
    right = axes.get_xlim()[1]
    for name, line in lines.items():
        across(axes, line, REFERENCES[name], f"{letter}.line.{name}")
        if not math.isnan(line[0]):
            labels.append(
                style.EndLabel(right, line[0], REFERENCES[name].name, REFERENCES[name].colour)
            )
    if published is not None and theirs is not None:
        labels += _published(axes, published, theirs, letter)
    _curve(axes, numbers, letter)
    if numbers:
        length = max(numbers)
        labels.append(style.EndLabel(length, numbers[length][1].value, "ESR at N", ESR.colour))
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{arms.samples_of(what)} (%)")
    axes.set_title(f"{letter}  {_titled(view)}")


def _titled(view: str) -> str:
    return arms.VIEWS[view].capitalize()


def _curve(axes: Axes, numbers: dict[float, tuple[str, Number]], letter: str) -> None:
    """The means joined by a line, each with its bars and seeds."""
    axes.plot(
        list(numbers),
        [number.value for _, number in numbers.values()],
        color=ESR.colour,
        linewidth=1.1,
        zorder=2.5,
        gid=f"{letter}.curve",
    )
    low, high = axes.get_xlim()
    factor = (high / low) ** (4.5 / style.size_points(axes)[0])  # so many points aside
    for length, (arm, number) in numbers.items():
        draw_number(
            axes, length, number, ESR, f"{letter}.{arm}", upright=True, aside=(factor - 1) * length
        )


def _published(
    axes: Axes, published: pd.DataFrame, theirs: pd.DataFrame, letter: str
) -> list[style.EndLabel]:
    """The published curve, and its full rollout as a dotted line."""
    ordered = theirs.sort_values("rollout_length")
    x, y = ordered.rollout_length.to_numpy(float), ordered.value.to_numpy(float) * PERCENT
    axes.plot(
        x,
        y,
        color=style.PUBLISHED,
        linestyle="--",
        linewidth=0.9,
        marker=ESR.marker,
        markersize=4.0,
        markerfacecolor="white",
        markeredgecolor=style.PUBLISHED,
        markeredgewidth=0.9,
        gid=f"{letter}.published",
        zorder=1.5,
    )
    labels = [style.EndLabel(float(x[-1]), float(y[-1]), "published ESR", style.PUBLISHED)]
    for value in published.value[published.checkpoint == "full"].to_numpy(dtype=float) * PERCENT:
        axes.axhline(
            value,
            color=style.PUBLISHED,
            linewidth=0.8,
            linestyle=":",
            gid=f"{letter}.published.full",
            zorder=1,
        )
        labels.append(
            style.EndLabel(axes.get_xlim()[1], float(value), "published full", style.PUBLISHED)
        )
    return labels


def _changes(axes: Axes, measurements: pd.DataFrame, view: str, letter: str, other: str) -> None:
    what, _ = reported(measurements)
    numbers = _numbers(measurements, f"{what}_minus_{other}", view)
    _length_axis(axes, sorted(numbers) or [1.0])
    axes.axhline(
        0.0,
        color=REFERENCES[other].colour,
        linewidth=0.9,
        linestyle="--",
        zorder=1,
        gid=f"{letter}.zero",
    )
    _curve(axes, numbers, letter)
    style.name_y_axis(axes, "difference (points)")
    axes.set_title(f"{letter}  Less {REFERENCES[other].name}, {arms.SHORT_VIEWS[view]} checkpoint")
