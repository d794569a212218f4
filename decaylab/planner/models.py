"""A policy's model as its config.json describes it: parameters, cache and what its passes hold,
without any weights.

The model is built on torch's meta device, where tensors have shapes and no values, and run there as
the library runs it. So whatever an architecture does, its numbers are its own and not those of a
formula for another one.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import torch

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.planner.tracing import LiveBytes, counted_attention
from decaylab.policies import loading
from decaylab.rollouts.cache import GrowingCache
from decaylab.trainer.machinery.adapters import Trainable

Found = TypeVar("Found")
UNTRACEABLE = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class Source:
    """Where a model is described. name: as it was said; an adapter is described by its base."""

    name: str
    path: Path | str
    revision: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def of(cls, name: str, revision: str | None, trust_remote_code: bool) -> Source:
        """Raises UserError where a name means no model."""
        plain = loading.chain(name, revision)[-1]
        return cls(name, plain.path, plain.revision, trust_remote_code)

    @property
    def is_adapter(self) -> bool:
        return len(loading.chain(self.name)) > 1


def dtype_of(source: Source, name: str, kind: str) -> torch.dtype:
    """The precision that a policy is loaded in: on a GPU auto is its own, on a CPU float32."""
    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    own = getattr(config_of(source).get_text_config(), "dtype", None) or getattr(
        config_of(source), "dtype", None
    )
    return own if kind == "cuda" and isinstance(own, torch.dtype) else torch.float32


def own_dtype(source: Source) -> torch.dtype:
    """What the weights on disk have, by the configuration."""
    return dtype_of(source, "auto", "cuda")


def is_quantised(source: Source) -> bool:
    return getattr(config_of(source), "quantization_config", None) is not None


@functools.cache
def config_of(source: Source) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
        remedy = (
            ""
            if isinstance(source.path, Path)
            else "; without the hub give a folder that holds its config.json"
        )
        raise UserError(
            f"cannot read the configuration of {source.name}: {told(error)}{remedy}"
        ) from error


def build(source: Source, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config_of(source))  # building writes into it
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=dtype, trust_remote_code=source.trust_remote_code
            )
    except (ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(
            f"no model can be built from the configuration of {source.name}: {told(error)}"
        ) from error
    return model.eval()


def told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class Pass:
    """Bytes of a pass beside the weights. held: when it has given its states, which are among them;
    peak: the most at any time, of the way back too where there is one."""

    held: int
    peak: int


@dataclass(frozen=True)
class Trained:
    """Bytes of what is trained.

    weights: that are trained; adapters: those of LoRA, which come on top of the student's. merged:
    weights that adapters are merged into while sampling, largest_merged the largest of those.
    layers: weights in the layers that FSDP shares out, without adapters, largest_layer the largest
    of those; trained_layers:
    those of them that are trained.
    """

    weights: int
    adapters: int
    merged: int
    largest_merged: int
    largest_weight: int
    layers: int
    largest_layer: int
    trained_layers: int


class Outline:
    """A policy's model without weights, in one precision."""

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self.source, self.name, self.dtype = source, source.name, dtype
        self.config = config_of(source)
        self.model: Any = build(source, dtype)
        weights = list(self.model.parameters())  # tied ones once
        self.parameters = sum(one.numel() for one in weights)
        self.weight_bytes = sum(one.numel() * one.element_size() for one in weights)
        self.head_width = int(self.model.get_output_embeddings().weight.shape[0])
        text = self.config.get_text_config()
        self.width = int(text.hidden_size)
        self.cache_heads = int(
            getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        )
        self.context_length = int(getattr(text, "max_position_embeddings", None) or 10**9)

    @functools.cached_property
    def cache(self) -> tuple[int, ...]:
        """Bytes of keys and values of one token, by layer: those that the model writes into a real
        cache.

        Raises:
            UserError: the model keeps something else than keys and values.
        """

        def run(model: Any) -> tuple[int, ...]:
            cache = GrowingCache()
            with torch.inference_mode(), LiveBytes():
                _fill(model, cache, 1, 2)
            layers = [(layer.keys, layer.values) for layer in cast(list[Any], cache.layers)]
            return tuple(int(sum(one[:, :, 0].numel() for one in pair)) for pair in layers)

        return tuple(self.dtype.itemsize * elements for elements in self._counted("the cache", run))

    @property
    def cache_per_token(self) -> int:
        return sum(self.cache)

    @functools.cache  # noqa: B019  (an outline lives as long as its plan)
    def reading(self, rows: int, time: int) -> Pass:
        """One pass over so many tokens without gradients, as scoring and a decoding step make
        them."""

        def run(model: Any) -> Pass:
            with counted_attention(), torch.inference_mode(), LiveBytes(_tensors(model)) as live:
                states = model.base_model(
                    input_ids=_ids(rows, time), use_cache=False
                ).last_hidden_state
                held = live.now
                del states
            return Pass(held, live.peak)

        return self._passed(run)

    @functools.cache  # noqa: B019
    def prefill(
        self, prompts: int, prompt_tokens: int, families: int, prefix_tokens: int, rows: int
    ) -> Pass:
        """The engine's prefill: prompts once each, prefixes behind them, then the rows that are
        decoded. Held: the cache."""

        def run(model: Any) -> Pass:
            cache = GrowingCache()
            with (
                counted_attention(),
                torch.inference_mode(),
                LiveBytes(_tensors(model), answer=False) as live,
            ):
                _fill(model, cache, prompts, prompt_tokens)
                if prefix_tokens:
                    cache.keep(torch.zeros(families, dtype=torch.long, device="meta"), 0)
                    _fill(model, cache, families, prefix_tokens, behind=prompt_tokens)
                width = prompt_tokens + prefix_tokens - 1
                places = torch.zeros(rows, dtype=torch.long, device="meta")
                if width > 0:
                    cache.align(places, places, width)
            return Pass(live.now, live.peak)

        return self._passed(run)

    def _passed(self, run: Callable[[Any], Pass]) -> Pass:
        try:
            return self._counted("what is held in a pass", run)
        except UserError:
            if self.dtype.itemsize == 2:
                raise
            # Mixtures of experts run on the meta device in 16 bits alone.
            found, wider = (
                outline(self.source, torch.bfloat16)._passed(run),
                self.dtype.itemsize // 2,
            )
            return Pass(found.held * wider, found.peak * wider)

    def _counted(self, what: str, run: Callable[[Any], Found]) -> Found:
        """What a run of the model on the meta device finds.

        Raises:
            UserError: the model does not run there, or not as the library runs it.
        """
        try:
            return run(self.model)
        except UNTRACEABLE as error:
            raise UserError(
                f"{what} of {self.name} ({type(self.model).__name__}) cannot be counted from its "
                f"configuration: {told(error)}"
            ) from error


