"""Teacher accuracy after k tokens of a student's rollout, with controls: the paper's Fig. 1 left,
measured.

    a   the headline: rollouts unfinished at k, beside the teacher alone and the student's outcome
        on the same rollouts
    b   controls: change in accuracy against the continuing policy alone on the same problems
    c   the carry-forward curve and both baselines
    d   the published curve where it is given

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab import printing
from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    ALL,
    ALREADY_WRONG,
    CARRY_FORWARD,
    CORRECT_SO_FAR,
    OPEN,
    OWN_PREFIX,
    STUDENT_PREFIX,
    SWAPPED,
)

from . import artists, style, words
from .artists import PERCENT, Look
from .curves import accuracy_axis, draw_curve, draw_reference, extent, length_axis, shifts
from .layout import Block, beside_first, staggered
from .page import Part, Sheet, drawing

STUDENT, TEACHER, REVERSE = "student", "teacher", "reverse"
ACCURACY, DIFFERENCE = "accuracy", "accuracy_difference"
HALF_DECAY = "half_decay_length"
AT = "prefix_tokens"
HEADLINE = Look("teacher after\nstudent tokens", style.TEACHER, "o")
REFERENCE = Look("teacher alone,\nsame problems", style.TEACHER, "^", "--")
OUTCOME = Look("the student's\nown outcome", style.STUDENT, "s", "--")
ALONE = {
    STUDENT: Look("student alone", style.STUDENT, "", "--"),
    TEACHER: Look("teacher alone", style.TEACHER, "", "--"),
}
PUBLISHED = Look("teacher after\nstudent tokens", style.PUBLISHED, "o", "--")
PUBLISHED_ALONE = Look("teacher alone", style.PUBLISHED, "", "--")
FEWEST_ROLLOUTS = 10
CONTROLS = {
    STUDENT_PREFIX: Look("student prefix", style.TEACHER, "o"),
    OWN_PREFIX: Look("teacher's own", style.BLACK, "D"),
    CORRECT_SO_FAR: Look("correct so far", style.SKY, "^"),
    "ended-right": Look("ended correct", style.SKY, "^"),
    ALREADY_WRONG: Look("already wrong", style.ORANGE, "v"),
    "ended-wrong": Look("ended wrong", style.ORANGE, "v"),
    SWAPPED: Look("another\nproblem's prefix", style.WINE, "P"),
    REVERSE: Look("reverse: student\nafter teacher", style.STUDENT, "s"),
}
SENTENCES = {
    OWN_PREFIX: "Teacher's own: after a prefix from its own rollout, against that rollout's grade; "
    "it must be flat.",
    CORRECT_SO_FAR: "Correct so far and already wrong: student prefixes split by the step "
    "verifier.",
    "ended-right": "Ended correct and ended wrong: student prefixes split by how the rollout "
    "ended, which conditions on the future.",
    SWAPPED: "Another problem's prefix: a student prefix from another problem.",
    REVERSE: "Reverse: the student after a prefix from the teacher, against the student alone.",
}
CAPTION = """{avg} of the teacher after the first k tokens of a student's rollout, for rollouts
    unfinished at k, beside the teacher alone and the rollouts' own outcome. {half} {counts}.
    Bars: {level} intervals, problem-clustered; shaded: {level} for all lengths at once."""
HALF = "Half of the advantage is gone at {half}."
DETAILS = """Accuracy ({avg}) of the teacher after the first k tokens of a student's rollout.
    {counts}, answer rule {rule}, seed {seed}. (a) Rollouts unfinished at k, beside the teacher
    alone on the same problems and the outcome of those very rollouts; the strip gives the share
    that is unfinished. {halved} {controls} {forward} {theirs} Bars: pointwise {level} intervals
    ({methods}). Bands: {level} for all lengths of a curve at once. Controls with fewer than
    {fewest} rollouts at a length are in the table only."""
HALVED = "H{half}: there the retained advantage has halved."
CHANGES = "(b) Change against the continuing policy alone on the same problems. {sentences}"
FORWARD = "(c) All rollouts: one that ended before k counts as it stands."
PUBLISHED_DETAILS = """({letter}) Published, {run}, another pair and problem set, without intervals;
    how rollouts that ended before k are counted is not stated."""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.prefix_decay.measure`.
        published: rows of `decaylab.paper.publication.prefix_curve`, in a grey panel of their own.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no accuracy of the teacher.
    """
    _alone(measurements)
    controls = _controls(measurements)

    def headline(axes: dict[str, Axes]) -> None:
        _headline(axes["a"], axes["open"], measurements)

    first = {"a": (ROOM, TALL - STRIP - BETWEEN), "open": (TALL - STRIP, TALL)}
    name = f"{_avg(_alone(measurements))} of the teacher after k tokens"
    parts = {"a": Part(name, staggered([first], PLACE), headline, pad=15)}
    if set(controls) - {STUDENT_PREFIX}:
        parts["b"] = Part(
            "Change against no prefix",
            _single("b"),
            lambda axes: _draw_controls(axes["b"], measurements, controls),
        )
    if len(_forward(measurements)):
        parts["c"] = Part(
            "Finished rollouts as they stand",
            _single("c"),
            lambda axes: _carry_forward(axes["c"], measurements),
        )
    if published is not None:
        letter = words.LETTERS[len(parts)]
        parts[letter] = Part(
            "Published: another pair, MATH-500",
            _single(letter),
            lambda axes: _published(axes[letter], published),
            colour=style.PUBLISHED,
        )
    tall = TALL_PAGE if len(parts) < 4 else TALLEST
    first = {"a": (ROOM, tall - STRIP - BETWEEN), "open": (tall - STRIP, tall)}
    page = beside_first(first, list(parts)[1:])
    return Sheet(parts, [page], title)


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    alone = _alone(measurements)
    half = half_decay_text(measurements).removeprefix("half-decay ")
    return _filled(CAPTION, alone, avg=_avg(alone), half=HALF.format(half=half) if half else "")


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, answer rule, and how the intervals were made."""
    alone = _alone(measurements)
    half = half_decay_text(measurements)
    controls = _controls(measurements)
    sentences = " ".join(SENTENCES[name] for name in SENTENCES if name in controls)
    drawn = vocabulary.rows(measurements, what=[ACCURACY, DIFFERENCE])
    letters = list(sheet(measurements, published=published).parts)
    return _filled(
        DETAILS,
        alone,
        avg=_avg(alone),
        seed=alone.seed,
        halved=HALVED.format(half=half[1:]) if half else "",
        controls=CHANGES.format(sentences=sentences) if sentences else "",
        forward=FORWARD if len(_forward(measurements)) else "",
        theirs=words.of_published(PUBLISHED_DETAILS, published, letter=letters[-1]),
        methods=words.methods(drawn),
        fewest=FEWEST_ROLLOUTS,
    )


def pick(measurements: pd.DataFrame, what: str, condition: str, view: str) -> pd.DataFrame:
    """The rows of one curve, by prefix length."""
    rows = vocabulary.select(measurements, what=what, condition=condition, view=view)
    return rows.sort_values("prefix_tokens")


def _alone(measurements: pd.DataFrame) -> pd.Series:
    """The row of the teacher without a prefix."""
    rows = pick(measurements, ACCURACY, TEACHER, ALL)
    if rows.empty:
        raise ValueError(
            "measurements hold no accuracy of condition 'teacher'; measure the teacher alone first"
        )
    return rows.iloc[0]


def _controls(measurements: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The curve of each control that was measured."""
    picked = {name: pick(measurements, DIFFERENCE, name, OPEN) for name in CONTROLS}
    return {name: rows for name, rows in picked.items() if len(rows)}


