"""A student whose layers are shared out over processes, by torch's `fully_shard` (FSDP2).

Each decoder layer is a group: a process keeps its part of the layer's weights, gathers the whole
for the layer's pass, and lets it go. Embeddings, final norm, output head and adapters stay whole
everywhere, so that the head is applied, and the loss taken, as in one process. Gradients are sums
over processes, as everywhere in the trainer, and not means.
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
# What a launcher's file sets and the trainer cannot do: from how many processes on, or with shards;
# the variable, the values it may have, and what to write instead.
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
        "mixed_precision of the launcher is not used: write mixed_precision: 'no', and say "
        "--autocast bfloat16",
    ),
    (
        SHARDS,
        "FSDP_VERSION",
        ("2",),
        "FSDP is supported in version 2 only: write fsdp_version: 2 under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_RESHARD_AFTER_FORWARD",
        ("", "true", "false"),
        "write fsdp_reshard_after_forward: true, or false, under fsdp_config",
    ),
    (
        SHARDS,
        "FSDP_OFFLOAD_PARAMS",
        OFF,
        "weights are not kept on the CPU: write fsdp_offload_params: false under fsdp_config",
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
        "write fsdp_activation_checkpointing: false under fsdp_config, and say "
        "--gradient-checkpointing",
    ),
    (
        SHARDS,
        "FSDP_IGNORED_MODULES",
        ("",),
        "take fsdp_ignored_modules out of fsdp_config: layers are sharded whole",
    ),
    (
        SHARDS,
        "FSDP_AUTO_WRAP_POLICY",
        ("", "transformer_based_wrap"),
        "layers are what is sharded: write fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP under "
        "fsdp_config",
    ),
)


def processes() -> int:
    """How many the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def asked_for() -> bool:
    """Whether the launcher asks for sharded weights, by the variables that accelerate sets.

    Raises:
        UserError: it asks for what the trainer cannot do; names what to write into its file.
    """
    several = processes() > 1
    sharded = several and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    for when, variable, allowed, message in REFUSED:
        applies = when == ALWAYS or (several if when == SEVERAL else sharded)
        if applies and os.environ.get(variable, "").lower() not in allowed:
            raise UserError(message)
    return sharded


class Shards:
    """The sharded layers of a student, and how they come together."""

    def __init__(self, model: Any, name: str, mesh: DeviceMesh, adapted: bool) -> None:
        """Shards the layers of a model in place; a process then has its part of each weight.

        name: of the student, for errors. adapted: what is trained are adapters, which stay whole.

        Raises:
            UserError: the model names none of its modules as a layer.
        """
        body = model.base_model
        named = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP")
        named = named or ",".join(model._no_split_modules or ())
        kinds = {kind.strip() for kind in named.split(",")}
        layers: list[Any] = [module for module in body.modules() if type(module).__name__ in kinds]
        # Innermost first: what an inner layer has taken, an outer one leaves alone.
        self.layers = layers[::-1]
        if not self.layers:
            raise UserError(
                f"{name} has no layers to shard ({named or 'it names none'}); train it without FSDP"
            )
        reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
        earlier = {id(hook) for hooks in _hooks([*self.layers, body]) for hook in hooks.values()}
        for layer in self.layers:
            whole = {weight for weight in layer.parameters() if adapted and weight.requires_grad}
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard, ignored_params=whole)
            layer.set_gradient_divide_factor(1.0)  # a sum; torch's own choice is the mean
            layer.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        # The body comes last and has nothing left to shard: its layers learn of each other by it.
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
        """Every process has the whole student for as long as the block lasts, at its own pace.

        FSDP's hooks are off: they count the passes forward, to gather ahead in the next pass back,
        where processes would then wait for each other in vain.
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
    """What is called before and after each module's forward, to be changed in place."""
    for module in modules:
        yield module._forward_pre_hooks
        yield module._forward_hooks


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor: a view of its part, or the whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(whole: Tensor, weight: Tensor) -> Tensor:
    """A tensor that every process has whole, on the weight's device and in parts as it is."""
    whole = whole.to(weight.device)
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def gather(tensors: Iterable[tuple[str, Tensor]], keep: bool = True) -> dict[str, Tensor]:
    """The tensors whole, by name; those that were in parts, on the CPU.

    keep: False takes part and keeps none.
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
    """Whole weights, and those in parts: optimizers and norms take no mixed list."""
    kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
    for weight in weights:
        kinds[isinstance(weight, DTensor)].append(weight)
    return [kind for kind in kinds if kind]


def clip(weights: Sequence[Tensor], limit: float) -> float:
    """Scales gradients to a common norm of at most the limit.

    Returns:
        The norm that they had, each weight counted once.
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
        # Whole gradients are the same everywhere, and counted as they are.
        if isinstance(kind[0], DTensor):
            torch.distributed.all_reduce(squares, group=kind[0].device_mesh.get_group())
        square += squares
    norm = float(square.sqrt())
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm
