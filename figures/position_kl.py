"""Reverse KL by position before and after training: Fig. 3 right of arXiv 2605.27028, measured in
two views.

    a, b    mean reverse KL in each bin, of each student on its own rollouts and of all on those of
            the base student: the positions that training saw, and the gap to the base student that
            it closed, are shaded
    c, d    its change against the base student, in per cent
    e, f    the cascade ratio: reverse KL after / before over the positions from N on

N is the ``rollout_length`` of each student's rows; where no row has one, that of the cascade ratio.
The base student alone:
reverse KL and both entropies side by side. Drawing reads rows of the measurements table and
computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import bins, closed_gap, colours, style
from .bins import PUBLISHED_CAPTION, pick
from .curves import PERCENT, Look

VIEWS = {"fresh": "each on its own rollouts", "frozen": "all on the base student's rollouts"}
TEXTS = {"fresh": "own rollouts", "frozen": "the base student's rollouts"}
SIGNALS = {
    "reverse_kl": "Reverse KL",
    "student_entropy": "Student entropy",
    "teacher_entropy": "Teacher entropy",
}
LEVEL, CHANGE = bins.robust("reverse_kl"), bins.robust("reverse_kl_relative_change")
CASCADE, SURVIVORS = "cascade_ratio", "survivors"
CEILING = (
    4.0  # of the axis of ratios, unless a ratio itself is higher: intervals may be of any length
)
MOST_LABELLED = 4  # curves named at their ends; of more there is a key above the panels
LABEL = 17  # characters a line of those names


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.position_kl.measure`.
        published: rows of `decaylab.paper.publication.position_kl`, drawn grey, dashed and hollow
        in panel a.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no reverse KL by position.
    """
    if not len(_of(measurements, LEVEL)):
        raise ValueError(
            "measurements hold no winsorised_reverse_kl of condition 'all'; measure position KL "
            "first"
        )
    with style.context():
        if not len(_of(measurements, CHANGE)):
            return _alone(measurements, published, width)
        return _compared(measurements, published, width)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, estimand, intervals, counts and noise floor."""
    levels = _of(measurements, LEVEL)
    level, methods = f"{levels.level.iloc[0] * PERCENT:g} %", sorted({*levels.method} - {""})
    views = [view for view in VIEWS if (levels["view"] == view).any()]
    text = [
        "Reverse KL of the student from the teacher by response position "
        f"({levels.estimand.iloc[0]}), in nats."
    ]
    compared = len(_of(measurements, CHANGE)) > 0
    if compared:
        names = dict(
            zip(views, ("a, c, e", "b, d, f") if len(views) > 1 else ("all panels",), strict=True)
        )
        text += [f"({names[view]}) {VIEWS[view].capitalize()}." for view in views]
        text.append("Above: level. Middle: change against the base student on the same view.")
        for row in _of(measurements, CASCADE).head(1).itertuples():
            text.append(
                f"Below: cascade ratio, the mean from position {row.position_low:g} on, after / "
                "before (1: no change)."
            )
        text += [*_trained_sentences(measurements), _gap_sentence(measurements)]
    else:
        text.append("Beside it the entropies of student and teacher at the same positions.")
    text.append(
        "Dots: plain means over tokens, in which a few problems may weigh so much that no "
        "interval of them holds."
    )
    text.append(
        f"Bars: pointwise {level} intervals ({'; '.join(methods)}); an arrowhead: the interval "
        "goes on beyond the frame."
    )
    text.append(
        f"Thin dotted lines: {level} for all bins at once, of the base student and the last "
        "checkpoint."
        if compared
        else f"Shaded: {level} for all bins at once, of the base student."
    )
    text += [f"{view.capitalize()}: {bins.counts_text(measurements, view)}." for view in views]
    text.append(
        bins.floor_text(
            measurements[measurements.what.isin([*map(bins.robust, SIGNALS), CHANGE, CASCADE])]
        )
    )
    survivors = measurements[(measurements.condition == SURVIVORS) & (measurements.what == LEVEL)]
    if len(survivors):
        text.append(
            f"Dashed: {survivors.estimand.iloc[0]}; intervals stand in the table (survivors)."
        )
    return " ".join([*text, *([PUBLISHED_CAPTION] if published is not None else [])])


def _trained_sentences(frame: pd.DataFrame) -> list[str]:
    """Which positions the training of each student saw."""
    known = {
        name: closed_gap.length_text(length)
        for name, length in closed_gap.trained_lengths(frame).items()
    }
    if known:
        told = "; ".join(f"{name} {text}" for name, text in known.items())
        return [f"Cream: positions that training saw, rollouts of which stopped at N ({told})."]
    lengths = _of(frame, CASCADE).position_low.head(1)
    return [
        f"Cream: positions below N = {length:g}, the rollout length that was given."
        for length in lengths
    ]


def _gap_sentence(frame: pd.DataFrame) -> str:
    names = closed_gap.closed(_looks(frame))
    order = ", the first in front" if len(names) > 1 else ""
    return (
        f"Coloured area: how far the level of {' and of '.join(names)} lies below that of the "
        f"base student{order}."
    )


def _of(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    return frame[(frame.what == what) & (frame.condition == "all")]


def _looks(frame: pd.DataFrame) -> dict[str, Look]:
    return colours.recoloured(bins.looks(frame), frame)


# The base student alone


def _alone(frame: pd.DataFrame, published: pd.DataFrame | None, width: style.Width) -> Figure:
    view = str(_of(frame, LEVEL)["view"].iloc[0])
    known = [*bins.looks(frame).values(), *bins.published_looks(published)]
    head = 0.3 + bins.key_height(known, width)
    figure = style.new_figure(
        width, head + (2.1 if width == "page" else 0.37 + bins.SIGNAL_STEP * len(SIGNALS))
    )
    axes = bins.signal_axes(figure, SIGNALS, figure.get_size_inches()[1] - head)
    bins.draw_signals(axes, frame, view, published)
    _survivors(axes["reverse_kl"], frame, view, "reverse_kl")
    bins.key(figure, known)
    bins.note(figure, _note(frame), published)
    return figure


# Before and after


def _compared(frame: pd.DataFrame, published: pd.DataFrame | None, width: style.Width) -> Figure:
    views = [view for view in VIEWS if len(frame[(frame.what == CHANGE) & (frame["view"] == view)])]
    found = _looks(frame)
    crowded = len(found) > MOST_LABELLED
    head = 0.36 + (bins.key_height(found.values(), width) if crowded else 0.0)
    figure, axes = (_page if width == "page" else _column)(
        views, 0.16 * (len(found) - 1) + 0.1, head
    )
    for (level, change, cascade), view in zip(
        (("a", "c", "e"), ("b", "d", "f")), views, strict=False
    ):
        labels = _levels(axes[level], frame, view, level, published if view == "fresh" else None)
        style.label_ends(
            axes[level],
            [label for label in labels if not crowded or label.colour == style.PUBLISHED],
        )
        labels = _changes(axes[change], frame, view, change)
        style.label_ends(axes[change], [] if crowded else labels)
        _cascade(axes[cascade], frame, view, cascade)
        axes[level].set_title(f"{level}  Level, {VIEWS[view]}", pad=14)
        axes[change].set_title(f"{change}  Change, {TEXTS[view]}", pad=14)
        axes[cascade].set_title(f"{cascade}  Cascade ratio, {TEXTS[view]}")
    if crowded:
        bins.key(
            figure, [replace(look, name=_named(frame, name, look)) for name, look in found.items()]
        )
    bins.note(figure, _note(frame), published)
    return figure


def _page(views: list[str], low: float, head: float) -> tuple[Figure, dict[str, Axes]]:
    """Levels, changes and ratios, the last ``low`` inches high, below each other; a column for each
    view."""
    foot, steps = 0.82, ((1.5, 0.6), (1.3, 0.85), (low, 0.0))
    figure = style.new_figure("page", head + sum(map(sum, steps)) + foot)
    axes = {}
    for i, names in enumerate(["ace", "bdf"][: len(views)]):
        left, top = 0.55 + 3.5 * i, figure.get_size_inches()[1] - head
        for name, (height, below) in zip(names, steps, strict=True):
            axes[name] = style.add_axes(figure, left, top - height, left + 1.85, top)
            top -= height + below
    return figure, axes


def _column(views: list[str], low: float, head: float) -> tuple[Figure, dict[str, Axes]]:
    """All panels below each other."""
    heights = {"a": 1.5, "b": 1.5, "c": 1.3, "d": 1.3, "e": low, "f": low}
    names, gap = ("abcdef" if len(views) > 1 else "ace"), 0.85
    figure = style.new_figure("column", head + sum(heights[name] + gap for name in names) + 0.2)
    axes, top = {}, figure.get_size_inches()[1] - head
    for name in names:
        axes[name] = style.add_axes(figure, 0.55, top - heights[name], 2.3, top)
        top -= heights[name] + gap
    return figure, axes


def _levels(
    axes: Axes, frame: pd.DataFrame, view: str, panel: str, published: pd.DataFrame | None
) -> list[style.EndLabel]:
    found = _looks(frame)
    curves = {name: pick(frame, LEVEL, view, name) for name in found}
    everywhere = _of(frame, LEVEL)  # both views on one scale
    bins.position_axis(axes, everywhere, name=style.root(axes).get_size_inches()[0] < bins.WIDE)
    behind = bins.published_within(published, "reverse_kl", axes)
    bins.value_axis(axes, [everywhere, _of(frame, "reverse_kl"), *behind.values()])
    bins.draw_floor(axes, curves.values(), f"{panel}.floor")
    labels = bins.draw_published(axes, behind, panel)
    closed_gap.draw_gaps(axes, curves, found, panel)
    for name in ("base", list(found)[-1]):
        closed_gap.outline_band(axes, curves[name], found[name], f"{panel}.{name}.band")
    style.name_y_axis(axes, "reverse KL (nats)")
    _mark_rollout_length(axes, frame, panel)
    _survivors(axes, frame, view, panel)
    return labels + _curves(axes, frame, curves, found, panel, "reverse_kl", view)


def _changes(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> list[style.EndLabel]:
    found = {name: look for name, look in _looks(frame).items() if name != "base"}
    curves = {name: pick(frame, CHANGE, view, name) for name in found}
    everywhere = _of(frame, CHANGE)
    bins.position_axis(axes, _of(frame, LEVEL))
    bins.value_axis(
        axes, [everywhere, _of(frame, "reverse_kl_relative_change")], PERCENT, change=True
    )
    bins.draw_floor(axes, curves.values(), f"{panel}.floor", PERCENT, change=True)
    axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    last = list(found)[-1]
    closed_gap.outline_band(axes, curves[last], found[last], f"{panel}.{last}.band", PERCENT)
    style.name_y_axis(axes, "change (%)")
    _mark_rollout_length(axes, frame, panel)
    return _curves(axes, frame, curves, found, panel, "reverse_kl_relative_change", view, PERCENT)


def _curves(
    axes: Axes,
    frame: pd.DataFrame,
    curves: dict[str, pd.DataFrame],
    found: dict[str, Look],
    panel: str,
    plain: str,
    view: str,
    scale: float = 1.0,
) -> list[style.EndLabel]:
    labels = []
    for shift, (name, rows) in zip(
        bins.shifts(axes, pd.concat([*curves.values()]), len(curves)), curves.items(), strict=True
    ):
        drawn = bins.draw_bins(axes, rows, found[name], f"{panel}.{name}", shift, scale)
        bins.draw_plain(
            axes, pick(frame, plain, view, name), found[name], f"{panel}.{name}", shift, scale
        )
        text = textwrap.fill(_named(frame, name, found[name]), LABEL)
        labels += [replace(label, text=text) for label in drawn]
    return labels


def _named(frame: pd.DataFrame, name: str, look: Look) -> str:
    """The student's name, with the rollout length of its training where students differ by it."""
    lengths = closed_gap.trained_lengths(frame)
    if name not in lengths or len(set(lengths.values())) < 2:
        return look.name
    return f"{look.name} ({closed_gap.length_text(lengths[name])})"


