"""The three signals along a rollout: student entropy, teacher entropy and reverse KL (Fig. 3 left
of arXiv 2605.27028).

A panel each, since their sizes differ several-fold, over the same positions: the base student on
its own rollouts. `signals` draws checkpoints beside it, and what follows for the choice of tokens.
Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from decaylab.runs.vocabulary import BASE, FRESH, select

from . import bins, style, words
from .colours import looks
from .page import page

SIGNALS = {
    "student_entropy": "Student entropy",
    "teacher_entropy": "Teacher entropy",
    "reverse_kl": "Reverse KL",
}
ROBUST_SIGNALS = [bins.robust(what) for what in SIGNALS]
NOTE = "Bars: {level} intervals, problem-clustered; {counts}. {lines_and_dots} {published_note}"
CAPTION = """(a\u2013c) Student entropy, teacher entropy and reverse KL of the student from the
    teacher by response position ({estimand}), in nats, of the base student on its own rollouts:
    {counts}. The scales differ. Bars: pointwise {level} intervals ({methods}); {arrowhead}.
    {dots} {floor} {published}"""


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`; those of the base student are
            drawn.
        published: rows of `decaylab.paper.publication.three_signals`, drawn grey, dashed and
            hollow.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, beside each other).

    Raises:
        ValueError: the rows hold no reverse KL of the base student by position.
    """
    rows = _base(measurements)
    note = words.filled(NOTE, rows, published, counts=words.counts(rows, FRESH)[BASE])
    with style.context():
        block = bins.signal_block(SIGNALS, width)
        handles = bins.handles(looks(rows), published)
        figure, axes = page(width, [block], handles=handles, note=note)
        bins.draw_signals(axes, SIGNALS, rows, FRESH, published)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what the panels show, estimand, counts, how the intervals were made,
    and the noise floor.

    Raises:
        ValueError: the rows hold no reverse KL of the base student by position.
    """
    rows = _base(measurements)
    robust = select(rows, what=ROBUST_SIGNALS)
    return words.filled(CAPTION, robust, published, counts=words.counts(rows, FRESH)[BASE])


def _base(measurements: pd.DataFrame) -> pd.DataFrame:
    rows = select(measurements, what=list(SIGNALS) + ROBUST_SIGNALS, checkpoint=BASE)
    if not len(bins.pick(rows, "reverse_kl", FRESH, BASE)):
        raise ValueError(
            "measurements hold no reverse_kl of the base student by position; pass those of signals"
        )
    return rows
