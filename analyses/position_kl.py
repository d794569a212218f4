"""Position KL: how far student and teacher disagree at each position of a response, before and after training.

Token statistics in, measurements out; no model, no file. Two views of every curve, since the first mixes the change of the
student with that of its text:

    fresh     each checkpoint on its own rollouts
    frozen    every checkpoint on the rollouts of the base student

A bin holds the positions of the rollouts that reach it, which are ever fewer: condition ``survivors`` is the same over the
rollouts of at least a given length alone. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from decaylab import token_means as tm
from decaylab.clusters import Floats, Ints
from decaylab.measurements import Measurement, to_frame
from decaylab.statistics import ALIKE, ONE_PROBLEM
from decaylab.token_table import Scored, TokenTable, check_edges

QUANTITIES = ("reverse_kl", "forward_kl", "js", "student_entropy", "teacher_entropy")
NO_TOKENS = "no tokens"
NOT_FINITE = "the value of some token is not finite"
NO_RATIO = "no ratio: 0 before, or the value of some token is not finite"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. rollout_length: the cascade ratio is over the
    positions from there on. survivors: also the rollouts of at least so many tokens alone. level: of every interval and
    band.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...]
    rollout_length: int
    survivors: int | None = None
    estimand: tm.Estimand = "tokens"
    level: float = 0.95
    seed: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        check_edges(self.edges)
        if self.rollout_length < 0:
            raise ValueError(f"rollout_length must be at least 0, got {self.rollout_length}")

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where tokens are cut into pieces, of which bins and the cascade are put together."""
        return tuple(sorted({*self.edges, self.rollout_length}))


@dataclass(frozen=True)
class Cells:
    """A row of neighbouring cells of positions, the last one open, and what is measured there.

    undefined: why a value is not finite, should one not be.
    """

    lows: tuple[int, ...]
    means: tm.CellMeans
    rollouts: Ints
    undefined: str = NOT_FINITE


