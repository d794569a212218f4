"""Models in memory as policies, read without a trace.

A trainer's model is wrapped, adapted, autocast and in training mode. `body` finds the causal
language model in it.
"""

from __future__ import annotations

from typing import Any

import torch

from decaylab.errors import UserError
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.loading import EMBEDDED, resolve
from decaylab.policies.policy import LoadSettings, Policy


def policy_of(name: str, model: Any, tokenizer: Any, settings: LoadSettings) -> Policy:
    """A model in memory as a policy. Nobody has hashed its weights, so its name identifies it."""
    identity = PolicyIdentity(name, "folder", "", "")
    return Policy(name, body(model) if model is not None else None, tokenizer, identity, settings)


def name_of(model: Any, otherwise: str) -> str:
    """The name that a model was loaded by, as its configuration has it; an embedded model has the
    name that the command line knows it by."""
    name = str(getattr(body(model).config, "_name_or_path", "") or otherwise)
    return next((known for known in EMBEDDED if str(resolve(known)) == name), name)


def body(model: Any) -> Any:
    """The causal language model inside wrappers of training; adapters of weights stay in it.

    Raises:
        UserError: it is no causal language model of transformers, its weights are sharded over
            processes, or its adapters are prompts.
    """
    from accelerate.utils import extract_model_from_parallel

    if not isinstance(model, torch.nn.Module):
        raise UserError(
            f"a probe needs a causal language model of transformers, got {type(model).__name__}"
        )
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    if not hasattr(inner, "get_output_embeddings"):
        raise UserError(
            f"a probe needs a causal language model of transformers, got {type(inner).__name__}"
        )
    _refuse_sharded(inner)
    if not hasattr(inner, "peft_config"):
        return inner
    if any(config.is_prompt_learning for config in inner.peft_config.values()):
        raise UserError(
            "prefix and prompt tuning adapters cannot be scored; use adapters of weights, such as "
            "LoRA"
        )
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def _refuse_sharded(model: torch.nn.Module) -> None:
    from torch.distributed.tensor import DTensor

    if any(isinstance(weight, DTensor) for weight in model.parameters()):
        refuse_sharded()


def refuse_sharded() -> None:
    """Raises the UserError of a student whose weights no single process holds."""
    raise UserError(
        "a probe needs the whole student on the main process, but its weights are sharded (FSDP, "
        "DeepSpeed ZeRO-3 or tensor parallel); train with DDP, or measure the checkpoints with "
        "decaylab position-kl"
    )
