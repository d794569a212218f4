"""What the command line asks for: every option with its help, and the TOML file that can hold them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from decaylab.errors import UserError
from decaylab.options import CONTROLS, Options


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
