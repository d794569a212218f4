"""Loads policies by name.

A name is a hub id, a local model folder, a PEFT adapter folder (its base is read from it, and may
be an adapter itself), a folder of checkpoints (the last one is used), ``abacus-teacher`` or
``abacus-student``, the pair that ships with decaylab, or the name of a model in memory
(`loaded_models`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from decaylab.errors import UserError
from decaylab.policies import adapter_loading, loaded_models
from decaylab.policies.checkpoint_folders import is_model, last_model
from decaylab.policies.embedded import EMBEDDED, folder_of
from decaylab.policies.identity import TOKENIZER_ONLY, PolicyIdentity, hash_folder, hub_commit
from decaylab.policies.model_loading import first_line, load_model
from decaylab.policies.policy import LoadSettings, Policy

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "tekken.json",
)


def load(name: str, settings: LoadSettings = LoadSettings()) -> Policy:
    """Loads a policy by name; see the module's docstring for what a name can be.

    Adapters are applied in the order in which they were trained. Each is merged if that changes no
    log-probability by more than `adapter_loading.MERGE_TOLERANCE`, and kept unmerged otherwise.

    Raises:
        UserError: no such policy, no weights, pickle-only weights, missing or unused tensors, an
            adapter without its base or of a kind that does not change weights, no chat template.
    """
    if loaded_models.is_loaded(name):
        return loaded_models.policy_of(name, settings)
    links = chain(name, settings.revision)
    # Fail before gigabytes are read.
    for link in links[:-1]:
        adapter_loading.check(link.name, link.folder)
    dtype = _dtype(settings)
    plain = links[-1]
    try:
        model, notes = load_model(
            plain.name,
            plain.path,
            dtype=dtype,
            revision=plain.revision,
            trust_remote_code=settings.trust_remote_code,
        )
    except UserError as error:
        raise error if len(links) == 1 else missing_base(links[-2].name, error) from error
    for above, link in zip(reversed(links[1:]), reversed(links[:-1]), strict=True):
        model, more = adapter_loading.attach(model, link.name, link.folder, on=above.name)
        notes += more
    place: Any = settings.place
    policy = Policy(
        name, model.to(place), tokenizer_of(links, settings), identity_of(links), settings
    )
    policy.notes = notes
    return policy


def _dtype(settings: LoadSettings) -> torch.dtype | str:
    """The requested precision; auto is the checkpoint's own on a GPU, and float32 on the CPU."""
    import torch

    auto: torch.dtype | str = "auto" if settings.place.startswith("cuda") else torch.float32
    return auto if settings.dtype == "auto" else getattr(torch, settings.dtype)


def missing_base(adapter: str, error: UserError) -> UserError:
    return UserError(f"{adapter} is an adapter, and its base is missing: {error}")


@dataclass(frozen=True)
class Link:
    """One of the folders or hub ids that make up a policy.

    path: a folder, or a hub id. fetched: the cache folder of a hub adapter. folder: where its files
    are; not valid for a plain hub model.
    """

    name: str
    path: Path | str
    revision: str | None = None
    fetched: Path | None = None

    @property
    def folder(self) -> Path:
        return self.fetched or Path(self.path)


def chain(name: str, revision: str | None = None) -> list[Link]:
    """The adapters of a policy, last trained first, followed by the plain model.

    revision: of the first one that is on the hub; an adapter's configuration gives its base's.

    Raises:
        UserError: an unknown name, an adapter without its base, or bases that form a cycle.
    """
    links: list[Link] = []
    while True:
        try:
            path = resolve(name)
        except UserError as error:
            raise missing_base(links[-1].name, error) if links else error from error
        on_hub = isinstance(path, str)
        fetched = adapter_loading.hub_folder(path, revision) if isinstance(path, str) else None
        links.append(Link(name, path, revision if on_hub else None, fetched))
        if any(_place(link.path) == _place(path) for link in links[:-1]):
            circle = " on ".join(link.name for link in links)
            raise UserError(f"the bases of these adapters form a cycle: {circle}")
        if fetched is None and (on_hub or not (links[-1].folder / "adapter_config.json").exists()):
            return links
        base = adapter_base(links[-1].folder)
        if not base:
            raise UserError(
                f"{name}: its adapter_config.json names no base model (base_model_name_or_path)"
            )
        of_base = adapter_loading.read_config(links[-1].folder).get("revision")
        name, revision = base, of_base if on_hub else revision or of_base


def _place(path: Path | str) -> Path | str:
    return path.resolve() if isinstance(path, Path) else path


def load_tokenizer_only(name: str, settings: LoadSettings = LoadSettings()) -> Policy:
    """A policy with a tokenizer and no weights, enough if its rollouts already exist."""
    if loaded_models.is_loaded(name):
        return loaded_models.policy_of(name, settings, weights=False)
    folder = Path(name).expanduser()
    if (folder / "tokenizer_config.json").exists():
        path: Path | str = folder
        tokenizer = load_tokenizer(name, path, settings)
        listed = _listed(folder, settings)
    else:
        path = resolve(name)
        links = chain(name, settings.revision)
        tokenizer = tokenizer_of(links, settings)
        listed = _listed(links[-1].path, dataclasses.replace(settings, revision=links[-1].revision))
    reads = [tokenizer.get_vocab(), tokenizer.chat_template]
    # Without weights, the hash covers the vocabulary and the template.
    digest = hashlib.sha256(json.dumps(reads, sort_keys=True).encode()).hexdigest()
    identity = PolicyIdentity(
        name, "folder" if isinstance(path, Path) else "hub", TOKENIZER_ONLY, digest
    )
    policy = Policy(name, None, tokenizer, identity, settings)
    policy.take_ends(listed)
    return policy


