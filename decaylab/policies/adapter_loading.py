"""PEFT adapters on a loaded model: merged where that is exact, kept beside the weights elsewhere.

Merging is not exact where two layers share one matrix (a head tied to the embeddings), and in 16
bits, where the sum is rounded. So every adapter is compared with the unmerged model, as PEFT runs
it, on a few probe tokens.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decaylab.errors import UserError
from decaylab.policies.model_loading import first_line, untie
from decaylab.printing import significant

if TYPE_CHECKING:
    from torch import Tensor

MERGE_TOLERANCE = 1e-4
"""Nats: how far a log-probability of the merged model may lie from that of the unmerged one, in
whatever precision."""
PROBES, MARGIN = 64, 2
"""Probe tokens, and how much closer than the tolerance theirs must come, since they stand for
all."""
UNSUPPORTED = {
    "ADAPTION_PROMPT": "learned prompts in the attention",
    "XLORA": "a mixture of adapters that a classifier weighs",
    "POLY": "a mixture of adapters that a task id weighs",
}
LEAVE_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""Initialisations of a LoRA that do not change the base's weights."""
NOT_ADDITIVE = (
    *("use_dora", "modules_to_save", "trainable_token_indices"),
    *("lora_bias", "target_parameters"),
)
"""Settings of a LoRA that do more than add to the outputs of layers."""
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def hub_folder(repo: str, revision: str | None) -> Path | None:
    """The folder in the cache of an adapter on the hub, fetched where need be; None where the
    repository holds no adapter.

    Raises:
        UserError: its files can't be fetched.
    """
    from huggingface_hub import snapshot_download
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        if find_adapter_config_file(repo, revision=revision) is None:
            return None
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(HUB_FILES)))
    except OSError as error:
        raise UserError(f"cannot load {repo}: {first_line(error)}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter folder.

    Raises:
        UserError: it is damaged.
    """
    file = folder / "adapter_config.json"
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is damaged (a {type(config).__name__}, not an object)")
    return config


def check(name: str, folder: Path) -> None:
    """Refuses, before anything is loaded, an adapter that cannot be run exactly.

    Raises:
        UserError: no safetensors, weights of a whole model beside it, a type that is unknown or no
            change of weights, or settings that the installed PEFT does not know.
    """
    from peft import PeftConfig

    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{name}: adapter_model.safetensors is missing (pickle files are not read)")
    if any(folder.glob("model*.safetensors")):
        raise UserError(
            f"{name} holds both an adapter (adapter_config.json) and the weights of a whole model "
            "(model*.safetensors): take away the one that is not meant"
        )
    stored = read_config(folder)
    kind = str(stored.get("peft_type"))
    try:
        with warnings.catch_warnings():
            # Of settings that PEFT does not know, which are refused below.
            warnings.simplefilter("ignore")
            config: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{name} is an adapter of a type ({kind}) that the installed PEFT cannot read: "
            "upgrade peft"
        ) from error
    known = {field.name for field in dataclasses.fields(config)} | {"peft_version"}
    if unknown := sorted(key for key, value in stored.items() if value and key not in known):
        raise UserError(
            f"{name}: the installed PEFT does not know the setting "
            f"{unknown[0]}={stored[unknown[0]]!r} and would leave it out: upgrade peft"
        )
    if str(stored.get("init_lora_weights")).startswith("pissa_niter"):
        raise UserError(
            f"{name}: init_lora_weights={stored['init_lora_weights']!r} takes a part drawn at "
            "random out of the base at every load, so that no load gives the trained model: save "
            "it with path_initial_model_for_weight_conversion, or merged"
        )
    if config.is_prompt_learning or kind in UNSUPPORTED:
        what = UNSUPPORTED.get(kind, "learned prompts")
        raise UserError(
            f"{name} is an adapter of type {kind}: {what}, no change of the model's weights; such "
            "adapters cannot be measured, those that change weights can (LoRA and its relatives)"
        )
    for setting in ("alora_invocation_tokens", "layer_replication"):
        if stored.get(setting):
            raise UserError(f"{name}: adapters with {setting} cannot be measured")


def attach(model: Any, name: str, folder: Path, on: str) -> tuple[Any, tuple[str, ...]]:
    """The model with an adapter, and a sentence where that is kept beside the weights.

    The model is on the CPU; it is changed. on: what it is called in messages.

    Raises:
        UserError: tensors of the adapter that are missing, of another shape, or without a place in
            the model; an adapter on one that is kept itself, where the two cannot stand beside each
            other.
    """
    import torch
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    below = kept_adapters(model)
    label = f"loaded{len(below)}"
    if below and not (additive(folder) and only_lora(model)):
        raise UserError(
            f"{name} is an adapter on another one, {on}, which rounding keeps from being merged "
            f"into {model.dtype} weights, and only plain LoRAs can be kept one beside the other: "
            "say --dtype float32"
        )
    own_rows = model.get_input_embeddings().weight.shape[0]
    rows = _resize(model, folder, PeftConfig.from_pretrained(str(folder)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PEFT would go on without the tensors that it cannot find: the base passed off as the
            # adapter.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            adapted = PeftModel.from_pretrained(
                model, str(folder), adapter_name=label, torch_device="cpu"
            )
            # Once more, since only this says what finds no place.
            result = adapted.load_adapter(str(folder), label, torch_device="cpu")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AttributeError,
        ImportError,
        SafetensorError,
        UserWarning,
    ) as error:
        raise UserError(f"cannot load the adapter {name} on {on}: {first_line(error)}") from error
    if lost := _lost(folder, set(result.unexpected_keys)):
        raise UserError(
            f"the adapter {name} holds {len(lost)} tensors that have no place in {on}, {lost[0]} "
            "among them"
        )
    activate(model, (*below, label))
    adapted.eval().requires_grad_(False)
    ids = _probes(model, adapted.peft_config[label])
    inner = adapted.get_base_model()
    # What is wrapped around the model later is not a second adapter of this wrapper.
    if hasattr(inner, "peft_config"):
        del inner.peft_config
    with torch.inference_mode():
        unmerged, bare = _logprobs(adapted, ids), _logprobs(inner, ids)
    if rows > own_rows and not unmerged.isfinite().all():
        raise UserError(
            f"the adapter {name} was trained with {rows} rows of the vocabulary, and {on} has "
            f"{own_rows}; it does not hold all of the new ones: save it with "
            "save_embedding_layers=True, or merge it into a model folder where it was trained"
        )
    if not _same(bare, unmerged):
        raise UserError(
            f"{name}: an adapter of type {read_config(folder)['peft_type']} works only inside PEFT"
        )
    why = "it cannot be merged"
    attempts = (False, True) if _shares(inner) else (False,)
    for loosen in () if below else attempts:
        try:
            merged = _merged(adapted, loosen)
        # Types and layers that cannot be merged.
        except (ValueError, NotImplementedError, AttributeError, RuntimeError):
            break
        with torch.inference_mode():
            worst = float((_logprobs(merged, ids) - unmerged).abs().max())
        if worst <= MERGE_TOLERANCE / MARGIN:
            return merged, ()
        if worst == worst:
            why = f"merged, log-probabilities would change by up to {significant(worst, 2)} nats"
    with torch.inference_mode():
        if not _same(_logprobs(inner, ids), unmerged):
            raise UserError(f"{name}: its adapter can neither be merged exactly nor kept unmerged")
    kept = f"{name}: its adapter is kept beside the"
    if below:
        return inner, (f"{kept} weights, as the one below it is",)
    dtype = str(model.dtype).removeprefix("torch.")
    return inner, (f"{kept} {dtype} weights ({why})",)


def _lost(folder: Path, unexpected: set[str]) -> list[str]:
    """Tensors that PEFT does not read, but for second copies of others: it writes some of tied and
    of resized modules."""
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        stored = set(weights.keys())  # PEFT reports some under names of its own
        read = [weights.get_tensor(key) for key in stored - unexpected] if unexpected else []

        def is_copy(key: str) -> bool:
            return key in stored and any(map(weights.get_tensor(key).equal, read))

        return [key for key in sorted(unexpected) if not is_copy(key)]


def kept_adapters(model: Any) -> tuple[str, ...]:
    """The labels of the adapters that stand beside a model's weights, the lowest first."""
    labels = {name for layer in tuner_layers(model) for name in layer.active_adapters}
    return tuple(sorted(labels))


def tuner_layers(model: Any) -> list[Any]:
    """The modules that PEFT has put into a model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [module for module in model.modules() if isinstance(module, kinds)]


def only_lora(model: Any) -> bool:
    """Whether all that PEFT has put into a model adds to its layers' outputs: others can be laid
    beside it."""
    from peft.tuners.lora import LoraLayer

    return all(
        isinstance(layer, LoraLayer) and not any(layer.use_dora.values())
        for layer in tuner_layers(model)
    )


def additive(folder: Path) -> bool:
    """Whether an adapter is a LoRA that only adds to the outputs of layers."""
    config = read_config(folder)
    return (
        config.get("peft_type") == "LORA"
        and config.get("init_lora_weights") in LEAVE_THE_BASE
        and config.get("bias", "none") == "none"
        and not any(config.get(key) for key in NOT_ADDITIVE)
    )


def activate(model: Any, labels: tuple[str, ...]) -> None:
    """Makes every layer add all of these adapters that it has; PEFT would leave the last one alone
    active."""
    for layer in tuner_layers(model) if len(labels) > 1 else ():
        of_layer = {*layer.lora_A, *layer.lora_embedding_A}
        layer.set_adapter([label for label in labels if label in of_layer])


def _logprobs(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)  # type: ignore[no-any-return]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.nan_to_num().equal(other.nan_to_num())


def _shares(model: Any) -> bool:
    """Whether two layers share a matrix."""
    return len(list(model.parameters())) < len(list(model.named_parameters(remove_duplicate=False)))


def _probes(model: Any, config: Any) -> Tensor:
    """Ids from the whole vocabulary, and those whose embeddings an adapter trains: [1, time]."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or PROBES
    spread = torch.linspace(0, rows - 1, PROBES).long()
    ids = torch.cat([torch.tensor(_trained_rows(config)[: PROBES // 2], dtype=torch.long), spread])
    return ids[None, -min(PROBES, longest) :].to(model.device)


def _trained_rows(config: Any) -> list[int]:
    """The ids whose embeddings an adapter trains by name."""
    named = getattr(config, "trainable_token_indices", None)
    named = named or getattr(config, "token_indices", None) or []
    if isinstance(named, dict):  # by module
        named = set().union(*named.values())
    return sorted(named)


def _merged(adapted: Any, loosen: bool) -> Any:
    """The plain model with the adapter in its weights; the unmerged one, whose other weights it
    shares, stays what it is.

    loosen: layers that share a matrix get one each, so that what is added to the one is not added
    to the other.
    """
    import torch

    shared = {
        id(weight): torch.nn.Parameter(weight.data, requires_grad=False)
        for weight in adapted.parameters()
    }
    twin = copy.deepcopy(adapted, shared)
    owners: dict[int, list[tuple[Any, str]]] = defaultdict(list)
    for module in twin.modules():
        for key, weight in module._parameters.items():
            owners[id(weight)].append((module, key))
    ties = [
        places
        for places in owners.values()
        if loosen and len(places) > 1 and places[0][0]._parameters[places[0][1]] is not None
    ]
    for places in ties:
        for module, key in places[1:]:
            module._parameters[key] = torch.nn.Parameter(
                module._parameters[key].data, requires_grad=False
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = twin.merge_and_unload(safe_merge=True)
    for places in ties:  # what the adapter left alone is one matrix again
        first = places[0][0]._parameters[places[0][1]]
        for module, key in places[1:]:
            if module._parameters[key].data_ptr() == first.data_ptr():
                module._parameters[key] = first
    head, embeddings = merged.get_output_embeddings(), merged.get_input_embeddings()
    if merged.config.get_text_config().tie_word_embeddings and head.weight is not embeddings.weight:
        untie(merged)
    return merged.eval()


def _resize(model: Any, folder: Path, config: Any) -> int:
    """Gives the model as many rows of its vocabulary as the adapter was trained with, as far as
    that can be read; returns them.

    New rows are NaN until the adapter's own are loaded: those that it does not hold are seen in the
    logits.
    """
    import torch
    from safetensors import safe_open

    matrices = {
        _name_of(model, one): one
        for one in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    own = int(model.get_input_embeddings().weight.shape[0])
    rows = {own, max(_trained_rows(config), default=0) + 1} - set(range(own))
    width = int(model.get_input_embeddings().weight.shape[1])
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 (not a dictionary)
            shape = weights.get_slice(key).get_shape()
            if (
                any(f".{name}." in key for name in matrices)
                and key.endswith(".weight")
                and shape[1:] == [width]
            ):
                rows.add(int(shape[0]) if ".lora_" not in key else own)
    wanted = max(rows - {own}, default=own)
    if wanted != own:
        model.resize_token_embeddings(wanted, mean_resizing=False)
        with torch.no_grad():
            for one in (model.get_input_embeddings(), model.get_output_embeddings()):
                one.weight[own:] = float("nan")
    return wanted


def _name_of(model: Any, module: Any) -> str:
    return str(next(name for name, other in model.named_modules() if other is module))
