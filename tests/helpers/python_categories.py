"""Categories of Python code by the standard library alone: `tokenize` for the tokens, `ast` for
docstrings and soft keywords. For code that parses."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
import warnings
from collections.abc import Iterator
from keyword import iskeyword

SPLITS_F_STRINGS = sys.version_info >= (3, 12)
LAYOUT = (
    *(tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
    tokenize.ENCODING,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Place = tuple[int, int]  # line from 1, character from 0


def by_the_library(code: str) -> list[str | None]:
    """Category of each character, [characters]; None where the library does not say.

    Before Python 3.12 it says nothing of the inside of an f-string, and later not where a doubled
    brace is.

    Raises:
        SyntaxError: the code does not parse.
    """
    lines = list(io.StringIO(code, newline=""))
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    tree = Tree(code, lines)
    found: list[str | None] = ["layout"] * len(code)
    opened = 0  # f-strings
    for token in tokenize.generate_tokens(io.StringIO(code, newline="").readline):
        name = tokenize.tok_name[token.type]
        opened += (name == "FSTRING_START") - (name == "FSTRING_END")
        first = starts[token.start[0] - 1] + token.start[1]
        last = starts[token.end[0] - 1] + token.end[1]
        if token.type not in LAYOUT:
            found[first:last] = [tree.category(token)] * (last - first)
        if opened and code[last : last + 1] in ("{", "}"):
            found[last] = None
    return found


class Tree:
    """What the syntax tree says: where soft keywords and docstrings are."""

    def __init__(self, code: str, lines: list[str]) -> None:
        self.lines = lines
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the code
            nodes = list(ast.walk(ast.parse(code)))
        self.soft = set(self._soft(nodes))
        self.docstrings = list(self._docstrings(nodes))

    def category(self, token: tokenize.TokenInfo) -> str | None:
        """Of a token that is no layout."""
        kind = tokenize.tok_name[token.type]
        if kind == "NAME":
            return "keyword" if iskeyword(token.string) or token.start in self.soft else "name"
        if kind == "STRING":
            return self._of_string(token)
        if kind == "NUMBER" or kind.startswith("FSTRING"):
            return "literal"
        return "comment" if kind == "COMMENT" else "operator"

    def _of_string(self, token: tokenize.TokenInfo) -> str | None:
        prefix = token.string[: token.string.index(token.string[-1])].lower()
        if "f" in prefix and not SPLITS_F_STRINGS:
            return None
        documents = any(
            start <= token.start and token.end <= stop for start, stop in self.docstrings
        )
        return "docstring" if documents else "literal"

    def _soft(self, nodes: list[ast.AST]) -> Iterator[Place]:
        for node in nodes:
            if isinstance(node, ast.Match):
                yield self._place(node.lineno, node.col_offset)
                yield from map(self._case, node.cases)
            elif type(node).__name__ == "TypeAlias":
                yield self._place(node.lineno, node.col_offset)

    def _case(self, case: ast.match_case) -> Place:
        """Where the word before a pattern is: at the beginning of its line, or of one above."""
        row = case.pattern.lineno
        while not self.lines[row - 1].lstrip().startswith("case"):
            row -= 1
        line = self.lines[row - 1]
        return row, len(line) - len(line.lstrip())

    def _docstrings(self, nodes: list[ast.AST]) -> Iterator[tuple[Place, Place]]:
        for node in nodes:
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                first = node.body[0]
                start = self._place(first.lineno, first.col_offset)
                yield start, self._place(first.end_lineno, first.end_col_offset)

    def _place(self, row: int, byte: int) -> Place:
        return row, len(self.lines[row - 1].encode()[:byte].decode())
