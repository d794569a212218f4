"""Policies: a causal language model with its tokenizer and template.

A policy is named by a hub id, a local model folder, a PEFT adapter folder (its base is read from
it, and may be an adapter itself), a folder of checkpoints (the last one is taken), or
``abacus-teacher`` and ``abacus-student``, the pair that ships with decaylab.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies import adapter_loading
from decaylab.policies.checkpoint_folders import last_model
from decaylab.policies.control_tokens import ControlTokens
from decaylab.policies.identity import PolicyIdentity, hash_folder
from decaylab.policies.model_loading import first_line, load_model
from decaylab.policies.templates import ChatTemplate, Thinking, variables_of
from decaylab.problems import hub, thoughts
from decaylab.problems.files import mended
from decaylab.problems.sets import Problem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = {"abacus-teacher": "teacher", "abacus-student": "student"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "tekken.json",
)
PLAIN_FORMAT = "Question: {question}\nAnswer:"
PromptFormat = Literal["chat", "plain"]
Role = Literal["student", "teacher"]


@dataclass(frozen=True)
class LoadSettings:
    """How a policy is loaded and addressed.

    system: the system message; "" for none. drops_system: that of a problem's own messages is left
    out.
    template_kwargs: more variables of the template, with their values as texts.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    prompt_format: PromptFormat = "chat"
    thinking: Thinking = "off"
    system: str = ""
    template_kwargs: tuple[tuple[str, str], ...] = ()
    drops_system: bool = False

    @property
    def place(self) -> str:
        """The device, with auto decided: the GPU where there is one."""
        import torch

        return (
            self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        )


def load_settings(options: PairOptions, role: Role, device: str | None = None) -> LoadSettings:
    """How student or teacher is loaded and addressed. The teacher's system message is the student's
    unless it has its own."""
    own = options.teacher_system if role == "teacher" else None
    return LoadSettings(
        *(
            options.dtype,
            device or options.device,
            getattr(options, f"{role}_revision"),
            options.trust_remote_code,
        ),
        *(options.prompt_format, options.thinking),
        system=mended((own if own is not None else options.system) or ""),
        template_kwargs=tuple(sorted(options.template_kwargs.items())),
        drops_system=own == "",
    )


