"""What training costs: seconds per step and peak memory by phase, and each arm against full
rollout; efficiency table, measured.

    a   seconds per step, phase behind phase
    b   peak memory of each phase
    c   time and sampled tokens of each arm over those of full rollout, on a logarithmic axis
    d   published seconds per step, where they are given: another machine, on their own axis

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import FULL

from . import arms, artists, style, words
from .arms import REFERENCES, Arm, Number, draw_number
from .artists import Look
from .layout import Block
from .page import Part, Sheet, drawing

SECONDS, PEAK, TOTAL = "seconds_per_step", "peak_gib", "total"
PHASES = {
    "generation": Look("generation", style.SKY, "o"),
    "scoring": Look("scoring", style.ORANGE, "^"),
    "training": Look("training", style.WINE, "D"),
}
# Published numbers have no colour: their phases differ in their hatching
HATCHES = {"generation": "", "scoring": "////", "training": "...."}
# What is divided by full rollout, in which phase
RATIOS = {
    "seconds_ratio": (TOTAL, Look("time", style.BLACK, "s")),
    "tokens_ratio": ("generation", Look("sampled tokens", style.TEACHER, "o")),
}
ROW_INCHES, NAME_INCHES = 0.19, 1.6
BAR = 0.62  # of a row
PHASE: dict[str, Any] = {"alpha": 0.55, "linewidth": 0}
GREY: dict[str, Any] = {"facecolor": "white", "edgecolor": style.PUBLISHED, "linewidth": 0.8}
BESIDE = 3.0  # points between the phases of a row
RATIOS_APART = 4.9  # points between time and tokens of a row
# Title, axis and sentence of each panel
PANELS = {
    "seconds": (
        "Seconds per step",
        "seconds",
        "Seconds per step of training, mean over the steps but the first; thin bar: the total",
    ),
    "memory": ("Peak memory", "GiB", "Largest memory in use in each phase of the run"),
    "ratio": (
        "Cost over full rollout",
        "ratio (log axis)",
        "Total time and sampled tokens of a step over those of full rollout: the geometric mean "
        "over seeds of the ratios paired by seed, which is not the ratio of two bars of panel a; "
        "the two agree where time is proportional to tokens",
    ),
    "published": ("Published: seconds per step", "seconds", ""),
}
CAPTION = """Seconds and peak memory of a training step by phase, means over seeds ({runs}){ratio}.
    Thin bars: {level} intervals over seeds, or over blocks of steps for a single one; small marks:
    each seed. {shared}"""
RATIO = """; time and tokens over those of full rollout, geometric means of ratios paired by
    seed"""
DETAILS = """{panels} {theirs} Seconds and memory: means over seeds ({runs}); thin bars: {level}
    intervals ({methods}); small marks: each seed. {shared}"""
PUBLISHED = "({letter}) Published, {run}: another pair on one GPU, without intervals."
SHARED = "timed "  # begins a note on what else the machine ran


@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.efficiency.measure`.
        published: rows of `decaylab.paper.publication.efficiency`, in a grey panel of their own.

    Raises:
        ValueError: the rows hold no seconds per step.
        LookupError: a number of an arm lacks its mean over seeds.
    """
    rows = _rows(measurements)
    shown = arms.arms_of(vocabulary.rows(rows, what=SECONDS))
    panels = _panels(rows)
    parts = {letter: _part(rows, shown, letter, name) for letter, name in panels.items()}
    place = Block(left=NAME_INCHES, right=0.15, between=0.16)
    page = [replace(place, mosaic=[[*panels]], heights=[ROW_INCHES * len(shown)])]
    if published is not None:
        letter = words.LETTERS[len(panels)]
        title, axis, _ = PANELS["published"]
        block = replace(place, mosaic=[[letter]], heights=[2 * ROW_INCHES])

        def theirs(axes: dict[str, Axes]) -> None:
            _published(axes[letter], published, letter)
            axes[letter].set_xlabel(axis)

        key = [
            Patch(label=f"{phase}, published", hatch=hatch, **GREY)
            for phase, hatch in HATCHES.items()
        ]
        parts[letter] = Part(title, block, theirs, key, colour=style.PUBLISHED)
        page.append(replace(block, right=2.8))
    # the ratios, and then what they are ratios of
    claim = sorted(panels, key=lambda letter: panels[letter] != "ratio")
    return Sheet(parts, page, claim=claim)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    rows = _rows(measurements)
    # All rows of a run have one level
    shared, ratio = _shared(rows, "."), RATIO if "ratio" in _panels(rows).values() else ""
    return words.filled(CAPTION, rows.iloc[:1], runs=_runs(rows), shared=shared, ratio=ratio)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    rows = _rows(measurements)
    panels = _panels(rows)
    return words.filled(
        DETAILS,
        rows,
        panels=" ".join(f"({letter}) {PANELS[name][2]}." for letter, name in panels.items()),
        theirs=words.of_published(PUBLISHED, published, letter=words.LETTERS[len(panels)]),
        runs=_runs(rows),
        shared=_shared(rows, "."),
    )


