"""Training arms in figures: how each is named and coloured, a number with its two intervals and its
seeds, rows of arms.

A number of an arm is drawn as a marker (mean over seeds) on a broad bar (interval over problems,
for these seeds) and a thin one (Student's t over the seeds), with a small mark for each seed.
Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from . import style
from .artists import PERCENT, Look

# The estimands of decaylab.analyses.sweep.
ONE_RUN, THESE, SEEDS = (
    "one training run",
    "mean over rollouts, over these seeds",
    "mean over training seeds",
)
BASE, TEACHER, FULL = (
    Look("base student", style.STUDENT, "o", "--"),
    Look("teacher", style.TEACHER, "p", "--"),
    Look("full rollout", style.FULL_ROLLOUT, "v", "--"),
)
ESR, OTHER = Look("prefix (ESR)", style.ESR, "s"), Look("other selectors", style.BLACK, "D")
REFERENCES = {"base": BASE, "teacher": TEACHER, "full": FULL}
VIEWS = {"last": "last checkpoint", "best": "best checkpoint by validation"}
SHORT_VIEWS = {"last": "last", "best": "best"}
NAMES = {
    "prefix": "prefix (ESR)",
    "prefix-mask": "prefix, rollout goes on",
    "full": "full rollout",
    "after-teacher-prefix": "after teacher's prefix",
    "progressive": "progressive N",
    "importance": "importance weights",
    "rising": "rising weights",
    "top-all-three": "top KL \u00d7 both H",
}
PARTS = {"reverse-kl": "KL", "student-entropy": "student H", "teacher-entropy": "teacher H"}
ROW_INCHES, BROAD, THIN = 0.16, 3.2, 0.9
NUMBERS = ["value", "low", "high"]


@dataclass(frozen=True)
class Arm:
    """One arm as figures know it. name: as written; number: of its row, from 1."""

    key: str
    selector: str
    name: str
    number: int

    @property
    def look(self) -> Look:
        return look_of(self.selector)


def look_of(selector: str) -> Look:
    return {"prefix": ESR, "full": FULL}.get(selector, OTHER)


def arms_of(frame: pd.DataFrame) -> list[Arm]:
    """The arms in the order of the table. Their budget is named where arms of one selector differ
    by it."""
    rows = frame[(frame.selector != "") & frame.selector.notna()].drop_duplicates("checkpoint")
    counts = rows.groupby("selector").size()
    found = []
    for number, (key, selector) in enumerate(
        zip(rows.checkpoint, rows.selector, strict=True), start=1
    ):
        ending = str(key).removeprefix(str(selector)).strip("-").replace("-", " ")
        several = counts[selector] > 1 or " of " in ending
        name = spoken(str(selector)) + (f", {ending}" if several else "")
        if selector == "prefix" and several and " of " not in ending:
            name = f"ESR, N = {ending}"
        found.append(Arm(str(key), str(selector), name, number))
    return found


def spoken(selector: str) -> str:
    """A selector in short words; H is the entropy."""
    if selector in NAMES or not selector.startswith("top-"):
        return NAMES.get(selector, selector)
    words = selector.removeprefix("top-")
    for part, short in PARTS.items():
        words = words.replace(part, short)
    return "top " + words.replace("-x-", " \u00d7 ").replace("-and-", " and ").replace(
        "-or-", " or "
    )


def reported(frame: pd.DataFrame) -> tuple[str, str]:
    """The quantity, ``avg_at_k``, and the answer rule that is reported first.

    Raises:
        ValueError: the rows hold no avg_at_k of an arm.
    """
    rows = frame[frame.what.str.fullmatch(r"avg_at_\d+") & (frame.selector != "")]
    if not len(rows):
        raise ValueError("measurements hold no avg_at_k of a training arm; pass those of a sweep")
    return str(rows.what.iloc[0]), str(rows.condition.iloc[0])


def views_of(frame: pd.DataFrame) -> list[str]:
    """The checkpoint rules that were measured."""
    return [view for view in VIEWS if (frame["view"] == view).any()]


def pick(
    frame: pd.DataFrame, what: str, arm: str, estimand: str = "", **columns: str
) -> pd.DataFrame:
    """The rows of one quantity of an arm."""
    chosen = (frame.what == what) & (frame.checkpoint == arm)
    if estimand:
        chosen &= frame.estimand == estimand
    for name, value in columns.items():
        chosen &= frame[name] == value
    return frame[chosen]


@dataclass(frozen=True)
class Number:
    """One number of an arm: mean with its interval over problems, its interval over seeds, and each
    seed, in the unit drawn.

    Each of ``problems`` and ``seeds`` is value, low, high; NaN where there is none.
    """

    problems: tuple[float, float, float]
    seeds: tuple[float, float, float]
    singly: tuple[float, ...]

    @classmethod
    def of(cls, rows: pd.DataFrame, scale: float = PERCENT) -> Number:
        """From the rows of one quantity of one arm."""
        problems, seeds = (
            _triple(rows[rows.estimand == estimand], scale) for estimand in (THESE, SEEDS)
        )
        single = rows[rows.training_seed.notna()].sort_values("training_seed")
        return cls(problems, seeds, tuple(float(value) * scale for value in single.value))

    @property
    def value(self) -> float:
        return self.problems[0] if not math.isnan(self.problems[0]) else self.seeds[0]

    @property
    def core(self) -> list[float]:
        """What the axis must hold: all but the interval over seeds, which may be very wide."""
        return [one for one in (*self.problems, self.value, *self.singly) if math.isfinite(one)]


def _triple(rows: pd.DataFrame, scale: float) -> tuple[float, float, float]:
    if not len(rows):
        return (math.nan, math.nan, math.nan)
    value, low, high = (float(rows[name].iloc[0]) * scale for name in NUMBERS)
    return value, low, high


def span(
    numbers: Iterable[Number], more: Iterable[float] = (), *, least: float = 0.0
) -> tuple[float, float]:
    """Ends of an axis: around all numbers; intervals over seeds as far as they do not double it.

    least: how far the ends lie apart at least.
    """
    found = list(numbers)
    core = [one for number in found for one in number.core] + [
        one for one in more if math.isfinite(one)
    ]
    low, high = (min(core), max(core)) if core else (0.0, 1.0)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    reach = (high - low) / 2
    ends = [end for number in found for end in number.seeds[1:] if math.isfinite(end)]
    low, high = (
        min([low, *(max(end, low - reach) for end in ends)]),
        max([high, *(min(end, high + reach) for end in ends)]),
    )
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def draw_number(
    axes: Axes,
    at: float,
    number: Number,
    look: Look,
    gid: str,
    *,
    upright: bool = False,
    aside: float = 0.0,
) -> None:
    """Bars, marker and seeds at a place of the other axis, whose limits must be set. upright:
    values go up.

    aside: how far from it the single seeds stand, in the units of that axis.
    """
    for triple, thick, part in (
        (number.problems, BROAD, "problems"),
        (number.seeds, THIN, "seeds"),
    ):
        _bar(axes, at, triple, look.colour, f"{gid}.{part}", thick, upright)
    if number.singly:
        _points(
            axes,
            [at + aside] * len(number.singly),
            number.singly,
            upright,
            gid=f"{gid}.singly",
            marker="o",
            markersize=2.2,
            color=look.colour,
            markeredgewidth=0,
            alpha=0.7,
            zorder=4,
        )
    if not math.isnan(number.value):
        _points(
            axes,
            [at],
            [number.value],
            upright,
            gid=gid,
            marker=look.marker,
            markersize=4.2,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.4,
            zorder=5,
        )


def _bar(
    axes: Axes,
    at: float,
    triple: tuple[float, float, float],
    colour: str,
    gid: str,
    thick: float,
    upright: bool,
) -> None:
    """An interval; one that goes on beyond the frame ends in an arrowhead."""
    _, low, high = triple
    if math.isnan(low) or math.isnan(high):
        return
    first, last = axes.get_ylim() if upright else axes.get_xlim()
    lines = axes.vlines if upright else axes.hlines
    bar = lines(
        at,
        max(low, first),
        min(high, last),
        color=colour,
        linewidth=thick,
        zorder=2 if thick > 2 else 3,
    )
    bar.set_alpha(0.35 if thick > 2 else 1.0)
    bar.set_gid(gid)
    for cut, end, head in (
        (low < first, first, "v" if upright else "<"),
        (high > last, last, "^" if upright else ">"),
    ):
        if cut:
            _points(
                axes,
                [at],
                [end],
                upright,
                gid=f"{gid}.cut",
                marker=head,
                markersize=3.0,
                color=colour,
            )


def _points(
    axes: Axes, at: Sequence[float], values: Sequence[float], upright: bool, **looks: Any
) -> None:
    x, y = (at, values) if upright else (values, at)
    axes.plot(x, y, linestyle="", clip_on=False, **looks)


def across(
    axes: Axes, number: tuple[float, float, float], look: Look, gid: str, *, upright: bool = False
) -> None:
    """A reference: a dashed line over the whole panel, shaded by its interval. upright: the line
    stands."""
    value, low, high = number
    if math.isnan(value):
        return
    line, shade = (axes.axvline, axes.axvspan) if upright else (axes.axhline, axes.axhspan)
    line(value, color=look.colour, linewidth=0.9, linestyle=look.line, gid=gid, zorder=1)
    if not (math.isnan(low) or math.isnan(high)):
        shade(low, high, color=look.colour, alpha=0.10, linewidth=0, gid=f"{gid}.band", zorder=0)


def reference(
    frame: pd.DataFrame, what: str, rule: str, name: str, view: str
) -> tuple[float, float, float]:
    """Of base or teacher, or of full rollout over these seeds, in per cent; NaN where there is
    none."""
    rows = pick(frame, what, name, condition=rule)
    rows = (
        rows[(rows["view"] == view) & (rows.estimand == THESE)]
        if name == "full"
        else rows[rows["view"] == "fresh"]
    )
    return _triple(rows, PERCENT)


# Rows of arms


def row_axes(
    figure: Figure,
    arms: Sequence[Arm],
    top: float,
    places: Sequence[tuple[float, float]],
    *,
    row_inches: float = ROW_INCHES,
    numbered: bool = False,
) -> list[Axes]:
    """Axes beside each other from ``top`` inches down, with a row for each arm; the first has the
    names.

    places: left and right end of each, in inches. numbered: the number of the row stands behind the
    name.
    """
    height = row_inches * len(arms)
    found = []
    for place, (left, right) in enumerate(places):
        axes = style.add_axes(figure, left, top - height, right, top)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        names = [f"{arm.name}  {arm.number}" if numbered else arm.name for arm in arms]
        names = names if place == 0 else [""] * len(arms)
        axes.set_yticks(range(len(arms)), names)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="#ececec", linewidth=0.5)
        axes.set_axisbelow(True)
        found.append(axes)
    return found


def value_ticks(axes: Axes, most: int = 4, *, upright: bool = False) -> None:
    """Few numbers within the limits of the axis of values."""
    axis = axes.yaxis if upright else axes.xaxis
    low, high = axes.get_ylim() if upright else axes.get_xlim()
    axis.set_major_locator(MaxNLocator(most))
    axis.set_ticks([tick for tick in axis.get_majorticklocs() if low <= tick <= high])


# Words


def bar_handles() -> list[Artist]:
    """What bars and marks mean, for a key."""
    ink = style.INK
    return [
        Line2D([], [], color=ink, linewidth=BROAD, alpha=0.35, label="over problems"),
        Line2D([], [], color=ink, linewidth=THIN, label="over seeds (t)"),
        Line2D([], [], color=ink, linestyle="", marker="o", markersize=2.2, label="one seed"),
    ]


def look_handle(look: Look, *, marker: bool = True, line: bool = False) -> Line2D:
    hollow = look.colour == style.PUBLISHED
    return Line2D(
        [],
        [],
        color=look.colour,
        ls=look.line if line else "",
        linewidth=0.9,
        marker=look.marker if marker else "",
        markersize=4.2,
        label=look.name,
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour if hollow else "white",
        markeredgewidth=0.9 if hollow else 0.4,
    )


KEY_COLUMNS: dict[style.Width, int] = {"page": 5, "column": 2}


def key_inches(count: int, width: style.Width) -> float:
    return 0.1 + 0.15 * math.ceil(count / KEY_COLUMNS[width])


def key(figure: Figure, handles: Sequence[Artist], width: style.Width) -> None:
    """At the upper edge."""
    across_inches, up = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.08 / across_inches, 1 - 0.05 / up),
        ncols=KEY_COLUMNS[width],
        frameon=False,
        fontsize=style.SMALL,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.2,
        labelspacing=0.25,
    ).set_gid("key")


def foot(figure: Figure, text: str, width: style.Width) -> None:
    """A text at the lower edge."""
    across_inches, up = figure.get_size_inches()
    figure.text(
        0.08 / across_inches,
        0.06 / up,
        filled(text, width),
        fontsize=style.SMALL,
        va="bottom",
        linespacing=1.2,
        gid="note",
    )


def filled(text: str, width: style.Width) -> str:
    return textwrap.fill(text, 128 if width == "page" else 62)


def foot_inches(text: str, width: style.Width) -> float:
    return 0.1 + 0.13 * (filled(text, width).count("\n") + 1)


def samples_of(what: str) -> str:
    """avg@4."""
    return what.replace("_at_", "@")


def counts(frame: pd.DataFrame, what: str, rule: str) -> str:
    """800 problems x 1 sample, 3 seeds an arm, answer rule last_boxed."""
    rows = frame[(frame.what == what) & (frame.condition == rule)]
    seeds = rows[rows.training_seed.notna()].groupby("checkpoint").training_seed.nunique()
    few, most = int(seeds.min()), int(seeds.max())
    many = f"{most}" if few == most else f"{few} to {most}"
    k = int(what.rpartition("_")[2])
    return (
        f"{int(rows.problems.max()):,} problems \u00d7 {k} sample{'s' * (k > 1)}, {many} "
        f"seed{'s' * (most > 1)} an arm, "
        f"answer rule {rule}"
    )


def interval_text(rows: pd.DataFrame) -> str:
    """How the two intervals were made and what each holds for."""
    level = " / ".join(f"{one * PERCENT:g} %" for one in sorted(set(rows.level)))
    over = sorted({*rows[rows.estimand == THESE].method} - {""})
    return (
        f"Broad bars and shades: {level} intervals over problems ({'; '.join(over)}), which hold "
        "for other problems and these "
        f"seeds; thin bars: {level} Student t over the seeds, which hold for other seeds and "
        "these problems (none with one "
        "seed); small marks: each seed; an arrowhead: the interval goes on."
    )


def published_text(published: pd.DataFrame) -> str:
    return (
        f"Grey and hollow: published, {published.run.iloc[0]}, another pair and problem set, a "
        "single seed, the best step on "
        "the test problems, without intervals."
    )
