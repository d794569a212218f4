"""Reverse KL by position before and after training: Fig. 3 right of arXiv 2605.27028, measured in
two views.

    a, b    reverse KL in each bin, of each student on its own rollouts and of all on those of
            the base student; a line above the axes: the positions that training saw
    c, d    its change from the base student by problem: the winsorised geometric mean of the
            problems' ratios, in per cent. It is not the ratio of two levels of a, b.
    e, f    the cascade ratio: reverse KL after / before over the positions from N on
    g       the published curves where they are given

N is the ``rollout_length`` of each student's rows; where no row has one, that of the cascade ratio.
The base student alone: reverse KL and both entropies side by side. Drawing reads rows of the
measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import ALL, BASE, FRESH, FROZEN, SURVIVORS, select

from . import bins, cascade, next_byte, style, words
from .artists import Look
from .bins import pick
from .colours import looks
from .layout import Block
from .page import Part, Sheet, drawing
from .position_curves import (
    CHANGE,
    LEVEL,
    PLAIN,
    PLAIN_CHANGE,
    Panel,
    banded,
    draw_survivors,
)
from .three_signals import ROBUST_SIGNALS, SIGNALS
from .trained_positions import (
    FIRST,
    LINE,
    drawn_lengths,
    length_text,
    lengths_text,
    trained_lengths,
)

VIEWS = {FRESH: "own rollouts", FROZEN: "the base's rollouts"}
SENTENCES = {FRESH: "Each on its own rollouts", FROZEN: "All on the base student's rollouts"}
LETTERS = {FRESH: "ace", FROZEN: "bdf"}
CASCADE = cascade.WHAT
TITLES = {PLAIN: "Reverse KL", PLAIN_CHANGE: "Change by problem"}
DRAWN = (PLAIN, LEVEL, PLAIN_CHANGE, CHANGE, CASCADE)
PLACE = Block(right=1.15, between=1.65, above=0.4)

CAPTION = """Reverse KL of the student from the teacher by response position{compared}. Lines:
    winsorised means with {level} problem-clustered intervals; dots: plain means; shades: {level}
    for all bins at once{trained}. {counts}."""
COMPARED = "; change: geometric mean of the problems' ratios, not the ratio of the levels"
SEEN = "; lines above: positions trained on"
DETAILS = """Reverse KL of the student from the teacher by response position ({estimand}), in nats.
    {panels} {dots} Bars: pointwise {level} intervals ({methods}); {arrowhead}. Shaded: {level} for
    all bins at once, of {banded}. {counts} {all_floors} {survivors} {published}"""
ALONE = "Beside it the entropies of student and teacher at the same positions."
ABOVE = """Above: level. Middle: change from the base student on the same view: {estimand}. It is
    not the ratio of two levels, which weigh problems by their reverse KL. Dots: {plain}."""
BELOW = """Below: cascade ratio, the mean from position {low:g} on, after / before
    (1: no change): {ratios}."""
TRAINED = "Lines above the axes: positions that training saw ({lengths})."
GIVEN = "Dotted: N = {length:g}, the rollout length that was given."
DASHED = "Dashed: {estimand}; intervals stand in the table (survivors)."


@next_byte.named
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
        parts, page = _compared(select(measurements, what=DRAWN))
        claim = LETTERS[FRESH]
    else:
        parts, page = _alone(measurements)
        claim = "abc"
    if published is not None:
        letter = words.LETTERS[len(parts)]
        parts[letter] = _published_part(letter, published)
        page.append(Block([[letter]], [1.2], right=4.5))
    return Sheet(parts, page, claim=claim)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    levels = _of(measurements, LEVEL)[:1]
    return words.filled(
        CAPTION,
        levels,
        compared=COMPARED if len(_of(measurements, CHANGE)) else "",
        trained=SEEN if trained_lengths(measurements) else "",
        counts=words.first_counts(measurements, levels["view"].iloc[0]).capitalize(),
    )


@next_byte.named
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
        banded=" and ".join(map(words.named, banded(looks(measurements)))) or "none",
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
    changes, plain = _of(frame, CHANGE), _of(frame, PLAIN_CHANGE)
    estimands = [str(rows.estimand.iloc[0]) if len(rows) else "none" for rows in (changes, plain)]
    sentences.append(ABOVE.format(estimand=estimands[0], plain=estimands[1]))
    lengths = trained_lengths(frame)
    for low in _of(frame, CASCADE).position_low.head(1):
        sentences.append(BELOW.format(low=low, ratios=_ratios_text(frame, views)))
        if not lengths:
            sentences.append(GIVEN.format(length=low))
    if lengths:
        sentences.append(TRAINED.format(lengths=lengths_text(lengths)))
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
        rows = pick(frame, LEVEL, view, BASE, SURVIVORS)
        draw_survivors(axes, {BASE: rows}, looks(frame), "a")

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
    known, lengths = _named_looks(frame), trained_lengths(frame)
    trained = {name: look for name, look in looks(frame).items() if name != BASE}
    lines = FIRST + LINE * (len(drawn_lengths(lengths)) - 1) if lengths else 0.0
    place = replace(PLACE, above=PLACE.above + max(0.0, lines - FIRST) / style.POINTS_PER_INCH)
    parts: dict[str, Part] = {}
    for letters, view in zip(LETTERS.values(), views):
        of_view = select(frame, view=view)
        for letter, what in zip(letters[:2], (PLAIN, PLAIN_CHANGE), strict=True):
            panel = Panel(frame, of_view, letter, what, known, lengths)
            title = f"{TITLES[what]}, {VIEWS[view]}"
            parts[letter] = panel.part(title, replace(place, mosaic=[[letter]], heights=[1.5]))
        title = f"Cascade ratio, {VIEWS[view]}"
        parts[letters[2]] = cascade.cascade_part(frame, view, letters[2], title, trained, place)
    rows = (("ab", 1.5), ("cd", 1.3), ("ef", cascade.height(len(trained))))
    page = [replace(place, mosaic=[list(row[: len(views)])], heights=[high]) for row, high in rows]
    return dict(sorted(parts.items())), page


def _published_part(letter: str, published: pd.DataFrame) -> Part:
    curves = {str(name): rows for name, rows in published.groupby("checkpoint")}
    known = {name: bins.published_look(name) for name in curves}
    return Part(
        "Published: reverse KL of another pair",
        Block([[letter]], [1.5], right=1.15),
        lambda axes: bins.draw_published(axes[letter], curves, known),
        colour=style.PUBLISHED,
    )


def _named_looks(frame: pd.DataFrame) -> dict[str, Look]:
    """The students, named with the rollout length of their training where they differ by it."""
    known, lengths = looks(frame), trained_lengths(frame)
    if len(set(lengths.values())) > 1:
        for name, length in lengths.items():
            named = f"{known[name].name} ({length_text(length)})"
            known[name] = replace(known[name], name=named)
    return known
