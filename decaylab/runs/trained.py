"""A finished training run, as input of analyses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from decaylab.maths.selection import SELECTORS


@dataclass(frozen=True)
class TrainedRun:
    """One run of an arm.

    arm: short name of selector and lengths, ``prefix-20``; runs of one arm differ only by seed.
    rollout_length: tokens at which rollouts stop; infinity is a full rollout.
    outcomes: rows of the outcomes table (`decaylab.runs.outcomes`), with ``base`` and ``teacher``.
    metrics, validation: rows of metrics.csv and validation.csv.
    chosen: checkpoint rule, ``last`` or ``best`` -> step of the chosen checkpoint.
    """

    arm: str
    seed: int
    selector: str
    rollout_length: float
    outcomes: pd.DataFrame
    metrics: pd.DataFrame
    validation: pd.DataFrame
    chosen: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.arm}-seed-{self.seed}"

    @property
    def place(self) -> dict[str, Any]:
        """The columns of a measurement that identify the arm."""
        return {
            "checkpoint": self.arm,
            "selector": self.selector,
            "rollout_length": self.rollout_length,
        }

    @property
    def stops(self) -> bool:
        """Whether rollouts stop at the end of the selection."""
        return SELECTORS[self.selector].stops_at_budget


def by_arm(runs: Iterable[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """Runs by arm, in the order of first appearance; within an arm by seed.

    Raises:
        ValueError: two runs of one arm with the same seed.
    """
    arms: dict[str, list[TrainedRun]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    for arm, same in arms.items():
        same.sort(key=lambda run: run.seed)
        if len({run.seed for run in same}) < len(same):
            raise ValueError(f"two runs of {arm} have the same seed")
    return arms
