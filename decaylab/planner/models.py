"""Parameters, cache and activations of a model, from its config.json without weights.

The model is built and run on torch's meta device, where tensors have shapes but no values. So the
numbers come from the real architecture, not from a formula.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.planner.tracing import LiveBytes, counted_attention
from decaylab.policies import loading
from decaylab.policies.model_loading import first_line
from decaylab.rollouts.cache import GrowingCache, cache_argument
from decaylab.trainer.machinery.adapters import Trainable

Counted = TypeVar("Counted")
# Raised by transformers and torch for an unknown configuration, or a model that needs values to
# run.
UNDESCRIBED = (
    OSError,
    RuntimeError,  # NotImplementedError is one
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ImportError,
)


@dataclass(frozen=True)
class Source:
    """Where a model's configuration is; for an adapter, that of the plain model below it."""

    name: str
    path: Path | str
    revision: str | None = None
    trust_remote_code: bool = False
    is_adapter: bool = False

    @classmethod
    def of(cls, name: str, revision: str | None, trust_remote_code: bool) -> Source:
        """The source of a policy name. Raises UserError for an unknown name."""
        links = loading.chain(name, revision)
        plain = links[-1]
        return cls(name, plain.path, plain.revision, trust_remote_code, len(links) > 1)


def dtype_of(source: Source, name: str, kind: str) -> torch.dtype:
    """The precision of a policy; auto is the checkpoint's own on a GPU, and float32 on a CPU."""
    if name != "auto":
        stated: torch.dtype = getattr(torch, name)
        return stated
    config = config_of(source)
    recorded = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return recorded if kind == "cuda" and isinstance(recorded, torch.dtype) else torch.float32


@functools.cache
def config_of(source: Source) -> Any:
    """The model's configuration. Raises UserError if transformers cannot read it."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except UNDESCRIBED as error:
        remedy = "; if the hub is not reachable, give a folder with its config.json"
        if isinstance(source.path, Path):
            remedy = ""
        raise UserError(
            f"cannot read the configuration of {source.name}: {first_line(error)}{remedy}"
        ) from error


def build(source: Source, dtype: torch.dtype) -> Any:
    """The model on the meta device.

    Raises:
        UserError: the configuration is not that of a causal language model.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config_of(source))  # building changes it
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=dtype, trust_remote_code=source.trust_remote_code
            )
    except UNDESCRIBED as error:
        raise UserError(
            f"no model can be built from the configuration of {source.name}: {first_line(error)}"
        ) from error
    return model.eval()


@dataclass(frozen=True)
class Pass:
    """Bytes of a pass, besides the weights.

    held: at the end of the forward pass, with its output states. peak: at any time, including a
    backward pass if there is one.
    """

    held: int
    peak: int


class Outline:
    """A policy's model without weights, in one precision."""

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self.source, self.name, self.dtype = source, source.name, dtype
        self.config = config_of(source)
        self.model: Any = build(source, dtype)
        weights = list(self.model.parameters())  # tied weights come once
        self.parameters = sum(weight.numel() for weight in weights)
        self.weight_bytes = size(weights)
        self.head_width = int(self.model.get_output_embeddings().weight.shape[0])
        text = self.config.get_text_config()
        self.width = int(text.hidden_size)
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        self.cache_heads = int(heads)
        self.context_length = int(getattr(text, "max_position_embeddings", None) or 10**9)

    @functools.cached_property
    def cache(self) -> tuple[int, ...]:
        """Bytes of one token's keys and values, by layer, as the model caches them.

        Raises:
            UserError: the model caches something other than keys and values.
        """

        def run(model: Any) -> tuple[int, ...]:
            cache = GrowingCache()
            ids = _ids(1, 2)
            with torch.inference_mode(), counted_attention(), LiveBytes():
                model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    position_ids=torch.zeros_like(ids),
                    **cache_argument(model, cache),
                    use_cache=True,
                    logits_to_keep=1,
                )
            layers: list[Any] = list(cache.layers)
            return tuple(size([layer.keys[:, :, 0], layer.values[:, :, 0]]) for layer in layers)

        return self._counted("the cache", run)

    @property
    def cache_per_token(self) -> int:
        return sum(self.cache)

    @functools.cache  # noqa: B019  (an outline lives as long as its plan)
    def reading(self, rows: int, time: int) -> Pass:
        """One pass over rows x time tokens without gradients: scoring, prefill, a decoding step."""

        def run(model: Any) -> Pass:
            with counted_attention(), torch.inference_mode(), LiveBytes(_tensors(model)) as live:
                states = model.base_model(input_ids=_ids(rows, time), use_cache=False)[0]
                held = live.now
                del states
            return Pass(held, live.peak)

        try:
            return self._counted("the memory of a pass", run)
        except UserError:
            if self.dtype.itemsize == 2:
                raise
            # Mixtures of experts run on the meta device in 16 bits only.
            narrow = outline(self.source, torch.bfloat16).reading(rows, time)
            times = self.dtype.itemsize // 2
            return Pass(narrow.held * times, narrow.peak * times)

    def _counted(self, what: str, run: Callable[[Any], Counted]) -> Counted:
        """Runs the model on the meta device.

        Raises:
            UserError: the model does not run there.
        """
        try:
            return run(self.model)
        except UNDESCRIBED as error:
            raise UserError(
                f"{what} of {self.name} ({type(self.model).__name__}) cannot be counted from its "
                f"configuration: {first_line(error)}"
            ) from error


