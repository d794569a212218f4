"""Token categories of code: Python in a response, and the prose around it.

    keyword     Python's keywords, with match, case and type where they are keywords
    name        identifiers, also built-in ones
    operator    operators, brackets, punctuation, the braces of f-strings
    literal     strings with quotes and prefix, numbers
    layout      indentation, ends of lines and other white space between tokens, fences
    comment     from # to the end of the line
    docstring   a string that is the first statement of a block, function or class
    prose       everything outside of code (`code_blocks` finds it)

White space inside of strings, comments and prose belongs to them. True, False and None are
keywords, as in Python's grammar. Another language needs a file of rules (`category_rules`).
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence

from decaylab.tokens.categories import END_OF_TURN, Scanned, Span
from decaylab.tokens.languages.code_blocks import regions
from decaylab.tokens.languages.python_lexer import Token, lex

NAMES = ("keyword", "name", "operator", "literal", "layout", "comment", "docstring", "prose")
KEYWORD, NAME, OPERATOR, LITERAL, LAYOUT, COMMENT, DOCSTRING, PROSE = range(len(NAMES))
OF_KIND = {
    "comment": COMMENT,
    "string": LITERAL,
    "bytes": LITERAL,
    "text": LITERAL,
    "number": LITERAL,
    "name": NAME,
    "operator": OPERATOR,
    "space": LAYOUT,
    "newline": LAYOUT,
    "other": OPERATOR,
}
HARD = frozenset(keyword.kwlist)
SOFT = frozenset({"match", "case", "type"})
# Words that begin a statement and stand in no expression: a bracket before them was not closed.
STARTS = frozenset(
    [
        *("assert", "break", "class", "continue", "def", "del", "elif", "except", "finally"),
        *("global", "import", "nonlocal", "pass", "raise", "return", "try", "while", "with"),
    ]
)
BETWEEN = frozenset(["and", "or", "in", "is", "if", "else", "for"])  # between two operands
OPENING = frozenset("([{-+~*")  # operators that an operand may begin with
BODIED = ("def", "class")
OPEN, CLOSE = frozenset("([{"), frozenset(")]}")


class CodeCategories(Scanned):
    """The categories of Python code."""

    def __init__(self) -> None:
        super().__init__((*NAMES, END_OF_TURN), PROSE)

    def spans(self, text: str) -> Iterator[Span]:
        """Characters of code and fences with their category; the rest is prose."""
        for kind, start, stop in regions(text):
            if kind == "fence":
                yield start, stop, LAYOUT
            elif kind == "code":
                for begin, end, code in of_code(text[start:stop]):
                    yield start + begin, start + end, code


def of_code(code: str) -> Iterator[Span]:
    """Each token of a block of code with its category."""
    documented = True  # whether a string would be a docstring
    for statement in _statements(code):
        solid = [token for token in statement if OF_KIND[token.kind] not in (LAYOUT, COMMENT)]
        words = [code[token.start : token.stop] for token in solid]
        soft = solid[0] if _begins_softly(words) else None
        if words[-1:] == [";"]:
            del solid[-1]
        string = documented and {token.kind for token in solid} == {"string"}
        for token in statement:
            yield token.start, token.stop, _category(code, token, soft, string)
        if words:
            documented = words[0] in BODIED or words[:2] == ["async", "def"]


def _category(code: str, token: Token, soft: Token | None, docstring: bool) -> int:
    if token.kind == "name" and (code[token.start : token.stop] in HARD or token is soft):
        return KEYWORD
    if token.kind == "string" and docstring:
        return DOCSTRING
    return OF_KIND[token.kind]


def _statements(code: str) -> Iterator[list[Token]]:
    """The tokens of each statement, its layout included. The body of a def or class on the line of
    its colon is a statement by itself."""
    statement: list[Token] = []
    depth, first, fresh = 0, "", True  # brackets, first word, nothing yet on the line
    for token in lex(code):
        word = code[token.start : token.stop]
        if depth and fresh and word in STARTS:
            yield statement
            statement, depth, first = [], 0, ""
        statement.append(token)
        layout = OF_KIND[token.kind] in (LAYOUT, COMMENT)
        fresh = token.kind == "newline" or (fresh and layout)
        if first in ("", "async") and not layout:
            first = word
        if token.kind == "operator":
            depth = max(0, depth + (word in OPEN) - (word in CLOSE))
        if depth == 0 and (fresh or word == ";" or (word == ":" and first in BODIED)):
            yield statement
            statement, first = [], ""
    yield statement


def _begins_softly(words: Sequence[str]) -> bool:
    """Whether the first word of a statement is match, case or type, and a keyword."""
    if len(words) < 2 or words[0] not in SOFT:
        return False
    first, second = words[:2]
    if _is_operand(second):
        return first != "type" or words[2:3] in ([], ["="], ["["])
    if first == "type" or not _may_open(second):
        return False
    return words[-1] == ":" if first == "match" else _has_colon(words)


def _is_operand(word: str) -> bool:
    """Whether this is a name, number or string, or a keyword that an operand begins with."""
    return word not in BETWEEN and (word[0].isalnum() or word[0] in "_\"'")


def _may_open(word: str) -> bool:
    """Whether this is an operator that an operand may begin with, or an ellipsis."""
    return word == "..." or (word[0] in OPENING and not word.endswith("="))


def _has_colon(words: Sequence[str]) -> bool:
    """Whether a colon stands outside of brackets."""
    depth = 0
    for word in words:
        depth += (word in OPEN) - (word in CLOSE)
        if depth == 0 and word == ":":
            return True
    return False
