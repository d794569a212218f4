"""Position KL: disagreement of student and teacher at each position of a response, before and after
training.

Token statistics in, measurements out; no model, no file. Every curve has two views, because the
first mixes the change of the student with the change of its text:

    fresh     each checkpoint on its own rollouts
    frozen    every checkpoint on the base student's rollouts

Fewer rollouts reach each later bin. Condition ``survivors`` has only the rollouts of at least a
given length, the same in all bins. A few problems may dominate a bin's mean, so it has no reliable
interval; the winsorised mean over problems has one:

    reverse_kl                   mean in the bin, without an interval
    winsorised_reverse_kl        winsorised mean, with an interval and a band
    reverse_kl_largest_problem   largest share of one problem in the bin's sum

The same rows exist for every quantity and for changes from base. Every interval resamples problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints
from decaylab.maths.winsorised import SumsAndCounts
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NO_RATIO, NO_TOKENS, NOT_FINITE, Cells
from decaylab.runs.vocabulary import ALL, BASE, NATS, RATIO, SURVIVORS
from decaylab.tokens.token_table import Scored, TokenTable, check_edges

__all__ = ["NOT_FINITE", "NO_RATIO", "NO_TOKENS", "QUANTITIES", "Settings", "measure"]

KL = "reverse_kl"
QUANTITIES = (KL, "forward_kl", "js", "student_entropy", "teacher_entropy")


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement.

    edges: beginnings of the position bins, ascending from 0; the last bin has no upper end.
    rollout_length: first position of the cascade ratio. survivors: also measure the rollouts of at
    least this many tokens separately.

    Raises ValueError for edges that do not ascend from 0, or a negative rollout_length.
    """

    edges: tuple[int, ...]
    rollout_length: int
    survivors: int | None = None
    estimand: tm.Estimand = "tokens"

    def __post_init__(self) -> None:
        check_edges(self.edges)
        if self.rollout_length < 0:
            raise ValueError(f"rollout_length must be at least 0, got {self.rollout_length}")

    @property
    def cuts(self) -> tuple[int, ...]:
        """The beginnings of pieces. Bins and the cascade are unions of pieces."""
        return tuple(sorted({*self.edges, self.rollout_length}))


