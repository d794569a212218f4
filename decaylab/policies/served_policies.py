"""Policies whose weights are in an engine, and what the engine must load for them.

This process keeps the tokenizer, the template, the identity, the end-of-turn ids and the
configuration.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor

from decaylab.errors import UserError
from decaylab.policies import adapter_loading, loading
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.loading import Link
from decaylab.policies.model_loading import refuse_quantised, stored_tensors
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.files import one_line

Adapters = Literal["merged", "served"]
HEAD_OR_EMBEDDINGS = re.compile(r"\.(lm_head|embed\w*|wte)\.")
NOT_SERVED = (*adapter_loading.NOT_ADDITIVE, "bias", "rank_pattern", "alpha_pattern")
"""Adapter settings that vLLM refuses or ignores; it scales every layer by alpha / r."""


class ServedPolicy(Policy):
    """A policy without weights in this process.

    It encodes and decodes ids and can be sampled through an engine, but not scored exactly.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        identity: PolicyIdentity,
        settings: LoadSettings,
        config: Any,
        generation: Any,
    ) -> None:
        super().__init__(name, None, tokenizer, identity, settings)
        self.config = config
        model: Any = SimpleNamespace(config=config, generation_config=generation)
        self.take_ends(model)

    @property
    def precision(self) -> str:
        return f"torch.{serving_dtype(self)} on {self.settings.place.partition(':')[0]}"

    @property
    def head_width(self) -> int:
        return int(self.config.get_text_config().vocab_size)


def serve(name: str, settings: LoadSettings = LoadSettings()) -> ServedPolicy:
    """Loads a policy by name without its weights; names are those of `loading.load`.

    Raises:
        UserError: no such policy, a damaged configuration, an adapter without its base, no chat
            template.
    """
    links = loading.chain(name, settings.revision)
    for link in links[:-1]:
        adapter_loading.check(link.name, link.folder)
    plain = links[-1]
    try:
        config, generation = _configurations(plain, settings)
    except UserError as error:
        raise error if len(links) == 1 else loading.missing_base(links[-2].name, error) from error
    tokenizer = loading.tokenizer_of(links, settings)
    return ServedPolicy(name, tokenizer, loading.identity_of(links), settings, config, generation)


def serving_dtype(policy: Policy, chosen: str = "auto") -> str:
    """The precision that a policy is served in.

    auto is the one it has, or would have, in transformers. It is always passed to vLLM, which would
    otherwise serve a float32 checkpoint in 16 bits.
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
    """What an engine loads: a folder or hub id with its commit, and an adapter with its rank.

    scratch: temporary directory of the folder, deleted with this object. note: what a reader must
    know, or "".
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    rank: int = 0
    scratch: tempfile.TemporaryDirectory[str] | None = None
    note: str = ""


def source(policy: Policy, adapters: Adapters, dtype: str) -> Source:
    """What an engine must load for a policy.

    Adapters are merged into a temporary folder if that is exact (`adapter_loading`). If it is not,
    or if the engine should apply the top adapter, the engine serves that adapter on its base.

    Raises:
        UserError: an adapter that can neither be merged nor applied by the engine (DoRA, whole
            modules, biases, the head), or one on an adapter that cannot be merged.
    """
    links = loading.chain(policy.name, policy.settings.revision)
    if len(links) == 1:
        return Source(str(links[0].path), _commit(policy.identity, policy.settings))
    note = ""
    if adapters == "merged":
        model = policy.model
        # A model with unmerged adapters may be in training.
        if (
            model is None
            or str(model.dtype) != f"torch.{dtype}"
            or adapter_loading.tuner_layers(model)
        ):
            policy = loading.load(policy.name, replace(policy.settings, dtype=dtype, device="cpu"))  # type: ignore[arg-type]
        if not adapter_loading.tuner_layers(policy.weights):
            scratch = _written(policy)
            return Source(scratch.name, scratch=scratch)
        note = f"{policy.notes[-1]}; vLLM applies it"
    _check_servable(links[0].name, links[0].folder, note)
    base = policy.identity.base
    rank = int(adapter_loading.read_config(links[0].folder).get("r", 8))
    served = Source(str(links[1].path), adapter=str(links[0].folder), rank=rank, note=note)
    if len(links) == 2 and base is not None:
        return replace(served, revision=_commit(base, policy.settings))
    below = loading.load(links[1].name, replace(policy.settings, dtype=dtype, device="cpu"))  # type: ignore[arg-type]
    if adapter_loading.tuner_layers(below.weights):
        raise UserError(
            f"vLLM applies only one adapter, but {policy.name} is an adapter on another: "
            f"{below.notes[-1]}; use --dtype float32"
        )
    scratch = _written(below)
    return replace(served, model=scratch.name, scratch=scratch)


