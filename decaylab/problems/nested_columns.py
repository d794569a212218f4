"""Looks up columns by path, and extracts gold answers from objects.

    lookup({"reward_model": {"ground_truth": "4"}}, "reward_model.ground_truth")   # "4"
    lookup({"messages": [{"content": "2 + 2?"}]}, "messages.0.content")            # "2 + 2?"
    gold_text({"value": "136"}, "mine.jsonl:1", "answer")
    # Gold("136", unwrapped=True)

A path goes through objects, lists (by index) and JSON text of either. A column whose own name
contains the dot takes precedence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from decaylab.errors import UserError

_MISSING = object()


def lookup(row: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value of a column or of a path (``reward_model.ground_truth``), else ``default``."""
    if path in row:
        return row[path]
    return _inside(row, path, default) if "." in path else default


def has(row: Mapping[str, Any], path: str) -> bool:
    """Whether the column or path exists; its value may be None."""
    return lookup(row, path, _MISSING) is not _MISSING


def names(row: Mapping[str, Any]) -> list[str]:
    """Column names for messages; for an object, the paths one level down."""
    columns: list[str] = []
    for name, value in row.items():
        if isinstance(value, dict) and value:
            columns += [f"{name}.{inner}" for inner in value]
        else:
            columns.append(name)
    return columns


def _inside(value: Any, path: str, default: Any) -> Any:
    """The value under a path inside an object or list; longer keys are tried first."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, list):
        place, _, rest = path.partition(".")
        if not place.isdecimal() or int(place) >= len(value):
            return default
        return _inside(value[int(place)], rest, default) if rest else value[int(place)]
    if not isinstance(value, Mapping):
        return default
    if path in value:
        return value[path]
    head = path
    while "." in head:
        head = head.rpartition(".")[0]
        if head in value:
            inner = _inside(value[head], path[len(head) + 1 :], _MISSING)
            if inner is not _MISSING:
                return inner
    return default


def _parsed(text: str) -> Any:
    """The object or list in a JSON text; None for any other text."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("{}", "[]"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


class Gold(NamedTuple):
    """A gold answer as text; None if there is none. unwrapped: it was inside an object or list."""

    text: str | None
    unwrapped: bool


def gold_text(value: Any, where: str, column: str) -> Gold:
    """A gold answer as text, unwrapped from an object or list (or JSON of one) with a single value.

    Args:
        value: the value in the file.
        where: the row, for messages.
        column: the name or path of the value, for messages.

    Raises:
        UserError: several values, or a value that is neither text nor a number.
    """
    inner, path = _single(value, where, column)
    # Tables store a missing value as NaN.
    if inner is None or (isinstance(inner, float) and math.isnan(inner)):
        return Gold(None, False)
    if not isinstance(inner, str | int | float | Decimal):
        raise UserError(f"{where}: column {path!r} must hold text or a number, got {inner!r:.60}")
    text = str(inner).strip()
    return Gold(text or None, bool(text) and path != column)


def _single(value: Any, where: str, path: str) -> tuple[Any, str]:
    """The one value inside objects and lists, and its path."""
    while True:
        opened = _wrapping(value) if isinstance(value, str) else value
        if isinstance(opened, dict):
            held = [(str(name), inner) for name, inner in opened.items() if inner is not None]
        elif isinstance(opened, list):
            held = [(str(place), inner) for place, inner in enumerate(opened)]
        else:
            return value, path
        if len(held) > 1:
            inside = ", ".join(f"{path}.{name}" for name, _ in held[:4])
            more = ", ..." if len(held) > 4 else ""
            raise UserError(
                f"{where}: column {path!r} has several values ({inside}{more}) instead of one gold "
                f"answer; choose one, such as --column answer={path}.{held[0][0]}"
            )
        if not held:
            return None, path
        path, value = f"{path}.{held[0][0]}", held[0][1]


def _wrapping(text: str) -> Any:
    """The object or one-element list in a JSON text; None for any other text.

    The element must be a string, since [5], [1, 2] and {} may be mathematics.
    """
    value = _parsed(text)
    if isinstance(value, list):
        return value if len(value) == 1 and isinstance(value[0], str) else None
    return value or None
