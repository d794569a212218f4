"""What the command line asks for: every option with its help, and the TOML file that can hold them.

A command's parameters are made from the fields of its options, so that each option is written down
once.
"""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options import option_values
from decaylab.options.command_options import INTERNAL
from decaylab.options.measuring import (
    CONTROLS,
    DiagnosticOptions,
    FileOptions,
    Options,
    PairOptions,
)
from decaylab.options.sweeping import SWEEPS, SweepOptions
from decaylab.options.training import DIVERGENCES, FULL, NO_PROBLEMS, TRACKERS, TrainOptions
from decaylab.planner.options import PlanOptions

KINDS: tuple[type[PairOptions], ...] = (
    Options,
    FileOptions,
    DiagnosticOptions,
    TrainOptions,
    SweepOptions,
    PlanOptions,
)
"""Every kind of options that a file can hold values of."""


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
    defaults = {}
    for key, value in values.items():
        name = {"json": "as_json"}.get(key, key.replace("-", "_"))
        kinds = _kinds(name)
        if not kinds:
            raise UserError(f"--config {path}: no option {key!r}; there are {', '.join(_known())}")
        found = _config_value(f"--config {path}: {key}", value, kinds)
        # Lists are text with commas on the command line, but for its arguments.
        defaults[name] = (
            ",".join(map(str, found))
            if isinstance(found, tuple) and name != "checkpoints"
            else found
        )
    # One file serves every command: what only another command knows is checked, and not used by
    # this one.
    own = {parameter.name for parameter in context.command.params}
    defaults = {name: value for name, value in defaults.items() if name in own}
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _kinds(name: str) -> list[Any]:
    """The types that an option has in a file, one for each kind of command that has it; none where
    nobody has."""
    if name in ("as_json", "quiet"):
        return [bool]
    if name in (*INTERNAL, "columns"):
        return []
    field = {"column": "columns"}.get(name, name)
    return [option_values.kinds(one)[field] for one in KINDS if field in option_values.kinds(one)]


def _known() -> list[str]:
    """The options that a file can hold, as one writes them there."""
    fields = {name for kind in KINDS for name in option_values.kinds(kind)} - {*INTERNAL, "columns"}
    return sorted(name.replace("_", "-") for name in {*fields, "column", "json", "quiet"})


def _config_value(place: str, value: Any, kinds: Sequence[Any]) -> Any:
    """A TOML value as the command line would give it, where any command can have it."""
    for last, kind in zip([*[False] * (len(kinds) - 1), True], kinds, strict=True):
        try:
            found = option_values.checked(place, kind, value)
        except UserError:
            if last:
                raise
            continue
        if isinstance(found, dict):
            return [f"{key}={text}" for key, text in found.items()]
        return found
    raise AssertionError(f"{place} has no type")


PAIR, TASK, FILES, LOSS, TRAINING, MEASURE, SAMPLING, ENGINE, SCORING, RUN = (
    *(
        "The pair",
        "The problems",
        "Rollouts that exist already",
        "Where the loss falls",
        "The training",
    ),
    *("The measurement", "Sampling", "The engine", "Scoring", "The run"),
)


def _option(panel: str, help: str, *names: str, kind: Any = str | None, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, help=help, rich_help_panel=panel, **more)]


