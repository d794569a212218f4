"""The options of a sweep: what is varied, over which seeds, and how the runs are evaluated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options.declared import (
    NEVER,
    SWEEP,
    TRAINED,
    common,
    option,
)
from decaylab.options.kinds import LAST, AnswerRule, CheckpointRule, Count, Seed
from decaylab.options.option_values import Must, words
from decaylab.options.training import FULL, TrainOptions

LENGTHS, SELECTOR = "rollout-length", "selector"
SWEEPS = (LENGTHS, SELECTOR)
Swept = Annotated[str, Must(f"be {' or '.join(SWEEPS)}", SWEEPS.__contains__)]
# Any text passes here: `arms` knows which values can be compared.
Values = Annotated[str, Must("be text with commas", lambda text: True)]


@dataclass(frozen=True)
class SweepOptions(TrainOptions):
    """The options of ``decaylab sweep``: those of training, and these."""

    names_folder = (*TrainOptions.names_folder[:-1], "over")  # the seed is a run's, not a sweep's

    over: Swept = common(
        "ahead of all panels",
        f"What is varied: {' or '.join(SWEEPS)}.",
        LENGTHS,
        argument=True,
        identity=(SWEEP,),
    )
    values: Values = common(
        "Where the loss falls",
        "What is compared, with commas: lengths in tokens and full, or selectors at one --budget.",
        "",
        among="ahead of all panels",
        identity=NEVER,  # the runs themselves are part of the identity
    )
    seeds: Count = common(
        "The training",
        "How many seeds each arm is trained with, from --seed on.",
        3,
        among="ahead of all panels",
        identity=(SWEEP,),
    )
    seed: Seed = common("Sampling", "The first of the seeds.", 0, identity=(SWEEP,))
    test_limit: Count | None = common(
        "The problems", "Test on the first N problems.", identity=(SWEEP,)
    )
    checkpoint_rule: CheckpointRule = option(
        "The measurement",
        "Which checkpoints are evaluated: last, best, last,best or every.",
        LAST,
        identity=(SWEEP,),
    )
    samples: Count = common(
        "The measurement", "Rollouts per test problem.", 1, place=1, identity=(SWEEP,)
    )
    answer_rule: AnswerRule | None = option(
        "The measurement",
        "The rule that is reported first, and that held-out answers are graded by.",
        place=3,
    )
    workers: Count = common(
        "The run",
        "Runs at a time, each with its share of the cores.",
        1,
        among="The engine",
        identity=NEVER,
    )
    cache: str = option(
        "Scoring",
        "Where rollouts and scored tokens are kept for the next command.",
        "runs/cache",
        identity=NEVER,
    )
    runs: str | None = common(
        "The run",
        "The folder of the training runs, which several sweeps may share; by default under runs/.",
        place=-1,
        identity=NEVER,
    )
    overwrite: bool = common(
        "The run", "Redo evaluation and comparison; training runs are kept.", False, identity=NEVER
    )

    def arms(self) -> list[TrainOptions]:
        """The training of each value, resolved, with the first seed.

        Raises:
            UserError: an unknown sweep, no value, a value that cannot be trained with, or one that
            is named twice.
        """
        if not words(self.values):
            example = "5,10,20,full" if self.over == LENGTHS else "prefix,full,random"
            raise UserError(f"--values must name what is compared, with commas, such as {example}")
        arms = [self._arm(value).resolved() for value in words(self.values)]
        names = [arm.arm() for arm in arms]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--values {self.values}: {name} stands there twice")
        return arms

    def folder_of_runs(self) -> Path:
        """Where the training runs stand."""
        if self.runs:
            return Path(self.runs).expanduser()
        # By what all arms share: the options that differ between them name no folder.
        return Path("runs") / self.arms()[0].folder_name("sweep", kinds=(TRAINED,))

    def folder(self) -> Path:
        """Where the results stand."""
        if self.out:
            return Path(self.out).expanduser()
        unusual = [f"{name}-{value}" for name, value in self.unusual((SWEEP,)).items()]
        return self.folder_of_runs() / "-".join([self.over, *unusual])

    def _arm(self, value: str) -> TrainOptions:
        given = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(TrainOptions)
        }
        # Of a test, of results and of the sweep itself: a training has its own.
        given |= {"samples": TrainOptions.samples, "test_limit": None, "out": None, "workers": 1}
        if self.over == LENGTHS:
            if self.selector not in ("prefix", FULL):
                raise UserError(
                    f"sweep {LENGTHS} stops rollouts at each value: --selector {self.selector} "
                    "has no meaning here"
                )
            given |= {"selector": "prefix", "rollout_length": value, "budget": None}
            return TrainOptions(**given)
        if self.rollout_length is not None:
            raise UserError(
                f"sweep {SELECTOR} compares selectors at one --budget: leave --rollout-length out"
            )
        if value not in SELECTORS:
            raise UserError(f"--values must be among {', '.join(SELECTORS)}, got {value}")
        given["selector"] = value
        if SELECTORS[value].whole:
            given["budget"] = None
        if value != "after-teacher-prefix":
            given["teacher_prefix"] = None
        return TrainOptions(**given)
