"""Stability: accuracy over the checkpoints of a run: peak, last, lowest, and their distances.

Runs in, measurements out; no model, no file. ``checkpoint`` is the arm, ``training_seed`` the run,
``view`` the problems:

    test          problems of the evaluation, if every checkpoint was evaluated; differences are
                  paired by problem
    validation    held-out training problems (validation.csv), at every checkpoint; outcomes by
                  problem are not stored

The quantities:

    accuracy                        at each step; step 0, before training, is not a checkpoint
    peak_accuracy, last_accuracy,   with their step, the earliest of equals
    lowest_accuracy
    peak_minus_lowest, peak_minus_last
    peak_minus_lowest_by_chance     its mean if all checkpoints were equally good

A peak over checkpoints is the largest of several noisy numbers, and a lowest the smallest. Both are
biased, and their intervals ignore that the checkpoints were chosen by these numbers. Hence the last
line, and the p-value of ``peak_minus_lowest``: each problem's outcomes are permuted over the
checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats
from decaylab.problems import applicable
from decaylab.problems.grading import Verdict
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import TrainedRun, by_arm
from decaylab.runs.vocabulary import (
    ACCURACY,
    BASE,
    FRACTION,
    ONE_RUN,
    OVER_SEEDS,
    TEACHER,
    TEST,
    VALIDATION,
)

DRAWS = 1000
PEAK, LAST, LOWEST = EXTREMES = ("peak_accuracy", "last_accuracy", "lowest_accuracy")
PEAK_TO_LOWEST, PEAK_TO_LAST = "peak_minus_lowest", "peak_minus_last"
DISTANCES = {PEAK_TO_LOWEST: LOWEST, PEAK_TO_LAST: LAST}
BY_CHANCE = "peak_minus_lowest_by_chance"
BIASED_DISTANCE = (
    "of {count} noisy numbers: biased upwards; the interval ignores that they were chosen"
)
BIASED = {
    PEAK: "the highest of {count} noisy numbers: biased upwards",
    LOWEST: "the lowest of {count} noisy numbers: biased downwards",
    PEAK_TO_LOWEST: BIASED_DISTANCE,
    PEAK_TO_LAST: BIASED_DISTANCE,
}
NOT_KEPT = "outcomes by problem are not stored: no paired interval"
METHOD = "permutation of each problem's outcomes over checkpoints"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement. answer_rule: of the evaluation."""

    answer_rule: str


