"""Turns estimates into rows of measurements, the last step of every analysis.

    row(settings, "accuracy", FRACTION, estimate, note, view=FRESH, checkpoint="base")
    of_cells(means, level=0.95)             # means over tokens, cell by cell, as estimates
    bare(value, like)                       # a number without an interval
    skewed(settings, places, problems)      # cells whose mean a few problems may dominate
    with_holm(rows, ("what", "view"))       # p-values corrected within each family

A row takes its numbers from the estimate, its level, seed and run from the settings, and its
coordinates from the caller. Notes are joined in the given order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats
from decaylab.maths.seeds import OverSeeds
from decaylab.runs.measurements import Measurement
from decaylab.runs.skewed_cells import NO_TOKENS, NOT_FINITE, Cells

NUMBERS = ("value", "low", "high", "standard_error", "method")
Estimated = TypeVar("Estimated", st.Estimate, OverSeeds)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every analysis.

    level: confidence level of intervals and bands. seed: of bootstraps and permutations. run: the
    run's name, stored in every row.
    """

    level: float = 0.95
    seed: int = 0
    run: str = ""


def row(
    settings: Settings,
    what: str,
    unit: str,
    estimate: st.Estimate | OverSeeds,
    *notes: str,
    **place: Any,
) -> Measurement:
    """One measurement.

    notes: appended to the estimate's own note. place: coordinates and counts, by column.
    """
    columns: dict[str, Any] = {name: getattr(estimate, name) for name in NUMBERS}
    columns |= {"level": settings.level, "seed": settings.seed, "run": settings.run}
    columns |= {"condition": "", "note": joined(estimate.note, *notes)}
    if isinstance(estimate, st.Estimate):
        columns |= {"problems": estimate.problems, "rollouts": estimate.rollouts}
    return Measurement(what=what, unit=unit, **{**columns, **place})


def joined(*notes: str) -> str:
    """Notes as one text, without the empty ones."""
    return "; ".join(filter(None, notes))


def left_out(count: int, total: int, things: str) -> str:
    """A note on what was left out, such as ``2 of 60 seeds have no run of full, left out``."""
    return f"{count} of {total} {things}, left out" if count else ""


def graded_late(count: int, total: int) -> str:
    """The note on responses that could not be graded in time."""
    if not count:
        return ""
    return f"{count} of {total} responses took too long to grade and count as not correct"


# Estimates


def bare(value: float, like: st.Estimate) -> st.Estimate:
    """A number without an interval, with the counts and, if undefined, the note of another
    estimate."""
    note = like.note if math.isnan(value) else ""
    return st.Estimate(value, *st.UNDEFINED[:3], "", like.problems, like.rollouts, note)


def detectable_difference(change: st.Estimate, *, level: float) -> st.Estimate:
    """The smallest difference that these data detect with 80 % power."""
    error = st.cautious_error(change, level=level)
    return bare(st.smallest_detectable_difference(error, level=level), change)


def one_run(value: float, note: str = "") -> OverSeeds:
    """The number of a single run, without an interval."""
    return OverSeeds(value, *st.UNDEFINED, 1, "", note)


def undefined_over_seeds(seeds: int, note: str = "") -> OverSeeds:
    """An undefined mean over these seeds."""
    return OverSeeds(math.nan, *st.UNDEFINED, seeds, "", note)


def within(estimate: Estimated, low: float, high: float = math.inf) -> Estimated:
    """The estimate with its interval clipped to the possible values."""
    return replace(estimate, low=max(estimate.low, low), high=min(estimate.high, high))


def of_cells(
    means: tm.CellMeans,
    *,
    level: float,
    ends: tuple[Floats, Floats] | None = None,
    empty: str = NO_TOKENS,
    undefined: str = NOT_FINITE,
    alike: str = st.ALIKE,
) -> list[st.Estimate]:
    """Means over tokens as estimates, one per cell.

    Args:
        means: [cells].
        level: of the intervals.
        ends: low and high, [cells]; by default those of `token_means.interval`.
        empty: the note of a cell without tokens.
        undefined: the note of a cell whose value is not finite.
        alike: the note of a cell in which all problems have one value.
    """
    low, high = tm.interval(means, level=level) if ends is None else ends
    columns = (means.value, low, high, means.standard_error, means.problems, means.alike)
    estimates = []
    for value, start, end, error, problems, same in zip(*(column.tolist() for column in columns)):
        if not problems:
            note = empty
        elif undefined and not math.isfinite(value):
            note = undefined
        elif problems < 2:
            note = st.ONE_PROBLEM
        else:
            note = alike if same else ""
        # the caller sets how many rollouts reach the cell
        estimates.append(st.Estimate(value, start, end, error, means.method, problems, 0, note))
    return estimates


# Coordinates


def skewed(
    settings: Settings, places: Iterable[dict[str, Any]], problems: int, **more: Any
) -> Cells:
    """Cells whose mean a few problems may dominate; see `decaylab.runs.skewed_cells`.

    places: coordinates and counts of each cell. problems: number of measured problems.
    """
    named = [{**place, "run": settings.run} for place in places]
    return Cells(named, problems, level=settings.level, seed=settings.seed, **more)


def spans(edges: Sequence[int]) -> list[dict[str, float]]:
    """The position bins that begin at these edges, as coordinates; the last has no upper end."""
    ends = pairwise((*edges, math.inf))
    return [{"position_low": float(low), "position_high": float(high)} for low, high in ends]


def problem_codes(rollouts: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """A code for every problem of these tables, sorted by name."""
    names: set[str] = set()
    for table in rollouts.values():
        names.update(table["problem_id"])
    return {name: code for code, name in enumerate(sorted(names))}


def shared(numbers: Sequence[float]) -> float:
    """The common value of all numbers; NaN if they differ or there are none."""
    return numbers[0] if len(set(numbers)) == 1 else math.nan


def with_holm(
    rows: Iterable[Measurement],
    family: Sequence[str],
    corrects: Callable[[Measurement], bool] = lambda row: True,
) -> list[Measurement]:
    """The rows with Holm's correction of the p-values of each family.

    family: the columns whose values the members of a family share. corrects: whether a row belongs
    to a family at all.
    """
    corrected = list(rows)
    families: dict[tuple[str, ...], list[int]] = {}
    for index, tested in enumerate(corrected):
        if not math.isnan(tested.p_value) and corrects(tested):
            key = tuple(getattr(tested, column) for column in family)
            families.setdefault(key, []).append(index)
    for members in families.values():
        adjusted = st.holm([corrected[index].p_value for index in members])
        for index, p_value in zip(members, adjusted.tolist(), strict=True):
            corrected[index] = replace(corrected[index], p_value_holm=p_value)
    return corrected
