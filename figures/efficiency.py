"""What training costs: seconds a step and peak memory by phase, and each arm against full rollout;
efficiency table, measured.

    a   seconds a step, phase behind phase
    b   peak memory of each phase
    c   time and sampled tokens of each arm over those of full rollout, on a logarithmic axis
    d   published seconds a step, where they are given: another machine, on their own axis

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from . import arms, style
from .arms import ONE_RUN, SEEDS, Arm, Number, draw_number, look_handle
from .artists import PERCENT, Look

PHASES = {
    "generation": Look("generation", style.SKY, "o"),
    "scoring": Look("scoring", style.ORANGE, "^"),
    "training": Look("training", style.WINE, "D"),
}
HATCHES = {
    "generation": "",
    "scoring": "////",
    "training": "....",
}  # of what is published, which has no colour
TIME, TOKENS = Look("time", style.BLACK, "s"), Look("sampled tokens", style.TEACHER, "o")
RATIOS = {"seconds_ratio": ("total", TIME), "tokens_ratio": ("generation", TOKENS)}
NAME_INCHES, TITLE_INCHES, AXIS_INCHES, GAP, ROW_INCHES = 1.6, 0.26, 0.46, 0.16, 0.19


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.efficiency.measure`.
        published: rows of `decaylab.paper.publication.efficiency`, drawn grey and hatched in a
        panel of their own.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, beside each other).

    Raises:
        ValueError: the rows hold no seconds a step.
    """
    rows = measurements[measurements["view"] == "training"]
    if not (rows.what == "seconds_per_step").any():
        raise ValueError("measurements hold no seconds_per_step; pass those of efficiency")
    found = arms.arms_of(rows[rows.what == "seconds_per_step"])
    panels = _panels(rows)
    handles = _handles(rows, panels)
    note = _note(rows)
    with style.context():
        head, foot = arms.key_inches(len(handles), width), arms.foot_inches(note, width)
        figure, axes, below = _layout(found, len(panels), published is not None, width, head, foot)
        draws = {"seconds": _seconds, "memory": _memory, "ratio": _ratios}
        for letter, name, one in zip("abc", panels, axes, strict=False):
            draws[name](one, rows, found, letter)
        if published is not None and below is not None:
            _published(below, published, "abcd"[len(panels)])
        arms.key(figure, handles, width)
        arms.foot(figure, note, width)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, and how the intervals were made."""
    rows = measurements[measurements["view"] == "training"]
    panels = _panels(rows)
    sentences = {
        "seconds": "Seconds a step of training, mean over the steps but the first; thin bar: the "
        "total",
        "memory": "Largest memory in use in each phase of the run",
        "ratio": "Total time and sampled tokens of a step over those of full rollout, paired by "
        "seed; where time goes as the "
        "tokens the two agree",
    }
    text = [f"({letter}) {sentences[name]}." for letter, name in zip("abc", panels, strict=False)]
    if published is not None:
        text.append(
            f"({'abcd'[len(panels)]}) Published, {published.run.iloc[0]}: another pair on one "
            "GPU, without intervals."
        )
    level = f"{rows.level.iloc[0] * PERCENT:g} %"
    methods = sorted({*rows.method} - {""})
    text.append(
        f"Means over seeds ({_steps(rows)}); thin bars: {level} intervals "
        f"({'; '.join(methods) or 'none'}); small marks: each "
        "seed."
    )
    timed = sorted(
        {part for note in rows.note for part in str(note).split("; ") if part.startswith("timed ")}
    )
    return " ".join([*text, *(f"{one.capitalize()}." for one in timed)])


def _panels(rows: pd.DataFrame) -> list[str]:
    found = ["seconds"]
    found += ["memory"] * bool(rows.value[rows.what == "peak_gib"].notna().any())
    return found + ["ratio"] * bool((rows.what == "seconds_ratio").any())


def _steps(rows: pd.DataFrame) -> str:
    own = rows[(rows.what == "seconds_per_step") & rows.training_seed.notna()]
    seeds = own.groupby("checkpoint").training_seed.nunique()
    few, most = int(seeds.min()), int(seeds.max())
    return f"{most if few == most else f'{few} to {most}'} run{'s' * (most > 1)} an arm"


def _note(rows: pd.DataFrame) -> str:
    level = f"{rows.level.iloc[0] * PERCENT:g} %"
    timed = sorted(
        {part for note in rows.note for part in str(note).split("; ") if part.startswith("timed ")}
    )
    told = "".join(f" {one.capitalize()}: what they cost alone is less." for one in timed)
    return (
        f"Thin bars: {level} intervals over seeds, or over blocks of steps for a single one. "
        f"{_steps(rows)}.{told}"
    )


def _handles(rows: pd.DataFrame, panels: Sequence[str]) -> list[Artist]:
    phases = [
        Patch(color=look.colour, alpha=0.55, linewidth=0, label=look.name)
        for look in PHASES.values()
    ]
    ratios = [look_handle(look) for _, look in RATIOS.values()] if "ratio" in panels else []
    seed = Line2D(
        [], [], color=style.INK, linestyle="", marker="o", markersize=2.2, label="one seed"
    )
    return [*phases, *ratios, seed]


# Layout


def _layout(
    found: Sequence[Arm], panels: int, published: bool, width: style.Width, head: float, foot: float
) -> tuple[Figure, list[Axes], Axes | None]:
    tall = ROW_INCHES * len(found)
    block, last = TITLE_INCHES + tall + AXIS_INCHES, TITLE_INCHES + 2 * ROW_INCHES + AXIS_INCHES
    blocks = 1 if width == "page" else panels
    total = head + blocks * block + (last if published else 0.0) + foot
    figure = style.new_figure(width, total)
    right = style.WIDTH_INCHES[width] - 0.15
    top = total - head - TITLE_INCHES
    if width == "page":
        each = (right - NAME_INCHES - GAP * (panels - 1)) / panels
        lefts = [NAME_INCHES + (each + GAP) * place for place in range(panels)]
        axes = arms.row_axes(
            figure, found, top, [(left, left + each) for left in lefts], row_inches=ROW_INCHES
        )
    else:
        axes = [
            arms.row_axes(
                figure, found, top - block * place, [(NAME_INCHES, right)], row_inches=ROW_INCHES
            )[0]
            for place in range(panels)
        ]
    if not published:
        return figure, axes, None
    top -= blocks * block
    end = right if width == "column" else NAME_INCHES + 2.6
    return figure, axes, style.add_axes(figure, NAME_INCHES, top - 2 * ROW_INCHES, end, top)


# The panels


def _number(rows: pd.DataFrame, what: str, condition: str, arm: Arm) -> Number:
    """Over seeds, or of a single run with whatever interval that has."""
    own = rows[(rows.what == what) & (rows.condition == condition) & (rows.checkpoint == arm.key)]
    found = Number.of(own, 1.0)
    one = own[(own.estimand == ONE_RUN) & own.training_seed.isna()]
    if len(one):
        value, low, high = one[["value", "low", "high"]].to_numpy(dtype=float)[0].tolist()
        return replace(found, seeds=(value, low, high))
    return found if (own.estimand == SEEDS).any() else replace(found, seeds=(math.nan,) * 3)


def _seconds(axes: Axes, rows: pd.DataFrame, found: Sequence[Arm], letter: str) -> None:
    """Bars of the phases one behind the other, and the total with its interval."""
    totals = {arm.key: _number(rows, "seconds_per_step", "total", arm) for arm in found}
    _, high = arms.span(totals.values(), [0.0])
    axes.set_xlim(0.0, high)
    arms.value_ticks(axes, 3)
    for row, arm in enumerate(found):
        start = 0.0
        for phase, look in PHASES.items():
            value = _number(rows, "seconds_per_step", phase, arm).value
            bar = axes.barh(
                row, value, 0.62, start, color=look.colour, alpha=0.55, linewidth=0, zorder=1
            )
            bar[0].set_gid(f"{letter}.{phase}.{arm.key}")
            start += value
        draw_number(
            axes,
            row,
            totals[arm.key],
            replace(TIME, marker="|"),
            f"{letter}.total.{arm.key}",
            aside=0.42,
        )
    axes.set_title(f"{letter}  Time a step", pad=4)
    axes.set_xlabel("seconds")


def _memory(axes: Axes, rows: pd.DataFrame, found: Sequence[Arm], letter: str) -> None:
    numbers = {
        (arm.key, phase): _number(rows, "peak_gib", phase, arm) for arm in found for phase in PHASES
    }
    _, high = arms.span(numbers.values(), [0.0])
    axes.set_xlim(0.0, high)
    arms.value_ticks(axes, 3)
    for row, arm in enumerate(found):
        for place, (phase, look) in enumerate(PHASES.items()):
            number = replace(numbers[arm.key, phase], singly=())
            draw_number(axes, row + (place - 1) * 0.22, number, look, f"{letter}.{phase}.{arm.key}")
    axes.set_title(f"{letter}  Peak memory", pad=4)
    axes.set_xlabel("GiB")


def _ratios(axes: Axes, rows: pd.DataFrame, found: Sequence[Arm], letter: str) -> None:
    numbers = {
        (arm.key, what): _number(rows, what, condition, arm)
        for arm in found
        for what, (condition, _) in RATIOS.items()
        if ((rows.what == what) & (rows.checkpoint == arm.key)).any()
    }
    values = [number.value for number in numbers.values() if number.value > 0] or [1.0]
    ends = [end for number in numbers.values() for end in number.seeds[1:] if end > 0]
    low, high = min([1.0, *values]), max([1.0, *values])
    reach = max(high / low, 2.0)
    low, high = (
        min([low, *(max(end, low / reach) for end in ends)]),
        max([high, *(min(end, high * reach) for end in ends)]),
    )
    axes.set_xscale("log")
    axes.set_xlim(low / 1.2, high * 1.2)
    _ratio_ticks(axes)
    axes.axvline(
        1.0, color=arms.FULL.colour, linewidth=0.9, linestyle="--", zorder=1, gid=f"{letter}.full"
    )
    for row, arm in enumerate(found):
        for place, (what, (_, look)) in enumerate(RATIOS.items()):
            if (arm.key, what) in numbers:
                draw_number(
                    axes,
                    row + (place - 0.5) * 0.36,
                    numbers[arm.key, what],
                    look,
                    f"{letter}.{what}.{arm.key}",
                )
    axes.set_title(f"{letter}  Over full rollout", pad=4)
    axes.set_xlabel("ratio (log axis)")


def _ratio_ticks(axes: Axes) -> None:
    """Round ratios within the limits, as many as have room."""
    low, high = axes.get_xlim()
    ticks = [
        tick
        for power in range(-4, 5)
        for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if low <= tick <= high
    ]
    across_points = style.size_points(axes)[0]
    places = [math.log(tick / low) / math.log(high / low) * across_points for tick in ticks]
    shown = set(style.far_apart(places, 20.0))
    axes.set_xticks(
        ticks, [f"{tick:g}" if place in shown else "" for place, tick in enumerate(ticks)]
    )
    axes.xaxis.set_minor_locator(NullLocator())


def _published(axes: Axes, published: pd.DataFrame, letter: str) -> None:
    """Seconds a step as printed, in grey and hatched."""
    own = published[published.what == "seconds_per_step"]
    names = list(dict.fromkeys(own.checkpoint))
    for row, name in enumerate(names):
        start = 0.0
        for phase, hatch in HATCHES.items():
            value = float(own[(own.checkpoint == name) & (own.condition == phase)].value.iloc[0])
            bar = axes.barh(
                row,
                value,
                0.62,
                start,
                facecolor="white",
                edgecolor=style.PUBLISHED,
                linewidth=0.8,
                hatch=hatch,
            )
            bar[0].set_gid(f"{letter}.published.{phase}.{name}")
            start += value
    axes.set_ylim(len(names) - 0.5, -0.5)
    words = [
        "full rollout" if name == "full" else name.replace("prefix-", "ESR, N = ") for name in names
    ]
    axes.set_yticks(range(len(names)), words)
    axes.tick_params(axis="y", length=0)
    arms.value_ticks(axes)
    axes.set_title(f"{letter}  Published, other pair", pad=4)
    axes.set_xlabel("seconds, phases in the order of a")
