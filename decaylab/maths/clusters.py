"""Rollouts by problem, the independent unit: checks, sums, clustered errors, bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def checked_rollouts(
    columns: Sequence[ArrayLike], problems: ArrayLike, weights: ArrayLike | None
) -> tuple[list[Floats], Ints, Floats]:
    """Columns of values in [0, 1], problem codes and weights (None: 1 each), without the rollouts
    of weight 0.

    Raises ValueError for values outside [0, 1], arrays of different lengths, codes that are no
    integers, or negative weights.
    """
    arrays = [finite_column("values", column) for column in columns]
    codes: NDArray[Any] = np.asarray(problems)
    w = np.ones(arrays[0].size) if weights is None else finite_column("weights", weights)
    if any(array.shape != codes.shape for array in (*arrays, w)):
        shapes = [array.shape for array in (*arrays, w)]
        raise ValueError(
            f"values, weights and problems must be equally long, got {shapes} and {codes.shape}"
        )
    if codes.size == 0:
        return arrays, codes.astype(np.int64), w
    if codes.dtype.kind not in "iu":
        raise ValueError(f"problems must be integer codes, got {codes.dtype}")
    for array in arrays:
        if array.min() < 0 or array.max() > 1:
            raise ValueError(f"values must lie in [0, 1], got {array.min():g} to {array.max():g}")
    if weights is None:
        return arrays, codes, w
    if w.min() < 0:
        raise ValueError(f"weights must not be negative, got {w.min():g}")
    kept = w > 0
    return [array[kept] for array in arrays], codes[kept], w[kept]


def finite_column(name: str, values: ArrayLike) -> Floats:
    """Values as a column [rollouts]. Raises ValueError, with this name, unless one-dimensional and
    finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{name} must be one-dimensional and finite: shape {array.shape}, "
            f"{np.isnan(array).sum()} NaN"
        )
    return array


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError, with this name, unless the value lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def masses_by_problem(columns: Sequence[Floats], codes: Ints, w: Floats) -> Floats:
    """[1 + columns, problems]: the sum of the weights of each problem, then of each weighted
    column."""
    distinct, place = np.unique(codes, return_inverse=True)
    weighted = [w, *(w * x for x in columns)]
    return np.stack([np.bincount(place, column, distinct.size) for column in weighted])


def per_problem_sums(values: ArrayLike, problems: ArrayLike, codes: ArrayLike) -> Floats:
    """Sums of values [rollouts] or [rollouts, columns] over the rollouts of each problem of
    ``codes``, 0 where none.

    ``bootstrap_weights(...) @ per_problem_sums(...)`` gives the sums of every bootstrap replicate
    in one product.
    """
    x, wanted = np.asarray(values, dtype=np.float64), np.asarray(codes)
    of_rollouts = np.asarray(problems)
    if of_rollouts.shape != x.shape[:1]:
        raise ValueError(
            f"problems must have one code a rollout: {x.shape[:1]} rollouts, codes of shape "
            f"{of_rollouts.shape}"
        )
    order = np.argsort(wanted)
    place = np.searchsorted(wanted, of_rollouts, sorter=order)
    # a code beyond the last one has no place at all, one between two has that of the next
    if of_rollouts.size and (
        place.max() >= wanted.size or np.any(wanted[order[place]] != of_rollouts)
    ):
        raise ValueError("problems holds a code that is not among codes")
    sums = np.zeros((wanted.size, *x.shape[1:]))
    np.add.at(sums, order[place], x)
    return sums


def clustered_se(influences: Floats) -> float:
    """Square root of G/(G-1) times the sum of squared influences, [problems]; NaN with fewer than
    2."""
    count = influences.size
    if count < 2:
        return float("nan")
    return float(np.sqrt(count / (count - 1) * (influences @ influences)))


def bootstrap_weights(count: int, *, draws: int, seed: int) -> Floats:
    """How often each of ``count`` problems is drawn in each bootstrap replicate, [draws, count];
    rows sum to count."""
    if count < 1 or draws < 1:
        raise ValueError(f"count and draws must be at least 1, got {count} and {draws}")
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    place = drawn + np.arange(draws)[:, None] * count  # each replicate counts in a row of its own
    times = np.bincount(place.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype(np.float64)


def percentile_interval(replicates: Floats, level: float) -> tuple[float, float]:
    """The two order statistics that hold ``level`` of the replicates; no interpolation, since ends
    may be infinite."""
    check_fraction("level", level)
    if replicates.size == 0:
        return float("nan"), float("nan")
    ordered, last = np.sort(replicates), replicates.size - 1
    tail = (1 - level) / 2 * last
    return float(ordered[int(np.floor(tail))]), float(ordered[int(np.ceil(last - tail))])
