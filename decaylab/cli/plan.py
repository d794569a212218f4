"""The command that plans the others: memory and time before anything starts. Its options are those
of the commands."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Annotated, Any

import typer

from decaylab.cli import parameters as option
from decaylab.planner.options import COMMANDS, PlanOptions

MACHINE, LENGTHS = "The machine", "Lengths and rates"


def _option(panel: str, help: str, *names: str, kind: Any = str | None) -> Any:
    return Annotated[kind, typer.Option(*names, help=help, rich_help_panel=panel)]


# Options that other commands have too keep their help; these are the plan's own, or mean something
# else to it.
OWN: dict[str, Any] = {
    "only": _option(option.RUN, f"What is planned, with commas: {','.join(COMMANDS)}.", kind=str),
    "gpus": _option(
        MACHINE, "How many GPUs, and what each one holds: 1x48GB, 8x80GB. By default what is here."
    ),
    "memory": _option(MACHINE, "No GPU, but so much memory: 24GB."),
    "processes": _option(
        MACHINE,
        "Processes of one training run (accelerate's --num_processes), each with the teacher.",
        kind=int,
    ),
    "sharded": _option(
        MACHINE,
        "Those share the student's layers out by FSDP; otherwise each has all (DDP).",
        "--sharded",
        kind=bool,
    ),
    "mean_tokens": _option(
        LENGTHS,
        "Tokens of a response on the mean, as far as you know, for tokens and hours; by default "
        "the whole budget.",
        kind=int | None,
    ),
    "prompt_tokens": _option(
        LENGTHS,
        "Tokens of the longest prompt; by default read off problems and tokenizers that are here.",
        kind=int | None,
    ),
    "tokens_per_second": _option(
        LENGTHS,
        "Rates that you know, with commas: of sampling, of scoring, of training.",
        kind=str | None,
    ),
    "probe": _option(
        LENGTHS,
        "Load both models here, and measure rates and peaks by a short probe.",
        "--probe",
        kind=bool,
    ),
    "checkpoint_count": _option(
        option.MEASURE, "Trained students that the diagnostics measure beside base.", kind=int
    ),
    "rollout_length": _option(
        option.LOSS, "train: tokens at which rollouts stop, or full. By default as train has it."
    ),
    "batch_tokens": _option(
        option.SCORING,
        "Tokens of a batch that is scored or trained on. By default each command's own.",
        kind=int | None,
    ),
    "as_json": _option(
        option.RUN, "Print the plan as JSON instead of tables.", "--json", kind=bool
    ),
}
WITHOUT = (
    *(
        "revision",
        "split",
        "device",
        "adapters",
        "answer_rule",
        "thought_marks",
        "level",
        "out",
        "overwrite",
        "paper",
    ),
    *("top_k", "seed", "lora_alpha", "leave_out_long"),
)
FLAGS: dict[str, Any] = {
    **{"controls": "correct-so-far", "only": ",".join(COMMANDS), "column": None},
    **{"as_json": False, "config": None, "template_kwargs": None},
}


def plan(**values: Any) -> None:
    """Memory and time of prefix-decay, the diagnostics and train, before anything starts.

    Reads the two config.json, builds both models without weights and counts: weights, cache,
    activations, logits, gradients and optimizer of every phase, against the memory there is. Says
    what does not fit and which flag would help, and how many tokens are to be written and read.
    Hours come from a probe or from rates that you state, and are unknown otherwise. Exits with 1
    where a phase does not fit.

    `decaylab plan --teacher Qwen/Qwen3-8B --student Qwen/Qwen2.5-Math-1.5B --problems math500
    --gpus 1x48GB`

    `decaylab plan --only train --full-finetune --gpus 8x80GB --processes 8 --sharded`

    `decaylab plan --probe` plans the embedded pair on this machine.
    """
    from decaylab.planner import plan as planning
    from decaylab.planner import tables

    as_json = values.pop("as_json")
    del values["config"]  # read by its own callback
    _hush()
    found = planning.make_plan(_options(values))
    if as_json:
        print(json.dumps(found.record()))
    else:
        tables.print_plan(found)
    if not found.fits:
        raise typer.Exit(1)


def signature() -> inspect.Signature:
    """The parameters of the command, shared ones in the order of the other commands."""
    defaults = {field.name: field.default for field in dataclasses.fields(PlanOptions)} | FLAGS
    known = {
        name: one
        for name, one in option.PARAMETERS.items()
        if name in defaults and name not in WITHOUT
    } | OWN
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, keyword, default=defaults[name], annotation=one)
        for name, one in known.items()
    ]
    return inspect.Signature(parameters)


def _options(values: dict[str, Any]) -> PlanOptions:
    chosen = {
        **values,
        "columns": values["column"] or (),
        "template_kwargs": values["template_kwargs"] or (),
    }
    del chosen["column"]
    return PlanOptions(**chosen)


def _hush() -> None:
    """Keeps libraries from talking between the lines."""
    import warnings

    from transformers.utils import logging

    transformers: Any = logging
    transformers.set_verbosity_error()
    transformers.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def add(app: typer.Typer) -> None:
    """Registers the command."""

    def command(**values: Any) -> None:
        plan(**values)

    shape = signature()
    command.__signature__ = shape  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in shape.parameters.items()}
    command.__doc__ = plan.__doc__
    app.command("plan")(command)
