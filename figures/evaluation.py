"""How often each checkpoint is correct, by training step, beside the base student and the teacher
on the same problems.

    a   avg@k by the reported answer rule, every checkpoint
    b   maj@k likewise
    c   pass@k of base, teacher and the last checkpoint, for every number of samples drawn

Where the checkpoints have no step, or there are none: dots of the same quantities, and avg@k under
every answer rule.

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import BASE, BEST, FRESH, FULL, LAST

from . import arms, artists, style, words
from .artists import PERCENT, Look
from .behaviour import rules_panel
from .colours import LONGEST_NAME, looks
from .curves import (
    accuracy_axis,
    draw_curve,
    draw_reference,
    length_axis,
    shifts,
    step_axis,
)
from .groups import Panel, counts, intervals, series_of, sheet_of
from .layout import Block, beside_first
from .page import Part, Sheet, drawing
from .running_text import in_lines, short
from .words import printed

REFERENCES = {name: arms.REFERENCES[name] for name in (BASE, vocabulary.TEACHER)}
# Around a marker, with its size: both can be seen where one checkpoint is both
RINGS = {LAST: ("s", 8.5), BEST: ("o", 12.5)}
MARKS = {LAST: "Square: the last checkpoint.", BEST: "Ring: the best on validation."}
NAME_WIDTH = 17
CAPTION = """Accuracy of {shown} beside base student and teacher (dashed), on the same {problems}
    problems \u00d7 {samples}; answer rule {rule}. Lines and shades: {level} intervals,
    problem-clustered. {marks}"""
DETAILS = """Correct answers of rollouts that each model wrote itself ({counts}), answer rule
    {rule}. (a) {panels} {intervals}"""
BY_STEP = """{average}, mean correctness, of each checkpoint by its training step. {majority}
    {passes} Dashed, shaded: base student and teacher on the same problems, with their intervals.
    {marks}"""
MAJORITY = "(b) {what}: whether the answer that most samples of a problem give is correct."
PASSES = "(c) pass@k, unbiased, of {names} for k samples drawn."
BARS = """avg@k: mean correctness; maj@k: whether the answer that most samples of a problem give is
    correct; pass@k: correct at least once in k samples, unbiased. (b) The first under every answer
    rule."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.evaluation.measure`.
        published: not drawn; every diagnostic's figure takes it.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no avg@k.
    """
    rows = _Rows(measurements)
    if not rows.by_step:
        return sheet_of(rows.bars(), title)
    parts = {"a": _by_step_part(rows, rows.average, "a")}
    if rows.has_majority:
        parts["b"] = _by_step_part(rows, rows.majority, "b")
    if len(rows.passes) > 1:
        parts["c"] = Part(
            "Correct at least once in k samples",
            Block([["c"]], [1.9], right=1.1),
            lambda axes: _passes(axes["c"], rows),
        )
    return Sheet(parts, [beside_first({"a": (0.0, 2.66)}, list(parts)[1:])], title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    return _Rows(measurements).caption


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, answer rule, counts, and how the intervals were made."""
    rows = _Rows(measurements)
    panels = BARS
    if rows.by_step:
        majority = MAJORITY.format(what=printed(rows.majority)) if rows.has_majority else ""
        passes = ""
        if len(rows.passes) > 1:
            passes = PASSES.format(names=_and(rows.compared.values()))
        average = printed(rows.average, rows.rule)
        panels = BY_STEP.format(average=average, majority=majority, passes=passes, marks=rows.marks)
    return words.filled(
        DETAILS,
        counts=counts(rows.levels),
        rule=rows.rule,
        panels=panels,
        intervals=intervals(rows.levels),
    )


def _by_step_part(rows: _Rows, what: str, letter: str) -> Part:
    return Part(
        f"{printed(what, rows.rule)} by training step",
        Block([[letter]], [1.9], right=1.1),
        lambda axes: _by_step(axes[letter], rows, what, letter),
    )


