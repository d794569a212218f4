"""The command line out of the options: parameters with their help, and the TOML file for them."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from decaylab.errors import UserError, did_you_mean
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS, KINDS
from decaylab.options.declared import NEVER, Declared, common, option, options_of
from decaylab.options.kinds import before_plugins
from decaylab.options.option_values import ONE_BY_ONE

FILE_NAMES = {"columns": "column", "as_json": "json"}
"""What a user calls an option, where that is not its field's name."""
NOT_QUIET = ("preflight", "plan")
VERBOSE = "Print every table, how to read it, and rows without a value."
NO_PAGE = ("preflight", "rollouts")
MEASURED_OR_READ = tuple(name for name in COMMANDS if name not in ("train", "sweep"))
LONGEST_CHOICES = 44
"""Characters of the choices that --help lists as an option's value. Longer lists are in its
help."""


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes a TOML file's values as defaults; the command line takes precedence.

    Raises:
        UserError: a file that cannot be read, an option that no command has, a value that no
        command can have.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"--config {path}: {error}") from error
    known = file_options()
    defaults = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name == "as-json":  # the option's name in Python
            name = "json"
        if name not in known:
            near = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
            raise UserError(f"--config {path}: no option {key!r}{near}")
        field, types = known[name]
        defaults[field] = _as_given(f"--config {path}: {key}", value, types)
    # One file serves every command: options that this command lacks are checked and not used.
    mine = {parameter.name for parameter in context.command.params}
    used = {name: value for name, value in defaults.items() if name in mine}
    context.default_map = {**(context.default_map or {}), **used}
    return path


@dataclasses.dataclass(frozen=True)
class Flags:
    """What every command has beside the options of its run."""

    as_json: bool = common(
        "The run",
        "Print JSON instead of tables.",
        False,
        place=5,
        identity=NEVER,
        common=MEASURED_OR_READ,
    )
    verbose: bool = option("The run", VERBOSE, False, place=5, identity=NEVER, without=NO_PAGE)
    quiet: bool = option(
        "The run", "No progress and no notes.", False, place=5, identity=NEVER, without=NOT_QUIET
    )
    config: Path | None = option(
        "The run",
        "A TOML file with any of these options; command-line options take precedence.",
        place=5,
        identity=NEVER,
        metavar="FILE",
    )


@dataclasses.dataclass(frozen=True)
class Spoken:
    """An option of a command: its declaration, its field and its type."""

    spec: Declared
    field: dataclasses.Field[Any]
    kind: Any

    @property
    def metavar(self) -> str:
        """How its value is called: its own word, its choices, or a word for its type. Empty for a
        switch."""
        if self.spec.metavar:
            return self.spec.metavar
        choices = "|".join(option_values.choices_of(self.kind))
        if choices and len(choices) <= LONGEST_CHOICES:
            return choices
        kind, marks = option_values.bare(self.kind)
        return "NAME" if ONE_BY_ONE in marks else _word(kind)


def _word(kind: Any) -> str:
    if get_origin(kind) is tuple:
        word = {int: "N,N", float: "NUMBER"}.get(get_args(kind)[0], "NAME")
        return f"{word},..."
    if get_origin(kind) is dict:
        return "KEY=VALUE"
    return {bool: "", int: "N", float: "NUMBER", Path: "FILE"}.get(kind, "TEXT")


@cache
def spoken(command: str) -> dict[str, Spoken]:
    """The options of a command, in the order of --help-all."""
    found = {}
    for kind in (COMMANDS[command].kind, Flags):
        types = option_values.kinds(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        for name, spec in options_of(kind, command).items():
            found[name] = Spoken(spec, fields[name], types[name])
    return dict(sorted(found.items(), key=lambda item: item[1].spec.order))


def file_options() -> dict[str, tuple[str, list[Any]]]:
    """The options that a file can hold: their field, and the type that each kind of command has."""
    known: dict[str, tuple[str, list[Any]]] = {}
    for kind in (*KINDS, Flags):
        types = option_values.kinds(kind)
        for field in options_of(kind):
            name = FILE_NAMES.get(field, field).replace("_", "-")
            known.setdefault(name, (field, []))[1].append(types[field])
    del known["config"]
    return known


def _as_given(place: str, value: Any, types: list[Any]) -> Any:
    """A TOML value as the command line would give it, where any command can have it.

    Names that a plugin may register are checked with the command's options, which load plugins.
    """
    types = [before_plugins(kind) for kind in types]
    for kind in types[:-1]:
        try:
            return _as_typed(option_values.checked(place, kind, value), kind)
        except UserError:
            continue
    return _as_typed(option_values.checked(place, types[-1], value), types[-1])


def _as_typed(value: Any, kind: Any) -> Any:
    """A value of an option as the command line gives it: lists are text with commas there."""
    if isinstance(value, dict):
        return [f"{key}={text}" for key, text in value.items()]
    if isinstance(value, tuple) and ONE_BY_ONE not in option_values.bare(kind)[1]:
        return ",".join(map(str, value))
    return value


def signature(command: str) -> inspect.Signature:
    """The parameters of a command: the options that are declared to be its own, in their order."""
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    ]
    return inspect.Signature(parameters + [_parameter(one) for one in spoken(command).values()])


def _parameter(one: Spoken) -> inspect.Parameter:
    """An option as typer takes it. Choices and ranges are checked by the options themselves."""
    spec, field = one.spec, one.field
    inner, marks = option_values.bare(one.kind)
    default = field.default
    if inner in (bool, int, float, Path):
        shown: Any = inner
    elif get_origin(inner) is dict or ONE_BY_ONE in marks:
        shown, default = list[str] | None, None
    else:
        shown, default = str, _as_typed(default, one.kind)
    if default is None:
        shown = shown | None
    if spec.argument:
        how: Any = typer.Argument(help=spec.help, metavar=one.metavar)
    else:
        how = typer.Option(
            *_names(field, inner),
            help=spec.help,
            metavar=one.metavar or None,
            rich_help_panel=spec.panel,
            callback=read_config if field.name == "config" else None,
            is_eager=field.name == "config",
        )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[shown, how],
    )


def _names(field: dataclasses.Field[Any], kind: Any) -> tuple[str, ...]:
    """The flags of an option. A switch that is off by default has no --no- form."""
    name = FILE_NAMES.get(field.name, field.name).replace("_", "-")
    if kind is bool and field.default is True:
        return (f"--{name}/--no-{name}",)
    return (f"--{name}",)
