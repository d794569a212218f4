"""Accuracy against the rollout length N at which training rollouts stop: Fig. 1 right of arXiv
2605.27028, measured.

For each checkpoint rule (last, best) a panel of accuracy, with base student, teacher and full
rollout across it, and one of the difference from full rollout on the same problems (from the base
student where no full rollout was trained). The published curve has a panel of its own.

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import FULL

from . import arms, artists, style, words
from .arms import ESR, PREFIX, REFERENCES, VIEWS, Number, Sweep, bar_handles, draw_number
from .artists import PERCENT
from .curves import draw_reference
from .layout import Block
from .page import Part, Sheet, drawing

PUBLISHED = replace(ESR, name="ESR at N", colour=style.PUBLISHED, line="--")
PUBLISHED_FULL = replace(PUBLISHED, name="full rollout", line=":")
LEVEL, CHANGE = "level", "change"
HEIGHTS = {LEVEL: 1.75, CHANGE: 1.5}
ASIDE = 3.4  # points of the single seeds from their mean: less than a marker's width
CAPTION = """{what} of students trained on rollouts that stop at N tokens, at the
    {views}{difference}. {counts}. Broad bars and shades: {level} intervals over problems;
    thin: over seeds; small marks: each seed."""
DETAILS = """Accuracy ({what}) of students trained on rollouts that stop at N tokens (ESR), at the
    {views}. {counts}. Dashed: base student, teacher and full rollout on the same problems.
    {differences} {theirs} {intervals}"""
DIFFERENCES = "Differences from {other} are paired by problem, and over seeds by seed."


@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.sweep.measure`.
        published: rows of `publication.n_sweep`, in a grey panel of their own.

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
    kinds = [LEVEL, CHANGE] if sweep.other else [LEVEL]
    limits = _limits(sweep)
    parts, rows = {}, []
    letters = iter(words.LETTERS)
    for kind in kinds:
        row = [next(letters) for _ in sweep.views]
        rows.append(row)
        for letter, view in zip(row, sweep.views, strict=True):
            parts[letter] = _part(sweep, view, kind, letter, limits[kind])
    if published is not None:
        letter = next(letters)
        rows.append([letter])
        parts[letter] = _published_part(published, letter)
    return Sheet(parts, _page(rows))


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    sweep = Sweep.of(measurements)
    other = REFERENCES.get(sweep.other)
    return words.filled(
        CAPTION,
        sweep.arms,
        what=words.printed(sweep.what, sweep.rule),
        views=" and ".join(VIEWS[view] for view in sweep.views),
        difference=f", and its difference from {other.name}" if other else "",
        counts=sweep.counts,
    )


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, answer rule, and how the intervals were made."""
    sweep = Sweep.of(measurements)
    differences = ""
    if sweep.other:
        differences = DIFFERENCES.format(other=REFERENCES[sweep.other].name)
    return words.filled(
        DETAILS,
        what=words.printed(sweep.what, sweep.rule),
        views=" and at the ".join(VIEWS[view] for view in sweep.views),
        counts=sweep.counts,
        differences=differences,
        theirs=arms.published_text(published),
        intervals=arms.interval_text(sweep.arms),
    )


def _page(rows: list[list[str]]) -> list[Block]:
    """Levels above differences, the checkpoint rules beside each other; of a single rule all two in
    a row. Half a page has room for the names at the ends of the curves."""
    if len(rows[0]) == 1:
        panels = [row[0] for row in rows]
        rows = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    place = Block(right=0.9, between=1.45)
    blocks = []
    for row in rows:
        filled = row + ["."] * (2 - len(row))
        blocks.append(replace(place, mosaic=[filled], heights=[HEIGHTS[LEVEL]]))
    return blocks


def _part(sweep: Sweep, view: str, kind: str, letter: str, limits: tuple[float, float]) -> Part:
    titles = {LEVEL: f"Accuracy of ESR at N, {VIEWS[view]}"}
    if sweep.other:
        titles[CHANGE] = f"Difference from {REFERENCES[sweep.other].name}, {view} checkpoint"
    drawn = {LEVEL: _levels, CHANGE: _changes}[kind]

    def draw(axes: dict[str, Axes]) -> None:
        axes[letter].set_ylim(*limits)
        style.ticks_within(axes[letter], upright=True, most=6, share=kind == LEVEL)
        drawn(axes[letter], sweep, view, letter)

    block = Block([[letter]], [HEIGHTS[kind]], right=0.9)
    return Part(titles[kind], block, draw, bar_handles())