@dataclass(frozen=True)
class Sums:
    """Of the tokens of each problem in each piece, [problems, pieces]: their number, and the sum of each quantity.

    rollouts: that reach the piece, [pieces].
    """

    cuts: tuple[int, ...]
    counts: Floats
    values: dict[str, Floats]
    rollouts: Ints

    def cells(self, quantity: str, lows: tuple[int, ...], estimand: tm.Estimand) -> Cells:
        """Means between positions that are all among the cuts."""
        first = np.searchsorted(self.cuts, lows)
        sums, counts = (np.add.reduceat(pieces, first, axis=1) for pieces in (self.values[quantity], self.counts))
        return Cells(lows, tm.means(sums, counts, estimand), self.rollouts[first])


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Every measurement that the token statistics allow.

    Args:
        scored: the checkpoints in both views; changes are measured where ``base`` stands in the same view.
        settings: bins, rollout length, estimand, seed and level.

    Raises ValueError where two have the same view and checkpoint: no row could be told from the other's.
    """
    names = [(one.view, one.checkpoint) for one in scored]
    if len(set(names)) < len(names):
        raise ValueError(f"each view and checkpoint may stand once, got {names}; name the checkpoints apart")
    sums = {(one.view, one.checkpoint): _sums(one.tokens, settings) for one in scored}
    rows: list[Measurement] = []
    for (view, checkpoint), conditions in sums.items():
        for condition, after in conditions.items():
            place = {"condition": condition, "view": view, "checkpoint": checkpoint}
            rows += _curves(after, settings, place)
            if checkpoint != "base" and (view, "base") in sums:
                rows += _changes(after, sums[view, "base"][condition], settings, place)
    return to_frame(rows)


def _sums(table: TokenTable, settings: Settings) -> dict[str, Sums]:
    """By condition. Each column is read once."""
    pieces = {"all": table.bins(settings.cuts)}
    kept = {"all": table.lengths}
    if settings.survivors is not None:
        kept["survivors"] = np.where(table.lengths >= settings.survivors, table.lengths, 0)
        pieces["survivors"] = np.where(np.repeat(kept["survivors"] > 0, table.lengths), pieces["all"], -1)
    problems, size = table.token_problems, (table.problem_count, len(settings.cuts))
    values: dict[str, dict[str, Floats]] = {condition: {} for condition in pieces}
    for quantity in QUANTITIES:
        column = table[quantity]
        for condition, piece in pieces.items():
            values[condition][quantity] = tm.sums_by_problem(column, problems, piece, *size)
    return {
        condition: Sums(
            settings.cuts,
            tm.sums_by_problem(None, problems, piece, *size),
            values[condition],
            (kept[condition][:, None] > np.array(settings.cuts)).sum(axis=0),
        )
        for condition, piece in pieces.items()
    }


def _curves(sums: Sums, settings: Settings, place: dict[str, Any]) -> Iterable[Measurement]:
    """Each quantity by bin, and over the whole response."""
    for quantity in QUANTITIES:
        yield from _rows(quantity, "nats", sums.cells(quantity, settings.edges, settings.estimand), settings, place)
        whole = sums.cells(quantity, (0,), settings.estimand)
        yield from _rows(f"mean_{quantity}", "nats", whole, settings, place)


def _changes(after: Sums, before: Sums, settings: Settings, place: dict[str, Any]) -> Iterable[Measurement]:
    """The change of the reverse KL by bin, in nats and as a fraction of what it was, and the cascade ratio."""

    def ends(lows: tuple[int, ...]) -> tuple[tm.CellMeans, tm.CellMeans, Ints]:
        late, early = (sums.cells("reverse_kl", lows, settings.estimand) for sums in (after, before))
        return late.means, early.means, np.minimum(late.rollouts, early.rollouts)

    new, old, rollouts = ends(settings.edges)
    change = Cells(settings.edges, tm.difference(new, old), rollouts)
    yield from _rows("reverse_kl_change", "nats", change, settings, place)
    relative = Cells(settings.edges, tm.ratio(new, old), rollouts, NO_RATIO)
    yield from _rows("reverse_kl_relative_change", "fraction", relative, settings, place, origin=1.0)
    new, old, rollouts = ends((settings.rollout_length,))
    cascade = Cells((settings.rollout_length,), tm.ratio(new, old), rollouts, NO_RATIO)
    yield from _rows("cascade_ratio", "ratio", cascade, settings, place)


def _rows(
    what: str, unit: str, cells: Cells, settings: Settings, place: dict[str, Any], origin: float = 0.0
) -> Iterable[Measurement]:
    """A row for each cell, values counted from an origin; a band where there are several cells."""
    means, level = cells.means, settings.level
    low, high = tm.interval(means, level=level)
    band_low, band_high = np.full((2, len(cells.lows)), math.nan)
    if len(cells.lows) > 1:
        critical = tm.band_multiplier(means, level=level, seed=settings.seed)
        band_low, band_high = tm.interval(means, level=level, critical=critical)
    for cell, (start, end) in enumerate(pairwise((*cells.lows, math.inf))):
        yield Measurement(
            what=what,
            unit=unit,
            value=float(means.value[cell] - origin),
            position_low=float(start),
            position_high=end,
            low=float(low[cell] - origin),
            high=float(high[cell] - origin),
            band_low=float(band_low[cell] - origin),
            band_high=float(band_high[cell] - origin),
            standard_error=float(means.standard_error[cell]),
            method=means.method,
            estimand=_estimand(settings, place["condition"]),
            problems=int(means.problems[cell]),
            rollouts=int(cells.rollouts[cell]),
            tokens=int(means.tokens[cell]),
            level=level,
            seed=settings.seed,
            run=settings.run,
            note=_note(cells, cell),
            **place,
        )


def _estimand(settings: Settings, condition: str) -> str:
    name = tm.ESTIMAND_NAMES[settings.estimand]
    return name if condition == "all" else f"{name}, of rollouts of at least {settings.survivors} tokens"


def _note(cells: Cells, cell: int) -> str:
    if cells.means.tokens[cell] == 0:
        return NO_TOKENS
    if not np.isfinite(cells.means.value[cell]):
        return cells.undefined
    if cells.means.alike[cell]:
        return ALIKE
    return ONE_PROBLEM if cells.means.problems[cell] < 2 else ""
