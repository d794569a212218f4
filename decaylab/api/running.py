"""The commands as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decaylab.api.results import Comparison, Run
from decaylab.commands import in_memory
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS
from decaylab.progress import Reporter

if TYPE_CHECKING:
    from decaylab.runs.train_results import TrainResult


def prefix_decay(*, quiet: bool = False, **options: Any) -> Run:
    """Teacher accuracy after k tokens of the student's rollouts: ``decaylab prefix-decay``.

    Args:
        quiet: show no progress.
        options: those of the command, such as teacher, student, problems, limit, prefix_lengths,
            controls, out.

    Raises:
        UserError: an unknown or invalid option, or anything else that a user can fix.
    """
    from decaylab.commands import prefix_decay

    with in_memory.named("prefix-decay", (), options) as (_, named):
        chosen, reporter = _options("prefix-decay", quiet, named), Reporter(quiet=quiet)
        return _run(prefix_decay.prefix_decay(chosen, command="dl.prefix_decay", reporter=reporter))


def _diagnostic(command: str, what: str) -> Callable[..., Run]:
    """The function of a diagnostic, with checkpoints followed by the command's options."""
    name = command.replace("-", "_")

    def measure(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
        from decaylab.commands import diagnose

        with in_memory.named(command, checkpoints, options) as (names, named):
            chosen = _options(command, quiet, {**named, "checkpoints": names})
            chosen = dataclasses.replace(chosen, said=frozenset(options))
            reporter = Reporter(quiet=quiet)
            return _run(diagnose.diagnose(command, chosen, spoken=f"dl.{name}", reporter=reporter))

    measure.__name__ = measure.__qualname__ = name
    measure.__doc__ = f"{what}: ``decaylab {command}``. Checkpoints, then the command's options."
    return measure


position_kl = _diagnostic("position-kl", "KL by position before and after training")
category_kl = _diagnostic("category-kl", "KL by kind of token")
submode = _diagnostic("submode", "Rank under the teacher of the student's top token")
signals = _diagnostic("signals", "Entropies, KL and N by position")
behaviour = _diagnostic("behaviour", "Length, stopping, repetition and boxes of rollouts")
evaluate = _diagnostic("evaluate", "avg@k, pass@k and maj@k of every checkpoint")


def train(*, quiet: bool = False, **options: Any) -> TrainResult:
    """Trains a student on-policy: ``decaylab train``, with its options."""
    from decaylab.commands.drawing import with_curves
    from decaylab.trainer import loop

    with in_memory.named("train", (), options) as (_, named):
        chosen = _options("train", quiet, named)
        return with_curves(loop.train(chosen, command="dl.train", reporter=Reporter(quiet=quiet)))


def sweep(
    over: str, values: Sequence[str | int] | str, *, quiet: bool = False, **options: Any
) -> Run:
    """Trains arms over seeds and compares them: ``decaylab sweep``, with its options.

    Raises:
        UserError: an invalid option, or training runs that failed.
    """
    from decaylab.commands import sweeps

    words = values if isinstance(values, str) else ",".join(map(str, values))
    with in_memory.named("sweep", (), options) as (_, named):
        chosen = _options("sweep", quiet, {**named, "over": over, "values": words})
    result = sweeps.sweep(chosen, command="dl.sweep", reporter=Reporter(quiet=quiet))
    if result.failed:
        raise UserError(result.complaint)
    return _run(result)


def compare(*runs: str | Path, quiet: bool = False, **options: Any) -> Comparison:
    """Compares teachers or students by their prefix-decay runs: ``decaylab compare``.

    Args:
        runs: folders of finished runs, of one student with several teachers or of one teacher with
            several students. Add their position-kl or signals runs to compare KL.
        quiet: accepted as in other functions; a comparison has no progress.
        options: reference, answer_rule, level, seed, out, overwrite.

    Raises:
        UserError: the runs cannot be paired; the message names what differs.
    """
    from decaylab.commands import compare

    chosen = _options("compare", quiet, {**options, "run_folders": runs})
    result = compare.compare(chosen, command="dl.compare")
    return Comparison(result.folder, result.measurements, result.notes, verdict=result.verdict)


def _run(result: Any) -> Run:
    """A command's result as a `Run`."""
    advice = getattr(result, "advice", None)
    text = advice.text if advice else ""
    return Run(result.folder, result.measurements, result.notes, text)


def _options(command: str, quiet: bool, given: dict[str, Any]) -> Any:
    """The options of a command from keyword arguments.

    Raises:
        UserError: an unknown option or an invalid value.
    """
    known = sorted(COMMANDS[command].names)
    option_values.checked("quiet", bool, quiet)
    for name in sorted(given):
        if name not in known:
            raise UserError(f"no option {name} of {command}; there are {', '.join(known)}")
    return COMMANDS[command].kind(**given)
