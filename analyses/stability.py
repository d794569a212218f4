"""Stability: how accuracy goes over the checkpoints of a run: peak, last, lowest, and how far peak
and lowest lie apart.

Runs in, measurements out; no model, no file. ``checkpoint`` is the arm, ``training_seed`` the run,
``view`` says on what:

    test         problems of the evaluation, where every checkpoint was evaluated; differences are
    paired by problem validation   held-out training problems (validation.csv), at every checkpoint;
    their outcomes by problem are not kept

    accuracy                   at each step; step 0, before training, is told but is no checkpoint
    peak_accuracy, last_accuracy, lowest_accuracy    with the step where they stand, of equals the
    earliest peak_minus_lowest, peak_minus_last peak_minus_lowest_by_chance    what it would be on
    average if all checkpoints were equally good

A peak over checkpoints is the largest of several noisy numbers, and a lowest the smallest: they lie
further apart than what they estimate, and the intervals do not know that the checkpoints were
chosen by these very numbers. Hence the last line, and the p-value of ``peak_minus_lowest``: each
problem's outcomes are handed to the checkpoints in random order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats
from decaylab.problems import applicable
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import BASE, TEACHER, TrainedRun, by_arm

ONE_RUN, SEEDS = "one training run", "mean over training seeds"
TEST, VALIDATION = "test", "validation"
DRAWS = 1000
EXTREMES = ("peak_accuracy", "last_accuracy", "lowest_accuracy")
DISTANCES = ("peak_minus_lowest", "peak_minus_last")
BY_CHANCE = "peak_minus_lowest_by_chance"
BIASED = {
    "peak_accuracy": "the highest of {count} noisy numbers: biased upwards",
    "lowest_accuracy": "the lowest of {count} noisy numbers: biased downwards",
    "peak_minus_lowest": "of {count} noisy numbers: biased upwards; the interval does not know "
    "that they were chosen",
    "peak_minus_last": "of {count} noisy numbers: biased upwards; the interval does not know that "
    "they were chosen",
}
NOT_KEPT = "outcomes by problem are not kept: no paired interval"
METHOD = "permutation of each problem's outcomes over checkpoints"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with. answer_rule: of the evaluation. level: of every interval."""

    answer_rule: str
    level: float = 0.95
    seed: int = 0
    run: str = ""


