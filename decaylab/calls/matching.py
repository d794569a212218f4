"""Whether one call is the expected one, by the rules of the Berkeley Function Calling Leaderboard.

An expected call has alternatives for each argument, such as
``{"area": {"base": [10], "unit": ["cm", ""]}}``.
``""`` among them: the argument may be left out.

=====================  ==========================================================================
argument               rule
=====================  ==========================================================================
name of the function   as offered, or with ``_`` for ``.``
required               must be there; no argument may be there that is not expected
type                   exactly the schema's: ``True`` is no integer, ``1.0`` none either; an
                       integer is a float, but not inside a list; a Python tuple is a tuple's list,
                       not an array; of several types (``["string", "null"]``) one must fit, with
                       the alternatives of that type if there are any
type of alternatives   a value of the first alternative's type is allowed too, and then compared
                       as it is: sets write variables so
string                 without case, blanks and ``, . / - _ * ^``; ``'`` is ``"``
list                   one of the alternatives; strings in it as above, but not in lists inside it
dict                   keys and values one by one, with alternatives for each key; types are not
                       checked
list of dicts          as many, in the same order
an empty string        fits where the argument may be left out and is a string; so does an empty
                       list for an array
=====================  ==========================================================================

Source: `ast_checker.py` of bfcl-eval 2026.3.23, for Python. benchmarks/function_calls.py compares.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from decaylab.calls.values import Call, Untyped

_TYPES: dict[str, type] = {
    "string": str,
    "any": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
    "null": type(None),
}
_IGNORED = re.compile(r"[ ,./\-_*^]")
_WORDS = {"True": True, "False": False, "None": None}
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60
shown = _SHOWN.repr
"""A value for a message: in one line, and not too long."""


def same_name(called: str, expected: str) -> bool:
    """Whether a call has the name of a function, which some interfaces allow no dots in."""
    return called in (expected, expected.replace(".", "_"))


def fault(call: Call, function: Mapping[str, Any], expected: Mapping[str, Sequence[Any]]) -> str:
    """Why a call is not the expected one, in one line; empty if it is.

    function: the schema of the expected function.
    expected: the alternatives for each argument.
    """
    name, given = function["name"], call.arguments
    if not same_name(call.name, name):
        return f"{shown(call.name)} is called, {name!r} is expected"
    for required in function["parameters"]["required"]:
        if required not in given:
            return f"{name}: {required!r} is missing"
    properties = function["parameters"]["properties"]
    for argument, value in given.items():
        if argument not in properties or argument not in expected:
            return f"{name}: {shown(argument)} is not expected"
        if why := _value_fault(value, properties[argument], expected[argument]):
            return f"{name}: {argument!r} {why}"
    for argument, alternatives in expected.items():
        if argument not in given and "" not in alternatives:
            return f"{name}: {argument!r} is missing"
    return ""


def _value_fault(value: Any, schema: Mapping[str, Any], alternatives: Sequence[Any]) -> str:
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return _fault_of_type(value, schema, alternatives)
    for kind in kinds:
        one = {**schema, "type": kind}
        if not _fault_of_type(value, one, _of_type(alternatives, kind)):
            return ""
    return f"is {shown(value)}, not one of {shown(list(alternatives))}"


def _of_type(alternatives: Sequence[Any], kind: str) -> Sequence[Any]:
    """The alternatives of a type; all of them if there are none."""
    wanted = _TYPES.get(kind)
    own = [one for one in alternatives if type(_converted(one, kind)) is wanted]
    return own or alternatives


def _fault_of_type(value: Any, schema: Mapping[str, Any], alternatives: Sequence[Any]) -> str:
    value = _converted(value, schema.get("type"))
    if not _has_type(value, schema, alternatives):
        return f"is {type(value).__name__} {shown(value)}, not {schema.get('type')}"
    if _is_among(value, schema, alternatives):
        return ""
    return f"is {shown(value)}, not one of {shown(list(alternatives))}"


def _converted(value: Any, kind: Any) -> Any:
    """A value in the form in which alternatives are written."""
    if isinstance(value, Untyped):
        value = _typed(value, kind)
    if kind == "tuple" and type(value) is tuple:
        return list(value)
    if kind in ("float", "number") and type(value) is int:
        return _as_float(value)
    return value


def _as_float(value: int) -> float | int:
    try:
        return float(value)
    except OverflowError:
        return value


def _typed(value: Untyped, kind: Any) -> Any:
    """The value that a text stands for where the schema wants no text."""
    text = str(value)
    if kind in ("string", "any"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _WORDS.get(text, text)


def _type_of(alternatives: Sequence[Any]) -> type | None:
    """The type of the first alternative that is a value; None if there is none."""
    return next((type(one) for one in alternatives if one != ""), None)


def _has_type(value: Any, schema: Mapping[str, Any], alternatives: Sequence[Any]) -> bool:
    if type(value) is not _TYPES.get(schema.get("type", "")):
        return type(value) is _type_of(alternatives)
    types = _item_types(schema)
    return not types or any(_items_fit(value, types, one) for one in alternatives)


def _items_fit(values: Any, types: Sequence[type], alternative: Any) -> bool:
    """Whether the items of a list have the schema's types, or the type of an alternative's
    items."""
    if not isinstance(alternative, list):
        return True
    allowed = (*types, _type_of(alternative))
    return all(type(value) in allowed for value in values)


def _item_types(schema: Mapping[str, Any]) -> list[type]:
    """The types of a list's items; none for other values, and where the schema allows any."""
    items = schema.get("items")
    if schema.get("type") not in ("array", "tuple") or not isinstance(items, Mapping):
        return []
    kinds = items.get("type")
    names = kinds if isinstance(kinds, list) else [kinds or ""]
    types = [_TYPES.get(name) for name in names]
    known = [one for one in types if one is not None]
    return known if len(known) == len(types) else []


def _is_among(value: Any, schema: Mapping[str, Any], alternatives: Sequence[Any]) -> bool:
    """Whether a value of an allowed type is one of the alternatives."""
    expected = _TYPES.get(schema.get("type", ""))
    as_it_is = _type_of(alternatives) not in (None, expected)
    if as_it_is or expected not in (str, list, dict):
        return value in alternatives
    if expected is str:
        texts = [_plain(one) for one in alternatives if isinstance(one, str)]
        return _plain(value) in texts
    if expected is dict:
        return any(_same_dict(value, one) for one in alternatives if isinstance(one, dict))
    lists = [one for one in alternatives if isinstance(one, list | str)]
    types = _item_types(schema)
    if dict in types and any(_same_dicts(value, one) for one in lists):
        return True
    if types == [dict]:
        return False
    lists = [_plain_items(one) for one in lists]
    return _plain_items(value) in lists


def _plain(value: Any) -> Any:
    """A string without what does not count; other values as they are."""
    if not isinstance(value, str):
        return value
    return _IGNORED.sub("", value).lower().replace("'", '"')


def _plain_items(values: Sequence[Any]) -> list[Any]:
    return [_plain(value) for value in values]


def _same_dict(value: Mapping[str, Any], expected: Mapping[str, Sequence[Any]]) -> bool:
    for key, one in value.items():
        if key not in expected or _plain(one) not in _plain_items(expected[key]):
            return False
    return all(key in value or "" in options for key, options in expected.items())


def _same_dicts(values: Sequence[Any], expected: Sequence[Any]) -> bool:
    if len(values) != len(expected):
        return False
    return all(
        isinstance(value, dict) and isinstance(one, dict) and _same_dict(value, one)
        for value, one in zip(values, expected, strict=True)
    )