def _forward(measurements: pd.DataFrame) -> pd.DataFrame:
    """The curve on which a finished rollout counts as it stands."""
    return pick(measurements, ACCURACY, STUDENT_PREFIX, CARRY_FORWARD)


def _from_zero(measurements: pd.DataFrame, role: str, curve: pd.DataFrame) -> pd.DataFrame:
    """A curve with the policy alone before it: at length 0 that is what the curve means."""
    return pd.concat([pick(measurements, ACCURACY, role, ALL), curve], ignore_index=True)


def half_decay_text(measurements: pd.DataFrame) -> str:
    """The half-decay length in words, "> longest" where it is not reached; empty where it is
    undefined."""
    rows = vocabulary.select(measurements, what=HALF_DECAY)
    rows = rows[rows.value.notna()]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    curve = pick(measurements, ACCURACY, STUDENT_PREFIX, OPEN)
    beyond = f"> {curve[curve.value.notna()].prefix_tokens.max():g}"
    value, low, high = (
        beyond if math.isinf(row[end]) else printing.rounded(row[end]) for end in artists.NUMBERS
    )
    text = f"half-decay {value} tokens"
    known = math.isfinite(row.low) and not math.isnan(row.high)
    return f"{text} [{low}, {high}]" if known else text


def _samples(alone: pd.Series) -> int:
    """How many samples every problem has; 0 where they differ."""
    each, left = divmod(alone.rollouts, alone.problems or math.inf)
    return 0 if left else int(each)


