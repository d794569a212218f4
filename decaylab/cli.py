"""The command line. Results go to standard output, progress and notes to standard error; bad input is one line and exit 2."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

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


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes a TOML file's values as defaults; what the command line says goes first."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read --config {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UserError(f"--config {path}: {error}") from error
    kinds = _kinds()
    defaults = {}
    for key, value in values.items():
        name = {"json": "as_json"}.get(key, key.replace("-", "_"))
        if name not in kinds:
            known = ", ".join(sorted(one.replace("as_json", "json").replace("_", "-") for one in kinds))
            raise UserError(f"--config {path}: no option {key!r}; there are {known}")
        defaults[name] = _config_value(f"--config {path}: {key}", name, value, kinds[name])
    # One file serves every command: what only another command knows is not used by this one.
    own = {parameter.name for parameter in context.command.params}
    defaults = {name: value for name, value in defaults.items() if name in own}
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _kinds() -> dict[str, Any]:
    """The type of every option that a file can hold."""
    kinds = {name: kind for name, kind in get_type_hints(Options).items() if name != "columns"}
    return {**kinds, "column": dict, "as_json": bool, "quiet": bool}


def _config_value(place: str, name: str, value: Any, kind: Any) -> Any:
    """A TOML value as the command line would give it; a value of another type is refused, never rounded."""
    if name == "column":
        value = [f"{role}={own}" for role, own in value.items()] if isinstance(value, dict) else value
        kind, words = list, "a table, such as question = 'NAME'"
    elif name in ("prefix_lengths", "controls"):
        value = ",".join(map(str, value)) if isinstance(value, list) else value
        kind, words = str, "a list, or text with commas"
    else:
        kinds = [one for one in (get_args(kind) or (kind,)) if one is not type(None)]
        kind = kinds[0] if isinstance(kinds[0], type) else str  # a choice is text
        words = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{place} must be {words}, got {value!r}")
    return value


PAIR, TASK, MEASURE, SAMPLING, RUN = "The pair", "The problems", "The measurement", "Sampling", "The run"
Teacher = Annotated[
    str, typer.Option(help="Hub id, model folder, adapter folder, or abacus-teacher.", rich_help_panel=PAIR)
]
Student = Annotated[
    str | None,
    typer.Option(
        help="Likewise. By default abacus-student with the embedded teacher, Qwen/Qwen2.5-Math-1.5B with any other.",
        rich_help_panel=PAIR,
    ),
]
TeacherRevision = Annotated[str | None, typer.Option(help="Hub branch, tag or commit.", rich_help_panel=PAIR)]
StudentRevision = Annotated[str | None, typer.Option(help="Hub branch, tag or commit.", rich_help_panel=PAIR)]
TeacherPrompt = Annotated[
    str,
    typer.Option(
        help="own: the teacher's own chat template. student: the student's rendered prompt.", rich_help_panel=PAIR
    ),
]
PromptFormat = Annotated[
    str,
    typer.Option(
        help="chat: each policy's template. plain: 'Question: ... Answer:', for base models.", rich_help_panel=PAIR
    ),
]
Thinking = Annotated[
    str, typer.Option(help="off, on, or template (say nothing to the template).", rich_help_panel=PAIR)
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (float32 on the CPU, the checkpoint's own on a GPU), float32, bfloat16, float16.",
        rich_help_panel=PAIR,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=PAIR)]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code from the model's repository.", rich_help_panel=PAIR)
]
Problems = Annotated[
    str | None,
    typer.Option(
        help="abacus, math500, gsm8k, a .jsonl/.json/.parquet file, math500:FILE, a hub data set, or gym:TASK.",
        rich_help_panel=TASK,
    ),
]
Limit = Annotated[int | None, typer.Option(help="Take the first so many problems.", rich_help_panel=TASK)]
Revision = Annotated[str | None, typer.Option(help="Hub revision of the problems.", rich_help_panel=TASK)]
Split = Annotated[str | None, typer.Option(help="Hub split; test by default.", rich_help_panel=TASK)]
Column = Annotated[
    list[str] | None,
    typer.Option(
        help="question=NAME, answer=NAME or id=NAME, for a set with columns of its own.", rich_help_panel=TASK
    ),
]
AnswerRule = Annotated[
    str | None,
    typer.Option(
        help="last_boxed, first_boxed, anywhere or gsm8k: the rule reported. All four are stored.",
        rich_help_panel=MEASURE,
    ),
]
PrefixLengths = Annotated[
    str | None,
    typer.Option(help="Tokens of the prefix, from 0 (the teacher alone): 0,100,200,300.", rich_help_panel=MEASURE),
]
Samples = Annotated[int, typer.Option(help="Rollouts for each problem and policy.", rich_help_panel=MEASURE)]
MaxTokens = Annotated[
    int | None, typer.Option(help="Budget of prefix and continuation together.", rich_help_panel=MEASURE)
]
Controls = Annotated[str, typer.Option(help=f"all, none, or some of {','.join(CONTROLS)}.", rich_help_panel=MEASURE)]
Level = Annotated[float, typer.Option(help="Level of intervals and bands.", rich_help_panel=MEASURE)]
Rollouts = Annotated[
    str | None, typer.Option(help="A JSONL file of student rollouts that exist already.", rich_help_panel=MEASURE)
]
Temperature = Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)]
TopP = Annotated[float, typer.Option(rich_help_panel=SAMPLING)]
TopK = Annotated[int, typer.Option(help="0 is off.", rich_help_panel=SAMPLING)]
Seed = Annotated[int, typer.Option(help="Of every sample, and of the resampling.", rich_help_panel=SAMPLING)]
BatchRows = Annotated[
    int, typer.Option(help="Most sequences decoded together; also about one part on disk.", rich_help_panel=SAMPLING)
]
Out = Annotated[
    str | None, typer.Option(help="The run folder; by default under runs/, named after the pair.", rich_help_panel=RUN)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Throw away what the folder's run holds.", rich_help_panel=RUN)
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Draw the published curve behind the measured one.", rich_help_panel=RUN)
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the measurements as JSON instead of tables.", rich_help_panel=RUN)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes.", rich_help_panel=RUN)]
Config = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file with any of these options; the command line goes first.",
        callback=_read_config,
        is_eager=True,
        rich_help_panel=RUN,
    ),
]


@app.command("prefix-decay")
def prefix_decay(
    teacher: Teacher = "abacus-teacher",
    student: Student = None,
    teacher_revision: TeacherRevision = None,
    student_revision: StudentRevision = None,
    teacher_prompt: TeacherPrompt = "own",
    prompt_format: PromptFormat = "chat",
    thinking: Thinking = "off",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    problems: Problems = None,
    limit: Limit = None,
    revision: Revision = None,
    split: Split = None,
    column: Column = None,
    rollouts: Rollouts = None,
    prefix_lengths: PrefixLengths = None,
    samples: Samples = 4,
    max_tokens: MaxTokens = None,
    controls: Controls = "correct-so-far",
    answer_rule: AnswerRule = None,
    level: Level = 0.95,
    temperature: Temperature = 0.7,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    seed: Seed = 0,
    batch_rows: BatchRows = 256,
    out: Out = None,
    overwrite: Overwrite = False,
    paper: Paper = False,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
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
    teacher: Teacher = "abacus-teacher",
    student: Student = None,
    teacher_revision: TeacherRevision = None,
    student_revision: StudentRevision = None,
    teacher_prompt: TeacherPrompt = "own",
    prompt_format: PromptFormat = "chat",
    thinking: Thinking = "off",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    problems: Problems = None,
    limit: Limit = None,
    revision: Revision = None,
    split: Split = None,
    column: Column = None,
    prefix_lengths: PrefixLengths = None,
    samples: Samples = 4,
    max_tokens: MaxTokens = None,
    controls: Controls = "correct-so-far",
    batch_rows: BatchRows = 256,
    as_json: Json = False,
    config: Config = None,
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
    except BrokenPipeError:  # whoever read the tables has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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
