"""The app, and functions made its commands: parameters out of the declared options."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from decaylab.cli.help import Command, Group, HelpAll
from decaylab.cli.output import Output
from decaylab.cli.parameters import signature
from decaylab.cli.rows import GROUPS
from decaylab.errors import Interrupted
from decaylab.options.command_options import COMMANDS
from decaylab.progress import hushed

ABOUT = """How far into a student's rollout can its teacher be trusted? decaylab measures teacher
decay in on-policy distillation, with intervals and controls.

Examples:
    decaylab prefix-decay  # teacher decay on the pair that ships with decaylab: minutes on a CPU
    decaylab preflight --teacher MODEL --student MODEL  # then: can your own pair be measured?
"""
app = typer.Typer(
    name="decaylab",
    cls=Group,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=ABOUT,
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


def register(name: str, function: Callable[..., None], parameters: Any) -> None:
    """Adds a function of these parameters as a command. Its docstring is its help."""

    def run(help_all: bool, **values: Any) -> None:
        function(**values)

    help_all = inspect.Parameter(
        "help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAll
    )
    made: Any = run
    made.__signature__ = inspect.Signature([*parameters, help_all])
    made.__annotations__ = {
        parameter.name: parameter.annotation for parameter in (*parameters, help_all)
    }
    made.__doc__ = function.__doc__
    group = next(title for title, names in GROUPS.items() if name in names)
    app.command(name, cls=Command, rich_help_panel=group)(made)


def page_command(function: Callable[..., None]) -> None:
    """Registers a function with typer's parameters as the command of its name."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    typed = [one.replace(annotation=hints[one.name]) for one in parameters]
    register(function.__name__, function, [one.replace(kind=one.KEYWORD_ONLY) for one in typed])


Measuring = Callable[[Any, Output], None]


def command(function: Any) -> Measuring:
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
            output.reporter.note(f"decaylab {name}: {_first(name, options)} ...")
        try:
            with hushed(output.quiet):
                function(options, output)
        except Interrupted as interrupted:
            raise Stopped(str(interrupted)) from interrupted
        except KeyboardInterrupt as interrupt:
            raise Stopped(NOTHING_KEPT) from interrupt

    run.__doc__ = function.__doc__
    register(name, run, signature(name).parameters.values())
    registered: Measuring = function
    return registered


def _first(name: str, options: Any) -> str:
    """What a command does first, and which engine samples if one may."""
    if name in STARTING:
        return STARTING[name]
    words = "loads torch and the models"
    if "engine" not in COMMANDS[name].names:
        return words
    chosen = options.usual_engine if options.engine == "auto" else options.engine
    return f"{words}, engine {chosen}"


def _options(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The options of a run from a command's parameters; lists that are empty are None there."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            value = values[field.name]
            chosen[field.name] = () if value is None and field.default is not None else value
    return kind(**chosen)