def _written(policy: Policy) -> tempfile.TemporaryDirectory[str]:
    scratch = tempfile.TemporaryDirectory(prefix="decaylab-merged-")
    policy.weights.save_pretrained(scratch.name)
    return scratch


def _check_servable(name: str, folder: Path, why: str) -> None:
    """Raises UserError if vLLM would refuse an adapter or apply it differently from PEFT."""
    config = adapter_loading.read_config(folder)
    kind = config.get("peft_type")
    bad = [key for key in NOT_SERVED if config.get(key) not in (None, False, [], {}, "none")]
    ends = sorted(filter(HEAD_OR_EMBEDDINGS.search, stored_tensors(folder)))
    if bad:
        what = f"with {bad[0]}={config[bad[0]]!r}"
    elif kind != "LORA":
        what = f"of type {kind}"
    elif ends:
        what = f"of the head or embeddings ({ends[0]})"
    else:
        return
    remedy = "use --adapters merged"
    if why:
        what, remedy = f"{what} ({why})", "use --dtype float32 or --engine transformers"
    raise UserError(f"{name}: vLLM cannot apply an adapter {what}; {remedy}")


def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights under their names in a checkpoint of the plain model, with all adapters merged.

    Tied weights come once, as in a checkpoint.

    Raises:
        ValueError: an adapter is not merged.
    """
    layers = [module for module in model.modules() if hasattr(module, "merged_adapters")]
    if loose := [layer for layer in layers if not layer.merged_adapters]:
        raise ValueError(
            f"{len(loose)} layers have an adapter that is not merged; merge all of them first"
        )
    for name, weight in model.named_parameters():
        if ".lora_" not in name:
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            yield plain, weight.detach()


def stored_names(folder: Path, tied: bool) -> frozenset[str]:
    """Names of the weights in a model folder, without a head that is tied to the embeddings."""
    names = set(stored_tensors(folder))
    return frozenset(names - {"lm_head.weight"} if tied else names)


def _check_stored(name: str, folder: Path, config: Any) -> None:
    """Raises UserError if an engine would silently read wrong weights.

    These are quantised weights without a quantization_config, and a stored head that the
    configuration ties to the embeddings.
    """
    from safetensors import safe_open

    stored = stored_tensors(folder)
    refuse_quantised(name, config, stored)
    head, embeddings = "lm_head.weight", "model.embed_tokens.weight"
    if config.get_text_config().tie_word_embeddings and {head, embeddings} <= stored.keys():
        matrices: dict[str, Tensor] = {}
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="pt") as weights:
                for key in {head, embeddings} & set(weights.keys()):
                    matrices[key] = weights.get_tensor(key)
        if not matrices[head].equal(matrices[embeddings]):
            raise UserError(
                f"{name}: its config.json ties the output head to the embeddings, but its files "
                "store two different matrices, and vLLM would ignore the head: set "
                "tie_word_embeddings to false in config.json"
            )


def _commit(identity: PolicyIdentity, settings: LoadSettings) -> str | None:
    """The commit of a hub model; None for a folder, or if the commit is unknown."""
    if identity.source != "hub":
        return None
    return settings.revision if identity.revision in ("", "unknown") else identity.revision


def _configurations(plain: Link, settings: LoadSettings) -> tuple[Any, Any]:
    """Configuration and generation settings of a plain model; checks its weights if local."""
    from transformers import AutoConfig, GenerationConfig

    name, path, revision = plain.name, plain.path, plain.revision
    try:
        config = AutoConfig.from_pretrained(
            path, revision=revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the configuration of {name}: {one_line(error)}") from error
    if isinstance(path, Path):
        _check_stored(name, path, config)
    try:
        read: Any = GenerationConfig.from_pretrained
        return config, read(path, revision=revision or "main")
    except (OSError, ValueError):  # many models have none
        return config, None
