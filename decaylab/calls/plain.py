"""Calls without marks: a text that is nothing else, fenced blocks, lines and objects in prose."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from decaylab.calls.json_calls import calls_at, calls_in, value_at
from decaylab.calls.marked import named_calls
from decaylab.calls.python_calls import python_calls
from decaylab.calls.values import Call, Malformed

_LANGUAGE = re.compile(r"[\w+-]*+(?=\s)")
_OBJECT = re.compile(r'\{\s*+"|\[\s*+\{')
_CALL = re.compile(r"\[?\s*+[A-Za-z_][\w.]*+\(")
_NAME = re.compile(r'(?:\[\s*+)?\{\s*+"name"\s*+:')
_ATTEMPT = re.compile(r"\{|\[\s*+\{|" + _CALL.pattern)
OBJECTS = 200
"""How many openings of objects are tried in prose: each failure costs time in what precedes it."""


def plain_calls(text: str) -> list[Call]:
    """The calls in a text without marks that are not all of it; none for prose.

    Raises:
        Malformed: the text begins as calls do, but none can be read; or an object in it does.
    """
    parts = text.split("```")
    blocks = [_without_language(block) for block in parts[1::2]]
    calls = [call for block in blocks for call in whole_calls(block) or ()]
    prose = "\n".join(parts[::2]).strip()
    calls = calls or _objects(prose) or _lines(prose)
    if not calls and _ATTEMPT.match(prose or "".join(blocks[:1])):
        raise Malformed("begins as a call, but cannot be read")
    return calls


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


def _lines(prose: str) -> list[Call]:
    """Lines that are calls in Python's syntax."""
    calls: list[Call] = []
    for line in prose.splitlines():
        bare = line.strip().strip("`")
        if _CALL.match(bare):
            with suppress(Malformed):
                calls += python_calls(bare)
    return calls