def _avg(alone: pd.Series) -> str:
    """What the accuracies are called: avg@k where every problem has k samples."""
    return (
        vocabulary.measure_name(alone.answer_rule, _samples(alone)) if _samples(alone) else ACCURACY
    )


def _filled(template: str, alone: pd.Series, **fields: Any) -> str:
    """With the counts that caption and note share."""
    fields["counts"] = f"{alone.rollouts} rollouts of {alone.problems} problems"
    if _samples(alone):
        fields["counts"] = f"{alone.problems} problems \u00d7 {_samples(alone)} samples"
    level = f"{printing.percent(alone.level):g} %"
    return words.filled(template, level=level, rule=alone.answer_rule, **fields)


# The page: panel a has the strip of unfinished shares below it

STRIP = 0.36  # inches
TALL, TALL_PAGE, TALLEST = 2.05, 3.16, 4.4  # of both; on a page, beside two and three others
PLACE = Block(right=1.1, fixed=["open"])
BETWEEN = 0.08  # of panel and strip
ROOM = 0.12  # above panel a, for the half-decay length


def _single(letter: str) -> Block:
    return Block([[letter]], [1.55], right=1.1)


# The panels


def _lengths(curves: Iterable[pd.DataFrame]) -> list[float]:
    return sorted({float(length) for rows in curves for length in rows.prefix_tokens})


def _headline(axes: Axes, strip: Axes, measurements: pd.DataFrame) -> None:
    def of(what: str) -> pd.DataFrame:
        return pick(measurements, what, STUDENT_PREFIX, OPEN)

    curves = {
        "outcome": (OUTCOME, _from_zero(measurements, STUDENT, of("student_accuracy")), 2.0),
        "reference": (REFERENCE, of("reference_accuracy"), -2.0),
        "headline": (HEADLINE, _from_zero(measurements, TEACHER, of(ACCURACY)), 0.0),
    }
    every = [rows for _, rows, _ in curves.values()]
    lengths = _lengths(every)
    length_axis(axes, lengths)
    accuracy_axis(axes, every)
    style.name_y_axis(axes, f"{_avg(_alone(measurements))} (%)")
    band = of(ACCURACY)
    artists.band(axes, band.prefix_tokens, band, HEADLINE.colour, "a.band", PERCENT)
    labels = []
    for part, (look, rows, shift) in curves.items():
        labels += draw_curve(axes, rows, AT, look, f"a.{part}", shift)
    style.label_ends(axes, labels)
    _half_decay(axes, measurements)
    axes.tick_params(labelbottom=False)
    _open_share(strip, of("open_share"), lengths)
    strip.set_xlabel("prefix length k (student tokens)")


def _open_share(strip: Axes, share: pd.DataFrame, lengths: list[float]) -> None:
    """The share of rollouts that is unfinished at each length."""
    share = share.dropna(subset="value")
    percent = [printing.percent(value) for value in share.value]
    at = share.prefix_tokens.tolist()
    length_axis(strip, lengths)
    points = style.places_points(strip, at)
    thick = min([5.0, *(0.7 * np.diff(points))])
    strip.vlines(at, 0, percent, color="#bbbbbb", linewidth=thick).set_gid("open.share")
    # Room above the bars for their numbers
    strip.set_ylim(0, 190)
    strip.set_yticks([])
    strip.spines["left"].set_visible(False)
    small: dict[str, Any] = {"textcoords": "offset points", "fontsize": style.SMALL}
    for i in style.far_apart(points, 28.0):
        text = f"{printing.rounded(percent[i])} %"
        strip.annotate(text, (at[i], percent[i]), (0, 1.5), ha="center", **small)
    strip.annotate("unfinished", (1, 0.25), (11, 0), "axes fraction", **small)


