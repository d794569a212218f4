"""Quantities over the checkpoints of training runs: a small panel each, a line a run, against the
training step.

The base student stands at step 0; the teacher is a dashed line with its interval. Accuracy has a
line for each answer rule. Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from . import arms, style
from .artists import PERCENT, Look
from .colours import BASE, looks
from .groups import counts

Runs = dict[str, dict[float, str]]  # of each training run its checkpoints by step
ACCURACY = "accuracy"
LINES = (("-", "s"), ("--", "^"), (":", "D"))  # and markers of the answer rules, in their order
PUBLISHED_LINES = (("--", "o"), (":", "s"))
TEACHER = Look("teacher", style.TEACHER, "", "--")
PANEL, ABOVE, BELOW, LEFT, GAP, RIGHT = 0.95, 0.26, 0.42, 0.4, 0.42, 0.14  # inches
A_ROW: dict[style.Width, int] = {"page": 4, "column": 2}
LEAST_SPAN = 10.0  # per cent that an axis goes up to at least
ROOM = 4.0  # per cent: for a marker at 0 or 100
NUMBERS = ["value", "low", "high"]


@dataclass(frozen=True)
class Block:
    """Panels that belong together: what was measured, or what was published.

    letters, names: of the panel of each quantity, names with their units. rules: the answer rules,
    in their order.
    """

    rows: pd.DataFrame
    runs: Runs
    letters: Mapping[str, str]
    names: Mapping[str, str]
    rules: Sequence[str]
    published: bool = False

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Line and marker of each answer rule."""
        return PUBLISHED_LINES if self.published else LINES

    @property
    def look(self) -> dict[str, Look]:
        """Of each run."""
        if self.published:
            return {run: Look("published", style.PUBLISHED, "o") for run in self.runs}
        run_of = {name: run for run, steps in self.runs.items() for name in steps.values()}
        trained = self.rows[self.rows.checkpoint.isin(run_of)]
        return looks(trained.assign(checkpoint=trained.checkpoint.map(run_of)))

    def conditions(self, what: str) -> list[str]:
        """The answer rules that were graded by, of accuracy; else one that is none."""
        if what != ACCURACY:
            return [""]
        return [rule for rule in self.rules if (self.rows.condition == rule).any()]

    def curve(self, what: str, condition: str, run: str) -> pd.DataFrame:
        """Steps and numbers of a line as they are drawn; the base student, where it was measured,
        at step 0."""
        named = ({} if self.published else {0.0: "base"}) | self.runs[run]
        rows = self.rows[(self.rows.what == what) & (self.rows.condition == condition)].set_index(
            "checkpoint"
        )
        steps = {step: name for step, name in sorted(named.items()) if name in rows.index}
        numbers = rows.loc[list(steps.values()), NUMBERS].to_numpy(dtype=float) * scale_of(rows)
        return pd.DataFrame(numbers, columns=NUMBERS, index=list(steps))


def scale_of(rows: pd.DataFrame) -> float:
    """Fractions are drawn in per cent."""
    return PERCENT if (rows.unit == "fraction").all() else 1.0


def draw(blocks: Sequence[Block], width: style.Width, title: str = "") -> Figure:
    """The blocks below each other, four panels a row on a page and two in a column."""
    handles = _handles(blocks)
    note = _note(blocks[0].rows)
    with style.context():
        title = textwrap.fill(title, 110 if width == "page" else 52)
        above = 0.04 + 0.14 * (title.count("\n") + 1) if title else 0.0
        head = above + arms.key_inches(len(handles), width)
        foot = arms.foot_inches(note, width)
        figure, places = _layout(blocks, width, head, foot)
        for block in blocks:
            for what, letter in block.letters.items():
                axes = style.add_axes(figure, *places[letter])
                _panel(axes, block, what)
        across, up = figure.get_size_inches()
        if title:
            figure.text(0.08 / across, 1 - 0.05 / up, title, va="top", gid="title")
        arms.key(figure, handles, width)
        figure.legends[0].set_bbox_to_anchor(
            (0.08 / across, 1 - (above + 0.05) / up), figure.transFigure
        )
        arms.foot(figure, note, width)
    return figure


def _layout(
    blocks: Sequence[Block], width: style.Width, head: float, foot: float
) -> tuple[Figure, dict[str, tuple[float, float, float, float]]]:
    """Left, bottom, right and top of each panel, in inches. Accuracy takes a whole row where it
    would begin one."""
    a_row = A_ROW[width]
    each = (style.WIDTH_INCHES[width] - LEFT - RIGHT - GAP * (a_row - 1)) / a_row
    spots: dict[str, tuple[int, int, int]] = {}  # row, column, columns across
    row = 0
    for block in blocks:
        column = 0
        for what, letter in block.letters.items():
            last = what == ACCURACY and column == 0
            spots[letter] = (row, column, a_row if last else 1)
            row, column = (row + 1, 0) if column == a_row - 1 or last else (row, column + 1)
    pitch = ABOVE + PANEL + BELOW
    total = head + pitch * row + foot
    figure = style.new_figure(width, total)
    places = {}
    for letter, (down, column, across) in spots.items():
        left, top = LEFT + (each + GAP) * column, total - head - ABOVE - pitch * down
        right = left + each * across + GAP * (across - 1)
        places[letter] = (left, top - PANEL, right, top)
    return figure, places


