"""Teacher accuracy after k tokens of a student's rollout, with controls: the paper's Fig. 1 left,
measured.

    a   the headline: rollouts still open at k, beside the teacher alone and the student's outcome
    on the same rollouts
    b   controls: change in accuracy against the continuing policy alone on the same problems
    c   the carry-forward curve, both baselines, and the published curve where it is given

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .artists import PERCENT, Look
from .curves import accuracy_axis, draw_band, draw_curve, extent, length_axis, lengths_of

HEADLINE = Look("teacher after\nstudent tokens", style.TEACHER, "o")
REFERENCE = Look("teacher alone,\nsame problems", style.TEACHER, "^", "--")
OUTCOME = Look("the student's\nown outcome", style.STUDENT, "s", "--")
FEWEST_ROLLOUTS = 10
CONTROLS = {
    "student-prefix": Look("student prefix", style.TEACHER, "o"),
    "own-prefix": Look("teacher's own", style.BLACK, "D"),
    "correct-so-far": Look("correct so far", style.SKY, "^"),
    "ended-right": Look("ended right", style.SKY, "^"),
    "already-wrong": Look("already wrong", style.ORANGE, "v"),
    "ended-wrong": Look("ended wrong", style.ORANGE, "v"),
    "swapped": Look("other problem's", style.WINE, "P"),
    "reverse": Look("reverse: student\nafter teacher", style.STUDENT, "s"),
}
SENTENCES = {
    "own-prefix": "Teacher's own: after a prefix from its own rollout, against that rollout's "
    "grade; it must be flat",
    "correct-so-far": "Correct so far and already wrong: student prefixes split by the step "
    "verifier",
    "ended-right": "Ended right and ended wrong: student prefixes split by how the rollout ended, "
    "which "
    "conditions on the future",
    "swapped": "Other problem's: a student prefix from another problem",
    "reverse": "Reverse: the student after a prefix from the teacher, against the student alone",
}


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.prefix_decay.measure`.
        published: rows of `decaylab.paper.publication.prefix_curve`, drawn grey, dashed and hollow
        behind panel c.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no accuracy of the teacher.
    """
    if not len(pick(measurements, "accuracy", "teacher", "all")):
        raise ValueError(
            "measurements hold no accuracy of condition 'teacher'; measure the teacher alone first"
        )
    controls = [
        name for name in CONTROLS if len(pick(measurements, "accuracy_difference", name, "open"))
    ]
    panels = ["a"]
    if set(controls) - {"student-prefix"}:
        panels.append("b")
    if (
        len(pick(measurements, "accuracy", "student-prefix", "carry-forward"))
        or published is not None
    ):
        panels.append("c")
    with style.context():
        title = textwrap.fill(title, 110 if width == "page" else 52)
        figure, axes = _page(panels, title) if width == "page" else _column(panels, title)
        _headline(axes["a"], axes["open"], measurements)
        if "b" in axes:
            _controls(axes["b"], measurements, controls)
        if "c" in axes:
            _carry_forward(axes["c"], measurements, published)
        columns = 130 if width == "page" else 68
        note = "\n".join(textwrap.wrap(_note(measurements), columns))
        across, up = figure.get_size_inches()
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
    """The figure's caption: what each panel shows, counts, answer rule, and how the intervals were
    made."""
    alone = pick(measurements, "accuracy", "teacher", "all").iloc[0]
    level = f"{alone.level * PERCENT:g} %"
    half = half_decay_text(measurements)
    what = (
        f"Accuracy ({_avg(alone)}) of the teacher after the first k tokens of a student's rollout."
    )
    text = [what, f"{_counts(alone)}, answer rule {alone.answer_rule}, seed {alone.seed}."]
    text.append(
        "(a) Rollouts still open at k, beside the teacher alone on the same problems and the "
        "outcome of those very "
        "rollouts; the strip gives the share still open."
    )
    if half:
        text.append(f"H{half[1:]}: there the retained advantage has halved.")
    present = [
        name for name in CONTROLS if len(pick(measurements, "accuracy_difference", name, "open"))
    ]
    told = [SENTENCES[name] for name in present if name in SENTENCES]
    if told:
        text.append(
            "(b) Change against the continuing policy alone on the same problems. "
            f"{'. '.join(told)}."
        )
    if len(pick(measurements, "accuracy", "student-prefix", "carry-forward")):
        text.append("(c) All rollouts: one that ended before k counts as it stands.")
    if published is not None:
        text.append(
            f"Grey: published, {published.run.iloc[0]}, another pair and problem set, without "
            "intervals; "
            "it is not said how rollouts that ended before k are counted."
        )
    methods = sorted(
        set(measurements[measurements.what.isin(["accuracy", "accuracy_difference"])].method) - {""}
    )
    text.append(
        f"Bars: pointwise {level} intervals ({'; '.join(methods)}). Bands: {level} for all "
        "lengths of a curve at once."
    )
    text.append(
        f"Controls with fewer than {FEWEST_ROLLOUTS} rollouts at a length stand in the table only."
    )
    return " ".join(text)


