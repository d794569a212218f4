"""The options of a sweep: what varies, the seeds, and how the runs are evaluated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options import folder_names, option_values
from decaylab.options.declared import (
    NEVER,
    SWEEP,
    TRAINED,
    common,
    option,
)
from decaylab.options.kinds import (
    CHECKPOINT_RULES,
    LAST,
    AnswerRule,
    CheckpointRule,
    Count,
    PathName,
    Seed,
    SelectorName,
)
from decaylab.options.option_values import Must, words
from decaylab.options.training import FULL, TrainOptions

LENGTHS, SELECTOR = "rollout-length", "selector"
SWEEPS = (LENGTHS, SELECTOR)
Swept = Annotated[str, Must(f"be {' or '.join(SWEEPS)}", SWEEPS.__contains__)]
# Any text passes here; `arms` checks the values.
Values = Annotated[str, Must("be comma-separated text", lambda text: True)]


@dataclass(frozen=True)
class SweepOptions(TrainOptions):
    """The options of ``decaylab sweep``, added to those of training."""

    names_folder = (*TrainOptions.names_folder[:-1], "over")  # a sweep has several seeds

    over: Swept = common(
        "ahead of all panels",
        "What varies between the arms.",
        LENGTHS,
        metavar="|".join(SWEEPS),
        argument=True,
        identity=(SWEEP,),
    )
    values: Values = common(
        "Where the loss falls",
        "Values to compare, comma-separated: lengths in tokens and full, or selectors at one "
        "--budget.",
        "",
        metavar="VALUE,...",
        among="ahead of all panels",
        identity=NEVER,  # the runs themselves are part of the identity
    )
    seeds: Count = common(
        "The training",
        "Training seeds per arm, starting at --seed.",
        3,
        among="ahead of all panels",
        identity=(SWEEP,),
    )
    seed: Seed = option("Sampling", "The first seed.", 0, identity=(SWEEP,))
    test_limit: Count | None = common(
        "The problems", "Use only the first N test problems.", identity=(SWEEP,)
    )
    checkpoint_rule: CheckpointRule = option(
        "The measurement",
        "Checkpoints to evaluate; best is by the run's validation.csv.",
        LAST,
        metavar=CHECKPOINT_RULES,
        identity=(SWEEP,),
    )
    samples: Count = common(
        "The measurement", "Rollouts per test problem.", 1, place=1, identity=(SWEEP,)
    )
    answer_rule: AnswerRule | None = option(
        "The measurement",
        "The answer rule that is reported first and grades held-out answers: {answer_rules}.",
        metavar="NAME",
        place=3,
    )
    workers: Count = common(
        "The run",
        "Training runs in parallel, each with its share of the cores.",
        1,
        among="The engine",
        identity=NEVER,
    )
    cache: PathName = option(
        "Scoring",
        "Folder of cached rollouts and token scores, reused by later commands.",
        "runs/cache",
        metavar="FOLDER",
        identity=NEVER,
    )
    runs: PathName | None = common(
        "The run",
        "Folder of the training runs; several sweeps may share it. Default: in runs/.",
        metavar="FOLDER",
        place=-1,
        identity=NEVER,
    )
    overwrite: bool = option(
        "The run", "Redo evaluation and comparison; training runs are kept.", False, identity=NEVER
    )

    def arms(self) -> list[TrainOptions]:
        """The resolved training options of each value, with the first seed.

        Raises:
            UserError: no value, an invalid value, or the same value twice.
        """
        if not words(self.values):
            example = "5,10,20,full" if self.over == LENGTHS else "prefix,full,random"
            raise UserError(f"--values must list the values to compare, such as {example}")
        arms = [self._arm(value).resolved() for value in words(self.values)]
        names = [arm.arm() for arm in arms]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--values {self.values}: {name} appears twice")
        return arms

    def folder_of_runs(self) -> Path:
        """The folder of the training runs."""
        if self.runs:
            return Path(self.runs).expanduser()
        # By what all arms share: the options that differ between them name no folder.
        return Path("runs") / self.arms()[0].folder_name("sweep", kinds=(TRAINED,))

    def folder(self) -> Path:
        """The output folder."""
        if self.out:
            return Path(self.out).expanduser()
        values = [arm.rollout_length if self.over == LENGTHS else arm.arm() for arm in self.arms()]
        parts = [self.over, *sorted(map(str, values), key=_in_order), *self.unusual((SWEEP,))]
        return self.folder_of_runs() / folder_names.joined(parts)

    def _arm(self, value: str) -> TrainOptions:
        given = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(TrainOptions)
        }
        # These belong to the sweep, not to its training runs.
        given |= {"samples": TrainOptions.samples, "test_limit": None, "out": None, "workers": 1}
        if self.over == LENGTHS:
            if self.selector not in ("prefix", FULL):
                raise UserError(
                    f"sweep {LENGTHS} stops rollouts at each value, so --selector {self.selector} "
                    "does not apply: remove it"
                )
            kind = option_values.kinds(TrainOptions)["rollout_length"]
            option_values.checked("each of --values", kind, value)
            given |= {"selector": "prefix", "rollout_length": value, "budget": None}
            return TrainOptions(**given)
        if self.rollout_length is not None:
            raise UserError(
                f"sweep {SELECTOR} compares selectors at one --budget: remove --rollout-length"
            )
        option_values.checked("each of --values", SelectorName, value)
        given["selector"] = value
        if SELECTORS[value].whole:
            given["budget"] = None
        if value != "after-teacher-prefix":
            given["teacher_prefix"] = None
        return TrainOptions(**given)


def _in_order(value: str) -> tuple[bool, int, str]:
    """Sort key of swept values: lengths ascending, then words."""
    return (not value.isdigit(), int(value) if value.isdigit() else 0, value)
