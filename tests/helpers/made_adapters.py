"""Adapters on tiny models, saved, edited and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import (
    byte_tokenizer,
    randomised,
)
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings

CPU, SHORT = LoadSettings(device="cpu"), LoadSettings(device="cpu", dtype="bfloat16")


BYTES = 261


SIZES: dict[str, Any] = {
    "vocab_size": BYTES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


OLD: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {},
    "phi": {},
    "phi3": {},
    "gpt2": OLD,
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "mistral": {},
    "olmo2": {},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "bloom": {"n_layer": 2, "n_head": 4},
    "cohere": {"logit_scale": 0.1},
    "granite": {"logits_scaling": 8.0},
}


def save_family(path: Path, kind: str, tied: bool, **changes: Any) -> Path:
    sizes = {key: value for key, value in SIZES.items() if (kind, key) != ("falcon", "head_dim")}
    config = CONFIG_MAPPING[kind](
        **{**sizes, **FAMILIES.get(kind, {}), "tie_word_embeddings": tied, **changes}
    )
    randomised(AutoModelForCausalLM.from_config(config), scale=0.15).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


def moved(model: Any, scale: float = 0.1, seed: int = 1) -> Any:
    """Every weight that an adapter trains, at random."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += scale * torch.randn(weight.shape, generator=generator)
    return model.eval()


def adapter(
    path: Path, base: Path, config: Any, *, on: Any = None, name: str | None = None, **how: Any
) -> Path:
    """An adapter folder on a base. on: the model it is trained on, where that is not the base's
    own. name: of the base."""
    model = moved(get_peft_model(on or AutoModelForCausalLM.from_pretrained(base), config), **how)
    model.save_pretrained(path)
    edit(path, base_model_name_or_path=name or str(base))
    return path


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def lora(*targets: str, **more: Any) -> LoraConfig:
    named: Any = (
        "all-linear" if targets == ("all-linear",) else list(targets) or ["q_proj", "v_proj"]
    )
    return LoraConfig(**{"r": 2, "target_modules": named, "task_type": "CAUSAL_LM", **more})


def logprobs(model: Any) -> Tensor:
    ids = torch.arange(3, 63).reshape(3, 20)
    with torch.inference_mode():
        return model(input_ids=ids).logits.float().log_softmax(-1)


def unmerged(folder: Path, base: Path, dtype: Any = torch.float32) -> Any:
    """By PEFT alone: the definition."""
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype), str(folder)
    ).eval()


def distance(one: Any, other: Any) -> float:
    return float((logprobs(one) - logprobs(other)).abs().max())


def refusal(name: str | Path, settings: LoadSettings = CPU) -> str:
    with pytest.raises(UserError) as caught:
        loading.load(str(name), settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def grown(root: Path, *steps: LoraConfig, tied: bool = False) -> tuple[list[Path], Any]:
    """Adapters a, b, ... each trained on the one before, and the model with all of them as sums of
    matrices: the truth."""
    base = save_family(root / "base", "llama", tied)
    truth, folders = AutoModelForCausalLM.from_pretrained(base), [base]
    for number, config in enumerate(steps):
        folder = root / "abc"[number]
        model = moved(get_peft_model(truth, config), seed=number + 1)
        model.save_pretrained(folder, save_embedding_layers=False)
        edit(folder, base_model_name_or_path=str(folders[-1]))
        truth = model.merge_and_unload()
        folders.append(folder)
    return folders, truth.eval()
