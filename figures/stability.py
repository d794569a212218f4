"""Accuracy over the checkpoints of training runs: does a student fall after its best step? Per-step
tables, measured.

    a          a small panel for each arm: accuracy by training step, a line a seed
    b, c, d    a row for each arm: peak, last and lowest; how far peak and lowest lie apart, beside
               what chance gives; and how far the last checkpoint lies below the peak
    e          the published accuracy by step, where it is given

On the test problems where every checkpoint was evaluated on them, else on held-out ones. Drawing
reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import FULL

from . import arms, artists, style, words
from .arms import Arm, Number, draw_number
from .artists import PERCENT, Look
from .curves import accuracy_axis, draw_curve, shifts, step_axis
from .layout import Block
from .page import Part, Sheet, drawing
from .running_text import filled, short

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
TITLES = {
    "levels": "Peak, last, lowest",
    APART: "Peak \u2212 lowest",
    FALLEN: "Peak \u2212 last",
}
MARKS_APART = 3.2  # points between peak, last and lowest of a row
ASIDE = 3.7  # points of the single seeds from their mean
SEEDS_APART = 2.0  # points between the lines of seeds, so that their bars can be told apart
LINES = ("-", "--", ":")

CAPTION = """Accuracy over the checkpoints of each run, on {problems}, {seeds}; peak, last and
    lowest, which are biased away from each other. Bars: {level} intervals, in the small panels over
    problems, else over seeds; small marks: each seed."""
DETAILS = """Accuracy over the checkpoints of each run on {problems}{rule}; {seeds}. Small panels:
    by training step, from the student before training at 0; a line a seed, bars: {level} intervals
    over problems ({methods}). Below: means over seeds of peak, last and lowest accuracy, of peak
    \u2212 lowest and of peak \u2212 last, thin bars: {level} Student t over the seeds (none with
    one seed, or where all agree); small marks: each seed. A peak is the highest of several noisy
    numbers and a lowest the lowest: biased away from each other. {chance} {theirs}"""
CHANCE_KNOWN = """Grey tick: how far apart they would be on average if all checkpoints were equally
    good."""
CHANCE_UNKNOWN = """How far apart chance alone puts them is not known here: outcomes by problem are
    not kept."""
PUBLISHED_DETAILS = """Grey and hollow, in a panel of their own: published, {run}, another pair and
    problem set, 16 rollouts per problem, without intervals."""
NAMES_INCHES, ROW_INCHES = 1.6, 0.17  # left of rows, and of each
NAME = 28  # characters of an arm's name left of its row


@dataclass(frozen=True)
class Small:
    """How the small panels stand: so many a row, with their heights and the room for a name.

    characters, lines: of a name.
    """

    a_row: int
    panel: float
    title: float
    characters: int
    lines: int


FEW = Small(4, 0.66, 0.24, 28, 1)  # on a page
MANY = Small(6, 0.55, 0.34, 16, 2)  # the same with many arms
ALONE = Small(3, 0.5, 0.34, 15, 2)  # in a column
MOST_FEW, MOST_ALONE = 12, 9  # arms of the first, of a panel alone
BETWEEN, STEPS_INCHES = 0.14, 0.18  # of small panels; below one that has its steps written


@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.stability.measure`.
        published: rows of `publication.per_step`, in a grey panel: each arm of the setting that
            collapsed.

    Raises:
        ValueError: the rows hold no peak over checkpoints.
        LookupError: a number of an arm lacks its mean over seeds.
    """
    rows = _of_one_view(measurements)
    shown = arms.arms_of(rows)
    parts = {"a": _curves_part(rows, shown)}
    for letter, (name, title) in zip("bcd", TITLES.items(), strict=True):
        parts[letter] = _rows_part(rows, shown, letter, name, title)
    small = FEW if len(shown) <= MOST_FEW else MANY
    below = Block([[*"bcd"]], [ROW_INCHES * len(shown)], left=NAMES_INCHES, between=BETWEEN)
    below = replace(below, widths=(0.44, 0.28, 0.28), right=0.15)
    if published is not None:
        parts["e"] = _published_part(published)
        beside = (0.42, 0.28, 0.28, 0.16, 0.36)
        below = replace(below, mosaic=[[*"bcd.e"]], widths=beside, right=0.75)
    return Sheet(parts, [_small_block(rows, shown, small), below], claim="dbca")


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return _filled(CAPTION, _of_one_view(measurements))


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, on which problems, counts, and how the intervals were made."""
    rows = _of_one_view(measurements)
    tested = (rows["view"] == "test").all()
    return _filled(
        DETAILS,
        rows,
        rule=f", answer rule {rows.answer_rule.iloc[0]}" if tested else "",
        methods=words.methods(vocabulary.rows(rows, what=ACCURACY)),
        chance=CHANCE_KNOWN if (rows.what == CHANCE).any() else CHANCE_UNKNOWN,
        theirs=words.of_published(PUBLISHED_DETAILS, published),
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


def _seed_handles(rows: pd.DataFrame) -> list[Artist]:
    seeds = sorted(rows.training_seed.dropna().unique())
    looks = [Look(f"seed {seed:g}", style.INK, "", line) for seed, line in zip(seeds, LINES)]
    return [artists.handle(look, line=True, linewidth=1.0) for look in looks]


def _row_handles(rows: pd.DataFrame, name: str) -> list[Artist]:
    if name == "levels":
        return [artists.handle(Look(word, style.INK, mark)) for mark, word in MARKS.values()]
    handles: list[Artist] = [arms.seed_handle()]
    if name == APART and (rows.what == CHANCE).any():
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


# The small panels


def _curves_part(rows: pd.DataFrame, shown: Sequence[Arm]) -> Part:
    """A small panel for each arm, all on one scale; few of them alone."""
    triples = vocabulary.rows(rows, what=ACCURACY)[artists.NUMBERS] * PERCENT
    # as intervals over seeds, which may not stretch the axis to more than twice the values
    numbers = [Number(seeds=triple) for triple in triples.itertuples(index=False, name=None)]
    low, high = arms.span(numbers, least=10.0)
    limits = max(low, -2.0), min(high, 102.0)

    def part(some: Sequence[Arm]) -> Part:
        def draw(axes: dict[str, Axes]) -> None:
            _small_panels(axes, rows, some, limits)

        block = _small_block(rows, some, ALONE)
        return Part("Accuracy (%) by training step", block, draw, _seed_handles(rows), pad=24.0)

    whole = part(shown)
    if len(shown) <= MOST_ALONE:
        return whole
    chunks = [shown[start : start + MOST_ALONE] for start in range(0, len(shown), MOST_ALONE)]
    return replace(whole, pieces=[part(some) for some in chunks])


def _small_block(rows: pd.DataFrame, some: Sequence[Arm], small: Small) -> Block:
    """Rows of small panels; between two rows, room for names and steps."""
    names = [f"a.{arm.key}" for arm in some]
    names += ["."] * (-len(names) % min(small.a_row, len(names)))
    columns = min(small.a_row, len(names))
    mosaic = [names[start : start + columns] for start in range(0, len(names), columns)]
    right = 0.12 + (small.a_row - columns) * 0.8
    apart = small.title + (0.0 if _same_steps(rows, some) else STEPS_INCHES)
    return Block(
        mosaic,
        [small.panel] * len(mosaic),
        left=0.4,
        right=right,
        between=BETWEEN,
        apart=apart,
        above=small.title + 0.32,
        below=STEPS_INCHES + 0.1,
    )


def _same_steps(rows: pd.DataFrame, some: Sequence[Arm]) -> bool:
    """Whether the steps of the lowest panels count for all above them."""
    accuracy = vocabulary.rows(rows, what=ACCURACY)
    steps = {tuple(sorted(set(accuracy.step[accuracy.checkpoint == arm.key]))) for arm in some}
    return len(steps) == 1


def _small_panels(
    axes: dict[str, Axes], rows: pd.DataFrame, some: Sequence[Arm], limits: tuple[float, float]
) -> None:
    places = {name: panel.get_position() for name, panel in axes.items()}
    left = min(place.x0 for place in places.values())
    same = _same_steps(rows, some)
    for arm in some:
        here = places[f"a.{arm.key}"]
        others = [place for place in places.values() if abs(place.x0 - here.x0) < 1e-6]
        lowest = here.y0 == min(place.y0 for place in others)
        panel = axes[f"a.{arm.key}"]
        curve = vocabulary.rows(rows, checkpoint=arm.key, what=ACCURACY)
        # Limits come first: bars are cut off at the frame
        panel.set_ylim(*limits)
        style.ticks_within(panel, upright=True, most=4, share=True)
        step_axis(panel, curve.step.unique())
        panel.tick_params(labelleft=here.x0 < left + 1e-6, labelbottom=lowest or not same)
        _curves(panel, curve, arm)
        _title(panel, arm.name)


def _title(axes: Axes, name: str) -> None:
    """The name of a small panel above it, within its width, in two lines at most."""
    lines = filled(name, style.size_points(axes)[0] + 8.0, most=2)
    place = (0, 1), (0, 3), "axes fraction", "offset points"
    text = axes.annotate("\n".join(lines), *place, va="bottom", fontsize=style.SMALL)
    text.set(linespacing=1.0, gid="name")


def _published_part(published: pd.DataFrame) -> Part:
    return Part(
        "Published: accuracy by step, another pair",
        Block([["e"]], [1.5], right=1.1),
        lambda axes: _published(axes["e"], published),
        colour=style.PUBLISHED,
    )


def _published(axes: Axes, published: pd.DataFrame) -> None:
    """The published arms on axes of their own."""
    curves = _published_arms(published)
    step_axis(axes, pd.concat(curves.values()).step)
    accuracy_axis(axes, curves.values())
    labels = []
    for place, (name, curve) in enumerate(curves.items()):
        look = replace(PUBLISHED, name=_published_name(name), marker="os"[place % 2])
        labels += draw_curve(axes, curve, "step", look, f"published.{name}")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "accuracy (%)")
    axes.set_xlabel("training step")


def _rows_part(
    rows: pd.DataFrame, shown: Sequence[Arm], letter: str, name: str, title: str
) -> Part:
    """A row for each arm; on a page the leftmost panel has the names."""

    def part(some: Sequence[Arm]) -> Part:
        def draw(axes: dict[str, Axes]) -> None:
            names = [short(arm.name, NAME) for arm in some]
            arms.name_row(axes[letter], names, NAMES_INCHES)
            if name == "levels":
                _levels(axes[letter], rows, some)
            else:
                _apart(axes[letter], rows, some, name)

        block = Block([[letter]], [ROW_INCHES * len(some)], left=NAMES_INCHES, right=0.15)
        return Part(title, block, draw, _row_handles(rows, name))

    return arms.with_pieces(part, shown)


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
    """Peak, last and lowest of each arm."""
    by_mark = {what: _numbers(rows, what) for what in MARKS}
    numbers = [number for of_arms in by_mark.values() for number in of_arms.values()]
    low, high = arms.span(numbers, least=10.0)
    axes.set_xlim(max(low, -2.0), min(high, 102.0))
    style.ticks_within(axes, most=4, share=True)
    arms.say_if_none(axes, numbers)
    for row, arm in enumerate(shown):
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
    arms.say_if_none(axes, numbers.values())
    for row, arm in enumerate(shown):
        draw_number(axes, row, numbers[arm.key], arm.look, f"{what}.{arm.key}", aside=ASIDE)
        if arm.key in chance:
            gid, value = f"{CHANCE}.{arm.key}", chance[arm.key].value
            artists.points(axes, row, value, BY_CHANCE, gid, upright=False, **TICK)
    axes.set_xlabel("points")
