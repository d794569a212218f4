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
from dataclasses import dataclass

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
PREAMBLE = (
    "% \\usepackage{booktabs,graphicx,longtable,lscape,rotating}",
    "\\providecommand{\\stacked}[2][r]{\\begin{tabular}[t]{@{}#1@{}}#2\\end{tabular}}",
)
SHRINK = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
# Brackets and the star would be taken for arguments of the line's end before them.
_SIGNS = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "%": "\\%",
    "#": "\\#",
    "&": "\\&",
    "_": "\\_",
    "$": "\\$",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": "\\textasciigrave{}",
    '"': "\\symbol{34}",
    "\u2013": "--",
    "\u2020": "\\dag{}",
    "\u00d7": "$\\times$",
    "\u2423": "\\textvisiblespace{}",
    "\u21b5": "$\\hookleftarrow$",
}
_LETTERS = frozenset(
    "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöøùúûüýÿßæÆœŒ"
)  # that every LaTeX knows


def to_latex(table: Table) -> str:
    """The table as a float, or as a longtable where it has many rows; with caption, label
    ``tab:NAME`` and footnotes."""
    layout = _Layout.of(table)
    return "\n".join([*PREAMBLE, *(layout.pages() if layout.long else layout.float()), ""])


@dataclass(frozen=True)
class _Layout:
    """A table as it is to be set. head, rows: each cell as its lines."""

    table: Table
    wide: bool
    head: list[list[str]]
    rows: list[list[list[str]]]

    @classmethod
    def of(cls, table: Table) -> _Layout:
        text = [[str(cell) for cell in row] for row in table.text.itertuples(index=False)]
        wide = _width([[[cell] for cell in row] for row in (table.header, *text)]) > WIDE
        forms = [column.form for column in table.columns]
        head = [textwrap.wrap(name, HEAD_WIDTH) if wide else [name] for name in table.header]
        rows = [
            [_lines(cell, form, wide) for cell, form in zip(row, forms, strict=True)]
            for row in text
        ]
        return cls(table, wide, head, rows)

    @property
    def width(self) -> int:
        return _width([self.head, *self.rows])

    @property
    def sideways(self) -> bool:
        return self.width > SIDEWAYS

    @property
    def long(self) -> bool:
        """Whether a page does not hold it."""
        lines = sum(max(map(len, row)) for row in self.rows)
        room = LINES[self.sideways] * max(1.0, self.width / SHRUNK[self.sideways])
        return lines > room and self.width <= TINY

    @property
    def spec(self) -> str:
        """The columns: numbers to the right."""
        return (
            f"@{{}}{''.join('r' if column.numeric else 'l' for column in self.table.columns)}@{{}}"
        )

    def float(self) -> list[str]:
        kind = "sidewaystable" if self.sideways else "table"
        notes = ["\\par\\smallskip", *self.notes()] if self.table.footnotes else []
        return [
            f"\\begin{{{kind}}}{'' if self.sideways else '[t]'}",
            "\\centering",
            *_caption(self.table),
            "\\par\\smallskip\\small",
            SHRINK,
            f"\\begin{{tabular}}{{{self.spec}}}",
            "\\toprule",
            self.header(),
            "\\midrule",
            *self.body(),
            "\\bottomrule",
            "\\end{tabular}}",
            *notes,
            f"\\end{{{kind}}}",
        ]

    def pages(self) -> list[str]:
        top = ("\\toprule", self.header(), "\\midrule")
        caption, label = _caption(self.table)
        face = "scriptsize" if self.width <= LANDSCAPE else "tiny"
        lines = [
            f"{{\\{face}\\setlength{{\\tabcolsep}}{{3pt}}",
            f"\\begin{{longtable}}{{{self.spec}}}",
            caption,
            f"{label}\\\\",
            *top,
            "\\endfirsthead",
            *top,
            "\\endhead",
            "\\bottomrule",
            "\\endfoot",
            *self.body(),
            "\\end{longtable}}",
            *(self.notes() if self.table.footnotes else ()),
        ]
        return ["\\begin{landscape}", *lines, "\\end{landscape}"] if self.width > UPRIGHT else lines

    def header(self) -> str:
        cells = zip(self.head, self.table.columns, strict=True)
        return (
            " & ".join(
                _stack([escape(line) for line in lines], column.numeric) for lines, column in cells
            )
            + " \\\\"
        )

    def body(self) -> Iterator[str]:
        """The rows, a rule where what was measured ends and what was published begins."""
        place = [column.key for column in self.table.columns].index(SOURCE_KEY)
        before = self.rows[0][place]
        for row in self.rows:
            if row[place] != before:
                yield "\\midrule"
            elif self.wide and row is not self.rows[0]:
                yield "\\addlinespace[2pt]"
            before = row[place]
            cells = zip(row, self.table.columns, strict=True)
            yield " & ".join(_cell(lines, column.form) for lines, column in cells) + " \\\\"

    def notes(self) -> list[str]:
        told = " \\\\ ".join(escape(note) for note in self.table.footnotes)
        return [f"{{\\raggedright\\footnotesize {told}\\par}}"]


def _lines(text: str, form: Form, wide: bool) -> list[str]:
    """A cell of a wide table in lines: words folded, an interval under its number."""
    if not wide or form == "token":
        return [text]
    if form == "words":
        return textwrap.wrap(text, WORDS_WIDTH) or [""]
    number, bracket, interval = text.partition(" [")
    return [number, f"[{interval}"] if bracket else [number]


def _cell(lines: Sequence[str], form: Form) -> str:
    if form == "token":
        return f"\\texttt{{{escape(lines[0], token=True)}}}"
    if form == "words":
        return _stack([escape(line) for line in lines], False)
    return _stack([re.sub(r"-(?=\d)", "$-$", escape(line)) for line in lines], True)


def _stack(lines: Sequence[str], numeric: bool) -> str:
    """Lines below each other in one cell."""
    joined = "\\\\".join(lines)
    return joined if len(lines) == 1 else f"\\stacked{'' if numeric else '[l]'}{{{joined}}}"


def escape(text: str, *, token: bool = False) -> str:
    """Text that LaTeX sets as it is read here. token: to be set in a typewriter's face, where
    quotes are upright.

    Letters that not every LaTeX has are shown by their codes, U+4F60.
    """
    found = "".join(_sign(one, token) for one in seen(text))
    return re.sub(
        r"([-,'?!])(?=[-,'`?!])", r"\1{}", found
    )  # -- would become a dash, ,, and '' quotes


def _sign(one: str, token: bool) -> str:
    if one == "'" and token:
        return "\\textquotesingle{}"
    if one.isascii() or one in _SIGNS or one in _LETTERS:
        return _SIGNS.get(one, one)
    return f"U+{ord(one):04X}"


def _caption(table: Table) -> tuple[str, str]:
    """The caption, and the label."""
    title, label = escape(table.title), re.sub(r"[^A-Za-z0-9:.-]+", "-", table.name)
    return (
        f"\\caption[{title}]{{\\textbf{{{title}.}} {escape(table.caption)}}}",
        f"\\label{{tab:{label}}}",
    )


def _width(rows: Sequence[Sequence[Sequence[str]]]) -> int:
    """Characters of the longest lines of the columns, with the space between them."""
    return sum(
        2 + max(len(line) for cell in cells for line in cell) for cells in zip(*rows, strict=True)
    )
