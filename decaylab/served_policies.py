"""Policies whose weights an engine holds, and what the engine is to load for them.

Here stay the tokenizer and template, the identity, the ids that end a turn, and the numbers of the configuration.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor

from decaylab import policies
from decaylab.errors import UserError
from decaylab.identity import PolicyIdentity, hash_folder
from decaylab.policies import LoadSettings, Policy

Adapters = Literal["merged", "served"]
SERVABLE_ADAPTER = {"use_dora": False, "modules_to_save": None, "bias": "none"}
"""What an adapter's configuration must say for an engine to apply it to the base by itself."""


class ServedPolicy(Policy):
    """A policy without weights here: it reads and writes ids and can be sampled through an engine, but not scored exactly."""

    def __init__(
        self, name: str, tokenizer: Any, identity: PolicyIdentity, settings: LoadSettings, config: Any, generation: Any
    ) -> None:
        super().__init__(name, None, tokenizer, identity, settings)
        self.config = config
        model: Any = SimpleNamespace(config=config, generation_config=generation)
        self._take_ends(model)

    @property
    def precision(self) -> str:
        return f"torch.{serving_dtype(self)} on {self.settings.place.partition(':')[0]}"

    @property
    def head_width(self) -> int:
        return int(self.config.get_text_config().vocab_size)


def serve(name: str, settings: LoadSettings = LoadSettings()) -> ServedPolicy:
    """A policy by name, as `policies.load` reads names, with everything but its weights.

    Raises:
        UserError: nothing there, a damaged configuration, an adapter without its base, no chat template.
    """
    path = policies.resolve(name)
    adapter = isinstance(path, Path) and (path / "adapter_config.json").exists()
    base_name = _base_of(name, path) if adapter and isinstance(path, Path) else name
    base_path = policies.resolve(base_name)
    config, generation = _configurations(base_name, base_path, settings)
    identity = policies.identity_of(base_name, base_path, settings)
    own_tokenizer = base_path
    if adapter and isinstance(path, Path):
        identity = PolicyIdentity(name, "adapter", "", hash_folder(path), identity)
        own_tokenizer = path if (path / "tokenizer_config.json").exists() else base_path
    tokenizer = policies.load_tokenizer(name, own_tokenizer, settings)
    return ServedPolicy(name, tokenizer, identity, settings, config, generation)


def serving_dtype(policy: Policy, chosen: str = "auto") -> str:
    """The precision that a policy is served in: chosen, or the one that it has, or would have, in transformers.

    Always said: left to itself vLLM would serve a float32 checkpoint in 16 bits.
    """
    if chosen == "auto":
        chosen = policy.settings.dtype
    if chosen != "auto":
        return chosen
    if policy.model is not None:
        return str(policy.model.dtype).removeprefix("torch.")
    if not policy.settings.place.startswith("cuda"):
        return "float32"
    return str(policy.config.dtype or "bfloat16").removeprefix("torch.")


@dataclass(frozen=True)
class Source:
    """What an engine loads: a folder or hub id, with its commit; and the adapter that it applies itself, with its rank.

    scratch: the folder lies in a place of its own, which goes when this is let go.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    rank: int = 0
    scratch: tempfile.TemporaryDirectory[str] | None = None


def source(policy: Policy, adapters: Adapters, dtype: str) -> Source:
    """What to load for a policy; an adapter is merged into a temporary folder unless the engine is to apply it.

    Raises:
        UserError: an adapter that an engine cannot apply (DoRA, whole modules, biases).
    """
    path = policies.resolve(policy.name)
    if policy.identity.source != "adapter" or not isinstance(path, Path):
        return Source(str(path), _commit(policy.identity, policy.settings))
    if adapters == "merged":
        merged = policy
        if policy.model is None:
            merged = policies.load(policy.name, replace(policy.settings, dtype=dtype, device="cpu"))  # type: ignore[arg-type]
        scratch = tempfile.TemporaryDirectory(prefix="decaylab-merged-")
        merged.weights.save_pretrained(scratch.name)
        return Source(scratch.name, scratch=scratch)
    told = json.loads((path / "adapter_config.json").read_text())
    for key, needed in SERVABLE_ADAPTER.items():
        if told.get(key, needed) not in (needed, []):
            raise UserError(f"{policy.name}: vLLM cannot apply an adapter with {key}={told[key]!r}; have it merged")
    base = policies.resolve(_base_of(policy.name, path))
    revision = _commit(policy.identity.base, policy.settings) if policy.identity.base else None
    rank = max([int(told.get("r", 8)), *(int(one) for one in (told.get("rank_pattern") or {}).values())])
    return Source(str(base), revision, str(path), rank)


def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names that a checkpoint of the plain model has, adapters being part of them while they are merged.

    What is tied to another weight comes once, as in a checkpoint.

    Raises:
        ValueError: an adapter that is not merged: what would be handed over is another policy.
    """
    layers = [module for module in model.modules() if hasattr(module, "merged_adapters")]
    if loose := [layer for layer in layers if not layer.merged_adapters]:
        raise ValueError(f"{len(loose)} layers have an adapter that is not merged; hand weights over while all are")
    for name, weight in model.named_parameters():
        if ".lora_" not in name:
            yield name.removeprefix("base_model.model.").replace(".base_layer.", "."), weight.detach()


def stored_names(folder: Path, tied: bool) -> frozenset[str]:
    """The names of the weights in a model folder; without the head where that is tied to the embeddings."""
    from safetensors import safe_open

    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            found.update(weights.keys())
    return frozenset(found - {"lm_head.weight"} if tied else found)


def _commit(identity: PolicyIdentity, settings: LoadSettings) -> str | None:
    """Of a hub model; None for a folder, and where nobody could be asked which commit it is."""
    if identity.source != "hub":
        return None
    return settings.revision if identity.revision in ("", "unknown") else identity.revision


def _base_of(name: str, path: Path) -> str:
    base = policies.adapter_base(path)
    if not base:
        raise UserError(f"{name}: its adapter_config.json names no base model (base_model_name_or_path)")
    return base


def _configurations(name: str, path: Path | str, settings: LoadSettings) -> tuple[Any, Any]:
    from transformers import AutoConfig, GenerationConfig

    revision = settings.revision if isinstance(path, str) else None
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the configuration of {name}: {str(error).splitlines()[0]}") from error
    try:
        read: Any = GenerationConfig.from_pretrained
        return config, read(path, revision=revision or "main")
    except (OSError, ValueError):  # many models have none
        return config, None
