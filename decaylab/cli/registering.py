"""The app, and functions made its commands: parameters out of the declared options."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from decaylab.cli.output import Output
from decaylab.cli.parameters import signature
from decaylab.errors import Interrupted
from decaylab.options.command_options import COMMANDS
from decaylab.progress import hushed

app = typer.Typer(
    name="decaylab",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How far into a student's rollout can its teacher be trusted? Measures teacher decay, "
    "with intervals and controls.",
)
STARTING = {
    "compare": "reads the runs",
    "rollouts": "loads the tokenizers",
    "plan": "loads torch",
}
"""What a command does first, if it does not load models."""
NOTHING_KEPT = "nothing was measured yet; what earlier runs finished is kept"


class Stopped(Exception):
    """Ctrl-C, on its way past typer, which would hand on its exit code alone."""


def _version(asked: bool) -> None:
    if not asked:
        return
    from importlib import metadata

    for package in ("decaylab", "torch", "transformers"):
        try:
            print(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:  # as from a checkout that is not installed
            print(f"{package} (version unknown: not installed as a package)")
    raise typer.Exit


@app.callback()
def _decaylab(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of decaylab, torch and transformers.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Options of decaylab itself."""


Command = Callable[[Any, Output], None]


def command(function: Any) -> Command:
    """Registers a function of options and output as the command of its name, with the options
    declared for it."""
    name = function.__name__.replace("_", "-")
    kind = COMMANDS[name].kind

    def run(context: typer.Context, **values: Any) -> None:
        source: Any = context.get_parameter_source
        said = [name for name in values if source(name).name != "DEFAULT"]
        as_json = values["as_json"]
        output = Output(as_json, values.get("quiet", as_json), values.get("verbose", False))
        options = _options(kind, values | {"said": frozenset(said)})
        # Before anything that takes longer than a second to import.
        if not output.quiet and os.environ.get("RANK", "0") == "0":  # of several, one process
            first = STARTING.get(name, "loads torch and the models")
            output.reporter.note(f"decaylab {name}: {first} ...")
        try:
            with hushed(output.quiet):
                function(options, output)
        except Interrupted as interrupted:
            raise Stopped(str(interrupted)) from interrupted
        except KeyboardInterrupt as interrupt:
            raise Stopped(NOTHING_KEPT) from interrupt

    shape: Any = signature(name)
    made: Any = run
    made.__signature__ = shape
    made.__annotations__ = {
        name: parameter.annotation for name, parameter in shape.parameters.items()
    }
    made.__doc__ = function.__doc__
    app.command(name)(made)
    registered: Command = function
    return registered


def _options(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The options of a run from a command's parameters; lists that are empty are None there."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            value = values[field.name]
            chosen[field.name] = () if value is None and field.default is not None else value
    return kind(**chosen)