def _part(rows: pd.DataFrame, shown: Sequence[Arm], letter: str, name: str) -> Part:
    """A row for each arm; on a page the leftmost panel has the names."""
    drawn = {"seconds": _seconds, "memory": _memory, "ratio": _ratios}[name]
    title, axis, _ = PANELS[name]

    def part(some: Sequence[Arm]) -> Part:
        def draw(axes: dict[str, Axes]) -> None:
            arms.name_row(axes[letter], [arm.name for arm in some], NAME_INCHES)
            drawn(axes[letter], rows, some, letter)
            axes[letter].set_xlabel(axis)

        block = Block([[letter]], [ROW_INCHES * len(some)], left=NAME_INCHES, right=0.15, above=0.3)
        return Part(title, block, draw, _handles(name))

    return arms.with_pieces(part, shown)


def _rows(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = vocabulary.select(measurements, view="training")
    if not (rows.what == SECONDS).any():
        raise ValueError("measurements hold no seconds_per_step; pass those of efficiency")
    return rows


def _panels(rows: pd.DataFrame) -> dict[str, str]:
    """What is drawn, by letter."""
    panels = ["seconds"]
    if rows.value[rows.what == PEAK].notna().any():
        panels.append("memory")
    if (rows.what == "seconds_ratio").any():
        panels.append("ratio")
    return dict(zip(words.LETTERS, panels))


def _runs(rows: pd.DataFrame) -> str:
    return words.per_arm(vocabulary.rows(rows, what=SECONDS), "run")


def _shared(rows: pd.DataFrame, ending: str) -> str:
    """What the machine ran beside the training, as the notes have it."""
    parts = {part for note in rows.note for part in str(note).split("; ")}
    texts = sorted(part.capitalize() for part in parts if part.startswith(SHARED))
    return " ".join(text + ending for text in texts)


def _handles(name: str) -> list[Artist]:
    """The key of a panel."""
    if name == "seconds":
        bars = [Patch(color=look.colour, label=look.name, **PHASE) for look in PHASES.values()]
        return [*bars, arms.seed_handle()]
    if name == "memory":
        return [artists.handle(look) for look in PHASES.values()]
    return [artists.handle(look) for _, look in RATIOS.values()]


# The panels


def _numbers(rows: pd.DataFrame, what: str, condition: str) -> dict[str, Number]:
    """By arm, over seeds or of a single run with whatever interval that has."""
    rows = vocabulary.rows(rows, what=what, condition=condition)
    return arms.numbers(rows, 1.0, graded=False)


def _from_zero(axes: Axes, numbers: Iterable[Number]) -> None:
    axes.set_xlim(0.0, arms.span(numbers, [0.0])[1])
    style.ticks_within(axes, most=3)


def _stack(axes: Axes, row: int, start: float, seconds: float, gid: str, **look: Any) -> float:
    """A bar behind those that end at ``start``; its end."""
    (bar,) = axes.barh(row, seconds, BAR, start, **look)
    bar.set_gid(gid)
    return start + seconds


def _seconds(axes: Axes, rows: pd.DataFrame, shown: Sequence[Arm], letter: str) -> None:
    """Bars of the phases one behind the other, and the total with its interval."""
    totals = _numbers(rows, SECONDS, TOTAL)
    _from_zero(axes, totals.values())
    phases = {phase: _numbers(rows, SECONDS, phase) for phase in PHASES}
    # the bars end at the total: its interval and seeds alone are drawn on them
    time = replace(RATIOS["seconds_ratio"][1], marker="")
    for row, arm in enumerate(shown):
        start = 0.0
        for phase, look in PHASES.items():
            value = phases[phase][arm.key].value
            gid = f"{letter}.{phase}.{arm.key}"
            start = _stack(axes, row, start, value, gid, color=look.colour, **PHASE)
        draw_number(axes, row, totals[arm.key], time, f"{letter}.total.{arm.key}", aside=5.7)


def _memory(axes: Axes, rows: pd.DataFrame, shown: Sequence[Arm], letter: str) -> None:
    phases = {phase: _numbers(rows, PEAK, phase) for phase in PHASES}
    _from_zero(axes, [number for numbers in phases.values() for number in numbers.values()])
    for place, (phase, look) in enumerate(PHASES.items()):
        for row, arm in enumerate(shown):
            number = replace(phases[phase][arm.key], singly=())
            gid = f"{letter}.{phase}.{arm.key}"
            draw_number(axes, row, number, look, gid, shift=(place - 1) * BESIDE)


def _ratios(axes: Axes, rows: pd.DataFrame, shown: Sequence[Arm], letter: str) -> None:
    ratios = {what: _numbers(rows, what, phase) for what, (phase, _) in RATIOS.items()}
    _ratio_axis(axes, [number for numbers in ratios.values() for number in numbers.values()])
    full = (1.0, math.nan, math.nan)
    artists.across(axes, full, REFERENCES[FULL], f"{letter}.full", upright=False)
    for place, (what, (_, look)) in enumerate(RATIOS.items()):
        for row, arm in enumerate(shown):
            if arm.key in ratios[what]:
                gid, shift = f"{letter}.{what}.{arm.key}", (place - 0.5) * RATIOS_APART
                draw_number(axes, row, ratios[what][arm.key], look, gid, shift=shift)


def _ratio_axis(axes: Axes, numbers: Sequence[Number]) -> None:
    """Around all ratios and 1; intervals as far as they do not double that. Round ratios as far as
    they have room."""
    # Only positive numbers have a place on a logarithmic axis
    values = [1.0, *(number.value for number in numbers if number.value > 0)]
    ends = [end for number in numbers for end in number.seeds[1:] if end > 0]
    low, high = min(values), max(values)
    reach = max(high / low, 2.0)
    low = min([low, *(max(end, low / reach) for end in ends)]) / 1.2
    high = max([high, *(min(end, high * reach) for end in ends)]) * 1.2
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ratios = [first * 10.0**power for power, first in itertools.product(range(-4, 5), (1, 2, 5))]
    style.ticks(axes, {tick: f"{tick:g}" for tick in ratios if low <= tick <= high}, 20.0)


def _published(axes: Axes, published: pd.DataFrame, letter: str) -> None:
    """Seconds per step as printed, in grey and hatched."""
    seconds = vocabulary.rows(published, what=SECONDS)
    names = list(dict.fromkeys(seconds.checkpoint))
    for row, name in enumerate(names):
        start = 0.0
        for phase, hatch in HATCHES.items():
            value = vocabulary.row(seconds, checkpoint=name, condition=phase).value
            gid = f"{letter}.published.{phase}.{name}"
            start = _stack(axes, row, start, value, gid, hatch=hatch, **GREY)
    words = {name: name.replace("prefix-", "ESR, N = ") for name in names}
    words |= {FULL: REFERENCES[FULL].name}
    # Another machine and another pair: an axis of its own, without a grid to compare along
    arms.name_row(axes, [words[name] for name in names], NAME_INCHES)
    axes.grid(visible=False)
    style.ticks_within(axes, most=4)
