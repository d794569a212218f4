"""Token selection: the positions that selectors of training arms chose, their share of the KL, and
their cost.

Records of runs in, measurements out (``condition`` and ``view`` are ``training``); no model, no
file. One number per run (``training_seed``), and their mean over the seeds of an arm with Student's
t:

    mean_selected_position             weighted mean position, in tokens from 0
    selected_kl_share                  share of the selected tokens in the reverse KL of all
                                       sampled tokens
    tokens_selected, tokens_sampled    over the whole run

A run's own number is a count and has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.rows import Settings
from decaylab.runs.trained import TrainedRun, by_arm
from decaylab.runs.vocabulary import FRACTION, OVER_SEEDS, TOKENS, TRAINING

__all__ = ["Settings", "measure"]

KL_SHARE = "selected_kl_share"
OF_THE_RUN = "sum over the run"
STOPS = (
    "rollouts stop at the end of the selection, so nothing else was sampled; prefix-mask shows it"
)


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """The selection of each arm, per run and over seeds."""
    measured: list[Measurement] = []
    for arm in by_arm(runs).values():
        measured += _rows(arm, settings)
    return to_frame(measured)


def _rows(runs: Sequence[TrainedRun], settings: Settings) -> Iterator[Measurement]:
    """The selection of one arm."""
    stop = runs[0].rollout_length
    sampled = "full rollouts" if math.isinf(stop) else f"rollouts that stop at {stop:g} tokens"
    quantities = {
        "mean_selected_position": (TOKENS, "mean over steps by the tokens selected in each"),
        KL_SHARE: (FRACTION, f"share of the reverse KL of all tokens of {sampled}, over the run"),
        "tokens_selected": (TOKENS, OF_THE_RUN),
        "tokens_sampled": (TOKENS, OF_THE_RUN),
    }
    counted = [_counted(run.metrics, run.stops) for run in runs]
    for what, (unit, estimand) in quantities.items():
        note = STOPS if what == KL_SHARE and runs[0].stops else ""
        values = [numbers[what] for numbers in counted]
        for run, value in zip(runs, values, strict=True):
            place = {"training_seed": float(run.seed), "estimand": estimand, **_place([run])}
            yield estimated.row(settings, what, unit, estimated.one_run(value, note), **place)
        # undefined for a run that selected nothing or sampled nothing else
        if all(math.isfinite(value) for value in values):
            mean = over.over_seeds(values, level=settings.level)
        else:
            mean = estimated.undefined_over_seeds(len(values))
        mean = estimated.within(mean, 0.0, 1.0 if unit == FRACTION else math.inf)
        place = {"estimand": OVER_SEEDS, **_place(runs)}
        place["note"] = estimated.joined(note, mean.note)
        yield estimated.row(settings, what, unit, mean, **place)


def _place(runs: Sequence[TrainedRun]) -> dict[str, Any]:
    """Coordinates and counts of a number over some runs of an arm."""
    metrics = [run.metrics for run in runs]
    return {
        "condition": TRAINING,
        "view": TRAINING,
        **runs[0].place,
        "step": estimated.shared([float(table["step"].max()) for table in metrics]),
        "rollouts": int(sum(table["rollouts"].sum() for table in metrics)),
        "tokens": int(sum(table["tokens_scored"].sum() for table in metrics)),
    }


def _counted(metrics: pd.DataFrame, stops: bool) -> dict[str, float]:
    """Numbers over the steps of one run. stops: nothing outside the selection was sampled, so its
    share is undefined."""
    weights = metrics["tokens_selected"].to_numpy(dtype=np.float64)
    positions = metrics["mean_selected_position"].to_numpy(dtype=np.float64)
    # a step in which nothing was selected has no position
    known = (weights > 0) & np.isfinite(positions)
    mean = share = math.nan
    if known.any():
        mean = float(weights[known] @ positions[known] / weights[known].sum())
    inside = float(metrics["reverse_kl_inside"].sum())
    total = inside + float(metrics["reverse_kl_outside"].sum())
    if total > 0 and not stops:
        share = inside / total
    return {
        "mean_selected_position": mean,
        KL_SHARE: share,
        "tokens_selected": float(weights.sum()),
        "tokens_sampled": float(metrics["tokens_sampled"].sum()),
    }
