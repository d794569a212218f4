"""The content hash of a policy in memory: weights, settings that change them, and tokenizer.

A model in training changes between two calls, so the hash is computed at each call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from decaylab.errors import UserError
from decaylab.policies import adapter_loading
from decaylab.policies.model_loading import first_line

if TYPE_CHECKING:
    from torch import Tensor

WITHOUT_EFFECT = (
    *("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"),
    *("use_cache", "pad_token_id"),
)
"""Settings of a configuration that trainers change and that change no logit."""
STATE_OF_CALLS = ("truncation", "padding")
"""Parts of a fast tokenizer that its calls set, and that each call here sets anew."""


def content_hash(model: Any, tokenizer: Any) -> str:
    """SHA-256 over what a model in memory computes with, and its tokenizer.

    Covers parameters and buffers with their precision, class, configuration, end-of-turn ids, and
    which adapters are active and how they are scaled. It cannot see a ``forward`` that was replaced
    by hand. Takes about a second per GB.

    Raises:
        UserError: a tensor whose bytes cannot be read.
    """
    digest = hashlib.sha256()
    kind = type(model)
    generation = getattr(model, "generation_config", None)
    settings = [
        f"{kind.__module__}.{kind.__qualname__}",
        _settings(model.config),
        getattr(generation, "eos_token_id", None),
        list(_adapters(model)),
        _tokenizer(tokenizer),
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=as_json).encode())
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in _tensors(model):
        place = tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
        # Tied weights are read once.
        known = seen.setdefault(place, name) if tensor.numel() else name
        digest.update(f"{name} {known} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if known == name:
            digest.update(_bytes(name, tensor))
    return digest.hexdigest()


def as_json(value: Any) -> Any:
    """A value of a configuration as JSON, the same in every process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name. Non-persistent buffers count too, such as the frequencies of
    rotary embeddings, which a cast of the whole model rounds."""
    held = dict(model.named_parameters(remove_duplicate=False))
    held |= dict(model.named_buffers(remove_duplicate=False))
    # Quantised layers store their scales only here.
    import torch

    held |= {
        name: value
        for name, value in model.state_dict().items()
        if name not in held and isinstance(value, torch.Tensor)
    }
    yield from sorted(held.items())


def _bytes(name: str, tensor: Tensor) -> memoryview:
    """A tensor's bytes, copied to the host one tensor at a time."""
    import torch

    try:
        flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        return flat.numpy().data
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read the weights of a loaded model ({name}: {first_line(error)}); save it and "
            "give its folder"
        ) from error


def _settings(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in WITHOUT_EFFECT}


def _adapters(model: Any) -> Iterator[Any]:
    """The state of adapters that is not in their weights, layer by layer."""
    for layer in adapter_loading.tuner_layers(model):
        yield [
            type(layer).__name__,
            list(layer.active_adapters),
            bool(layer.disable_adapters),
            list(getattr(layer, "merged_adapters", ())),
            sorted(getattr(layer, "scaling", {}).items()),
        ]
    for name, config in sorted((getattr(model, "peft_config", None) or {}).items()):
        yield [name, config.to_dict()]


def _tokenizer(tokenizer: Any) -> list[Any]:
    """What a tokenizer encodes and renders with."""
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    rules: Any = [sorted(tokenizer.get_vocab().items()), sorted(tokenizer.get_added_vocab())]
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        rules = {name: part for name, part in state.items() if name not in STATE_OF_CALLS}
    return [type(tokenizer).__name__, tokenizer.chat_template, ends, rules]
