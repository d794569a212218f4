"""The trained weights of a student, LoRA on its linear layers or all weights, and saving them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.policies.adapter_loading import activate, kept_adapters, only_lora, tuner_layers
from decaylab.policies.embedded import EMBEDDED
from decaylab.policies.loading import resolve
from decaylab.policies.policy import Policy
from decaylab.trainer.machinery.sharding import Shards, gather

TRAINED = "default"
"""PEFT's name for the trained adapter; adapters kept by the student have other names."""


class Trainable:
    """A student with its trained weights.

    parameters: the trained weights by name, in the model's order. model: the model to run, adapters
    included. shards: its layers, if sharded over processes; None if each process has all. kept:
    labels of the student's own unmerged adapters (`adapter_loading`), which are not changed.

    Raises:
        UserError: a student with kept adapters cannot be trained this way, targets match no layer,
            or a target has tied weights.
    """

    def __init__(self, student: Policy, options: TrainOptions) -> None:
        self.student, self.model = student, student.weights
        self.kept = kept_adapters(student.weights)
        if tuner_layers(student.weights) and (
            options.full_finetune or not only_lora(student.weights)
        ):
            raise UserError(
                f"--student {student.name} is an adapter that cannot be merged into its "
                f"{student.weights.dtype} weights; such a student can only be trained with LoRA, "
                "and only if it is a plain LoRA itself: use --dtype float32"
            )
        self.adapter: Any = None if options.full_finetune else _adapted(student, options)
        if self.adapter is None:
            self.model.requires_grad_(True)
        self.shards: Shards | None = None
        self.parameters = self._trained()
        if options.gradient_checkpointing:
            self._checkpoint_gradients()

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards the layers over processes; this replaces the parameter tensors.

        Raises:
            UserError: the student has no layers to shard.
        """
        self.shards = Shards(self.model, self.student.name, mesh, self.adapter is not None)
        self.parameters = self._trained()

    @property
    def layers(self) -> list[Any]:
        """The layers with an adapter, kept adapters included."""
        return [module for module in self.model.modules() if hasattr(module, "merged_adapters")]

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merges adapters into the weights within the block, to sample at the plain model's speed.

        Meanwhile every process holds the whole of a sharded student. The weights are saved and
        restored exactly. Adapters are not merged into 16-bit weights, which would round small
        adapters away, so that another policy would write the rollouts.
        """
        with self.shards.gathered() if self.shards else nullcontext(), self._merged():
            yield

    @contextmanager
    def _merged(self) -> Iterator[None]:
        weights = [(layer, layer.get_base_layer().weight.data) for layer in self.layers]
        wide = (torch.float32, torch.float64)
        aside = [(layer, weight) for layer, weight in weights if weight.dtype in wide]
        try:
            with torch.no_grad():
                for layer, weight in aside:
                    total = sum(layer.get_delta_weight(name) for name in layer.active_adapters)
                    layer.get_base_layer().weight.data = weight + total.to(weight.dtype)
                    layer.merged_adapters.extend(layer.active_adapters)
            yield
        finally:
            for layer, weight in aside:
                layer.get_base_layer().weight.data = weight
                layer.merged_adapters.clear()

    def save(self, folder: Path, card: str, keep: bool = True) -> None:
        """Writes a PEFT adapter or a model folder with tokenizer and card, atomically.

        keep: whether this process writes it; all processes gather sharded weights.
        """
        state = None
        if self.shards is not None and self.adapter is None:
            state = gather(self.model.state_dict().items(), keep)
        if not keep:
            return
        scratch = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        if self.adapter is None:
            self.model.save_pretrained(scratch, state_dict=state)
        else:
            # PEFT would query the hub whether to save embeddings.
            self.adapter.save_pretrained(scratch, save_embedding_layers=False)
        self.student.tokenizer.save_pretrained(scratch)
        (scratch / "README.md").write_text(card, encoding="utf-8")
        # A killed process leaves a complete checkpoint or none.
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)

    def _trained(self) -> dict[str, Tensor]:
        return {
            name: weight for name, weight in self.model.named_parameters() if weight.requires_grad
        }

    def _checkpoint_gradients(self) -> None:
        """Recomputes activations instead of storing them.

        This needs a model in training mode, without dropout.
        """
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name, value in vars(module).items():
                # Attention and layer dropout are plain numbers.
                if "drop" in name and isinstance(value, float):
                    setattr(module, name, 0.0)
        model: Any = self.model
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _adapted(student: Policy, options: TrainOptions) -> Any:
    from peft import LoraConfig, get_peft_model

    kept = kept_adapters(student.weights)
    names = [name.strip() for name in options.lora_targets.split(",") if name.strip()]
    every = options.lora_targets == "all-linear"
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules=options.lora_targets if every else names,
        lora_dropout=0.0,
    )
    # Only the adapters' initial values are drawn by torch.
    torch.manual_seed(options.seed)
    student.weights.requires_grad_(False)
    try:
        adapted: Any = get_peft_model(student.weights, config)
    except ValueError as error:
        raise UserError(
            f"--lora-targets {options.lora_targets} matches no layer of {student.name} that can "
            f"have an adapter: {_leaves(student)}"
        ) from error
    _check_adapted(student, options, [] if every else names)
    if isinstance(config.target_modules, set):  # its order differs between processes
        config.target_modules = sorted(config.target_modules)
    config.base_model_name_or_path, config.revision = _name_of(student), options.student_revision
    if kept:
        activate(student.weights, (*kept, TRAINED))
        for name, weight in student.weights.named_parameters():
            weight.requires_grad_(f".{TRAINED}." in name)
    return adapted


def _name_of(student: Policy) -> str:
    """The base name stored with the adapters.

    For a run folder this is the loaded checkpoint, since later ones may follow.
    """
    folder = Path(student.name).expanduser()
    if student.name in EMBEDDED or not folder.is_dir():
        return student.name
    resolved = resolve(student.name)
    return student.name if folder == resolved else str(resolved)


def _check_adapted(student: Policy, options: TrainOptions, targets: list[str]) -> None:
    """Raises UserError if a target matches nothing, or a layer shares its weights with another."""
    layers = {}
    for name, module in student.weights.named_modules():
        if hasattr(module, "merged_adapters") and TRAINED in module._all_available_adapter_names():
            layers[name] = module
    ends = tuple(f".{name}" for name in layers)
    missed = [name for name in targets if not any(end.endswith(f".{name}") for end in ends)]
    if missed:
        raise UserError(
            f"--lora-targets {options.lora_targets}: {', '.join(missed)} matches no layer of "
            f"{student.name}: {_leaves(student)}"
        )
    modules = student.weights.modules()
    owners = Counter(
        id(weight) for module in modules for weight in module.parameters(recurse=False)
    )
    for name, layer in layers.items():
        if owners[id(layer.get_base_layer().weight)] > 1:
            raise UserError(
                f"--lora-targets {options.lora_targets}: {name} of {student.name} shares its "
                "weights with another layer, which a merged adapter would change too; leave it out"
            )


def _leaves(student: Policy) -> str:
    """The possible names of targets."""
    names = set()
    for name, module in student.weights.named_modules():
        if ".lora_" not in name and isinstance(module, torch.nn.Linear):
            names.add(name.removesuffix(".base_layer").split(".")[-1])
    return f"its linear layers are {', '.join(sorted(names)) or 'none'}"
