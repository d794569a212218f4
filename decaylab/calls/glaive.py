"""Training prompts from glaiveai/glaive-function-calling-v2: the first turn of each conversation.

    read = prompts([("train:1", {"system": "SYSTEM: ... -\\n{...}", "chat": "USER: ..."})])
    read.prompts[0].messages      # [{"role": "user", "content": "..."}]
    read.prompts[0].functions     # the functions of its system text
    read.note()                   # "1 of 3 rows offer no functions, left out"

A row has two texts: ``system`` introduces functions, one JSON object after another; ``chat`` holds
turns that begin with USER:, ASSISTANT: or FUNCTION RESPONSE:. The introduction is left out: a chat
template writes its own. Unverified: the data set was not available; its look is that of its card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True)
class Prompts:
    """The prompts of rows, and how many rows gave none.

    without_functions: rows that offer no functions.
    unreadable: why, with its place, for each row whose functions or first turn cannot be read.
    """

    prompts: list[Prompt]
    without_functions: int
    unreadable: list[str]

    def note(self) -> str:
        """What was left out, in one line; empty if nothing was."""
        rows = len(self.prompts) + self.without_functions + len(self.unreadable)
        notes = []
        if self.without_functions:
            notes.append(f"{self.without_functions} of {rows} rows offer no functions, left out")
        if self.unreadable:
            count = f"{len(self.unreadable)} of {rows} rows cannot be read, left out"
            notes.append(f"{count} (the first: {self.unreadable[0]})")
        return "; ".join(notes)


def prompts(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Prompts:
    """The training prompts of rows with their places.

    Raises:
        UserError: a row without the columns system and chat, or no row that gives a prompt.
    """
    found: list[Prompt] = []
    unreadable: list[str] = []
    without = 0
    for where, row in rows:
        _check_columns(row, where)
        try:
            prompt = _prompt(row, where)
        except (Malformed, UserError) as error:
            unreadable.append(f"{where}: {str(error).removeprefix(f'{where}: ')}")
            continue
        without += prompt is None
        found += [prompt] if prompt else []
    read = Prompts(found, without, unreadable)
    if not found:
        raise UserError(f"no row has functions and a question; {read.note() or 'there are none'}")
    return read


def _check_columns(row: Mapping[str, Any], where: str) -> None:
    for column in COLUMNS:
        if not isinstance(row.get(column), str):
            raise UserError(
                f"{where}: column {column!r} must hold text, as in glaive-function-calling-v2; got "
                f"{row.get(column)!r:.60}"
            )


def _prompt(row: Mapping[str, Any], where: str) -> Prompt | None:
    """The prompt of a row; None if it offers no functions."""
    introduction, schemas = _offered(row["system"])
    if not schemas:
        return None
    messages = [{"role": "user", "content": _first_turn(row["chat"])}]
    if introduction and not _INTRODUCTION.search(introduction):
        messages.insert(0, {"role": "system", "content": introduction})
    return Prompt(messages, functions(schemas, f"{where}: column 'system'"))


def _offered(system: str) -> tuple[str, list[Any]]:
    """The text before the functions, and the functions: JSON objects or a list of them."""
    start = re.search(r"[{\[]", system)
    at = start.start() if start else len(system)
    introduction = system[:at].strip().removeprefix("SYSTEM:").strip()
    schemas: list[Any] = []
    while at < len(system):
        value, at = value_at(system, at)
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
