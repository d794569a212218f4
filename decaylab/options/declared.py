"""Declares an option once, on the field that holds its value.

    @dataclass(frozen=True)
    class Mine:
        samples: Count = option("Sampling", "Rollouts per problem.", 4, without=("train",))

The annotation gives the type, the choices and the range (`option_values`). The field's metadata
gives the rest: help, commands, identity. The command line, the config file, the `dl.` functions,
the child processes of a sweep and the records of runs are derived from it. A field without `option`
is internal and cannot be set by a user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from decaylab.maths.selection import SELECTORS
from decaylab.options.option_values import ONE_BY_ONE, bare, flag, kinds
from decaylab.plugins.loading import load_installed
from decaylab.problems.answers import RULES
from decaylab.problems.own_sets import SETS

Panel = Literal[
    "ahead of all panels",
    "The pair",
    "The problems",
    "Where the loss falls",
    "The training",
    "The measurement",
    "Rollouts that exist already",
    "Sampling",
    "The engine",
    "Scoring",
    "The run",
    "The machine",
    "Lengths and rates",
]
PANELS = get_args(Panel)
"""The panels of --help-all, in order. Options "ahead of all panels" are printed before them."""

DECAY, DIAGNOSTIC, TRAINED, SWEEP = "prefix-decay", "diagnostic", "training", "sweep"
COMPARISON = "comparison"
MEASURED = (DECAY, DIAGNOSTIC)
RUNS = (DECAY, DIAGNOSTIC, TRAINED)
NEVER: tuple[str, ...] = ()
"""Kinds of runs. An option's ``identity`` lists the kinds of runs it identifies."""

KEY = "option"
REGISTRIES: dict[str, Collection[str]] = {
    "{selectors}": SELECTORS,
    "{answer_rules}": RULES,
    "{problem_sets}": SETS,
}
"""What stands in a help text for the names of a registry, separated by commas."""


@dataclass(frozen=True)
class Declared:
    """An option's metadata, beside its type and default.

    panel: its heading in --help-all. among: the panel whose options it is sorted with (by default
    its own). place: sort key within that panel, ascending. only, without: the commands that accept
    it, or that do not. identity: the kinds of runs that it identifies; other kinds resume with any
    value. common: whether ``COMMAND --help`` lists it, or the commands whose --help does; all
    others are listed by --help-all. metavar: how --help calls its value; by default its choices, or
    a word for its type. argument: positional, without a flag.
    """

    panel: Panel
    help: str
    among: Panel | None = None
    place: int = 0
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    identity: tuple[str, ...] = RUNS
    common: bool | tuple[str, ...] = False
    metavar: str = ""
    argument: bool = False

    def is_of(self, command: str) -> bool:
        """Whether a command accepts the option."""
        return command not in self.without and (not self.only or command in self.only)

    def is_common(self, command: str) -> bool:
        """Whether a command's --help lists the option."""
        if isinstance(self.common, bool):
            return self.common
        return command in self.common

    @property
    def order(self) -> tuple[int, int]:
        return PANELS.index(self.among or self.panel), self.place


def option(panel: Panel, help: str, default: Any = None, **more: Any) -> Any:
    """A field of an options class. more: further fields of `Declared`."""
    metadata = {KEY: Declared(panel, help, **more)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def common(panel: Panel, help: str, default: Any = None, **more: Any) -> Any:
    """`option` that --help lists, for all commands that accept it or for those in ``common``."""
    return option(panel, help, default, **{"common": True} | more)


def options_of(kind: Any, command: str = "") -> dict[str, Declared]:
    """The options of a class, or only those that a command accepts, in the order of --help-all."""
    declared = {
        field.name: _with_names(field.metadata[KEY])
        for field in dataclasses.fields(kind)
        if KEY in field.metadata and (not command or field.metadata[KEY].is_of(command))
    }
    return dict(sorted(declared.items(), key=lambda item: item[1].order))


def _with_names(declared: Declared) -> Declared:
    """The option with the names of the registries in its help, those of plugins included."""
    for mark, names in REGISTRIES.items():
        if mark in declared.help:
            load_installed()
            help = declared.help.replace(mark, ", ".join(names))
            declared = dataclasses.replace(declared, help=help)
    return declared


def identity(options: Any, run: str) -> dict[str, Any]:
    """The options that identify a run of this kind, with their values, as stored in run.json."""
    return {
        name: getattr(options, name)
        for name, declared in options_of(options).items()
        if run in declared.identity
    }


def as_words(kind: Any, values: Mapping[str, Any]) -> list[str]:
    """Option values of this class as command-line arguments; defaults are omitted."""
    usual, words = kind(), list[str]()
    for name, value in values.items():
        if value is None or value == getattr(usual, name):
            continue
        if isinstance(value, dict):
            words += [word for key, text in value.items() for word in (flag(name), f"{key}={text}")]
        elif isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        elif isinstance(value, tuple) and ONE_BY_ONE in bare(kinds(kind)[name])[1]:
            words += [word for text in value for word in (flag(name), text)]
        elif isinstance(value, tuple):
            words += [flag(name), ",".join(map(str, value))]
        else:
            words += [flag(name), str(value)]
    return words
