"""The command line. Results go to standard output, progress and notes to standard error; bad input is one line and exit 2."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from typing import Any

import typer

from decaylab import cli_options as option
from decaylab.errors import UserError
from decaylab.options import CONTROLS, Options
from decaylab.progress import Reporter

app = typer.Typer(
    name="decaylab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="How far into a student's rollout can its teacher be trusted? Measures teacher decay, with intervals and controls.",
)


@app.callback()
def _decaylab() -> None:
    """Keeps sub-commands sub-commands, also while there are few."""


@app.command("prefix-decay")
def prefix_decay(
    teacher: option.Teacher = "abacus-teacher",
    student: option.Student = None,
    teacher_revision: option.TeacherRevision = None,
    student_revision: option.StudentRevision = None,
    teacher_prompt: option.TeacherPrompt = "own",
    prompt_format: option.PromptFormat = "chat",
    thinking: option.Thinking = "off",
    dtype: option.Dtype = "auto",
    device: option.Device = "auto",
    trust_remote_code: option.TrustRemoteCode = False,
    problems: option.Problems = None,
    limit: option.Limit = None,
    revision: option.Revision = None,
    split: option.Split = None,
    column: option.Column = None,
    rollouts: option.Rollouts = None,
    prefix_lengths: option.PrefixLengths = None,
    samples: option.Samples = 4,
    max_tokens: option.MaxTokens = None,
    controls: option.Controls = "correct-so-far",
    answer_rule: option.AnswerRule = None,
    level: option.Level = 0.95,
    temperature: option.Temperature = 0.7,
    top_p: option.TopP = 1.0,
    top_k: option.TopK = 0,
    seed: option.Seed = 0,
    batch_rows: option.BatchRows = 256,
    out: option.Out = None,
    overwrite: option.Overwrite = False,
    paper: option.Paper = False,
    as_json: option.Json = False,
    quiet: option.Quiet = False,
    config: option.Config = None,
) -> None:
    """Teacher accuracy after k tokens of the student's own rollout: is the teacher still corrective there?

    The student writes rollouts; the teacher continues from the first k tokens of each and its finished answers are graded.
    The headline curve holds rollouts that are still open at k, beside their own outcome and the teacher's accuracy on the same
    problems. Every interval resamples problems. A run that is interrupted or killed goes on where it was with the same command.

    `decaylab prefix-decay` measures the pair that ships with decaylab, in minutes on two CPU cores.

    `decaylab prefix-decay --teacher Qwen/Qwen3-1.7B` measures the paper's pair on MATH-500 (a GPU and the hub).

    `--controls all` adds: the teacher's own prefixes (must stay flat), prefixes of another problem, and the reverse direction.
    """
    from decaylab import run, tables

    options = _options(locals())
    _hush(quiet)
    reporter = Reporter(quiet=quiet)
    result = run.prefix_decay(options, command=shlex.join(["decaylab", *sys.argv[1:]]), reporter=reporter)
    if as_json:
        rows = json.loads(result.measurements.to_json(orient="records"))
        print(json.dumps({"run": str(result.folder), "notes": list(result.notes), "measurements": rows}))
        return
    tables.print_prefix_decay(result)


@app.command()
def preflight(
    teacher: option.Teacher = "abacus-teacher",
    student: option.Student = None,
    teacher_revision: option.TeacherRevision = None,
    student_revision: option.StudentRevision = None,
    teacher_prompt: option.TeacherPrompt = "own",
    prompt_format: option.PromptFormat = "chat",
    thinking: option.Thinking = "off",
    dtype: option.Dtype = "auto",
    device: option.Device = "auto",
    trust_remote_code: option.TrustRemoteCode = False,
    problems: option.Problems = None,
    limit: option.Limit = None,
    revision: option.Revision = None,
    split: option.Split = None,
    column: option.Column = None,
    prefix_lengths: option.PrefixLengths = None,
    samples: option.Samples = 4,
    max_tokens: option.MaxTokens = None,
    controls: option.Controls = "correct-so-far",
    batch_rows: option.BatchRows = 256,
    as_json: option.Json = False,
    config: option.Config = None,
) -> None:
    """Is this pair measurable at all? Vocabularies, templates, context, memory and time, and a plain verdict.

    Loads both policies, looks at what must agree, and runs a short probe of each. Samples nothing that is kept. Exits with 1
    where the verdict is no.
    """
    from decaylab import preflight as checks
    from decaylab import tables

    options = _options(locals())
    _hush(quiet=as_json)
    report = checks.preflight(options)
    if as_json:
        print(json.dumps({"measurable": report.measurable, "verdict": report.verdict, **dataclasses.asdict(report)}))
    else:
        tables.print_preflight(report)
    if not report.measurable:
        raise typer.Exit(1)


def _hush(quiet: bool) -> None:
    """Keeps libraries from talking between the lines. The hub's download bars stay where a person watches."""
    from huggingface_hub import utils as hub_utils
    from transformers.utils import logging as transformers_logging

    hub: Any = hub_utils
    transformers: Any = transformers_logging
    transformers.set_verbosity_error()
    transformers.disable_progress_bar()  # of the hub too, in passing
    if sys.stderr.isatty() and not quiet:
        hub.enable_progress_bars()


def _options(values: dict[str, Any]) -> Options:
    """The options of a run from a command's parameters."""
    fields = {field.name for field in dataclasses.fields(Options)}
    chosen = {name: value for name, value in values.items() if name in fields}
    chosen["prefix_lengths"] = _lengths(values["prefix_lengths"])
    chosen["controls"] = _controls(values["controls"])
    chosen["columns"] = dict(_column(pair) for pair in values["column"] or [])
    for name, allowed in (
        ("teacher_prompt", ("own", "student")),
        ("prompt_format", ("chat", "plain")),
        ("thinking", ("off", "on", "template")),
        ("dtype", ("auto", "float32", "bfloat16", "float16")),
    ):
        if chosen[name] not in allowed:
            raise UserError(f"--{name.replace('_', '-')} must be one of {', '.join(allowed)}, got {chosen[name]}")
    return Options(**chosen)


def _lengths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"--prefix-lengths must be whole numbers with commas, such as 0,100,200, got {text!r}"
        ) from error


def _controls(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return CONTROLS if text == "all" else ()
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _column(pair: str) -> tuple[str, str]:
    role, separator, name = pair.partition("=")
    if not separator or role not in ("question", "answer", "id"):
        raise UserError(f"--column must be question=NAME, answer=NAME or id=NAME, got {pair!r}")
    return role, name


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
        # A usage error of click, which typer may carry inside itself: known by what it can do, not by its class.
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
