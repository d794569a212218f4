"""Rollout files made for a test, and what is read of them, by the embedded student or one over
bytes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tiny_models import byte_tokenizer

from decaylab.policies import loading
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.rollout_files import files
from decaylab.rollout_files.reading import Read, ReadSettings, read_files
from decaylab.rollout_files.responses import Encoder, Response

ROW: dict[str, Any] = {
    "prompt": "What is 4 + 3 in all?",
    "answer": "7",
    "response": "4+3=7",
    "finish_reason": "stop",
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ "
    "m.reasoning_content }}\n"
    "</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
    "%}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif "
    "%}{% endif %}"
)
"""Keeps thoughts, and closes an empty one in the prompt where thinking is off."""
OPENS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
"""Opens a thought in every prompt, and takes no thoughts."""
CHATML_TOKENS = ("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>")


@functools.cache
def abacus() -> Policy:
    return loading.load_tokenizer_only("abacus-student")


@functools.cache
def of_bytes(
    template: str,
    special: tuple[str, ...] = CHATML_TOKENS,
    *,
    adds_bos: bool = False,
    shift: int = 0,
    **settings: Any,
) -> Policy:
    """A student without weights whose text is one id a byte, ``len(special)`` and up."""
    tokenizer = byte_tokenizer(template, special=special, adds_bos=adds_bos, shift=shift)
    return Policy(
        "some/model",
        None,
        tokenizer,
        PolicyIdentity("some", "folder", "", ""),
        LoadSettings(**settings),
    )


def chatml() -> Policy:
    """A student with two end ids: 1, of the sequence, and 3, which its template ends a turn
    with."""
    return of_bytes(CHATML)


def written(path: Path, *rows: object) -> Path:
    """A JSONL file; bytes go in as they stand."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path: Path | str, student: Policy | None = None, **settings: Any) -> Read:
    return read_files(files.paths_of(str(path)), ReadSettings(**settings), student or abacus())


def responses(
    path: Path, student: Policy | None = None, **settings: Any
) -> tuple[list[Response], Encoder]:
    """The responses of a file, and the encoder with its counts."""
    student = student or abacus()
    encoder = Encoder(student)
    return encoder.responses(read(path, student, **settings).rollouts), encoder
