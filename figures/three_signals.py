"""The three signals along a rollout: student entropy, teacher entropy and reverse KL (Fig. 3 left
of arXiv 2605.27028).

    a          as in the paper: the three curves in one panel
    b, c, d    a panel each, since their sizes differ several-fold
    e          the published curves where they are given

The base student on its own rollouts. `signals` draws checkpoints beside it, and what follows for
the choice of tokens. Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import BASE, FRESH, select

from . import bins, next_byte, style, words
from .artists import Look
from .layout import Block
from .page import Part, Sheet, drawing

SIGNALS = {
    "student_entropy": "Student entropy",
    "teacher_entropy": "Teacher entropy",
    "reverse_kl": "Reverse KL",
}
ROBUST_SIGNALS = [bins.robust(what) for what in SIGNALS]
LOOKS = {
    "student_entropy": Look("student\nentropy", style.STUDENT, "o"),
    "teacher_entropy": Look("teacher\nentropy", style.TEACHER, "p"),
    "reverse_kl": Look("reverse KL", style.WINE, "D"),
}
PUBLISHED = {
    what: Look(look.name, style.PUBLISHED, look.marker, "--") for what, look in LOOKS.items()
}
PLACE = Block(heights=[1.5], right=0.15, between=1.45)  # of a row of a page
CAPTION = """Entropies of student and teacher and reverse KL of the student from the teacher, by
    position in the base student's own rollouts: {counts}. Lines: winsorised means with {level}
    intervals, problem-clustered; dots: plain means; shades: {level} for all bins at once."""
DETAILS = """(a) As in the paper, the three curves in one panel. (b\u2013d) Student entropy, teacher
    entropy and reverse KL of the student from the teacher by response position ({estimand}), in
    nats, of the base student on its own rollouts: {counts}. The scales differ. Bars: pointwise
    {level} intervals ({methods}); {arrowhead}. Shaded: {level} for all bins at once. {dots} {floor}
    {published}"""


@next_byte.named
@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`; those of the base student are
            drawn.
        published: rows of `decaylab.paper.publication.three_signals`, in a grey panel of their own.

    Raises:
        ValueError: the rows hold no reverse KL of the base student by position.
    """
    rows = _base(measurements)
    parts = {
        "a": Part("Entropies and reverse KL", _single("a"), lambda axes: _all(axes["a"], rows))
    }
    for letter, (what, title) in zip("bcd", SIGNALS.items(), strict=True):
        known = {BASE: LOOKS[what]}  # the colour of the policy, and that of the curve in panel a
        parts[letter] = bins.signal_part(letter, what, title, rows, FRESH, known=known)
    page = [replace(PLACE, mosaic=[[*row]]) for row in ("ab", "cd")]
    if published is not None:
        parts["e"] = published_part("e", published)
        page.append(replace(PLACE, mosaic=[["e", "."]]))
    return Sheet(parts, page)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words.

    Raises:
        ValueError: the rows hold no reverse KL of the base student by position.
    """
    return _filled(CAPTION, _base(measurements), None)


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, estimand, counts, how the intervals were made, and the noise floor."""
    return _filled(DETAILS, _base(measurements), published)


def _filled(template: str, rows: pd.DataFrame, published: pd.DataFrame | None) -> str:
    robust = select(rows, what=ROBUST_SIGNALS)
    return words.filled(template, robust, published, counts=words.counts(rows, FRESH)[BASE])


def _single(letter: str) -> Block:
    return Block([[letter]], [1.7], right=1.02)


def _all(axes: Axes, rows: pd.DataFrame) -> None:
    """The three curves at the same positions, on one axis of nats."""
    curves = {what: bins.pick(rows, bins.robust(what), FRESH, BASE) for what in SIGNALS}
    every = pd.concat(curves.values())
    bins.position_axis(axes, curves["reverse_kl"])
    bins.value_axis(axes, [every])
    labels = []
    for what, curve in curves.items():
        labels += bins.draw_bins(axes, curve, LOOKS[what], f"all.{what}")
    style.label_ends(axes, labels)
    style.name_y_axis(axes, "nats")


def published_part(letter: str, published: pd.DataFrame) -> Part:
    """The published curves on axes of their own: another pair, longer responses, larger values."""
    curves = {what: select(published, what=what) for what in SIGNALS}
    curves = {what: rows.sort_values("position_low") for what, rows in curves.items() if len(rows)}
    return Part(
        "Published: another pair",
        _single(letter),
        lambda axes: bins.draw_published(axes[letter], curves, PUBLISHED),
        colour=style.PUBLISHED,
    )


def _base(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = select(measurements, what=list(SIGNALS) + ROBUST_SIGNALS, checkpoint=BASE)
    if not len(bins.pick(rows, "reverse_kl", FRESH, BASE)):
        raise ValueError(
            "measurements hold no reverse_kl of the base student by position; pass those of signals"
        )
    return rows
