"""How often each checkpoint is right, by training step, beside the base student and the teacher on
the same problems.

    a   avg@k by the reported answer rule, every checkpoint
    b   maj@k likewise
    c   pass@k of base, teacher and the last checkpoint, for every number of samples drawn

Where the checkpoints have no step, or there are none: bars of the same quantities, and avg@k under
every answer rule.

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from . import style
from .artists import PERCENT, Look
from .colours import looks
from .curves import accuracy_axis, draw_curve, length_axis
from .groups import Panel, counts, draw_panels, intervals, series_of

BASE, TEACHER = (
    Look("base student", style.STUDENT, "o", "--"),
    Look("teacher", style.TEACHER, "p", "--"),
)
REFERENCES = {"base": BASE, "teacher": TEACHER}
RINGS = {
    "last": ("s", 8.5),
    "best": ("o", 12.5),
}  # around a marker: both can be seen where one checkpoint is both
NAME_WIDTH = 15
MARKS = {"last": "square: the last checkpoint", "best": "ring: the best on validation"}


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.evaluation.measure`.
        published: not drawn; every diagnostic's figure takes it.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no avg@k.
    """
    rows = _Rows(measurements)
    if not rows.by_step:
        return draw_panels(rows.bars(), measurements, width, title)
    panels = ["a"] + ["b"] * rows.has_majority + ["c"] * (len(rows.passes) > 1)
    with style.context():
        figure, axes = _page(panels, textwrap.fill(title, 110 if width == "page" else 52), width)
        _by_step(axes["a"], rows, rows.average, "a")
        axes["a"].set_title(f"a  {_printed(rows.average)} by training step")
        if "b" in axes:
            _by_step(axes["b"], rows, rows.majority, "b")
            axes["b"].set_title(f"b  {_printed(rows.majority)} by training step")
        if "c" in axes:
            _passes(axes["c"], rows)
            axes["c"].set_title("c  Right at least once in k samples")
        across, up = figure.get_size_inches()
        note = textwrap.fill(rows.note(), 128 if width == "page" else 64)
        figure.text(
            0.08 / across,
            0.06 / up,
            note,
            fontsize=style.SMALL,
            va="bottom",
            linespacing=1.2,
            gid="note",
        )
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, answer rule, counts, and how the intervals were
    made."""
    rows = _Rows(measurements)
    text = [
        f"Correct answers of rollouts that each model wrote itself ({counts(rows.levels)}), "
        f"answer rule {rows.rule}."
    ]
    if rows.by_step:
        text.append(
            f"(a) {_printed(rows.average)}, mean correctness, of each checkpoint by its training "
            "step."
        )
        if rows.has_majority:
            text.append(
                f"(b) {_printed(rows.majority)}: whether the answer that most samples of a "
                "problem give is right."
            )
        if len(rows.passes) > 1:
            text.append(
                f"(c) pass@k, unbiased, of {_and(rows.compared.values())} for k samples drawn."
            )
        text.append(
            "Dashed, shaded: base student and teacher on the same problems, with their intervals."
        )
        text += [f"{MARKS[view].capitalize()}." for view in rows.taken]
    else:
        text.append(
            "(a) avg@k: mean correctness; maj@k: whether the answer that most samples of a "
            "problem give is right;"
        )
        text.append(
            "pass@k: right at least once in k samples, unbiased. (b) The first under every answer "
            "rule."
        )
    return " ".join([*text, intervals(rows.levels)])


class _Rows:
    """The rows of the measurements by what they are drawn as. rule: the reported one, which the
    analysis puts first."""

    def __init__(self, measurements: pd.DataFrame) -> None:
        every = measurements[measurements["view"] == "fresh"]
        averages = every[every.what.str.fullmatch(r"avg_at_\d+")]
        if not len(averages):
            raise ValueError("measurements hold no avg_at_k; pass those of evaluation")
        self.average, self.rule = str(averages.what.iloc[0]), str(averages.condition.iloc[0])
        self.averages, self.every = averages, every[every.condition == self.rule]
        self.samples = int(self.average.rpartition("_")[2])
        self.majority = f"maj_at_{self.samples}"
        passes = self.every[self.every.what.str.fullmatch(r"pass_at_\d+")].what.unique()
        self.passes = sorted(map(str, passes), key=lambda what: int(what.rpartition("_")[2]))
        self.levels = self.every[self.every.what.isin([self.average, self.majority, *self.passes])]
        views = {view: measurements[measurements["view"] == view] for view in RINGS}
        self.taken = {
            view: {str(name) for name in rows.checkpoint}
            for view, rows in views.items()
            if len(rows)
        }
        names = [str(name) for name in self.levels.checkpoint.unique()]
        self.checkpoints = [name for name in names if name not in REFERENCES]
        self.references = {name: look for name, look in REFERENCES.items() if name in names}

    @property
    def by_step(self) -> bool:
        """Whether there are checkpoints, each with its step."""
        steps = self.levels[self.levels.checkpoint.isin(self.checkpoints)].step
        return len(steps) > 0 and bool(steps.notna().all())

    @property
    def has_majority(self) -> bool:
        return self.samples > 1 and bool(self.of(self.majority).value.notna().any())

    def of(self, what: str, *names: str) -> pd.DataFrame:
        rows = self.levels[self.levels.what == what]
        return rows[rows.checkpoint.isin(names)] if names else rows

    @property
    def runs(self) -> dict[str, list[str]]:
        """The checkpoints of each training run: what stands before the last part of their
        labels."""
        found: dict[str, list[str]] = {}
        for name in self.checkpoints:
            found.setdefault(name.rpartition("/")[0], []).append(name)
        return found

    @property
    def run_looks(self) -> dict[str, Look]:
        """A run that was trained on full rollouts has the colour of those."""
        full = {
            run
            for run, names in self.runs.items()
            if set(self.of(self.average, *names).selector) == {"full"}
        }
        others = [run for run in self.runs if run not in full]
        found = {}
        for run in self.runs:
            colour, marker = (
                (style.FULL_ROLLOUT, "v")
                if run in full
                else style.checkpoint_look(others.index(run), len(others))
            )
            found[run] = Look(textwrap.fill(run or "trained student", NAME_WIDTH), colour, marker)
        return found

    @property
    def compared(self) -> dict[str, Look]:
        """Whose pass@k is drawn: base, of each run the last checkpoint, the teacher."""
        found = {name: look for name, look in self.references.items() if name == "base"}
        for run, names in self.runs.items():
            last = self.of(self.average, *names).sort_values("step").iloc[-1]
            look = self.run_looks[run]
            found[str(last.checkpoint)] = replace(look, name=f"{look.name}\nat step {last.step:g}")
        return found | self.references

    def bars(self) -> list[Panel]:
        known = looks(self.levels)
        named = {what: _printed(what) for what in (self.average, self.majority, *self.passes[1:])}
        rows = self.levels[self.levels.what.isin(named) & self.levels.value.notna()]
        groups = {what: text for what, text in named.items() if what in set(rows.what)}
        rules = {
            str(rule): str(rule).replace("_", "\n") for rule in self.averages.condition.unique()
        }
        return [
            Panel(
                "a",
                f"Right by {self.rule}",
                "%",
                groups,
                series_of(rows.assign(group=rows.what), known),
            ),
            Panel(
                "b",
                f"{_printed(self.average)} by answer rule",
                "%",
                rules,
                series_of(self.averages.assign(group=self.averages.condition), known),
            ),
        ]

    def note(self) -> str:
        rows = self.of(self.average)
        level = f"{rows.level.iloc[0] * PERCENT:g} %"
        marks = "".join(f" {MARKS[view].capitalize()}." for view in self.taken)
        samples = f"{self.samples} sample{'s' * (self.samples > 1)}"
        many = f"{rows.problems.max():,} problems \u00d7 {samples}; answer rule {self.rule}."
        return f"Bars, shaded: {level} intervals, problem-clustered.{marks} {many}"


def _printed(what: str) -> str:
    return what.replace("_at_", "@")


def _and(looks: Iterable[Look]) -> str:
    names = [" ".join(look.name.split()) for look in looks]
    names = [
        f"the {name}" if name.startswith(("base student", "teacher", "trained student")) else name
        for name in names
    ]
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


# The panels


def _by_step(axes: Axes, rows: _Rows, what: str, gid: str) -> None:
    """Each run's checkpoints as a line over the steps; base and teacher as lines across, with their
    intervals."""
    curves = {run: rows.of(what, *names).sort_values("step") for run, names in rows.runs.items()}
    levels = {name: rows.of(what, name) for name in rows.references}
    steps = sorted({float(step) for curve in curves.values() for step in curve.step})
    length_axis(axes, [0.0, *steps])
    accuracy_axis(axes, [*curves.values(), *levels.values()])
    labels = []
    for name, look in rows.references.items():
        labels += _across(axes, levels[name], look, f"{gid}.{name}")
    shift = 3.0 if len(curves) > 1 else 0.0
    for i, (run, curve) in enumerate(curves.items()):
        aside = (i - (len(curves) - 1) / 2) * min(shift, 12.0 / len(curves))
        placed = curve.assign(prefix_tokens=curve.step)
        labels += draw_curve(axes, placed, rows.run_looks[run], f"{gid}.{run or 'trained'}", aside)
        _rings(axes, placed, rows, f"{gid}.{run or 'trained'}", aside)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{_printed(what)} (%)")
    axes.set_xlabel("training step")


def _across(axes: Axes, row: pd.DataFrame, look: Look, gid: str) -> list[style.EndLabel]:
    """A model without a step of its own: a dashed line across, shaded by its interval."""
    value, low, high = (float(row[name].iloc[0]) * PERCENT for name in ("value", "low", "high"))
    if math.isnan(value):
        return []
    axes.axhline(value, color=look.colour, linewidth=0.9, linestyle=look.line, gid=gid, zorder=1)
    if not (math.isnan(low) or math.isnan(high)):
        # With edges of its own: where both shades overlap, the mixture tells nothing.
        fill, edge = to_rgba(look.colour, 0.12), to_rgba(look.colour, 0.6)
        axes.axhspan(
            low, high, facecolor=fill, edgecolor=edge, linewidth=0.5, gid=f"{gid}.band", zorder=0
        )
    return [style.EndLabel(axes.get_xlim()[1], value, look.name, look.colour)]


def _rings(axes: Axes, curve: pd.DataFrame, rows: _Rows, gid: str, shift: float) -> None:
    """Around the checkpoints that a checkpoint rule takes, as far aside as their curve, in
    points."""
    aside = ScaledTranslation(shift / style.POINTS_PER_INCH, 0, style.root(axes).dpi_scale_trans)
    for view, names in rows.taken.items():
        taken = curve[curve.checkpoint.isin(names) & curve.value.notna()]
        marker, size = RINGS[view]
        if len(taken):
            axes.plot(
                taken.step,
                taken.value * PERCENT,
                marker,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=style.INK,
                markeredgewidth=0.7,
                transform=axes.transData + aside,
                clip_on=False,
                gid=f"{gid}.{view}",
                zorder=4,
            )


def _passes(axes: Axes, rows: _Rows) -> None:
    """pass@k over k, each doubling as wide as the one before."""
    curves = {}
    for name in rows.compared:
        found = rows.levels[rows.levels.what.isin(rows.passes) & (rows.levels.checkpoint == name)]
        drawn = found.what.str.removeprefix("pass_at_").astype(float)
        curves[name] = found.assign(prefix_tokens=drawn.map(math.log2), drawn=drawn).sort_values(
            "drawn"
        )
    places = {
        float(at): f"{k:g}"
        for curve in curves.values()
        for at, k in zip(curve.prefix_tokens, curve.drawn)
    }
    length_axis(axes, sorted(places))
    axes.set_xticks(sorted(places), [places[at] for at in sorted(places)])
    accuracy_axis(axes, curves.values())
    labels = []
    for i, (name, curve) in enumerate(curves.items()):
        aside = (i - (len(curves) - 1) / 2) * 2.0
        labels += draw_curve(
            axes, curve, replace(rows.compared[name], line="-"), f"c.{name}", aside
        )
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "pass@k (%)")
    axes.set_xlabel("k, samples drawn")


# The page


def _page(panels: list[str], title: str, width: style.Width) -> tuple[Figure, dict[str, Axes]]:
    """Panel a over the left half and the others stacked on the right, or all below each other."""
    head = 0.24 + (0.06 + 0.14 * (title.count("\n") + 1) if title else 0.0)
    if width == "page":
        bottom, top, gap = 0.74, 3.4, 0.72
        figure = style.new_figure("page", top + head)
        axes = {"a": style.add_axes(figure, 0.55, bottom, 2.65 if len(panels) > 1 else 5.9, top)}
        each = (top - bottom - gap * (len(panels) - 2)) / max(1, len(panels) - 1)
        for i, name in enumerate(panels[1:]):
            upper = top - i * (each + gap)
            axes[name] = style.add_axes(figure, 4.2, upper - each, 5.95, upper)
    else:
        foot, gap, heights = 0.88, 0.7, [2.1] + [1.5] * (len(panels) - 1)
        figure = style.new_figure("column", foot + head + sum(heights) + gap * (len(panels) - 1))
        upper = float(figure.get_size_inches()[1]) - head
        axes = {}
        for name, height in zip(panels, heights, strict=True):
            axes[name] = style.add_axes(figure, 0.55, upper - height, 2.3, upper)
            upper -= height + gap
    if title:
        across, up = figure.get_size_inches()
        figure.text(
            0.08 / across, 1 - 0.06 / up, title, va="top", fontsize=style.NORMAL, gid="title"
        )
    return figure, axes
