"""Weights tensor by tensor: what a model does not take is refused by name, or left out for a reason
that is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_adapters import CPU, distance, refusal, save_family
from safetensors.torch import load_file, save_file
from tiny_models import save_folder
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from decaylab.errors import UserError
from decaylab.policies import loading, served_policies
from decaylab.policies.served_policies import source

WEIGHTS = "model.safetensors"
Tensors = dict[str, Tensor]


def change(folder: Path, what: Callable[[Tensors], Tensors]) -> Path:
    save_file(what(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def add(folder: Path, **tensors: Tensor) -> Path:
    return change(
        folder, lambda own: own | {name.replace("__", "."): one for name, one in tensors.items()}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "model")


QUANTISED = {
    "float8 with scales": (torch.float8_e4m3fn, "weight_scale_inv"),
    "float8 with another scale": (torch.float8_e5m2, "weight_scale"),
    "8 bits with bitsandbytes' scales": (torch.int8, "SCB"),
}


@pytest.mark.parametrize(("dtype", "scale"), QUANTISED.values(), ids=QUANTISED)
def test_quantised_weights_are_not_read_without_their_scales(
    dtype: Any, scale: str, folder: Path
) -> None:
    def quantise(own: Tensors) -> Tensors:
        found = {}
        for name, one in own.items():
            quantised = name.endswith("proj.weight")
            found[name] = (one * 8).to(dtype) if quantised else one
            if quantised:
                found[
                    name.replace("weight", scale)
                    if scale == "SCB"
                    else name.replace("weight", scale)
                ] = torch.full((2, 2), 0.125)
        return found

    change(folder, quantise)
    message = refusal(folder)
    assert scale in message and "21 tensors" in message and "scales of quantised weights" in message
    with pytest.raises(
        UserError, match="are quantised .* no quantization_config"
    ):  # vLLM would load them by itself
        served_policies.serve(str(folder), CPU)


def test_weights_stored_as_whole_numbers_are_refused(folder: Path) -> None:
    change(
        folder,
        lambda own: {
            key: (one * 100).to(torch.int16) if "proj" in key else one for key, one in own.items()
        },
    )
    assert "are quantised (model.layers.0.mlp.down_proj.weight is I16)" in refusal(folder)


def test_quantised_weights_whose_scales_are_gone_are_refused_too(folder: Path) -> None:
    change(
        folder,
        lambda own: {
            key: one.to(torch.float8_e4m3fn) if "proj" in key else one for key, one in own.items()
        },
    )
    message = refusal(folder)
    assert (
        "are quantised (model.layers.0.mlp.down_proj.weight is F8_E4M3)" in message
        and "quantization_config" in message
    )


@pytest.mark.parametrize(
    "name",
    [
        "model__layers__3__mlp__up_proj__weight",  # a layer more than config.json says
        "model__layers__0__self_attn__q_proj__bias",  # a bias that the configuration switches off
        "model__layers__0__self_attn__q_norm__weight",
        "model__layers__0__mlp__gate__weight",
        "mtp__fc__weight",  # not on this class's list
        "vision_tower__patch__weight",
        "lora_A__weight",
        "model__layers__0__self_attn__k_scale",
    ],
)
def test_a_tensor_that_the_model_does_not_take_is_refused_by_name(name: str, folder: Path) -> None:
    add(folder, **{name: torch.ones(4, 4)})
    message = refusal(folder)
    assert (
        "include 1 tensors" in message
        and name.replace("__", ".") in message
        and "LlamaForCausalLM" in message
    )


def test_what_the_class_lists_is_left_out_and_said_once_a_group(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LlamaForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp.*", r"^model.visual.*"]
    )
    whole = loading.load(str(folder), CPU).weights
    add(
        folder,
        mtp__layers__0__weight=torch.ones(2),
        mtp__layers__1__weight=torch.ones(2),
        model__visual__blocks__0__qkv__weight=torch.ones(2),
        model__visual__blocks__1__qkv__weight=torch.ones(2),
        model__visual__blocks__1__proj__weight=torch.ones(2),
    )
    policy = loading.load(str(folder), CPU)
    assert distance(policy.weights, whole) == 0
    assert sorted(policy.notes) == [
        f"{folder}: 2 tensors mtp.layers.*.weight are not part of LlamaForCausalLM, left out",
        f"{folder}: 3 tensors model.visual.blocks.* are not part of LlamaForCausalLM, left out",
    ]


def test_a_scale_is_never_left_out_by_the_list_unless_its_weights_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LlamaForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"^mtp.*", "scale"]
    )
    add(folder, mtp__fc__weight=torch.ones(2), mtp__fc__weight_scale_inv=torch.ones(2))
    assert loading.load(str(folder), CPU).notes
    add(folder, model__layers__0__mlp__up_proj__weight_scale_inv=torch.ones(2))
    assert "up_proj.weight_scale_inv" in refusal(folder)


def test_rotary_buffers_of_old_files_are_left_out(folder: Path) -> None:
    add(
        folder,
        **{f"model__layers__{n}__self_attn__rotary_emb__inv_freq": torch.ones(4) for n in range(3)},
    )
    policy = loading.load(str(folder), CPU)
    (note,) = policy.notes
    assert note.startswith(
        f"{folder}: 3 tensors *.rotary_emb.inv_freq are not part of"
    ) and note.endswith("left out")


def test_causal_masks_of_old_files_are_left_out_and_biases_are_not(tmp_path: Path) -> None:
    folder = save_family(
        tmp_path / "gptj",
        "gptj",
        False,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        rotary_dim=4,
    )
    mask = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    add(folder, **{f"transformer__h__{n}__attn__bias": mask.clone() for n in range(2)})
    add(folder, **{f"transformer__h__{n}__attn__masked_bias": torch.tensor(-1e9) for n in range(2)})
    assert len(loading.load(str(folder), CPU).notes) >= 1
    add(folder, transformer__h__0__attn__bias=torch.ones(32))
    assert "attn.bias" in refusal(folder)


def test_a_head_that_is_tied_and_stored_too_is_the_same_model(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "tied", tie_word_embeddings=True)
    whole = loading.load(str(folder), CPU)
    change(folder, lambda own: own | {"lm_head.weight": own["model.embed_tokens.weight"].clone()})
    policy = loading.load(str(folder), CPU)
    assert distance(policy.weights, whole.weights) == 0 and policy.notes == ()
    assert served_policies.serve(str(folder), CPU).config.tie_word_embeddings


def test_a_head_of_its_own_in_a_model_that_says_it_is_tied_is_used_as_stored(
    tmp_path: Path,
) -> None:
    folder = save_folder(tmp_path / "model", tie_word_embeddings=False)
    truth = AutoModelForCausalLM.from_pretrained(folder).eval()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    policy = loading.load(str(folder), CPU)
    assert distance(policy.weights, truth) == 0
    (note,) = policy.notes
    assert (
        "ties the output head to the embeddings, but its files store two different matrices" in note
    )
    policy.weights.save_pretrained(tmp_path / "again")
    assert distance(AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval(), truth) == 0
    with pytest.raises(
        UserError, match="vLLM would ignore the head: set tie_word_embeddings to false"
    ):
        served_policies.serve(str(folder), CPU)


def test_shards_are_read_whole_and_a_tensor_in_any_of_them_counts(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model")
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    (folder / WEIGHTS).unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert distance(loading.load(str(folder), CPU).weights, whole) == 0
    last = sorted(folder.glob("*.safetensors"))[-1]
    name = "model.layers.0.self_attn.q_norm.weight"
    save_file(load_file(last) | {name: torch.ones(8)}, last, metadata={"format": "pt"})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"][name] = last.name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert name in refusal(folder)


def test_a_merged_folder_for_vllm_holds_what_was_loaded(tmp_path: Path) -> None:
    from made_adapters import adapter, lora, unmerged

    base = save_family(tmp_path / "base", "llama", True)
    folder = adapter(tmp_path / "adapter", base, lora("q_proj", "lm_head"))
    made = source(served_policies.serve(str(folder), CPU), "merged", "float32")
    assert made.adapter is None and made.note == ""
    assert (
        distance(AutoModelForCausalLM.from_pretrained(made.model).eval(), unmerged(folder, base))
        < 1e-4
    )


def test_an_adapter_that_16_bits_would_round_away_is_served_or_refused(tmp_path: Path) -> None:
    from made_adapters import adapter, edit, lora

    base = save_family(tmp_path / "base", "llama", True)
    folder = adapter(tmp_path / "adapter", base, lora("q_proj"))
    policy = served_policies.serve(str(folder), CPU)
    assert source(policy, "merged", "float32").adapter is None
    made = source(policy, "merged", "bfloat16")
    assert (made.model, made.adapter, made.rank) == (str(base), str(folder), 2)
    assert "is not merged into the bfloat16 weights" in made.note and made.note.endswith(
        "vLLM applies it"
    )
    edit(folder, alpha_pattern={"q_proj": 9})
    with pytest.raises(
        UserError,
        match=r"cannot apply an adapter with alpha_pattern=.*use --dtype float32 or --engine",
    ):
        source(policy, "merged", "bfloat16")
    headed = adapter(tmp_path / "headed", base, lora("q_proj", "lm_head"))
    with pytest.raises(
        UserError,
        match=r"cannot apply an adapter of the head or embeddings .*; use --adapters merged",
    ):
        source(served_policies.serve(str(headed), CPU), "served", "float32")


def test_the_uppermost_adapter_is_served_on_what_lies_below_it(tmp_path: Path) -> None:
    from made_adapters import grown, lora

    folders, truth = grown(tmp_path, lora("q_proj"), lora("v_proj"))
    policy = served_policies.serve(str(folders[-1]), CPU)
    made = source(policy, "served", "float32")
    assert made.adapter == str(folders[-1]) and made.scratch is not None
    below = loading.load(str(folders[1]), CPU)
    assert distance(AutoModelForCausalLM.from_pretrained(made.model).eval(), below.weights) == 0
    whole = source(policy, "merged", "float32")
    assert distance(AutoModelForCausalLM.from_pretrained(whole.model).eval(), truth) < 1e-4
    with pytest.raises(
        UserError, match="vLLM applies only one adapter, but .* use --dtype float32"
    ):
        source(policy, "served", "bfloat16")
