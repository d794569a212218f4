"""The parts that all model cards share: what the hub reads, and text that can be published.

    front_matter(library="peft", base_model="Qwen/Qwen3-1.7B", results=(...))
    table(("model", "revision"), rows)
    portable("saved in /data/runs/esr")        # saved in esr

A card leaves the machine that it was written on. So an absolute path is shown by its last part, and
an address without user and password; a relative path stays as it was given.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

PAPER = "https://arxiv.org/abs/2605.27028"
TAGS = ("on-policy-distillation", "decaylab")
SHORT_HASH = 12  # digits of a content hash
# A path from the root, from a home folder or from a drive. What stands before it is no part of a
# word, of an address or of a relative path.
_PATH = re.compile(
    r"(?<![\w.~/\\-])(?:file://)?(?:~[\w.-]*/|/(?=[\w.~-])|[A-Za-z]:[\\/]|\\\\)"
    r"[^\s`'\",;()\[\]|=]*"
)
_USER = re.compile(r"(?<=://)[^\s/@]+@")
_MARKUP = str.maketrans({"<": "&lt;", ">": "&gt;", **{sign: f"\\{sign}" for sign in "\\*_{}|#"}})


def front_matter(
    *,
    library: str = "",
    base_model: str = "",
    model_name: str = "",
    tags: Sequence[str] = (),
    results: Sequence[EvalResult] = (),
) -> str:
    """The YAML block at the top of a model card, with its marks.

    Args:
        library: peft or transformers; "" leaves it to the hub, which looks at the files.
        base_model: id of the model that was trained further; "" if it has none that others can
            load.
        model_name: what the results are of; needed with results.
        tags: beside those of every card.
        results: the model-index.
    """
    data = ModelCardData(
        base_model=base_model or None,
        library_name=library or None,
        pipeline_tag="text-generation",
        tags=[*TAGS, *tags],
        model_name=model_name if results else None,
        eval_results=list(results) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def base_id(policy: Mapping[str, Any]) -> str:
    """The name under which others can load a policy or the nearest of its bases: a hub id, or a
    model of the embedded pair; "" if it and its bases are folders of this machine.

    policy: as run.json records it.
    """
    on_hub = policy.get("source") in ("hub", "embedded")
    if on_hub or policy.get("source") == "adapter" and policy.get("revision"):
        return str(policy["name"])
    base = policy.get("base")
    return base_id(base) if base else ""


def called(name: str) -> str:
    """A model or data set as a card names it: a folder by its name, any other as it was given. Of a
    local copy of a set (``mbpp:/data/mbpp.jsonl``) the path is shortened so."""
    of_set, colon, path = name.rpartition(":")
    if colon and _PATH.match(path):
        return f"{of_set}:{called(path)}"
    parts = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return parts.name if _PATH.match(name) else _USER.sub("", name)


def portable(text: str) -> str:
    """Text without absolute paths, users and passwords; each path is shown by its last part."""
    return _USER.sub("", _PATH.sub(lambda found: _last(found[0]), text))


def _last(path: str) -> str:
    """The last part of a path, with the sign that ends a sentence behind it."""
    bare = path.rstrip(".:/\\!?")
    name = re.split(r"[/\\]", bare)[-1] or "folder"
    return f"{name}{path[len(bare) :].lstrip('/' + chr(92))}"


def portable_command(command: str) -> str:
    """A command line without absolute paths, users and passwords, word by word: a path may have
    spaces in it."""
    try:
        words = shlex.split(command)
    except ValueError:  # not of a shell
        return portable(command)
    return shlex.join(_portable_word(word) for word in words)


def _portable_word(word: str) -> str:
    """A word of a command: a value, ``--option=value``, or values with commas between them."""
    option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{sign}{','.join(map(called, value.split(',')))}"


def escaped(text: str) -> str:
    """A line of text in which nothing is read as markup, except code between backticks."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if place % 2 else _plain(part) for place, part in enumerate(parts))


def _plain(text: str) -> str:
    # A bracket alone is none: intervals stay as they are.
    return text.translate(_MARKUP).replace("](", "\\](")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of words, each `escaped`."""
    lines = [header, [":--"] * len(header), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
