r"""The one model of a table, which the terminal, Markdown, LaTeX, CSV and the HTML report render.

    table.frame      the numbers: a column each for value, low and high, units in the names
    table.text       what is printed: 65.4 [60.8, 69.8]

Renderers: `terminal.render` (rich), `to_markdown`, `to_csv`, `latex.to_latex` and the report's
template. Markdown and LaTeX are written here and not by tabulate or pandas' Styler: tabulate pads
and unescapes cells, and Styler can neither stack an interval under its number nor shrink a float.

Nothing is computed but roundings. A published number is printed as it was published. Undefined is
an en dash with its reason below the table; infinity is shown as beyond the longest that was
measured. All words are data: a token such as ``\(`` or ``|`` is shown literally in each format, and
an invisible character by its code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from decaylab import printing
from decaylab.printing import UNDEFINED, rounded

SOURCE_KEY = "source"  # of the column that says what was measured and what published
MARK = "\u2020"
UNDER_FLOOR = f"{MARK} closer to no effect than twice its noise floor"

Form = Literal[
    "words",
    "group",
    "kind",
    "token",
    "whole",
    "tenths",
    "value",
    "thousandths",
    "length",
    "floor",
]
TEXT: tuple[Form, ...] = ("words", "group", "kind")


@dataclass(frozen=True)
class Number:
    """A number in the unit of its column, with its interval; a fraction is in per cent.

    unit: of the measurement, which decides how many digits the form "value" prints. note: why it is
    undefined, or what must be known about it. longest: what infinity lies beyond. under_floor: less
    than twice its noise floor from no effect. published: as somebody else printed it. signed: a
    difference.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""
    longest: float = math.nan
    unit: str = ""
    under_floor: bool = False
    published: bool = False
    signed: bool = False

    @property
    def footnote(self) -> str:
        """The reason why a number is undefined, or the remark on a published one."""
        return self.note if math.isnan(self.value) or self.published else ""


Cell = str | Number


@dataclass(frozen=True)
class Column:
    """A column: how it is printed, and which measurement fills it.

    key: its name in the numeric frame, with the unit. name: as printed, with the unit. form: words;
    a group (the terminal prints it as a heading over its rows); the id of a kind of token, printed
    in words; the text of a token; a whole number; one decimal; a value as its unit asks; three
    decimals; a length, infinity being a full rollout; a noise floor. place: where it stands among
    the columns. signed: of differences.

    of: the quantity of its cells; "": that of the row. field: the field of the measurement that is
    shown, such as ``problems``; "": its value with its interval. at: coordinates of its own. quiet:
    notes are dropped from numbers that are defined. bare: without intervals.
    """

    key: str
    name: str
    form: Form = "words"
    place: tuple[float, ...] = (0,)
    signed: bool = False
    of: str = ""
    field: str = ""
    at: tuple[tuple[str, Any], ...] = ()
    quiet: bool = False
    bare: bool = False

    @property
    def numeric(self) -> bool:
        return self.form not in (*TEXT, "token")


Row = dict[Column, Cell]


