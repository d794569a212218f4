"""Accuracy over the checkpoints of training runs: does a student fall after its best step? Per-step
tables, measured.

    first      a small panel for each arm: accuracy by training step, a line a seed
    then       a row for each arm: peak, last and lowest; how far peak and lowest lie apart, beside
               what chance gives; and how far the last checkpoint lies below the peak

On the test problems where every checkpoint was evaluated on them, else on held-out ones. Drawing
reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import FULL

from . import arms, artists, style, words
from .arms import Arm, Number, draw_number
from .artists import PERCENT, Look
from .curves import shifts, step_axis
from .page import Block, page

VIEWS = {"test": "test problems", "validation": "held-out problems"}
ACCURACY = "accuracy"
MARKS = {
    "peak_accuracy": ("^", "peak"),
    "last_accuracy": ("s", "last"),
    "lowest_accuracy": ("v", "lowest"),
}
APART, FALLEN, CHANCE = "peak_minus_lowest", "peak_minus_last", "peak_minus_lowest_by_chance"
PUBLISHED = Look("published", style.PUBLISHED, "o", "--")
BY_CHANCE = Look("by chance", "#888888", "|")
TICK: dict[str, Any] = {
    "markersize": 6.0,
    "markeredgewidth": 1.6,
    "markeredgecolor": BY_CHANCE.colour,
    "zorder": 1.5,
}
SETTING = "math500_n16"  # of the published steps: the one in which full rollout collapsed
ROWS = ["levels", APART, FALLEN]  # the panels of rows
TITLES: dict[style.Width, list[str]] = {
    "page": ["Peak, last, lowest", "Peak \u2212 lowest", "Peak \u2212 last"],
    "column": ["Peak, last,\nlowest", "Peak \u2212\nlowest", "Peak\n\u2212 last"],
}
MARKS_APART = 3.2  # points between peak, last and lowest of a row
ASIDE = 3.7  # points of the single seeds from their mean
SEEDS_APART = 2.0  # points between the lines of seeds, so that their bars can be told apart
LINES = ("-", "--", ":")
BRIDGE = 5.0  # points thick: from the lowest to the peak

CAPTION = """Accuracy over the checkpoints of each run on {problems}{rule}; {seeds}. Small panels:
    by training step, from the student before training at 0; a line a seed, bars: {level} intervals
    over problems ({methods}). Below: means over seeds of peak, last and lowest accuracy, of peak
    \u2212 lowest and of peak \u2212 last, thin bars: {level} Student t over the seeds (none with
    one seed, or where all agree); small marks: each seed. A peak is the highest of several noisy
    numbers and a lowest the lowest: biased away from each other. {chance} {theirs}"""
CHANCE_KNOWN = """Grey tick: how far apart they would be on average if all checkpoints were equally
    good."""
CHANCE_UNKNOWN = """How far apart chance alone puts them is not known here: outcomes by problem are
    not kept."""
PUBLISHED_CAPTION = """Grey and hollow: published, {run}, another pair and problem set, 16 rollouts
    per problem, without intervals."""
NOTE = """Bars: {level} intervals, in the small panels over problems, below over seeds. {problems},
    {seeds}. Peak and lowest are biased away from each other."""


@dataclass(frozen=True)
class Measures:
    """How large things are at a print width, in inches.

    a_row: small panels a row. panel, title: heights of a small panel and of its name. gap: between
    panels. names: room left of rows. row, head: heights of a row and of the titles above.
    shares: of the three panels of rows. characters, lines: of a name.
    """

    a_row: int
    panel: float
    title: float
    gap: float
    names: float
    row: float
    head: float
    shares: tuple[float, float, float]
    characters: int
    lines: int


MEASURES: dict[style.Width, Measures] = {
    "page": Measures(4, 0.66, 0.24, 0.16, 1.6, 0.17, 0.4, (0.44, 0.28, 0.28), 28, 1),
    "column": Measures(3, 0.55, 0.34, 0.13, 1.02, 0.23, 0.53, (0.42, 0.29, 0.29), 15, 2),
}
STEPS_INCHES = 0.18  # below a small panel that has its steps written


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.stability.measure`.
        published: rows of `publication.per_step`: a grey panel of its own for each arm of the
            setting that collapsed.
        width: ``column`` (3.4 in) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no peak over checkpoints.
        LookupError: a number of an arm lacks its mean over seeds.
    """
    rows = _of_one_view(measurements)
    shown = arms.arms_of(rows)
    theirs = _published_arms(published)
    curves = [vocabulary.rows(rows, checkpoint=arm.key, what=ACCURACY) for arm in shown]
    curves += theirs.values()
    steps = [tuple(sorted(curve.step.unique())) for curve in curves]
    # The same heights for every small panel. As intervals over seeds, which may not stretch the
    # axis to more than twice the values
    triples = (pd.concat(curves)[artists.NUMBERS] * PERCENT).itertuples(index=False, name=None)
    low, high = arms.span([Number(seeds=triple) for triple in triples], least=10.0)
    limits = max(low, -2.0), min(high, 102.0)
    sizes = MEASURES[width]
    with style.context():
        blocks = [*_small_blocks(steps, sizes), _rows_block(len(shown), sizes)]
        figure, axes = page(width, blocks, handles=_handles(rows), note=_filled(NOTE, rows))
        small = [axes[str(place)] for place in range(len(curves))]
        for place, panel in enumerate(small):
            # Limits come first: bars are cut off at the frame
            panel.set_ylim(*limits)
            style.ticks_within(panel, upright=True, most=4)
            step_axis(panel, steps[place])
            panel.tick_params(
                labelleft=place % sizes.a_row == 0,
                labelbottom=has_steps(steps, place, sizes.a_row),
            )
        for panel, arm, curve in zip(small, shown, curves):
            _curves(panel, curve, arm)
            _title(panel, arm.name, sizes)
        for panel, (name, curve) in zip(small[len(shown) :], theirs.items()):
            values = curve.value * PERCENT
            artists.points(panel, curve.step, values, PUBLISHED, f"published.{name}", joined=True)
            _title(panel, f"published, {_published_name(name)}", sizes, style.PUBLISHED)
        _name_values(figure, small)
        names = [name_of(arm.name, sizes) for arm in shown]
        arms.name_rows([axes[name] for name in ROWS], names)
        _levels(axes["levels"], rows, shown)
        _apart(axes[APART], rows, shown, APART)
        _apart(axes[FALLEN], rows, shown, FALLEN)
        for name, title in zip(ROWS, TITLES[width], strict=True):
            axes[name].set_title(title, pad=4)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, on which problems, counts, and how the intervals
    were made."""
    rows = _of_one_view(measurements)
    tested = (rows["view"] == "test").all()
    return _filled(
        CAPTION,
        rows,
        rule=f", answer rule {rows.answer_rule.iloc[0]}" if tested else "",
        methods=words.methods(vocabulary.rows(rows, what=ACCURACY)),
        chance=CHANCE_KNOWN if (rows.what == CHANCE).any() else CHANCE_UNKNOWN,
        theirs=words.of_published(PUBLISHED_CAPTION, published),
    )


def _of_one_view(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows on the test problems where every arm has them, else on the held-out ones."""
    peaks = vocabulary.select(measurements, what="peak_accuracy")
    if peaks.empty:
        raise ValueError(
            "measurements hold no peak over checkpoints; measure the stability of runs with several"
        )
    by_view = peaks.groupby("view").checkpoint.nunique()
    # Of views with as many arms, the test problems go first
    view = max(VIEWS, key=lambda view: (by_view.get(view, 0), view == "test"))
    whats = [ACCURACY, *MARKS, APART, FALLEN, CHANCE]
    return vocabulary.rows(measurements, view=view, what=whats)


