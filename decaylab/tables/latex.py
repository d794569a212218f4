r"""A `Table` in LaTeX for a column of a paper, with the rules of booktabs: every character that
LaTeX would act on is escaped.

A table that is wider than a column is cut into several below each other, each with the columns
that tell its rows apart; what was published stands apart from what was measured, so that no column
is empty; what is the same in all rows stands above them. One of many rows goes over several floats.
What is written needs the packages of its first line and a LaTeX of 2020 or later (or textcomp).
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, Template

from decaylab.tables.model import SOURCE_KEY, TEXT, Column, Form, Table, seen

LINE = 66  # characters of a line of a column in the face of footnotes' size and less
LINES, HEAD_LINES = 50, 3  # of a float; of a tabular's head
HEAD_WIDTH, WORDS_WIDTH = 11, 16  # characters of a line in the header and the words of a table
MOST_GROUPS = 4  # of rows with one word in common, which then stands above them
BETWEEN = 2  # characters that the space between two columns takes
CAPTION_WORDS = 60  # at most; the rest stands among the notes
# Brackets and the star would be taken for arguments of the line's end before them.
_SIGN_TABLE = r"""
\ \textbackslash{}
{ \{
} \}
% \%
# \#
& \&
_ \_
$ \$
~ \textasciitilde{}
^ \textasciicircum{}
< \textless{}
> \textgreater{}
| \textbar{}
[ {[}
] {]}
* {*}
` \textasciigrave{}
" \symbol{34}
– --
† \dag{}
× $\times$
Δ $\Delta$
␣ \textvisiblespace{}
↵ $\hookleftarrow$
"""
_SIGNS: dict[str, str] = dict(re.findall(r"(\S) (\S+)", _SIGN_TABLE))
# Letters that every LaTeX knows.
_LETTERS = frozenset("ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöøùúûüýÿßæÆœŒ")


@dataclass(frozen=True)
class Piece:
    """A tabular: what holds for all its rows, the kinds and names of its columns, its rows with the
    lines that each takes."""

    heading: str
    spec: str
    names: Sequence[str]
    rows: Sequence[tuple[int, str]]

    @property
    def lines(self) -> int:
        return HEAD_LINES + sum(lines for lines, _ in self.rows)


def to_latex(table: Table) -> str:
    """The table as floats that fit a column, with caption, label ``tab:NAME`` and footnotes."""
    pieces = [piece for rows in _groups(table) for piece in _pieces(table, rows)]
    caption, more = _short(table.caption, CAPTION_WORDS - len(table.title.split()))
    notes = [note for note in (more, *table.footnotes) if note]
    return _template().render(
        title=escape(table.title),
        caption=escape(caption),
        label=re.sub(r"[^A-Za-z0-9:.-]+", "-", table.name),
        notes=[escape(note) for note in notes],
        floats=_floats(pieces),
    )


@cache
def _template() -> Template:
    """`table.tex.jinja`, with signs that are rare in LaTeX around what is filled in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("table.tex.jinja")


def _short(caption: str, room: int) -> tuple[str, str]:
    """The sentences that a caption of so many words has room for, at least the first; the rest."""
    sentences = re.split(r"(?<=\.) (?=[A-Z])", caption)
    kept = 1
    while kept < len(sentences) and len(" ".join(sentences[: kept + 1]).split()) <= room:
        kept += 1
    return " ".join(sentences[:kept]), " ".join(sentences[kept:])


def _groups(table: Table) -> Iterator[list[int]]:
    """The places of rows that stand in a tabular together: measured or published ones, and of few
    groups of rows each."""
    text = [table.printed(row) for row in table.rows]
    sources = [i for i, column in enumerate(table.columns) if column.key == SOURCE_KEY]
    for places in _alike(text, range(len(text)), sources):
        keys = _keys(table, [text[place] for place in places])
        words = list(itertools.takewhile(lambda i: not table.columns[i].numeric, keys[:-1]))
        groups = _alike(text, places, words[:1])
        if len(groups) > MOST_GROUPS and len(_Layout.of(table, places).chunks) > 1:
            groups = _alike(text, places, words)  # more room for numbers beside the other keys
        elif len(groups) > MOST_GROUPS:
            groups = [places]
        yield from groups


def _alike(
    text: Sequence[Sequence[str]], places: Iterable[int], columns: Sequence[int]
) -> list[list[int]]:
    """The rows in groups that agree in these columns, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place in places:
        groups.setdefault(tuple(text[place][i] for i in columns), []).append(place)
    return list(groups.values())


def _keys(table: Table, text: Sequence[Sequence[str]]) -> list[int]:
    """The first columns, as many as tell the rows apart; without those that are the same in all."""
    keys: list[int] = []
    for i, column in enumerate(table.columns):
        if column.key == SOURCE_KEY or _is_heading(column, [row[i] for row in text]):
            continue
        keys.append(i)
        if len({tuple(row[i] for i in keys) for row in text}) == len(text):
            break
    return keys


def _pieces(table: Table, places: Sequence[int]) -> Iterator[Piece]:
    """The tabulars of some rows, each no wider than a column of a page."""
    heading, keys, chunks, lines = _Layout.of(table, places)
    text = [table.printed(table.rows[place]) for place in places]
    for some in chunks:
        shown = [row for row in range(len(text)) if any(text[row][i] for i in some) or not some]
        for rows in _cut(shown, [lines[i] for i in keys + some]):
            yield _piece(table, heading, keys + some, lines, rows)


class _Layout(NamedTuple):
    """How some rows are set: what holds for all of them, the columns that tell them apart, the
    other columns of each tabular, and each column's name and cells in lines."""

    heading: str
    keys: list[int]
    chunks: list[list[int]]
    lines: dict[int, list[list[str]]]

    @classmethod
    def of(cls, table: Table, places: Sequence[int]) -> _Layout:
        text = [table.printed(table.rows[place]) for place in places]
        filled = [i for i in range(len(table.columns)) if any(row[i] for row in text)]
        same = [i for i in filled if _is_heading(table.columns[i], [row[i] for row in text])]
        keys = _keys(table, text)
        others = [i for i in filled if i not in (*same, *keys)]

        def lines_of(stacked: bool) -> dict[int, list[list[str]]]:
            columns = {i: [row[i] for row in text] for i in filled}
            return {
                i: _column(table.columns[i], cells, stacked=stacked) for i, cells in columns.items()
            }

        lines = lines_of(stacked=False)
        if sum(_width(lines[i]) for i in keys + others) > LINE:
            lines = lines_of(stacked=True)
        named = sum(_width(lines[i]) for i in keys)
        chunks = list(_chunks({i: _width(lines[i]) for i in others}, named))
        return cls("; ".join(escape(text[0][i]) for i in same), keys, chunks, lines)


def _is_heading(column: Column, cells: Sequence[str]) -> bool:
    """Whether a column of words says the same of all rows."""
    if column.key == SOURCE_KEY:
        return True
    return column.form in TEXT and len(cells) > 1 and len(set(cells)) == 1


def _column(column: Column, cells: Sequence[str], *, stacked: bool) -> list[list[str]]:
    """The lines of the column's name and of its cells."""
    name = textwrap.wrap(column.name, HEAD_WIDTH) if stacked else [column.name]
    return [name, *(_lines(cell, column.form, stacked) for cell in cells)]


def _width(lines: Sequence[Sequence[str]]) -> int:
    return BETWEEN + max(len(line) for cell in lines for line in cell)


def _chunks(widths: dict[int, int], keys: int) -> Iterator[list[int]]:
    """The columns in as many lists as have room beside those that tell the rows apart."""
    some: list[int] = []
    used = keys
    for column, width in widths.items():
        if some and used + width > LINE:
            yield some
            some, used = [], keys
        some.append(column)
        used += width
    yield some


def _piece(
    table: Table,
    heading: str,
    shown: Sequence[int],
    lines: dict[int, list[list[str]]],
    rows: Sequence[int],
) -> Piece:
    shown = [i for i in shown if any(any(lines[i][1 + row]) for row in rows)]
    columns = [table.columns[i] for i in shown]
    names = [
        _stack([*map(escape, lines[i][0])], column.numeric)
        for i, column in zip(shown, columns, strict=True)
    ]
    body = []
    for row in rows:
        cells = [lines[i][1 + row] for i in shown]
        forms = zip(cells, columns, strict=True)
        line = " & ".join(_cell(cell, column.form) for cell, column in forms)
        body.append((max(map(len, cells)), f"{line} \\\\"))
    spec = "".join("r" if column.numeric else "l" for column in columns)
    return Piece(heading, f"@{{}}{spec}@{{}}", names, body)


def _cut(rows: Sequence[int], columns: Sequence[list[list[str]]]) -> Iterator[list[int]]:
    """The rows in as many lists as a float has room for."""
    kept: list[int] = []
    used = HEAD_LINES
    for row in rows:
        tall = max(len(column[1 + row]) for column in columns)
        if kept and used + tall > LINES:
            yield kept
            kept, used = [], HEAD_LINES
        kept.append(row)
        used += tall
    yield kept


def _floats(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The tabulars in floats."""
    floats: list[list[Piece]] = [[]]
    for piece in pieces:
        if floats[-1] and sum(one.lines for one in floats[-1]) + piece.lines > LINES:
            floats.append([])
        floats[-1].append(piece)
    return floats


def _lines(text: str, form: Form, stacked: bool) -> list[str]:
    """A cell in lines: where it is stacked, words folded and an interval under its number."""
    if not stacked or form == "token":
        return [text]
    if form in TEXT:
        return textwrap.wrap(text, WORDS_WIDTH) or [""]
    number, bracket, interval = text.partition(" [")
    return [number, f"[{interval}"] if bracket else [number]


def _cell(lines: Sequence[str], form: Form) -> str:
    if form == "token":
        return f"\\texttt{{{escape(lines[0], token=True)}}}"
    escaped = [escape(line) for line in lines]
    if form in TEXT:
        return _stack(escaped, False)
    return _stack([re.sub(r"-(?=\d)", "$-$", line) for line in escaped], True)


def _stack(lines: Sequence[str], numeric: bool) -> str:
    """Lines below each other in one cell."""
    joined = "\\\\".join(lines)
    if len(lines) == 1:
        return joined
    return f"\\stacked{'' if numeric else '[l]'}{{{joined}}}"


def escape(text: str, *, token: bool = False) -> str:
    """Text that LaTeX sets as it is read here. token: to be set in a typewriter's face, where
    quotes are upright.

    Letters that not every LaTeX has are shown by their codes, U+4F60.
    """
    signs = "".join(_sign(sign, token) for sign in seen(text))
    # Two of them would be joined: -- to a dash, ,, and '' to quotes.
    return re.sub(r"([-,'?!])(?=[-,'`?!])", r"\1{}", signs)


def _sign(sign: str, token: bool) -> str:
    if sign == "'" and token:
        return "\\textquotesingle{}"
    if sign.isascii() or sign in _SIGNS or sign in _LETTERS:
        return _SIGNS.get(sign, sign)
    return f"U+{ord(sign):04X}"
