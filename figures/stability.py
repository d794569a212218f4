"""Accuracy over the checkpoints of training runs: does a student fall after its best step? Per-step
tables, measured.

    first      a small panel for each arm: accuracy by training step, a line a seed
    then       a row for each arm: peak, last and lowest; how far peak and lowest lie apart, beside
               what chance gives; and how far the last checkpoint lies below the peak

On the test problems where every checkpoint was evaluated on them, else on held-out ones. Drawing
reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from . import arms, small_panels, style
from .arms import SEEDS, Arm, Number, draw_number, look_handle
from .artists import PERCENT, Look

VIEWS = {"test": "test problems", "validation": "held-out problems"}
MARKS = {
    "peak_accuracy": ("^", "peak"),
    "last_accuracy": ("s", "last"),
    "lowest_accuracy": ("v", "lowest"),
}
APART, FALLEN, CHANCE = "peak_minus_lowest", "peak_minus_last", "peak_minus_lowest_by_chance"
PUBLISHED = Look("published", style.PUBLISHED, "o", "--")
SETTING = "math500_n16"  # of the published steps: the one in which full rollout collapsed
TITLES = (
    ("Peak, last, lowest", "Peak, last,\nlowest"),
    ("Peak less lowest", "Peak less\nlowest"),
    ("Peak less last", "Peak\nless last"),
)
MARKS_APART = 3.2  # points between peak, last and lowest of a row
LINES = ("-", "--", ":")
BRIDGE = 5.0  # points thick: from the lowest to the peak


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
    """
    rows = _of_one_view(measurements)
    found = arms.arms_of(rows)
    theirs = _published_arms(published)
    handles = _handles(rows)
    note = _note(rows)
    with style.context():
        head, foot = arms.key_inches(len(handles), width), arms.foot_inches(note, width)
        steps = [_steps(rows, arm) for arm in found] + [tuple(own.step) for _, own in theirs]
        figure, axes, (levels, apart, fallen) = small_panels.layout(found, steps, width, head, foot)
        low, high = _span(rows, theirs)
        for place, one in enumerate(axes):
            one.set_ylim(low, high)
            arms.value_ticks(one, upright=True)
            if place < len(found):
                _curves(one, rows, found[place])
                small_panels.title(one, found[place].name, width)
            else:
                name = _published(one, theirs[place - len(found)])
                small_panels.title(one, name, width, style.PUBLISHED)
            first = place % small_panels.MEASURES[width].a_row == 0
            one.tick_params(
                labelleft=first, labelbottom=small_panels.has_steps(steps, place, width)
            )
        small_panels.name_values(figure, axes, "accuracy (%), by training step")
        _levels(levels, rows, found)
        _apart(apart, rows, found, APART)
        _apart(fallen, rows, found, FALLEN)
        for one, (wide, narrow) in zip((levels, apart, fallen), TITLES, strict=True):
            one.set_title(wide if width == "page" else narrow, pad=4)
        arms.key(figure, handles, width)
        arms.foot(figure, note, width)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, on which problems, counts, and how the intervals
    were made."""
    rows = _of_one_view(measurements)
    view = str(rows["view"].iloc[0])
    rule = f", answer rule {rows.answer_rule.iloc[0]}" if view == "test" else ""
    level = f"{rows.level.iloc[0] * PERCENT:g} %"
    methods = "; ".join(sorted({*rows[rows.what == "accuracy"].method} - {""}))
    text = [
        f"Accuracy over the checkpoints of each run on {rows.problems.max():,.0f} "
        f"{VIEWS[view]}{rule}; {_seeds(rows)}.",
        "Small panels: by training step, from the student before training at 0; a line a seed, "
        f"bars: {level} intervals over "
        f"problems ({methods}).",
        "Below: means over seeds of peak, last and lowest accuracy, of peak less lowest and of "
        "peak less last, thin bars: "
        f"{level} Student t over the seeds (none with one seed, or where all agree); small marks: "
        "each seed.",
        "A peak is the highest of several noisy numbers and a lowest the lowest: biased away from "
        "each other.",
    ]
    if (rows.what == CHANCE).any():
        text.append(
            "Grey tick: how far apart they would be on average if all checkpoints were equally "
            "good."
        )
    else:
        text.append(
            "How far apart chance alone puts them is not known here: outcomes by problem are not "
            "kept."
        )
    if published is not None:
        text.append(
            f"Grey and hollow: published, {published.run.iloc[0]}, another pair and problem set, "
            "16 rollouts a problem, "
            "without intervals."
        )
    return " ".join(text)


def _of_one_view(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows on the test problems where every arm has them, else on the held-out ones."""
    peaks = measurements[measurements.what == "peak_accuracy"]
    if not len(peaks):
        raise ValueError(
            "measurements hold no peak over checkpoints; measure the stability of runs with several"
        )
    by_view = {view: set(peaks[peaks["view"] == view].checkpoint) for view in VIEWS}
    view = max(VIEWS, key=lambda one: (len(by_view[one]), one == "test"))
    whats = ("accuracy", *MARKS, APART, FALLEN, CHANCE)
    return pd.DataFrame(
        measurements[(measurements["view"] == view) & measurements.what.isin(whats)]
    )