@dataclass(frozen=True)
class Sums:
    """Number of tokens and sum of each quantity, by problem and piece, [problems, pieces].

    rollouts: number that reach the piece, [pieces].
    """

    cuts: tuple[int, ...]
    counts: Floats
    values: dict[str, Floats]
    rollouts: Ints

    @property
    def problems(self) -> int:
        """Number of problems with a token."""
        return int(self.counts.any(axis=1).sum())

    def between(self, quantity: str, lows: tuple[int, ...]) -> SumsAndCounts:
        """Sums and counts between positions, all of them cuts, [problems, cells]."""
        first = np.searchsorted(self.cuts, lows)
        sums = np.add.reduceat(self.values[quantity], first, axis=1)
        return sums, np.add.reduceat(self.counts, first, axis=1)

    def reaching(self, lows: tuple[int, ...]) -> Ints:
        """Number of rollouts that reach these positions, [cells]."""
        return np.asarray(self.rollouts[np.searchsorted(self.cuts, lows)])


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Every measurement that the token statistics allow.

    Args:
        scored: the checkpoints in both views; changes need ``base`` in the same view.
        settings: bins, rollout length, estimand, seed and level.

    Raises:
        ValueError: two have the same view and checkpoint.
    """
    names = [(each.view, each.checkpoint) for each in scored]
    if len(set(names)) < len(names):
        raise ValueError(
            f"each view and checkpoint may occur once, got {names}; give checkpoints unique names"
        )
    sums = {(each.view, each.checkpoint): _sums(each.tokens, settings) for each in scored}
    measured: list[Measurement] = []
    for (view, checkpoint), conditions in sums.items():
        for condition, after in conditions.items():
            place = {"condition": condition, "view": view, "checkpoint": checkpoint}
            measured += _curves(after, settings, place)
            if checkpoint != BASE and (view, BASE) in sums:
                measured += _changes(after, sums[view, BASE][condition], settings, place)
    return to_frame(measured)


def _sums(table: TokenTable, settings: Settings) -> dict[str, Sums]:
    """Sums by condition. Each column is read once, since columns may be large."""
    pieces, lengths = {ALL: table.bins(settings.cuts)}, {ALL: table.reach}
    if settings.survivors is not None:
        survive = table.reach >= settings.survivors
        lengths[SURVIVORS] = np.where(survive, table.reach, 0)
        pieces[SURVIVORS] = np.where(np.repeat(survive, table.lengths), pieces[ALL], -1)
    problems, size = table.token_problems, (table.problem_count, len(settings.cuts))
    values: dict[str, dict[str, Floats]] = {condition: {} for condition in pieces}
    for quantity in QUANTITIES:
        column = table[quantity]
        for condition, piece in pieces.items():
            values[condition][quantity] = tm.sums_by_problem(column, problems, piece, *size)
    sums = {}
    for condition, piece in pieces.items():
        counts = tm.sums_by_problem(None, problems, piece, *size)
        reached = lengths[condition][:, None] > np.array(settings.cuts)
        sums[condition] = Sums(settings.cuts, counts, values[condition], reached.sum(axis=0))
    return sums


def _curves(sums: Sums, settings: Settings, place: dict[str, Any]) -> Iterator[Measurement]:
    """Each quantity by bin and over the whole response."""
    # A few problems may dominate a bin, so it has the winsorised mean too; over the whole response
    # the plain mean has an interval.
    bins = _bins(sums.reaching(settings.edges), sums.problems, settings, place)
    for quantity in QUANTITIES:
        yield from bins.levels(quantity, NATS, sums.between(quantity, settings.edges))
        whole = tm.means(*sums.between(quantity, (0,)), settings.estimand)
        (estimate,) = rows.of_cells(whole, level=settings.level)
        counts = {"rollouts": int(sums.rollouts[0]), "tokens": int(whole.tokens[0])}
        yield _row(f"mean_{quantity}", NATS, estimate, 0, settings, place, counts)


def _changes(
    after: Sums, before: Sums, settings: Settings, place: dict[str, Any]
) -> Iterator[Measurement]:
    """The change of the reverse KL by bin, in nats and as a fraction of its value before, and the
    cascade ratio."""
    edges, beyond = settings.edges, (settings.rollout_length,)
    # the side with fewer rollouts limits a change
    reaching = np.minimum(after.reaching(edges), before.reaching(edges))
    bins = _bins(reaching, min(after.problems, before.problems), settings, place)
    yield from bins.changes(KL, NATS, after.between(KL, edges), before.between(KL, edges))
    late = tm.means(*after.between(KL, beyond), settings.estimand)
    early = tm.means(*before.between(KL, beyond), settings.estimand)
    cascade = tm.ratio(late, early)
    (estimate,) = rows.of_cells(cascade, level=settings.level, undefined=NO_RATIO)
    rollouts = min(int(after.reaching(beyond)[0]), int(before.reaching(beyond)[0]))
    counts = {"rollouts": rollouts, "tokens": int(cascade.tokens[0])}
    named = tm.RATIO_NAMES[settings.estimand]
    low = settings.rollout_length
    yield _row("cascade_ratio", RATIO, estimate, low, settings, place, counts, estimand=named)


def _bins(reaching: Ints, problems: int, settings: Settings, place: dict[str, Any]) -> Cells:
    """The position bins, with the number of rollouts that reach each."""
    places = []
    for span, rollouts in zip(rows.spans(settings.edges), reaching.tolist(), strict=True):
        places.append({**span, "rollouts": rollouts, **place})
    among = _among(settings, place["condition"])
    return rows.skewed(settings, places, problems, estimand=settings.estimand, among=among)


def _row(
    what: str,
    unit: str,
    estimate: st.Estimate,
    low: int,
    settings: Settings,
    place: dict[str, Any],
    counts: dict[str, int],
    *,
    estimand: str = "",
) -> Measurement:
    """A number over all positions from ``low`` on; estimand: by default a mean."""
    (span,) = rows.spans((low,))
    estimand = estimand or tm.ESTIMAND_NAMES[settings.estimand]
    among = _among(settings, place["condition"])
    columns = {**place, **span, **counts, "estimand": f"{estimand}{among}"}
    return rows.row(settings, what, unit, estimate, **columns)


def _among(settings: Settings, condition: str) -> str:
    return "" if condition == ALL else f", of rollouts of at least {settings.survivors} tokens"
