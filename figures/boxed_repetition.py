"""Several boxes and repetition over checkpoints: is a collapse one of content, or of stopping and
the answer rule?

Where the checkpoints are steps of training runs (``step-000050``, ``full-seed-0/step-000050``), a
small panel each against the training step, a line a run:

    a, b, c, d   share of responses with several boxes, boxes per response, repeated 3-grams,
                 natural stops
    e            accuracy under the last box, the first box and anywhere in the response
    f, g, h, i   the published collapse where it is given: several boxes, boxes, repetitive
                 responses, accuracy

The base student stands at step 0; the teacher is a dashed line with its interval. Otherwise as dots
by model: a shares, b boxes, c accuracy; d, e, f published. Drawing reads rows of the measurements
table and computes no statistics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import BASE, FRACTION, FRESH

from . import artists, colours, groups, style, words
from .artists import NUMBERS, PERCENT, Look
from .behaviour import rules_panel
from .colours import looks
from .curves import shifts, step_axis
from .groups import (
    Panel,
    Series,
    counts,
    intervals,
    published_series,
    series_of,
    sheet_of,
)
from .layout import Block
from .page import Part, Sheet, drawing

SEVERAL, BOXES, REPETITION, STOPS, ACCURACY = (
    "several_boxes_share",
    "boxes_mean",
    "repetition_3gram",
    "natural_stop_share",
    "accuracy",
)
REPETITIVE = "repetitive_share"  # of the published rows
RULES, PUBLISHED_RULES = ("last_boxed", "first_boxed", "anywhere"), ("official", "relaxed")
SHARES = {SEVERAL: "several\nboxes", REPETITION: "repeated\n3-grams", STOPS: "natural\nstops"}
PUBLISHED_SHARES = {SEVERAL: "several\nboxes", REPETITIVE: "repetitive\nresponses"}
# By letter of the panel over steps: the quantity and its name
CURVES = {
    "a": (SEVERAL, "Several boxes (%)"),
    "b": (BOXES, "Boxes per response"),
    "c": (REPETITION, "Repeated 3-grams (%)"),
    "d": (STOPS, "Natural stops (%)"),
    "e": (ACCURACY, "Accuracy by answer rule (%)"),
}
PUBLISHED_CURVES = {
    "f": (SEVERAL, "Published: several boxes (%)"),
    "g": (BOXES, "Published: boxes"),
    "h": (REPETITIVE, "Published: repetitive (%)"),
    "i": (ACCURACY, "Published: accuracy (%)"),
}
MOSAIC, PUBLISHED_MOSAIC = ("abcd", "eeee"), ("fghi",)  # of a page
# Line and marker of the answer rules, in their order
LINES = (("-", "s"), ("--", "^"), (":", "D"))
PUBLISHED_LINES = (("--", "o"), (":", "s"))
TEACHER = Look("teacher", style.TEACHER, "", "--")
PUBLISHED = Look("published", style.PUBLISHED, "o", "--")
STEP = re.compile(r"(.*?)/?(?:step|checkpoint)-(\d+)")
ONE_RUN = "trained student"  # where the names of the checkpoints hold no run
Runs = dict[str, dict[float, str]]  # of each training run its checkpoints by step
PANEL_INCHES, ALONE_INCHES = 0.95, 1.4
LEAST_SPAN = 10.0  # per cent that an axis goes up to at least
ROOM = 4.0  # per cent: for a marker at 0 or 100
RUNS_APART = 2.0  # points between the lines of runs, so that their bars can be told apart

CAPTION = """Several boxes, repetition, natural stops and accuracy by answer rule, of rollouts that
    each model wrote itself{steps}: {counts} per model. Lines: {level} intervals,
    problem-clustered."""
STEPS = ", by training step; teacher dashed"
DETAILS = """Rollouts that each model wrote itself ({counts}). {panels} Accuracy, mean over
    rollouts, by the answer rules {rules}. {theirs} {intervals}"""
OVER_STEPS = """Against the training step, the base student at 0; blue, dashed and shaded: the
    teacher with its interval, in e by the first of the rules. (a) Responses with more than one
    box. (b) Boxes per response, mean. (c) Of the 3-grams of a response those that came before in
    it, mean over rollouts. (d) Responses that stopped naturally. (e)"""
BY_MODEL = """(a) Responses with more than one box; of the 3-grams of a response those that came
    before in it, mean over rollouts; responses that stopped naturally. (b) Boxes per response,
    mean. (c)"""
PUBLISHED_CAPTION = f"""({{letters}}) {groups.PUBLISHED} One run of full rollout; what counts as a
    repetitive response is not stated and is not the measured share of 3-grams."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.behaviour.measure`.
        published: rows of `decaylab.paper.publication.boxed_repetition`, in grey panels of their
            own.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no share of responses with several boxes.
    """
    rows = _rows(measurements)
    runs = runs_of(rows.checkpoint)
    if not runs:
        panels = _panels(rows) + ([] if published is None else _published_panels(published))
        return sheet_of(panels, title)
    sides = [Side(rows, runs, CURVES, RULES)]
    mosaics = [*MOSAIC]
    if published is not None:
        runs = runs_of(published.checkpoint)
        sides.append(Side(published, runs, PUBLISHED_CURVES, PUBLISHED_RULES, published=True))
        mosaics += PUBLISHED_MOSAIC
    parts = {letter: _part(side, letter) for side in sides for letter in side.panels}
    place = Block(left=0.4, right=0.14, between=0.42, above=0.4)
    page = [replace(place, mosaic=[list(row)], heights=[PANEL_INCHES]) for row in mosaics]
    return Sheet(parts, page, title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    rows = _rows(measurements)
    steps = STEPS if runs_of(rows.checkpoint) else ""
    most = counts(rows, ("problems", "rollouts"))
    return words.filled(CAPTION, rows, counts=most, steps=steps)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    rows = _rows(measurements)
    rules = ", ".join(rule for rule in RULES if (rows.condition == rule).any())
    over_steps = bool(runs_of(rows.checkpoint))
    letters = "f to i" if over_steps else "d to f"
    return words.filled(
        DETAILS,
        counts=counts(rows),
        panels=OVER_STEPS if over_steps else BY_MODEL,
        rules=rules,
        theirs=words.of_published(PUBLISHED_CAPTION, published, letters=letters),
        intervals=intervals(rows),
    )


def runs_of(checkpoints: Iterable[str]) -> Runs:
    """Of each training run its checkpoints by step; none unless every trained one is a step and
    some run has several."""
    runs: Runs = {}
    for name in dict.fromkeys(checkpoints):
        if name in (BASE, vocabulary.TEACHER):
            continue
        matched = STEP.fullmatch(name)
        if matched is None:
            return {}
        runs.setdefault(matched[1] or ONE_RUN, {})[float(matched[2])] = name
    return runs if any(len(steps) > 1 for steps in runs.values()) else {}


def _rows(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows that are drawn."""
    whats = [SEVERAL, BOXES, REPETITION, STOPS]
    drawn = measurements.what.isin(whats)
    drawn |= (measurements.what == ACCURACY) & measurements.condition.isin(RULES)
    rows = measurements[drawn & (measurements["view"] == FRESH)]
    if not (rows.what == SEVERAL).any():
        raise ValueError("measurements hold no several_boxes_share; pass those of behaviour")
    return rows


