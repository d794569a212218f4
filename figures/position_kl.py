"""Reverse KL by position before and after training: Fig. 3 right of arXiv 2605.27028, measured in
two views.

    a, b    mean reverse KL in each bin, of each student on its own rollouts and of all on those of
            the base student; a line above the axes: the positions that training saw
    c, d    its change against the base student, in per cent
    e, f    the cascade ratio: reverse KL after / before over the positions from N on
    g       the published curves where they are given

N is the ``rollout_length`` of each student's rows; where no row has one, that of the cascade ratio.
The base student alone: reverse KL and both entropies side by side. Drawing reads rows of the
measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import ALL, BASE, FRESH, FROZEN, select

from . import artists, bins, style, words
from .artists import NUMBERS, PERCENT, Look
from .bins import pick
from .colours import looks, short
from .curves import shifts
from .page import Block, Part, Sheet, drawing
from .three_signals import ROBUST_SIGNALS, SIGNALS
from .trained_positions import (
    LINE,
    MOST,
    draw_given,
    draw_trained,
    length_text,
    trained_lengths,
)

VIEWS = {FRESH: "own rollouts", FROZEN: "the base's rollouts"}
SENTENCES = {FRESH: "Each on its own rollouts", FROZEN: "All on the base student's rollouts"}
LETTERS = {FRESH: "ace", FROZEN: "bdf"}
PLAIN, PLAIN_CHANGE = "reverse_kl", "reverse_kl_relative_change"
LEVEL, CHANGE = bins.robust(PLAIN), bins.robust(PLAIN_CHANGE)
CASCADE, SURVIVORS = "cascade_ratio", "survivors"
CEILING = 4.0  # of the axis of ratios, unless a ratio itself is higher: intervals have any length
MOST_LABELLED = 4  # curves named at their ends; of more there is a key above the panels
LABEL = 17  # characters a line of those names
MARGIN = 17  # characters of a name beside a ratio
PLACE = Block(right=1.15, between=1.65, above=0.4)

CAPTION = """Reverse KL of the student from the teacher by response position{ratio}. Lines:
    winsorised means with {level} problem-clustered intervals; dots: plain means; shades: {level}
    for all bins at once{trained}. {counts}."""
RATIO = "; cascade ratio: from position {low:g} on, after / before training"
SEEN = "; lines above: positions that training saw"
DETAILS = """Reverse KL of the student from the teacher by response position ({estimand}), in nats.
    {panels} {dots} Bars: pointwise {level} intervals ({methods}); {arrowhead}. Shaded: {level} for
    all bins at once, of {banded}. {counts} {all_floors} {survivors} {published}"""
ALONE = "Beside it the entropies of student and teacher at the same positions."
ABOVE = "Above: level. Middle: change against the base student on the same view."
BELOW = """Below: cascade ratio, the mean from position {low:g} on, after / before
    (1: no change): {ratios}."""
TRAINED = "Lines above the axes: positions that training saw ({lengths})."
GIVEN = "Dotted: N = {length:g}, the rollout length that was given."
DASHED = "Dashed: {estimand}; intervals stand in the table (survivors)."


@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.position_kl.measure`.
        published: rows of `decaylab.paper.publication.position_kl`, in a grey panel of their own.

    Raises:
        ValueError: the rows hold no reverse KL by position.
    """
    if not len(_of(measurements, LEVEL)):
        raise ValueError(
            "measurements hold no winsorised_reverse_kl of condition 'all'; measure position KL "
            "first"
        )
    if len(_of(measurements, CHANGE)):
        parts, page = _compared(measurements)
    else:
        parts, page = _alone(measurements)
    if published is not None:
        letter = words.LETTERS[len(parts)]
        parts[letter] = _published_part(letter, published)
        page.append(Block([[letter]], [1.2], right=4.5))
    return Sheet(parts, page)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    levels = _of(measurements, LEVEL)[:1]
    ratio = [RATIO.format(low=low) for low in _of(measurements, CASCADE).position_low.head(1)]
    return words.filled(
        CAPTION,
        levels,
        ratio="".join(ratio),
        trained=SEEN if trained_lengths(measurements) else "",
        counts=words.first_counts(measurements, levels["view"].iloc[0]).capitalize(),
    )


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, estimand, intervals, counts and noise floor."""
    levels = _of(measurements, LEVEL)
    views = [view for view in VIEWS if (levels["view"] == view).any()]
    survivors = select(measurements, what=LEVEL, condition=SURVIVORS)
    floored = select(measurements, what=ROBUST_SIGNALS + [CHANGE, CASCADE])
    counts = [f"{SENTENCES[view]}: {words.counts_text(measurements, view)}." for view in views]
    panels = ALONE
    if len(_of(measurements, CHANGE)):
        panels = _panels_text(measurements, views)
    return words.filled(
        DETAILS,
        levels,
        published,
        panels=panels,
        banded=" and ".join(map(words.named, _banded(looks(measurements)))) or "none",
        counts=" ".join(counts),
        all_floors=words.floor_text(floored),
        survivors=words.filled(DASHED if len(survivors) else "", survivors),
    )


def _panels_text(frame: pd.DataFrame, views: list[str]) -> str:
    """What each panel shows, and which positions training saw."""
    sentences = []
    for view in views:
        letters = ", ".join(LETTERS[view]) if len(views) > 1 else "all panels"
        sentences.append(f"({letters}) {SENTENCES[view]}.")
    sentences.append(ABOVE)
    lengths = trained_lengths(frame)
    for low in _of(frame, CASCADE).position_low.head(1):
        sentences.append(BELOW.format(low=low, ratios=_ratios_text(frame, views)))
        if not lengths:
            sentences.append(GIVEN.format(length=low))
    if lengths:
        known = [f"{name} {length_text(length)}" for name, length in lengths.items()]
        sentences.append(TRAINED.format(lengths="; ".join(known)))
    return " ".join(sentences)


def _ratios_text(frame: pd.DataFrame, views: list[str]) -> str:
    """The cascade ratio of every student on each view."""
    ratios = []
    for view in views:
        of_view = [
            f"{row.checkpoint} {words.number(row)}"
            for _, row in select(_of(frame, CASCADE), view=view).iterrows()
        ]
        ratios.append(f"{VIEWS[view]} {', '.join(of_view)}")
    return "; ".join(ratios)


def _of(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    return select(frame, what=what, condition=ALL)


def _alone(frame: pd.DataFrame) -> tuple[dict[str, Part], list[Block]]:
    """The base student alone: its three signals."""
    view = str(_of(frame, LEVEL)["view"].iloc[0])

    def survivors(axes: Axes) -> None:
        _survivors(axes, frame, view, "a")

    names = (PLAIN, "student_entropy", "teacher_entropy")
    more = {PLAIN: survivors}
    parts = {
        letter: bins.signal_part(letter, name, SIGNALS[name], frame, view, more.get(name))
        for letter, name in zip("abc", names, strict=True)
    }
    return parts, [bins.signal_row("abc")]


# Before and after


def _compared(frame: pd.DataFrame) -> tuple[dict[str, Part], list[Block]]:
    """Levels, changes and ratios below each other; a column for each view on a page."""
    views = [view for view in VIEWS if len(select(frame, what=CHANGE, view=view))]
    low = min(0.16 * (len(looks(frame)) - 1) + 0.1, 1.8)
    parts: dict[str, Part] = {}
    for letters, view in zip(LETTERS.values(), views):
        level, change, ratio = list(letters)
        parts[level] = _part(frame, view, level, PLAIN, f"Reverse KL, {VIEWS[view]}", 1.5)
        parts[change] = _part(frame, view, change, PLAIN_CHANGE, f"Change, {VIEWS[view]}", 1.5)
        parts[ratio] = _cascade_part(frame, view, ratio, low)
    rows = (("ab", 1.5), ("cd", 1.3), ("ef", low))
    page = [replace(PLACE, mosaic=[list(row[: len(views)])], heights=[high]) for row, high in rows]
    return dict(sorted(parts.items())), page


def _part(frame: pd.DataFrame, view: str, letter: str, what: str, title: str, high: float) -> Part:
    known = {
        name: replace(look, name=_named(frame, name, look)) for name, look in looks(frame).items()
    }
    crowded = len(known) > MOST_LABELLED

    def draw(axes: dict[str, Axes]) -> None:
        labels = _panel(axes[letter], frame, view, letter, what)
        if not crowded:
            style.label_ends(axes[letter], labels)

    block = replace(PLACE, mosaic=[[letter]], heights=[high])
    key = bins.handles(known) if crowded else []
    finite = [length for length in trained_lengths(frame).values() if math.isfinite(length)]
    lines = min(len(finite), MOST)
    return Part(title, block, draw, key, pad=6.0 + LINE * lines if lines else 12.0)


def _cascade_part(frame: pd.DataFrame, view: str, letter: str, low: float) -> Part:
    block = replace(PLACE, mosaic=[[letter]], heights=[low], above=0.3)
    title = f"Cascade ratio, {VIEWS[view]}"
    return Part(title, block, lambda axes: _cascade(axes[letter], frame, view, letter))


def _published_part(letter: str, published: pd.DataFrame) -> Part:
    curves = {str(name): rows for name, rows in published.groupby("checkpoint")}
    known = {name: bins.published_look(name) for name in curves}
    return Part(
        "Published: reverse KL of another pair",
        Block([[letter]], [1.5], right=1.15),
        lambda axes: bins.draw_published(axes[letter], curves, known),
        colour=style.PUBLISHED,
    )


def _banded(known: Mapping[str, Look]) -> list[str]:
    """Whose bands are shaded: the base student's and the last checkpoint's; those of many would
    cover each other."""
    return [name for name in dict.fromkeys([BASE, list(known)[-1]]) if name in known]


def _panel(
    axes: Axes, frame: pd.DataFrame, view: str, panel: str, plain: str
) -> list[style.EndLabel]:
    """Levels, or changes in per cent, of each student; the labels of its curves."""
    change = plain == PLAIN_CHANGE
    known, what, scale = looks(frame), bins.robust(plain), 1.0
    if change:
        known.pop(BASE, None)  # it has not changed against itself
        scale = PERCENT
    curves = {name: pick(frame, what, view, name) for name in known}
    bins.position_axis(axes, _of(frame, LEVEL))
    every = select(frame, what=[what, plain], condition=ALL)  # both views on one scale
    bins.value_axis(axes, [every], scale, change=change)
    bins.draw_floor(axes, curves.values(), f"{panel}.floor", scale, change=change)
    style.name_y_axis(axes, "change (%)" if change else "reverse KL (nats)")
    if change:
        axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    else:
        _survivors(axes, frame, view, panel)
    for name in _banded(known):
        rows, gid = curves[name], f"{panel}.{name}.band"
        artists.band(axes, bins.bin_places(rows)[2], rows, known[name].colour, gid, scale)
    lengths = trained_lengths(frame)
    draw_trained(axes, lengths, looks(frame), panel)
    for given in [] if lengths else _of(frame, CASCADE).position_low.head(1):
        draw_given(axes, given, panel)
    aside = shifts(len(curves), artists.MARKER)
    labels = []
    for shift, (name, rows) in zip(aside, curves.items(), strict=True):
        look, gid = known[name], f"{panel}.{name}"
        drawn = bins.draw_bins(axes, rows, look, gid, shift, scale)
        bins.draw_plain(axes, pick(frame, plain, view, name), look, gid, shift, scale)
        text = textwrap.fill(_named(frame, name, look), LABEL)
        labels += [replace(label, text=text) for label in drawn]
    return labels


def _named(frame: pd.DataFrame, name: str, look: Look) -> str:
    """The student's name, with the rollout length of its training where students differ by it."""
    lengths = trained_lengths(frame)
    if name not in lengths or len(set(lengths.values())) < 2:
        return look.name
    return f"{look.name} ({length_text(lengths[name])})"


