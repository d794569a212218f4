"""PEFT adapters on a loaded model: merged where that changes no log-probability, kept beside the weights elsewhere.

Merging is not exact where two layers share one matrix (a head tied to the embeddings), and in 16 bits, where the sum is
rounded. So every adapter is compared with the unmerged model, as PEFT runs it, on a few probe tokens.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decaylab.errors import UserError
from decaylab.model_loading import first_line, stored_tensors, untie

if TYPE_CHECKING:
    from torch import Tensor

MERGE_TOLERANCE = 1e-4
"""Nats: how far a log-probability of the merged model may lie from that of the unmerged one, in whatever precision."""
PROBES, MARGIN = 64, 2
"""Probe tokens, and how much closer than the tolerance theirs must come, since they stand for all."""
UNSUPPORTED = {
    "ADAPTION_PROMPT": "learned prompts in the attention",
    "XLORA": "a mixture of adapters that a classifier weighs",
    "POLY": "a mixture of adapters that a task id weighs",
}
FROM_INVOCATION_ON = "alora_invocation_tokens"
REPEATED_LAYERS = "layer_replication"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter folder.

    Raises:
        UserError: it is damaged.
    """
    file = folder / "adapter_config.json"
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged (a {type(found).__name__}, not an object)")
    return found


def check(name: str, folder: Path) -> None:
    """Refuses, before anything is loaded, an adapter that cannot be run exactly.

    Raises:
        UserError: no safetensors, weights of a whole model beside it, a type that is unknown or no change of weights, or
            settings that the installed PEFT does not know.
    """
    from peft import PeftConfig

    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{name}: adapter_model.safetensors is missing (pickle files are not read)")
    if any(folder.glob("model*.safetensors")):
        raise UserError(
            f"{name} holds both an adapter (adapter_config.json) and the weights of a whole model (model*.safetensors): take "
            "away the one that is not meant"
        )
    told = read_config(folder)
    kind = str(told.get("peft_type"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*[Uu]nexpected keyword")
            config = PeftConfig.from_pretrained(str(folder))
    except UserWarning as error:
        raise UserError(
            f"{name}: the installed PEFT does not know all of its settings, and would leave them out: upgrade peft "
            f"({first_line(error)})"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{name} is an adapter of a type ({kind}) that the installed PEFT cannot read: upgrade peft"
        ) from error
    if config.is_prompt_learning or kind in UNSUPPORTED:
        what = UNSUPPORTED.get(kind, "learned prompts")
        raise UserError(
            f"{name} is an adapter of type {kind}: {what}, no change of the model's weights; such adapters cannot be "
            "measured, those that change weights can (LoRA and its relatives)"
        )
    for setting in (FROM_INVOCATION_ON, REPEATED_LAYERS):
        if told.get(setting):
            raise UserError(f"{name}: adapters with {setting} cannot be measured")


def attach(model: Any, name: str, folder: Path, on: str) -> tuple[Any, tuple[str, ...]]:
    """The model with an adapter, and a sentence where that is kept beside the weights.

    The model is on the CPU; it is changed. on: what it is called in messages.

    Raises:
        UserError: tensors of the adapter that are missing, of another shape, or without a place in the model; an adapter on one
            that is kept itself, where the two cannot stand beside each other.
    """
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError

    below = kept_adapters(model)
    label = f"loaded{len(below)}"
    if below and not (additive(folder) and only_lora(model)):
        raise UserError(
            f"{name} is an adapter on another one, {on}, which rounding keeps from being merged into {model.dtype} weights, "
            "and only plain LoRAs can be kept one beside the other: say --dtype float32"
        )
    _resize(model, name, folder, on)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PEFT would go on without the tensors that it cannot find: the base passed off as the adapter.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder), adapter_name=label, torch_device="cpu")
            result = adapted.load_adapter(str(folder), label, torch_device="cpu")  # once more, for what finds no place
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AttributeError,
        SafetensorError,
        UserWarning,
    ) as error:
        raise UserError(f"cannot load the adapter {name} on {on}: {first_line(error)}") from error
    own = {key for key in stored_tensors(folder) if ".modules_to_save." not in key}
    # Of whole modules that were resized PEFT writes a second copy, which it does not read.
    if lost := sorted(
        one for one in result.unexpected_keys if one in own or one.replace(".modules_to_save.", ".") not in own
    ):
        raise UserError(
            f"the adapter {name} holds {len(lost)} tensors that have no place in {on}, {lost[0]} among them"
        )
    activate(model, (*below, label))
    adapted.eval().requires_grad_(False)
    ids = _probes(model, adapted.peft_config[label])
    inner = adapted.get_base_model()
    if hasattr(inner, "peft_config"):
        del inner.peft_config  # what is wrapped around it later is not a second adapter of this wrapper
    with torch.inference_mode():
        unmerged, bare = _logprobs(adapted, ids), _logprobs(inner, ids)
    if not _same(bare, unmerged):
        raise UserError(f"{name}: an adapter of type {read_config(folder)['peft_type']} works only inside PEFT")
    worst = float("nan")
    for loosen in () if below else (False, True) if _shares(inner) else (False,):
        try:
            merged = _merged(adapted, loosen)
        except (
            ValueError,
            NotImplementedError,
            AttributeError,
            RuntimeError,
        ):  # types and layers that cannot be merged
            break
        with torch.inference_mode():
            worst = float((_logprobs(merged, ids) - unmerged).abs().max())
        if worst <= MERGE_TOLERANCE / MARGIN:
            return merged, ()
    with torch.inference_mode():
        if not _same(_logprobs(inner, ids), unmerged):
            raise UserError(f"{name}: its adapter can neither be merged exactly nor kept unmerged")
    why = (
        f"merged, log-probabilities would change by up to {worst:.2g} nats" if worst == worst else "it cannot be merged"
    )
    return inner, (f"{name}: its adapter is kept beside the {str(model.dtype).removeprefix('torch.')} weights ({why})",)