@dataclass(frozen=True)
class _Trace:
    """Accuracy of one run over its checkpoints.

    steps: ascending, without step 0. accuracies: by step. right: by problem, [checkpoints,
    problems], mean over samples; None if unknown. start: at step 0, or None. problems, rollouts,
    tokens: counts behind the accuracy of one checkpoint.
    """

    steps: Floats
    accuracies: list[st.Estimate]
    right: Floats | None
    start: st.Estimate | None
    problems: int
    rollouts: int
    tokens: int = 0


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Accuracy over the checkpoints of every run, and means over the seeds of an arm.

    A view with fewer than two checkpoints has no rows.
    """
    rule = settings.answer_rule
    judged = [replace(run, outcomes=applicable.rows(run.outcomes, rule)) for run in runs]
    measured: list[Measurement] = []
    for arm in by_arm(judged).values():
        measured += _arm_rows(arm, settings)
    return to_frame(measured)


def _arm_rows(arm: Sequence[TrainedRun], settings: Settings) -> Iterator[Measurement]:
    for view, trace_of in ((TEST, _on_test), (VALIDATION, _on_validation)):
        by_quantity: dict[str, list[Measurement]] = {}
        for run in arm:
            trace = trace_of(run, settings)
            if trace is None:
                continue
            for row in _Run(run, view, trace, settings).rows():
                by_quantity.setdefault(row.what, []).append(row)
                yield row
        for what in (*EXTREMES, *DISTANCES, BY_CHANCE):
            if what in by_quantity:
                yield _over_seeds(by_quantity[what], settings.level)


def _on_test(run: TrainedRun, settings: Settings) -> _Trace | None:
    """The trace from the outcomes of all checkpoints; None if fewer than two, or not all of the
    run, were evaluated."""
    correct = run.outcomes[f"grade_{settings.answer_rule}"] == Verdict.CORRECT
    outcomes = run.outcomes.assign(right=correct.astype(np.float64))
    rows = outcomes[~outcomes["checkpoint"].isin([BASE, TEACHER])]
    table = rows.pivot_table(index="step", columns="problem_id", values="right", aggfunc="mean")
    kept = {float(step) for step in run.validation["step"] if step > 0}
    # The peak over some of the checkpoints may not be the peak of the run.
    if len(table) < 2 or not kept <= set(table.index):
        return None
    if table.isna().any(axis=None):
        raise ValueError(f"{run.name}: its checkpoints were evaluated on different problems")
    estimates = [_accuracy(rows[rows["step"] == step], settings) for step in table.index]
    base = outcomes[outcomes["checkpoint"] == BASE]
    return _Trace(
        table.index.to_numpy(np.float64),
        estimates,
        table.to_numpy(np.float64),
        _accuracy(base, settings) if len(base) else None,
        problems=table.shape[1],
        rollouts=len(rows) // len(table),
        tokens=int(rows["response_tokens"].sum()) // len(table),
    )


def _accuracy(rows: pd.DataFrame, settings: Settings) -> st.Estimate:
    codes = pd.factorize(rows["problem_id"], sort=True)[0]
    return st.proportion(rows["right"], codes, level=settings.level)


def _on_validation(run: TrainedRun, settings: Settings) -> _Trace | None:
    """The trace from validation.csv, with one full rollout per problem."""
    if not len(run.validation) or not (run.validation["problems"] > 0).all():
        return None
    # a resumed run may have validated a step twice
    rows = run.validation.drop_duplicates("step", keep="last").sort_values("step")
    estimates: dict[float, st.Estimate] = {}
    columns = (rows[name] for name in ("step", "accuracy", "problems"))
    for step, accuracy, problems in zip(*columns, strict=True):
        # which problems were correct is not stored, and does not change the interval
        codes = np.arange(int(problems))
        right = (codes < round(accuracy * problems)).astype(np.float64)
        estimates[float(step)] = st.proportion(right, codes, level=settings.level)
    start = estimates.pop(0.0, None)
    if len(estimates) < 2:
        return None
    most = int(rows["problems"].max())
    return _Trace(np.array([*estimates]), [*estimates.values()], None, start, most, most)


class _Run:
    """The measurements of one run in one view."""

    def __init__(self, run: TrainedRun, view: str, trace: _Trace, settings: Settings) -> None:
        self.run, self.view, self.trace, self.settings = run, view, trace, settings
        values = [estimate.value for estimate in trace.accuracies]
        self.places = {
            PEAK: int(np.argmax(values)),
            LAST: len(values) - 1,
            LOWEST: int(np.argmin(values)),
        }

    def rows(self) -> Iterator[Measurement]:
        trace = self.trace
        if trace.start is not None:
            yield self.row(ACCURACY, trace.start, step=0.0)
        for step, accuracy in zip(trace.steps.tolist(), trace.accuracies, strict=True):
            yield self.row(ACCURACY, accuracy, step=step)
        for what, place in self.places.items():
            yield self.row(what, trace.accuracies[place], step=float(trace.steps[place]))
        chance, p_value = self.by_chance()
        for what, other in DISTANCES.items():
            tested = {"p_value": p_value} if what == PEAK_TO_LOWEST else {}
            yield self.row(what, self.distance(self.places[PEAK], self.places[other]), **tested)
        if trace.right is not None:
            yield self.row(BY_CHANCE, st.Estimate(chance, *st.UNDEFINED[:3], METHOD, 0, 0))

    def distance(self, first: int, second: int) -> st.Estimate:
        right, accuracies = self.trace.right, self.trace.accuracies
        if right is None:
            apart = accuracies[first].value - accuracies[second].value
            return st.Estimate(apart, *st.UNDEFINED[:3], "", 0, 0, NOT_KEPT)
        codes = np.arange(right.shape[1])
        return st.paired_difference(right[first], right[second], codes, level=self.settings.level)

    def by_chance(self) -> tuple[float, float]:
        """Mean of peak - lowest if all checkpoints were equally good, and the probability of one at
        least as large as measured."""
        right = self.trace.right
        if right is None:
            return math.nan, math.nan
        rng = np.random.default_rng(self.settings.seed)
        drawn = np.array([np.ptp(rng.permuted(right, axis=0).mean(axis=1)) for _ in range(DRAWS)])
        # distances equal up to rounding count as reached
        measured = np.ptp(right.mean(axis=1)) - 1e-9
        return float(drawn.mean()), float((np.sum(drawn >= measured) + 1) / (DRAWS + 1))

    def row(self, what: str, estimate: st.Estimate, **more: Any) -> Measurement:
        rule = self.settings.answer_rule if self.view == TEST else ""
        columns = {
            "condition": rule,
            "answer_rule": rule,
            "view": self.view,
            **self.run.place,
            "training_seed": float(self.run.seed),
            "estimand": ONE_RUN,
            "problems": self.trace.problems,
            "rollouts": self.trace.rollouts,
            "tokens": self.trace.tokens,
            **more,
        }
        biased = BIASED.get(what, "").format(count=len(self.trace.steps))
        return estimated.row(self.settings, what, FRACTION, estimate, biased, **columns)


def _over_seeds(rows: Sequence[Measurement], level: float) -> Measurement:
    """The mean of one quantity over the runs of an arm."""
    apart = over.apart_by([row.standard_error for row in rows])
    mean = over.over_seeds([row.value for row in rows], level=level, apart=apart)
    mean = estimated.within(mean, 0.0, 1.0)  # none of these is negative
    columns: dict[str, Any] = {name: getattr(mean, name) for name in estimated.NUMBERS}
    columns |= dict.fromkeys(("step", "training_seed", "p_value"), math.nan)
    return replace(
        rows[0],
        estimand=OVER_SEEDS,
        note=estimated.joined(mean.note, rows[0].note.removeprefix(f"{NOT_KEPT}; ")),
        rollouts=sum(row.rollouts for row in rows),
        tokens=sum(row.tokens for row in rows),
        **columns,
    )
