"""Token categories of function calls, and the prose around them.

    function_name     which function is called
    argument_name     names of arguments, and keys inside of their values
    value             numbers, words and the inside of strings
    call_syntax       brackets, quotes, commas, colons, the fixed keys, marks such as <tool_call>,
                      the fence around a call and white space inside of calls and between them
    prose             everything else

Calls are found in the forms that models write: after a mark (<tool_call>, <|python_tag|>,
[TOOL_CALLS], <functioncall>), as <function=name> with <parameter=name>, as JSON whose first key is
one of a call's, and as Python: anywhere if the first argument is named, else on lines of their own.
The text may be cut anywhere, and need not parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from decaylab.tokens.categories import END_OF_TURN, Scanned, Span
from decaylab.tokens.languages import json_calls, python_calls
from decaylab.tokens.languages.call_names import ARGUMENT, FUNCTION, NAMES, PROSE, SYNTAX, VALUE

MARKS = (
    *("<tool_call>", "</tool_call>", "<tool_calls>", "</tool_calls>", "<functioncall>"),
    *("</functioncall>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "</function>"),
)
MARK = "|".join(map(re.escape, MARKS))
CALLED = r"(?<![\w.])[^\W\d][\w.]*+\("
FIRST_KEYS = "name|function|arguments|parameters|tool_calls|function_call"
FOUND = re.compile(
    rf"""(?xms)
    (?P<mark> {MARK} )
    | <function=(?P<function> [^>\s]*+ )>?
    | <parameter=(?P<parameter> [^>\s]*+ )>? (?P<value> .*? )
      (?: </parameter> | (?= </function | </tool_call | <parameter= ) | \Z )
    | (?P<json> (?:\[\s*+)? \{{\s*+ ["'] (?: (?:{FIRST_KEYS})["']
        | type["']\s*:\s*["']function | id["']\s*:\s*["']call ) )
    | (?:^|;) [ \t]*+ (?P<cut> [\[{{] [\s\[{{"']{{0,9}} [a-z_]{{0,13}} \Z )
    | (?P<named> (?:\[\s*+)? {CALLED} \s*+ [^\W\d]\w*+ \s* =(?!=) )
    | ^[ \t]*+ (?P<line> (?:\[\s*+)? {CALLED} )
    """
)
MISTRAL_NAME = re.compile(r"[\w.-]+(?=\s*(?:\[ARGS\]|\{|\[CALL_ID\]|\Z))")
PYTHON = re.compile(rf"(?:\[\s*)?{CALLED}")
LINE_ENDS = re.compile(r"[ \t]*(?:[,;#`]|$)", re.M)
FENCE_BEFORE = re.compile(r"```[ \t]*\w*\s*\Z")
FENCE_AFTER = re.compile(r"\s*`{1,3}(?=\s|\Z)")
CUT_FENCE = re.compile(r"(?m)^[ \t]*```(?:json|tool_code|tool_call)\s*\Z")
BETWEEN = re.compile(r"[\s,;]*")
LONGEST_FENCE = 80  # characters with the white space behind it


@dataclass(frozen=True)
class Piece:
    """A mark or a call, from start to stop; follows: what may come behind it, a call, its arguments
    or neither."""

    start: int
    stop: int
    spans: list[Span]
    follows: str = ""


class CallCategories(Scanned):
    """The categories of function calls."""

    def __init__(self) -> None:
        super().__init__((*NAMES, END_OF_TURN), PROSE)

    def spans(self, text: str) -> Iterator[Span]:
        """Characters of calls with their category; the rest is prose."""
        last = 0
        for piece in _pieces(text):
            yield from _around(text, last, piece)
            yield from piece.spans
            last = piece.stop
        yield from _behind(text, last)


def _pieces(text: str) -> Iterator[Piece]:
    at, follows = 0, ""
    while at < len(text):
        piece = _following(text, at, follows) if follows else None
        if piece is None:
            found = FOUND.search(text, at)
            if found is None:
                yield from _cut_mark(text, at)
                return
            piece = _piece(text, found)
        if piece.spans:
            yield piece
        at, follows = piece.stop, piece.follows


def _following(text: str, at: int, follows: str) -> Piece | None:
    """The call or the arguments behind a mark, if there are any."""
    while at < len(text) and text[at].isspace():
        at += 1
    if PYTHON.match(text, at):
        return Piece(at, *_python(text, at))
    if text.startswith(("{", "["), at) and not text.startswith(MARKS, at):
        spans, stop = json_calls.scan(text, at, arguments=follows == "arguments")
        return Piece(at, stop, spans)
    name = MISTRAL_NAME.match(text, at) if follows == "name" else None
    if name:
        return Piece(at, name.end(), [(at, name.end(), FUNCTION)], "arguments")
    return None


def _python(text: str, at: int) -> tuple[int, list[Span]]:
    spans, stop, is_call = python_calls.scan(text, at)
    return stop, spans if is_call else []


def _piece(text: str, found: re.Match[str]) -> Piece:
    """What was found; without spans where it is prose."""
    start, stop = found.span()
    whole = start, stop, SYNTAX
    if found["mark"] is not None:
        follows = {"[TOOL_CALLS]": "name", "[ARGS]": "arguments"}.get(found[0], "call")
        return Piece(start, stop, [whole], follows)
    if found["function"] is not None:
        return Piece(start, stop, [whole, (*found.span("function"), FUNCTION)], "arguments")
    if found["parameter"] is not None:
        inside = [(*found.span("parameter"), ARGUMENT), (*found.span("value"), VALUE)]
        return Piece(start, stop, [whole, *inside])
    kind = str(found.lastgroup)
    start = found.start(kind)
    if kind in ("json", "cut"):
        spans, stop = json_calls.scan(text, start)
        return Piece(start, stop, spans)
    stop, spans = _python(text, start)
    if kind == "line" and not LINE_ENDS.match(text, stop):
        spans = []  # prose that begins with a call
    return Piece(start, stop, spans)


def _around(text: str, last: int, piece: Piece) -> Iterator[Span]:
    """Fences and white space between two pieces. last: where the piece before ends, or 0."""
    if BETWEEN.fullmatch(text, last, piece.start):
        yield last, piece.start, SYNTAX
        return
    if last:
        yield from _behind(text, last)
    fence = FENCE_BEFORE.search(text, max(last, piece.start - LONGEST_FENCE), piece.start)
    if fence:
        yield *fence.span(), SYNTAX


def _behind(text: str, last: int) -> Iterator[Span]:
    """The fence behind a piece, and one with which the text ends."""
    fence = FENCE_AFTER.match(text, last) if last else None
    if fence:
        yield *fence.span(), SYNTAX
    cut = CUT_FENCE.search(text, max(last, len(text) - LONGEST_FENCE))
    if cut:
        yield *cut.span(), SYNTAX


def _cut_mark(text: str, at: int) -> Iterator[Piece]:
    """The beginning of a mark with which the text ends, from two characters on."""
    tail = max(text.rfind("<", at), text.rfind("[", at))
    if tail >= 0 and len(text) - tail > 1 and any(mark.startswith(text[tail:]) for mark in MARKS):
        yield Piece(tail, len(text), [(tail, len(text), SYNTAX)])
