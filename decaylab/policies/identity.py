"""What a policy is, as a run records it, and the versions it ran under.

A resumed run knows by them whether it is the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
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

    @property
    def contents(self) -> str:
        """What the policy is, whatever it is called: its content hash, and its base's."""
        return self.content_hash + (f"+{self.base.contents}" if self.base else "")


def hash_folder(path: Path) -> str:
    """SHA-256 over the names and contents of the files that make a policy what it is."""
    digest = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        # Names count as well: a renamed shard is another folder.
        if entry.suffix in (".safetensors", ".jinja") or entry.name in HASHED_FILES:
            digest.update(entry.name.encode())
            with entry.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def hub_commit(repo: str, revision: str | None) -> str | None:
    """The commit that a model of the hub was loaded from; None where it is not in the cache."""
    folder = cached_folder(repo, revision)
    return folder.name if folder else None


def cached_folder(repo: str, revision: str | None) -> Path | None:
    """The folder in the cache that a model of the hub was loaded from; None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    # transformers keeps the commit in no public attribute: it is the name of the folder.
    for file in ("config.json", "adapter_config.json"):
        path = try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {name: _version(name) for name in VERSIONED} | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
