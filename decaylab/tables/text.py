r"""A table of a paper: numbers with their intervals, as text, as data, in Markdown and in LaTeX.

    table.frame      the numbers alone, a row a row of the table, value, low and high a column each,
    units in the names table.text       what is printed: 65.4 [60.8, 69.8] to_markdown(table),
    to_csv(table), table_latex.to_latex(table)

Nothing is computed here but roundings: half away from zero, of the decimal number as it is written.
A published number is not rounded. Undefined is an en dash with its reason below the table, infinity
is told as beyond the longest that was measured. Every word is data: a token such as ``\(`` or ``|``
is shown as it is in each format, and what cannot be seen by its code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

import pandas as pd

from decaylab.printing import UNDEFINED, p_value, rounded, significant

SOURCE_KEY = "source"  # of the column that says what was measured and what published
MARK = "\u2020"
UNDER_FLOOR = f"{MARK} closer to no effect than twice its noise floor"

Form = Literal["words", "token", "whole", "tenths", "digits", "p", "length"]


@dataclass(frozen=True)
class Number:
    """A number in the unit of its column, with its interval.

    note: why it is undefined, or what must be known of it. longest: what infinity is beyond.
    under_floor: less than twice its noise floor from no effect. published: as somebody else printed
    it. signed: a difference.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""
    longest: float = math.nan
    under_floor: bool = False
    published: bool = False
    signed: bool = False

    @property
    def footnote(self) -> str:
        """What its mark refers to: the reason of a number that is undefined, the remark on a
        published one."""
        return self.note if math.isnan(self.value) or self.published else ""


Cell = str | Number


@dataclass(frozen=True)
class Column:
    """A column.

    key: its name in the numeric frame, with the unit. name: as printed, with the unit. form: words;
    the text of a token; a whole number; one decimal; three significant digits; a p-value; a length,
    infinity being a full rollout.
    place: where it stands among the columns. signed: of differences.
    """

    key: str
    name: str
    form: Form = "words"
    place: tuple[float, ...] = (0,)
    signed: bool = False

    @property
    def numeric(self) -> bool:
        return self.form not in ("words", "token")


