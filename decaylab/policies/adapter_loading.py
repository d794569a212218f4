"""PEFT adapters on a loaded model: merged if that is exact, otherwise kept unmerged.

Merging is not exact if two layers share one matrix (a head tied to the embeddings), or in 16 bits,
where the sum is rounded. So every merged model is compared with the unmerged one, as PEFT runs it,
on a few probe tokens.
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
"""Largest difference in log-probability between the merged and the unmerged model, in nats."""
PROBES, MARGIN = 64, 2
"""Number of probe tokens; and their safety factor, since they represent all tokens: they must stay
within tolerance / margin."""
UNSUPPORTED = {
    "ADAPTION_PROMPT": "learned prompts in the attention",
    "XLORA": "a mixture of adapters weighted by a classifier",
    "POLY": "a mixture of adapters weighted by task id",
}
LEAVE_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""LoRA initialisations that do not change the base's weights."""
NOT_ADDITIVE = (
    *("use_dora", "modules_to_save", "trainable_token_indices"),
    *("lora_bias", "target_parameters"),
)
"""LoRA settings that do more than add to the outputs of layers."""
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def hub_folder(repo: str, revision: str | None) -> Path | None:
    """The cache folder of a hub adapter, fetched if needed; None if the repository has no adapter.

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
    """Refuses an adapter that cannot be run exactly, before anything is loaded.

    Raises:
        UserError: no safetensors, a full model in the same folder, a type that is unknown or does
            not change weights, or settings unknown to the installed PEFT.
    """
    from peft import PeftConfig

    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{name}: adapter_model.safetensors is missing (pickle files are not read)")
    if any(folder.glob("model*.safetensors")):
        raise UserError(
            f"{name} contains both an adapter (adapter_config.json) and the weights of a full "
            "model (model*.safetensors): remove one of them"
        )
    stored = read_config(folder)
    kind = str(stored.get("peft_type"))
    try:
        with warnings.catch_warnings():
            # PEFT warns about unknown settings, which are refused below.
            warnings.simplefilter("ignore")
            config: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the installed PEFT cannot read {name}, an adapter of type {kind}: upgrade peft"
        ) from error
    known = {field.name for field in dataclasses.fields(config)} | {"peft_version"}
    if unknown := sorted(key for key, value in stored.items() if value and key not in known):
        raise UserError(
            f"{name}: the installed PEFT does not know the setting "
            f"{unknown[0]}={stored[unknown[0]]!r} and would ignore it: upgrade peft"
        )
    if str(stored.get("init_lora_weights")).startswith("pissa_niter"):
        raise UserError(
            f"{name}: init_lora_weights={stored['init_lora_weights']!r} subtracts a random part "
            "from the base at every load, so the trained model cannot be restored: save it with "
            "path_initial_model_for_weight_conversion, or merged"
        )
    if config.is_prompt_learning or kind in UNSUPPORTED:
        what = UNSUPPORTED.get(kind, "learned prompts")
        raise UserError(
            f"{name} is an adapter of type {kind} ({what}), which does not change the model's "
            "weights; use an adapter that does, such as LoRA"
        )
    for setting in ("alora_invocation_tokens", "layer_replication"):
        if stored.get(setting):
            raise UserError(f"{name}: adapters with {setting} are not supported")


def attach(model: Any, name: str, folder: Path, on: str) -> tuple[Any, tuple[str, ...]]:
    """Adds an adapter to a model; returns the model, and a note if the adapter is kept unmerged.

    Changes the model, which must be on the CPU. on: the model's name in messages.

    Raises:
        UserError: tensors of the adapter that are missing, of another shape, or not used by the
            model; an adapter on an unmerged one, if the two cannot both be kept.
    """
    import torch
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    below = kept_adapters(model)
    label = f"loaded{len(below)}"
    if below and not (additive(folder) and only_lora(model)):
        raise UserError(
            f"{name} is an adapter on another adapter, {on}, which cannot be merged into "
            f"{model.dtype} weights without rounding, and only plain LoRAs can be stacked "
            "unmerged: use --dtype float32"
        )
    own_rows = model.get_input_embeddings().weight.shape[0]
    rows = _resize(model, folder, PeftConfig.from_pretrained(str(folder)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PEFT only warns about missing tensors, and would run the base in their place.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            adapted = PeftModel.from_pretrained(
                model, str(folder), adapter_name=label, torch_device="cpu"
            )
            # Loaded again, since only this call reports unexpected keys.
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
            f"the adapter {name} has {len(lost)} tensors that {on} does not use, such as {lost[0]}"
        )
    activate(model, (*below, label))
    adapted.eval().requires_grad_(False)
    ids = _probes(model, adapted.peft_config[label])
    inner = adapted.get_base_model()
    # A later wrapper must not take this one for an adapter of its own.
    if hasattr(inner, "peft_config"):
        del inner.peft_config
    with torch.inference_mode():
        unmerged, bare = _logprobs(adapted, ids), _logprobs(inner, ids)
    if rows > own_rows and not unmerged.isfinite().all():
        raise UserError(
            f"the adapter {name} was trained with a vocabulary of {rows} rows, but {on} has "
            f"{own_rows}, and the adapter does not include all of the new ones: save it with "
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
        # Some types and layers cannot be merged.
        except (ValueError, AttributeError, RuntimeError):
            break
        with torch.inference_mode():
            worst = float((_logprobs(merged, ids) - unmerged).abs().max())
        if worst <= MERGE_TOLERANCE / MARGIN:
            return merged, ()
        if worst == worst:
            why = f"merging would change log-probabilities by up to {significant(worst, 2)} nats"
    with torch.inference_mode():
        if not _same(_logprobs(inner, ids), unmerged):
            raise UserError(f"{name}: its adapter can neither be merged exactly nor kept unmerged")
    kept = f"{name}: its adapter is not merged into the"
    if below:
        return inner, (f"{kept} weights, nor is the adapter below it",)
    dtype = str(model.dtype).removeprefix("torch.")
    return inner, (f"{kept} {dtype} weights ({why})",)


def _lost(folder: Path, unexpected: set[str]) -> list[str]:
    """Tensors that PEFT does not read, except copies of others.

    PEFT writes such copies for tied and for resized modules.
    """
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        stored = set(weights.keys())  # PEFT reports some under other names
        read = [weights.get_tensor(key) for key in stored - unexpected] if unexpected else []

        def is_copy(key: str) -> bool:
            return key in stored and any(map(weights.get_tensor(key).equal, read))

        return [key for key in sorted(unexpected) if not is_copy(key)]


def kept_adapters(model: Any) -> tuple[str, ...]:
    """Labels of a model's unmerged adapters, lowest first."""
    labels = {name for layer in tuner_layers(model) for name in layer.active_adapters}
    return tuple(sorted(labels))


