"""Calls written as JSON: objects with a name and arguments, alone, in a list or one after another.

    calls_at('{"name": "f", "arguments": {"a": 1}}; {"name": "g", "parameters": {}}', 0)
    # ([Call("f", {"a": 1}), Call("g", {})], 69)

JSON is read as Python's json module reads it: strictly (no single quotes, no trailing comma, no
line break inside a string), but for NaN and Infinity. Of a key given twice the last value counts.
"""

from __future__ import annotations

import json
import re
from typing import Any

from decaylab.calls.values import LEVELS_READ, Call, Malformed, is_deeper

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"\s*+")
_SEPARATOR = re.compile(r"[\s;,]*+")
_ARGUMENTS = ("arguments", "parameters")


def after_blanks(text: str, at: int) -> int:
    """The place of the first character from ``at`` on that is not blank."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def value_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at ``start``, and the place after it.

    Raises:
        Malformed: no JSON, or nested too deeply to read.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON ({error.msg})", error.pos) from error
    except ValueError as error:  # an integer of thousands of digits
        raise Malformed("not JSON (a number is too long)", len(text)) from error
    except RecursionError as error:
        raise Malformed("not JSON (nested too deeply)", len(text)) from error
    if is_deeper(value, LEVELS_READ):
        raise Malformed("not JSON (nested too deeply)", end)
    return value, end


def calls_at(text: str, start: int) -> tuple[list[Call], int]:
    """The calls of the JSON values from ``start`` on, with blanks, ``;`` or ``,`` between them, and
    the place after the last value.

    Raises:
        Malformed: the text there is no JSON object or list, or one of the values is not a call.
    """
    calls: list[Call] = []
    at = end = after_blanks(text, start)
    if not text.startswith(("{", "["), at):
        raise Malformed("no JSON object or list", at)
    while text.startswith(("{", "["), at):
        value, end = value_at(text, at)
        calls += calls_in(value)
        separator = _SEPARATOR.match(text, end)
        at = separator.end() if separator else end
    return calls, end


def calls_in(value: Any) -> list[Call]:
    """The calls in a JSON value: an object, a list of objects, or a message with tool_calls.

    Raises:
        Malformed: something in it is not a call.
    """
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    return [_call(item) for item in items]


def _call(item: Any) -> Call:
    inner = item.get("function", item) if isinstance(item, dict) else None
    if isinstance(inner, str):
        inner = {"name": inner, **item}
    if not isinstance(inner, dict):
        raise Malformed("a JSON value that is not a call")
    name = inner.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Malformed("a JSON object without the name of a function")
    given = [inner[key] for key in _ARGUMENTS if key in inner]
    if not given:
        raise Malformed("a JSON object with a name but no arguments")
    return Call(name, arguments_of(given[0]))


def arguments_of(value: Any) -> dict[str, Any]:
    """The arguments of a call: an object, or its JSON text.

    Raises:
        Malformed: anything else.
    """
    if isinstance(value, str):
        value, _ = value_at(value, after_blanks(value, 0))
    if not isinstance(value, dict):
        raise Malformed("arguments that are not an object")
    return value