def pick(measurements: pd.DataFrame, what: str, condition: str, view: str) -> pd.DataFrame:
    """The rows of one curve, by prefix length."""
    rows = measurements[
        (measurements.what == what)
        & (measurements.condition == condition)
        & (measurements["view"] == view)
    ]
    return rows.sort_values("prefix_tokens")


def _from_zero(measurements: pd.DataFrame, role: str, curve: pd.DataFrame) -> pd.DataFrame:
    """A curve with the policy alone before it: at length 0 that is what the curve means."""
    return pd.concat([pick(measurements, "accuracy", role, "all"), curve], ignore_index=True)


def half_decay_text(measurements: pd.DataFrame) -> str:
    """The half-decay length in words, "> longest" where it is not reached; empty where it is
    undefined."""
    rows = measurements[(measurements.what == "half_decay_length") & measurements.value.notna()]
    if not len(rows):
        return ""
    row = rows.iloc[0]
    curve = pick(measurements, "accuracy", "student-prefix", "open")
    longest = curve[curve.value.notna()].prefix_tokens.max()
    value, low, high = (
        f"{end:.0f}" if math.isfinite(end) else f"> {longest:g}"
        for end in (row.value, row.low, row.high)
    )
    interval = (
        ""
        if math.isnan(row.low) or math.isnan(row.high) or math.isinf(row.low)
        else f" [{low}, {high}]"
    )
    return f"half-decay {value} tokens{interval}"


def _avg(alone: pd.Series) -> str:
    """What the accuracies are called: avg@k where every problem has k samples."""
    each = alone.rollouts / alone.problems if alone.problems else math.nan
    return f"avg@{each:.0f}" if each == round(each, 9) and float(each).is_integer() else "accuracy"


def _counts(alone: pd.Series) -> str:
    each = alone.rollouts / alone.problems if alone.problems else math.nan
    if float(each).is_integer():
        return f"{alone.problems} problems \u00d7 {each:.0f} samples"
    return f"{alone.rollouts} rollouts of {alone.problems} problems"


def _note(measurements: pd.DataFrame) -> str:
    """The line at the foot of the figure."""
    alone = pick(measurements, "accuracy", "teacher", "all").iloc[0]
    level = f"{alone.level * PERCENT:g} %"
    return (
        f"Bars: {level} intervals, problem-clustered. Shaded: {level} for all lengths at once. "
        f"{_counts(alone)}; answer rule {alone.answer_rule}."
    )


def _page(panels: list[str], title: str) -> tuple[Figure, dict[str, Axes]]:
    """Panel a over the left half, the others stacked on the right."""
    bottom, head = 0.74, _head(title)
    top = 3.9
    figure = style.new_figure("page", top + head)
    axes = _with_strip(figure, 0.55, bottom, 2.65 if len(panels) > 1 else 5.9, top)
    right = panels[1:]
    gap = 0.72
    each = (top - bottom - gap * (len(right) - 1)) / max(1, len(right))
    for i, name in enumerate(right):
        upper = top - i * (each + gap)
        axes[name] = style.add_axes(figure, 4.2, upper - each, 5.95, upper)
    return _titled(figure, title), axes