def tuner_layers(model: Any) -> list[Any]:
    """The modules that PEFT has added to a model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [module for module in model.modules() if isinstance(module, kinds)]


def only_lora(model: Any) -> bool:
    """Whether all of a model's PEFT layers only add to their outputs, so more can be stacked."""
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
    """Activates all these adapters in every layer that has them; PEFT activates only the last."""
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
    """Probe ids, [1, time]: spread over the vocabulary, and those with trained embeddings."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or PROBES
    spread = torch.linspace(0, rows - 1, PROBES).long()
    ids = torch.cat([torch.tensor(_trained_rows(config)[: PROBES // 2], dtype=torch.long), spread])
    return ids[None, -min(PROBES, longest) :].to(model.device)


def _trained_rows(config: Any) -> list[int]:
    """The ids that an adapter's configuration lists for trained embeddings."""
    named = getattr(config, "trainable_token_indices", None)
    named = named or getattr(config, "token_indices", None) or []
    if isinstance(named, dict):  # by module
        named = set().union(*named.values())
    return sorted(named)


def _merged(adapted: Any, loosen: bool) -> Any:
    """The plain model with the adapter merged in. The unmerged model is unchanged.

    The two share the weights that the adapter does not change. loosen: gives layers that share a
    matrix one copy each, so that merging changes only one of them.
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
    for places in ties:  # tie the matrices again that the adapter did not change
        first = places[0][0]._parameters[places[0][1]]
        for module, key in places[1:]:
            if module._parameters[key].data_ptr() == first.data_ptr():
                module._parameters[key] = first
    head, embeddings = merged.get_output_embeddings(), merged.get_input_embeddings()
    if merged.config.get_text_config().tie_word_embeddings and head.weight is not embeddings.weight:
        untie(merged)
    return merged.eval()


def _resize(model: Any, folder: Path, config: Any) -> int:
    """Resizes the model's vocabulary to the adapter's rows, if these are known; returns the rows.

    New rows are NaN until the adapter's own are loaded, so a missing one shows up in the logits.
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
