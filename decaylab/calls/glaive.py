"""Training prompts from glaiveai/glaive-function-calling-v2: the first turn of each conversation.

    prompt({"system": "SYSTEM: ... -\\n{...}", "chat": "USER: ..."}, "train:1")
    # Prompt(messages=[{"role": "user", "content": "..."}], functions=(...,))

A row has two texts: ``system`` introduces functions, one JSON object after another; ``chat`` holds
turns that begin with USER:, ASSISTANT: or FUNCTION RESPONSE:. The introduction is left out: a chat
template writes its own. Unverified: the data set was not available; its look is that of its card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from decaylab.calls.json_calls import after_blanks, value_at
from decaylab.calls.schemas import Function, functions
from decaylab.calls.values import Malformed
from decaylab.errors import UserError

COLUMNS = ("system", "chat")
_TURN = re.compile(r"^(USER|ASSISTANT|FUNCTION RESPONSE):", re.MULTILINE)
_INTRODUCTION = re.compile(r"access to the following functions", re.IGNORECASE)
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Prompt:
    """Messages up to the first of the user, and the functions that are offered."""

    messages: list[dict[str, str]]
    functions: tuple[Function, ...]


def prompt(row: Mapping[str, Any], where: str) -> Prompt | None:
    """The prompt of a row; None if it offers no functions.

    where: the row's place, for messages.

    Raises:
        UserError: a row without the columns, or with functions or a first turn that cannot be read.
    """
    check_columns(row, where)
    try:
        introduction, schemas = _offered(row["system"])
        if not schemas:
            return None
        messages = [{"role": "user", "content": _first_turn(row["chat"])}]
    except Malformed as error:
        raise UserError(f"{where}: {error}") from error
    if introduction and not _INTRODUCTION.search(introduction):
        messages.insert(0, {"role": "system", "content": introduction})
    return Prompt(messages, functions(schemas, f"{where}: column 'system'"))


def check_columns(row: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a row without the data set's columns."""
    for column in COLUMNS:
        if not isinstance(row.get(column), str):
            raise UserError(
                f"{where}: column {column!r} must hold text, as in glaive-function-calling-v2; got "
                f"{row.get(column)!r:.60}"
            )


def _offered(system: str) -> tuple[str, list[Any]]:
    """The text before the functions, and the functions: JSON objects or a list of them."""
    start = re.search(r"[{\[]", system)
    at = start.start() if start else len(system)
    introduction = system[:at].strip().removeprefix("SYSTEM:").strip()
    schemas: list[Any] = []
    while at < len(system):
        try:
            value, at = value_at(system, at)
        except Malformed as error:
            raise Malformed(f"column 'system': {error}") from error
        schemas += value if isinstance(value, list) else [value]
        at = after_blanks(system, at)
    return introduction, schemas


def _first_turn(chat: str) -> str:
    """What the user says first."""
    turns = list(_TURN.finditer(chat))
    if not turns or turns[0].group(1) != "USER":
        raise Malformed(f"column 'chat' does not begin with USER:, got {chat[:40]!r}")
    end = turns[1].start() if len(turns) > 1 else len(chat)
    text = chat[turns[0].end() : end].strip().removesuffix(_END).strip()
    if not text:
        raise Malformed("column 'chat' has an empty first turn")
    return text