class Policy:
    """A loaded model with its tokenizer. Prompts, prefixes and responses are token ids; only
    `prompt_ids` adds any.

    notes: what a reader of the results must know of how it was loaded, as sentences.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase,
        identity: PolicyIdentity,
        settings: LoadSettings = LoadSettings(),
    ) -> None:
        self.name, self.model, self.tokenizer, self.identity, self.settings = (
            name,
            model,
            tokenizer,
            identity,
            settings,
        )
        self.notes: tuple[str, ...] = ()
        self.config: Any = model.config if model is not None else None
        if settings.prompt_format == "chat" and not tokenizer.chat_template:
            raise UserError(
                f"{name}: its tokenizer has no chat template; say --prompt-format plain to ask in "
                "plain text "
                f"({PLAIN_FORMAT!r})"
            )
        self.control = ControlTokens(tokenizer)
        self.template = self._template() if settings.prompt_format == "chat" else None
        self._take_ends(model)

    def _template(self) -> ChatTemplate:
        settings = self.settings
        variables = variables_of(dict(settings.template_kwargs))
        return ChatTemplate(
            self.name,
            self.tokenizer,
            system=bool(settings.system),
            thinking=settings.thinking,
            variables=variables,
        )

    def _take_ends(self, model: Any) -> None:
        """What ends a turn: the end-of-sequence ids, and what the template writes behind an answer,
        asked by it or not."""
        known = end_ids(model, self.tokenizer)
        self.turn_end = turn_end(self.template or self.name, self.tokenizer, self.control)
        own = self.turn_end.token
        self.end_ids = known if own is None else known | {own}
        self.adds_end = own is not None and own not in known
        eos = self.tokenizer.eos_token_id
        self.end_id = own if own is not None else int(eos) if eos is not None else min(known)
        pad = (
            self.tokenizer.pad_token_id
        )  # some tokenizers got one that the model has no embedding of
        self.pad_id = int(pad if pad is not None and pad < self.rows else min(self.end_ids))

    @property
    def weights(self) -> PreTrainedModel:
        """The model.

        Raises:
            ValueError: the policy was loaded by its tokenizer only.
        """
        if self.model is None:
            raise ValueError(f"{self.name} was loaded without weights and cannot generate or score")
        return self.model

    @property
    def rows(self) -> float:
        """Ids that the model has an embedding of; infinity without its weights."""
        model: Any = self.model
        return (
            int(model.get_input_embeddings().weight.shape[0]) if model is not None else float("inf")
        )

    @property
    def context_length(self) -> int:
        """Positions the model was made for, in tokens.

        LongRoPE chooses its frequencies by the longest row of a batch, so that a long rollout would
        change what is read in a
        short one beside it: such a model counts up to where the choice changes.
        """
        config = self.config.get_text_config() if self.config is not None else None
        length = int(getattr(config, "max_position_embeddings", None) or 10**9)
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") != "longrope":
            return length
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        return min(length, int(original or length))

    @property
    def precision(self) -> str:
        """Of the weights, and where they are; numbers from another precision or device differ by
        rounding."""
        if self.model is None:
            return "tokenizer only"
        kept = ", adapters beside them" if adapter_loading.tuner_layers(self.model) else ""
        return f"{self.model.dtype} on {self.model.device.type}{kept}"

    @contextmanager
    def wider(self) -> Iterator[Policy]:
        """The same policy in the next wider precision, for as long as the block lasts: the same
        weights, other rounding."""
        wide = wider_than(self.weights.dtype)
        # Not the buffers: those are kept in float32 and would not come back whole. Some weights may
        # be in float32 already.
        own = [
            (weight, weight.dtype)
            for weight in self.weights.parameters()
            if weight.is_floating_point()
        ]
        try:
            for weight, _ in own:
                weight.data = weight.data.to(wide)
            yield self
        finally:
            for weight, dtype in own:
                weight.data = weight.data.to(dtype)

    @property
    def head_width(self) -> int:
        """Logits at a position: often more than the tokenizer has ids."""
        model: Any = self.weights
        return int(model.get_output_embeddings().weight.shape[0])

    @cached_property
    def absent_ids(self) -> tuple[int, ...]:
        """Ids that the head has and no token of the tokenizer: behind its last one, or in holes.
        None may be sampled."""
        known = set(self.tokenizer.get_vocab().values())
        return tuple(index for index in range(self.head_width) if index not in known)

    def prompt_ids(
        self, problem: Problem, instruction: str, reader: Policy | None = None
    ) -> list[int]:
        """The prompt up to where the response begins, through the policy's own template or in the
        plain format.

        Of several messages the instruction follows the last one, and the policy's system message
        replaces theirs. A control token that question, instruction or system message spell is
        encoded as text. reader: whose ids; by default the policy's own.

        Raises:
            UserError: the template refuses it, a control token cannot be encoded as text, or there
                are several messages and no template.
        """
        reader, hidden = reader or self, dict[str, str]()
        said = [
            (role, reader.control.hide(text, hidden))
            for role, text in self._said(problem, instruction)
        ]
        if self.template is not None:
            return reader._embedded(reader.control.encode(self.template.conversation(said), hidden))
        if len(said) > 1:
            raise UserError(
                f"problem {problem.problem_id} has {len(said)} messages, and --prompt-format "
                "plain has a place for one question"
            )
        ids = reader.control.encode(PLAIN_FORMAT.format(question=said[-1][1]), hidden, begin=True)
        while ids and ids[-1] in reader.end_ids:  # some tokenizers close every text
            ids.pop()
        return reader._embedded(ids)

    def _said(self, problem: Problem, instruction: str) -> list[tuple[str, str]]:
        """The messages of a prompt: role and text of each."""
        *before, (role, text) = problem.messages or (("user", problem.question),)
        if self.settings.system or self.settings.drops_system:
            before = [one for one in before if one[0] != "system"]
        if self.settings.system:
            before = [("system", self.settings.system), *before]
        return [*before, (role, f"{text}\n{instruction}" if instruction else text)]

    @property
    def thought_marks(self) -> thoughts.Marks:
        """Marks of thoughts that its tokenizer or template has beside those known."""
        return thoughts.of_tokenizer(
            self.tokenizer.get_added_vocab(), str(self.tokenizer.chat_template or "")
        )

    def encode(self, text: str) -> list[int]:
        """Ids of text in the middle of a response: nothing is added in front or behind."""
        return self._embedded(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _embedded(self, ids: Iterable[int]) -> list[int]:
        """The ids, each of which the model has an embedding of.

        Raises:
            UserError: one that it has not.
        """
        found = list(ids)
        if beyond := [one for one in found if one >= self.rows]:
            raise UserError(
                f"{self.name}: its tokenizer writes "
                f"{self.tokenizer.convert_ids_to_tokens(beyond[0])} as id {beyond[0]}, and "
                f"the model has {self.rows} rows of embeddings: save the resized embeddings with "
                "it (PEFT: "
                "save_embedding_layers=True), or use the tokenizer that belongs to these weights"
            )
        return found

    def decode(self, ids: list[int]) -> str:
        """The text of response ids, without the end-of-turn token if it closes them."""
        kept = ids[:-1] if ids and ids[-1] in self.end_ids else ids
        return str(
            self.tokenizer.decode(
                kept, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def wider_than(dtype: torch.dtype) -> torch.dtype:
    """float64 for float32, float32 for 16 bits."""
    import torch

    return torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32


def end_ids(model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that end a turn: the tokenizer's, and those that the model's generation settings
    list.

    Of the generation settings nothing else is ever used.
    """
    found = {tokenizer.eos_token_id}
    if model is not None:
        text = model.config.get_text_config() if model.config is not None else None
        for config in (model.generation_config, text):
            listed = getattr(config, "eos_token_id", None)
            found.update(listed if isinstance(listed, list) else [listed])
    ids = frozenset(int(one) for one in found if one is not None)
    if not ids:
        raise UserError(
            "the tokenizer names no end-of-sequence token, so a response could never end"
        )
    return ids


