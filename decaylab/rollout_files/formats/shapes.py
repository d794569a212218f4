"""Recognises the rows of a format by their columns and the types of the values.

    is_dump = has(input=str, output=str, score=is_number)
    is_dump({"input": "2 + 3", "output": "5", "score": 1.0, "step": 4})   # True
    is_request = has(outputs=[has(text=str, token_ids=object)])           # one or more outputs

A kind is a type, a union of types, a test, or a list with one kind, which matches a non-empty list
of values of that kind. ``object`` matches any value, including null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any

Test = Callable[[Any], bool]
Kind = type | UnionType | list[Any] | Test


def fits(value: Any, kind: Kind) -> bool:
    """Whether a value is of a kind; true and false are not integers."""
    if isinstance(kind, list):
        return (
            isinstance(value, list) and bool(value) and all(fits(item, kind[0]) for item in value)
        )
    if kind is int:
        return type(value) is int
    if isinstance(kind, type | UnionType):
        return isinstance(value, kind)
    return kind(value)


def has(**columns: Kind) -> Test:
    """A test for objects that have all these columns, each of its kind."""

    def test(row: Any) -> bool:
        if not isinstance(row, Mapping):
            return False
        return all(name in row and fits(row[name], kind) for name, kind in columns.items())

    return test


def either(*kinds: Kind) -> Test:
    """A test for values of one of these kinds."""
    return lambda value: any(fits(value, kind) for kind in kinds)


def both(*tests: Test) -> Test:
    """A test for values that pass all of these."""
    return lambda value: all(test(value) for test in tests)


def logged_table(*columns: str) -> Test:
    """A test for Weights & Biases tables (``media/table/*.table.json``) that begin with these
    columns."""

    def test(row: Any) -> bool:
        return is_table(row) and tuple(row["columns"][: len(columns)]) == columns

    is_table = has(columns=list, data=list)
    return test
