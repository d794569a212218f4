"""Efficiency: seconds a step and peak memory of generation, scoring and training, and every arm
against full rollout.

Records of runs in (metrics.csv), measurements out; no model, no file. ``checkpoint`` is the arm,
``condition`` the phase, or
``total``: of seconds the sum of the phases, of memory the largest of them, since they do not need
it at once.

    seconds_per_step           mean over the steps but the first, which warms up
    peak_gib                   largest of the run
    tokens_sampled_per_step    mean over the same steps, ``condition`` generation
    seconds_ratio, peak_ratio, tokens_ratio      the arm's over that of full rollout
    seconds_ratio_over_tokens_ratio              1: time goes as the tokens that are sampled

Ratios are taken seed by seed; their mean over seeds has Student's t on the log scale. Of a single
seed those of seconds and tokens have one over blocks of consecutive steps instead, as wide as the
correlation of neighbouring blocks demands (``over_steps``). Runs that shared a machine with others
are not comparable with runs that had it alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from decaylab.maths import seeds as over
from decaylab.maths.clusters import Floats
from decaylab.maths.seeds import OverSeeds
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import FULL, TrainedRun, by_arm

ONE_RUN, SEEDS = "one training run", "mean over training seeds"
PHASES = ("generation", "scoring", "training")
TOTAL = "total"
WARM_UP, BLOCKS, FEWEST_INDEPENDENT = 1, 30, 5
BLOCK_METHOD = (
    "Student t over blocks of consecutive steps as correlated as they are, on the log scale"
)
NO_MEMORY = "this machine does not tell its peak memory"
FEW_STEPS = f"fewer than {BLOCKS} steps and one training seed: no interval"
ALIKE = "the same ratio in every block of steps: no interval"
ONE_RUN_MEMORY = "one training seed: a peak has no interval"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with. level: of every interval. note: what must be known of how
    the runs were timed."""

    level: float = 0.95
    seed: int = 0
    run: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Cost:
    """What one run took. seconds: by phase and ``total``, [steps]; tokens: sampled, [steps];
    peak_gib: by phase."""

    run: TrainedRun
    seconds: Mapping[str, Floats]
    tokens: Floats
    peak_gib: Mapping[str, float]

    @classmethod
    def of(cls, run: TrainedRun) -> _Cost:
        rows = run.metrics.sort_values("step")
        timed = rows[WARM_UP:] if len(rows) > WARM_UP else rows
        seconds = {phase: timed[f"{phase}_seconds"].to_numpy(np.float64) for phase in PHASES}
        peaks = {phase: float(rows[f"{phase}_peak_gib"].max()) for phase in PHASES}
        known = [peak for peak in peaks.values() if not math.isnan(peak)]
        return cls(
            run,
            {**seconds, TOTAL: np.sum([*seconds.values()], axis=0)},
            timed["tokens_sampled"].to_numpy(np.float64),
            {**peaks, TOTAL: max(known, default=math.nan)},
        )


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Seconds, memory and tokens of every run and arm, and the ratios to full rollout where there
    is one."""
    arms = {
        name: [_Cost.of(run) for run in arm if len(run.metrics)]
        for name, arm in by_arm(runs).items()
    }
    return to_frame(
        row for arm in arms.values() if arm for row in _Arm(arm, settings).rows(arms.get(FULL, []))
    )


def over_steps(columns: Sequence[Floats], *, level: float = 0.95) -> OverSeeds:
    """Ratio of one run's mean a step to another's, with an interval that knows that steps in a row
    are alike.

    columns: two of a number above 0 by step, or four (see `_quotient`); compared up to the end of
    the shorter. The steps are cut into 30 to 59 equal blocks. The autocorrelation r of the blocks'
    log ratios at lag 1 is raised by its bias, (1 + 4r) / blocks, and by a standard error, sqrt((1 -
    r^2) / blocks). Then blocks (1 - r) / (1 + r) of them count as independent, and Student's t is
    taken over that number. NaN with a note below 30 steps or 5 independent blocks.

    Source: Kendall 1954 (bias), Bartlett 1946 (error), Student's t at an effective size; limits
    chosen by simulation (benchmarks/coverage.py --part seconds).
    """
    value = float(_quotient(np.array([column.mean() for column in columns])))
    steps = min(len(column) for column in columns)
    nothing = OverSeeds(value, *(math.nan,) * 4, 1, "")
    if steps < BLOCKS:
        return replace(nothing, note=FEW_STEPS)
    count = steps // (steps // BLOCKS)
    blocks = [[part.mean() for part in np.array_split(column[:steps], count)] for column in columns]
    logs = np.log(_quotient(np.array(blocks)))
    around = logs - logs.mean()
    squares = float(around @ around)
    if squares < 1e-20:
        return replace(nothing, note=ALIKE)
    plain = float(around[1:] @ around[:-1]) / squares
    raised = plain + (1 + 4 * max(plain, 0.0)) / count + math.sqrt((1 - plain**2) / count)
    correlation = min(max(raised, 0.0), 1.0)
    independent = count * (1 - correlation) / (1 + correlation)
    if independent < FEWEST_INDEPENDENT:
        alike = (
            f"steps in a row are alike: {count} blocks of them count as {independent:.1f} "
            "independent ones"
        )
        return replace(
            nothing,
            note=f"{alike}, fewer than {FEWEST_INDEPENDENT}: no interval; run more steps or seeds",
        )
    error = math.sqrt(
        squares / (count - 1) / (independent - 1)
    )  # sum of squares about the mean lacks 1 / independent
    reach = float(stdtrit(independent - 1, 0.5 + level / 2)) * error
    low, high = value * math.exp(-reach), value * math.exp(reach)
    return OverSeeds(value, low, high, value * error, math.nan, 1, BLOCK_METHOD)


class _Arm:
    """The measurements of one arm."""

    def __init__(self, costs: Sequence[_Cost], settings: Settings) -> None:
        self.costs, self.settings = costs, settings

    def rows(self, full: Sequence[_Cost]) -> Iterator[Measurement]:
        for phase in (*PHASES, TOTAL):
            seconds = [float(cost.seconds[phase].mean()) for cost in self.costs]
            yield from self.levels("seconds_per_step", phase, "seconds", seconds)
        yield from self.levels(
            "tokens_sampled_per_step",
            PHASES[0],
            "tokens",
            [float(cost.tokens.mean()) for cost in self.costs],
        )
        for phase in (*PHASES, TOTAL):
            yield from self.levels(
                "peak_gib", phase, "GiB", [cost.peak_gib[phase] for cost in self.costs]
            )
        if self.costs[0].run.arm != FULL:
            yield from self.ratios(full)

    def levels(
        self, what: str, phase: str, unit: str, values: Sequence[float]
    ) -> Iterator[Measurement]:
        """One number a run, and their mean."""
        note = "" if all(math.isfinite(value) for value in values) else NO_MEMORY
        for cost, value in zip(self.costs, values, strict=True):
            counted = OverSeeds(value, *(math.nan,) * 4, 1, "", note)
            yield self.row(
                what,
                phase,
                unit,
                counted,
                [cost],
                estimand=ONE_RUN,
                training_seed=float(cost.run.seed),
            )
        mean = (
            over.over_seeds(values, level=self.settings.level)
            if not note
            else _undefined(len(values), note)
        )
        if not note and min(values) > 0 and over.disagree(np.log(values), math.log(over.FACTOR)):
            mean = replace(mean, low=math.nan, high=math.nan, note=over.DISAGREE)
        yield self.row(what, phase, unit, replace(mean, low=max(mean.low, 0.0)), self.costs)

    def ratios(self, full: Sequence[_Cost]) -> Iterator[Measurement]:
        """This arm over full rollout, of the seeds that both have."""
        theirs = {cost.run.seed: cost for cost in full}
        pairs = [(cost, theirs[cost.run.seed]) for cost in self.costs if cost.run.seed in theirs]
        if not pairs:
            return
        for phase in (*PHASES, TOTAL):
            seconds = [(mine.seconds[phase], other.seconds[phase]) for mine, other in pairs]
            yield self.ratio("seconds_ratio", phase, pairs, self.of_series(seconds))
        tokens = [(mine.tokens, other.tokens) for mine, other in pairs]
        yield self.ratio("tokens_ratio", PHASES[0], pairs, self.of_series(tokens))
        beyond = [
            (mine.seconds[TOTAL], other.seconds[TOTAL], mine.tokens, other.tokens)
            for mine, other in pairs
        ]
        yield self.ratio("seconds_ratio_over_tokens_ratio", TOTAL, pairs, self.of_series(beyond))
        for phase in (*PHASES, TOTAL):
            peaks = np.array(
                [(mine.peak_gib[phase], other.peak_gib[phase]) for mine, other in pairs]
            )
            if not np.isfinite(peaks).all():
                yield self.ratio("peak_ratio", phase, pairs, _undefined(len(pairs), NO_MEMORY))
                continue
            mean = over.ratios_over_seeds(peaks[:, 0], peaks[:, 1], level=self.settings.level)
            yield self.ratio(
                "peak_ratio",
                phase,
                pairs,
                replace(mean, note=ONE_RUN_MEMORY) if len(pairs) == 1 else mean,
            )

    def of_series(self, pairs: Sequence[tuple[Floats, ...]]) -> OverSeeds:
        """Mean ratio over seeds; of a single one with an interval over blocks of its steps. Each
        pair: see `_quotient`."""
        means = np.array([[column.mean() for column in pair] for pair in pairs])
        if (means <= 0).any():
            return _undefined(len(pairs), "nothing was sampled, or no time was taken")
        if len(pairs) > 1:
            return over.ratios_over_seeds(
                _quotient(means.T), np.ones(len(pairs)), level=self.settings.level
            )
        return over_steps(pairs[0], level=self.settings.level)

    def ratio(
        self, what: str, phase: str, pairs: Sequence[tuple[_Cost, _Cost]], found: OverSeeds
    ) -> Measurement:
        left_out = len(self.costs) - len(pairs)
        note = (
            f"{left_out} of {len(self.costs)} seeds have no run of {FULL}, left out"
            if left_out
            else ""
        )
        told = replace(found, note="; ".join(filter(None, (found.note, note))))
        estimand = SEEDS if len(pairs) > 1 else ONE_RUN
        return self.row(what, phase, "ratio", told, [mine for mine, _ in pairs], estimand=estimand)

    def row(
        self,
        what: str,
        phase: str,
        unit: str,
        found: OverSeeds,
        costs: Sequence[_Cost],
        *,
        estimand: str = SEEDS,
        training_seed: float = math.nan,
    ) -> Measurement:
        run = self.costs[0].run
        return Measurement(
            what=what,
            condition=phase,
            value=found.value,
            unit=unit,
            view="training",
            checkpoint=run.arm,
            selector=run.selector,
            rollout_length=run.rollout_length,
            training_seed=training_seed,
            low=found.low,
            high=found.high,
            standard_error=found.standard_error,
            level=self.settings.level,
            method=found.method,
            estimand=estimand,
            rollouts=int(sum(cost.run.metrics["rollouts"].sum() for cost in costs)),
            tokens=int(sum(cost.tokens.sum() for cost in costs)),
            seed=self.settings.seed,
            run=self.settings.run,
            note="; ".join(filter(None, (found.note, self.settings.note))),
        )


def _quotient(columns: Floats) -> Floats:
    """first / second; of four columns first / second / (third / fourth)."""
    ratio = columns[0] / columns[1]
    return np.asarray(ratio if len(columns) == 2 else ratio / (columns[2] / columns[3]))


def _undefined(count: int, note: str) -> OverSeeds:
    return OverSeeds(*(math.nan,) * 5, count, "", note)
