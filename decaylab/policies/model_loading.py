"""Loads a causal language model from its folder or hub id, and checks every tensor.

Missing, misshapen and unused tensors are refused: transformers would initialise missing ones at
random and ignore unused ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from decaylab.errors import UserError
from decaylab.policies.identity import cached_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCALE = re.compile(
    r"(^|[._])(scales?|scale_inv|scale_ub|scb|absmax|amax|q?zeros|zero_points?|quant_map|quant_state[\w.]*|g_idx)$",
    re.I,
)
"""Names of the scale tensors of quantised weights, which are wrong without them."""
CAUSAL_MASK = re.compile(r"\.(attn|attention)\.(masked_)?bias$")
ROTARY_OR_POSITIONS = re.compile(r"(rotary_emb\.inv_freq|(^|\.)position_ids)$")
QUANTISED = ("F4", "F6", "F8", "I", "U")


def load_model(
    name: str,
    path: Path | str,
    *,
    dtype: torch.dtype | str,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model on the CPU, and a note for each group of tensors that its class ignores by design.

    Raises:
        UserError: no weights, pickle-only weights, or a tensor that is missing, of another shape,
            quantised without a quantization_config, or not used by the model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, PreTrainedModel

    if isinstance(path, Path):
        _require_safetensors(name, path)
    untaken: set[str] = set()
    leave_out = PreTrainedModel._adjust_missing_and_unexpected_keys

    def recording(model: Any, info: Any) -> None:
        # The report omits the keys on the class's own ignore list.
        untaken.update(info.unexpected_keys)
        leave_out(model, info)

    from_pretrained: Any = AutoModelForCausalLM.from_pretrained
    try:
        with mock.patch.object(PreTrainedModel, "_adjust_missing_and_unexpected_keys", recording):
            model, report = from_pretrained(
                path,
                dtype=dtype,
                revision=revision,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with the tensor's name
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"cannot load {name}: {first_line(error)}") from error
    if absent := sorted(report["missing_keys"]):
        raise UserError(
            f"the weights of {name} lack {len(absent)} of its model's tensors, such as {absent[0]}"
        )
    if misfits := sorted(report["mismatched_keys"]):
        tensor, shape, wanted = misfits[0]
        raise UserError(
            f"the weights of {name} do not match its config.json: {tensor} is {tuple(shape)}, not "
            f"{tuple(wanted)}"
        )
    stored = _stored(path, revision)
    notes = _left_out(name, model, untaken, set(report["unexpected_keys"]), stored)
    refuse_quantised(name, model.config, stored)
    notes += _loosened(name, model)
    return model.eval(), tuple(notes)


def stored_tensors(folder: Path) -> dict[str, tuple[str, int]]:
    """The safetensors dtype and the number of axes of each tensor in a folder's files."""
    from safetensors import safe_open

    tensors: dict[str, tuple[str, int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (not a dictionary)
                tensor = weights.get_slice(name)
                tensors[name] = (tensor.get_dtype(), len(tensor.get_shape()))
    return tensors


def refuse_quantised(name: str, config: Any, stored: dict[str, tuple[str, int]]) -> None:
    """Raises UserError for weights stored in 8 bits or fewer, or as integers, without a
    quantization_config."""
    if getattr(config, "quantization_config", None) is not None:
        return
    for tensor, (dtype, axes) in sorted(stored.items()):
        # Counters and indices are integers too.
        counts = axes < 2 and not dtype.startswith(("F", "I8", "U8"))
        buffer = CAUSAL_MASK.search(tensor) or ROTARY_OR_POSITIONS.search(tensor)
        if dtype.startswith(QUANTISED) and not counts and not buffer:
            raise UserError(
                f"the weights of {name} are quantised ({tensor} is {dtype}), but its config.json "
                "has no quantization_config, so they would be read without their scales; use the "
                "config.json that belongs to them"
            )


def _stored(path: Path | str, revision: str | None) -> dict[str, tuple[str, int]]:
    folder = path if isinstance(path, Path) else cached_folder(path, revision)
    return stored_tensors(folder) if folder else {}


def _left_out(
    name: str,
    model: Any,
    untaken: set[str],
    unexpected: set[str],
    stored: dict[str, tuple[str, int]],
) -> list[str]:
    """A note for each group of tensors that is safe to leave out.

    Raises:
        UserError: a tensor that is not on the class's ignore list, or a scale of loaded weights.
    """
    kind = type(model).__name__
    known = {
        tensor
        for tensor in unexpected
        if ROTARY_OR_POSITIONS.search(tensor) or _is_mask(tensor, stored)
    }
    scales = {tensor for tensor in untaken if SCALE.search(tensor)}
    # Scales are harmless if their weights are left out too.
    loose = {scale for scale in scales if not _stands_beside(scale, untaken - scales)}
    if refused := sorted(loose or unexpected - known):
        more = " (the scales of quantised weights?)" if loose else ""
        raise UserError(
            f"the weights of {name} include {len(refused)} tensors that its model ({kind}) does "
            f"not use, such as {refused[0]}{more}: check that the config.json belongs to these "
            "weights"
        )
    groups = Counter(map(_group, untaken))
    return [
        f"{name}: {count} tensors {group} are not part of {kind}, left out"
        for group, count in groups.items()
    ]


def _group(tensor: str) -> str:
    """The group of a tensor: the end of its name for a per-layer buffer, else the beginning.

    Numbers become ``*``.
    """
    parts = ["*" if part.isdigit() else part for part in tensor.split(".")]
    if ROTARY_OR_POSITIONS.search(tensor) or CAUSAL_MASK.search(tensor):
        return ".".join(["*", *parts[-2:]])
    return ".".join(parts) if len(parts) < 5 else ".".join(parts[:3]) + ".*"


def _is_mask(tensor: str, stored: dict[str, tuple[str, int]]) -> bool:
    """Whether a tensor is a causal mask of older transformers; a real bias has one axis."""
    tail = tensor.split("transformer.")[-1]
    axes = [axes for name, (_, axes) in stored.items() if name.endswith(tail)]
    return bool(CAUSAL_MASK.search(tensor)) and bool(axes) and 1 not in axes


def _stands_beside(scale: str, tensors: set[str]) -> bool:
    layer = scale.rpartition(".")[0] + "."
    return any(tensor.startswith(layer) for tensor in tensors)


def _loosened(name: str, model: Any) -> Iterable[str]:
    """Unties the head in the configuration if the files store a different one; yields a note."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if (
        getattr(config, "tie_word_embeddings", False)
        and head.weight is not model.get_input_embeddings().weight
    ):
        untie(model)
        yield (
            f"{name}: its config.json ties the output head to the embeddings, but its files store "
            "two different matrices: used as stored"
        )


def untie(model: Any) -> None:
    """Marks head and embeddings as separate in the configuration, so that both are saved."""
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = {}


def _require_safetensors(name: str, path: Path) -> None:
    if any(path.glob("*.safetensors")):
        return
    pickled = sorted(
        entry.name for entry in path.iterdir() if entry.suffix in (".bin", ".pt", ".pth", ".ckpt")
    )
    if pickled:
        raise UserError(
            f"{name} has only pickled weights ({pickled[0]}), which can execute code; convert them "
            "to safetensors"
        )
    raise UserError(f"{name} has a config.json but no weights (*.safetensors)")


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines else type(error).__name__
