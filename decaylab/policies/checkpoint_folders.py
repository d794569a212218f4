"""Finds the checkpoints that trainers write: a folder per step, and the model inside it.

decaylab           step-000050/
transformers, TRL  checkpoint-50/, and the final model in the run's folder itself
verl               global_step_50/actor/huggingface/ or actor/lora_adapter/
slime              iter_0000050/, in shards until it is converted (iter_0000050-hf/)
NeMo-RL            step_50/policy/..., in shards until it is converted (step_50-hf/)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from decaylab.errors import UserError

NAME = re.compile(
    r"(?:checkpoint|global_steps?|steps?|iter)[-_]?(\d+)(?:[-_](?:hf|huggingface|merged))?"
)
MODEL_FILES = ("config.json", "adapter_config.json")
NOT_THE_STUDENT = ("critic", "ref", "reward", "value", "optimizer")
INSIDE = (
    "actor",
    "policy",
    "huggingface",
    "lora_adapter",
    "hf",
    "weights",
    "model",
    "consolidated",
    "iter_0000000",
)
"""Names of the folders between a step's folder and its model."""
DEPTH = 5  # how many folders deep to look for a model below a step's folder
VERL = "python -m verl.model_merger merge --backend {} --local_dir {} --target_dir {}/huggingface"
NEMO = (
    "NeMo-RL's examples/converters/convert_{}_to_hf.py --config={{0}}/config.yaml "
    "--{}-ckpt-path={{0}}/policy/weights{} "
)
SLIME = (
    "slime's tools/convert_{}_to_hf.py --input-dir {{0}} --output-dir {{0}}-hf "
    "--origin-hf-dir STUDENT"
)
CONVERTED_BY = {
    "actor/dist_ckpt": VERL.format("megatron", "{0}/actor", "{0}/actor"),
    "actor/*.pt": VERL.format("fsdp", "{0}/actor", "{0}/actor"),
    "model_world_size_*.pt": VERL.format("fsdp", "{0}", "{0}"),
    "policy/weights/iter_*": NEMO.format("megatron", "megatron", "/iter_0000000")
    + "--hf-ckpt-path={0}-hf",
    "policy/weights": NEMO.format("dcp", "dcp", "") + "--hf-ckpt-path={0}-hf",
    "model/.metadata": SLIME.format("fsdp"),
    "*.distcp": SLIME.format("torch_dist"),
    ".metadata": SLIME.format("torch_dist"),
    "mp_rank_*": "Megatron-LM's tools/checkpoint/convert.py, from {0} into {0}-hf",
}
"""File patterns of sharded weights in a step's folder {0}, and the command that converts them to a
Hugging Face folder."""


def is_model(folder: Path) -> bool:
    """Whether the folder itself is a model or an adapter."""
    return any((folder / name).exists() for name in MODEL_FILES)


def step_folder(path: Path) -> Path:
    """The step folder that a model is in: its own, or one around it; else the path itself."""
    for place in (path.absolute(), *path.absolute().parents):
        # NeMo-RL puts Megatron's iter_0000000 into a folder called weights.
        if NAME.fullmatch(place.name) and place.parent.name != "weights":
            return place
        if place.name not in INSIDE:
            break
    return path


def step_of(path: Path) -> int | None:
    """The training step in the name of a checkpoint's step folder; None if it has none."""
    numbered = NAME.fullmatch(step_folder(path).name)
    return int(numbered[1]) if numbered else None


def steps(run: Path) -> list[list[Path]]:
    """The step folders of a run, sorted and grouped by step."""
    folders = [entry for entry in run.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name)]
    folders.sort(key=lambda entry: (step_of(entry) or 0, entry.name))
    return [list(same) for _, same in groupby(folders, key=step_of)]


def checkpoints(run: Path) -> tuple[list[Path], str]:
    """The models of a run's steps, sorted by step, and a note on steps that are left out.

    A step with sharded weights is left out if others can be read. A final model in the run's own
    folder is not included.

    Raises:
        UserError: no step can be read (says how to convert them), or one has two models.
    """
    readable: list[Path] = []
    sharded: list[str] = []
    numbered = steps(run)
    for same in numbered:
        # A converted folder and its shards have the same step.
        models = [model for step in same for model in models_in(step)]
        how = conversion(same[0])
        if models or how is None:
            readable += models or same
        else:
            sharded.append(how)
    if not sharded:
        return readable, ""
    if not readable:
        raise UserError(sharded[-1])
    left_out = f"{len(sharded)} of {len(numbered)} checkpoints are left out"
    return readable, f"{run}: {left_out}: {sharded[0]}"


def last_model(run: Path) -> Path | None:
    """The model of a run's highest step, or of a step's own folder; None if there is none.

    Raises:
        UserError: its weights are sharded (says how to convert them), or it has two models.
    """
    folders = [run] if step_of(run) is not None else []
    if numbered := steps(run):
        folders = numbered[-1]
    models = [model for folder in folders for model in models_in(folder)]
    if folders and not models and (how := conversion(folders[0])):
        raise UserError(how)
    return models[0] if models else None


def models_in(step: Path) -> list[Path]:
    """The model in a step's folder: the folder itself, or one inside it; empty if there is none.

    Raises:
        UserError: two models.
    """
    if is_model(step):
        return [step]
    models = [folder for folder in _below(step, DEPTH) if is_model(folder)]
    models = [folder for folder in models if any(folder.glob("*.safetensors"))]
    if len(models) > 1:
        names = ", ".join(str(model.relative_to(step)) for model in models)
        raise UserError(
            f"{step} contains {len(models)} models ({names}): give the folder of one of them"
        )
    return models


def conversion(step: Path) -> str | None:
    """The error message for a step's folder with sharded weights; None for any other folder."""
    for pattern, how in CONVERTED_BY.items():
        if any(step.glob(pattern)):
            return (
                f"{step} has sharded weights and no Hugging Face folder; convert it with "
                f"{how.format(step)}"
            )
    return None


def recorded_step(folder: Path) -> int | None:
    """The step in a folder's trainer_state.json (transformers); None if there is none."""
    try:
        step = json.loads((folder / "trainer_state.json").read_text()).get("global_step")
    except (OSError, ValueError, AttributeError):
        return None
    return step if type(step) is int else None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in NOT_THE_STUDENT:
            yield entry
            if depth > 1:
                yield from _below(entry, depth - 1)