def _filled(template: str, rows: pd.DataFrame, **fields: Any) -> str:
    """With the counts that caption and note share."""
    fields["problems"] = f"{rows.problems.max():,.0f} {VIEWS[rows['view'].iloc[0]]}"
    fields["seeds"] = words.per_arm(rows, "seed")
    return words.filled(template, rows, **fields)


def _handles(rows: pd.DataFrame) -> list[Artist]:
    seeds = sorted(rows.training_seed.dropna().unique())
    looks = [Look(f"seed {seed:g}", style.INK, "", line) for seed, line in zip(seeds, LINES)]
    handles: list[Artist] = [artists.handle(look, line=True, linewidth=1.0) for look in looks]
    handles += [artists.handle(Look(name, style.INK, mark)) for mark, name in MARKS.values()]
    if (rows.what == CHANCE).any():
        handles.append(artists.handle(BY_CHANCE, **TICK))
    return handles


def _published_arms(published: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """The rows of each published arm by step."""
    if published is None:
        return {}
    rows = vocabulary.rows(published, condition=SETTING).sort_values("step", kind="stable")
    names = vocabulary.rows(published, condition=SETTING).checkpoint.unique()
    return {str(name): rows[rows.checkpoint == name] for name in names}


def _published_name(name: str) -> str:
    return arms.REFERENCES[FULL].name if name == FULL else name.replace("prefix-", "ESR ")


# The page


def _small_blocks(steps: Sequence[tuple[float, ...]], sizes: Measures) -> list[Block]:
    """A row of small panels each, below it room for steps where they are written."""
    blocks = []
    for first in range(0, len(steps), sizes.a_row):
        places = range(first, min(first + sizes.a_row, len(steps)))
        row = [str(place) for place in places]
        written = any(has_steps(steps, place, sizes.a_row) for place in places)
        blocks.append(
            Block(
                [row + ["."] * (sizes.a_row - len(row))],
                [sizes.panel],
                between=sizes.gap,
                above=sizes.title,
                below=STEPS_INCHES if written else 0.0,
            )
        )
    return blocks


def _rows_block(count: int, sizes: Measures) -> Block:
    """Three panels beside each other, a row for each arm."""
    return Block(
        [ROWS],
        [sizes.row * count],
        left=sizes.names,
        widths=sizes.shares,
        between=sizes.gap,
        above=sizes.head,
    )


def has_steps(steps: Sequence[tuple[float, ...]], place: int, a_row: int) -> bool:
    """Whether a small panel has its steps written below: where the panel below it has others, or
    there is none."""
    below = place + a_row
    return below >= len(steps) or steps[below] != steps[place]


def name_of(name: str, sizes: Measures) -> str:
    """A name in as many lines as it may have, cut where that is too few."""
    lines = textwrap.wrap(name, sizes.characters) or [""]
    kept = lines[: sizes.lines]
    if len(lines) > sizes.lines:
        kept[-1] = kept[-1][: sizes.characters - 1] + "\u2026"
    return "\n".join(kept)


def _title(axes: Axes, name: str, sizes: Measures, colour: str = style.INK) -> None:
    """The name of a small panel above it."""
    title = axes.set_title(name_of(name, sizes), pad=3, color=colour)
    title.set(fontweight="normal", fontsize=style.SMALL, linespacing=1.0)


def _name_values(figure: Figure, small: Sequence[Axes]) -> None:
    """What the small panels show, once for all of them."""
    middle = (small[0].get_position().y1 + small[-1].get_position().y0) / 2
    left = 0.08 / figure.get_size_inches()[0]
    name = figure.text(left, middle, "accuracy (%), by training step", gid="values")
    name.set(rotation=90, va="center", ha="left", fontsize=style.SMALL)


# The panels


def _curves(axes: Axes, rows: pd.DataFrame, arm: Arm) -> None:
    """A line a seed, each moved aside."""
    seeds = sorted(rows.training_seed.unique())
    aside = shifts(len(seeds), SEEDS_APART)
    for seed, shift, line in zip(seeds, aside, itertools.cycle(LINES)):
        curve = rows[rows.training_seed == seed].sort_values("step")
        gid = f"{arm.key}.{seed:g}"
        value, low, high = (curve[name] * PERCENT for name in artists.NUMBERS)
        look = replace(arm.look, line=line)
        bars: dict[str, Any] = {"width": 0.6, "alpha": 0.5, "shift": shift}
        artists.intervals(axes, curve.step, low, high, look.colour, f"{gid}.bars", **bars)
        small: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0, "shift": shift}
        artists.points(axes, curve.step, value, look, gid, joined=True, linewidth=1.0, **small)


