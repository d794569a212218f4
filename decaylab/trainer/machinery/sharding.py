"""A student with layers sharded over processes, by torch's `fully_shard` (FSDP2).

Each decoder layer is a group: a process stores its shard of the layer's weights, gathers the whole
layer for its pass, and releases it. Embeddings, final norm, output head and adapters are whole in
every process, so head and loss work as in one process. Gradients are sums over processes, as
everywhere in the trainer, not means.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from decaylab.errors import UserError

INSTEAD = (
    "write distributed_type: MULTI_GPU, or FSDP with fsdp_version: 2, into the launcher's "
    "file (docs/train.md)"
)
OFF = ("", "false")
# Launcher settings that the trainer does not support: when they matter (number of processes, or
# shards), the environment variable, its allowed values, and the message.
ALWAYS, SEVERAL, SHARDS = range(3)
REFUSED = (
    (ALWAYS, "ACCELERATE_USE_DEEPSPEED", OFF, f"DeepSpeed is not supported: {INSTEAD}"),
    (ALWAYS, "ACCELERATE_USE_MEGATRON_LM", OFF, f"Megatron-LM is not supported: {INSTEAD}"),
    (
        ALWAYS,
        "ACCELERATE_USE_PARALLELISM_CONFIG",
        OFF,
        f"parallelism_config is not supported: {INSTEAD}",
    ),
    (
        SEVERAL,
        "ACCELERATE_MIXED_PRECISION",
        ("", "no"),
        "mixed_precision of the launcher is not supported: write mixed_precision: 'no', and use "
        "--autocast bfloat16",
    ),
    (
        SHARDS,
        "FSDP_VERSION",
        ("2",),
        "only FSDP version 2 is supported: write fsdp_version: 2 under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_RESHARD_AFTER_FORWARD",
        ("", "true", "false"),
        "write fsdp_reshard_after_forward: true or false under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_OFFLOAD_PARAMS",
        OFF,
        "CPU offloading is not supported: write fsdp_offload_params: false under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_CPU_RAM_EFFICIENT_LOADING",
        OFF,
        "every process reads the weights itself: write fsdp_cpu_ram_efficient_loading: false "
        "under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_ACTIVATION_CHECKPOINTING",
        OFF,
        "write fsdp_activation_checkpointing: false under fsdp_config, and use "
        "--gradient-checkpointing",
    ),
    (
        SHARDS,
        "FSDP_IGNORED_MODULES",
        ("",),
        "remove fsdp_ignored_modules from fsdp_config: whole layers are sharded",
    ),
    (
        SHARDS,
        "FSDP_AUTO_WRAP_POLICY",
        ("", "transformer_based_wrap"),
        "only layers are sharded: write fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP under "
        "fsdp_config",
    ),
)


def processes() -> int:
    """Number of processes started by the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def asked_for() -> bool:
    """Whether the launcher requests sharded weights, by the variables that accelerate sets.

    Raises:
        UserError: a setting is not supported; the message states what to write into its file.
    """
    several = processes() > 1
    sharded = several and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    for when, variable, allowed, message in REFUSED:
        applies = when == ALWAYS or (several if when == SEVERAL else sharded)
        if applies and os.environ.get(variable, "").lower() not in allowed:
            raise UserError(message)
    return sharded


class Shards:
    """The sharded layers of a student, and gathering them."""

    def __init__(self, model: Any, name: str, mesh: DeviceMesh, adapted: bool) -> None:
        """Shards the layers of a model in place; each process then has a part of each weight.

        name: of the student, for errors. adapted: whether adapters are trained, which stay whole.

        Raises:
            UserError: the model declares no layers.
        """
        body = model.base_model
        named = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP")
        named = named or ",".join(model._no_split_modules or ())
        kinds = {kind.strip() for kind in named.split(",")}
        layers: list[Any] = [module for module in body.modules() if type(module).__name__ in kinds]
        # Innermost first: an outer layer skips what an inner one has sharded.
        self.layers = layers[::-1]
        if not self.layers:
            raise UserError(
                f"{name} has no layers to shard ({named or 'none declared'}); train it without FSDP"
            )
        reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
        earlier = {id(hook) for hooks in _hooks([*self.layers, body]) for hook in hooks.values()}
        for layer in self.layers:
            whole = {weight for weight in layer.parameters() if adapted and weight.requires_grad}
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard, ignored_params=whole)
            layer.set_gradient_divide_factor(1.0)  # a sum; torch's default is the mean
            layer.set_force_sum_reduction_for_comms(True)  # gloo supports no other
        # The body comes last, with nothing left to shard; it connects the layers.
        whole = {weight for weight in body.parameters() if not isinstance(weight, DTensor)}
        fully_shard(body, mesh=mesh, ignored_params=whole)
        self.hooks = [
            (hooks, key)
            for hooks in _hooks([*self.layers, body])
            for key, hook in hooks.items()
            if id(hook) not in earlier
        ]

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Gives every process the whole student within the block, without synchronisation.

        FSDP's hooks are off: they count forward passes to prefetch in the next backward pass, where
        processes would then deadlock.
        """
        for layer in self.layers:
            layer.unshard()
        off = [(hooks, key, hooks.pop(key)) for hooks, key in self.hooks]
        try:
            yield
        finally:
            for hooks, key, hook in off:
                hooks[key] = hook
                hooks.move_to_end(key, last=False)
            for layer in self.layers:
                layer.reshard()


def _hooks(modules: Iterable[Any]) -> Iterator[OrderedDict[int, Any]]:
    """The hooks before and after each module's forward, to be changed in place."""
    for module in modules:
        yield module._forward_pre_hooks
        yield module._forward_hooks


def own_part(tensor: Tensor) -> Tensor:
    """This process's part of a tensor as a view, or the whole tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(whole: Tensor, weight: Tensor) -> Tensor:
    """A tensor that every process has whole, moved to the weight's device and sharded like it."""
    whole = whole.to(weight.device)
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def gather(tensors: Iterable[tuple[str, Tensor]], keep: bool = True) -> dict[str, Tensor]:
    """The whole tensors by name; sharded ones are gathered on the CPU.

    keep: False takes part in gathering without keeping the tensors.
    """
    gathered = {}
    for name, tensor in tensors:
        whole = tensor.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()
            whole = whole.cpu() if keep else whole
        if keep:
            gathered[name] = whole.contiguous()
    return gathered


def by_kind(weights: Iterable[Tensor]) -> list[list[Tensor]]:
    """Whole and sharded weights, separately, since optimizers and norms accept no mixed list."""
    kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
    for weight in weights:
        kinds[isinstance(weight, DTensor)].append(weight)
    return [kind for kind in kinds if kind]


def clip(weights: Sequence[Tensor], limit: float) -> float:
    """Scales gradients to a common norm of at most the limit.

    Returns:
        The norm before scaling, each weight counted once.
    """
    if not any(isinstance(weight, DTensor) for weight in weights):
        return float(torch.nn.utils.clip_grad_norm_(weights, limit))
    gradients = [own_part(weight.grad) for weight in weights if weight.grad is not None]
    square = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    for kind in by_kind(weights):
        squares = sum(
            own_part(weight.grad).double().square().sum()
            for weight in kind
            if weight.grad is not None
        )
        # Whole gradients are the same in every process and counted once.
        if isinstance(kind[0], DTensor):
            torch.distributed.all_reduce(squares, group=kind[0].device_mesh.get_group())
        square += squares
    norm = float(square.sqrt())
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm
