"""Training arms in figures: how each is named and coloured, a number with its two intervals and its
seeds, rows of arms.

A number of an arm is a marker (mean over seeds) on a broad bar (interval over problems, for these
seeds) and a thin one (Student's t over the seeds), with a small mark for each seed. Drawing reads
rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    BASE,
    BEST,
    FRESH,
    FULL,
    LAST,
    MEANS_OVER_SEEDS,
    ONE_RUN,
    TEACHER,
)
from decaylab.runs.vocabulary import THESE_SEEDS as THESE

from . import artists, style, words
from .artists import BROAD, NUMBERS, PERCENT, THIN, Look
from .page import Part

REFERENCES = {
    BASE: Look("base student", style.STUDENT, "o", "--"),
    TEACHER: Look("teacher", style.TEACHER, "p", "--"),
    FULL: Look("full rollout", style.FULL_ROLLOUT, "v", "--"),
}
ESR = Look("prefix (ESR)", style.ESR, "s")
OTHER = Look("other selectors", style.BLACK, "D")
PREFIX = "prefix"  # the selector of the early stop
LOOKS = {PREFIX: ESR, FULL: REFERENCES[FULL]}
VIEWS = {LAST: "last checkpoint", BEST: "best checkpoint by validation"}
NAMES = {
    PREFIX: ESR.name,
    "prefix-mask": "prefix, rollout continues",
    FULL: REFERENCES[FULL].name,
    "after-teacher-prefix": "after teacher's prefix",
    "progressive": "progressive N",
    "importance": "importance weights",
    "rising": "rising weights",
    "top-all-three": "top KL \u00d7 both H",
}
# Of the names of selectors that rank tokens; H is the entropy
WORDS = {
    "top-": "top ",
    "reverse-kl": "KL",
    "student-entropy": "student H",
    "teacher-entropy": "teacher H",
    "-x-": " \u00d7 ",
    "-and-": " and ",
    "-or-": " or ",
}
RANKING = re.compile(r"top(-(reverse-kl|(student|teacher)-entropy|x|and|or))+")
UNKNOWN = (math.nan, math.nan, math.nan)
GRID = "#ececec"

Triple = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Arm:
    """One arm as figures know it. name: as written; number: of its row, from 1."""

    key: str
    selector: str
    name: str
    number: int

    @property
    def look(self) -> Look:
        return LOOKS.get(self.selector, OTHER)


def arms_of(frame: pd.DataFrame) -> list[Arm]:
    """The arms in the order of the table. Their budget is named where arms of one selector differ
    by it."""
    rows = frame[(frame.selector != "") & frame.selector.notna()].drop_duplicates("checkpoint")
    keys = [(str(key), str(selector)) for key, selector in zip(rows.checkpoint, rows.selector)]
    selectors = [selector for _, selector in keys]
    arms = []
    for number, (key, selector) in enumerate(keys, start=1):
        ending = key.removeprefix(selector).strip("-").replace("-", " ")
        name = spoken(selector)
        if " of " in ending:
            name = f"{name}, {ending}"
        elif selectors.count(selector) > 1:
            name = f"ESR, N = {ending}" if selector == PREFIX else f"{name}, {ending}"
        arms.append(Arm(key, selector, name, number))
    return arms


def spoken(selector: str) -> str:
    """A selector in short words."""
    if selector in NAMES or not RANKING.fullmatch(selector):
        return NAMES.get(selector, selector)
    for part, short in WORDS.items():
        selector = selector.replace(part, short)
    return selector


# Numbers


@dataclass(frozen=True)
class Number:
    """One number of an arm in the unit drawn: mean with its interval over problems, the same with
    its interval over seeds, and each seed.

    What is not measured over problems, such as seconds, has the interval over seeds alone.
    """

    problems: Triple = UNKNOWN
    seeds: Triple = UNKNOWN
    singly: tuple[float, ...] = ()

    @classmethod
    def of(cls, rows: pd.DataFrame, scale: float = PERCENT, *, graded: bool = True) -> Number:
        """From the rows of one quantity of one arm. graded: it has an interval over problems.

        Raises:
            LookupError: the rows hold no mean over the seeds, or several.
        """
        means = rows[rows.training_seed.isna()]
        single = rows[rows.training_seed.notna()].sort_values("training_seed")
        # A ratio of a single pair of runs is one training run: its interval is over steps.
        seeds = vocabulary.row(means, estimand=[*MEANS_OVER_SEEDS, ONE_RUN])
        return cls(
            triple(vocabulary.row(means, estimand=THESE), scale) if graded else UNKNOWN,
            triple(seeds, scale),
            tuple((single.value * scale).tolist()),
        )

    @property
    def value(self) -> float:
        return self.seeds[0] if math.isnan(self.problems[0]) else self.problems[0]

    @property
    def core(self) -> list[float]:
        """What the axis must hold: all but the interval over seeds, which may be very wide."""
        return [*self.problems, self.value, *self.singly]


def numbers(
    rows: pd.DataFrame, scale: float = PERCENT, *, graded: bool = True
) -> dict[str, Number]:
    """One quantity of each arm that has it, by the arm's key; see `Number.of`."""
    return {
        str(key): Number.of(of_arm, scale, graded=graded)
        for key, of_arm in rows.groupby("checkpoint", sort=False)
    }


