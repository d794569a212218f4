"""Seconds a step in a row: coverage of the interval of one run's ratio to another's, by how long
the noise lasts.

The logarithm of a step's seconds is an autoregressive series of order 1, drawn in its stationary
state; the truth is the ratio of the two expectations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from coverage_parts import error
from decaylab.analyses.efficiency import over_steps

Floats = NDArray[np.float64]
CORRELATIONS, STEPS, SPREAD, RATIO = (0.0, 0.5, 0.9, 0.98), (20, 60, 200, 1000), 0.2, 0.4


def series(steps: int, correlation: float, draws: int, rng: np.random.Generator) -> Floats:
    """exp of a stationary AR(1) of standard deviation SPREAD, [draws, steps]; expectation
    exp(SPREAD^2 / 2)."""
    start, shocks = rng.standard_normal((draws, 1)), rng.standard_normal((draws, steps - 1))
    noise = np.concatenate([start, np.sqrt(1 - correlation**2) * shocks], axis=1)
    return np.exp(SPREAD * lfilter([1.0], [1.0, -correlation], noise, axis=1))


def measured(steps: int, correlation: float, draws: int, seed: int = 0) -> dict[str, Any]:
    """Coverage of the intervals that are printed; of all runs, how many get one, and how many get
    one that misses."""
    rng = np.random.default_rng([seed, steps, int(100 * correlation)])
    ours, full = (series(steps, correlation, draws, rng) for _ in range(2))
    ratios = [over_steps([RATIO * mine, other]) for mine, other in zip(ours, full)]
    low, high = (np.array([getattr(ratio, end) for ratio in ratios]) for end in ("low", "high"))
    has = np.isfinite(low)
    held = (low <= RATIO) & (high >= RATIO)
    covered, missed = float(held[has].mean()) if has.any() else None, float((has & ~held).mean())
    return {
        "steps": steps,
        "correlation": correlation,
        "printed": float(has.mean()),
        "coverage": covered,
        "error": error(covered, int(has.sum())) if covered is not None else None,
        "missed": missed,
        "missed_error": error(missed, draws),
        "width": float(np.median((high - low)[has])) if has.any() else None,
    }


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for steps in STEPS:
        for correlation in CORRELATIONS:
            yield measured(steps, correlation, draws)
