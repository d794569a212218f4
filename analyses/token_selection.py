"""Token selection: where the selectors of training arms looked, what share of the KL they took, and
what that cost.

Records of runs in, measurements out (``condition`` and ``view`` are ``training``); no model, no
file. One number a run (``training_seed``), and their mean over the seeds of an arm with Student's
t:

    mean_selected_position           of the weights, tokens, the first one at 0 selected_kl_share
    of the reverse KL of the sampled tokens, what the selection holds tokens_selected,
    tokens_sampled  over the whole run

A run's own number has no interval: it is counted, not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import TrainedRun, by_arm

ONE_RUN, SEEDS = "one training run", "mean over training seeds"
TRAINING = "training"
STOPS = (
    "rollouts stop where the selection ends: what lies beyond was not sampled (prefix-mask tells)"
)


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with. level: of every interval."""

    level: float = 0.95
    seed: int = 0
    run: str = ""


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """What the selection of each arm took, run by run and over the seeds."""
    return to_frame(row for arm in by_arm(runs).values() for row in _Selected(arm, settings).rows())


class _Selected:
    """What the selection of an arm took, from the records of its runs."""

    def __init__(self, runs: Sequence[TrainedRun], settings: Settings) -> None:
        self.runs, self.settings = runs, settings

    def rows(self) -> Iterator[Measurement]:
        whole = math.isinf(self.runs[0].rollout_length)
        to = (
            "full rollouts"
            if whole
            else f"rollouts that stop at {self.runs[0].rollout_length:g} tokens"
        )
        told = {
            "mean_selected_position": ("tokens", "mean over steps by the tokens selected in each"),
            "selected_kl_share": (
                "fraction",
                f"share of the reverse KL of all tokens of {to}, over the run",
            ),
            "tokens_selected": ("tokens", "sum over the run"),
            "tokens_sampled": ("tokens", "sum over the run"),
        }
        taken = [_taken(run.metrics, run.stops) for run in self.runs]
        for what, (unit, estimand) in told.items():
            note = STOPS if what == "selected_kl_share" and self.runs[0].stops else ""
            for run, found in zip(self.runs, taken, strict=True):
                yield self.row(
                    what,
                    unit,
                    [run],
                    value=found[what],
                    training_seed=float(run.seed),
                    estimand=estimand,
                    note=note,
                )
            values = [found[what] for found in taken]
            if all(math.isfinite(value) for value in values):
                mean = over.over_seeds(values, level=self.settings.level)
            else:
                mean = over.OverSeeds(*(math.nan,) * 5, len(values), "")
            high = min(mean.high, 1.0) if unit == "fraction" else mean.high
            yield self.row(
                what,
                unit,
                self.runs,
                value=mean.value,
                low=max(mean.low, 0.0),
                high=high,
                method=mean.method,
                standard_error=mean.standard_error,
                estimand=SEEDS,
                note="; ".join(filter(None, (note, mean.note))),
            )

    def row(self, what: str, unit: str, runs: Sequence[TrainedRun], **numbers: Any) -> Measurement:
        metrics = [run.metrics for run in runs]
        return Measurement(
            what=what,
            condition=TRAINING,
            unit=unit,
            view=TRAINING,
            checkpoint=self.runs[0].arm,
            step=_same([float(one["step"].max()) for one in metrics]),
            level=self.settings.level,
            rollouts=int(sum(one["rollouts"].sum() for one in metrics)),
            tokens=int(sum(one["tokens_scored"].sum() for one in metrics)),
            seed=self.settings.seed,
            run=self.settings.run,
            selector=self.runs[0].selector,
            rollout_length=self.runs[0].rollout_length,
            **numbers,
        )


def _taken(metrics: pd.DataFrame, stops: bool) -> dict[str, float]:
    """Over the steps of one run. stops: nothing outside the selection was sampled, so that its
    share says nothing."""
    weights = metrics["tokens_selected"].to_numpy(dtype=np.float64)
    positions = metrics["mean_selected_position"].to_numpy(dtype=np.float64)
    known = (weights > 0) & np.isfinite(positions)
    mean = (
        float(weights[known] @ positions[known] / weights[known].sum()) if known.any() else math.nan
    )
    inside, outside = (float(metrics[f"reverse_kl_{side}"].sum()) for side in ("inside", "outside"))
    total = inside + outside
    return {
        "mean_selected_position": mean,
        "selected_kl_share": inside / total if total > 0 and not stops else math.nan,
        "tokens_selected": float(weights.sum()),
        "tokens_sampled": float(metrics["tokens_sampled"].sum()),
    }


def _same(numbers: Sequence[float]) -> float:
    """The number that all are; NaN where they differ."""
    return numbers[0] if len(set(numbers)) == 1 else math.nan
