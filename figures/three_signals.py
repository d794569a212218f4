"""The three signals along a rollout: student entropy, teacher entropy and reverse KL (Fig. 3 left
of arXiv 2605.27028).

A panel each, since their sizes differ several-fold, over the same positions: the base student on
its own rollouts. `signals` draws checkpoints beside it, and what follows for the choice of tokens.
Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from . import bins, style
from .bins import PUBLISHED_CAPTION
from .cumulative_kl import VIEW
from .curves import PERCENT
from .signals import SIGNALS

PANEL_INCHES = {
    "page": 2.1,
    "column": 0.2 + bins.SIGNAL_STEP * len(SIGNALS),
}  # with axis names and the note


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
    known = [*bins.looks(rows).values(), *bins.published_looks(published)]
    with style.context():
        head = 0.3 + bins.key_height(known, width)
        figure = style.new_figure(width, head + PANEL_INCHES[width])
        bins.draw_signals(
            bins.signal_axes(figure, SIGNALS, figure.get_size_inches()[1] - head),
            rows,
            VIEW,
            published,
        )
        bins.key(figure, known)
        bins.note(
            figure,
            f"Bars: {_level(rows)} intervals, problem-clustered; "
            f"{bins.counts(rows, VIEW)['base']}. {bins.ROBUST_NOTE}",
            published,
        )
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what the panels show, estimand, counts, how the intervals were made,
    and the noise floor.

    Raises:
        ValueError: the rows hold no reverse KL of the base student by position.
    """
    rows = _base(measurements)
    methods = "; ".join(dict.fromkeys(rows[rows.method != ""].method))
    text = [
        "(a\u2013c) Student entropy, teacher entropy and reverse KL of the student from the "
        "teacher by response position "
        f"({_robust(rows).estimand.iloc[0]}), in nats, of the base student on its own rollouts: "
        f"{bins.counts(rows, VIEW)['base']}. The scales differ.",
        f"Bars: pointwise {_level(rows)} intervals ({methods}); an arrowhead: the interval goes "
        "on beyond the frame.",
        "Dots: plain means over tokens, in which a few problems may weigh so much that no "
        "interval of them holds.",
        bins.floor_text(_robust(rows)),
        *([PUBLISHED_CAPTION] if published is not None else []),
    ]
    return " ".join(text)


def _base(measurements: pd.DataFrame) -> pd.DataFrame:
    wanted = [*SIGNALS, *map(bins.robust, SIGNALS)]
    rows = measurements[measurements.what.isin(wanted) & (measurements.checkpoint == "base")]
    if not len(bins.pick(rows, "reverse_kl", VIEW, "base")):
        raise ValueError(
            "measurements hold no reverse_kl of the base student by position; pass those of signals"
        )
    return rows


def _robust(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.what.isin([*map(bins.robust, SIGNALS)])]


def _level(rows: pd.DataFrame) -> str:
    return f"{rows.level.iloc[0] * PERCENT:g} %"
