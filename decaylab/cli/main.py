"""The command line. Results go to standard output, progress and notes to standard error; bad input
is one line and exit 2."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import typer

from decaylab.cli import pages, plan
from decaylab.cli import parameters as option
from decaylab.errors import UserError
from decaylab.options.command_options import COMMANDS
from decaylab.options.measuring import DiagnosticOptions, FileOptions, Options, PairOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    name="decaylab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How far into a student's rollout can its teacher be trusted? Measures teacher decay, "
    "with intervals and controls.",
)


@app.callback()
def _decaylab() -> None:
    """Keeps sub-commands sub-commands, also while there are few."""


def _command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function of (options, as_json, quiet) as a command with the fields of its options
    as parameters."""
    kind, without = COMMANDS[name].kind, COMMANDS[name].without

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            context = values.pop("context")
            values["said"] = frozenset(
                name for name in values if context.get_parameter_source(name).name != "DEFAULT"
            )
            function(
                _options(kind, values),
                as_json=values["as_json"],
                quiet=values.get("quiet", values["as_json"]),
            )

        shape = option.signature(kind, (*without, "quiet") if name == "preflight" else without)
        command.__signature__ = shape  # type: ignore[attr-defined]
        command.__annotations__ = {name: one.annotation for name, one in shape.parameters.items()}
        command.__doc__ = function.__doc__
        app.command(name)(command)
        return function

    return register


@_command("prefix-decay")
def prefix_decay(options: Options, *, as_json: bool, quiet: bool) -> None:
    """Teacher accuracy after k tokens of the student's own rollout: is the teacher still corrective
    there?

    The student writes rollouts; the teacher continues from the first k tokens of each and its
    finished answers are graded. The headline curve holds rollouts that are still open at k, beside
    their own outcome and the teacher's accuracy on the same problems. Every interval resamples
    problems. A run that is interrupted or killed goes on where it was with the same command.

    `decaylab prefix-decay` measures the pair that ships with decaylab, in minutes on two CPU cores.

    `decaylab prefix-decay --teacher Qwen/Qwen3-1.7B` measures the paper's pair on MATH-500 (a GPU
    and the hub).

    `--controls all` adds: the teacher's own prefixes (must stay flat), prefixes of another problem,
    and the reverse direction.
    """
    from decaylab.commands import prefix_decay
    from decaylab.tables import prefix_decay as tables

    _hush(quiet)
    result = prefix_decay.prefix_decay(options, command=_spoken(), reporter=Reporter(quiet=quiet))
    if as_json:
        _print_json(result.folder, result.notes, result.measurements)
    else:
        tables.print_prefix_decay(result)


@_command("rollouts")
def rollouts(options: FileOptions, *, as_json: bool, quiet: bool) -> None:
    """How rollouts that exist already are read: format, prompts, responses, stop reasons, what is
    left out and why.

    Reads the files to the end and loads no weights. Every command that takes `--rollouts` reads
    them in the same way and with the same options. Exits with 2 where they can be read in two ways,
    and names the option that decides.

    `decaylab rollouts completions_00001.parquet --student Qwen/Qwen2.5-Math-1.5B --teacher
    Qwen/Qwen3-1.7B`

    `decaylab rollouts mine.jsonl --column response=output.text --column
    answer=reward_model.ground_truth`
    """
    from decaylab.cli import rollouts

    _hush(quiet)
    found = rollouts.understand(options, Reporter(quiet=quiet))
    if as_json:
        print(rollouts.record(found))
    else:
        rollouts.print_understood(found)


@_command("preflight")
def preflight(options: Options, *, as_json: bool, quiet: bool) -> None:
    """Is this pair measurable at all? Vocabularies, templates, context, memory and time, and a
    plain verdict.

    Loads both policies, looks at what must agree, and runs a short probe of each. Samples nothing
    that is kept. Exits with 1 where the verdict is no.
    """
    from decaylab.commands import pair_checks as checks
    from decaylab.tables import terminal

    _hush(quiet)
    report = checks.preflight(options)
    if as_json:
        print(
            json.dumps(
                {
                    "measurable": report.measurable,
                    "verdict": report.verdict,
                    **dataclasses.asdict(report),
                }
            )
        )
    else:
        terminal.print_preflight(report)
    if not report.measurable:
        raise typer.Exit(1)


