"""Reverse KL by position before and after training: Fig. 3 right of arXiv 2605.27028, measured in
two views.

    a, b    mean reverse KL in each bin, of each student on its own rollouts and of all on those of
            the base student: the positions that training saw, and the gap to the base student that
            it closed, are shaded
    c, d    its change against the base student, in per cent
    e, f    the cascade ratio: reverse KL after / before over the positions from N on

N is the ``rollout_length`` of each student's rows; where no row has one, that of the cascade ratio.
The base student alone: reverse KL and both entropies side by side. Drawing reads rows of the
measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.runs.vocabulary import ALL, BASE, FRESH, FROZEN, select

from . import artists, bins, closed_gap, style, words
from .artists import NUMBERS, PERCENT, Look
from .bins import pick
from .colours import looks
from .page import Block, page
from .three_signals import ROBUST_SIGNALS, SIGNALS

VIEWS = {FRESH: "each on its own rollouts", FROZEN: "all on the base student's rollouts"}
SHORT_VIEWS = {FRESH: "own rollouts", FROZEN: "the base student's rollouts"}
LETTERS = {FRESH: "ace", FROZEN: "bdf"}
PLAIN, PLAIN_CHANGE = "reverse_kl", "reverse_kl_relative_change"
LEVEL, CHANGE = bins.robust(PLAIN), bins.robust(PLAIN_CHANGE)
CASCADE, SURVIVORS = "cascade_ratio", "survivors"
CEILING = 4.0  # of the axis of ratios, unless a ratio itself is higher: intervals have any length
MOST_LABELLED = 4  # curves named at their ends; of more there is a key above the panels
LABEL = 17  # characters a line of those names

NOTE = """Bars: {level} intervals, problem-clustered; {marks}. {lines_and_dots} {counts}.
    {published_note}"""
CAPTION = """Reverse KL of the student from the teacher by response position ({estimand}), in nats.
    {panels} {dots} Bars: pointwise {level} intervals ({methods}); {arrowhead}. {bands} {counts}
    {all_floors} {survivors} {published}"""
ALONE = "Beside it the entropies of student and teacher at the same positions."
ABOVE = "Above: level. Middle: change against the base student on the same view."
BELOW = """Below: cascade ratio, the mean from position {low:g} on, after / before
    (1: no change)."""
GAP = "Coloured area: how far the level of {names} lies below that of the base student{order}."
TRAINED = "Cream: positions that training saw, rollouts of which stopped at N ({lengths})."
GIVEN = "Cream: positions below N = {length:g}, the rollout length that was given."
DOTTED = """Thin dotted lines: {level} for all bins at once, of the base student and the last
    checkpoint."""
SHADED = "Shaded: {level} for all bins at once, of the base student."
DASHED = "Dashed: {estimand}; intervals stand in the table (survivors)."


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
    views = [view for view in VIEWS if (levels["view"] == view).any()]
    survivors = select(measurements, what=LEVEL, condition=SURVIVORS)
    floored = select(measurements, what=ROBUST_SIGNALS + [CHANGE, CASCADE])
    counts = [f"{view.capitalize()}: {words.counts_text(measurements, view)}." for view in views]
    panels, bands = ALONE, SHADED
    if len(_of(measurements, CHANGE)):
        panels, bands = _panels_text(measurements, views), DOTTED
    return words.filled(
        CAPTION,
        levels,
        published,
        panels=panels,
        bands=words.filled(bands, levels),
        counts=" ".join(counts),
        all_floors=words.floor_text(floored),
        survivors=words.filled(DASHED if len(survivors) else "", survivors),
    )


def _panels_text(frame: pd.DataFrame, views: list[str]) -> str:
    """What each panel shows, which positions training saw, and which gap it closed."""
    sentences = []
    for view in views:
        letters = ", ".join(LETTERS[view]) if len(views) > 1 else "all panels"
        sentences.append(f"({letters}) {VIEWS[view].capitalize()}.")
    sentences.append(ABOVE)
    lengths = closed_gap.trained_lengths(frame)
    for low in _of(frame, CASCADE).position_low.head(1):
        sentences.append(BELOW.format(low=low))
        if not lengths:
            sentences.append(GIVEN.format(length=low))
    if lengths:
        known = [f"{name} {closed_gap.length_text(length)}" for name, length in lengths.items()]
        sentences.append(TRAINED.format(lengths="; ".join(known)))
    names = closed_gap.closed(looks(frame))
    order = ", the first in front" if len(names) > 1 else ""
    sentences.append(GAP.format(names=" and of ".join(names), order=order))
    return " ".join(sentences)


def _of(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    return select(frame, what=what, condition=ALL)


def _note(frame: pd.DataFrame, published: pd.DataFrame | None, marks: str) -> str:
    levels = _of(frame, LEVEL)[:1]
    counts = words.first_counts(frame, levels["view"].iloc[0])
    return words.filled(NOTE, levels, published, marks=marks, counts=counts)


def _alone(frame: pd.DataFrame, published: pd.DataFrame | None, width: style.Width) -> Figure:
    """The base student alone: its three signals."""
    view = str(_of(frame, LEVEL)["view"].iloc[0])
    titles = {name: SIGNALS[name] for name in (PLAIN, "student_entropy", "teacher_entropy")}
    block = bins.signal_block(titles, width)
    note = _note(frame, published, "shaded: for all bins at once")
    figure, axes = page(width, [block], handles=bins.handles(looks(frame), published), note=note)
    bins.draw_signals(axes, titles, frame, view, published)
    _survivors(axes[PLAIN], frame, view, PLAIN)
    return figure


# Before and after


def _compared(frame: pd.DataFrame, published: pd.DataFrame | None, width: style.Width) -> Figure:
    views = [view for view in VIEWS if len(select(frame, what=CHANGE, view=view))]
    known = looks(frame)
    crowded = len(known) > MOST_LABELLED
    named = {name: replace(look, name=_named(frame, name, look)) for name, look in known.items()}
    note = _note(frame, published, "dotted: for all bins at once; areas: what training closed")
    blocks = _blocks(views, 0.16 * (len(known) - 1) + 0.1, width)
    handles = bins.handles(named) if crowded else []
    figure, axes = page(width, blocks, handles=handles, note=note)
    for letters, view in zip(LETTERS.values(), views):
        level, change, cascade = (axes[letter] for letter in letters)
        theirs = published if view == FRESH else None
        for panel, letter, what in ((level, letters[0], PLAIN), (change, letters[1], PLAIN_CHANGE)):
            labels = _panel(panel, frame, view, letter, what, theirs)
            if crowded:
                labels = [label for label in labels if label.colour == style.PUBLISHED]
            style.label_ends(panel, labels)
        _cascade(cascade, frame, view, letters[2])
        level.set_title(f"{letters[0]}  Level, {VIEWS[view]}", pad=14)
        change.set_title(f"{letters[1]}  Change, {SHORT_VIEWS[view]}", pad=14)
        cascade.set_title(f"{letters[2]}  Cascade ratio, {SHORT_VIEWS[view]}")
        if width == "page":
            level.set_xlabel("")  # the panel below names the same axis
    return figure


def _blocks(views: list[str], low: float, width: style.Width) -> list[Block]:
    """Levels, changes and ratios, the last ``low`` inches high, below each other; a column for each
    view on a page."""
    rows = {row[: len(views)]: high for row, high in (("ab", 1.5), ("cd", 1.3), ("ef", low))}
    if width == "column":
        place = Block(right=1.1, above=0.4)
        rows = {name: high for row, high in rows.items() for name in row}
    else:
        place = Block(right=1.15, between=1.65, above=0.36)
    return [replace(place, mosaic=[list(row)], heights=[high]) for row, high in rows.items()]


def _panel(
    axes: Axes,
    frame: pd.DataFrame,
    view: str,
    panel: str,
    plain: str,
    published: pd.DataFrame | None,
) -> list[style.EndLabel]:
    """Levels, or changes in per cent, of each student; the labels of its curves."""
    change = plain == PLAIN_CHANGE
    known, what, scale = looks(frame), bins.robust(plain), 1.0
    if change:
        known.pop(BASE, None)  # it has not changed against itself
        scale = PERCENT
    curves = {name: pick(frame, what, view, name) for name in known}
    bins.position_axis(axes, _of(frame, LEVEL))
    behind = bins.published_within(None if change else published, PLAIN, axes)
    every = select(frame, what=[what, plain], condition=ALL)  # both views on one scale
    bins.value_axis(axes, [every, *behind.values()], scale, change=change)
    bins.draw_floor(axes, curves.values(), f"{panel}.floor", scale, change=change)
    style.name_y_axis(axes, "change (%)" if change else "reverse KL (nats)")
    labels = bins.draw_published(axes, behind, panel)
    if change:
        axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    else:
        closed_gap.draw_gaps(axes, curves, known, panel)
        _survivors(axes, frame, view, panel)
    for name in {BASE, list(known)[-1]} & known.keys():
        closed_gap.outline_band(axes, curves[name], known[name], f"{panel}.{name}.band", scale)
    _mark_rollout_length(axes, frame, panel)
    aside = bins.bin_shifts(axes, pd.concat(curves.values()), len(curves))
    for shift, (name, rows) in zip(aside, curves.items(), strict=True):
        look, gid = known[name], f"{panel}.{name}"
        drawn = bins.draw_bins(axes, rows, look, gid, shift, scale)
        bins.draw_plain(axes, pick(frame, plain, view, name), look, gid, shift, scale)
        text = textwrap.fill(_named(frame, name, look), LABEL)
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
    for name, look in looks(frame).items():
        rows = pick(frame, LEVEL, view, name, SURVIVORS).dropna(subset="value")
        dashed = replace(look, marker="", line="--")
        place, gid = bins.bin_places(rows)[2], f"{panel}.{name}.survivors"
        artists.points(axes, place, rows.value, dashed, gid, joined=True, linewidth=0.9, zorder=2)


def _mark_rollout_length(axes: Axes, frame: pd.DataFrame, panel: str) -> None:
    """The positions that training saw: up to the N of each student, or up to where the cascade
    ratio begins."""
    lengths = list(filter(math.isfinite, closed_gap.trained_lengths(frame).values()))
    # full rollouts have no N; without any N the measurement was still given one
    if not lengths:
        given = _of(frame, CASCADE).position_low.head(1).tolist()
        closed_gap.draw_trained(axes, given, panel, said=False)
    closed_gap.draw_trained(axes, lengths, panel, said=True)


def _cascade(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> None:
    """A dot with its interval for each checkpoint, the number beside it."""
    known = looks(frame)
    known.pop(BASE, None)
    every = _of(frame, CASCADE)
    ends = every[NUMBERS].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    ceiling = np.fmax(CEILING, every.value.max())  # undefined ones aside
    low, high = ends.min(initial=0.95), min(ends.max(initial=1.05), ceiling)
    axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    style.ticks_within(axes)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_yticks([])
    axes.axvline(1.0, color=style.INK, linewidth=0.6, zorder=0)
    for height, (name, look) in enumerate(known.items()):
        rows = pick(frame, CASCADE, view, name)
        drawn, gid = rows.dropna(subset="value"), f"{panel}.{name}"
        heights = [height] * len(drawn)
        artists.draw(axes, heights, drawn, look, gid, upright=False)
        for _, ratio in rows.iterrows():
            text, colour = words.number(ratio), style.darker(look.colour)
            artists.beside(axes, height, text, 9, colour=colour, align="left")
    for low in every.position_low.head(1):
        axes.set_xlabel(f"reverse KL from {low:g} on, after / before")
