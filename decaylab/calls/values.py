"""A call as every form gives it, and why a text holds none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEVELS = 50
"""Deepest nesting of schemas and of expected values."""
LEVELS_READ = 200
"""Deepest nesting of a value that is read. It does not depend on the limits of the process."""


def is_deeper(value: Any, levels: int = LEVELS) -> bool:
    """Whether lists and objects in a value are nested more than so many levels deep."""
    items = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(items, list | tuple):
        return False
    return levels == 0 or any(is_deeper(one, levels - 1) for one in items)


@dataclass(frozen=True)
class Call:
    """One function call.

    name: as written, such as ``math.gcd``.
    arguments: values by argument name. An argument that Python syntax gives by position has its
        place as name: ``"0"``, ``"1"``.
    """

    name: str
    arguments: dict[str, Any]


class Untyped(str):
    """A value whose form writes every value as text, such as Qwen3-Coder's: the schema has the
    type."""


class Malformed(ValueError):
    """A text that cannot be read as calls. The message says why, in one line.

    place: where reading can go on, in characters from the start of the text.
    """

    def __init__(self, why: str, place: int = 0) -> None:
        super().__init__(why)
        self.place = place