def kept_adapters(model: Any) -> tuple[str, ...]:
    """The labels of the adapters that stand beside a model's weights, the lowest first."""
    found = {name for layer in tuner_layers(model) for name in layer.active_adapters}
    return tuple(sorted(found))


def tuner_layers(model: Any) -> list[Any]:
    """The modules that PEFT has put into a model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]


def only_lora(model: Any) -> bool:
    """Whether all that PEFT has put into a model adds to its layers' outputs: others can be laid beside it."""
    from peft.tuners.lora import LoraLayer

    return all(isinstance(layer, LoraLayer) and not any(layer.use_dora.values()) for layer in tuner_layers(model))


def additive(folder: Path) -> bool:
    """Whether an adapter is a LoRA that only adds to the outputs of layers."""
    told = read_config(folder)
    beyond = ("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias", "target_parameters")
    return (
        told.get("peft_type") == "LORA"
        and told.get("bias", "none") == "none"
        and not any(told.get(key) for key in beyond)
    )


def activate(model: Any, labels: tuple[str, ...]) -> None:
    """Makes every layer add all of these adapters that it has; PEFT would leave the last one alone active."""
    for layer in tuner_layers(model):
        if len(labels) > 1:
            layer.set_adapter([one for one in labels if one in layer.lora_A or one in layer.lora_embedding_A])


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
    named = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
    named = [one for group in named.values() for one in group] if isinstance(named, dict) else named
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or PROBES
    spread = torch.linspace(0, rows - 1, PROBES).long()
    return torch.cat([torch.tensor(named[: PROBES // 2], dtype=torch.long), spread])[None, : min(PROBES, longest)]


def _merged(adapted: Any, loosen: bool) -> Any:
    """The plain model with the adapter in its weights; the unmerged one, whose other weights it shares, stays what it is.

    loosen: layers that share a matrix get one each, so that what is added to the one is not added to the other.
    """
    import torch

    shared = {id(one): torch.nn.Parameter(one.data, requires_grad=False) for one in adapted.parameters()}
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
            module._parameters[key] = torch.nn.Parameter(module._parameters[key].data, requires_grad=False)
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


def _resize(model: Any, name: str, folder: Path, on: str) -> None:
    """Gives the model as many rows of its vocabulary as the adapter's own embeddings and head have.

    Raises:
        UserError: one of the two has other rows, and the adapter does not hold it.
    """
    from safetensors import safe_open

    places = {place: _name_of(model, module) for place, module in _vocabulary(model)}
    rows: dict[str, int] = {}
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 (not a dictionary)
            for place, module in places.items():
                if key.endswith(tuple(f"{module}{infix}.weight" for infix in ("", ".base_layer", ".modules_to_save"))):
                    rows[place] = int(weights.get_slice(key).get_shape()[0])
    own = model.get_input_embeddings().weight.shape[0]
    wanted = {count for count in rows.values() if count != own}
    if not wanted:
        return
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if len(wanted) > 1 or (not tied and set(rows.values()) != wanted) or (not tied and len(rows) < len(places)):
        raise UserError(
            f"the adapter {name} was trained with {max(wanted)} rows of the vocabulary, and {on} has {own}; of these it "
            f"holds only {' and '.join(places[place] for place in rows)}: save it with save_embedding_layers=True, or merge it "
            "into a model folder where it was trained"
        )
    model.resize_token_embeddings(wanted.pop(), mean_resizing=False)  # new rows are the adapter's


def _vocabulary(model: Any) -> Iterator[tuple[str, Any]]:
    yield "embeddings", model.get_input_embeddings()
    yield "head", model.get_output_embeddings()


def _name_of(model: Any, module: Any) -> str:
    return str(next(name for name, one in model.named_modules() if one is module))