@dataclass(frozen=True)
class _Trace:
    """Accuracy of one run over its checkpoints.

    steps: ascending, without step 0. accuracies: of each. counts: problems behind each.
    right: by problem, [checkpoints, problems], mean over samples; None where it is not known.
    start: at step 0, or None.
    """

    steps: Floats
    accuracies: list[st.Estimate]
    right: Floats | None
    start: st.Estimate | None
    rollouts: int
    tokens: int = 0

    @property
    def values(self) -> Floats:
        return np.array([one.value for one in self.accuracies])


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Accuracy over the checkpoints of every run, and the means over the seeds of an arm.

    A run of a single checkpoint, or without a validation, has no rows of that view.
    """
    rule = settings.answer_rule
    judged = [replace(run, outcomes=applicable.rows(run.outcomes, rule)) for run in runs]
    return to_frame(row for arm in by_arm(judged).values() for row in _arm_rows(arm, settings))


def _arm_rows(arm: Sequence[TrainedRun], settings: Settings) -> Iterator[Measurement]:
    for view, trace_of in ((TEST, _on_test), (VALIDATION, _on_validation)):
        found: dict[str, list[Measurement]] = {}
        for run in arm:
            trace = trace_of(run, settings)
            if trace is not None:
                for row in _Run(run, view, trace, settings).rows():
                    found.setdefault(row.what, []).append(row)
                    yield row
        for what in (*EXTREMES, *DISTANCES, BY_CHANCE):
            if what in found:
                yield _over_seeds(found[what], settings.level)


def _on_test(run: TrainedRun, settings: Settings) -> _Trace | None:
    """From the outcomes of every checkpoint; None where fewer than two, or not all that the run
    has, were evaluated."""
    rows = run.outcomes[~run.outcomes["checkpoint"].isin([BASE, TEACHER])]
    rows = rows.assign(
        right=(rows[f"grade_{settings.answer_rule}"] == "correct").astype(np.float64)
    )
    table = rows.pivot_table(index="step", columns="problem_id", values="right", aggfunc="mean")
    kept = (
        {float(step) for step in run.validation["step"] if step > 0}
        if len(run.validation)
        else set()
    )
    if len(table) < 2 or not kept <= set(table.index):
        return None
    if table.isna().any(axis=None):
        raise ValueError(f"{run.name}: its checkpoints were asked different problems")
    codes = pd.factorize(rows["problem_id"], sort=True)[0]

    def accuracy(
        chosen: pd.Series[bool], right: pd.Series[float], codes: np.ndarray
    ) -> st.Estimate:
        return st.proportion(right[chosen], codes[chosen.to_numpy()], level=settings.level)

    estimates = [accuracy(rows["step"] == step, rows["right"], codes) for step in table.index]
    base = run.outcomes[run.outcomes["checkpoint"] == BASE]
    start = None
    if len(base):
        right = (base[f"grade_{settings.answer_rule}"] == "correct").astype(np.float64)
        start = accuracy(right.notna(), right, pd.factorize(base["problem_id"], sort=True)[0])
    each, tokens = len(rows) // len(table), int(rows["response_tokens"].sum()) // len(table)
    return _Trace(
        table.index.to_numpy(np.float64), estimates, table.to_numpy(np.float64), start, each, tokens
    )


def _on_validation(run: TrainedRun, settings: Settings) -> _Trace | None:
    """From validation.csv: one full rollout a problem."""
    if not len(run.validation) or not (run.validation["problems"] > 0).all():
        return None
    rows = run.validation.drop_duplicates("step", keep="last").sort_values("step")
    estimates = {
        float(step): _counted(accuracy, int(problems), settings.level)
        for step, accuracy, problems in zip(
            rows["step"], rows["accuracy"], rows["problems"], strict=True
        )
    }
    steps = [step for step in estimates if step > 0]
    if len(steps) < 2:
        return None
    problems = int(rows["problems"].max())
    return _Trace(
        np.array(steps), [estimates[step] for step in steps], None, estimates.get(0.0), problems
    )


def _counted(accuracy: float, problems: int, level: float) -> st.Estimate:
    """The interval of a share of problems, one rollout each."""
    right = np.arange(problems) < round(accuracy * problems)
    return st.proportion(right.astype(np.float64), np.arange(problems), level=level)


class _Run:
    """The measurements of one run in one view."""

    def __init__(self, run: TrainedRun, view: str, trace: _Trace, settings: Settings) -> None:
        self.run, self.view, self.trace, self.settings = run, view, trace, settings
        values = trace.values
        self.places = {
            "peak_accuracy": int(np.argmax(values)),
            "last_accuracy": len(values) - 1,
            "lowest_accuracy": int(np.argmin(values)),
        }

    def rows(self) -> Iterator[Measurement]:
        trace = self.trace
        if trace.start is not None:
            yield self.row("accuracy", trace.start, 0.0)
        for step, accuracy in zip(trace.steps, trace.accuracies, strict=True):
            yield self.row("accuracy", accuracy, float(step))
        for what, place in self.places.items():
            yield self.row(what, trace.accuracies[place], float(trace.steps[place]))
        chance, p_value = self.by_chance()
        for what in DISTANCES:
            other = self.places[f"{what.removeprefix('peak_minus_')}_accuracy"]
            distance = self.distance(self.places["peak_accuracy"], other)
            yield self.row(
                what, distance, p_value=p_value if what == "peak_minus_lowest" else math.nan
            )
        if trace.right is not None:
            yield self.row(BY_CHANCE, st.Estimate(chance, *st.UNDEFINED[:3], METHOD, 0, 0))

    def distance(self, first: int, second: int) -> st.Estimate:
        right, values = self.trace.right, self.trace.values
        if right is None:
            return st.Estimate(
                float(values[first] - values[second]), *st.UNDEFINED[:3], "", 0, 0, NOT_KEPT
            )
        codes = np.arange(right.shape[1])
        return st.paired_difference(right[first], right[second], codes, level=self.settings.level)

    def by_chance(self) -> tuple[float, float]:
        """Mean of peak - lowest if all checkpoints were alike, and the chance of one as large as
        found."""
        right = self.trace.right
        if right is None:
            return math.nan, math.nan
        rng = np.random.default_rng(self.settings.seed)
        drawn = np.array([np.ptp(rng.permuted(right, axis=0).mean(axis=1)) for _ in range(DRAWS)])
        found = np.ptp(right.mean(axis=1)) - 1e-9
        return float(drawn.mean()), float((np.sum(drawn >= found) + 1) / (DRAWS + 1))

    def row(
        self, what: str, estimate: st.Estimate, step: float = math.nan, *, p_value: float = math.nan
    ) -> Measurement:
        count = len(self.trace.steps)
        test = self.view == TEST
        return Measurement(
            what=what,
            condition=self.settings.answer_rule if test else "",
            value=estimate.value,
            unit="fraction",
            view=self.view,
            checkpoint=self.run.arm,
            selector=self.run.selector,
            rollout_length=self.run.rollout_length,
            step=step,
            training_seed=float(self.run.seed),
            low=estimate.low,
            high=estimate.high,
            standard_error=estimate.standard_error,
            level=self.settings.level,
            method=estimate.method,
            estimand=ONE_RUN,
            p_value=p_value,
            problems=self.trace.right.shape[1]
            if self.trace.right is not None
            else self.trace.rollouts,
            rollouts=self.trace.rollouts,
            tokens=self.trace.tokens,
            answer_rule=self.settings.answer_rule if test else "",
            seed=self.settings.seed,
            run=self.settings.run,
            note="; ".join(filter(None, (estimate.note, BIASED.get(what, "").format(count=count)))),
        )


def _over_seeds(rows: Sequence[Measurement], level: float) -> Measurement:
    """The mean of one quantity over the runs of an arm."""
    apart = over.apart_by([row.standard_error for row in rows])
    mean = over.over_seeds([row.value for row in rows], level=level, apart=apart)
    low, high = max(mean.low, 0.0), min(mean.high, 1.0)  # none of these is negative
    steps: Mapping[str, Any] = {"step": math.nan, "training_seed": math.nan, "p_value": math.nan}
    noted = "; ".join(filter(None, (mean.note, rows[0].note.removeprefix(f"{NOT_KEPT}; "))))
    return replace(
        rows[0],
        value=mean.value,
        low=low,
        high=high,
        standard_error=mean.standard_error,
        method=mean.method,
        estimand=SEEDS,
        note=noted,
        rollouts=sum(row.rollouts for row in rows),
        tokens=sum(row.tokens for row in rows),
        **steps,
    )