def _panel(axes: Axes, block: Block, what: str) -> None:
    conditions = block.conditions(what)
    curves = {
        (condition, run): block.curve(what, condition, run)
        for condition in conditions
        for run in block.runs
    }
    teacher = _teacher(block, what, conditions[:1])
    _value_axis(axes, [*curves.values(), teacher], what, block)
    _step_axis(axes, [step for curve in curves.values() for step in curve.index])
    letter = block.letters[what]
    if len(teacher):
        value, low, high = teacher[NUMBERS].iloc[0]
        arms.across(axes, (value, low, high), TEACHER, f"{letter}.teacher")
    for place, ((condition, run), curve) in enumerate(curves.items()):
        look = block.look[run]
        if (
            condition or block.published
        ):  # of accuracy the answer rule tells line and marker, else the run
            line, marker = block.lines[conditions.index(condition)]
            look = replace(look, line=line, marker=marker)
        gid = f"{letter}.{condition}.{run}" if condition else f"{letter}.{run}"
        _curve(
            axes, curve, look, gid, (place - (len(curves) - 1) / 2) * 2.0, hollow=block.published
        )
    colour = style.PUBLISHED if block.published else style.INK
    axes.set_title(
        f"{letter}  {block.names[what]}",
        pad=4,
        fontweight="normal",
        fontsize=style.SMALL,
        color=colour,
    )


def _curve(
    axes: Axes, curve: pd.DataFrame, look: Look, gid: str, shift: float, *, hollow: bool
) -> None:
    """A line with its intervals, moved aside by so many points; the base student in its own
    look."""
    x, table = curve.index.to_numpy(dtype=float), curve[NUMBERS].to_numpy(dtype=float)
    moved = axes.transData + ScaledTranslation(
        shift / style.POINTS_PER_INCH, 0, style.root(axes).dpi_scale_trans
    )
    known = np.isfinite(table).all(axis=1)
    if known.any():
        bars = axes.vlines(
            x[known],
            table[known, 1],
            table[known, 2],
            color=look.colour,
            linewidth=0.8,
            transform=moved,
        )
        bars.set_gid(f"{gid}.bars")
    axes.plot(
        x,
        table[:, 0],
        color=look.colour,
        ls=look.line,
        linewidth=1.0,
        marker=look.marker,
        markersize=3.4,
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour if hollow else "white",
        markeredgewidth=0.9 if hollow else 0.3,
        transform=moved,
        clip_on=False,
        gid=gid,
        zorder=3,
    )
    if len(x) and x[0] == 0.0 and not hollow:
        axes.plot(
            x[:1],
            table[:1, 0],
            marker=BASE.marker,
            markersize=4.0,
            color=BASE.colour,
            markeredgecolor="white",
            markeredgewidth=0.3,
            linestyle="",
            transform=moved,
            clip_on=False,
            gid=f"{gid}.base",
            zorder=4,
        )


def _teacher(block: Block, what: str, conditions: Sequence[str]) -> pd.DataFrame:
    rows = block.rows[(block.rows.what == what) & block.rows.condition.isin(conditions)]
    own = rows[rows.checkpoint == "teacher"]
    return own.assign(**{name: own[name] * scale_of(rows) for name in NUMBERS})


def _value_axis(axes: Axes, curves: Sequence[pd.DataFrame], what: str, block: Block) -> None:
    """Shares of responses from 0 to 100 per cent; others from 0 to what is drawn."""
    rows = block.rows[block.rows.what == what]
    if scale_of(rows) == PERCENT and what != "repetition_3gram":
        axes.set_ylim(-ROOM, PERCENT + ROOM)
        axes.set_yticks([0, 25, 50, 75, 100])
        return
    values = np.concatenate([curve[NUMBERS].to_numpy(dtype=float).ravel() for curve in curves])
    most = float(values[np.isfinite(values)].max(initial=0.0))
    least = LEAST_SPAN if scale_of(rows) == PERCENT else 2.0
    axes.set_ylim(0.0, max(1.08 * most, least))
    arms.value_ticks(axes, upright=True)


def _step_axis(axes: Axes, steps: Sequence[float]) -> None:
    longest = max([*steps, 1.0])
    axes.set_xlim(-0.05 * longest, 1.05 * longest)
    ordered = sorted({0.0, *steps})
    across = style.size_points(axes)[0]
    shown = set(style.far_apart([step / longest * across for step in ordered], 20.0))
    axes.set_xticks(
        ordered, [f"{step:g}" if place in shown else "" for place, step in enumerate(ordered)]
    )
    axes.set_xlabel("training step")


def _handles(blocks: Sequence[Block]) -> list[Artist]:
    """Base, runs, teacher, answer rules, published: what each line and colour means."""
    measured = blocks[0]
    names = set(measured.rows.checkpoint)
    handles: list[Artist] = [arms.look_handle(BASE)] if "base" in names else []
    handles += [
        arms.look_handle(replace(look, line="-"), line=True) for look in measured.look.values()
    ]
    handles += [arms.look_handle(TEACHER, marker=False, line=True)] if "teacher" in names else []
    handles += _rule_handles(measured)
    return handles + [handle for block in blocks[1:] for handle in _rule_handles(block)]


def _rule_handles(block: Block) -> list[Artist]:
    colour, before = (style.PUBLISHED, "published, ") if block.published else (style.INK, "")
    return [
        arms.look_handle(Look(before + rule.replace("_", " "), colour, marker, line), line=True)
        for rule, (line, marker) in zip(block.conditions(ACCURACY), block.lines, strict=False)
    ]


def _note(rows: pd.DataFrame) -> str:
    level = " / ".join(f"{one * PERCENT:g} %" for one in sorted(set(rows.level)))
    return (
        f"Bars: {level} intervals, problem-clustered. {counts(rows, ('problems', 'rollouts'))} "
        "a checkpoint."
    )
