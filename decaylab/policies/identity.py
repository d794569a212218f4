"""Identifies a policy and the package versions, for a run's record.

A resumed run compares them with its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HASHED_FILES = (  # besides weights and templates
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
VERSIONED = (
    "decaylab",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "pyarrow",
    "math-verify",
    "latex2sympy2-extended",
    "sympy",
    "peft",
    "vllm",
    "ray",
)


TOKENIZER_ONLY = "tokenizer only"
"""The revision of a policy whose weights were not read: its hash is of tokenizer and template."""


@dataclass(frozen=True)
class PolicyIdentity:
    """The identity of a policy, as stored in run.json.

    source: loaded is a model that was given in Python. revision: for a hub model, the commit; ""
    for others. content_hash: over weights, configuration and tokenizer; for a hub model, over its
    id and commit. base: of an adapter.
    """

    name: str
    source: Literal["embedded", "folder", "adapter", "hub", "loaded"]
    revision: str
    content_hash: str
    base: PolicyIdentity | None = None

    @property
    def contents(self) -> str:
        """Content hashes of the policy and its bases: the identity regardless of the name."""
        return self.content_hash + (f"+{self.base.contents}" if self.base else "")


def hash_folder(path: Path) -> str:
    """SHA-256 over the names and contents of the files that define a policy."""
    digest = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        # Includes names: a renamed shard changes the hash.
        if entry.suffix in (".safetensors", ".jinja") or entry.name in HASHED_FILES:
            digest.update(entry.name.encode())
            with entry.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def hub_commit(repo: str, revision: str | None) -> str | None:
    """The commit that a hub model was loaded from; None if it is not in the cache."""
    folder = cached_folder(repo, revision)
    return folder.name if folder else None


def cached_folder(repo: str, revision: str | None) -> Path | None:
    """The cache folder that a hub model was loaded from; None if it is not in the cache."""
    from huggingface_hub import try_to_load_from_cache

    # transformers has no public attribute for the commit; the folder's name is the commit.
    for file in ("config.json", "adapter_config.json"):
        path = try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    return {name: _version(name) for name in VERSIONED} | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
