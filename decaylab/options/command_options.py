"""The commands and the options class of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from decaylab.options.arm_gaining import ArmGainOptions
from decaylab.options.comparing import CompareOptions
from decaylab.options.declared import (
    COMPARISON,
    DECAY,
    DIAGNOSTIC,
    RUNS,
    SWEEP,
    TRAINED,
    Declared,
    options_of,
)
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.folder_names import RECORDED_APART
from decaylab.options.intervening import InterventionOptions
from decaylab.options.measuring import FileOptions, Options
from decaylab.options.planning import PlanOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.options.valuing import ValuesOptions


@dataclass(frozen=True)
class CommandOptions:
    """The options of one command: their class and the fields that apply to the command.

    runs: the kinds of runs that the command makes.
    """

    command: str
    kind: type[Any]
    runs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(options_of(self.kind, self.command))

    def identifies(self, name: str, spec: Declared) -> bool:
        """Whether another value of an option makes another run."""
        if name in RECORDED_APART:
            return bool({*self.runs} & {*RUNS})
        return name in BY_WHAT_THEY_NAME or bool({*self.runs} & {*spec.identity})


KINDS: dict[type[Any], tuple[str, ...]] = {
    FileOptions: ("rollouts",),
    Options: ("prefix-decay", "preflight"),
    DiagnosticOptions: (
        *("position-kl", "category-kl", "submode", "signals", "served-kl"),
        *("token-truth", "behaviour", "evaluate"),
    ),
    InterventionOptions: ("interventions",),
    ArmGainOptions: ("arm-gains",),
    ValuesOptions: ("values",),
    TrainOptions: ("train",),
    SweepOptions: ("sweep",),
    CompareOptions: ("compare",),
    PlanOptions: ("plan",),
}
RUNS_OF: dict[type[Any], tuple[str, ...]] = {
    Options: (DECAY,),
    DiagnosticOptions: (DIAGNOSTIC,),
    InterventionOptions: (DIAGNOSTIC,),
    ArmGainOptions: (DIAGNOSTIC,),
    ValuesOptions: (DIAGNOSTIC,),
    TrainOptions: (TRAINED,),
    SweepOptions: (SWEEP, TRAINED),
    CompareOptions: (COMPARISON,),
}
BY_WHAT_THEY_NAME = ("run_folders", "values", "checkpoint_rule")
"""Options that are no part of a run's identity, but the runs or checkpoints that they name are."""
MAKE_NO_RUN = ("rollouts", "preflight", "plan")
COMMANDS = {
    command: CommandOptions(command, kind, () if command in MAKE_NO_RUN else RUNS_OF[kind])
    for kind, commands in KINDS.items()
    for command in commands
}
