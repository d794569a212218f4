"""A call as every form gives it, and why a text holds none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
