"""Reads the values of a row and checks their types.

    row = Fields({"output_ids": [1, 2], "meta_info": {"id": 4}}, "mine.jsonl:3")
    row.ids("output_ids")                   # [1, 2]
    row.inner("meta_info").text("id")      # UserError:
    # mine.jsonl:3: column 'meta_info.id' must hold text, got 4

A malformed value raises a one-line error with the file, row, column, the required and the actual
value. Methods whose name begins with ``optional`` also accept a missing or null column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from decaylab.errors import UserError
from decaylab.rollout_files.record import ABSENT, Message

MESSAGE = "a list of messages with role and content"
WHOLE = "a whole number from 0"
_NOTHING = type(None)
T = TypeVar("T")
Name = str | int
"""A column's name, or an index in a list."""


class Fields:
    """An object of a row, or the row itself.

    values: by column. place: file and line, for messages. column: path of this object in the row;
    "" for the row.
    """

    __slots__ = ("column", "place", "values")

    def __init__(self, values: Mapping[Any, Any], place: str, column: str = "") -> None:
        self.values, self.place, self.column = values, place, column

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def get(self, name: Name, default: Any = None) -> Any:
        """The unchecked value of a column."""
        return self.values.get(name, default)

    def path(self, name: Name) -> str:
        """The full path of a column."""
        return f"{self.column}.{name}" if self.column else str(name)

    def refused(self, name: Name, must: str, value: Any = None) -> UserError:
        """The error for a column with a wrong value. must: what it must hold."""
        got = "nothing" if value is None or value is ABSENT else f"{value!r:.60}"
        return UserError(f"{self.place}: column {self.path(name)!r} must hold {must}, got {got}")

    def _of_type(self, name: Name, must: str, *types: type[T]) -> T:
        # Exact types, because isinstance takes true and false for numbers.
        value: T = self.get(name)
        if type(value) not in types:
            raise self.refused(name, must, value)
        return value

    def text(self, name: Name) -> str:
        return self._of_type(name, "text", str)

    def optional_text(self, name: Name) -> str | None:
        return self._of_type(name, "text", str, _NOTHING)

    def optional_flag(self, name: Name) -> bool | None:
        return self._of_type(name, "true or false", bool, _NOTHING)

    def number(self, name: Name) -> float:
        return self._of_type(name, "a number", int, float)

    def optional_whole(self, name: Name) -> int | None:
        """A whole number from 0."""
        value: int | None = self._of_type(name, WHOLE, int, _NOTHING)
        if value is not None and value < 0:
            raise self.refused(name, WHOLE, value)
        return value

    def optional_name(self, name: Name) -> str | None:
        """Text or a whole number, as text."""
        value = self._of_type(name, "text or a whole number", str, int, _NOTHING)
        return None if value is None else str(value)

    # Lists and objects

    def listed(self, name: Name, must: str = "a list") -> list[Any]:
        return self._of_type(name, must, list)

    def inner(self, name: Name, must: str = "an object") -> Fields:
        return Fields(self._of_type(name, must, dict), self.place, self.path(name))

    def items(self, name: Name, must: str = "a list") -> Fields:
        """A list as fields, named by index."""
        return Fields(dict(enumerate(self.listed(name, must))), self.place, self.path(name))

    def objects(self, name: Name, must: str = "a list of objects") -> list[Fields]:
        items = self.items(name, must)
        return [items.inner(number) for number in items.values]

    # Token ids

    def ids(self, name: Name) -> list[int]:
        """Token ids."""
        value = self.listed(name, "a list of token ids")
        if not _are_ids(value):
            raise self.refused(name, "a list of token ids", value)
        return value

    def optional_ids(self, name: Name) -> list[int] | None:
        return None if self.values.get(name) is None else self.ids(name)

    def mask(self, name: Name, length: int) -> list[int]:
        """A mask of 0 and 1 (or false and true, or 0.0 and 1.0) of this length."""
        # Counting is the fastest check of a long list; 1 == True == 1.0.
        value = self.listed(name, "a mask of 0 and 1")
        if value.count(1) + value.count(0) != len(value):
            raise self.refused(name, "a mask of 0 and 1", value)
        if len(value) != length:
            raise UserError(
                f"{self.place}: column {self.path(name)!r} must be as long as its {length} ids, "
                f"got {len(value)}"
            )
        return list(map(int, value))

    # Chat messages

    def message(self, name: Name) -> Message:
        """A chat message: a role, and content, a thought or tool calls."""
        value: Message = self._of_type(name, "a chat message with a role", dict)
        if not isinstance(value.get("role"), str):
            raise self.refused(name, "a chat message with a role", value)
        if value.keys().isdisjoint(("content", "tool_calls", "reasoning_content")):
            raise self.refused(name, "a message with role and content", value)
        if not isinstance(value.get("content"), str | list | None):
            raise self.refused(f"{name}.content", "text or a list of parts", value["content"])
        return value

    def messages(self, name: Name) -> list[Message]:
        """Chat messages, at least one."""
        items = self.items(name, MESSAGE)
        if not items.values:
            raise self.refused(name, MESSAGE, [])
        return [items.message(number) for number in items.values]

    def prompt(self, name: Name) -> str | list[Message]:
        """Text or chat messages."""
        value: Any = self._of_type(name, "text or a list of messages", str, list)
        return value if isinstance(value, str) else self.messages(name)


def _are_ids(values: list[Any]) -> bool:
    """Whether all values are integers from 0."""
    # Comparing types is the fastest check of a long list; true and false have another type.
    return set(map(type, values)) <= {int} and min(values, default=0) >= 0


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number; NaN is a missing value."""
    return isinstance(value, int | float) and value == value


def is_messages(value: Any) -> TypeGuard[list[Message]]:
    """Whether a value is a list of chat messages."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(message, dict) and "role" in message for message in value)