def _column(panels: list[str], title: str) -> tuple[Figure, dict[str, Axes]]:
    """All panels below each other."""
    heights = {"a": 2.3, "b": 1.55, "c": 1.55}
    gap, foot, head = 0.7, 0.85, _head(title)
    height = foot + head + sum(heights[name] for name in panels) + gap * (len(panels) - 1)
    figure = style.new_figure("column", height)
    left, right, upper = 0.55, 2.3, height - head
    axes = _with_strip(figure, left, upper - heights["a"], right, upper)
    for name in panels[1:]:
        upper -= heights["a" if name == panels[1] else panels[panels.index(name) - 1]] + gap
        axes[name] = style.add_axes(figure, left, upper - heights[name], right, upper)
    return _titled(figure, title), axes


def _with_strip(
    figure: Figure, left: float, bottom: float, right: float, top: float
) -> dict[str, Axes]:
    """Panel a with the strip of open shares below it."""
    strip = style.add_axes(figure, left, bottom, right, bottom + 0.36)
    return {"a": style.add_axes(figure, left, bottom + 0.44, right, top - 0.12), "open": strip}


def _head(title: str) -> float:
    """Inches above the panels' titles."""
    return 0.24 + (0.06 + 0.14 * (title.count("\n") + 1) if title else 0.0)


def _titled(figure: Figure, title: str) -> Figure:
    if title:
        across, up = figure.get_size_inches()
        figure.text(
            0.08 / across, 1 - 0.06 / up, title, va="top", fontsize=style.NORMAL, gid="title"
        )
    return figure


# The panels


def _headline(axes: Axes, strip: Axes, measurements: pd.DataFrame) -> None:
    curve = pick(measurements, "accuracy", "student-prefix", "open")
    curves = [
        (
            OUTCOME,
            _from_zero(
                measurements,
                "student",
                pick(measurements, "student_accuracy", "student-prefix", "open"),
            ),
        ),
        (REFERENCE, pick(measurements, "reference_accuracy", "student-prefix", "open")),
        (HEADLINE, _from_zero(measurements, "teacher", curve)),
    ]
    lengths = lengths_of(rows for _, rows in curves)
    length_axis(axes, lengths)
    accuracy_axis(axes, (rows for _, rows in curves))
    style.name_y_axis(axes, f"{_avg(pick(measurements, 'accuracy', 'teacher', 'all').iloc[0])} (%)")
    draw_band(axes, curve, HEADLINE, "a.band")
    labels = []
    parts = (("outcome", 2.0), ("reference", -2.0), ("headline", 0.0))
    for (look, rows), (part, shift) in zip(curves, parts, strict=True):
        labels += draw_curve(axes, rows, look, f"a.{part}", shift)
    style.label_ends(axes, labels)
    axes.set_title("a  Rollouts still open at k", pad=15)
    _half_decay(axes, measurements)
    axes.tick_params(labelbottom=False)
    _open_share(strip, measurements, lengths)
    strip.set_xlabel("prefix length k (student tokens)")


def _open_share(strip: Axes, measurements: pd.DataFrame, lengths: list[float]) -> None:
    share = pick(measurements, "open_share", "student-prefix", "open")
    percent = share.value.to_numpy() * PERCENT
    length_axis(strip, lengths)
    points = style.places_points(strip, share.prefix_tokens.tolist())
    thick = min([5.0, *(0.7 * np.diff(points))])
    strip.vlines(share.prefix_tokens, 0, percent, color="#bbbbbb", linewidth=thick).set_gid(
        "open.share"
    )
    strip.set_ylim(0, 190)
    strip.set_yticks([])
    strip.spines["left"].set_visible(False)
    for i in style.far_apart(points, 28.0):
        place = (share.prefix_tokens.iloc[i], percent[i])
        strip.annotate(
            f"{percent[i]:.0f} %",
            place,
            (0, 1.5),
            textcoords="offset points",
            ha="center",
            fontsize=style.SMALL,
        )
    strip.annotate(
        "still open", (1, 0.25), (11, 0), "axes fraction", "offset points", fontsize=style.SMALL
    )


