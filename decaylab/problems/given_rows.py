"""Problems that are in memory already: rows that the user holds in Python.

    with held([{"question": "2 + 2?", "answer": "4"}]) as name:      # "rows:3fa9c2d1e0b4"
        load_problems(name)

Rows are read as the same rows of a JSONL file would be: ids, contents and hash agree. The name is a
hash of the rows and valid within the block.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from decaylab.errors import UserError
from decaylab.problems.files import Row, parsed_rows

if TYPE_CHECKING:
    import pandas as pd

ProblemsLike: TypeAlias = Union[str, Path, Sequence[dict[str, Any]], "pd.DataFrame"]
"""A problem set by name, a file, or a hub data set; or a list of dicts or a DataFrame with question
and answer."""
PREFIX = "rows:"
HASH_DIGITS = 12

_held: dict[str, tuple[str, ...]] = {}


def as_rows(value: Any, option: str = "problems") -> list[Any] | None:
    """The rows of a list of dicts or a DataFrame; None for a name. option: named in errors.

    Raises:
        UserError: neither of the three.
    """
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return None
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        _check_columns(value)
        return list(value.to_dict("records"))
    if isinstance(value, list | tuple):
        return list(value)
    raise UserError(
        f"{option} must be a name, a list of dicts or a DataFrame, got "
        f"{type(value).__name__}: {value!r:.40}"
    )


def _check_columns(frame: Any) -> None:
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UserError(f"problems: the DataFrame has two columns {twice!r}; rename one of them")


@contextmanager
def held(rows: list[Any]) -> Iterator[str]:
    """The name of the rows, which `load_problems` reads within the block.

    Raises:
        UserError: a row that is not a dict, or a value that JSON cannot hold.
    """
    texts = tuple(_as_json(row, number) for number, row in enumerate(rows, start=1))
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    name = f"{PREFIX}{digest[:HASH_DIGITS]}"
    before = _held.get(name)
    _held[name] = texts
    try:
        yield name
    finally:
        if before is None:
            del _held[name]


def is_rows(spec: str) -> bool:
    """Whether the name of a problem set is that of rows in memory."""
    return spec.startswith(PREFIX)


def rows_of(name: str, halves: list[str]) -> Iterator[Row]:
    """The rows of a name. halves: list to which places of rows with half a character are added.

    Raises:
        UserError: no rows of this name are held now, or a row is not an object.
    """
    if name not in _held:
        raise UserError(
            f"{name} were problems in the memory of a Python process: give the same list or "
            "DataFrame again from Python, or write them to a .jsonl file"
        )
    return parsed_rows(_held[name], "problems", halves)


def _as_json(row: Any, number: int) -> str:
    """A row as a line of a JSONL file; missing values of a table are null, as pandas writes them.

    Keys keep their order, which decides between several columns for one role.
    """
    if not isinstance(row, dict):
        raise UserError(
            f"problems, row {number}: must be a dict with a question and an answer, got "
            f"{type(row).__name__}"
        )
    try:
        return json.dumps({str(name): _plain(value) for name, value in row.items()})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"problems, row {number}: holds a value that is neither text, a number, a list nor a "
            f"dict ({error})"
        ) from error


def _plain(value: Any) -> Any:
    """A value as JSON holds it: numpy's and pandas' kinds become Python's."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if type(value).__module__ == "numpy":
        return _plain(value.tolist())
    if isinstance(value, float) and math.isnan(value):
        return None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return str(value) if isinstance(value, Decimal) else value