def triple(row: pd.Series, scale: float = PERCENT) -> Triple:
    """Value, low and high of a row, in the unit drawn."""
    value, low, high = (float(row[name]) * scale for name in NUMBERS)
    return value, low, high


def span(
    numbers: Iterable[Number], more: Iterable[float] = (), *, least: float = 0.0
) -> tuple[float, float]:
    """Ends of an axis: around all numbers; intervals over seeds as far as they do not double it.

    least: how far the ends lie apart at least.
    """
    numbers = list(numbers)
    core = [value for number in numbers for value in number.core]
    core = _finite([*core, *more]) or [0.0, 1.0]
    low, high = min(core), max(core)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    # An interval over two or three seeds may be many times as wide as all else
    reach = (high - low) / 2
    ends = _finite(end for number in numbers for end in number.seeds[1:])
    low = min([low, *(max(end, low - reach) for end in ends)])
    high = max([high, *(min(end, high + reach) for end in ends)])
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def say_if_none(axes: Axes, numbers: Iterable[Number]) -> None:
    """Says so in a panel of which no number is defined."""
    if not _finite(number.value for number in numbers):
        artists.no_value(axes)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def draw_number(
    axes: Axes,
    at: float,
    number: Number,
    look: Look,
    gid: str,
    *,
    upright: bool = False,
    shift: float = 0.0,
    aside: float = 0.0,
) -> None:
    """Bars, marker and seeds at a place of the other axis. The limits of the axes must be set.

    shift, aside: by how many points all of it, and the single seeds from it, are moved.
    """
    colour = look.colour
    place: dict[str, Any] = {"upright": upright, "shift": shift}
    _, low, high = number.problems
    artists.intervals(
        axes, at, low, high, colour, f"{gid}.problems", width=BROAD, alpha=0.35, **place
    )
    _, low, high = number.seeds
    artists.intervals(axes, at, low, high, colour, f"{gid}.seeds", zorder=3, **place)
    if not math.isnan(number.value):
        artists.points(axes, at, number.value, look, gid, markersize=4.2, zorder=5, **place)
    # Seeds stand beside the mean, where its bars do not cover them
    place["shift"] += aside
    artists.points(
        axes,
        [at] * len(number.singly),
        number.singly,
        Look("", colour, "o"),
        f"{gid}.singly",
        markersize=2.2,
        markeredgewidth=0,
        alpha=0.7,
        zorder=4,
        **place,
    )


# Rows of arms

NAME = 8.2  # points that a name takes
MOST_ROWS = 13  # of a panel that stands alone: more names would touch each other
Row = TypeVar("Row")


def pieces(shown: Sequence[Row]) -> list[list[Row]]:
    """The rows in as few lists as fit a panel each, of about one length."""
    count = math.ceil(len(shown) / MOST_ROWS)
    size = math.ceil(len(shown) / max(1, count))
    return [list(shown[start : start + size]) for start in range(0, len(shown), size)]


def with_pieces(part: Callable[[Sequence[Row]], Part], shown: Sequence[Row]) -> Part:
    """The panel of all rows, and those of some that stand alone where they are many."""
    whole, some = part(shown), pieces(shown)
    return whole if len(some) < 2 else replace(whole, pieces=[part(few) for few in some])