def _diagnose(name: str, options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    from decaylab.commands import diagnose
    from decaylab.tables import diagnostics

    _hush(quiet)
    result = diagnose.diagnose(name, options, spoken=_spoken(), reporter=Reporter(quiet=quiet))
    if as_json:
        _print_json(
            result.folder,
            result.notes,
            result.measurements,
            {"advice": result.advice} if result.advice else {},
        )
    else:
        diagnostics.print_diagnostic(result)


@_command("position-kl")
def position_kl(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """How far student and teacher disagree at each response position, before training and after.

    Scores every token of rollouts by both policies: reverse and forward KL, JS and both entropies
    by position bin, and their paired change in each checkpoint, on the checkpoint's own rollouts
    (fresh) and on those of the base student (frozen). The cascade ratio is the mean KL behind
    `--rollout-length`, after over before. A second scoring of some rollouts gives the noise floor
    that is printed beside each number.

    `decaylab position-kl` measures the embedded student before training.

    `decaylab position-kl ckpt-50/ ckpt-100/ --student Qwen/Qwen2.5-Math-1.5B --teacher
    Qwen/Qwen3-1.7B --problems math500`
    """
    _diagnose("position-kl", options, as_json=as_json, quiet=quiet)


@_command("category-kl")
def category_kl(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """Which kinds of token hold the KL: by category and position, and the tokens with the highest
    KL.

    Categories are read off the decoded text, so that every tokenizer is treated alike: the paper's
    six, or those of a TOML file (`--categories`).

    `decaylab category-kl`
    """
    _diagnose("category-kl", options, as_json=as_json, quiet=quiet)


@_command("submode")
def submode(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """Does training commit the student to a mode that is the teacher's second choice?

    Over the tokens with the highest reverse KL: where the student's most likely token ranks under
    the teacher (first, 2 to 5, beyond), on one set of tokens common to all models and on each
    model's own, and where the teacher really has a second mode.

    `decaylab submode ckpt/`
    """
    _diagnose("submode", options, as_json=as_json, quiet=quiet)


@_command("signals")
def signals(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """Student entropy, teacher entropy and reverse KL by position; where the KL lies, and at which
    N to stop.

    Also how concentrated the KL is, and how far the positions that different selectors would train
    on agree.

    `decaylab signals --advise` recommends an N from the cumulative KL and the decay curve of the
    same pair, or says that it cannot.
    """
    _diagnose("signals", options, as_json=as_json, quiet=quiet)


@_command("served-kl")
def served_kl(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """How far student and teacher disagree, at least: for a teacher that only vLLM can hold. An
    approximation.

    The student is scored exactly, the teacher by what vLLM tells of it: the probabilities of
    `--top-ids` ids at each position and of the token that was written, all others being one. From
    those comes a lower bound of the reverse KL by position, with both policies' masses on the ids
    behind it. position-kl measures the KL itself; take it wherever both policies fit.

    `decaylab served-kl --teacher Qwen/Qwen3-32B --tensor-parallel 4 --problems math500`
    """
    from decaylab.commands import served_kl as served
    from decaylab.tables import of_served_kl

    _hush(quiet)
    result = served.served_kl(options, spoken=_spoken(), reporter=Reporter(quiet=quiet))
    if as_json:
        _print_json(result.folder, result.notes, result.measurements)
    else:
        of_served_kl.print_served(result)


@_command("behaviour")
def behaviour(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """What the rollouts are like: length in tokens, natural stops, repetition, several boxes,
    accuracy by answer rule.

    Of the base student, each checkpoint and the teacher, on the same problems. Scores no token.

    `decaylab behaviour ckpt/`
    """
    _diagnose("behaviour", options, as_json=as_json, quiet=quiet)


@_command("evaluate")
def evaluate(options: DiagnosticOptions, *, as_json: bool, quiet: bool) -> None:
    """How often each checkpoint of a training run is right, against base student and teacher on the
    same problems.

    avg@k, unbiased pass@k and maj@k under every answer rule, each checkpoint paired with base and
    with the teacher, and the smallest difference that so many problems could have shown. A run's
    folder means all its checkpoints; the last one and the best one by the run's own validation
    stand side by side, and neither is ever chosen on the problems asked here.

    `decaylab evaluate runs/esr --problems math500 --samples 4`
    """
    _diagnose("evaluate", options, as_json=as_json, quiet=quiet)


@_command("train")
def train(options: TrainOptions, *, as_json: bool, quiet: bool) -> None:
    """Trains a student on-policy: ESR, full rollouts, or loss at the positions that a selector
    chooses.

    Each step the student writes rollouts, the teacher scores every token, and the exact reverse KL
    at the chosen positions is lowered. `--selector prefix` stops rollouts at `--rollout-length`
    (ESR); `--selector full` is ordinary on-policy distillation; all others choose `--budget`
    positions of full rollouts. Checkpoints, a record of each step and held-out accuracy stand in
    the run's folder, which every diagnostic accepts. A run that is interrupted or killed goes on
    with the same command and ends with the same weights.

    `decaylab train` trains the embedded student by ESR, in a minute on two CPU cores.

    `decaylab train --teacher Qwen/Qwen3-1.7B --student Qwen/Qwen2.5-Math-1.5B --problems
    numina.jsonl --instruction boxed`

    `accelerate launch --num_processes 8 -m decaylab train ...` uses several GPUs.
    """
    from decaylab.tables import training
    from decaylab.trainer import loop

    _hush(quiet)
    result = loop.train(options, command=_spoken(), reporter=Reporter(quiet=quiet))
    if not result.is_main:
        return
    if as_json:
        found: dict[str, Any] = {
            "run": str(result.folder),
            "notes": list(result.notes),
            "alarms": list(result.alarms),
        }
        for name, frame in (("metrics", result.metrics), ("validation", result.validation)):
            found[name] = [
                {key: _plain(value) for key, value in row.items()}
                for row in frame.to_dict("records")
            ]
        print(json.dumps(found))
    else:
        training.print_training(result)


@_command("sweep")
def sweep(options: SweepOptions, *, as_json: bool, quiet: bool) -> None:
    """Trains several arms over several seeds, evaluates them on the same problems, and compares:
    rollout-length or selector.

    Each run is what `decaylab train` and `decaylab evaluate` make. What is finished is not done
    again, a killed sweep goes on with the same command, and sweeps with the same `--runs` share the
    runs they have in common. Seeds are shown singly; their mean has an interval over problems and
    one over seeds.

    `decaylab sweep rollout-length --values 5,10,20,40,60,full --seeds 3 --test-limit 800`

    `decaylab sweep selector --values prefix,full,random,top-reverse-kl --budget 20 --workers 2`
    """
    from decaylab.commands import sweeps
    from decaylab.tables import sweep

    _hush(quiet)
    result = sweeps.sweep(options, command=_spoken(), reporter=Reporter(quiet=quiet))
    if as_json:
        _print_json(result.folder, result.notes, result.measurements)
    else:
        sweep.print_sweep(result)
    if result.failed:
        raise UserError(result.complaint)


pages.add(app)
plan.add(app)


def _spoken() -> str:
    return shlex.join(["decaylab", *sys.argv[1:]])


def _print_json(
    folder: Path,
    notes: Sequence[str],
    measurements: pd.DataFrame,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Numbers in full; what is undefined is null, and infinity the text "inf", for which JSON has
    no number."""
    rows = [
        {name: _plain(value) for name, value in row.items()}
        for row in measurements.to_dict("records")
    ]
    print(json.dumps({"run": str(folder), "notes": list(notes), **more, "measurements": rows}))


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _hush(quiet: bool) -> None:
    """Keeps libraries from talking between the lines. The hub's download bars stay where a person
    watches."""
    from huggingface_hub import utils as hub_utils
    from transformers.utils import logging as transformers_logging

    hub: Any = hub_utils
    transformers: Any = transformers_logging
    transformers.set_verbosity_error()
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="transformers"
    )  # of what peft calls
    transformers.disable_progress_bar()  # of the hub too, in passing
    if sys.stderr.isatty() and not quiet:
        hub.enable_progress_bars()


def _options(kind: type[PairOptions], values: dict[str, Any]) -> PairOptions:
    """The options of a run from a command's parameters; what was not said is left to the
    options."""
    fields = {field.name for field in dataclasses.fields(kind)}
    chosen = {name: value for name, value in values.items() if name in fields}
    if "column" in values:
        chosen["columns"] = values["column"]
    for name in ("columns", "template_kwargs", "checkpoints", "files"):
        if name in chosen:
            chosen[name] = chosen[name] or ()
    return kind(**chosen)


INTERRUPTED = "interrupted; finished parts are kept, and the same command goes on from there"


def main(arguments: list[str] | None = None) -> None:
    """The entry point: turns a `UserError` into one line and exit 2, Ctrl-C into exit 130."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail(INTERRUPTED, 130)
    except Exception as error:
        # A usage error of click, which typer may carry inside itself: known by what it can do, not
        # by its class.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), 2)
    else:
        if code == 130:  # how typer hands on Ctrl-C
            _fail(INTERRUPTED, 130)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"decaylab: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
