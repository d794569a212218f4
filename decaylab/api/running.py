"""Runs a command with the arguments of its function, as the command line runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from decaylab.api.findings import PlanResult, PreflightResult, RolloutFiles
from decaylab.api.results import TRAIN, Run
from decaylab.commands import in_memory
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS
from decaylab.options.declared import options_of
from decaylab.policies.loaded_models import full_precision
from decaylab.progress import Reporter, hushed

SPOKEN = 20
"""Elements of a list in the recorded call."""


def run(command: str, function: str, given: Mapping[str, Any]) -> Any:
    """Runs a command.

    Args:
        command: as on the command line.
        function: its name in Python, for the record of the run.
        given: the arguments that were given, by name. Models and problems in memory are valid
            until the command has ended.

    Raises:
        UserError: an invalid option, or anything else that a user can fix.
    """
    values = dict(given)
    quiet = option_values.checked("quiet", bool, values.pop("quiet", False))
    with hushed(quiet), full_precision(), in_memory.named(command, values) as texts:
        options, call = options_from(command, texts), spoken(function, {**given, **texts})
        return RUNNERS[command](options, call, Reporter(quiet=quiet))


def options_from(command: str, given: Mapping[str, Any]) -> Any:
    """The options of a command. given: by name, as a user wrote them.

    Raises:
        UserError: an invalid value.
    """
    kind, values = COMMANDS[command].kind, dict(given)
    if command == "sweep" and not isinstance(values.get("values", ""), str):
        values["values"] = ",".join(map(str, values["values"]))
    options = kind(**values)
    if "said" in {field.name for field in dataclasses.fields(kind)}:
        declared = options_of(kind, command)
        said = frozenset(name for name in given if not declared[name].argument)
        options = dataclasses.replace(options, said=said)
    return options


def spoken(function: str, given: Mapping[str, Any]) -> str:
    """The call as it is recorded: ``dl.position_kl('runs/esr', limit=100)``."""
    parts = []
    for name, value in given.items():
        if name == "quiet":
            continue
        if name in ("checkpoints", "run_folders", "files"):
            parts += [_shown(part) for part in value]
        else:
            parts.append(f"{name}={_shown(value)}")
    return f"dl.{function}({', '.join(parts)})"


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        parts = [f"{_shown(key)}: {_shown(part)}" for key, part in value.items()]
        return f"{{{_joined(parts)}}}"
    if isinstance(value, (list, tuple, range, set)):
        return f"[{_joined([_shown(part) for part in value])}]"
    return f"<{type(value).__name__}>"


def _joined(parts: Sequence[str]) -> str:
    left_out = ["..."] if len(parts) > SPOKEN else []
    return ", ".join([*parts[:SPOKEN], *left_out])


def _prefix_decay(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import prefix_decay

    result = prefix_decay.prefix_decay(options, command=spoken, reporter=reporter)
    return Run(result.folder, "prefix-decay")


def _diagnose(command: str, options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import diagnose

    result = diagnose.diagnose(command, options, spoken=spoken, reporter=reporter)
    return Run(result.folder, command)


def _served_kl(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import served_kl

    return Run(served_kl.served_kl(options, spoken=spoken, reporter=reporter).folder, "served-kl")


def _token_truth(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import token_truth

    result = token_truth.token_truth(options, spoken=spoken, reporter=reporter)
    return Run(result.folder, "token-truth")


def _interventions(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import interventions

    result = interventions.interventions(options, spoken=spoken, reporter=reporter)
    return Run(result.folder, "interventions")


def _arm_gains(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import arm_gains

    result = arm_gains.arm_gains(options, spoken=spoken, reporter=reporter)
    return Run(result.folder, "arm-gains")


def _values(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import values

    return Run(values.values(options, spoken=spoken, reporter=reporter).folder, "values")


def _train(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands.drawing import with_curves
    from decaylab.trainer import loop

    trained = loop.train(options, command=spoken, reporter=reporter)
    drawn = with_curves(trained)
    for note in drawn.notes[len(trained.notes) :]:
        reporter.note(note)
    return Run(trained.folder, TRAIN)


def _sweep(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import sweeps

    result = sweeps.sweep(options, command=spoken, reporter=reporter)
    if result.failed:
        raise UserError(result.complaint)
    return Run(result.folder, f"sweep {options.over}")


def _compare(options: Any, spoken: str, reporter: Reporter) -> Run:
    from decaylab.commands import compare

    return Run(compare.compare(options, command=spoken).folder, "compare")


def _plan(options: Any, spoken: str, reporter: Reporter) -> PlanResult:
    from decaylab.planner import plan

    return PlanResult.of(plan.make_plan(options))


def _preflight(options: Any, spoken: str, reporter: Reporter) -> PreflightResult:
    from decaylab.planner import preflight

    return PreflightResult.of(preflight.preflight(options))


def _rollouts(options: Any, spoken: str, reporter: Reporter) -> RolloutFiles:
    from decaylab.commands import reading

    return RolloutFiles.of(reading.understand(options, reporter))


DIAGNOSTICS = ("position-kl", "category-kl", "submode", "signals", "behaviour", "evaluate")
RUNNERS: Mapping[str, Callable[[Any, str, Reporter], Any]] = {
    "prefix-decay": _prefix_decay,
    **{command: partial(_diagnose, command) for command in DIAGNOSTICS},
    "served-kl": _served_kl,
    "token-truth": _token_truth,
    "interventions": _interventions,
    "arm-gains": _arm_gains,
    "values": _values,
    "train": _train,
    "sweep": _sweep,
    "compare": _compare,
    "plan": _plan,
    "preflight": _preflight,
    "rollouts": _rollouts,
}
