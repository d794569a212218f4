"""The curves of a training run: held-out problems at each checkpoint, and the training rollouts at
each step.

    a   reverse KL of the student from the teacher on its own held-out rollouts; with two tokenizers
        the log-ratio of its finished ones
    b   accuracy on the held-out problems
    c   loss of each step
    d   response length, held-out and in training

Drawing reads the rows of ``metrics.csv`` and ``validation.csv`` and computes no statistics. What
they lack is not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import RESPONSE_LOG_RATIO

from . import artists, style, words
from .artists import PERCENT, Look
from .layout import Block
from .page import Part, Sheet, drawing

HELD_OUT = Look("held-out problems", style.ESR, "s")
FULL = Look("held-out problems", style.FULL_ROLLOUT, "v")
TRAINING = Look("training rollouts", style.BLACK, "")
CAPTION = """Training of a student over {steps} steps: {distance}, accuracy and response length on
    {problems} held-out problems at each checkpoint, and loss and response length of the training
    rollouts at each step. One run, without intervals."""
DETAILS = """Held-out: validation.csv; training: metrics.csv. Accuracy is the share of held-out
    rollouts that are correct, one per problem."""


@dataclass(frozen=True)
class Curve:
    """A column of the records over the steps."""

    gid: str
    rows: pd.DataFrame
    column: str
    look: Look
    scale: float = 1.0

    @property
    def values(self) -> pd.Series[float]:
        values = self.rows[self.column] if self.column in self.rows else pd.Series(dtype=float)
        return values * self.scale


@style.context()
def sheet(metrics: pd.DataFrame, validation: pd.DataFrame, *, full: bool = False) -> Sheet:
    """The figure's panels.

    Args:
        metrics: rows of ``metrics.csv``.
        validation: rows of ``validation.csv``; there may be none.
        full: the student was trained on full rollouts, and has their colour.

    Raises:
        ValueError: there is no step.
    """
    if not len(metrics):
        raise ValueError("metrics hold no step; train the student first")
    look = FULL if full else HELD_OUT
    lengths = [
        Curve("training.response_tokens", metrics, "response_tokens", TRAINING),
        Curve("held-out.response_tokens", validation, "response_tokens", look),
    ]
    panels = {
        ("Held-out reverse KL", "nats per token"): [
            Curve("held-out.reverse_kl", validation, "reverse_kl", look)
        ],
        ("Held-out log-ratio up to the budget", "nats per response"): [
            Curve("held-out.response_log_ratio", validation, RESPONSE_LOG_RATIO, look)
        ],
        ("Held-out accuracy", "accuracy (%)"): [
            Curve("held-out.accuracy", validation, "accuracy", look, PERCENT)
        ],
        ("Loss of each step", "nats"): [Curve("training.loss", metrics, "loss", TRAINING)],
        ("Response length", "tokens"): lengths,
    }
    parts: dict[str, Part] = {}
    for (title, unit), curves in panels.items():
        drawn = [curve for curve in curves if curve.values.notna().any()]
        if drawn:
            letter = words.LETTERS[len(parts)]
            parts[letter] = _part(letter, title, unit, drawn, float(metrics.step.max()))
    rows = [[*parts][start : start + 2] for start in range(0, len(parts), 2)]
    filled = [row + ["."] * (2 - len(row)) for row in rows]
    return Sheet(parts, [Block([row], [1.4], between=0.7, right=0.2) for row in filled])


draw = drawing(sheet)


def caption(metrics: pd.DataFrame, validation: pd.DataFrame) -> str:
    """What is shown, in at most 60 words."""
    problems = int(validation.problems.max()) if len(validation) else 0
    distance = "reverse KL"
    if RESPONSE_LOG_RATIO in validation:
        distance = "log-ratio of responses up to the budget"
    steps = f"{len(metrics):,}"
    return words.filled(CAPTION, steps=steps, problems=f"{problems:,}", distance=distance)


def details() -> str:
    """Where the numbers are from."""
    return words.filled(DETAILS)


def _part(letter: str, title: str, unit: str, curves: Sequence[Curve], last: float) -> Part:
    def draw(axes: dict[str, Axes]) -> None:
        _draw(axes[letter], curves, last, share="%" in unit)
        style.name_y_axis(axes[letter], unit)

    keys = [artists.handle(curve.look, line=True) for curve in curves]
    return Part(title, Block([[letter]], [1.7], right=0.2), draw, keys)


def _draw(axes: Axes, curves: Sequence[Curve], last: float, *, share: bool) -> None:
    """Steps from 0; values from 0, or from below it, with room for a marker."""
    values = pd.concat([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    low, high = min(0.0, values.min()), max(0.0, values.max())
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.set_ylim(1.08 * low, 1.08 * high if high > low else 1.0)
    style.ticks_within(axes, most=6)
    style.ticks_within(axes, upright=True, most=5, share=share)
    axes.set_xlabel("training step")
    for curve in curves:
        steps = curve.rows.step
        thin: dict[str, Any] = {} if curve.look.marker else {"linewidth": 0.7, "zorder": 2}
        artists.points(axes, steps, curve.values, curve.look, curve.gid, joined=True, **thin)
