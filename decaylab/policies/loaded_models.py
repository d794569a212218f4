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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from decaylab.errors import UserError
from decaylab.policies import loaded_checks
from decaylab.policies.embedded import short_name
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


@dataclass(frozen=True)
class LoadedPolicy:
    """A model in memory with its tokenizer. name: in folders and results; "" is the model's own."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str = ""


def loaded(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, name: str = ""
) -> LoadedPolicy:
    """A model that you hold, with its tokenizer, for use as student, teacher or checkpoint.

    The same as the plain pair ``(model, tokenizer)``, with a name of your choice.

    Args:
        model: a causal language model of transformers, or a PEFT model, also inside the wrappers of
            DDP or torch.compile. It is used where and as it is: device, precision, active adapters.
        tokenizer: its tokenizer, with a chat template unless prompts are plain.
        name: in folders and results. By default the name that the model was loaded by.

    Raises:
        UserError: not such a model or tokenizer, or weights that are spread over devices or
            processes.
    """
    if not isinstance(name, str):
        raise UserError(f"the name of a loaded model must be text, got {name!r:.40}")
    loaded_checks.check_tokenizer(tokenizer, loaded_checks.FORM)
    plain = loaded_checks.plain_model(model)
    return LoadedPolicy(
        plain, tokenizer, name or Path(own_name(plain)).name or type(plain).__name__
    )


def own_name(model: Any) -> str:
    """The name that a model was loaded by, as its configuration has it; "" if it has none.

    A model of the embedded pair has its name on the command line.
    """
    return short_name(str(getattr(model.config, "_name_or_path", "") or ""))


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
        raise UserError(f"a model needs its tokenizer: {loaded_checks.FORM}")
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
            stack.enter_context(undisturbed(policy.model))
            contents = contents_of(policy)
            slug = re.sub(r"[^\w.-]+", "-", policy.name)[:LONGEST_NAME].strip("-.") or "model"
            name = f"{PREFIX}{slug}-{contents[:HASH_DIGITS]}"
            before = _held.get(name)
            _held[name] = _Held(policy, contents)
            stack.callback(_restore, name, before)
            names.append(name)
        yield names


def contents_of(policy: LoadedPolicy) -> str:
    """The content hash of a loaded policy.

    Raises:
        UserError: a model with forward hooks, whose effect no hash of its weights can show.
    """
    loaded_checks.refuse_hooks(policy.name, policy.model)
    return content_hash(policy.model, policy.tokenizer)


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
    named = replace(found.policy, name=name)
    if weights:
        return as_policy(named, settings, found.content_hash)
    identity = PolicyIdentity(name, "loaded", "", found.content_hash)
    policy = Policy(name, None, named.tokenizer, identity, settings)
    policy.take_ends(named.model)
    return policy


def as_policy(given: LoadedPolicy, settings: LoadSettings, contents: str = "") -> Policy:
    """A loaded policy as a policy around the user's own model.

    contents: its content hash; without, it is identified by its name alone.

    Raises:
        UserError: its tokenizer has no chat template.
    """
    identity = PolicyIdentity(given.name, "loaded", "", contents)
    return Policy(given.name, given.model, given.tokenizer, identity, settings, keeps_weights=True)


@contextmanager
def borrowed(policy: LoadedPolicy, settings: LoadSettings) -> Iterator[Policy]:
    """A loaded policy that is used once, within the block, for a result that is not stored.

    Its model is `undisturbed`. It has no content hash.
    """
    with undisturbed(policy.model):
        yield as_policy(policy, settings)


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode, full precision and no compiled code within the block; afterwards the module
    modes, the forward of mixed precision and torch's random numbers are as before."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    # Under mixed precision, accelerate wraps the model's forward.
    wrapped = "_original_forward" in model.__dict__
    cast = model.__dict__.pop("forward", None) if wrapped else None
    try:
        model.eval()
        with (
            same_random_numbers(model),
            full_precision(),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        if cast is not None:
            model.forward = cast


@contextmanager
def same_random_numbers(model: Any) -> Iterator[None]:
    """Restores torch's random numbers after the block, on the CPU and on the model's device."""
    import torch

    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """No autocast within the block. The caller's own would change the scores, and the cache would
    keep them as those of the weights' precision."""
    import torch

    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