def _seeds(rows: pd.DataFrame) -> str:
    seeds = rows[rows.training_seed.notna()].groupby("checkpoint").training_seed.nunique()
    few, most = int(seeds.min()), int(seeds.max())
    return f"{most if few == most else f'{few} to {most}'} seed{'s' * (most > 1)} an arm"


def _note(rows: pd.DataFrame) -> str:
    view, level = str(rows["view"].iloc[0]), f"{rows.level.iloc[0] * PERCENT:g} %"
    return (
        f"Bars: {level} intervals, in the small panels over problems, below over seeds. "
        f"{rows.problems.max():,.0f} "
        f"{VIEWS[view]}, {_seeds(rows)}. Peak and lowest are biased away from each other."
    )


def _handles(rows: pd.DataFrame) -> list[Line2D]:
    seeds = sorted(rows.training_seed.dropna().unique())
    lines = [
        Line2D([], [], color=style.INK, ls=_line(place), linewidth=1.0, label=f"seed {seed:g}")
        for place, seed in enumerate(seeds[: len(LINES)])
    ]
    marks = [look_handle(Look(name, style.INK, marker)) for marker, name in MARKS.values()]
    chance = [
        Line2D(
            [],
            [],
            color="#888888",
            ls="",
            marker="|",
            markersize=6,
            markeredgewidth=1.6,
            label="by chance",
        )
    ]
    return [*lines, *marks, *(chance if (rows.what == CHANCE).any() else [])]


def _line(place: int) -> str:
    return LINES[place % len(LINES)]


def _published_arms(published: pd.DataFrame | None) -> list[tuple[str, pd.DataFrame]]:
    if published is None:
        return []
    rows = published[published.condition == SETTING]
    return [
        (str(name), own.sort_values("step")) for name, own in rows.groupby("checkpoint", sort=False)
    ]


def _span(rows: pd.DataFrame, theirs: Sequence[tuple[str, pd.DataFrame]]) -> tuple[float, float]:
    """The same heights for every small panel: all values, and the intervals as far as they do not
    double that."""
    curve = rows[rows.what == "accuracy"]
    triples = curve[["value", "low", "high"]].to_numpy(dtype=float) * PERCENT
    numbers = [
        Number((value, value, value), (value, low, high), ())
        for value, low, high in triples.tolist()
    ]
    more = [float(value) * PERCENT for _, own in theirs for value in own.value]
    low, high = arms.span(numbers, more, least=10.0)
    return max(low, -2.0), min(high, 102.0)


def _steps(rows: pd.DataFrame, arm: Arm) -> tuple[float, ...]:
    """Of the checkpoints of an arm."""
    own = rows[(rows.checkpoint == arm.key) & (rows.what == "accuracy")]
    return tuple(sorted(own.step.unique()))


# The panels


def _step_axis(axes: Axes, steps: Sequence[float]) -> None:
    longest = max([*steps, 1.0])
    axes.set_xlim(-0.04 * longest, 1.04 * longest)
    ordered = sorted({0.0, *steps})
    across_points = style.size_points(axes)[0]
    shown = set(style.far_apart([step / longest * across_points for step in ordered], 18.0))
    axes.set_xticks(
        ordered, [f"{step:g}" if place in shown else "" for place, step in enumerate(ordered)]
    )


