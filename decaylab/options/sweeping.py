"""The options of a sweep: what is varied, over which seeds, and how the runs are evaluated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options.measuring import LAST, CheckpointRule, Count
from decaylab.options.option_values import Must
from decaylab.options.training import FULL, TrainOptions

LENGTHS, SELECTOR = "rollout-length", "selector"
SWEEPS = (LENGTHS, SELECTOR)
Swept = Annotated[str, Must(f"be {' or '.join(SWEEPS)}", SWEEPS.__contains__)]
Values = Annotated[
    str, Must("be text with commas", lambda text: True)
]  # `arms` says what is amiss with them


@dataclass(frozen=True)
class SweepOptions(TrainOptions):
    """Every option of ``decaylab sweep``: those of training, and these.

    over: what is varied, ``rollout-length`` or ``selector``. values: of it, with commas. seeds: how
    many, from ``seed`` on.
    runs: the folder of the training runs, which several sweeps may share. samples: rollouts to each
    test problem.
    checkpoint_rule: which checkpoints are evaluated: last, best, last,best or every.
    """

    over: Swept = LENGTHS
    values: Values = ""
    seeds: Count = 3
    workers: Count = 1
    runs: str | None = None
    samples: Count = 1
    test_limit: Count | None = None
    checkpoint_rule: CheckpointRule = LAST
    cache: str = "runs/cache"

    def arms(self) -> list[TrainOptions]:
        """The training of each value, resolved, with the first seed.

        Raises:
            UserError: an unknown sweep, no value, a value that cannot be trained with, or one that
            is named twice.
        """
        values = [value.strip() for value in self.values.split(",") if value.strip()]
        if not values:
            example = "5,10,20,full" if self.over == LENGTHS else "prefix,full,random"
            raise UserError(f"--values must name what is compared, with commas, such as {example}")
        arms = [self._arm(value).resolved() for value in values]
        names = [arm.arm() for arm in arms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"--values {self.values}: {twice[0]} stands there twice")
        return arms

    def of_seed(self, arm: TrainOptions, place: int) -> TrainOptions:
        """The same training with another seed, from 0."""
        return dataclasses.replace(arm, seed=self.seed + place)

    def folder_of_runs(self) -> Path:
        """Where the training runs stand."""
        if self.runs:
            return Path(self.runs).expanduser()
        return Path("runs") / dataclasses.replace(
            self, problems=self.problems or ""
        ).with_pair().folder_name("sweep")

    def folder(self) -> Path:
        """Where the results stand."""
        return Path(self.out).expanduser() if self.out else self.folder_of_runs() / self.over

    def _arm(self, value: str) -> TrainOptions:
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(TrainOptions)}
        given |= {"samples": TrainOptions.samples, "test_limit": None, "out": None, "workers": 1}
        if self.over == LENGTHS:
            if self.selector not in ("prefix", FULL):
                raise UserError(
                    f"sweep {LENGTHS} stops rollouts at each value: --selector {self.selector} "
                    "has no meaning here"
                )
            return TrainOptions(
                **{**given, "selector": "prefix", "rollout_length": value, "budget": None}
            )
        if self.rollout_length is not None:
            raise UserError(
                f"sweep {SELECTOR} compares selectors at one --budget: leave --rollout-length out"
            )
        if value not in SELECTORS:
            raise UserError(f"--values must be among {', '.join(SELECTORS)}, got {value}")
        own = {"selector": value, "budget": None if SELECTORS[value].whole else self.budget}
        if value != "after-teacher-prefix":
            own["teacher_prefix"] = None
        return TrainOptions(**{**given, **own})
