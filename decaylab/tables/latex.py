r"""A `Table` in LaTeX with the rules of booktabs: every character that LaTeX would act on is
escaped.

What is written needs the packages of its first line and a LaTeX of 2020 or later (or textcomp). In
a wide table intervals stand under their numbers; one that is still wider than a page stands
sideways; one of many rows goes over several pages.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template

from decaylab.tables.model import SOURCE_KEY, Form, Table, seen

WIDE = 90  # characters: an interval of a wider table stands under its number
HEAD_WIDTH, WORDS_WIDTH = 12, 28  # characters of a line in the header and the words of a wide table
SIDEWAYS = 130  # characters: a float that is still wider stands sideways
# Lines of a float, upright and sideways, and the characters of a line from which on it is shrunk,
# so that more lines fit.
LINES, SHRUNK = {False: 40, True: 24}, {False: 80, True: 125}
# Characters of a table over several pages: upright, sideways, and in the smallest face; a wider one
# stays a float.
UPRIGHT, LANDSCAPE, TINY = 105, 150, 210
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


def to_latex(table: Table) -> str:
    """The table as a float, or as a longtable where it has many rows; with caption, label
    ``tab:NAME`` and footnotes."""
    text = [table.printed(row) for row in table.rows]
    wide = _width([[[cell] for cell in row] for row in (list(table.header), *text)]) > WIDE
    head = [textwrap.wrap(name, HEAD_WIDTH) if wide else [name] for name in table.header]
    rows = []
    for cells in text:
        forms = zip(cells, table.columns, strict=True)
        rows.append([_lines(cell, column.form, wide) for cell, column in forms])
    width = _width([head, *rows])
    sideways = width > SIDEWAYS
    # A page holds more lines of a table that is shrunk to its width.
    room = LINES[sideways] * max(1.0, width / SHRUNK[sideways])
    long = sum(max(map(len, row)) for row in rows) > room and width <= TINY
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    heads = zip(head, table.columns, strict=True)
    names = [_stack([*map(escape, lines)], column.numeric) for lines, column in heads]
    return _template().render(
        title=escape(table.title),
        caption=escape(table.caption),
        label=re.sub(r"[^A-Za-z0-9:.-]+", "-", table.name),
        notes=[escape(note) for note in table.footnotes],
        columns=f"@{{}}{spec}@{{}}",
        names=names,
        body=[*_body(table, rows, wide)],
        kind="sidewaystable" if sideways else "table",
        long=long,
        landscape=width > UPRIGHT,
        face="scriptsize" if width <= LANDSCAPE else "tiny",
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


def _body(table: Table, rows: Sequence[Sequence[list[str]]], wide: bool) -> Iterator[str]:
    """The rows, a rule where what was measured ends and what was published begins."""
    place = [column.key for column in table.columns].index(SOURCE_KEY)
    before = rows[0][place]
    for number, row in enumerate(rows):
        if row[place] != before:
            yield "\\midrule"
        elif wide and number:
            yield "\\addlinespace[2pt]"
        before = row[place]
        cells = zip(row, table.columns, strict=True)
        yield " & ".join(_cell(lines, column.form) for lines, column in cells) + " \\\\"


def _lines(text: str, form: Form, wide: bool) -> list[str]:
    """A cell of a wide table in lines: words folded, an interval under its number."""
    if not wide or form == "token":
        return [text]
    if form in ("words", "group"):
        return textwrap.wrap(text, WORDS_WIDTH) or [""]
    number, bracket, interval = text.partition(" [")
    return [number, f"[{interval}"] if bracket else [number]


def _cell(lines: Sequence[str], form: Form) -> str:
    if form == "token":
        return f"\\texttt{{{escape(lines[0], token=True)}}}"
    escaped = [escape(line) for line in lines]
    if form in ("words", "group"):
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


def _width(rows: Sequence[Sequence[Sequence[str]]]) -> int:
    """Characters of the longest lines of the columns, with the space between them."""
    width = 0
    for cells in zip(*rows, strict=True):
        width += 2 + max(len(line) for cell in cells for line in cell)
    return width
