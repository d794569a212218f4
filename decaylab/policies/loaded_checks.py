"""Which models and tokenizers can be used from memory; all others are refused in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from decaylab.errors import UserError
from decaylab.policies import adapter_loading

HARMLESS = ("transformers", "peft", "accelerate", "trl", "wandb")
"""Packages whose forward hooks observe, or ask for gradients, and change no result."""
NO_REVISION = "{role}_revision has no meaning: the {role} is a loaded model; leave it out"
FORM = "give (model, tokenizer), or dl.loaded(model, tokenizer, name=...)"
CAUSAL = "give one that AutoModelForCausalLM loads"
SAVE = "save the model and measure its folder"


def check_tokenizer(tokenizer: Any, remedy: str) -> None:
    """Raises UserError unless it is a tokenizer of transformers. remedy: what to give instead."""
    from transformers import PreTrainedTokenizerBase

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    if isinstance(getattr(tokenizer, "tokenizer", None), PreTrainedTokenizerBase):
        remedy = "give its .tokenizer"  # a processor of text and images
    raise UserError(
        f"a tokenizer of transformers is needed, got {type(tokenizer).__name__}: {remedy}"
    )


def plain_model(model: Any) -> Any:
    """The causal language model of transformers inside the wrappers of training and of PEFT.

    Its layers hold the adapters. The same for a model that is given and for one in a trainer.

    Raises:
        UserError: it cannot be used.
    """
    import torch
    from transformers import PreTrainedModel

    inner = _inside(model) if isinstance(model, torch.nn.Module) else model
    kind = type(inner).__name__
    if not isinstance(inner, PreTrainedModel):
        wrapper = isinstance(getattr(inner, "module", None), torch.nn.Module)
        remedy = "give the model inside it" if wrapper else CAUSAL
        raise UserError(f"a model of transformers or PEFT is needed, got {kind}: {remedy}")
    head: Any = inner.get_output_embeddings  # untyped in transformers
    if head() is None or inner.config.is_encoder_decoder:
        raise UserError(f"{kind} is not a causal language model: {CAUSAL}")
    if _is_sharded(model) or getattr(inner, "_device_mesh", None) is not None:
        refuse_sharded(kind)
    places = sorted({str(weight.device) for weight in inner.parameters()})
    if len(places) > 1 or places == ["meta"]:
        raise UserError(
            f"the weights of {kind} are on {' and '.join(places)}, but must be on one device: move "
            f"them to one, or {SAVE}"
        )
    return inner


def _inside(model: Any) -> Any:
    """The model inside DDP, torch.compile, PEFT and others, however they are nested."""
    from accelerate.utils import extract_model_from_parallel

    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    if hasattr(inner, "peft_config") and hasattr(inner, "get_base_model"):
        _refuse_adapters(inner)
        inner = inner.get_base_model()
    return inner if inner is model else _inside(inner)


def _refuse_adapters(model: Any) -> None:
    """Raises UserError if the model inside PEFT computes something else than the PEFT model, or
    depends on weights outside it."""
    kinds, bound = [], []
    for config in model.peft_config.values():
        activated = getattr(config, "alora_invocation_tokens", None)
        kind = "aLoRA" if activated else str(config.peft_type.value)
        kinds.append(kind)
        if activated or config.is_prompt_learning or kind in adapter_loading.UNSUPPORTED:
            bound.append(kind)
    inside = {id(weight) for weight in model.get_base_model().parameters()}
    if any(id(weight) not in inside for weight in model.parameters()):
        bound = bound or kinds
    if bound:
        raise UserError(
            f"a PEFT model of type {', '.join(sorted(bound))} works only inside PEFT: use an "
            "adapter that changes weights, such as LoRA"
        )


def _is_sharded(model: Any) -> bool:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in model.parameters()
    )


def refuse_sharded(kind: str) -> None:
    """Raises the UserError of a model whose weights no single process holds. kind: its class."""
    raise UserError(
        f"the weights of {kind} are sharded over processes (FSDP, DeepSpeed ZeRO-3, tensor or "
        f"pipeline parallelism): train with DDP, or {SAVE}"
    )


def refuse_placing(options: Mapping[str, Any]) -> None:
    """Raises UserError if an option would place or cast models. options: of a call whose models
    are all loaded."""
    for name in ("dtype", "device"):
        if options.get(name, "auto") != "auto":
            raise UserError(
                f"{name} has no effect: loaded models are used as they are; move or cast them with "
                "model.to(...)"
            )


def _root(hook: Any) -> str:
    """The package that defines a hook."""
    return str(getattr(hook, "__module__", type(hook).__module__)).partition(".")[0]


def refuse_hooks(name: str, model: Any) -> None:
    """Raises UserError if the model has forward hooks that may change its results, since it is to
    be identified by a hash of its weights."""
    for place, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if any(_root(hook) not in HARMLESS for hook in hooks):
            raise UserError(
                f"{name} has a forward hook on {place or 'the model itself'}, which changes "
                "its results but not its weights, so that they could be taken for those of another "
                "model: remove it, or use dl.score, which stores nothing"
            )


def refuse_shared(models: Sequence[Any]) -> None:
    """Raises UserError if one model with adapters is given twice.

    ``get_peft_model`` puts the adapters into the model that it wraps, so the base that the user
    means is no longer there.
    """
    for number, model in enumerate(models):
        others = models[number + 1 :]
        if any(model is other for other in others) and adapter_loading.tuner_layers(model):
            raise UserError(
                "two of the loaded policies are one and the same model with adapters in it "
                "(get_peft_model changes the model that it wraps): load the base a second time, or "
                "give its name"
            )