@dataclass(frozen=True)
class TurnEnd:
    """What a template writes behind an answer, and the first control token in it; "" and None where
    there is none."""

    text: str = ""
    token: int | None = None


def turn_end(
    template: ChatTemplate | str, tokenizer: PreTrainedTokenizerBase, control: ControlTokens
) -> TurnEnd:
    """How the template of a tokenizer ends a turn. template: or the name of a policy that is not
    addressed by its own."""
    if isinstance(template, str):
        if not tokenizer.chat_template:
            return TurnEnd()
        try:
            template = ChatTemplate(template, tokenizer)
        except UserError:
            return TurnEnd()
    text = template.turn_end
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id != tokenizer.eos_token_id else None
    found = [
        one
        for one in control.encode(text, {})
        if one in control.texts and one not in (begin, tokenizer.unk_token_id)
    ]
    return TurnEnd(text, found[0] if found else None)


def load(name: str, settings: LoadSettings = LoadSettings()) -> Policy:
    """Loads a policy by name; see the module's first lines for what a name can be.

    Adapters are applied in the order in which they were trained. Each is merged where that changes
    no log-probability by more than `adapter_loading.MERGE_TOLERANCE`, and stays beside the weights
    elsewhere.

    Raises:
        UserError: nothing there, no weights, pickle-only weights, tensors that are missing or not
            taken, an adapter without its base or of a kind that changes no weights, no chat
            template.
    """
    links = chain(name, settings.revision)
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
    """A checkpoint's own precision on a GPU; float32 on the CPU, where 16 bits are slower and
    coarser."""
    import torch

    auto: torch.dtype | str = "auto" if settings.place.startswith("cuda") else torch.float32
    return auto if settings.dtype == "auto" else getattr(torch, settings.dtype)


def missing_base(adapter: str, error: UserError) -> UserError:
    return UserError(f"{adapter} is an adapter and its base is missing: {error}")


@dataclass(frozen=True)
class Link:
    """One of the folders or hub ids that make up a policy.

    path: the folder, or the hub id with its revision. folder: where its files lie, for an adapter
    of the hub in the cache; of a plain model on the hub the cache knows.
    """

    name: str
    path: Path | str
    revision: str | None = None
    fetched: Path | None = None

    @property
    def folder(self) -> Path:
        return self.fetched or Path(self.path)


def chain(name: str, revision: str | None = None) -> list[Link]:
    """The adapters that a name stands for, the last trained first, and behind them the plain model.

    revision: of the first of them that is on the hub; below an adapter the one that its
    configuration names.

    Raises:
        UserError: a name that means nothing, an adapter without its base, or bases that run in a
        circle.
    """
    links: list[Link] = []
    while True:
        try:
            path = resolve(name)
        except UserError as error:
            raise missing_base(links[-1].name, error) if links else error from error
        on_hub = isinstance(path, str)
        fetched = hub.adapter_folder(path, revision) if isinstance(path, str) else None
        links.append(Link(name, path, revision if on_hub else None, fetched))
        if any(_place(one.path) == _place(path) for one in links[:-1]):
            raise UserError(
                f"adapters whose bases run in a circle: {' on '.join(link.name for link in links)}"
            )
        if fetched is None and (on_hub or not (links[-1].folder / "adapter_config.json").exists()):
            return links
        base = adapter_base(links[-1].folder)
        if not base:
            raise UserError(
                f"{name}: its adapter_config.json names no base model (base_model_name_or_path)"
            )
        own = adapter_loading.read_config(links[-1].folder).get("revision")
        name, revision = base, (own if on_hub else revision or own)


def _place(path: Path | str) -> Path | str:
    return path.resolve() if isinstance(path, Path) else path


