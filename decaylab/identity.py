"""What a policy is, as a run records it: so that a resumed run knows whether it is still the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HASHED_FILES = (  # beside weights and templates
    "config.json",
    "generation_config.json",  # end-of-turn ids
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",  # special tokens, and the template of older folders
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class PolicyIdentity:
    """What a policy is, as it stands in run.json.

    revision: of a hub model the commit that its branch or tag stood for; "" for a folder.
    content_hash: over weights, configuration and tokenizer; for a hub model over its id and commit.
    """

    name: str
    source: Literal["embedded", "folder", "adapter", "hub"]
    revision: str
    content_hash: str
    base: PolicyIdentity | None = None


def hash_folder(path: Path) -> str:
    """SHA-256 over the names and contents of the files that make a policy what it is."""
    digest = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        if entry.suffix in (".safetensors", ".jinja") or entry.name in HASHED_FILES:
            digest.update(entry.name.encode())
            with entry.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
