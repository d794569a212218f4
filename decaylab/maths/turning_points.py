"""Turning points: segments of rollouts over which the chance of a right answer changes; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import boschloo_exact, false_discovery_control

from decaylab.maths.clusters import Floats, check_fraction, finite_column


@dataclass(frozen=True)
class TurningPoints:
    """The test of each segment, [segments].

    p_values: of no change. adjusted: by Benjamini and Yekutieli. turns: whether a segment is a
    turning point at the stated rate. change: end minus start.
    """

    p_values: Floats
    adjusted: Floats
    turns: NDArray[np.bool_]
    change: Floats


def turning_points(
    start_correct: ArrayLike,
    start_draws: ArrayLike,
    end_correct: ArrayLike,
    end_draws: ArrayLike,
    *,
    rate: float = 0.1,
) -> TurningPoints:
    """Segments whose value changes beyond sampling noise, at a false-discovery rate.

    Each segment compares the right continuations at its two ends by Boschloo's exact test, two-
    sided. Neighbouring segments share the draws between them, so their p-values depend on each
    other: Benjamini and Yekutieli's procedure holds its rate under any dependence. It finds more
    than Benjamini and Hochberg's on disjoint halves of the draws
    (benchmarks/results/coverage-values.json).

    Args:
        start_correct, start_draws: right continuations and continuations at the start, [segments].
        end_correct, end_draws: at the end.
        rate: expected share of false ones among the turning points.

    Source: Boschloo 1970; Benjamini and Yekutieli 2001.
    """
    check_fraction("rate", rate)
    columns = [
        finite_column(name, values).astype(np.int64)
        for name, values in (
            ("start_correct", start_correct),
            ("start_draws", start_draws),
            ("end_correct", end_correct),
            ("end_draws", end_draws),
        )
    ]
    right, drawn, then_right, then_drawn = columns
    if len({column.shape for column in columns}) > 1:
        raise ValueError("starts and ends must have one entry per segment")
    if np.any((right < 0) | (right > drawn) | (then_right < 0) | (then_right > then_drawn)):
        raise ValueError("the right continuations must lie between 0 and the draws")
    if np.any((drawn < 1) | (then_drawn < 1)):
        raise ValueError("every end of a segment needs at least 1 draw")
    p_values = np.array([_p_value(*map(int, row)) for row in zip(*columns)], dtype=np.float64)
    adjusted = false_discovery_control(p_values, method="by")
    change = then_right / then_drawn - right / drawn
    return TurningPoints(p_values, adjusted, adjusted <= rate, change)


@cache
def _p_value(right: int, drawn: int, then_right: int, then_drawn: int) -> float:
    """Of the hypothesis that both ends have one chance."""
    table = [[right, then_right], [drawn - right, then_drawn - then_right]]
    return float(boschloo_exact(table).pvalue)
