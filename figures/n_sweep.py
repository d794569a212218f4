"""Accuracy against the rollout length N at which training rollouts stop: Fig. 1 right of arXiv
2605.27028, measured.

For each checkpoint rule (last, best) a panel of accuracy, with base student, teacher and full
rollout across it, and one of the difference from full rollout on the same problems (from the base
student where no full rollout was trained).

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import FULL

from . import arms, artists, style, words
from .arms import ESR, PREFIX, REFERENCES, VIEWS, Number, Sweep, bar_handles, draw_number
from .artists import PERCENT
from .curves import draw_reference
from .page import Block, page

PUBLISHED = replace(ESR, name="published", colour=style.PUBLISHED, line="--")
PUBLISHED_FULL = replace(PUBLISHED, name="published full", line=":")
LEVEL, CHANGE = "level", "change"
HEIGHTS = {LEVEL: 1.75, CHANGE: 1.3}
ASIDE = 4.5  # points of the single seeds from their mean
CAPTION = """Accuracy ({what}) of students trained on rollouts that stop at N tokens (ESR), at the
    {views}. {counts}. Dashed: base student, teacher and full rollout on the same problems.
    {differences} {theirs} {intervals}"""
DIFFERENCES = "Differences from {other} are paired by problem, and over seeds by seed."
NOTE = "Bars, shaded: {level} intervals. {counts}."


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
        LookupError: a number of an arm lacks its mean over problems or over seeds.
    """
    sweep = Sweep.of(measurements)
    if vocabulary.select(sweep.arms, what=sweep.what, selector=PREFIX).empty:
        raise ValueError(
            "measurements hold no accuracy of a prefix arm; pass those of a sweep over "
            "rollout-length"
        )
    views = sweep.views
    kinds = [LEVEL, CHANGE] if sweep.other else [LEVEL]
    handles = bar_handles()
    if published is not None:
        handles.append(artists.handle(PUBLISHED))
    note = words.filled(NOTE, measurements, counts=sweep.counts)
    with style.context():
        block = _block(views, kinds, width)
        figure, panels = page(width, [block], handles=handles, note=note)
        names = itertools.chain.from_iterable(block.mosaic)
        letters = dict(zip(names, words.LETTERS))
        _limits(panels, sweep, published)
        for view in views:
            theirs = published if view == views[-1] else None
            _levels(panels[LEVEL + view], sweep, view, letters[LEVEL + view], theirs)
            if sweep.other:
                _changes(panels[CHANGE + view], sweep, view, letters[CHANGE + view])
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, answer rule, and how the intervals were
    made."""
    sweep = Sweep.of(measurements)
    differences = ""
    if sweep.other:
        differences = DIFFERENCES.format(other=REFERENCES[sweep.other].name)
    return words.filled(
        CAPTION,
        what=words.printed(sweep.what),
        views=" and at the ".join(VIEWS[view] for view in sweep.views),
        counts=sweep.counts,
        differences=differences,
        theirs=arms.published_text(published),
        intervals=arms.interval_text(sweep.arms),
    )


def _block(views: list[str], kinds: list[str], width: style.Width) -> Block:
    """Levels above differences, the checkpoint rules beside each other; of a single rule the two
    beside each other."""
    if width == "column":
        mosaic = [[kind + view] for view in views for kind in kinds]
        return Block(mosaic, [HEIGHTS[kind] for kind in kinds] * len(views), right=0.9, apart=0.64)
    if len(views) > 1:
        mosaic = [[kind + view for view in views] for kind in kinds]
        heights = [HEIGHTS[kind] for kind in kinds]
    else:
        mosaic, heights = [[kind + views[0] for kind in kinds]], [HEIGHTS[LEVEL]]
    # Half a page has room for the names at the ends of the curves.
    right = 0.9 if len(mosaic[0]) > 1 else 4.4
    return Block(mosaic, heights, right=right, between=1.45, apart=0.64)


def _numbers(sweep: Sweep, what: str, view: str) -> dict[float, tuple[str, Number]]:
    """By rollout length: the prefix arm there and its number."""
    rows = vocabulary.select(sweep.arms, what=what, view=view, selector=PREFIX)
    lengths = dict(zip(rows.checkpoint, rows.rollout_length, strict=True))
    numbers = arms.numbers(rows)
    return {lengths[arm]: (arm, numbers[arm]) for arm in sorted(numbers, key=lengths.__getitem__)}


def _limits(panels: dict[str, Axes], sweep: Sweep, published: pd.DataFrame | None) -> None:
    """The same heights in the panels of every checkpoint rule."""
    levels, changes, lines = [], [], []
    for view in sweep.views:
        levels += [number for _, number in _numbers(sweep, sweep.what, view).values()]
        change = sweep.difference(sweep.other)
        changes += [number for _, number in _numbers(sweep, change, view).values()]
        lines += [end for line in sweep.references(view).values() for end in line]
    # The published curve is in one panel, but all panels of levels have the same heights
    if published is not None:
        lines += (published.value * PERCENT).tolist()
    low, high = arms.span(levels, lines, least=10.0)
    ends = {
        LEVEL: (max(low, -2.0), min(high, 102.0)),
        CHANGE: arms.span(changes, [0.0], least=10.0),
    }
    for name, axes in panels.items():
        axes.set_ylim(*ends[LEVEL if name.startswith(LEVEL) else CHANGE])
        style.ticks_within(axes, upright=True, most=6)


def _length_axis(axes: Axes, lengths: list[float]) -> None:
    """On a logarithmic axis, with numbers where they have room."""
    axes.set_xscale("log")
    low, high = min(lengths), max(lengths)
    factor = 1.35 if low == high else (high / low) ** 0.07
    axes.set_xlim(low / factor, high * factor)
    style.ticks(axes, {length: f"{length:g}" for length in lengths}, 16.0)
    axes.set_xlabel("N, tokens of a training rollout (log axis)")


def _levels(
    axes: Axes, sweep: Sweep, view: str, letter: str, published: pd.DataFrame | None
) -> None:
    numbers = _numbers(sweep, sweep.what, view)
    lengths = {*numbers}
    if published is not None:
        lengths |= set(published[published.selector == PREFIX].rollout_length)
    _length_axis(axes, sorted(lengths))
    labels = []
    for name, line in sweep.references(view).items():
        labels += draw_reference(axes, line, REFERENCES[name], f"{letter}.line.{name}")
    if published is not None:
        labels += _published(axes, published, letter)
    _curve(axes, numbers, letter)
    length = max(numbers)
    labels.append(style.EndLabel(length, numbers[length][1].value, "ESR at N", ESR.colour))
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{words.printed(sweep.what)} (%)")
    axes.set_title(f"{letter}  {VIEWS[view].capitalize()}")


def _curve(axes: Axes, numbers: dict[float, tuple[str, Number]], letter: str) -> None:
    """The means joined by a line, each with its bars and seeds."""
    means = [number.value for _, number in numbers.values()]
    gid = f"{letter}.curve"
    axes.plot(list(numbers), means, color=ESR.colour, linewidth=1.1, zorder=2.5, gid=gid)
    for length, (arm, number) in numbers.items():
        draw_number(axes, length, number, ESR, f"{letter}.{arm}", upright=True, aside=ASIDE)


def _published(axes: Axes, published: pd.DataFrame, letter: str) -> list[style.EndLabel]:
    """The published curve, and its full rollout as a dotted line."""
    curve = vocabulary.rows(published, selector=PREFIX).sort_values("rollout_length")
    lengths, values = curve.rollout_length, curve.value * PERCENT
    artists.points(axes, lengths, values, PUBLISHED, f"{letter}.published", joined=True)
    last = lengths.iloc[-1], values.iloc[-1]
    labels = [style.EndLabel(*last, "published ESR", style.PUBLISHED)]
    for value in published.value[published.checkpoint == FULL] * PERCENT:
        number = (value, math.nan, math.nan)
        labels += draw_reference(axes, number, PUBLISHED_FULL, f"{letter}.published.full")
    return labels


def _changes(axes: Axes, sweep: Sweep, view: str, letter: str) -> None:
    numbers = _numbers(sweep, sweep.difference(sweep.other), view)
    other = REFERENCES[sweep.other]
    _length_axis(axes, sorted(numbers) or [1.0])
    artists.across(axes, (0.0, math.nan, math.nan), other, f"{letter}.zero")
    _curve(axes, numbers, letter)
    style.name_y_axis(axes, "difference (points)")
    axes.set_title(f"{letter}  \u0394 from {other.name}, {view} checkpoint")
