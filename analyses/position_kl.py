"""Position KL: how far student and teacher disagree at each position of a response, before and
after training.

Token statistics in, measurements out; no model, no file. Two views of every curve, since the first
mixes the change of the
student with that of its text:

    fresh     each checkpoint on its own rollouts
    frozen    every checkpoint on the rollouts of the base student

A bin holds the positions of the rollouts that reach it, which are ever fewer: condition
``survivors`` is the same over the rollouts of at least a given length alone. In a bin a few
problems may hold much of the mean, so that no interval of it holds; there the interval is that of
the winsorised mean over problems:

    reverse_kl                   mean in the bin, without an interval
    winsorised_reverse_kl        the same without the extremes, with an interval and a band
    reverse_kl_largest_problem   share of the bin's sum that one problem holds

Likewise for every quantity, and for the changes against base. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM
from decaylab.maths.winsorised import SumsAndCounts
from decaylab.runs import skewed_cells
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NO_RATIO, NO_TOKENS, NOT_FINITE
from decaylab.tokens.token_table import Scored, TokenTable, check_edges

QUANTITIES = ("reverse_kl", "forward_kl", "js", "student_entropy", "teacher_entropy")


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. rollout_length: the
    cascade ratio is over the positions from there on. survivors: also the rollouts of at least so
    many tokens alone. level: of every interval and band.

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
    """Of the tokens of each problem in each piece, [problems, pieces]: their number, and the sum of
    each quantity.

    rollouts: that reach the piece, [pieces].
    """

    cuts: tuple[int, ...]
    counts: Floats
    values: dict[str, Floats]
    rollouts: Ints

    @property
    def problems(self) -> int:
        """Problems with a token."""
        return int(self.counts.any(axis=1).sum())

    def between(self, quantity: str, lows: tuple[int, ...]) -> SumsAndCounts:
        """Sums and counts between positions that are all among the cuts, [problems, cells]."""
        first = np.searchsorted(self.cuts, lows)
        sums, counts = (
            np.add.reduceat(pieces, first, axis=1)
            for pieces in (self.values[quantity], self.counts)
        )
        return sums, counts

    def reaching(self, lows: tuple[int, ...]) -> Ints:
        """Rollouts that reach these positions, [cells]."""
        return np.asarray(self.rollouts[np.searchsorted(self.cuts, lows)])

    def cells(self, quantity: str, lows: tuple[int, ...], estimand: tm.Estimand) -> Cells:
        """Means between positions that are all among the cuts."""
        return Cells(lows, tm.means(*self.between(quantity, lows), estimand), self.reaching(lows))


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Every measurement that the token statistics allow.

    Args:
        scored: the checkpoints in both views; changes are measured where ``base`` stands in the
        same view.
        settings: bins, rollout length, estimand, seed and level.

    Raises ValueError where two have the same view and checkpoint: no row could be told from the
    other's.
    """
    names = [(one.view, one.checkpoint) for one in scored]
    if len(set(names)) < len(names):
        raise ValueError(
            f"each view and checkpoint may stand once, got {names}; name the checkpoints apart"
        )
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
        pieces["survivors"] = np.where(
            np.repeat(kept["survivors"] > 0, table.lengths), pieces["all"], -1
        )
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
    bins = _bins(sums.reaching(settings.edges), sums.problems, settings, place)
    for quantity in QUANTITIES:
        yield from bins.levels(quantity, "nats", sums.between(quantity, settings.edges))
        whole = sums.cells(quantity, (0,), settings.estimand)
        yield from _rows(f"mean_{quantity}", "nats", whole, settings, place)


def _changes(
    after: Sums, before: Sums, settings: Settings, place: dict[str, Any]
) -> Iterable[Measurement]:
    """The change of the reverse KL by bin, in nats and as a fraction of what it was, and the
    cascade ratio."""
    edges, beyond = settings.edges, (settings.rollout_length,)
    reaching = np.minimum(after.reaching(edges), before.reaching(edges))
    bins = _bins(reaching, min(after.problems, before.problems), settings, place)
    yield from bins.changes(
        "reverse_kl", "nats", *(sums.between("reverse_kl", edges) for sums in (after, before))
    )
    late, early = (sums.cells("reverse_kl", beyond, settings.estimand) for sums in (after, before))
    cascade = Cells(
        beyond,
        tm.ratio(late.means, early.means),
        np.minimum(late.rollouts, early.rollouts),
        NO_RATIO,
    )
    yield from _rows("cascade_ratio", "ratio", cascade, settings, place)


def _bins(
    reaching: Ints, problems: int, settings: Settings, place: dict[str, Any]
) -> skewed_cells.Cells:
    """The position bins, with the rollouts that reach each."""
    ends = pairwise((*settings.edges, math.inf))
    places = [
        {
            "position_low": float(low),
            "position_high": high,
            "rollouts": int(rollouts),
            "run": settings.run,
            **place,
        }
        for (low, high), rollouts in zip(ends, reaching, strict=True)
    ]
    among = _among(settings, place["condition"])
    return skewed_cells.Cells(
        places, problems, settings.estimand, settings.level, settings.seed, among
    )


def _rows(
    what: str, unit: str, cells: Cells, settings: Settings, place: dict[str, Any]
) -> Iterable[Measurement]:
    """A row for each cell."""
    means, level = cells.means, settings.level
    low, high = tm.interval(means, level=level)
    for cell, (start, end) in enumerate(pairwise((*cells.lows, math.inf))):
        yield Measurement(
            what=what,
            unit=unit,
            value=float(means.value[cell]),
            position_low=float(start),
            position_high=end,
            low=float(low[cell]),
            high=float(high[cell]),
            standard_error=float(means.standard_error[cell]),
            method=means.method,
            estimand=tm.ESTIMAND_NAMES[settings.estimand] + _among(settings, place["condition"]),
            problems=int(means.problems[cell]),
            rollouts=int(cells.rollouts[cell]),
            tokens=int(means.tokens[cell]),
            level=level,
            seed=settings.seed,
            run=settings.run,
            note=_note(cells, cell),
            **place,
        )


def _among(settings: Settings, condition: str) -> str:
    return "" if condition == "all" else f", of rollouts of at least {settings.survivors} tokens"


def _note(cells: Cells, cell: int) -> str:
    if cells.means.tokens[cell] == 0:
        return NO_TOKENS
    if not np.isfinite(cells.means.value[cell]):
        return cells.undefined
    if cells.means.alike[cell]:
        return ALIKE
    return ONE_PROBLEM if cells.means.problems[cell] < 2 else ""