def _numbers(rows: pd.DataFrame, what: str) -> dict[str, Number]:
    """By arm, over seeds and singly; there is no interval over problems for several runs."""
    return arms.numbers(vocabulary.rows(rows, what=what), graded=False)


def _levels(axes: Axes, rows: pd.DataFrame, shown: Sequence[Arm]) -> None:
    """Peak, last and lowest of each arm, joined by a bridge."""
    by_mark = {what: _numbers(rows, what) for what in MARKS}
    numbers = [number for of_arms in by_mark.values() for number in of_arms.values()]
    low, high = arms.span(numbers, least=10.0)
    axes.set_xlim(max(low, -2.0), min(high, 102.0))
    style.ticks_within(axes, most=4)
    for row, arm in enumerate(shown):
        values = [by_mark[what][arm.key].value for what in MARKS]
        bridge = axes.hlines(row, min(values), max(values), arm.look.colour, zorder=1)
        bridge.set(linewidth=BRIDGE, alpha=0.25)
        for place, (what, (mark, _)) in enumerate(MARKS.items()):
            number = replace(by_mark[what][arm.key], singly=())
            look = replace(arm.look, marker=mark)
            shift = (place - 1) * MARKS_APART
            draw_number(axes, row, number, look, f"{what}.{arm.key}", shift=shift)
    axes.set_xlabel("accuracy (%)")


def _apart(axes: Axes, rows: pd.DataFrame, shown: Sequence[Arm], what: str) -> None:
    """The peak's difference from another, from 0; and, from the lowest, what chance alone would
    give."""
    numbers = _numbers(rows, what)
    chance: Mapping[str, Number] = {}
    if what == APART and (rows.what == CHANCE).any():
        chance = _numbers(rows, CHANCE)
    ends = [0.0, *(number.value for number in chance.values())]
    _, high = arms.span(numbers.values(), ends, least=5.0)
    axes.set_xlim(0.0, high)
    style.ticks_within(axes, most=3)
    for row, arm in enumerate(shown):
        draw_number(axes, row, numbers[arm.key], arm.look, f"{what}.{arm.key}", aside=ASIDE)
        if arm.key in chance:
            gid, value = f"{CHANCE}.{arm.key}", chance[arm.key].value
            artists.points(axes, row, value, BY_CHANCE, gid, upright=False, **TICK)
    axes.set_xlabel("points")
