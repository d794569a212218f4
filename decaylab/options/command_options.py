"""The commands and the options class of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from decaylab.options.comparing import CompareOptions
from decaylab.options.declared import options_of
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import FileOptions, Options
from decaylab.options.planning import PlanOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions


@dataclass(frozen=True)
class CommandOptions:
    """The options of one command: their class and the fields that apply to the command."""

    command: str
    kind: type[Any]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(options_of(self.kind, self.command))


KINDS: dict[type[Any], tuple[str, ...]] = {
    FileOptions: ("rollouts",),
    Options: ("prefix-decay", "preflight"),
    DiagnosticOptions: (
        *("position-kl", "category-kl", "submode", "signals", "served-kl"),
        *("behaviour", "evaluate"),
    ),
    TrainOptions: ("train",),
    SweepOptions: ("sweep",),
    CompareOptions: ("compare",),
    PlanOptions: ("plan",),
}
COMMANDS = {
    command: CommandOptions(command, kind)
    for kind, commands in KINDS.items()
    for command in commands
}