PARAMETERS: dict[str, Any] = {
    "over": Annotated[
        str, typer.Argument(help=f"What is varied: {' or '.join(SWEEPS)}.", show_default=False)
    ],
    "values": _option(
        LOSS,
        "What is compared, with commas: lengths in tokens and full, or selectors at one --budget.",
        kind=str,
    ),
    "seeds": _option(
        TRAINING, "How many seeds each arm is trained with, from --seed on.", kind=int
    ),
    "checkpoints": Annotated[
        list[str] | None,
        typer.Argument(
            help="Trained students: adapter, model or run folders. None: the base student alone.",
            show_default=False,
        ),
    ],
    "files": Annotated[
        list[str], typer.Argument(help="Files or folders of rollouts.", show_default=False)
    ],
    "teacher": _option(
        PAIR,
        "Hub id, model folder, adapter folder; by default what the checkpoints know, or "
        "abacus-teacher.",
    ),
    "student": _option(
        PAIR,
        "Likewise, before training. By default what the checkpoints know; abacus-student with the "
        "embedded teacher, "
        "Qwen/Qwen2.5-Math-1.5B with any other.",
    ),
    "teacher_revision": _option(PAIR, "Hub branch, tag or commit."),
    "student_revision": _option(PAIR, "Hub branch, tag or commit."),
    "teacher_prompt": _option(
        PAIR,
        "own: the teacher's own chat template. student: the student's rendered prompt.",
        kind=str,
    ),
    "prompt_format": _option(
        PAIR,
        "chat: each policy's template. plain: 'Question: ... Answer:', for base models.",
        kind=str,
    ),
    "thinking": _option(PAIR, "off, on, or template (leave it to the chat template).", kind=str),
    "system": _option(PAIR, "System message of the prompts; none by default."),
    "teacher_system": _option(
        PAIR, "System message of the teacher's; by default that of --system. '' is none."
    ),
    "template_kwargs": _option(
        PAIR,
        "KEY=VALUE, a variable of the chat templates (repeatable); true, 3 and the like are read "
        "as JSON.",
        kind=list[str] | None,
    ),
    "dtype": _option(
        PAIR,
        "auto (float32 on the CPU, the checkpoint's own on a GPU), float32, bfloat16, float16.",
        kind=str,
    ),
    "device": _option(PAIR, "auto, cpu, cuda, cuda:1, ...", kind=str),
    "trust_remote_code": _option(
        PAIR, "Run code from the model's repository.", "--trust-remote-code", kind=bool
    ),
    "problems": _option(
        TASK,
        "abacus, math500, gsm8k, a .jsonl/.json/.parquet file, math500:FILE, a hub data set, or "
        "gym:TASK.",
    ),
    "limit": _option(TASK, "Take the first so many problems.", kind=int | None),
    "revision": _option(TASK, "Hub revision of the problems."),
    "split": _option(TASK, "Hub split; test by default."),
    "column": _option(
        TASK,
        "question=NAME, answer=NAME or id=NAME, for a set with columns of its own. NAME may be a "
        "path: "
        "answer=reward_model.ground_truth, question=messages.0.content.",
        kind=list[str] | None,
    ),
    "instruction": _option(
        TASK,
        "What follows each question: a text, boxed (reason step by step, answer in \\boxed{}) or "
        "none. By default boxed for "
        "math500, gsm8k and gym tasks, none for abacus and problems of your own.",
    ),
    "leave_out_long": _option(
        TASK,
        "Leave out problems whose prompt and --max-tokens are beyond a context, and count them.",
        "--leave-out-long",
        kind=bool,
    ),
    "test_problems": _option(
        TASK,
        "What trained students will be tested on: training problems that also stand there are "
        f"dropped. {NO_PROBLEMS}: look "
        "for none. By default abacus with the embedded pair, math500 with any other.",
    ),
    "test_limit": _option(
        TASK, "What an evaluation asks of those by default: the first so many.", kind=int | None
    ),
    "validation_problems": _option(
        TASK,
        "Problems held out to choose the best checkpoint by and to watch behaviour on; 0 is off.",
        kind=int,
    ),
    "selector": _option(LOSS, f"Which positions carry loss: {', '.join(SELECTORS)}.", kind=str),
    "budget": _option(
        LOSS,
        "How many positions of a rollout carry loss; by default as many as ESR's N.",
        kind=int | None,
    ),
    "teacher_prefix": _option(
        LOSS,
        "after-teacher-prefix: tokens that the teacher writes ahead of the student.",
        kind=int | None,
    ),
    "divergence": _option(
        LOSS, f"{', '.join(DIVERGENCES)}; exact over the whole vocabulary but the last.", kind=str
    ),
    "normalise": _option(
        LOSS,
        "tokens: mean over the step's selected tokens. rollouts: mean over its rollouts of their "
        "own means.",
        kind=str,
    ),
    "score_end": _option(
        LOSS, "Whether the end-of-turn token carries loss.", "--score-end/--no-score-end", kind=bool
    ),
    "steps": _option(
        TRAINING, "Updates; 100 with the embedded pair, 200 with any other.", kind=int | None
    ),
    "problems_per_step": _option(TRAINING, "Problems of a step, over all processes.", kind=int),
    "rollouts_per_problem": _option(TRAINING, "Rollouts to each of them.", kind=int),
    "full_finetune": _option(
        TRAINING, "Train every weight instead of LoRA.", "--full-finetune", kind=bool
    ),
    "lora_rank": _option(TRAINING, "Rank of the adapters.", kind=int),
    "lora_alpha": _option(TRAINING, "The adapters count for alpha / rank.", kind=int),
    "lora_targets": _option(
        TRAINING, "all-linear, or names of layers with commas: q_proj,v_proj.", kind=str
    ),
    "learning_rate": _option(
        TRAINING,
        "Of AdamW; by default 3e-4 with the embedded pair, 5e-5 with any other, a fifth with "
        "--full-finetune.",
        kind=float | None,
    ),
    "warmup_steps": _option(TRAINING, "Steps of a linear warm-up.", kind=int),
    "schedule": _option(
        TRAINING, "Of the learning rate: constant, or linear or cosine down to 0.", kind=str
    ),
    "weight_decay": _option(TRAINING, "Of AdamW.", kind=float),
    "clip": _option(TRAINING, "Largest norm of the gradient.", kind=float),
    "autocast": _option(
        TRAINING, "off, or bfloat16: passes in 16 bits over weights of 32.", kind=str
    ),
    "gradient_checkpointing": _option(
        TRAINING,
        "Compute activations twice instead of keeping them.",
        "--gradient-checkpointing",
        kind=bool,
    ),
    "checkpoint_every": _option(
        TRAINING,
        "Steps between checkpoints; 25 with the embedded pair, 50 with any other. The last step "
        "always makes one.",
        kind=int | None,
    ),
    "track": _option(
        TRAINING, f"Trackers to log to as well, with commas: {', '.join(TRACKERS)}.", kind=str
    ),
    "prefix_lengths": _option(
        MEASURE, "Tokens of the prefix, from 0 (the teacher alone): 0,100,200,300."
    ),
    "bins": _option(
        MEASURE, "Lower ends of the position bins, from 0; the last one is open: 0,50,100,200."
    ),
    "rollout_length": _option(
        MEASURE,
        "The paper's N: the cascade is measured behind it, and selectors get so many tokens.",
        kind=int | None,
    ),
    "survivors": _option(
        MEASURE,
        "Also the curves of rollouts of at least so many tokens, the same ones in every bin.",
        kind=int | None,
    ),
    "estimand": _option(
        MEASURE, "tokens: mean over tokens. problems: mean of the problems' means.", kind=str
    ),
    "share": _option(
        MEASURE, "Share of the tokens, those with the highest KL, that is looked at.", kind=float
    ),
    "second_mode": _option(
        MEASURE, "Teacher probability from which its second token is a mode.", kind=float
    ),
    "cumulative_share": _option(
        MEASURE, "Share of the cumulative KL at which N is read off.", kind=float
    ),
    "horizon": _option(
        MEASURE,
        "Tokens over which the KL is cumulated; by default as many as 10 % of the rollouts, and "
        "at least 10, have written.",
        kind=int | None,
    ),
    "categories": _option(MEASURE, "A TOML file of token categories in place of the paper's six."),
    "min_count": _option(
        MEASURE, "Fewest occurrences of a token in the list of highest-KL tokens.", kind=int
    ),
    "advise": _option(
        MEASURE, "Recommend an N from the decay curve and the cumulative KL.", "--advise", kind=bool
    ),
    "decay": _option(
        MEASURE,
        "The prefix-decay run to advise from; by default that of the same pair under runs/.",
    ),
    "checkpoint_rule": _option(
        MEASURE,
        "Of a run's checkpoints every one, last, best (by the run's validation.csv), or "
        "last,best. By default every one in "
        "evaluate, the last one elsewhere.",
        kind=str | None,
    ),
    "samples": _option(MEASURE, "Rollouts for each problem and policy.", kind=int),
    "max_tokens": _option(
        MEASURE, "Budget of a rollout, prefix and continuation together.", kind=int | None
    ),
    "controls": _option(MEASURE, f"all, none, or some of {','.join(CONTROLS)}.", kind=str),
    "answer_rule": _option(
        MEASURE,
        "last_boxed, first_boxed, anywhere or gsm8k: the rule reported. All four are stored.",
    ),
    "thought_marks": _option(
        MEASURE,
        "'START END': marks of thoughts, which are no answers, beside those of the tokenizer and "
        "the usual ones. none: "
        "grade thoughts too.",
    ),
    "level": _option(MEASURE, "Level of intervals and bands.", kind=float),
    "rollouts": _option(
        FILES,
        "Student rollouts that exist already: files of TRL, verl, vLLM, SGLang, OpenAI, lm-eval, "
        "inspect and others (JSONL, "
        "JSON, parquet, .gz, .zst), a folder of them, or several with commas. `decaylab rollouts "
        "FILE` says how they are read.",
    ),
    "rollouts_format": _option(
        FILES, "Which writer the files are of, where their columns do not say."
    ),
    "prompt_kind": _option(
        FILES,
        "question: prompts are bare questions. rendered: a template wrote them, and the student "
        "reads them as they stand. "
        "auto: by the marks of the student's template.",
        kind=str,
    ),
    "prompt_in_response": _option(
        FILES, "refuse, cut or keep a response that begins with its own prompt.", kind=str
    ),
    "no_stop_reason": _option(
        FILES,
        "How rollouts ended whose file does not say: unknown, natural or cut-off.",
        kind=str,
    ),
    "temperature": _option(SAMPLING, "0 is greedy.", kind=float),
    "top_p": _option(SAMPLING, "Nucleus; 1 is off.", kind=float),
    "top_k": _option(SAMPLING, "0 is off.", kind=int),
    "seed": _option(SAMPLING, "Of every sample, and of the resampling.", kind=int),
    "batch_rows": _option(
        SAMPLING,
        "Most sequences decoded together, and about one part on disk. A run goes on with another "
        "number.",
        kind=int,
    ),
    "engine": _option(
        ENGINE,
        "transformers, or vllm (an extra: pip install 'decaylab[vllm]') for models of billions of "
        "parameters.",
        kind=str,
    ),
    "adapters": _option(
        ENGINE,
        "vllm: merged (into the base where that is exact, else served), or served (beside the "
        "base, up to rank 512).",
        kind=str,
    ),
    "tensor_parallel": _option(ENGINE, "vllm: GPUs that share one model.", kind=int),
    "gpu_memory_share": _option(
        ENGINE,
        "vllm: share of each GPU's memory for weights and cache; by default 0.9, in served-kl "
        "0.7, in training 0.4.",
        kind=float | None,
    ),
    "workers": _option(
        ENGINE,
        "Processes that sample, each with an engine (an extra: pip install 'decaylab[ray]').",
        kind=int,
    ),
    "ray": _option(
        ENGINE,
        "The workers run in a Ray cluster: auto (the one this machine is in), or HOST:PORT. By "
        "default on this machine.",
    ),
    "score_temperature": _option(
        SCORING, "Of the distributions that are compared; rollouts have their own.", kind=float
    ),
    "head": _option(
        SCORING, "Precision of the output heads: model (the model's own) or float32.", kind=str
    ),
    "batch_tokens": _option(
        SCORING, "Tokens of a batch that is scored, padding included.", kind=int
    ),
    "floor_problems": _option(
        SCORING,
        "Problems scored a second time, one by one and in a wider precision: the noise floor. 0 "
        "is off.",
        kind=int,
    ),
    "view_rollouts": _option(
        SCORING, "Rollouts whose tokens' top 5 of both policies are kept.", kind=int
    ),
    "cache": _option(
        SCORING, "Where rollouts and scored tokens are kept for the next command.", kind=str
    ),
    "top_ids": _option(
        SCORING,
        "Ids at each position that the engine tells the teacher's probability of.",
        kind=int,
    ),
    "runs": _option(
        RUN,
        "The folder of the training runs, which several sweeps may share; by default under runs/.",
    ),
    "out": _option(
        RUN,
        "The folder of results; by default under runs/, named after the pair, or in the run given.",
    ),
    "overwrite": _option(RUN, "Throw away what the folder's run holds.", "--overwrite", kind=bool),
    "paper": _option(
        RUN, "Draw the published numbers behind the measured ones.", "--paper", kind=bool
    ),
    "as_json": _option(
        RUN, "Print the measurements as JSON instead of tables.", "--json", kind=bool
    ),
    "quiet": _option(RUN, "No progress and no notes.", "--quiet", kind=bool),
    "config": Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with any of these options; the command line goes first.",
            callback=_read_config,
            is_eager=True,
            rich_help_panel=RUN,
        ),
    ],
}
TEXT_DEFAULTS: dict[str, Any] = {"controls": "correct-so-far", "column": None, "checkpoints": None}
# Where a name means something else to one command than to the others.
OWN: dict[type[PairOptions], dict[str, Any]] = {
    TrainOptions: {
        "problems": _option(
            TASK,
            "The training problems, by the same names; abacus-train with the embedded pair. They "
            "need no answers.",
        ),
        "limit": _option(TASK, "Take the first so many training problems.", kind=int | None),
        "split": _option(TASK, "Hub split; train by default."),
        "rollout_length": _option(
            LOSS,
            f"The paper's N: tokens at which rollouts stop, or {FULL}. By default 100 (20 with "
            "the embedded pair) where the "
            "selector stops rollouts, and full where it does not.",
        ),
        "bins": _option(
            LOSS, "Lower ends of the position bins of the KL in metrics.csv, from 0: 0,50,100,200."
        ),
        "batch_tokens": _option(
            TRAINING,
            "Tokens of a micro-batch, padding included; gradients add up over as many as a step "
            "needs. By default 4,096 with "
            "the embedded pair, else 1,024 on a CPU and 16,384 on a GPU.",
            kind=int | None,
        ),
        "max_tokens": _option(SAMPLING, "Budget of a full rollout.", kind=int | None),
        "seed": _option(
            SAMPLING,
            "Of the problems' order, every sample, and the adapters' first values.",
            kind=int,
        ),
        "answer_rule": _option(TASK, "The rule that held-out answers are graded by."),
    }
}
OWN[SweepOptions] = OWN[TrainOptions] | {
    "samples": _option(MEASURE, "Rollouts to each test problem.", kind=int),
    "test_limit": _option(
        TASK, "Test problems that are asked: the first so many.", kind=int | None
    ),
    "answer_rule": _option(
        MEASURE, "The rule that is reported first, and that held-out answers are graded by."
    ),
    "seed": _option(SAMPLING, "The first of the seeds.", kind=int),
    "workers": _option(RUN, "Runs at a time, each with its share of the cores.", kind=int),
    "checkpoint_rule": _option(
        MEASURE, "Which checkpoints are evaluated: last, best, last,best or every.", kind=str
    ),
    "overwrite": _option(
        RUN,
        "Evaluate and compare again, under other options if need be. No training run is thrown "
        "away.",
        "--overwrite",
        kind=bool,
    ),
}


FLAGS: dict[str, Any] = {"as_json": False, "quiet": False, "config": None}


def signature(options: type[PairOptions], without: Iterable[str] = ()) -> inspect.Signature:
    """The parameters of a command with these options, in the order of `PARAMETERS`; lists are text
    here."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    defaults = {**defaults, **FLAGS, "column": None, "template_kwargs": None}
    defaults |= {name: value for name, value in TEXT_DEFAULTS.items() if name in defaults}
    parameters = PARAMETERS | OWN.get(options, {})
    return inspect.Signature(
        [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults[name],
                    annotation=annotation,
                )
                for name, annotation in parameters.items()
                if name in defaults and name not in without
            ),
        ]
    )