def _survivors(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> None:
    """Dashed beside each level: the same over the rollouts of a least length alone, where that was
    measured."""
    for name, look in looks(frame).items():
        rows = pick(frame, LEVEL, view, name, SURVIVORS).dropna(subset="value")
        dashed = replace(look, marker="", line="--")
        place, gid = bins.bin_places(rows)[2], f"{panel}.{name}.survivors"
        artists.points(axes, place, rows.value, dashed, gid, joined=True, linewidth=0.9, zorder=2)


def _cascade(axes: Axes, frame: pd.DataFrame, view: str, panel: str) -> None:
    """A dot with its interval for each checkpoint, named beside it."""
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
    room = style.size_points(axes)[1] / max(1, len(known))
    for height, (name, look) in enumerate(known.items()):
        rows = pick(frame, CASCADE, view, name)
        drawn, gid = rows.dropna(subset="value"), f"{panel}.{name}"
        heights = [height] * len(drawn)
        artists.draw(axes, heights, drawn, look, gid, upright=False)
        colour = style.darker(look.colour)
        if room > style.SMALL:
            undefined = "" if len(drawn) else " –"
            name = short(look.name, MARGIN - len(undefined)) + undefined
            artists.beside(axes, height, name, 9, colour=colour, align="left")
    for low in every.position_low.head(1):
        axes.set_xlabel(f"reverse KL from {low:g} on, after / before")