def _half_decay(axes: Axes, measurements: pd.DataFrame) -> None:
    """A dotted line where the retained advantage has halved, named above the axes; the name alone
    where it has not."""
    text = half_decay_text(measurements)
    if not text:
        return
    place = float(measurements[measurements.what == "half_decay_length"].value.iloc[0])
    low, high = axes.get_xlim()
    share = (place - low) / (high - low)
    if share <= 1.0:
        axes.axvline(
            place, color=style.INK, linewidth=0.8, linestyle=":", gid="a.half-decay", zorder=1
        )
    side = "left" if share < 0.35 else "center" if share < 0.65 else "right"
    at = max(0.0, share) if share <= 1.0 else 1.0
    axes.annotate(
        text, (at, 1.0), (0, 3), "axes fraction", "offset points", ha=side, fontsize=style.SMALL
    )


def _controls(axes: Axes, measurements: pd.DataFrame, names: list[str]) -> None:
    picked = [(name, pick(measurements, "accuracy_difference", name, "open")) for name in names]
    curves = [
        (name, rows[(rows.rollouts >= FEWEST_ROLLOUTS) | rows.value.isna()])
        for name, rows in picked
    ]
    if not any(rows.value.notna().any() for _, rows in curves):
        curves = picked  # a run this small is looked at for its machinery
    lengths = lengths_of([rows for _, rows in curves])
    length_axis(axes, [0.0, *lengths] if len(lengths) > 1 else lengths)
    low, high = extent((rows for _, rows in curves), ["value", "low", "high"])
    low, high = min(low, -5.0), max(high, 5.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    room = (
        np.diff(style.places_points(axes, lengths)).min()
        if len(lengths) > 1
        else style.size_points(axes)[0]
    )
    step = min(3.0 if len(lengths) > 1 else 15.0, 0.8 * room / len(names))
    left, right = axes.get_xlim()
    beside = (
        step * (len(names) - 1) / 2 / style.size_points(axes)[0] * (right - left)
    )  # the outermost, moved sideways
    axes.set_xlim(left - beside, right + beside)
    labels = []
    for i, (name, rows) in enumerate(curves):
        shift = (i - (len(names) - 1) / 2) * step
        labels += draw_curve(axes, rows, CONTROLS[name], f"b.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "change (points)")
    axes.set_title("b  Controls: change by the prefix")
    axes.set_xlabel("prefix length k (its author's tokens)")


def _carry_forward(axes: Axes, measurements: pd.DataFrame, published: pd.DataFrame | None) -> None:
    curve = pick(measurements, "accuracy", "student-prefix", "carry-forward")
    rows = _from_zero(measurements, "teacher", curve)
    baselines = {
        role: pick(measurements, "accuracy", role, "all") for role in ("student", "teacher")
    }
    known = [rows, *baselines.values()]
    labels = []
    if published is not None:
        behind = _from_zero(published, "teacher", pick(published, "accuracy", "student-prefix", ""))
        known.append(behind)
        look = Look("published (Qwen\npair, MATH-500,\nno interval)", style.PUBLISHED, "o", "--")
    length_axis(axes, lengths_of(known))
    accuracy_axis(axes, known)
    if published is not None:
        labels += draw_curve(axes, behind, look, "c.published", 0.0)
    for role, row in baselines.items():
        colour = style.TEACHER if role == "teacher" else style.STUDENT
        for value in row.value.dropna():
            axes.axhline(
                value * PERCENT,
                color=colour,
                linewidth=0.8,
                linestyle="--",
                gid=f"c.{role}-alone",
                zorder=1,
            )
            labels.append(
                style.EndLabel(axes.get_xlim()[1], value * PERCENT, f"{role} alone", colour)
            )
    draw_band(axes, curve, HEADLINE, "c.band")
    labels += draw_curve(axes, rows, HEADLINE, "c.carry-forward", 0.0)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{_avg(baselines['teacher'].iloc[0])} (%)")
    axes.set_title("c  All rollouts, finished ones as they stand")
    axes.set_xlabel("prefix length k (student tokens)")
