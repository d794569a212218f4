"""Simulated grades with a known truth: problems of several rollouts whose outcomes go together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def clustered(mean: float, icc: float, problems: Ints, rng: np.random.Generator) -> Floats:
    """Each rollout's chance of being right: one beta-distributed rate a problem, with this
    intraclass correlation."""
    count = int(problems.max()) + 1
    if icc == 0:
        return np.full(problems.size, mean)
    mass = 1 / icc - 1
    return rng.beta(mean * mass, (1 - mean) * mass, count)[problems]


def layout(count: int, sizes: str, rng: np.random.Generator) -> Ints:
    return np.repeat(
        np.arange(count), np.full(count, 4) if sizes == "equal" else rng.integers(1, 9, count)
    )


def grades(chance: Floats, rng: np.random.Generator) -> Floats:
    return (rng.random(chance.size) < chance).astype(np.float64)


def ragged(seed: int = 0, count: int = 25) -> tuple[Floats, Floats, Ints, Floats]:
    """Two graded columns that go together, shuffled problem codes of unequal sizes, and weights."""
    rng = np.random.default_rng(seed)
    problems = layout(count, "unequal", rng)
    chance = clustered(0.6, 0.4, problems, rng)
    return (
        grades(chance, rng),
        grades(chance * 0.8, rng),
        problems * 13 - 50,
        rng.uniform(0.5, 2, problems.size),
    )