def _listed(path: Path | str, settings: LoadSettings) -> Any:
    """Configuration and generation settings of a model, for end-of-turn ids the tokenizer lacks.

    For an adapter's folder, those of its base. Only local files are read.
    """
    from transformers import AutoConfig, GenerationConfig

    passed = set[Path]()
    while isinstance(path, Path) and (path / "adapter_config.json").exists() and path not in passed:
        passed.add(path)
        try:
            path = resolve(adapter_base(path) or str(path))
        except UserError:
            break
    revision = (None if passed else settings.revision) or "main"
    here: dict[str, Any] = {"revision": revision, "local_files_only": True}
    kinds: dict[str, Any] = {"generation_config": GenerationConfig, "config": AutoConfig}
    listed = dict[str, Any].fromkeys(kinds)
    for name, kind in kinds.items():
        trust = {"trust_remote_code": settings.trust_remote_code} if name == "config" else {}
        # It may not be local, or be of an unknown kind.
        with suppress(OSError, ValueError, KeyError, ImportError):
            listed[name] = kind.from_pretrained(path, **here, **trust)
    return SimpleNamespace(**listed)


def resolve(name: str) -> Path | str:
    """The folder of a name, or the name itself if it is a hub id or that of a model in memory."""
    if loaded_models.is_loaded(name):
        loaded_models.held_policy(name)
        return name
    if name in EMBEDDED:
        return folder_of(name)
    path = Path(name).expanduser()
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
            return name
        raise UserError(
            f"no model {name!r}: give a folder, a hub id (owner/name), or {' or '.join(EMBEDDED)}"
        )
    if not path.is_dir():
        raise UserError(
            f"{name} is a file; a model is a folder (with config.json and *.safetensors) or a hub "
            "id"
        )
    if is_model(path):
        return path
    if model := last_model(path):
        return model
    raise UserError(
        f"{name} is not a model folder: it has no config.json, adapter_config.json or checkpoints"
    )


def adapter_base(path: Path) -> str | None:
    """The base that an adapter folder names, as a loadable name; None if it names none.

    A relative path is looked up from the working directory, as in PEFT, and from the adapter's
    folder.

    Raises:
        UserError: the configuration is damaged, or both places have a folder of that name.
    """
    base = adapter_loading.read_config(path).get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise UserError(
            f"{path / 'adapter_config.json'} is damaged (base_model_name_or_path is {base!r}, not "
            "a name)"
        )
    if not base or base in EMBEDDED or Path(base).is_absolute():
        return base
    beside = Path(os.path.normpath(path / base))
    if not beside.is_dir():
        return base
    here = Path(base).expanduser()
    if here.is_dir() and here.resolve() != beside.resolve():
        raise UserError(
            f"{path}: its base {base} is a folder here ({here.resolve()}) and also next to the "
            f"adapter ({beside.resolve()}); set base_model_name_or_path in its "
            "adapter_config.json to the full path of one of them"
        )
    return str(beside)


def tokenizer_of(links: list[Link], settings: LoadSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of the last trained link that has one."""
    adapters = (link for link in links[:-1] if (link.folder / "tokenizer_config.json").exists())
    link = next(adapters, links[-1])
    settings = dataclasses.replace(settings, revision=link.revision)
    return load_tokenizer(links[0].name, link.fetched or link.path, settings)


def load_tokenizer(name: str, path: Path | str, settings: LoadSettings) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if isinstance(path, Path) and not any((path / file).exists() for file in TOKENIZER_FILES):
        raise UserError(
            f"{name} has no tokenizer (tokenizer.json); save the one it was trained with next to "
            "its weights"
        )
    revision = settings.revision if isinstance(path, str) else None
    try:
        return AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot load the tokenizer of {name}: {first_line(error)}") from error


def identity_of(links: list[Link]) -> PolicyIdentity:
    """The identity of a policy; each adapter's includes its base's."""
    link, below = links[0], links[1:]
    if below:
        revision = (hub_commit(str(link.path), link.revision) or "") if link.fetched else ""
        return PolicyIdentity(
            link.name, "adapter", revision, hash_folder(link.folder), identity_of(below)
        )
    if isinstance(link.path, Path):
        source: Literal["embedded", "folder"] = "embedded" if link.name in EMBEDDED else "folder"
        return PolicyIdentity(link.name, source, "", hash_folder(link.path))
    commit = hub_commit(link.path, link.revision) or link.revision or "unknown"
    digest = hashlib.sha256(f"{link.path}@{commit}".encode()).hexdigest()
    return PolicyIdentity(link.name, "hub", commit, digest)
