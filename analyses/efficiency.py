"""Efficiency: seconds per step and peak memory of generation, scoring and training, and each arm
relative to full rollouts.

Records of runs in (metrics.csv), measurements out; no model, no file. ``checkpoint`` is the arm,
``condition`` the phase, or ``total``: the sum of the phases for seconds, the largest phase for
memory, since the phases do not overlap.

    seconds_per_step           mean over all steps except the first, which warms up
    peak_gib                   largest value of the run
    tokens_sampled_per_step    mean over the same steps, ``condition`` generation
    seconds_ratio, peak_ratio, tokens_ratio      the arm's value / that of full rollouts
    seconds_ratio_over_tokens_ratio              1 if time is proportional to sampled tokens

Ratios are computed per seed; their geometric mean over seeds has Student's t interval on the log
scale, and is not the ratio of the arms' means over seeds. For a single seed, ratios of seconds and
tokens have an interval over blocks of consecutive steps that accounts for the correlation of
neighbouring blocks (``over_steps``). Runs that shared a machine with others are not comparable with
runs that did not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from decaylab.maths import seeds as over
from decaylab.maths.clusters import Floats
from decaylab.maths.seeds import OverSeeds
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import TrainedRun, by_arm
from decaylab.runs.vocabulary import (
    FULL,
    GEOMETRIC_OVER_SEEDS,
    GIB,
    ONE_RUN,
    OVER_SEEDS,
    RATIO,
    SECONDS,
    TOKENS,
    TRAINING,
)

GENERATION = "generation"
PHASES = (GENERATION, "scoring", TRAINING)
TOTAL = "total"
PHASES_AND_TOTAL = (*PHASES, TOTAL)
WARM_UP, BLOCKS, FEWEST_INDEPENDENT = 1, 30, 5
BLOCK_METHOD = (
    "Student t over blocks of consecutive steps as correlated as they are, on the log scale"
)
NO_MEMORY = "this machine does not report its peak memory"
NOTHING_TIMED = "nothing was sampled or timed"
FEW_STEPS = f"fewer than {BLOCKS} steps and one training seed: no interval"
ALIKE = "the ratio is the same in every block of steps: no interval"
ONE_RUN_MEMORY = "one training seed: a peak has no interval"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement. note: a caveat on the timing, added to every row."""

    note: str = ""


