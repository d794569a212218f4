"""Where trainers leave checkpoints: the folders of a run's steps, and the model inside each.

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
"""What trainers call the folders between that of a step and the model in it."""
DEPTH = 5  # folders below that of a step in which a model is looked for
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
"""What is found in a step's folder {0} that holds weights in shards, and what makes a Hugging Face
folder of them."""


def is_model(folder: Path) -> bool:
    """Whether a model or an adapter stands in the folder itself."""
    return any((folder / name).exists() for name in MODEL_FILES)


def step_folder(path: Path) -> Path:
    """The folder of the step that a model belongs to: its own, or the one that a trainer put it
    into; else itself."""
    for place in (path.absolute(), *path.absolute().parents):
        # NeMo-RL keeps Megatron's iter_0000000 in a folder weights.
        if NAME.fullmatch(place.name) and place.parent.name != "weights":
            return place
        if place.name not in INSIDE:
            break
    return path


def step_of(path: Path) -> int | None:
    """The training step in the name of the folder of a checkpoint, or of the one around it; None
    where there is none."""
    numbered = NAME.fullmatch(step_folder(path).name)
    return int(numbered[1]) if numbered else None


def steps(run: Path) -> list[list[Path]]:
    """The folders of a run's steps, in the order of their numbers; those of one number together."""
    folders = [entry for entry in run.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name)]
    folders.sort(key=lambda entry: (step_of(entry) or 0, entry.name))
    return [list(same) for _, same in groupby(folders, key=step_of)]


def checkpoints(run: Path) -> tuple[list[Path], str]:
    """The models of a run's steps, in the order of their numbers, and a sentence on steps that are
    left out.

    Left out is a step whose weights are in shards, where others can be read. A final model in the
    run's folder is not among them.

    Raises:
        UserError: no step can be read (says what converts them), or one holds two models.
    """
    readable: list[Path] = []
    sharded: list[str] = []
    numbered = steps(run)
    for same in numbered:
        # A converted folder and its shards have one number.
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
    """The model of a run's highest step, or of a step's own folder; None where there is none.

    Raises:
        UserError: its weights are in shards (says what converts them), or it holds two models.
    """
    folders = [run] if step_of(run) is not None else []
    if numbered := steps(run):
        folders = numbered[-1]
    models = [model for folder in folders for model in models_in(folder)]
    if folders and not models and (how := conversion(folders[0])):
        raise UserError(how)
    return models[0] if models else None


def models_in(step: Path) -> list[Path]:
    """The model in a step's folder: that folder itself, or one that a trainer made in it; none
    where there is none.

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
            f"{step} holds {len(models)} models ({names}): give the folder of the one that is meant"
        )
    return models


def conversion(step: Path) -> str | None:
    """What is told of a step's folder that holds weights in shards; None of any other."""
    for pattern, how in CONVERTED_BY.items():
        if any(step.glob(pattern)):
            return (
                f"{step} holds weights in shards and no Hugging Face folder; convert it by "
                f"{how.format(step)}"
            )
    return None


def recorded_step(folder: Path) -> int | None:
    """The step that transformers' trainer_state.json in a folder records; None where it records
    none."""
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
