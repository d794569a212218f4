"""Python's tokens, in any version of Python and in text that does not parse.

The standard library's tokenizer depends on the version (f-strings are one token before 3.12) and
ends at a bracket or quote that is not closed. A response is cut anywhere and may be wrong, so this
lexer has a token for every character: an open string runs to the end of its line, or of the text
for three quotes, and a character that Python has no use for is `other`. Where the code parses, the
tokens are Python's own: `benchmarks/categories.py` compares them over the standard library.

Fields of an f-string of one line end with the line, as before Python 3.12; their quotes may be
those of the string, as since then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

Kind = Literal[
    "comment", "string", "bytes", "text", "number", "name", "operator", "space", "newline", "other"
]
DEEPEST = 20  # f-strings in fields of f-strings


class Token(NamedTuple):
    """Characters from start to stop. string, bytes: a literal with its quotes; text: of an
    f-string what is outside its fields; space: between tokens, with line continuations."""

    kind: Kind
    start: int
    stop: int


# What is inside of quotes. A backslash at the very end is the last character of a cut text.
BODIES = {
    '"""': r'(?:[^"\\]|\\.?|"(?!""))*+(?:""")?',
    "'''": r"(?:[^'\\]|\\.?|'(?!''))*+(?:''')?",
    '"': r'(?:[^"\\\n]|\\.?)*+"?',
    "'": r"(?:[^'\\\n]|\\.?)*+'?",
}
QUOTED = "|".join(quote + body for quote, body in BODIES.items())
DIGITS = "[0-9](?:_?[0-9])*"
NUMBER = rf"""
    0[xX](?:_?[0-9a-fA-F])* | 0[bB](?:_?[01])* | 0[oO](?:_?[0-7])*
    | (?:{DIGITS}(?:\.(?:{DIGITS})?)? | \.{DIGITS}) (?:[eE][-+]?{DIGITS})? [jJ]?
"""
OPERATOR = r"""
    \*\*=? | //=? | >>=? | <<=? | != | -> | := | \.\.\. | [-+*/%&|^@=<>]=? | [~()\[\]{},:;.]
"""
TOKEN = re.compile(
    rf"""(?xs)
    (?P<comment> \#[^\r\n]*+ )
    | (?P<opening> (?i:[ft]r?|r[ft]) (?P<quote>\"\"\"|'''|\"|') )
    | (?P<bytes> (?i:br?|rb) (?:{QUOTED}) )
    | (?P<string> [rRuU]? (?:{QUOTED}) )
    | (?P<number> {NUMBER} )
    | (?P<name> [^\W\d]\w*+ )
    | (?P<operator> {OPERATOR} )
    | (?P<space> [ \t\f]++ | \\\r?\n )
    | (?P<newline> \r?\n | \r )
    | (?P<other> . )
    """
)
NAMED = r"\\N\{[^{}]*\}|"  # a character by its name; a raw f-string has a field there
# Text of an f-string up to a field, its end, or a brace by itself
TEXTS = {
    '"""': rf'(?s)(?:[^"\\{{}}]|{NAMED}\\[^{{}}]?|\{{\{{|\}}\}}|"(?!""))*+',
    "'''": rf"(?s)(?:[^'\\{{}}]|{NAMED}\\[^{{}}]?|\{{\{{|\}}\}}|'(?!''))*+",
    '"': rf'(?s)(?:[^"\\{{}}\n]|{NAMED}\\[^{{}}]?|\{{\{{|\}}\}})*+',
    "'": rf"(?s)(?:[^'\\{{}}\n]|{NAMED}\\[^{{}}]?|\{{\{{|\}}\}})*+",
}
COOKED = {quote: re.compile(text) for quote, text in TEXTS.items()}
RAW = {quote: re.compile(text.replace(NAMED, "")) for quote, text in TEXTS.items()}
# A format, up to a field or the end of the field or string
SPECS = {
    '"""': re.compile(r'(?:[^"{}]|"(?!""))*+'),
    "'''": re.compile(r"(?:[^'{}]|'(?!''))*+"),
    '"': re.compile(r'[^"{}\n]*+'),
    "'": re.compile(r"[^'{}\n]*+"),
}
OPEN, CLOSE = frozenset("([{"), frozenset(")]}")


def lex(code: str, start: int = 0) -> Iterator[Token]:
    """The tokens from a place in the code on, which cover all of it."""
    at = start
    while at < len(code):
        for token in _next(code, at, 0):
            yield token
            at = token.stop


def _next(code: str, at: int, depth: int) -> list[Token]:
    """The next token, or those of an f-string. depth: f-strings around this place."""
    match = TOKEN.match(code, at)
    assert match is not None, "other matches any character"
    if not match["opening"]:
        return [Token(cast(Kind, match.lastgroup), at, match.end())]
    if depth == DEEPEST:
        return [Token("text", at, match.end())]
    return _f_string(code, at, match.end(), match["quote"], depth + 1)


def _f_string(code: str, start: int, at: int, quote: str, depth: int) -> list[Token]:
    """The tokens of an f-string. start: where its prefix is. at: behind its first quotes."""
    tokens: list[Token] = []
    texts = (RAW if "r" in code[start:at].lower() else COOKED)[quote]
    begin = start  # of the text that has no token yet
    while True:
        at = _end(texts, code, at)
        if code.startswith("{", at):
            tokens += _text(begin, at)
            tokens += _field(code, at, quote, depth)
            begin = at = tokens[-1].stop
        elif code.startswith("}", at):
            at += 1
        else:
            closed = len(quote) if code.startswith(quote, at) else 0
            return tokens + _text(begin, at + closed)


def _field(code: str, start: int, quote: str, depth: int) -> list[Token]:
    """The tokens of a field from its brace on: expression, conversion and format."""
    tokens = [Token("operator", start, start + 1)]
    brackets, at = 0, start + 1
    while at < len(code) and not _field_is_cut(code, at, quote):
        sign = code[at]
        if brackets == 0 and sign in "}:":
            tokens.append(Token("operator", at, at + 1))
            return tokens if sign == "}" else tokens + _spec(code, at + 1, quote, depth)
        brackets += (sign in OPEN) - (sign in CLOSE)
        tokens += _next(code, at, depth)
        at = tokens[-1].stop
    return tokens


def _field_is_cut(code: str, at: int, quote: str) -> bool:
    """Whether the string ends inside a field."""
    return code.startswith(quote if len(quote) == 3 else "\n", at)


def _spec(code: str, at: int, quote: str, depth: int) -> list[Token]:
    """The tokens of a field's format, with the brace that closes the field."""
    tokens: list[Token] = []
    while True:
        end = _end(SPECS[quote], code, at)
        tokens += _text(at, end)
        if code.startswith("}", end):
            return [*tokens, Token("operator", end, end + 1)]
        if not code.startswith("{", end) or depth == DEEPEST:
            return tokens
        tokens += _field(code, end, quote, depth + 1)
        at = tokens[-1].stop


def _end(pattern: re.Pattern[str], code: str, at: int) -> int:
    """Where the match ends of a pattern that matches nothing too."""
    match = pattern.match(code, at)
    assert match is not None
    return match.end()


def _text(start: int, stop: int) -> list[Token]:
    return [Token("text", start, stop)] if start < stop else []