# Against the training step


@dataclass(frozen=True)
class Side:
    """What was measured, or what was published.

    panels: quantity and name with its unit, by letter. rules: the answer rules, in their order.
    """

    rows: pd.DataFrame
    runs: Runs
    panels: Mapping[str, tuple[str, str]]
    rules: Sequence[str]
    published: bool = False

    @property
    def looks(self) -> dict[str, Look]:
        """Of each run."""
        if self.published:
            return dict.fromkeys(self.runs, PUBLISHED)
        run_of = {name: run for run, steps in self.runs.items() for name in steps.values()}
        trained = self.rows[self.rows.checkpoint.isin(run_of)]
        return looks(trained.assign(checkpoint=trained.checkpoint.map(run_of)))

    @property
    def lines(self) -> dict[str, tuple[str, str]]:
        """Line and marker of each answer rule that was graded by."""
        graded = [rule for rule in self.rules if (self.rows.condition == rule).any()]
        return dict(zip(graded, PUBLISHED_LINES if self.published else LINES))

    def curve(self, rows: pd.DataFrame, run: str) -> pd.DataFrame:
        """The rows of a run by step; the base student, where it was measured, at step 0."""
        named = dict(self.runs[run])
        if not self.published:
            named[0.0] = BASE
        steps = {name: step for step, name in named.items()}
        curve = rows[rows.checkpoint.isin(steps)]
        return curve.assign(step=curve.checkpoint.map(steps)).sort_values("step")


def scale_of(rows: pd.DataFrame) -> float:
    """Fractions are drawn in per cent."""
    return PERCENT if (rows.unit == FRACTION).all() else 1.0


def _part(side: Side, letter: str) -> Part:
    what, name = side.panels[letter]
    block = Block([[letter]], [ALONE_INCHES], left=0.45)
    colour = style.PUBLISHED if side.published else style.INK
    keys = _handles(side, rules=what == ACCURACY)
    return Part(name, block, lambda axes: _panel(axes[letter], side, what, letter), keys, 4, colour)