class _Rows:
    """The rows of the measurements by what they are drawn as. rule: the reported one, which the
    analysis puts first."""

    def __init__(self, measurements: pd.DataFrame) -> None:
        fresh = vocabulary.select(measurements, view=FRESH)
        averages = fresh[fresh.what.str.fullmatch(r"avg_at_\d+")]
        if averages.empty:
            raise ValueError("measurements hold no avg_at_k; pass those of evaluation")
        self.average, self.rule = str(averages.what.iloc[0]), str(averages.condition.iloc[0])
        self.averages = averages
        self.samples = words.samples(self.average)
        self.majority = f"maj_at_{self.samples}"
        reported = vocabulary.select(fresh, condition=self.rule)
        passes = reported[reported.what.str.fullmatch(r"pass_at_\d+")].what.unique()
        self.passes = sorted(map(str, passes), key=words.samples)
        self.levels = vocabulary.select(reported, what=[self.average, self.majority, *self.passes])
        taken = {view: vocabulary.select(measurements, view=view).checkpoint for view in RINGS}
        self.taken = {view: set(names) for view, names in taken.items() if len(names)}
        names = [str(name) for name in self.levels.checkpoint.unique()]
        self.checkpoints = [name for name in names if name not in REFERENCES]
        self.references = {name: look for name, look in REFERENCES.items() if name in names}

    @property
    def by_step(self) -> bool:
        """Whether there are checkpoints, each with its step."""
        steps = vocabulary.select(self.levels, checkpoint=self.checkpoints).step
        return len(steps) > 0 and bool(steps.notna().all())

    @property
    def has_majority(self) -> bool:
        majority = vocabulary.select(self.levels, what=self.majority)
        return self.samples > 1 and bool(majority.value.notna().any())

    def of(self, what: str, *names: str) -> pd.DataFrame:
        """One quantity of these checkpoints, by step."""
        rows = vocabulary.rows(self.levels, what=what, checkpoint=names)
        return rows.sort_values("step", kind="stable")

    @property
    def runs(self) -> dict[str, list[str]]:
        """The checkpoints of each training run: what stands before the last part of their
        labels."""
        runs: dict[str, list[str]] = {}
        for name in self.checkpoints:
            runs.setdefault(name.rpartition("/")[0], []).append(name)
        return runs

    @property
    def run_looks(self) -> dict[str, Look]:
        """A run that was trained on full rollouts has the colour of those."""
        selectors = {
            run: set(self.of(self.average, *names).selector) for run, names in self.runs.items()
        }
        others = [run for run in self.runs if selectors[run] != {FULL}]
        shades, markers = style.shades(style.ESR, len(others)), style.markers(len(others))
        drawn = dict(zip(others, zip(shades, markers)))
        run_looks = {}
        for run in self.runs:
            colour, marker = drawn.get(run, (style.FULL_ROLLOUT, "v"))
            name = in_lines(short(run or "trained student", LONGEST_NAME), NAME_WIDTH)
            run_looks[run] = Look(name, colour, marker)
        return run_looks

    @property
    def compared(self) -> dict[str, Look]:
        """Whose pass@k is drawn: base, of each run the last checkpoint, the teacher."""
        compared = {name: look for name, look in self.references.items() if name == BASE}
        for run, names in self.runs.items():
            last = self.of(self.average, *names).iloc[-1]
            look = self.run_looks[run]
            name = f"{look.name}\nat step {last.step:g}"
            compared[str(last.checkpoint)] = replace(look, name=name)
        return compared | self.references

    def bars(self) -> list[Panel]:
        known = looks(self.levels)
        # pass@1 is avg@k by another name
        names = {
            what: printed(what, self.rule)
            for what in (self.average, self.majority, *self.passes[1:])
        }
        rows = vocabulary.select(self.levels, what=[*names])
        rows = rows[rows.value.notna()]
        groups = {what: name for what, name in names.items() if what in set(rows.what)}
        series = series_of(rows, known, "what")
        by_rule = series_of(self.averages, known, "condition")
        measures = {printed(self.average, rule) for rule in self.averages.condition}
        measure = measures.pop() if len(measures) == 1 else "Correct"
        title = f"{measure} by answer rule"
        return [
            Panel("a", f"Correct by {self.rule}", "%", groups, series),
            replace(rules_panel("b", title, by_rule), axis="%"),
        ]

    @property
    def marks(self) -> str:
        """What the rings mean."""
        return " ".join(MARKS[view] for view in self.taken)

    @property
    def caption(self) -> str:
        """In at most 60 words."""
        rows = vocabulary.rows(self.levels, what=self.average)
        return words.filled(
            CAPTION,
            rows.iloc[:1],
            shown="checkpoints by training step" if self.by_step else "trained students",
            marks=self.marks if self.by_step else "",
            problems=f"{rows.problems.max():,}",
            samples=f"{self.samples} {words.plural('sample', self.samples)}",
            rule=self.rule,
        )