@dataclass(frozen=True)
class Table:
    """A table. Every row has a cell for each column; "" where there is nothing to say."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, title: str, rows: Iterable[Row], *, name: str = "", caption: str = "") -> Table:
        """The table of these rows; columns that are empty throughout are left out."""
        lines = list(rows)
        filled: dict[Column, bool] = {}
        for row in lines:
            for column, cell in row.items():
                filled[column] = filled.get(column, False) or cell != ""
        kept = [column for column, holds in filled.items() if holds]
        columns = tuple(sorted(kept, key=lambda column: column.place))
        cells = tuple(tuple(row.get(column, "") for column in columns) for row in lines)
        return cls(name, title, columns, cells, caption)

    def worded(self, words: Callable[[str], str]) -> Table:
        """The table with its texts changed."""
        columns = tuple(replace(column, name=words(column.name)) for column in self.columns)
        rows = []
        for row in self.rows:
            rows.append(tuple(words(cell) if isinstance(cell, str) else cell for cell in row))
        remarks = tuple(map(words, self.remarks))
        return Table(
            self.name, words(self.title), columns, tuple(rows), words(self.caption), remarks
        )

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers, NaN where there is none; the words beside them."""
        data: dict[str, list[object]] = {}
        for column, cells in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            if not column.numeric:
                data[column.key] = list(cells)
                continue
            numbers = [cell if isinstance(cell, Number) else Number(math.nan) for cell in cells]
            data[column.key] = [number.value for number in numbers]
            if any(not math.isnan(number.low) for number in numbers):
                data[f"{column.key}_low"] = [number.low for number in numbers]
                data[f"{column.key}_high"] = [number.high for number in numbers]
        return pd.DataFrame(data)

    @cached_property
    def text(self) -> pd.DataFrame:
        """What is printed, under the names of the header."""
        return pd.DataFrame([self.printed(row) for row in self.rows], columns=list(self.header))

    @property
    def keys(self) -> dict[str, list[float]]:
        """By the names of numeric columns, the values that rows are sorted by."""
        keys = {}
        for column in self.columns:
            if column.numeric:
                keys[column.name] = list(self.frame[column.key])
        return keys

    def column_of_form(self, form: Form) -> list[Number]:
        """The numbers of all columns of a form."""
        return [number for column, number in self._numbers() if column.form == form]

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The lettered reasons; what must be known about numbers that are defined; remarks."""
        lettered = [f"({letter}) {note}" for note, letter in self.letters.items()]
        columns_of: dict[str, dict[str, None]] = {}
        for column, number in self._numbers():
            if number.note and not number.footnote:
                columns_of.setdefault(number.note, {})[column.name] = None
        noted = [f"{', '.join(names)}: {note}" for note, names in columns_of.items()]
        marked = any(number.under_floor for _, number in self._numbers())
        return (*lettered, *[UNDER_FLOOR] * marked, *noted, *self.remarks)

    @cached_property
    def letters(self) -> dict[str, str]:
        notes = dict.fromkeys(number.footnote for _, number in self._numbers() if number.footnote)
        return {note: _letter(place) for place, note in enumerate(notes)}

    @cached_property
    def decimals(self) -> dict[str, int]:
        """By column, as many decimals as its published numbers have."""
        most: dict[str, int] = {}
        for column, number in self._numbers():
            if number.published and math.isfinite(number.value):
                exponent = Decimal(f"{number.value:.14g}").normalize().as_tuple().exponent
                most[column.key] = max(-int(exponent), most.get(column.key, 0))
        return most

    def printed(self, row: Sequence[Cell]) -> list[str]:
        """A row as text."""
        texts = []
        for column, cell in zip(self.columns, row, strict=True):
            if isinstance(cell, Number):
                texts.append(self._number(column, cell))
            else:
                text = cell.replace("_", " ") if column.form == "kind" else cell
                texts.append(seen(text, token=column.form == "token"))
        return texts

    def _numbers(self) -> Iterator[tuple[Column, Number]]:
        for row in self.rows:
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Number):
                    yield column, cell

    def _number(self, column: Column, number: Number) -> str:
        letter = f" ({self.letters[number.footnote]})" if number.footnote else ""
        if math.isnan(number.value):
            return UNDEFINED + letter
        value = self._written(column, number, number.value) + MARK * number.under_floor
        if math.isnan(number.low):
            return value + letter
        low, high = (self._written(column, number, end) for end in (number.low, number.high))
        return f"{value} [{low}, {high}]{letter}"

    def _written(self, column: Column, number: Number, value: float) -> str:
        """One value, or one end of an interval."""
        if math.isinf(value):
            if column.form == "length":
                return "full"
            return f"> {number.longest:,g}" if math.isfinite(number.longest) else "unbounded"
        signed = number.signed or column.signed
        if number.published:
            return rounded(value, self.decimals[column.key], signed=signed)
        if column.form == "thousandths":
            return printing.p_value(value)
        if column.form == "floor":
            return printing.magnitude(value)
        if column.form == "tenths" or column.form == "value" and number.unit in printing.TENTHS:
            return rounded(value, 1, signed=signed)
        if column.form == "value":
            return printing.significant(value, signed=signed)
        return rounded(value, 0, signed=signed)


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    before = _letter(place // 26 - 1) if place >= 26 else ""
    return before + chr(ord("a") + place % 26)


def seen(text: str, *, token: bool = False) -> str:
    """Text with every invisible character, or one that turns the direction of writing, as its code.
    Of a token also spaces and ends of lines."""
    signs = text.replace(" ", "\u2423").replace("\n", "\u21b5") if token else text
    if signs.isprintable():
        return signs
    shown = ""
    for sign in signs:
        shown += sign if sign.isprintable() else sign.encode("unicode_escape").decode()
    return shown


# Markdown

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", "$": "&#36;"}
_MARKUP = str.maketrans({**_ENTITIES, **{sign: f"\\{sign}" for sign in "\\`*_{}[]|#"}})
# Brackets of intervals need no backslash: a number holds no other markup.
_PLAIN = str.maketrans({**_ENTITIES, "|": "\\|"})


def to_markdown(table: Table) -> str:
    """The table in Markdown, caption above and footnotes below; no cell is read as markup."""
    escapes = [_PLAIN if column.numeric else _MARKUP for column in table.columns]
    rules = ["--:" if column.numeric else ":--" for column in table.columns]
    lines = [_line(_markdown(name) for name in table.header), _line(rules)]
    for row in table.rows:
        cells = zip(table.printed(row), escapes, strict=True)
        lines.append(_line(seen(cell).translate(escape) for cell, escape in cells))
    head = f"**{_markdown(table.title)}.** {_markdown(table.caption)}"
    notes = [_markdown(note) for note in table.footnotes]
    return "\n\n".join([head, "\n".join(lines), *notes]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return seen(text).translate(_MARKUP)


def to_csv(table: Table) -> str:
    """The numbers with all their digits, and the words as they are."""
    return str(table.frame.to_csv(index=False))
