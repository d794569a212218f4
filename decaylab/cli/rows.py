"""The rows of --help and of the reference: a command's arguments and options, and the commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import typer

from decaylab.cli.parameters import Spoken, spoken
from decaylab.options.command_options import COMMANDS

GROUPS = {
    "Measure a pair": (
        *("prefix-decay", "position-kl", "signals", "category-kl", "submode", "served-kl"),
        *("token-truth", "interventions", "values", "arm-gains", "behaviour"),
    ),
    "Train a student": ("train", "evaluate", "sweep"),
    "Look at results": ("show", "report", "view", "figures", "compare"),
    "Plan and check": ("preflight", "plan", "rollouts"),
}
"""The commands in the order of use, by their heading in ``decaylab --help``."""
FEW = 4  # an option that at most this many commands list in --help is one of their own
ARGUMENTS, OPTIONS = "Arguments", "Options"
HELP = ("--help", "--help-all")


@dataclass(frozen=True)
class Row:
    """An option as --help shows it.

    value: what follows it. own: not shared by most commands. identifies: with another value the
    command makes another run.
    """

    name: str
    help: str
    panel: str
    value: str = ""
    default: str = ""
    common: bool = True
    own: bool = True
    identifies: bool = False

    @property
    def head(self) -> str:
        return f"{self.name} {self.value}".rstrip()


def rows(command: Any) -> list[Row]:
    """The arguments and options of a typer command."""
    declared = spoken(command.name) if command.name in COMMANDS else {}
    context = typer.Context(command, info_name=command.name)
    return [_row(command, one, declared.get(one.name)) for one in command.get_params(context)]


def _row(command: Any, parameter: Any, one: Spoken | None) -> Row:
    is_argument = parameter.param_type_name == "argument"
    panel = parameter.rich_help_panel or ("The run" if command.name in COMMANDS else OPTIONS)
    name = " / ".join((*parameter.opts, *parameter.secondary_opts))
    if is_argument:
        panel, name = ARGUMENTS, parameter.metavar
    return Row(
        name=name,
        value="" if is_argument else parameter.metavar or "",
        help=parameter.help,
        default="" if is_argument else _default(parameter.default, parameter.secondary_opts),
        panel=panel,
        common=one.spec.is_common(command.name) if one else name not in HELP,
        own=is_argument or one is None or _listed()[parameter.name] <= FEW,
        identifies=one is not None and COMMANDS[command.name].identifies(parameter.name, one.spec),
    )


def _default(value: Any, off: Sequence[str]) -> str:
    """A default as it is typed; empty for options that are off or have none."""
    if value is None or value is False or value == "":
        return ""
    if value is True:
        return "on" if off else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def _listed() -> Counter[str]:
    """By how many commands each option is listed in --help."""
    return Counter(
        name
        for command in COMMANDS
        for name, one in spoken(command).items()
        if one.spec.is_common(command)
    )


def usage(command: Any) -> str:
    """A command with its arguments, as it is typed behind ``decaylab``."""
    words = [command.name]
    for one in command.params:
        if one.param_type_name == "argument":
            word = one.metavar if one.required else f"[{one.metavar}]"
            words.append(word if one.nargs == 1 else f"{word}...")
    return " ".join((*words, "[OPTIONS]"))
