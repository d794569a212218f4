"""Calls without marks: a text that is nothing else, fenced blocks, lines, inline code and
objects in prose."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from decaylab.calls.json_calls import calls_at, calls_in, value_at
from decaylab.calls.marked import named_calls
from decaylab.calls.python_calls import Offered, program_calls, python_calls
from decaylab.calls.values import Call, Malformed

_LANGUAGE = re.compile(r"[\w+-]*+(?=\s)")
_OBJECT = re.compile(r'\{\s*+"|\[\s*+\{')
_CALL = r"([A-Za-z_][\w.]*+)\("
_LINE = re.compile(r"(?:[A-Za-z_]\w*+\s*+=\s*+)?\[?\s*+" + _CALL)
_ITEM = re.compile(r"^(?:\d{1,3}[.)]|[-*\u2022])\s++")
_INLINE = re.compile(r"`([^`]++)`")
_NAME = re.compile(r'(?:\[\s*+)?\{\s*+"(?:name|function)"\s*+:')
_BEGINNING = re.compile(r"(\{|\[\s*+\{)|\[?\s*+" + _CALL)
OBJECTS = 200
"""How many openings of objects are tried in prose: each failure costs time in what precedes it."""


def plain_calls(text: str, offered: Offered) -> list[Call]:
    """The calls in a text without marks that are not all of it; none for prose. In Python's syntax
    only offered functions count.

    Raises:
        Malformed: the text begins as calls do, but none can be read; or an object in it does.
    """
    parts = text.split("```")
    blocks = [_without_language(block) for block in parts[1::2]]
    calls = [call for block in blocks for call in _block(block, offered)]
    prose = "\n".join(parts[::2]).strip()
    calls = calls or _objects(prose) or _python(prose, offered)
    if not calls and _is_attempt(prose or "".join(blocks[:1]), offered):
        raise Malformed("begins as a call, but cannot be read")
    return calls


def _is_attempt(text: str, offered: Offered) -> bool:
    begun = _BEGINNING.match(text)
    return begun is not None and (begun.group(1) is not None or offered(begun.group(2)))


def _block(block: str, offered: Offered) -> list[Call]:
    """The calls of a fenced block."""
    for read in (_json, partial(program_calls, offered=offered), _named):
        with suppress(Malformed):
            return read(block)
    return []


def whole_calls(text: str) -> list[Call] | None:
    """The calls of a text that holds nothing else; None for other texts."""
    for read in (_json, python_calls, _named):
        with suppress(Malformed):
            return read(text)
    return None


def _json(text: str) -> list[Call]:
    return _alone(calls_at, text)


def _named(text: str) -> list[Call]:
    return _alone(named_calls, text)


def _alone(read: Callable[[str, int], tuple[list[Call], int]], text: str) -> list[Call]:
    calls, end = read(text, 0)
    if end != len(text):
        raise Malformed("other text after the calls", end)
    return calls


def _without_language(block: str) -> str:
    """A fenced block without the name of its language, such as json, python or tool_code."""
    language = _LANGUAGE.match(block)
    text = block[language.end() :] if language else block
    return text.strip()


def _objects(prose: str) -> list[Call]:
    """JSON objects and lists that are calls; others are passed over.

    Raises:
        Malformed: one begins with a name and cannot be read.
    """
    calls: list[Call] = []
    at = 0
    for _ in range(OBJECTS):
        opening = _OBJECT.search(prose, at)
        if opening is None:
            break
        try:
            value, at = value_at(prose, opening.start())
        except Malformed as error:
            if _NAME.match(prose, opening.start()):
                raise
            at = error.place
            continue
        with suppress(Malformed):
            calls += calls_in(value)
    return calls


def _python(prose: str, offered: Offered) -> list[Call]:
    """Calls of offered functions in Python's syntax: all of the prose, or line by line."""
    with suppress(Malformed):
        if calls := program_calls(prose, offered):
            return calls
    return [call for line in prose.splitlines() for call in _line(line, offered)]


def _line(line: str, offered: Offered) -> list[Call]:
    """Calls that are all of a line, which may be an item of a list, or inline code in it. Inline
    code counts with arguments by name only: without, it rather mentions a function."""
    bare = _ITEM.sub("", line.strip(), count=1).strip("`")
    if _LINE.match(bare):
        with suppress(Malformed):
            return program_calls(bare, offered)
    calls: list[Call] = []
    for inline in _INLINE.findall(line):
        with suppress(Malformed):
            calls += program_calls(inline, offered)
    return [call for call in calls if call.arguments and "0" not in call.arguments]
