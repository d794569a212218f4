"""Output heads of each family of models, tiny."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import randomised
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "qwen3 moe": (
        "qwen3_moe",
        {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2},
    ),
    "gemma": ("gemma", {}),
    "gemma2 capped": ("gemma2", {"final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {}),
    "gemma3 capped": ("gemma3_text", {"final_logit_softcapping": 2.0}),
    "phi with a bias": ("phi", {}),
    "phi3": ("phi3", {}),
    "gpt2": ("gpt2", GPT2_SIZES),
    "gpt_neox": ("gpt_neox", {}),
    "gptj with a bias": ("gptj", {**GPT2_SIZES, "rotary_dim": 4}),
    "mistral": ("mistral", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "granite scaled": ("granite", {"logits_scaling": 8.0}),
    "cohere scaled": ("cohere", {"logit_scale": 0.1}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "mamba": ("mamba", {}),
}


NEVER_ALONE = {"opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32})}


def family(name: str) -> Any:
    kind, changes = {**FAMILIES, **NEVER_ALONE}[name]
    model = randomised(
        AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZES, **changes}))
    )
    for index, (parameter, weight) in enumerate(model.named_parameters()):
        if parameter.endswith("bias"):  # zeros would leave a forgotten bias unseen
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(index))
    return model
