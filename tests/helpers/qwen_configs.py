"""Configurations of Qwen models, as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

QWEN: dict[str, dict[str, Any]] = {
    "Qwen3-8B": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "max_position_embeddings": 40960,
        "dtype": "bfloat16",
    },
    "Qwen3-1.7B": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 40960,
        "dtype": "bfloat16",
    },
    "Qwen2.5-Math-1.5B": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
        "dtype": "bfloat16",
    },
}


def write_config(name: str, folder: Path) -> Path:
    """A model folder of this name with config.json and nothing else."""
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(json.dumps(QWEN[name]))
    return folder / name