def _panel(axes: Axes, side: Side, what: str, letter: str) -> None:
    rows = vocabulary.select(side.rows, what=what)
    lines = side.lines if what == ACCURACY else {"": ("", "")}
    of_rules = {rule: rows[rows.condition == rule] for rule in lines}
    curves = {(rule, run): side.curve(of_rules[rule], run) for rule in lines for run in side.runs}
    # The teacher by the first rule
    teacher = vocabulary.select(next(iter(of_rules.values())), checkpoint=vocabulary.TEACHER)
    scale = scale_of(rows)
    _value_axis(axes, pd.concat([*curves.values(), teacher]), scale, what)
    step_axis(axes, pd.concat(curves.values()).step)
    axes.set_xlabel("training step")
    if len(teacher):
        value, low, high = (float(teacher[number].iloc[0]) * scale for number in NUMBERS)
        artists.across(axes, (value, low, high), TEACHER, f"{letter}.teacher")
    aside = shifts(len(curves), RUNS_APART)
    for ((rule, run), curve), shift in zip(curves.items(), aside, strict=True):
        look = side.looks[run]
        # The answer rule sets line and marker of accuracy, else the run does
        line, marker = lines[rule]
        if marker:
            look = replace(look, line=line, marker=marker)
        gid = f"{letter}.{rule}.{run}" if rule else f"{letter}.{run}"
        small = {"linewidth": 1.0, "markersize": 3.4, "zorder": 3}
        place: dict[str, Any] = {"shift": shift}
        artists.draw(axes, curve.step, curve, look, gid, scale=scale, **place | small)
        # Not a step of this run, but where every run began
        base = curve[curve.checkpoint == BASE]
        artists.points(
            axes, base.step, base.value * scale, colours.BASE, f"{gid}.base", zorder=4, **place
        )


def _value_axis(axes: Axes, rows: pd.DataFrame, scale: float, what: str) -> None:
    """Shares of responses from 0 to 100 per cent; others from 0 to what is drawn."""
    if scale == PERCENT and what != REPETITION:
        # The whole scale, so that a collapse looks like one
        axes.set_ylim(-ROOM, PERCENT + ROOM)
        axes.set_yticks([0, 25, 50, 75, 100])
        return
    values = rows[NUMBERS].to_numpy(dtype=float) * scale
    most = float(values[np.isfinite(values)].max(initial=0.0))
    axes.set_ylim(0.0, max(1.08 * most, LEAST_SPAN if scale == PERCENT else 2.0))
    style.ticks_within(axes, upright=True, most=4, share=scale == PERCENT)


def _handles(side: Side, *, rules: bool) -> list[Artist]:
    """Base, runs, teacher, and the answer rules where there are several lines of a run."""
    names = set(side.rows.checkpoint)
    handles: list[Artist] = []
    if not side.published:
        handles += [artists.handle(colours.BASE)] if BASE in names else []
        handles += [artists.handle(look, line=True) for look in side.looks.values()]
        handles += [artists.handle(TEACHER, line=True)] if vocabulary.TEACHER in names else []
    colour, before = (style.PUBLISHED, "published, ") if side.published else (style.INK, "")
    for rule, (line, marker) in side.lines.items() if rules else ():
        look = Look(before + rule.replace("_", " "), colour, marker, line)
        handles.append(artists.handle(look, line=True))
    return handles


# Dots by model


def _panels(rows: pd.DataFrame) -> list[Panel]:
    known = looks(rows)
    accuracy = [vocabulary.select(rows, what=ACCURACY, condition=rule) for rule in RULES]
    panels = [
        Panel(
            "a",
            "Boxes, repetition, stops",
            "share (%)",
            SHARES,
            series_of(vocabulary.select(rows, what=[*SHARES]), known, "what"),
        ),
        _boxes("b", "Boxes per response", series_of(_of_boxes(rows), known, "what")),
        rules_panel(
            "c", "Accuracy by answer rule", series_of(pd.concat(accuracy), known, "condition")
        ),
    ]
    return [panel for panel in panels if panel.series]


def _published_panels(published: pd.DataFrame) -> list[Panel]:
    shares = vocabulary.rows(published, what=[*PUBLISHED_SHARES])
    accuracy = vocabulary.rows(published, what=ACCURACY)
    return [
        Panel(
            "d",
            "Published: boxes and repetition",
            "share (%)",
            PUBLISHED_SHARES,
            published_series(shares, "what"),
        ),
        rules_panel("e", "Published: accuracy", published_series(accuracy, "condition")),
        _boxes("f", "Published: boxes", published_series(_of_boxes(published), "what")),
    ]


def _of_boxes(rows: pd.DataFrame) -> pd.DataFrame:
    return vocabulary.select(rows, what=BOXES)


def _boxes(gid: str, title: str, series: Sequence[Series]) -> Panel:
    return Panel(gid, title, "boxes", {BOXES: "mean"}, series, scale=1.0)