def name_row(axes: Axes, names: Sequence[str], room: float) -> None:
    """A row for each arm, with its name; of panels beside each other the leftmost has the names,
    in ``room`` inches."""
    leftmost = axes.get_position().x0 * style.root(axes).get_figwidth() < room + 0.01
    pitch = style.size_points(axes)[1] / len(names)
    every = math.ceil(NAME / pitch) if leftmost else len(names) + 1
    shown = [name if leftmost and place % every == 0 else "" for place, name in enumerate(names)]
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), shown)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)


# The rows of a sweep


@dataclass(frozen=True)
class Sweep:
    """The accuracies of a sweep. what: ``avg_at_k``; rule: the answer rule reported first."""

    frame: pd.DataFrame
    what: str
    rule: str

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Sweep:
        """
        Raises:
            ValueError: the rows hold no avg_at_k of an arm.
        """
        # The analysis puts the reported answer rule first
        rows = frame[frame.what.str.fullmatch(r"avg_at_\d+") & (frame.selector != "")]
        if not len(rows):
            raise ValueError(
                "measurements hold no avg_at_k of a training arm; pass those of a sweep"
            )
        return cls(frame, str(rows.what.iloc[0]), str(rows.condition.iloc[0]))

    @property
    def arms(self) -> pd.DataFrame:
        """The rows of arms by the reported rule."""
        return self.frame[(self.frame.condition == self.rule) & (self.frame.selector != "")]

    @property
    def views(self) -> list[str]:
        """The checkpoint rules that were measured."""
        levels = vocabulary.select(self.arms, what=self.what)
        return [view for view in VIEWS if (levels["view"] == view).any()]

    @property
    def other(self) -> str:
        """What the difference is taken from: full rollout, else the base student; empty if none
        was measured."""
        measured = set(self.arms.what)
        for name in (FULL, BASE):
            if self.difference(name) in measured:
                return name
        return ""

    def difference(self, other: str) -> str:
        return vocabulary.minus(self.what, other)

    def references(self, view: str) -> dict[str, Triple]:
        """Of base and teacher, and of full rollout over these seeds, in per cent; NaN where this
        checkpoint rule has none.

        Raises:
            LookupError: full rollout has other numbers there, but not that over these seeds.
        """
        place = {"what": self.what, "condition": self.rule}
        references = {}
        for name in REFERENCES:
            seen = view if name == FULL else FRESH
            rows = vocabulary.select(self.frame, **place, checkpoint=name, view=seen)
            if name == FULL and len(rows):
                rows = vocabulary.rows(rows, estimand=THESE)
            references[name] = triple(vocabulary.row(rows)) if len(rows) else UNKNOWN
        return references

    @property
    def counts(self) -> str:
        """800 problems x 1 sample, 3 seeds per arm, answer rule last_boxed."""
        rows = vocabulary.rows(self.frame, what=self.what, condition=self.rule)
        k = words.samples(self.what)
        return (
            f"{int(rows.problems.max()):,} problems \u00d7 {k} {words.plural('sample', k)}, "
            f"{words.per_arm(rows, 'seed')}, answer rule {self.rule}"
        )


# Keys and captions


def bar_handles() -> list[Artist]:
    """What bars and marks mean, for a key."""
    ink = style.INK
    return [
        Line2D([], [], color=ink, linewidth=BROAD, alpha=0.35, label="over problems"),
        Line2D([], [], color=ink, linewidth=THIN, label="over seeds (t)"),
        seed_handle(),
    ]


def seed_handle() -> Line2D:
    return artists.handle(Look("one seed", style.INK, "o"), size=2.2)


INTERVALS = """Broad bars and shades: {level} intervals over problems ({methods}), which hold for
    other problems and these seeds; thin bars: {level} Student t over the seeds, which hold for
    other seeds and these problems (none with one seed); small marks: each seed; {arrowhead}."""
PUBLISHED = """Grey and hollow: published, {run}, another pair and problem set, a single seed, the
    best step on the test problems, without intervals."""


def interval_text(rows: pd.DataFrame) -> str:
    """How the two intervals were made and what each holds for."""
    over = words.methods(vocabulary.rows(rows, estimand=THESE))
    return words.filled(INTERVALS, rows, methods=over)


def published_text(published: pd.DataFrame | None) -> str:
    """Empty where nothing published is drawn."""
    return words.of_published(PUBLISHED, published)