@dataclass(frozen=True)
class PaperTable:
    """A table. Every row has a cell for each column; "" where there is nothing to say. remarks:
    below it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    remarks: tuple[str, ...] = ()

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers, NaN where there is none; the words beside them."""
        found: dict[str, list[object]] = {}
        for column, cells in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            if not column.numeric:
                found[column.key] = list(cells)
                continue
            numbers = [cell if isinstance(cell, Number) else Number(math.nan) for cell in cells]
            found[column.key] = [number.value for number in numbers]
            if any(not math.isnan(number.low) for number in numbers):
                found[f"{column.key}_low"] = [number.low for number in numbers]
                found[f"{column.key}_high"] = [number.high for number in numbers]
        return pd.DataFrame(found)

    @cached_property
    def text(self) -> pd.DataFrame:
        """What is printed, under the names of the header."""
        return pd.DataFrame([self.printed(row) for row in self.rows], columns=list(self.header))

    @property
    def keys(self) -> dict[str, list[float]]:
        """The values of each column of numbers, by its name in the header: what its rows are sorted
        by."""
        return {
            column.name: list(self.frame[column.key]) for column in self.columns if column.numeric
        }

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The reasons, by their letters; what must be known of numbers that are defined;
        remarks."""
        lettered = [f"({letter}) {note}" for note, letter in self.letters.items()]
        cells = [
            (column, cell)
            for row in self.rows
            for column, cell in zip(self.columns, row, strict=True)
        ]
        numbers = [(column, cell) for column, cell in cells if isinstance(cell, Number)]
        noted: dict[str, dict[str, None]] = {}
        for column, number in numbers:
            if number.note and not number.footnote:
                noted.setdefault(number.note, {})[column.name] = None
        told = [f"{', '.join(names)}: {note}" for note, names in noted.items()]
        under = [UNDER_FLOOR] if any(number.under_floor for _, number in numbers) else []
        return (*lettered, *under, *told, *self.remarks)

    @cached_property
    def letters(self) -> dict[str, str]:
        notes = dict.fromkeys(
            cell.footnote
            for row in self.rows
            for cell in row
            if isinstance(cell, Number) and cell.footnote
        )
        return {note: _letter(place) for place, note in enumerate(notes)}

    @cached_property
    def decimals(self) -> dict[str, int]:
        """By column, as many decimals as its published numbers have."""
        found: dict[str, int] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Number) and cell.published and math.isfinite(cell.value):
                    places = max(
                        0, -int(Decimal(f"{cell.value:.14g}").normalize().as_tuple().exponent)
                    )
                    found[column.key] = max(places, found.get(column.key, 0))
        return found

    def printed(self, row: Sequence[Cell]) -> list[str]:
        """A row as text."""
        return [
            self._number(column, cell)
            if isinstance(cell, Number)
            else seen(cell, token=column.form == "token")
            for column, cell in zip(self.columns, row, strict=True)
        ]

    def _number(self, column: Column, number: Number) -> str:
        letter = f" ({self.letters[number.footnote]})" if number.footnote else ""
        if math.isnan(number.value):
            return UNDEFINED + letter
        ends = [self._written(column, number, end) for end in (number.low, number.high)]
        interval = "" if math.isnan(number.low) else f" [{ends[0]}, {ends[1]}]"
        value = self._written(column, number, number.value)
        return f"{value}{MARK * number.under_floor}{interval}{letter}"

    def _written(self, column: Column, number: Number, value: float) -> str:
        """One value, or one end of an interval."""
        if math.isinf(value):
            full = column.form == "length"
            return (
                "full"
                if full
                else f"> {number.longest:,g}"
                if math.isfinite(number.longest)
                else "unbounded"
            )
        if math.isnan(value):
            return UNDEFINED
        signed = number.signed or column.signed
        if number.published:
            return rounded(value, self.decimals[column.key], signed=signed)
        if column.form == "p":
            return p_value(value)
        if column.form == "digits":
            return significant(value, signed=signed)
        return rounded(value, 1 if column.form == "tenths" else 0, signed=signed)


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)


def seen(text: str, *, token: bool = False) -> str:
    """Text in which everything can be seen: what has no shape, or turns the text around, by its
    code. Of a token also spaces and ends of lines."""
    signs = text.replace(" ", "\u2423").replace("\n", "\u21b5") if token else text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in signs
    )


# Markdown

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", "$": "&#36;"}
_MARKUP = str.maketrans({**_ENTITIES, **{sign: f"\\{sign}" for sign in "\\`*_{}[]|#"}})
_PLAIN = str.maketrans({**_ENTITIES, "|": "\\|"})  # of numbers, which hold no markup but brackets


def to_markdown(table: PaperTable) -> str:
    """The table in Markdown with its caption above and its footnotes below; every cell is text and
    nothing else."""
    numeric = [column.numeric for column in table.columns]
    lines = [
        _line(_markdown(name) for name in table.header),
        _line("--:" if number else ":--" for number in numeric),
    ]
    for row in table.text.itertuples(index=False):
        cells = zip(row, numeric, strict=True)
        lines.append(
            _line(
                str(cell).translate(_PLAIN) if number else _markdown(cell) for cell, number in cells
            )
        )
    below = [_markdown(note) for note in table.footnotes]
    return (
        "\n\n".join(
            [f"**{_markdown(table.title)}.** {_markdown(table.caption)}", "\n".join(lines), *below]
        )
        + "\n"
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return seen(text).translate(_MARKUP)


def to_csv(table: PaperTable) -> str:
    """The numbers with all their digits, and the words beside them as they are."""
    return str(table.frame.to_csv(index=False))