@dataclass(frozen=True)
class _Cost:
    """The cost of one run. seconds: by phase and ``total``, [steps]. tokens: sampled, [steps].
    peak_gib: by phase."""

    run: TrainedRun
    seconds: Mapping[str, Floats]
    tokens: Floats
    peak_gib: Mapping[str, float]

    @classmethod
    def of(cls, run: TrainedRun) -> _Cost:
        rows = run.metrics.sort_values("step")
        # The first step compiles and fills caches; its peak memory still counts.
        timed = rows[WARM_UP:] if len(rows) > WARM_UP else rows
        seconds = {phase: timed[f"{phase}_seconds"].to_numpy(np.float64) for phase in PHASES}
        seconds[TOTAL] = np.sum([*seconds.values()], axis=0)
        peaks = {phase: float(rows[f"{phase}_peak_gib"].max()) for phase in PHASES}
        known = [peak for peak in peaks.values() if not math.isnan(peak)]
        peaks[TOTAL] = max(known, default=math.nan)
        return cls(run, seconds, timed["tokens_sampled"].to_numpy(np.float64), peaks)


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Seconds, memory and tokens of every run and arm, and ratios to full rollouts if present."""
    arms = by_arm(run for run in runs if len(run.metrics))
    full = [_Cost.of(run) for run in arms.get(FULL, [])]
    measured: list[Measurement] = []
    for name, arm in arms.items():
        costs = [_Cost.of(run) for run in arm]
        measured += _levels(costs, settings)
        if name != FULL:
            measured += _ratios(costs, full, settings)
    return to_frame(measured)


def over_steps(columns: Sequence[Floats], *, level: float = 0.95) -> OverSeeds:
    """Ratio of two runs' means per step, with an interval that accounts for autocorrelation.

    columns: two positive numbers by step, or four (see `_quotient`), cut to the shortest. The steps
    are divided into 30 to 59 equal blocks. The lag-1 autocorrelation r of the blocks' log ratios is
    raised by its bias, (1 + 4r) / blocks, and by a standard error, sqrt((1 - r^2) / blocks). Then
    blocks (1 - r) / (1 + r) of them count as independent, and Student's t uses that number. NaN
    with a note below 30 steps or 5 independent blocks.

    Source: Kendall 1954 (bias), Bartlett 1946 (error), Student's t at an effective size; limits
    chosen by simulation (benchmarks/coverage.py --part seconds).
    """
    value = float(_quotient([column.mean() for column in columns]))
    steps = min(len(column) for column in columns)
    if steps < BLOCKS:
        return estimated.one_run(value, FEW_STEPS)
    # as many blocks as fit, 30 to 59; remaining steps lengthen some of them by one
    count = steps // (steps // BLOCKS)
    blocks = []
    for column in columns:
        blocks.append(np.array([part.mean() for part in np.array_split(column[:steps], count)]))
    logs = np.log(_quotient(blocks))
    around = logs - logs.mean()
    squares = float(around @ around)
    if squares < 1e-20:
        return estimated.one_run(value, ALIKE)
    plain = float(around[1:] @ around[:-1]) / squares
    raised = plain + (1 + 4 * max(plain, 0.0)) / count + math.sqrt((1 - plain**2) / count)
    correlation = min(max(raised, 0.0), 1.0)
    independent = count * (1 - correlation) / (1 + correlation)
    if independent < FEWEST_INDEPENDENT:
        return estimated.one_run(
            value,
            f"consecutive steps are correlated: {count} blocks count as only {independent:.1f} "
            f"independent ones, fewer than {FEWEST_INDEPENDENT}: no interval; run more steps or "
            "seeds",
        )
    # the sum of squares about the mean is biased by 1 / independent
    error = math.sqrt(squares / (count - 1) / (independent - 1))
    reach = float(stdtrit(independent - 1, 0.5 + level / 2)) * error
    low, high = value * math.exp(-reach), value * math.exp(reach)
    return OverSeeds(value, low, high, value * error, math.nan, 1, BLOCK_METHOD)


def _levels(costs: Sequence[_Cost], settings: Settings) -> Iterator[Measurement]:
    """The costs of an arm: each number of each run, and its mean over the runs."""
    sampled = [float(cost.tokens.mean()) for cost in costs]
    numbers: dict[tuple[str, str, str], list[float]] = {}
    for phase in PHASES_AND_TOTAL:
        seconds = [float(cost.seconds[phase].mean()) for cost in costs]
        numbers["seconds_per_step", phase, SECONDS] = seconds
    numbers["tokens_sampled_per_step", GENERATION, TOKENS] = sampled
    for phase in PHASES_AND_TOTAL:
        numbers["peak_gib", phase, GIB] = [cost.peak_gib[phase] for cost in costs]
    for (what, phase, unit), values in numbers.items():
        note = "" if all(map(math.isfinite, values)) else NO_MEMORY
        for cost, value in zip(costs, values):
            single = {"estimand": ONE_RUN, "training_seed": float(cost.run.seed)}
            number = estimated.one_run(value, note)
            yield _row(what, phase, unit, number, [cost], settings, **single)
        if note:
            mean = estimated.undefined_over_seeds(len(values), note)
        else:
            mean = over.over_seeds(values, level=settings.level)
            # seeds are compared by their ratio, since a slow machine scales all times
            if min(values) > 0 and over.disagree(np.log(values), math.log(over.FACTOR)):
                mean = replace(mean, low=math.nan, high=math.nan, note=over.DISAGREE)
        mean = estimated.within(mean, 0.0)
        yield _row(what, phase, unit, mean, costs, settings, estimand=OVER_SEEDS)


def _ratios(
    costs: Sequence[_Cost], full: Sequence[_Cost], settings: Settings
) -> Iterator[Measurement]:
    """This arm relative to full rollouts: geometric means over their common seeds."""
    theirs = {cost.run.seed: cost for cost in full}
    pairs = [(cost, theirs[cost.run.seed]) for cost in costs if cost.run.seed in theirs]
    if not pairs:
        return
    lost = len(costs) - len(pairs)
    note = estimated.left_out(lost, len(costs), f"seeds have no run of {FULL}")
    kept = [cost for cost, _ in pairs]
    estimand = GEOMETRIC_OVER_SEEDS if len(pairs) > 1 else ONE_RUN

    def ratio(what: str, phase: str, estimate: OverSeeds) -> Measurement:
        noted = replace(estimate, note=estimated.joined(estimate.note, note))
        return _row(what, phase, RATIO, noted, kept, settings, estimand=estimand)

    for phase in PHASES_AND_TOTAL:
        seconds = [(cost.seconds[phase], other.seconds[phase]) for cost, other in pairs]
        yield ratio("seconds_ratio", phase, _of_series(seconds, settings.level))
    tokens = [(cost.tokens, other.tokens) for cost, other in pairs]
    yield ratio("tokens_ratio", GENERATION, _of_series(tokens, settings.level))
    beyond = []
    for cost, other in pairs:
        beyond.append((cost.seconds[TOTAL], other.seconds[TOTAL], cost.tokens, other.tokens))
    yield ratio("seconds_ratio_over_tokens_ratio", TOTAL, _of_series(beyond, settings.level))
    for phase in PHASES_AND_TOTAL:
        mine = [cost.peak_gib[phase] for cost, _ in pairs]
        other_peaks = [other.peak_gib[phase] for _, other in pairs]
        if not np.isfinite([*mine, *other_peaks]).all():
            estimate = estimated.undefined_over_seeds(len(pairs), NO_MEMORY)
        else:
            estimate = over.ratios_over_seeds(mine, other_peaks, level=settings.level)
            if len(pairs) == 1:
                estimate = replace(estimate, note=ONE_RUN_MEMORY)
        yield ratio("peak_ratio", phase, estimate)


def _of_series(pairs: Sequence[tuple[Floats, ...]], level: float) -> OverSeeds:
    """Geometric mean ratio over seeds; for a single seed with an interval over blocks of steps.

    pairs: one entry per seed, see `_quotient`.
    """
    means = np.array([[column.mean() for column in pair] for pair in pairs])
    if (means <= 0).any():
        return estimated.undefined_over_seeds(len(pairs), NOTHING_TIMED)
    if len(pairs) == 1:
        return over_steps(pairs[0], level=level)
    return over.ratios_over_seeds(_quotient([*means.T]), np.ones(len(pairs)), level=level)


def _row(
    what: str,
    phase: str,
    unit: str,
    estimate: OverSeeds,
    costs: Sequence[_Cost],
    settings: Settings,
    **more: Any,
) -> Measurement:
    """A number over some runs of an arm."""
    columns = {
        "condition": phase,
        "view": TRAINING,
        **costs[0].run.place,
        "rollouts": int(sum(cost.run.metrics["rollouts"].sum() for cost in costs)),
        "tokens": int(sum(cost.tokens.sum() for cost in costs)),
        **more,
    }
    return estimated.row(settings, what, unit, estimate, settings.note, **columns)


def _quotient(columns: Sequence[Any]) -> Floats:
    """first / second; for four columns first / second / (third / fourth)."""
    ratio = columns[0] / columns[1]
    if len(columns) == 4:
        ratio = ratio / (columns[2] / columns[3])
    return np.asarray(ratio)