def _numbers(sweep: Sweep, what: str, view: str) -> dict[float, tuple[str, Number]]:
    """By rollout length: the prefix arm there and its number."""
    rows = vocabulary.select(sweep.arms, what=what, view=view, selector=PREFIX)
    lengths = dict(zip(rows.checkpoint, rows.rollout_length, strict=True))
    numbers = arms.numbers(rows)
    return {lengths[arm]: (arm, numbers[arm]) for arm in sorted(numbers, key=lengths.__getitem__)}


def _limits(sweep: Sweep) -> dict[str, tuple[float, float]]:
    """The same heights in the panels of every checkpoint rule."""
    levels, changes, lines = [], [], []
    for view in sweep.views:
        levels += [number for _, number in _numbers(sweep, sweep.what, view).values()]
        change = sweep.difference(sweep.other)
        changes += [number for _, number in _numbers(sweep, change, view).values()]
        lines += [end for line in sweep.references(view).values() for end in line]
    low, high = arms.span(levels, lines, least=10.0)
    return {
        LEVEL: (max(low, -2.0), min(high, 102.0)),
        CHANGE: arms.span(changes, [0.0], least=10.0),
    }


def _length_axis(axes: Axes, lengths: list[float]) -> None:
    """On a logarithmic axis, with numbers where they have room."""
    axes.set_xscale("log")
    low, high = min(lengths), max(lengths)
    factor = 1.35 if low == high else (high / low) ** 0.07
    axes.set_xlim(low / factor, high * factor)
    style.ticks(axes, {length: f"{length:g}" for length in lengths}, 16.0)
    axes.set_xlabel("N, tokens of a training rollout (log axis)")


def _levels(axes: Axes, sweep: Sweep, view: str, letter: str) -> None:
    numbers = _numbers(sweep, sweep.what, view)
    _length_axis(axes, sorted(numbers))
    arms.say_if_none(axes, [number for _, number in numbers.values()])
    labels = []
    for name, line in sweep.references(view).items():
        labels += draw_reference(axes, line, REFERENCES[name], f"{letter}.line.{name}")
    _curve(axes, numbers, letter)
    length = max(numbers)
    if not math.isnan(numbers[length][1].value):
        labels.append(style.EndLabel(length, numbers[length][1].value, "ESR at N", ESR.colour))
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{words.printed(sweep.what, sweep.rule)} (%)")


def _curve(axes: Axes, numbers: dict[float, tuple[str, Number]], letter: str) -> None:
    """The means joined by a line, each with its bars and seeds."""
    means = [number.value for _, number in numbers.values()]
    gid = f"{letter}.curve"
    axes.plot(list(numbers), means, color=ESR.colour, linewidth=1.1, zorder=2.5, gid=gid)
    for length, (arm, number) in numbers.items():
        draw_number(axes, length, number, ESR, f"{letter}.{arm}", upright=True, aside=ASIDE)


def _published_part(published: pd.DataFrame, letter: str) -> Part:
    return Part(
        "Published: another pair, MATH-500",
        Block([[letter]], [HEIGHTS[CHANGE]], right=0.9),
        lambda axes: _published(axes[letter], published),
        colour=style.PUBLISHED,
    )


def _published(axes: Axes, published: pd.DataFrame) -> None:
    """The published curve, and its full rollout as a dotted line, on axes of their own."""
    curve = vocabulary.rows(published, selector=PREFIX).sort_values("rollout_length")
    lengths, values = curve.rollout_length, curve.value * PERCENT
    _length_axis(axes, lengths.tolist())
    drawn = vocabulary.rows(published, selector=[PREFIX, FULL])
    low, high = arms.span([], (drawn.value * PERCENT).tolist(), least=10.0)
    axes.set_ylim(low, high)
    style.ticks_within(axes, upright=True, most=6, share=True)
    artists.points(axes, lengths, values, PUBLISHED, "published", joined=True)
    last = lengths.iloc[-1], values.iloc[-1]
    labels = [style.EndLabel(*last, PUBLISHED.name, style.PUBLISHED)]
    for value in published.value[published.checkpoint == FULL] * PERCENT:
        number = (value, math.nan, math.nan)
        labels += draw_reference(axes, number, PUBLISHED_FULL, "published.full")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "avg@4 (%)")


def _changes(axes: Axes, sweep: Sweep, view: str, letter: str) -> None:
    numbers = _numbers(sweep, sweep.difference(sweep.other), view)
    other = REFERENCES[sweep.other]
    _length_axis(axes, sorted(numbers) or [1.0])
    arms.say_if_none(axes, [number for _, number in numbers.values()])
    artists.across(axes, (0.0, math.nan, math.nan), other, f"{letter}.zero")
    _curve(axes, numbers, letter)
    style.name_y_axis(axes, "difference (points)")