def _half_decay(axes: Axes, measurements: pd.DataFrame) -> None:
    """A dotted line where the retained advantage has halved, named above the axes; the name alone
    where it has not."""
    text = half_decay_text(measurements)
    if not text:
        return
    place = float(vocabulary.rows(measurements, what=HALF_DECAY).value.iloc[0])
    low, high = axes.get_xlim()
    share = (place - low) / (high - low)
    if share <= 1.0:
        line = axes.axvline(place, color=style.INK, linestyle=":", gid="a.half-decay", zorder=1)
        line.set_linewidth(0.8)
    share = min(max(0.0, share), 1.0)
    # The text must not stick out of the panel
    side = "left" if share < 0.35 else "right"
    if 0.35 <= share < 0.65:
        side = "center"
    where = (share, 1.0), (0, 3), "axes fraction", "offset points"
    axes.annotate(text, *where, ha=side, fontsize=style.SMALL)


def _draw_controls(
    axes: Axes, measurements: pd.DataFrame, controls: dict[str, pd.DataFrame]
) -> None:
    curves = {
        name: rows[(rows.rollouts >= FEWEST_ROLLOUTS) | rows.value.isna()]
        for name, rows in controls.items()
    }
    if not any(rows.value.notna().any() for rows in curves.values()):
        curves = controls  # a run this small is looked at for its machinery
    lengths = _lengths(curves.values())
    length_axis(axes, [0.0, *lengths] if len(lengths) > 1 else lengths)
    if not any(rows.value.notna().any() for rows in curves.values()):
        artists.no_value(axes)
    low, high = extent(curves.values(), artists.NUMBERS)
    low, high = min(low, -5.0), max(high, 5.0)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    style.ticks_within(axes, upright=True)
    axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    labels = []
    for (name, rows), shift in zip(
        curves.items(), shifts(len(curves), artists.MARKER), strict=True
    ):
        labels += draw_curve(axes, rows, AT, CONTROLS[name], f"b.{name}", shift)
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "change (points)")
    axes.set_xlabel("prefix length k (its author's tokens)")


def _carry_forward(axes: Axes, measurements: pd.DataFrame) -> None:
    forward = _forward(measurements)
    rows = _from_zero(measurements, TEACHER, forward)
    baselines = {role: pick(measurements, ACCURACY, role, ALL) for role in ALONE}
    known = [rows, *baselines.values()]
    length_axis(axes, _lengths(known))
    accuracy_axis(axes, known)
    labels = []
    for role, look in ALONE.items():
        for value in baselines[role].value.dropna() * PERCENT:
            number = (value, math.nan, math.nan)
            labels += draw_reference(axes, number, look, f"c.{role}-alone")
    artists.band(axes, forward.prefix_tokens, forward, HEADLINE.colour, "c.band", PERCENT)
    labels += draw_curve(axes, rows, AT, HEADLINE, "c.carry-forward")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, f"{_avg(_alone(measurements))} (%)")
    axes.set_xlabel("prefix length k (student tokens)")


def _published(axes: Axes, published: pd.DataFrame) -> None:
    """The published curve on axes of its own: another pair, other problems, other lengths."""
    curve = pick(published, ACCURACY, STUDENT_PREFIX, "")
    rows = _from_zero(published, TEACHER, curve)
    length_axis(axes, _lengths([rows]))
    accuracy_axis(axes, [rows])
    labels = []
    for value in rows.value.head(1) * PERCENT:
        number = (value, math.nan, math.nan)
        labels += draw_reference(axes, number, PUBLISHED_ALONE, "published.teacher-alone")
    labels += draw_curve(axes, rows, AT, PUBLISHED, "published")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "accuracy (%)")
    axes.set_xlabel("prefix length k (student tokens)")
