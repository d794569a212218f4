"""Data frames as cells of a page's tables: what a person reads of each number, and what its column
is sorted by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from decaylab.printing import UNDEFINED, rounded

DIGITS = 4  # that are shown of a number; all of them stand in its cell's key


class Cell(NamedTuple):
    """key: what a column of numbers is sorted by; "" sorts last in any column; None: by its
    text."""

    text: str
    key: str | None


class Grid(NamedTuple):
    """columns: names, and whether they are sorted as numbers. constant: what is the same in every
    row. empty: names."""

    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    constant: list[tuple[str, Cell]]
    empty: list[str]


def measured_grid(frame: pd.DataFrame) -> Grid:
    """The numbers behind a figure: columns that are the same in every row stand apart, columns that
    hold nothing are only named."""
    columns: list[tuple[str, bool]] = []
    shown: list[list[Cell]] = []
    constant: list[tuple[str, Cell]] = []
    empty: list[str] = []
    for place, name in enumerate(frame.columns):
        cells = _cells(frame[name])
        # The first column names the rows.
        if place == 0 or len(set(cells)) > 1 or len(frame) < 2:
            columns.append((str(name), any(cell.key for cell in cells)))
            shown.append(cells)
        elif cells[0].key == "":
            empty.append(str(name))
        else:
            constant.append((str(name), cells[0]))
    return Grid(columns, [list(row) for row in zip(*shown, strict=True)], constant, empty)


def read_grid(text: pd.DataFrame, keys: Mapping[str, Sequence[float]]) -> Grid:
    """A table's text, sorted by keys in the columns that have them."""
    columns, shown = [], []
    for name in text.columns:
        cells = _cells(text[name])
        if name in keys:
            pairs = zip(text[name], keys[name], strict=True)
            cells = [Cell(str(value), _key(key)) for value, key in pairs]
        columns.append((str(name), name in keys or any(cell.key for cell in cells)))
        shown.append(cells)
    return Grid(columns, [list(row) for row in zip(*shown, strict=True)], [], [])


def _cells(column: pd.Series) -> list[Cell]:
    if pd.api.types.is_bool_dtype(column.dtype):
        return [Cell("yes", "1") if value else Cell("no", "0") for value in column]
    values = column.astype(object)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return [Cell(number_text(value), _key(value)) for value in values]
    return [_text_cell(value) for value in values]


def _text_cell(value: Any) -> Cell:
    return Cell("", "") if pd.isna(value) or value == "" else Cell(str(value), None)


def _key(value: Any) -> str:
    """The whole number as a script reads it; "" where it is undefined."""
    if pd.isna(value):
        return ""
    number = float(value)
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return str(value) if isinstance(value, int) else repr(number)


def number_text(value: Any) -> str:
    """A number with as many digits as a person wants: whole ones in full, others with four."""
    if pd.isna(value):
        return UNDEFINED
    number = float(value)
    if math.isinf(number):
        return rounded(number)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    if float(f"{number:.{DIGITS}g}") == number:
        return f"{number:.{DIGITS}g}"
    size = math.floor(math.log10(abs(number)))
    if size < -DIGITS or size >= 15:
        return f"{number:.{DIGITS - 1}e}"
    return rounded(number, max(0, DIGITS - 1 - size)).replace(",", "")
