"""Calls written as in Python: what each character is, also where the text is cut.

    [get_weather(city="Paris", days=[1, 2]), get_time(zone='CET')]

Names before a bracket are functions, names before an equals sign arguments, and so are the keys of
a dict; other names, numbers, signs and the inside of strings are values. Quotes, brackets, commas
and colons are syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from decaylab.tokens.categories import Span
from decaylab.tokens.languages.call_names import ARGUMENT, FUNCTION, SYNTAX, VALUE
from decaylab.tokens.languages.python_lexer import Token, lex

CALLED = re.compile(r"[^\W\d]\w*(?:\.\w+)*+(?=\()")
KEYWORD = re.compile(r"\s*=(?!=)")
KEY = re.compile(r"\s*:")
QUOTE = "\"\"\"|'''|\"|'"
QUOTES = re.compile(rf"(?s)(?P<before>\w*(?:{QUOTE}))(?P<body>.*?)(?P<after>{QUOTE}|)")
SIGNS = frozenset("()[]{},=:")
LAYOUT = ("space", "newline")


def scan(text: str, start: int) -> tuple[list[Span], int, bool]:
    """What the characters of a call, or of a list of calls, are; where it ends; and whether it is
    one: prose in brackets is not.

    Args:
        text: the text.
        start: where the function's name begins, or the bracket of the list.
    """
    spans: list[Span] = []
    stack: list[str] = []
    at, before = start, ""  # before: kind of the last token but layout
    for token in lex(text, start):
        if token.start < at:  # inside of a dotted name
            continue
        at = token.stop
        if token.kind in LAYOUT:
            spans.append((token.start, at, SYNTAX))
            continue
        if token.kind in ("other", "comment") or before == token.kind == "name":
            return spans, at, False
        before = token.kind
        called = CALLED.match(text, token.start) if token.kind == "name" else None
        if called:
            at = called.end()
            spans.append((token.start, at, FUNCTION))
        else:
            spans += _spans(text, token, stack)
        if token.kind == "operator":
            _follow(text[token.start], stack)
            if not stack:
                return spans, at, True
    return spans, at, True


def _follow(sign: str, stack: list[str]) -> None:
    if sign in "([{":
        stack.append(sign)
    elif sign in ")]}" and stack:
        stack.pop()


def _spans(text: str, token: Token, stack: list[str]) -> Iterator[Span]:
    """A token that is no function's name. stack: open brackets."""
    inside = stack[-1] if stack else ""
    if token.kind == "operator":
        sign = text[token.start : token.stop]
        yield token.start, token.stop, SYNTAX if sign in SIGNS else VALUE
    elif token.kind == "name":
        named = KEYWORD.match(text, token.stop)
        yield token.start, token.stop, ARGUMENT if named else VALUE
    elif token.kind in ("string", "bytes"):
        is_key = inside == "{" and KEY.match(text, token.stop)
        yield from _string(text, token, ARGUMENT if is_key else VALUE)
    else:
        yield token.start, token.stop, VALUE


def _string(text: str, token: Token, code: int) -> Iterator[Span]:
    """The quotes of a string, and what is inside of them."""
    parts = QUOTES.fullmatch(text[token.start : token.stop])
    assert parts is not None
    for name, category in (("before", SYNTAX), ("body", code), ("after", SYNTAX)):
        yield token.start + parts.start(name), token.start + parts.end(name), category
