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
UNWRAP = "accelerator.unwrap_model(model, keep_torch_compile=False) returns the model inside"


def check_tokenizer(tokenizer: Any) -> None:
    """Raises UserError unless it is a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerBase

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    inner = getattr(tokenizer, "tokenizer", None)
    remedy = "give its .tokenizer" if isinstance(inner, PreTrainedTokenizerBase) else FORM
    raise UserError(
        f"a loaded policy needs a tokenizer of transformers, got {type(tokenizer).__name__}: "
        f"{remedy}"
    )


def plain_model(model: Any) -> Any:
    """The transformers model, with its adapters if it is a PEFT model.

    Raises:
        UserError: it cannot be used.
    """
    from transformers import PreTrainedModel

    kind = type(model).__name__
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        model = _inside_peft(model)
    if not isinstance(model, PreTrainedModel):
        wrapper = hasattr(model, "module") or hasattr(model, "_orig_mod")
        raise UserError(
            f"a loaded policy needs a model of transformers or PEFT, got {kind}: "
            f"{UNWRAP if wrapper else FORM}"
        )
    head: Any = model.get_output_embeddings  # untyped in transformers
    if head() is None or model.config.is_encoder_decoder:
        raise UserError(f"{kind} is not a causal language model: load it with AutoModelForCausalLM")
    _refuse_spread(model, kind)
    return model


def _inside_peft(model: Any) -> Any:
    """The model inside a PEFT model, whose layers hold the adapters.

    Raises:
        UserError: it computes something else inside PEFT.
    """
    kinds = {config.peft_type.value for config in model.peft_config.values()}
    learned = any(config.is_prompt_learning for config in model.peft_config.values())
    if learned or kinds & adapter_loading.UNSUPPORTED.keys():
        raise UserError(
            f"a PEFT model of type {', '.join(sorted(kinds))} works only inside PEFT; use an "
            "adapter that changes weights, such as LoRA"
        )
    return model.get_base_model()


def refuse_placing(options: Mapping[str, Any]) -> None:
    """Raises UserError if an option would place or cast models. options: of a call whose models
    are all loaded."""
    for name in ("dtype", "device"):
        if options.get(name, "auto") != "auto":
            raise UserError(
                f"{name} has no effect: loaded models are used as they are; move or cast them with "
                "model.to(...)"
            )


def _refuse_spread(model: Any, kind: str) -> None:
    """Raises UserError unless all weights are whole, on one device of this process."""
    from torch.distributed.tensor import DTensor

    weights = list(model.parameters())
    if any(isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in weights):
        raise UserError(
            f"the weights of {kind} are sharded over processes (FSDP, DeepSpeed ZeRO-3, tensor "
            "parallel): save the model and give its folder"
        )
    devices = sorted({str(weight.device) for weight in weights})
    if len(devices) > 1 or devices == ["meta"]:
        raise UserError(
            f"the weights of {kind} are on {' and '.join(devices)}: a loaded model must be on one "
            "device; move it there, or save it and give its folder"
        )


def _root(hook: Any) -> str:
    """The package that defines a hook."""
    return str(getattr(hook, "__module__", type(hook).__module__)).partition(".")[0]


def refuse_hooks(name: str, model: Any) -> None:
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