def _and(looks: Iterable[Look]) -> str:
    """Names in a row: "the base student, esr at step 100 and the teacher"."""
    names = []
    for look in looks:
        name = " ".join(look.name.split())
        role = name.startswith(("base student", "teacher", "trained student"))
        names.append(f"the {name}" if role else name)
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


# The panels


def _by_step(axes: Axes, rows: _Rows, what: str, gid: str) -> None:
    """Each run's checkpoints as a line over the steps; base and teacher as lines across, with their
    intervals."""
    curves = {run: rows.of(what, *names) for run, names in rows.runs.items()}
    levels = {name: rows.of(what, name) for name in rows.references}
    step_axis(axes, pd.concat(curves.values()).step)
    accuracy_axis(axes, [*curves.values(), *levels.values()])
    labels = []
    for name, look in rows.references.items():
        # With edges of its own: where both shades overlap, their mixture could not be read.
        fill, edge = to_rgba(look.colour, 0.12), to_rgba(look.colour, 0.6)
        shade = {"facecolor": fill, "edgecolor": edge, "linewidth": 0.5}
        number = arms.triple(levels[name].iloc[0])
        labels += draw_reference(axes, number, look, f"{gid}.{name}", **shade)
    aside = shifts(len(curves), artists.MARKER)
    for (run, curve), shift in zip(curves.items(), aside, strict=True):
        part = f"{gid}.{run or 'trained'}"
        labels += draw_curve(axes, curve, "step", rows.run_looks[run], part, shift)
        _rings(axes, curve, rows, part, shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{printed(what, rows.rule)} (%)")
    axes.set_xlabel("training step")


def _rings(axes: Axes, curve: pd.DataFrame, rows: _Rows, gid: str, shift: float) -> None:
    """Around the checkpoints that a checkpoint rule takes, as far aside as their curve."""
    for view, names in rows.taken.items():
        taken = curve[curve.checkpoint.isin(names) & curve.value.notna()]
        marker, size = RINGS[view]
        artists.points(
            axes,
            taken.step,
            taken.value * PERCENT,
            Look("", style.INK, marker),
            f"{gid}.{view}",
            shift=shift,
            markersize=size,
            markerfacecolor="none",
            markeredgecolor=style.INK,
            markeredgewidth=0.7,
            zorder=4,
        )


def _passes(axes: Axes, rows: _Rows) -> None:
    """pass@k over k, each doubling as wide as the one before."""
    curves = {}
    for name in rows.compared:
        passes = vocabulary.rows(rows.levels, what=rows.passes, checkpoint=name)
        drawn = passes.what.map(words.samples)
        curves[name] = passes.assign(doubled=drawn.map(math.log2)).sort_values("doubled")
    places = {math.log2(k): f"{k}" for k in map(words.samples, rows.passes)}
    length_axis(axes, sorted(places))
    # The axis counts doublings; its names are the numbers of samples
    style.ticks(axes, places, 0.0)
    accuracy_axis(axes, curves.values())
    labels = []
    aside = shifts(len(curves), artists.MARKER)
    for (name, curve), shift in zip(curves.items(), aside, strict=True):
        look = replace(rows.compared[name], line="-")
        labels += draw_curve(axes, curve, "doubled", look, f"c.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "pass@k (%)")
    axes.set_xlabel("k, samples drawn")