@dataclass(frozen=True)
class TrainedState:
    """Memory of one process for a student in training, in bytes.

    Under FSDP each process keeps its shard of the decoder layers, their gradients and their
    moments; adapters, embeddings, norms and head are replicated.

    gathered_layers: during a pass, the current and the next full layer, and one full gradient.
    gathered_student: during sampling, all full layers, in addition to the shards. merged: weights
    with the adapters merged in, while sampling. largest: the largest trained weight.
    """

    weights: int
    adapters: int
    gradients: int
    gathered_layers: int
    gathered_student: int
    merged: int
    largest: int

    @property
    def optimizer(self) -> int:
        """Both moments of AdamW."""
        return 2 * self.gradients


class TrainedOutline:
    """A student's outline with its trained weights, prepared as in `decaylab train`."""

    def __init__(self, outline: Outline, options: TrainOptions) -> None:
        self.outline, self.options = outline, options
        self.model = build(outline.source, outline.dtype)
        kind = "adapter" if outline.source.is_adapter else "folder"
        policy: Any = SimpleNamespace(
            weights=self.model, name=outline.name, identity=SimpleNamespace(source=kind)
        )
        random = torch.get_rng_state()
        with torch.device("meta"):
            self.trainable = Trainable(policy, options)
        torch.set_rng_state(random)

    def state(self, parts: int) -> TrainedState:
        """Memory of one process. parts: processes that shard the layers; 1 without sharding."""
        trained = list(self.trainable.parameters.values())
        adapters = set() if self.options.full_finetune else set(trained)
        layers, trained_layers, largest_layer = 0, 0, 0
        for layer in self._layers():
            weights = [weight for weight in layer.parameters() if weight not in adapters]
            layers += size(weights)
            trained_layers += size(weight for weight in weights if weight.requires_grad)
            largest_layer = max(largest_layer, size(weights))
        bases = [layer.get_base_layer().weight for layer in self.trainable.layers]
        wide = [size([base]) for base in bases if base.dtype in (torch.float32, torch.float64)]
        shared = parts > 1
        whole_gradient = largest_layer if trained_layers else 0
        return TrainedState(
            weights=self.outline.weight_bytes - (layers - layers // parts),
            adapters=size(adapters),
            gradients=size(trained) - (trained_layers - trained_layers // parts),
            gathered_layers=shared * (2 * largest_layer + whole_gradient),
            gathered_student=shared * layers,
            # All merged weights, plus two temporaries of the largest.
            merged=sum(wide) + 2 * max(wide, default=0),
            largest=max(size([weight]) for weight in trained),
        )

    def _layers(self) -> list[Any]:
        """The modules that `trainer.machinery.sharding` shards as units."""
        kinds = set(self.model._no_split_modules or ())
        modules = self.model.base_model.modules()
        return [module for module in modules if type(module).__name__ in kinds]

    @functools.cache  # noqa: B019
    def pass_and_back(self, rows: int, time: int) -> Pass:
        """The student's forward and backward pass, without the gradients of weights.

        Raises:
            UserError: the model does not run on the meta device.
        """
        weights = list(self.trainable.parameters.values())
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self.model.train(self.options.gradient_checkpointing)
        with counted_attention(), LiveBytes([*_tensors(self.model), *gradients]) as live:
            try:
                states = self.model.base_model(input_ids=_ids(rows, time), use_cache=False)[0]
                held = live.now
                torch.autograd.backward(states, torch.empty_like(states))
            except UNDESCRIBED as error:
                raise UserError(
                    f"the training memory of {self.outline.name} cannot be counted: "
                    f"{first_line(error)}; try --dtype bfloat16"
                ) from error
        return Pass(held + self._casts, live.peak + self._casts)

    @property
    def _casts(self) -> int:
        """Bytes of autocast's 16-bit copies of the weights, kept for the backward pass.

        Activations under autocast are counted in float32, an overestimate.
        """
        if self.options.autocast == "off":
            return 0
        modules = self.model.modules()
        linear = [module for module in modules if isinstance(module, torch.nn.Linear)]
        return 2 * sum(module.weight.numel() for module in linear)


@functools.cache
def outline(source: Source, dtype: torch.dtype) -> Outline:
    """The outline of a model, cached for all phases."""
    return Outline(source, dtype)


@functools.cache
def trained_outline(source: Source, dtype: torch.dtype, **choices: Any) -> TrainedOutline:
    """The cached outline of a student in training. choices: training options it depends on."""
    return TrainedOutline(outline(source, dtype), TrainOptions(**choices))


def size(tensors: Any) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(model: Any) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _ids(rows: int, time: int) -> torch.Tensor:
    return torch.zeros(rows, time, dtype=torch.long, device="meta")
