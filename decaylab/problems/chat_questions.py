"""Extracts the question from a list of chat messages.

asked([{"role": "user", "content": "2 + 2?"}], "mine.jsonl:1", "prompt")    # ("2 + 2?", ())
asked([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2?"}], ...)
# ("2?", (("system", "Be brief."), ("user", "2?")))
"""

from __future__ import annotations

from typing import Any

from decaylab.errors import UserError

Messages = tuple[tuple[str, str], ...]
"""Role and content of each message."""


def asked(value: list[Any], where: str, column: str) -> tuple[str, Messages]:
    """The text of the last message, and all messages if there are several.

    Raises:
        UserError: no message, one without role or text, or a last one that is not the user's.
    """
    messages = tuple(
        _message(message, where, f"{column}.{place}") for place, message in enumerate(value)
    )
    if not messages or messages[-1][0] != "user":
        got = ", ".join(role for role, _ in messages) or "no message"
        raise UserError(
            f"{where}: column {column!r} must end with a message of role user, got {got:.60}"
        )
    return messages[-1][1], messages if len(messages) > 1 else ()


def _message(value: Any, where: str, path: str) -> tuple[str, str]:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise UserError(
            f"{where}: column {path!r} must hold a chat message with role and content, got "
            f"{value!r:.60}"
        )
    content = value.get("content")
    text = joined(content) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise UserError(
            f"{where}: column {path + '.content'!r} must hold text, got {content!r:.60}"
        )
    return value["role"], text


def joined(parts: list[Any]) -> str | None:
    """The parts of a message joined as text; None if a part is not text, such as an image."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)
