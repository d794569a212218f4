"""Several teachers of one student, or several students of one teacher, on the same problems.

Rollouts tables of prefix-decay runs in, measurements out; no model, no file. Every number uses only
units that all runs share, so a difference equals the difference of the two numbers:

    by rollout     if all runs have the same student rollouts: at each prefix length, the rollouts
                   that every teacher continued
    by problem     otherwise: at each prefix length, the problems of which every run continued a
                   rollout, with each problem's mean

At prefix length 0 the teacher has no prefix. Every interval resamples problems, the same on both
sides of a difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from decaylab.maths import retention
from decaylab.maths import retention_differences as differences
from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.runs import panels
from decaylab.runs import rows as estimated
from decaylab.runs.arms import Arms
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.panels import Panel
from decaylab.runs.vocabulary import (
    ACCURACY,
    ADVANTAGE,
    CONTINUATION_TOKENS,
    FRACTION,
    HALF_DECAY,
    MEAN_KL,
    MEAN_OVER_PROBLEMS,
    MEAN_OVER_ROLLOUTS,
    NATS,
    OPEN,
    RETAINED,
    SECONDS,
    SECONDS_A_ROLLOUT,
    STUDENT_ACCURACY,
    STUDENT_PREFIX,
    STUDENTS,
    TEACHERS,
    TOKENS,
    against,
    detectable,
    difference,
)

__all__ = ["STUDENTS", "TEACHERS", "Settings", "Side", "measure"]

NOTHING_OPEN = "no rollout was continued in all runs"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the comparison.

    prefix_lengths: lengths that all runs have, from 0. compared: whether teachers or students
    differ. by_rollout: whether the runs have the same student rollouts.
    """

    prefix_lengths: tuple[int, ...]
    answer_rule: str
    compared: Literal["teachers", "students"]
    by_rollout: bool


@dataclass(frozen=True)
class Side:
    """One run of a comparison.

    name: of the policy in which the runs differ. rollouts: rows of the rollouts table, on the
    common problems. kl: per problem, the ``sum`` of the reverse KL over the student's tokens, in
    nats, and their ``count``, indexed by problem_id; None if not measured. seconds_per_rollout: of
    the teacher alone; NaN if not timed.
    """

    name: str
    rollouts: pd.DataFrame
    kl: pd.DataFrame | None = None
    seconds_per_rollout: float = np.nan


def measure(sides: Sequence[Side], settings: Settings) -> pd.DataFrame:
    """Every number of each run, and the differences of each pair of runs.

    Args:
        sides: the runs, the reference first, with different names.
        settings: common prefix lengths, seed and level.

    A row has the run's name as its ``checkpoint``; a difference has ``against REFERENCE`` as its
    condition. p-values are corrected by Holm's method over all prefix lengths and all runs, or all
    pairs of runs.
    """
    rows = _Comparison(sides, settings).rows()
    return to_frame(estimated.with_holm(rows, ("what",)))