def load_tokenizer_only(name: str, settings: LoadSettings = LoadSettings()) -> Policy:
    """A policy that can read and write ids but not generate: enough where its rollouts are already
    there."""
    own = Path(name).expanduser()
    if (own / "tokenizer_config.json").exists():
        path: Path | str = own
        tokenizer = load_tokenizer(name, path, settings)
        listed = _listed(own, settings)
    else:
        path = resolve(name)
        links = chain(name, settings.revision)
        tokenizer = tokenizer_of(links, settings)
        listed = _listed(links[-1].path, dataclasses.replace(settings, revision=links[-1].revision))
    reads = [tokenizer.get_vocab(), tokenizer.chat_template]
    digest = hashlib.sha256(json.dumps(reads, sort_keys=True).encode()).hexdigest()
    identity = PolicyIdentity(
        name, "folder" if isinstance(path, Path) else "hub", "tokenizer only", digest
    )
    policy = Policy(name, None, tokenizer, identity, settings)
    policy._take_ends(listed)
    return policy


def _listed(path: Path | str, settings: LoadSettings) -> Any:
    """Configuration and generation settings of a model, as far as they are here: a tokenizer may
    lack ids that end a turn.

    Of an adapter's folder those of its base. Nothing is fetched.
    """
    from transformers import AutoConfig, GenerationConfig

    passed = set[Path]()
    while isinstance(path, Path) and (path / "adapter_config.json").exists() and path not in passed:
        passed.add(path)
        try:
            path = resolve(adapter_base(path) or str(path))
        except UserError:
            break
    here: dict[str, Any] = {
        "revision": (None if passed else settings.revision) or "main",
        "local_files_only": True,
    }
    trusted = here | {"trust_remote_code": settings.trust_remote_code}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "generation_config": (GenerationConfig, here),
        "config": (AutoConfig, trusted),
    }
    found: dict[str, Any] = {}
    for name, (kind, how) in kinds.items():
        try:
            found[name] = kind.from_pretrained(path, **how)
        except (
            OSError,
            ValueError,
            KeyError,
            ImportError,
        ):  # it is not here, or of a kind that nothing here can read
            found[name] = None
    return SimpleNamespace(**found)


def resolve(name: str) -> Path | str:
    """The folder a name means, or the hub id it is."""
    if name in EMBEDDED:
        return Path(str(files("decaylab.data") / "abacus" / EMBEDDED[name]))
    path = Path(name).expanduser()
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
            return name
        raise UserError(
            f"no model {name!r}: neither a folder here nor a hub id (owner/name), nor "
            f"{', '.join(EMBEDDED)}"
        )
    if not path.is_dir():
        raise UserError(
            f"{name} is a file; a model is a folder (with config.json and *.safetensors) or a hub "
            "id"
        )
    if (path / "adapter_config.json").exists() or (path / "config.json").exists():
        return path
    if found := last_model(path):
        return found
    raise UserError(
        f"{name} holds neither config.json nor adapter_config.json nor checkpoints: it is not a "
        "model folder"
    )


def adapter_base(path: Path) -> str | None:
    """The base that an adapter folder names, as it can be loaded from here; None where it names
    none.

    A relative path is looked for from the working directory, as PEFT does, and from the adapter's
    folder.

    Raises:
        UserError: the configuration is damaged, or both places hold a folder of that name.
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
            f"{path}: its base {base} is a folder here ({here.resolve()}) and beside the adapter "
            f"({beside.resolve()}); write "
            "the one that is meant into its adapter_config.json (base_model_name_or_path)"
        )
    return str(beside)


def tokenizer_of(links: list[Link], settings: LoadSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of the last trained that has one."""
    own = next(
        (link for link in links[:-1] if (link.folder / "tokenizer_config.json").exists()), links[-1]
    )
    return load_tokenizer(
        links[0].name, own.fetched or own.path, dataclasses.replace(settings, revision=own.revision)
    )


def load_tokenizer(name: str, path: Path | str, settings: LoadSettings) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if isinstance(path, Path) and not any((path / file).exists() for file in TOKENIZER_FILES):
        raise UserError(
            f"{name} holds no tokenizer (tokenizer.json); save the one it was trained with beside "
            "its weights"
        )
    revision = settings.revision if isinstance(path, str) else None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot load the tokenizer of {name}: {first_line(error)}") from error
    return tokenizer


def identity_of(links: list[Link]) -> PolicyIdentity:
    """What a run records of a policy, each adapter with what it was trained on."""
    link, below = links[0], links[1:]
    if below:
        revision = (hub.model_commit(str(link.path), link.revision) or "") if link.fetched else ""
        return PolicyIdentity(
            link.name, "adapter", revision, hash_folder(link.folder), identity_of(below)
        )
    if isinstance(link.path, Path):
        source: Literal["embedded", "folder"] = "embedded" if link.name in EMBEDDED else "folder"
        return PolicyIdentity(link.name, source, "", hash_folder(link.path))
    commit = hub.model_commit(link.path, link.revision) or link.revision or "unknown"
    digest = hashlib.sha256(f"{link.path}@{commit}".encode()).hexdigest()
    return PolicyIdentity(link.name, "hub", commit, digest)
