"""Misspelt commands and options: one line with what may be meant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from decaylab.errors import UserError, did_you_mean
from decaylab.options.command_options import COMMANDS
from decaylab.options.option_values import flag

NAMED = 4  # commands that a message names


def unknown_command(name: str, commands: Collection[str]) -> NoReturn:
    """Raises UserError for a command that does not exist."""
    more = did_you_mean(name, commands) or "; decaylab --help lists the commands"
    raise UserError(f"no such command {name}{more}")


@contextmanager
def unknown_option(command: Any, words: Sequence[str]) -> Iterator[None]:
    """Turns the complaint about an option that a command does not have into a UserError."""
    given = list(words)  # parsing empties the list
    try:
        yield
    except Exception as error:
        # A usage error of click, which typer may carry inside itself: known by what it can do.
        if not hasattr(error, "possibilities") or not hasattr(error, "option_name"):
            raise
        name = str(error.option_name)
        if not name.startswith("--"):  # of -limit, click reads -l
            name = next((word for word in given if word.startswith(name)), name)
        own = [word for one in command.params for word in (*one.opts, *one.secondary_opts)]
        meant = f"--{name.lstrip('-')}"
        more = _elsewhere(meant, command.name) or did_you_mean(meant, [*own, "--help"])
        raise UserError(f"no such option {name}{more or _listed(command.name)}") from error


def _elsewhere(name: str, command: str) -> str:
    """The other commands that have the option; empty if none has it or this one has."""
    having = [one for one, options in COMMANDS.items() if name in map(flag, options.names)]
    if not having or command in having:
        return ""
    others = [f"{len(having) - NAMED} others"] if len(having) > NAMED else []
    *most, last = [*having[:NAMED], *others]
    names = f"{', '.join(most)} and {last}" if most else last
    return f" of {command}; {names} {'have' if most else 'has'} it"


def _listed(command: str) -> str:
    """Where the options are listed."""
    if command in COMMANDS:
        return f"; decaylab {command} --help-all lists them"
    return f"; {'decaylab' if command == 'decaylab' else f'decaylab {command}'} --help lists them"
