"""Training runs made by hand or at random: outcomes, metrics and validation as files of a run hold
them, without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from decaylab.runs.trained import TrainedRun

RULES = ("last_boxed", "anywhere")
PHASES = ("generation", "scoring", "training")


def outcome_rows(
    checkpoint: str, step: float, right: np.ndarray, anywhere: np.ndarray | None = None
) -> pd.DataFrame:
    """Rows of the outcomes table, shuffled. right: [problems, samples]; anywhere: under the other
    rule, the same if None."""
    problems, samples = right.shape
    grades = {"last_boxed": right, "anywhere": right if anywhere is None else anywhere}
    rows = pd.DataFrame(
        {
            "checkpoint": checkpoint,
            "step": step,
            "problem_id": np.repeat([f"p{i:03}" for i in range(problems)], samples),
            "sample": np.tile(np.arange(samples), problems),
            "stop_reason": "eos",
            "response_tokens": 10,
            **{
                f"grade_{rule}": np.where(of.ravel() > 0, "correct", "wrong")
                for rule, of in grades.items()
            },
        }
    )
    return rows.sample(frac=1, random_state=int(right.sum()) + 1)


def metrics(steps: int = 4, **columns: Any) -> pd.DataFrame:
    """Rows of metrics.csv; what is not given is plain."""
    given: dict[str, Any] = {
        "tokens_sampled": 160,
        "tokens_scored": 160,
        "tokens_selected": 80,
        "mean_selected_position": 5.0,
        "reverse_kl_inside": 3.0,
        "reverse_kl_outside": 1.0,
        "rollouts": 16,
        **{f"{phase}_seconds": 1.0 for phase in PHASES},
        **{f"{phase}_peak_gib": 2.0 for phase in PHASES},
    }
    return pd.DataFrame({"step": np.arange(1, steps + 1), **{**given, **columns}})


def validation(accuracies: Mapping[int, float], problems: int = 100) -> pd.DataFrame:
    """Rows of validation.csv: accuracy by step."""
    rows = [
        {"step": step, "problems": problems, "accuracy": accuracy}
        for step, accuracy in accuracies.items()
    ]
    return pd.DataFrame(rows, columns=["step", "problems", "accuracy"])


def trained(
    arm: str,
    seed: int,
    checkpoints: Mapping[int, np.ndarray],
    base: np.ndarray,
    teacher: np.ndarray,
    *,
    chosen: Mapping[str, float] | None = None,
    recorded: pd.DataFrame | None = None,
    held_out: Mapping[int, float] | None = None,
    rollout_length: float | None = None,
) -> TrainedRun:
    """A run of an arm such as ``prefix-20``, ``full`` or ``random-20``. checkpoints: right by step,
    [problems, samples]."""
    selector, _, number = arm.rpartition("-")
    if not number.isdigit():
        selector, number = arm, ""
    stops = selector == "prefix"
    rows = [
        outcome_rows("base", 0.0, base),
        *(
            outcome_rows(f"step-{step:06}", float(step), right)
            for step, right in checkpoints.items()
        ),
        outcome_rows("teacher", math.nan, teacher),
    ]
    length = rollout_length if rollout_length is not None else float(number) if stops else math.inf
    return TrainedRun(
        arm,
        seed,
        selector,
        length,
        pd.concat(rows, ignore_index=True),
        metrics() if recorded is None else recorded,
        validation(held_out or {}),
        {"last": float(max(checkpoints))} if chosen is None else chosen,
    )


def grown(
    arms: Sequence[str] = ("prefix-5", "prefix-20", "random-20", "full"),
    seeds: int = 3,
    problems: int = 40,
    samples: int = 2,
    seed: int = 0,
) -> list[TrainedRun]:
    """Random runs over three checkpoints: problems of different difficulty, arms and seeds of
    different quality."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1.2, (problems, 1))

    def right(quality: float) -> np.ndarray:
        return (rng.random((problems, samples)) < 1 / (1 + np.exp(hard - quality))).astype(float)

    base, teacher = right(-0.3), right(2.0)
    runs = []
    for place, arm in enumerate(arms):
        for one in range(seeds):
            quality = 0.2 + 0.25 * place + rng.normal(0, 0.1)
            drawn = {step: right(quality + 0.1 * step / 50) for step in (50, 100, 150)}
            steps = 30
            sampled = (5.0 + 20 * place) * 16 * rng.uniform(0.9, 1.1, steps)
            seconds = {
                f"{phase}_seconds": sampled / 1000 * rng.uniform(0.8, 1.2, steps)
                for phase in PHASES
            }
            peaks = {
                f"{phase}_peak_gib": 1.0 + 0.3 * place + rng.uniform(0, 0.1, steps)
                for phase in PHASES
            }
            inside = rng.uniform(1, 3, steps)
            recorded = metrics(
                steps,
                tokens_sampled=sampled,
                tokens_scored=sampled,
                tokens_selected=sampled / (1 + place),
                mean_selected_position=rng.uniform(2, 4 + 10 * place, steps),
                reverse_kl_inside=inside,
                reverse_kl_outside=0.0
                if arm in ("prefix-5", "prefix-20", "full")
                else inside * (0.3 + place),
                **seconds,
                **peaks,
            )
            held_out = {0: 0.3, **{step: float(rng.binomial(100, 0.5) / 100) for step in drawn}}
            best = max((step for step in drawn), key=lambda step: (held_out[step], -step))
            chosen = {"last": 150.0, "best": float(best)}
            runs.append(
                trained(
                    arm,
                    one,
                    drawn,
                    base,
                    teacher,
                    chosen=chosen,
                    recorded=recorded,
                    held_out=held_out,
                )
            )
    return runs
