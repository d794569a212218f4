"""Policies that are in memory already: models that the user holds in Python.

    student = loaded(model, tokenizer, name="step 40")     # or the plain pair (model, tokenizer)
    with held([student]) as names:                         # ["loaded:step-40-3fa9c2d1"]
        loading.load(names[0])                             # a Policy around the same model

The name ends with the content hash of the weights, so that a model that was trained further has
another name, and two models of one name never share a result. It is valid within the block. The
model is used where and as it is; the block restores everything that it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from decaylab.errors import UserError
from decaylab.policies import adapter_loading
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.loaded_identity import content_hash
from decaylab.policies.policy import LoadSettings, Policy

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PolicyLike: TypeAlias = Union[
    str, Path, "LoadedPolicy", "tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]"
]
"""A hub id, a model folder or an adapter folder; or a model in memory: the pair (model, tokenizer),
or ``dl.loaded(model, tokenizer, name=...)``."""
PREFIX = "loaded:"
HASH_DIGITS, LONGEST_NAME = 8, 60
HARMLESS = ("transformers", "peft", "accelerate", "trl", "wandb")
"""Packages whose forward hooks observe, or ask for gradients, and change no result."""
NO_REVISION = "{role}_revision has no meaning: the {role} is a loaded model; leave it out"
FORM = "give (model, tokenizer), or dl.loaded(model, tokenizer, name=...)"
UNWRAP = "accelerator.unwrap_model(model, keep_torch_compile=False) returns the model inside"


@dataclass(frozen=True)
class LoadedPolicy:
    """A model in memory with its tokenizer. name: in folders and results; "" is the model's own."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str = ""


def loaded(model: Any, tokenizer: Any, name: str = "") -> LoadedPolicy:
    """A model that you hold, with its tokenizer, for use as student, teacher or checkpoint.

    The same as the plain pair ``(model, tokenizer)``, with a name of your choice.

    Args:
        model: a causal language model of transformers, or a PEFT model. It is used where and as it
            is: device, precision, active adapters.
        tokenizer: its tokenizer, with a chat template unless prompts are plain.
        name: in folders and results. By default the name that the model was loaded by.

    Raises:
        UserError: not such a model or tokenizer, or weights that are spread over devices or
            processes.
    """
    if not isinstance(name, str):
        raise UserError(f"the name of a loaded model must be text, got {name!r:.40}")
    _check_tokenizer(tokenizer)
    plain = _plain_model(model)
    return LoadedPolicy(plain, tokenizer, name or _own_name(plain))


def as_loaded(value: Any) -> LoadedPolicy | None:
    """A policy that was given as a loaded one or as a pair; None if it is a name.

    Raises:
        UserError: a model without its tokenizer, or one that cannot be used.
    """
    if isinstance(value, LoadedPolicy):
        return loaded(value.model, value.tokenizer, value.name)
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str | Path):
        return loaded(*value)
    if callable(getattr(value, "forward", None)):
        raise UserError(f"a model needs its tokenizer: {FORM}")
    return None


def is_loaded(name: str) -> bool:
    """Whether a name is that of a loaded policy."""
    return name.startswith(PREFIX)


# The policies that can be loaded by name now


@dataclass(frozen=True)
class _Held:
    policy: LoadedPolicy
    content_hash: str


_held: dict[str, _Held] = {}


@contextmanager
def held(policies: Sequence[LoadedPolicy]) -> Iterator[list[str]]:
    """The names of loaded policies, valid within the block, where their models are `undisturbed`.

    Raises:
        UserError: a model with forward hooks, whose effect no hash of its weights can show.
    """
    with ExitStack() as stack:
        names = []
        for policy in policies:
            _refuse_hooks(policy)
            stack.enter_context(undisturbed(policy.model))
            contents = content_hash(policy.model, policy.tokenizer)
            slug = re.sub(r"[^\w.-]+", "-", policy.name)[:LONGEST_NAME].strip("-.") or "model"
            name = f"{PREFIX}{slug}-{contents[:HASH_DIGITS]}"
            before = _held.get(name)
            _held[name] = _Held(policy, contents)
            stack.callback(_restore, name, before)
            names.append(name)
        yield names


def _restore(name: str, before: _Held | None) -> None:
    if before is None:
        _held.pop(name, None)
    else:
        _held[name] = before


def held_policy(name: str) -> LoadedPolicy:
    """The loaded policy of a name.

    Raises:
        UserError: no policy of this name is held now.
    """
    return _found(name).policy


def _found(name: str) -> _Held:
    if name not in _held:
        raise UserError(
            f"{name} was a model in the memory of a Python process: give it again from Python, as "
            "(model, tokenizer), or give a folder that it was saved to"
        )
    return _held[name]


def hash_of(name: str) -> str:
    """The content hash of a held policy.

    Raises:
        UserError: no policy of this name is held now.
    """
    return _found(name).content_hash


def policy_of(name: str, settings: LoadSettings, *, weights: bool = True) -> Policy:
    """The policy of a name, around the user's own model.

    weights: without, only its tokenizer is used, and the policy can neither sample nor score.

    Raises:
        UserError: no policy of this name is held now, or its tokenizer has no chat template.
    """
    found = _found(name)
    identity = PolicyIdentity(name, "loaded", "", found.content_hash)
    model, tokenizer = found.policy.model, found.policy.tokenizer
    if weights:
        return Policy(name, model, tokenizer, identity, settings, keeps_weights=True)
    policy = Policy(name, None, tokenizer, identity, settings)
    policy.take_ends(model)
    return policy


@contextmanager
def borrowed(policy: LoadedPolicy, settings: LoadSettings) -> Iterator[Policy]:
    """A loaded policy that is used once, within the block, for a result that is not stored.

    Its model is `undisturbed`. It has no content hash.
    """
    identity = PolicyIdentity(policy.name, "loaded", "", "")
    with undisturbed(policy.model):
        yield Policy(
            policy.name, policy.model, policy.tokenizer, identity, settings, keeps_weights=True
        )


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode and full precision within the block; afterwards the module modes, the
    forward of mixed precision and torch's random numbers are as before."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    # Under mixed precision, accelerate wraps the model's forward.
    wrapped = "_original_forward" in model.__dict__
    cast = model.__dict__.pop("forward", None) if wrapped else None
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        model.eval()
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        if cast is not None:
            model.forward = cast


# What can be used


def _own_name(model: Any) -> str:
    name = str(getattr(model.config, "_name_or_path", "") or "")
    return Path(name).name or type(model).__name__


def _check_tokenizer(tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    inner = getattr(tokenizer, "tokenizer", None)
    remedy = "give its .tokenizer" if isinstance(inner, PreTrainedTokenizerBase) else FORM
    raise UserError(
        f"a loaded policy needs a tokenizer of transformers, got {type(tokenizer).__name__}: "
        f"{remedy}"
    )


def _plain_model(model: Any) -> Any:
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


def _refuse_hooks(policy: LoadedPolicy) -> None:
    for name, module in policy.model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if any(_root(hook) not in HARMLESS for hook in hooks):
            raise UserError(
                f"{policy.name} has a forward hook on {name or 'the model itself'}, which changes "
                "its results but not its weights, so that they could be taken for those of another "
                "model: remove it, or use dl.score, which stores nothing"
            )
