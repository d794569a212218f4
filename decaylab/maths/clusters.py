"""Groups rollouts by problem, the independent unit: checks, sums, clustered errors, bootstrap."""

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
    """Checks columns of values in [0, 1], problem codes and weights (None: all 1).

    Returns them without the rollouts of weight 0. Raises ValueError for values outside [0, 1],
    arrays of different lengths, non-integer codes, or negative weights.
    """
    arrays = [finite_column("values", column) for column in columns]
    codes: NDArray[Any] = np.asarray(problems)
    w = np.ones(arrays[0].size) if weights is None else finite_column("weights", weights)
    if any(array.shape != codes.shape for array in (*arrays, w)):
        shapes = [array.shape for array in (*arrays, w)]
        raise ValueError(
            f"values, weights and problems must have the same length, got {shapes} and "
            f"{codes.shape}"
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
    """Values as a column [rollouts]. Raises ValueError unless one-dimensional and finite.

    name: the argument's name in the message.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{name} must be one-dimensional and finite: shape {array.shape}, "
            f"{np.isnan(array).sum()} NaN"
        )
    return array


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless the value lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def masses_by_problem(columns: Sequence[Floats], codes: Ints, w: Floats) -> Floats:
    """Sums by problem, [1 + columns, problems]: of the weights, then of each weighted column."""
    distinct, place = np.unique(codes, return_inverse=True)
    weighted = [w, *(w * x for x in columns)]
    return np.stack([np.bincount(place, column, distinct.size) for column in weighted])


def per_problem_sums(values: ArrayLike, problems: ArrayLike, codes: ArrayLike) -> Floats:
    """Sums of values [rollouts] or [rollouts, columns] by problem, in the order of ``codes``.

    A problem without rollouts has the sum 0. ``bootstrap_weights(...) @ per_problem_sums(...)``
    gives the sums of every bootstrap replicate in one product.
    """
    x, wanted = np.asarray(values, dtype=np.float64), np.asarray(codes)
    of_rollouts = np.asarray(problems)
    if of_rollouts.shape != x.shape[:1]:
        raise ValueError(
            f"problems must have one code per rollout: {x.shape[:1]} rollouts, codes of shape "
            f"{of_rollouts.shape}"
        )
    order = np.argsort(wanted)
    place = np.searchsorted(wanted, of_rollouts, sorter=order)
    # searchsorted puts an unknown code at the next larger one, or past the end
    if of_rollouts.size and (
        place.max() >= wanted.size or np.any(wanted[order[place]] != of_rollouts)
    ):
        raise ValueError("problems contains a code that is not in codes")
    sums = np.zeros((wanted.size, *x.shape[1:]))
    np.add.at(sums, order[place], x)
    return sums


def clustered_se(influences: Floats) -> float:
    """Clustered standard error: sqrt(G/(G-1) x sum of squared influences [problems]).

    NaN with fewer than 2 problems.
    """
    count = influences.size
    if count < 2:
        return float("nan")
    return float(np.sqrt(count / (count - 1) * (influences @ influences)))


def bootstrap_weights(count: int, *, draws: int, seed: int) -> Floats:
    """Times that each of ``count`` problems is drawn in each bootstrap replicate, [draws, count].

    Rows sum to count.
    """
    if count < 1 or draws < 1:
        raise ValueError(f"count and draws must be at least 1, got {count} and {draws}")
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    place = drawn + np.arange(draws)[:, None] * count  # one row of counts per replicate
    times = np.bincount(place.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype(np.float64)


def percentile_interval(replicates: Floats, level: float) -> tuple[float, float]:
    """The two order statistics that enclose ``level`` of the replicates.

    Does not interpolate, since ends may be infinite.
    """
    check_fraction("level", level)
    if replicates.size == 0:
        return float("nan"), float("nan")
    ordered, last = np.sort(replicates), replicates.size - 1
    tail = (1 - level) / 2 * last
    return float(ordered[int(np.floor(tail))]), float(ordered[int(np.ceil(last - tail))])