class _Comparison:
    def __init__(self, sides: Sequence[Side], settings: Settings) -> None:
        self.sides, self.settings = sides, settings
        rule, lengths = settings.answer_rule, settings.prefix_lengths
        self.names = [side.name for side in sides]
        arms = [Arms(side.rollouts, rule, lengths) for side in sides]
        codes = estimated.problem_codes({side.name: side.rollouts for side in sides})
        self.problem_count = len(codes)
        self.panels = {
            length: panels.at_length(arms, length, codes, by_rollout=settings.by_rollout)
            for length in lengths
        }
        self.reached = [length for length in lengths[1:] if len(self.panels[length][0].problems)]
        self.estimand = MEAN_OVER_ROLLOUTS if settings.by_rollout else MEAN_OVER_PROBLEMS

    def rows(self) -> Iterator[Measurement]:
        for place, name in enumerate(self.names):
            for length in self.settings.prefix_lengths:
                yield from self._at_length(name, self.panels[length][place], length)
            yield from self._half_decay(name, place)
            yield from self._costs(self.sides[place])
        for first, second in itertools.combinations(range(len(self.names)), 2):
            # The reference comes first; a difference is the later run minus the earlier one.
            yield from self._differences(second, first)

    def _row(
        self, what: str, name: str, estimate: st.Estimate, unit: str = FRACTION, **more: Any
    ) -> Measurement:
        columns = {
            "checkpoint": name,
            "condition": STUDENT_PREFIX,
            "category": self.settings.compared,
            "view": OPEN,
            "estimand": self.estimand,
            "answer_rule": self.settings.answer_rule,
            **more,
        }
        return estimated.row(self.settings, what, unit, estimate, **columns)

    # A run at each prefix length

    def _at_length(self, name: str, panel: Panel, length: int) -> Iterator[Measurement]:
        level, seed = self.settings.level, self.settings.seed
        place: dict[str, Any] = {"prefix_tokens": float(length), "rollouts": panel.rollouts}
        for what, values in ((ACCURACY, panel.correct), (STUDENT_ACCURACY, panel.student)):
            yield self._row(what, name, st.proportion(values, panel.problems, level=level), **place)
        ahead, p_value = self._paired(panel.correct, panel.student, panel.problems)
        yield self._row(ADVANTAGE, name, ahead, p_value=p_value, **place)
        least = estimated.detectable_difference(ahead, level=level)
        yield self._row(detectable(ADVANTAGE), name, least, **place)
        if length:
            kept = retention.retained_advantage(*panel.open, level=level, seed=seed)
            yield self._row(RETAINED, name, kept, **place)
        tokens = self._cells(self._token_means(panel))
        yield self._row(CONTINUATION_TOKENS, name, tokens, TOKENS, **place)

    def _half_decay(self, name: str, place: int) -> Iterator[Measurement]:
        if self.reached:
            opened = [self.panels[length][place].open for length in self.reached]
            half = retention.half_decay(
                self.reached, opened, level=self.settings.level, seed=self.settings.seed
            )
            rollouts = self.panels[self.reached[0]][place].rollouts
            yield self._row(HALF_DECAY, name, half, TOKENS, rollouts=rollouts)

    def _costs(self, side: Side) -> Iterator[Measurement]:
        if side.kl is not None:
            kl = self._cells(self._kl_means(side.kl))
            yield self._row(MEAN_KL, side.name, kl, NATS, **self._tokens_of(side.kl))
        if not np.isnan(side.seconds_per_rollout):
            alone = st.Estimate(side.seconds_per_rollout, *st.UNDEFINED[:3], "", 0, 0)
            yield self._row(SECONDS_A_ROLLOUT, side.name, alone, SECONDS, prefix_tokens=0.0)

    # The difference of two runs

    def _differences(self, first: int, second: int) -> Iterator[Measurement]:
        level, seed = self.settings.level, self.settings.seed
        name, condition = self.names[first], against(self.names[second])
        for length in self.settings.prefix_lengths:
            one, other = self.panels[length][first], self.panels[length][second]
            place: dict[str, Any] = {"condition": condition, "prefix_tokens": float(length)}
            place["rollouts"] = min(one.rollouts, other.rollouts)
            change, p_value = self._paired(one.correct, other.correct, one.problems)
            yield self._row(difference(ACCURACY), name, change, p_value=p_value, **place)
            if length:
                kept = differences.retained_difference(one.open, other.open, level=level, seed=seed)
                yield self._row(difference(RETAINED), name, kept, **place)
            tokens = tm.difference(self._token_means(one), self._token_means(other))
            change = self._cells(tokens)
            yield self._row(difference(CONTINUATION_TOKENS), name, change, TOKENS, **place)
        if self.reached:
            opened = [
                [self.panels[length][place].open for length in self.reached]
                for place in (first, second)
            ]
            half = differences.half_decay_difference(self.reached, *opened, level=level, seed=seed)
            rollouts = min(one.rollouts for one in self.panels[self.reached[0]])
            columns = {"condition": condition, "rollouts": rollouts}
            yield self._row(difference(HALF_DECAY), name, half, TOKENS, **columns)
        ours, theirs = self.sides[first].kl, self.sides[second].kl
        if ours is not None and theirs is not None:
            change = self._cells(tm.difference(self._kl_means(ours), self._kl_means(theirs)))
            counts = self._tokens_of(theirs)
            yield self._row(difference(MEAN_KL), name, change, NATS, condition=condition, **counts)

    def _paired(
        self, first: np.ndarray, second: np.ndarray, problems: np.ndarray
    ) -> tuple[st.Estimate, float]:
        """The mean difference over the same rollouts or problems, and its p-value."""
        change = st.paired_difference(first, second, problems, level=self.settings.level)
        if not len(problems):
            return change, np.nan
        return change, st.sign_flip_p(first - second, problems, seed=self.settings.seed)

    # Means of quantities that are not fractions

    def _token_means(self, panel: Panel) -> tm.CellMeans:
        cells, size = np.zeros(len(panel.problems), dtype=np.int64), (self.problem_count, 1)
        sums = tm.sums_by_problem(panel.tokens, panel.problems, cells, *size)
        return tm.means(sums, tm.sums_by_problem(None, panel.problems, cells, *size))

    def _kl_means(self, kl: pd.DataFrame) -> tm.CellMeans:
        shared = self._shared_kl.index
        sums, counts = (kl.loc[shared, name].to_numpy(float)[:, None] for name in ("sum", "count"))
        return tm.means(sums, counts)

    @property
    def _shared_kl(self) -> pd.DataFrame:
        """The problems whose KL was measured in every run with KL."""
        first, *others = (side.kl for side in self.sides if side.kl is not None)
        for other in others:
            first = first[first.index.isin(other.index)]
        return first

    def _tokens_of(self, kl: pd.DataFrame) -> dict[str, Any]:
        tokens = kl.loc[self._shared_kl.index, "count"].sum()
        return {"tokens": int(tokens), "estimand": tm.ESTIMAND_NAMES["tokens"]}

    def _cells(self, means: tm.CellMeans) -> st.Estimate:
        (estimate,) = estimated.of_cells(means, level=self.settings.level, empty=NOTHING_OPEN)
        return estimate
