"""What a reader of a probe's folder must know, from the rows of its steps.csv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from decaylab.runs.graded import RAISE
from decaylab.runs.vocabulary import BASE
from decaylab.trainer.alarms import Behaviour, Thresholds, alarms

BEHAVIOUR = ("response_tokens", "natural_stop_share", "repetition_share")
DURING = (
    "measured while the student was trained: each checkpoint is a step of one training run, on the "
    "same problems, with the same random numbers"
)


def checkpoint(step: int) -> str:
    """The name of a step in the measurements."""
    return f"step-{step}" if step else BASE


def behaviour(row: Any) -> Behaviour:
    """Length, stops and repetition in a row; NaN where nothing was sampled."""
    return Behaviour(*(float(row[name]) for name in BEHAVIOUR))


def raised(steps: pd.DataFrame, thresholds: Thresholds) -> list[dict[str, Any]]:
    """Every alarm with its step, against the rollouts before training."""
    if steps.empty:
        return []
    before = behaviour(steps.iloc[0])
    return [
        {"step": int(row["step"]), "alarm": sentence}
        for _, row in steps.iloc[1:].iterrows()
        for sentence in alarms(before, behaviour(row), thresholds)
    ]


def notes(steps: pd.DataFrame, found: list[dict[str, Any]]) -> Iterator[str]:
    """The alarms first, then what limits the numbers."""
    for each in found:
        yield f"alarm at step {each['step']}: {each['alarm']}"
    yield DURING
    cut = _counts(steps, "cut_off")
    if cut:
        yield f"rollouts cut off at the budget{RAISE.replace('--', '')}: {cut}"
    if lacking := _counts(steps, "unreadable"):
        yield f"rollouts with a token that the teacher lacks, scored up to it: {lacking}"


def _counts(steps: pd.DataFrame, column: str) -> str:
    """``base 3 of 64, step-50 4 of 64``; "" if there are none."""
    some = steps[steps[column] > 0]
    return ", ".join(
        f"{checkpoint(int(row['step']))} {row[column]:g} of {row['rollouts']:g}"
        for _, row in some.iterrows()
    )