class TrainedOutline:
    """A student's outline with what of it is trained, as `decaylab train` prepares it."""

    def __init__(self, outline: Outline, options: TrainOptions) -> None:
        self.outline, self.options = outline, options
        self.model = build(outline.source, outline.dtype)
        policy: Any = SimpleNamespace(
            weights=self.model,
            name=outline.name,
            identity=SimpleNamespace(source="adapter" if outline.source.is_adapter else "folder"),
        )
        random = torch.get_rng_state()
        with torch.device("meta"):
            self.trainable = Trainable(policy, options)
        torch.set_rng_state(random)

    @property
    def trained(self) -> Trained:
        weights = list(self.trainable.parameters.values())
        own = [layer.get_base_layer().weight for layer in self.trainable.layers]
        merged = [_size(one) for one in own if one.dtype in (torch.float32, torch.float64)]
        adapters = set() if self.options.full_finetune else set(weights)
        groups = [
            [one for one in layer.parameters() if one not in adapters] for layer in self._layers()
        ]
        total = sum(map(_size, weights))
        return Trained(
            weights=total,
            adapters=0 if self.options.full_finetune else total,
            merged=sum(merged),
            largest_merged=max(merged, default=0),
            largest_weight=max(map(_size, weights)),
            layers=sum(_size(one) for group in groups for one in group),
            largest_layer=max((sum(map(_size, group)) for group in groups), default=0),
            trained_layers=sum(
                _size(one) for group in groups for one in group if one.requires_grad
            ),
        )

    def _layers(self) -> list[Any]:
        """What `trainer.sharding` shards: the modules that the model says must not be split."""
        kinds = set(self.model._no_split_modules or ())
        return [one for one in self.model.base_model.modules() if type(one).__name__ in kinds]

    @functools.cache  # noqa: B019
    def pass_and_back(self, rows: int, time: int) -> Pass:
        """The student's pass with its way back; gradients of parameters are there already and not
        among the bytes."""
        weights = list(self.trainable.parameters.values())
        for one in weights:
            one.grad = torch.zeros_like(one)
        gradients = [one.grad for one in weights if one.grad is not None]
        self.model.train(self.options.gradient_checkpointing)
        with counted_attention(), LiveBytes([*_tensors(self.model), *gradients]) as live:
            try:
                states = self.model.base_model(
                    input_ids=_ids(rows, time), use_cache=False
                ).last_hidden_state
                held = live.now
                torch.autograd.backward(states, torch.empty_like(states))
            except UNTRACEABLE as error:
                raise UserError(
                    f"what the training of {self.outline.name} holds cannot be counted: "
                    f"{told(error)}; --dtype bfloat16 may do"
                ) from error
        return Pass(held + self._casts, live.peak + self._casts)

    @property
    def _casts(self) -> int:
        """Copies in 16 bits of the weights that autocast passes through, kept for the way back.
        (The activations of such a pass are counted in float32, which is more than they take.)"""
        if self.options.autocast == "off":
            return 0
        return 2 * sum(
            one.weight.numel() for one in self.model.modules() if isinstance(one, torch.nn.Linear)
        )


@functools.cache
def outline(source: Source, dtype: torch.dtype) -> Outline:
    """The outline of a model; counted once, however many phases ask."""
    return Outline(source, dtype)


@functools.cache
def trained_outline(source: Source, dtype: torch.dtype, **choices: Any) -> TrainedOutline:
    """choices: options of training that the model as it is trained depends on."""
    return TrainedOutline(outline(source, dtype), TrainOptions(**choices))


def _fill(model: Any, cache: GrowingCache, rows: int, time: int, behind: int = 0) -> None:
    """As the engine fills it: a mask, own positions, the head at one of them."""
    ids = _ids(rows, time)
    with counted_attention():
        model(
            input_ids=ids,
            attention_mask=torch.ones(rows, behind + time, dtype=torch.long, device="meta"),
            position_ids=torch.zeros_like(ids),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )


def _tensors(model: Any) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _ids(rows: int, time: int) -> torch.Tensor:
    return torch.zeros(rows, time, dtype=torch.long, device="meta")


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