def _curves(axes: Axes, rows: pd.DataFrame, arm: Arm) -> None:
    """A line a seed, moved aside by a point each so that their bars can be told apart."""
    own = rows[(rows.checkpoint == arm.key) & (rows.what == "accuracy")]
    _step_axis(axes, own.step.tolist())
    seeds = sorted(own.training_seed.unique())
    low, high = axes.get_ylim()
    for place, seed in enumerate(seeds):
        curve = own[own.training_seed == seed].sort_values("step")
        aside = ScaledTranslation(
            (place - (len(seeds) - 1) / 2) * 2.0 / style.POINTS_PER_INCH,
            0,
            style.root(axes).dpi_scale_trans,
        )
        x, table = (
            curve.step.to_numpy(float),
            curve[["value", "low", "high"]].to_numpy(float) * PERCENT,
        )
        moved = axes.transData + aside
        colour = arm.look.colour
        bars = axes.vlines(
            x,
            table[:, 1].clip(low),
            table[:, 2].clip(max=high),
            color=colour,
            linewidth=0.6,
            transform=moved,
        )
        bars.set_alpha(0.5)
        bars.set_gid(f"{arm.key}.{seed:g}.bars")
        axes.plot(
            x,
            table[:, 0],
            color=colour,
            ls=_line(place),
            linewidth=1.0,
            marker=arm.look.marker,
            markersize=2.4,
            markeredgewidth=0,
            transform=moved,
            clip_on=False,
            gid=f"{arm.key}.{seed:g}",
        )


def _published(axes: Axes, theirs: tuple[str, pd.DataFrame]) -> str:
    """A published arm; its name."""
    name, own = theirs
    x, y = own.step.to_numpy(float), own.value.to_numpy(float) * PERCENT
    _step_axis(axes, x.tolist())
    axes.plot(
        x,
        y,
        color=style.PUBLISHED,
        linestyle="--",
        linewidth=0.9,
        marker="o",
        markersize=4.0,
        markerfacecolor="white",
        markeredgecolor=style.PUBLISHED,
        clip_on=False,
        gid=f"published.{name}",
    )
    return "published, " + ("full rollout" if name == "full" else name.replace("prefix-", "ESR "))


def _number(rows: pd.DataFrame, what: str, arm: Arm) -> Number:
    """Over seeds and singly; there is no interval over problems for several runs."""
    own = rows[(rows.what == what) & (rows.checkpoint == arm.key)]
    found = Number.of(own)
    mean = own[own.estimand == SEEDS]
    return found if len(mean) else replace(found, seeds=(math.nan,) * 3)


def _levels(axes: Axes, rows: pd.DataFrame, found: Sequence[Arm]) -> None:
    numbers = {(arm.key, what): _number(rows, what, arm) for arm in found for what in MARKS}
    low, high = arms.span(numbers.values(), least=10.0)
    axes.set_xlim(max(low, -2.0), min(high, 102.0))
    arms.value_ticks(axes)
    row_points = style.size_points(axes)[1] / len(found)
    for row, arm in enumerate(found):
        values = [numbers[arm.key, what].value for what in MARKS]
        axes.hlines(
            row,
            min(values),
            max(values),
            color=arm.look.colour,
            linewidth=BRIDGE,
            alpha=0.25,
            zorder=1,
        )
        for place, (what, (marker, _)) in enumerate(MARKS.items()):
            look = replace(arm.look, marker=marker)
            number = replace(numbers[arm.key, what], singly=())
            draw_number(
                axes,
                row + (place - 1) * MARKS_APART / row_points,
                number,
                look,
                f"{what}.{arm.key}",
            )
    axes.set_xlabel("accuracy (%)")


def _apart(axes: Axes, rows: pd.DataFrame, found: Sequence[Arm], what: str) -> None:
    """Peak less another, from 0; and, of the lowest, what chance alone would give."""
    numbers = {arm.key: _number(rows, what, arm) for arm in found}
    chance = {
        arm.key: _number(rows, CHANCE, arm).value if what == APART else math.nan for arm in found
    }
    _, high = arms.span(numbers.values(), [0.0, *chance.values()], least=5.0)
    axes.set_xlim(0.0, high)
    arms.value_ticks(axes, 3)
    for row, arm in enumerate(found):
        draw_number(axes, row, numbers[arm.key], arm.look, f"{what}.{arm.key}", aside=0.3)
        if not math.isnan(chance[arm.key]):
            axes.plot(
                [chance[arm.key]],
                [row],
                "|",
                color="#888888",
                markersize=6,
                markeredgewidth=1.6,
                clip_on=False,
                gid=f"{CHANCE}.{arm.key}",
                zorder=1.5,
            )
    axes.set_xlabel("points")