def _survivors(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> None:
    """Dashed beside each level: the same over the rollouts of a least length alone, where that was
    measured."""
    rows = frame[(frame.what == LEVEL) & (frame.condition == SURVIVORS) & (frame["view"] == view)]
    for name, look in _looks(frame).items():
        own = rows[(rows.checkpoint == name) & rows.value.notna()].sort_values("position_low")
        if len(own):
            axes.plot(
                bins.bin_places(own)[2],
                own.value,
                linestyle=(0, (3, 2)),
                linewidth=0.9,
                color=look.colour,
                zorder=2,
                gid=f"{panel}.{name}.survivors",
            )


def _mark_rollout_length(axes: Axes, frame: pd.DataFrame, panel: str) -> None:
    """The positions that training saw: up to the N of each student, or up to where the cascade
    ratio begins."""
    known = [
        length for length in closed_gap.trained_lengths(frame).values() if math.isfinite(length)
    ]
    closed_gap.draw_trained(axes, known, panel, said=True)
    if not known:
        closed_gap.draw_trained(
            axes, _of(frame, CASCADE).position_low.head(1).tolist(), panel, said=False
        )


def _cascade(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> None:
    """A dot with its interval for each checkpoint, the number beside it."""
    found = {name: look for name, look in _looks(frame).items() if name != "base"}
    rows = {name: pick(frame, CASCADE, view, name) for name in found}
    every = _of(frame, CASCADE)
    ceiling = max(CEILING, every.value.max()) if every.value.notna().any() else CEILING
    ends = every[["value", "low", "high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    low, high = min([0.95, *ends]), min(max([1.05, *ends]), ceiling)
    axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.axvline(1.0, color=style.INK, linewidth=0.6, zorder=0)
    labels = []
    for i, (name, row) in enumerate(rows.items()):
        bins.draw_dots(axes, row, [i], found[name], f"{panel}.{name}")
        labels += [(i, bins.number(one), found[name].colour) for _, one in row.iterrows()]
    for i, text, colour in labels:
        axes.annotate(
            text,
            (1.0, i),
            (9, 0),
            axes.get_yaxis_transform(),
            "offset points",
            va="center",
            fontsize=style.SMALL,
            color=style.darker(colour),
        )
    axes.set_xlabel(
        f"reverse KL from {every.position_low.iloc[0]:g} on, after / before" if len(every) else ""
    )


def _note(frame: pd.DataFrame) -> str:
    row = _of(frame, LEVEL).iloc[0]
    level, (name, counts) = (
        f"{row.level * PERCENT:g} %",
        next(iter(bins.counts(frame, row["view"]).items())),
    )
    more = (
        "dotted: for all bins at once; areas: what training closed"
        if len(_of(frame, CHANGE))
        else ""
    )
    return (
        f"Bars: {level} intervals, problem-clustered; {more or 'shaded: for all bins at once'}. "
        f"{bins.ROBUST_NOTE} {counts} of {bins.named(name)}."
    )
