"""What a column must hold, or one line that says which column, what must be there and what was
found."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files.record import Message


def refused(place: str, column: str, must: str, found: Any) -> UserError:
    """The error for a value that a column must not hold."""
    return UserError(f"{place}: column {column!r} must hold {must}, got {found!r:.60}")


def text(value: Any, column: str, place: str) -> str:
    if not isinstance(value, str):
        raise refused(place, column, "text", value)
    return value


def optional_text(value: Any, column: str, place: str) -> str | None:
    return None if value is None else text(value, column, place)


def optional_flag(value: Any, column: str, place: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise refused(place, column, "true or false", value)
    return value


def number(value: Any, column: str, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(place, column, "a number", value)
    return value


def items(value: Any, column: str, place: str, must: str = "a list") -> list[Any]:
    if not isinstance(value, list):
        raise refused(place, column, must, value)
    return value


def table(value: Any, column: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise refused(place, column, "an object", value)
    return value


def ids(value: Any, column: str, place: str) -> list[int]:
    """Token ids."""
    found: list[int] = items(value, column, place, "token ids")
    if not are_whole(found, "L"):
        raise refused(place, column, "token ids", value)
    return found


def are_whole(values: list[Any], kind: str = "q") -> bool:
    """Whether all are whole numbers. An array is the cheapest test of a long list, which true and
    false pass as well.

    kind: of the array: ``q`` with a sign, ``L`` without.
    """
    try:
        array(kind, values)
    except (TypeError, OverflowError):
        return False
    return not (values and isinstance(values[0], bool))


def mask(value: Any, column: str, length: int, place: str) -> list[int]:
    """A mask of 0 and 1, or of false and true or 0.0 and 1.0, as long as the ids that it belongs
    to."""
    found = items(value, column, place, "a mask of 0 and 1")
    if found.count(1) + found.count(0) != len(found):
        raise refused(place, column, "a mask of 0 and 1", value)
    if len(found) != length:
        raise UserError(
            f"{place}: column {column!r} must be as long as its {length} ids, got {len(found)}"
        )
    return list(map(int, found))


def messages(value: Any, column: str, place: str) -> list[Message]:
    """Chat messages: objects with a role."""
    found = items(value, column, place, "chat messages")
    for index, one in enumerate(found):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise refused(place, f"{column}.{index}", "a chat message with a role", one)
        if not isinstance(one.get("content"), str | list | None):
            raise refused(
                place, f"{column}.{index}.content", "text or a list of parts", one["content"]
            )
    return found


def message(one: Message, column: str, place: str) -> Message:
    """A message with what chat templates read of it: content as text where it can be, reasoning,
    tool calls."""
    plain: Message = {"role": one["role"], "content": joined(one.get("content"))}
    if one.get("reasoning_content") is not None:
        plain["reasoning_content"] = text(
            one["reasoning_content"], f"{column}.reasoning_content", place
        )
    if one.get("tool_calls"):
        plain["tool_calls"] = tool_calls(one["tool_calls"], f"{column}.tool_calls", place)
    if one.get("tool_call_id") is not None:
        plain["tool_call_id"] = one["tool_call_id"]
    return plain


def tool_calls(value: Any, column: str, place: str) -> list[dict[str, Any]]:
    """Tool calls in the one spelling that chat templates read: ``{"id", "type", "function":
    {"name", "arguments"}}``."""
    calls = []
    for index, call in enumerate(items(value, column, place, "tool calls")):
        try:
            found = json.loads(call) if isinstance(call, str) else call
            named = found.get("function")
            if not isinstance(named, dict):
                named = {"name": named or found["name"], "arguments": found.get("arguments")}
            calls.append({"id": found.get("id"), "type": "function", "function": named})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise refused(place, f"{column}.{index}", "a tool call with a name", call) from error
    return calls


def joined(content: Any) -> Any:
    """Content as text where all of its parts are text; else as it stands."""
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        return "".join(str(part.get("text", "")) for part in content)
    return content
