"""Calls written as JSON: what each character is, also where the text is cut or not quite JSON.

    {"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2]}}

Inside of `arguments` or `parameters` keys are argument names, at any depth, and everything else is
a value. Outside of them `name` gives the function, and keys and other values are syntax. Quotes,
brackets, commas and colons are syntax everywhere. Arguments may be JSON in a string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from decaylab.tokens.categories import Span
from decaylab.tokens.languages.call_names import ARGUMENT, FUNCTION, SYNTAX, VALUE

NAME_KEYS = ("name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
TOKEN = re.compile(
    r"""(?x)
    (?P<space> \s++ )
    | (?P<sign> [{}\[\],:] )
    | (?P<quote> \\?["'] )
    | (?P<word> [^\s"'{}\[\],:<\\]++ )
    """
)
MARKS = r"(?:/tool_call|/function|\|)"  # a string that is not closed ends before such a mark
BODIES = {
    '"': re.compile(rf'(?s)(?:[^"\\<]|\\.?|<(?!{MARKS}))*+'),
    "'": re.compile(rf"(?s)(?:[^'\\<]|\\.?|<(?!{MARKS}))*+"),
    # of a string in a string, where a backslash is two and an escaped quote has three
    '\\"': re.compile(rf'(?s)(?:[^"\\<]|\\\\(?:\\.|[^\\])?|\\[^"\\]|<(?!{MARKS}))*+'),
    "\\'": re.compile(rf"(?s)(?:[^'\\<]|\\\\(?:\\.|[^\\])?|\\[^'\\]|<(?!{MARKS}))*+"),
}
MOST_LEFT_OPEN = 8  # containers that one bracket closes
OPENS_OBJECT = re.compile(r"\s*\{")


@dataclass
class Container:
    """An open object or list. arguments: inside of arguments. wants_key: a string would be a key.
    key: the last one."""

    closing: str
    arguments: bool
    wants_key: bool
    key: str = ""

    @property
    def content(self) -> int:
        """Category of a value here."""
        if self.arguments or self.key in ARGUMENT_KEYS:
            return VALUE
        return FUNCTION if self.key in NAME_KEYS else SYNTAX


def scan(text: str, start: int, *, arguments: bool = False) -> tuple[list[Span], int]:
    """What the characters of a JSON value are, and where it ends.

    Args:
        text: the text.
        start: where the value begins, with a brace or a bracket.
        arguments: the value is the arguments of a call and not the call.
    """
    scanner = _Scanner(text, arguments)
    return scanner.spans, scanner.scan(start)


class _Scanner:
    """stack: open containers. wrapped: the quote of a string that holds the arguments, and the
    number of containers around it. expecting: a key or value may come."""

    def __init__(self, text: str, arguments: bool) -> None:
        self.text, self.arguments = text, arguments
        self.spans: list[Span] = []
        self.stack: list[Container] = []
        self.wrapped: tuple[str, int] | None = None
        self.expecting = True

    def scan(self, at: int) -> int:
        """Scans from a bracket on; returns where the value ends."""
        while match := TOKEN.match(self.text, at):
            if match["word"] and not self.expecting:
                return at  # prose behind a value that was not closed
            if match["quote"]:
                at = self._quote(match[0], at)
                continue
            if match["word"]:
                self._word(match[0], at)
            else:
                self.spans.append((at, match.end(), SYNTAX))
            at = match.end()
            if match["sign"] and not self._sign(match[0]):
                return at
        return at

    def _sign(self, sign: str) -> bool:
        """Follows a bracket, comma or colon; whether the value goes on."""
        top = self.stack[-1] if self.stack else None
        self.expecting = sign not in "}]"
        if sign in "{[":
            inside = self.arguments
            if top is not None:
                inside = top.arguments or top.key in ARGUMENT_KEYS
            self.stack.append(Container("}" if sign == "{" else "]", inside, sign == "{"))
        elif sign in "}]":
            self._close(sign)
        elif top is not None:
            top.wants_key = sign == "," and top.closing == "}"
        return bool(self.stack)

    def _close(self, sign: str) -> None:
        """Closes the innermost such container, and those inside of it that were left open."""
        for back, container in enumerate(reversed(self.stack[-MOST_LEFT_OPEN:]), start=1):
            if container.closing == sign:
                del self.stack[-back:]
                return

    def _quote(self, quote: str, at: int) -> int:
        """A string from its first quote on, or the quote behind arguments in a string."""
        begin, top = at + len(quote), self.stack[-1]
        self.spans.append((at, begin, SYNTAX))
        if self.wrapped == (quote, len(self.stack)):
            self.wrapped = None
            return begin
        holds_arguments = not top.wants_key and top.key in ARGUMENT_KEYS and not top.arguments
        if holds_arguments and OPENS_OBJECT.match(self.text, begin):
            self.wrapped = quote, len(self.stack)
            return begin
        body = BODIES[quote].match(self.text, begin)
        assert body is not None
        self._word(body[0], begin)
        stop = body.end()
        if self.text.startswith(quote, stop):
            self.spans.append((stop, stop + len(quote), SYNTAX))
            stop += len(quote)
        return stop

    def _word(self, word: str, at: int) -> None:
        """A key or value, without quotes around it."""
        top, self.expecting = self.stack[-1], False
        code = top.content
        if top.wants_key:
            top.key = word
            code = ARGUMENT if top.arguments else SYNTAX
        self.spans.append((at, at + len(word), code))
