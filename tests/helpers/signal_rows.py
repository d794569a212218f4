"""Rows of signals by position, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from decaylab.analyses.signals import Settings, measure
from decaylab.tokens.token_table import Scored, TokenTable

EDGES = (0, 5, 10, 20, 40)


CENTRES = (2.5, 7.5, 15, 30, 50)


PROBLEMS = 45  # an interval needs 40


FEW = ("base", "ckpt-20", "ckpt-60")


SIGNALS = ("student_entropy", "teacher_entropy", "reverse_kl")


def frame_of(checkpoints: tuple[str, ...], edges: tuple[int, ...] = EDGES) -> Any:
    """Measurements of students of ever smaller KL on their own rollouts."""
    scored = []
    for i, name in enumerate(checkpoints):
        rng = np.random.default_rng(i)
        lengths = np.array(
            [60, 8, 30] + (PROBLEMS - 1) * [50, 8, 30]
        )  # all problems reach 50, one 60
        columns = {what: 0.8**i * rng.exponential(size=lengths.sum()) for what in SIGNALS}
        columns |= {
            what: rng.random(lengths.sum())
            for what in ("student_overlap_mass", "teacher_overlap_mass")
        }
        columns["top16_overlap"] = rng.integers(0, 17, lengths.sum())
        scored.append(
            Scored(
                name,
                "fresh",
                TokenTable(lengths, np.repeat(np.arange(PROBLEMS), 3), PROBLEMS, columns),
            )
        )
    return measure(scored, Settings(edges, budget=10, run="synthetic")).assign(noise_floor=0.01)


def rows(frame: pd.DataFrame, what: str, condition: str, checkpoint: str) -> pd.DataFrame:
    """The rows of one curve, picked without the figure's own helper."""
    return frame.query(
        f"what == '{what}' and condition == '{condition}' and checkpoint == '{checkpoint}'"
    )


def gids(figure: Figure) -> set[str]:
    return {str(one.get_gid()) for one in figure.findobj(lambda one: one.get_gid() is not None)}
