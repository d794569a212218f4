"""The functions that a row offers: checked, and as the tools of a chat template.

functions('[{"name": "f", "parameters": {"type": "dict", "properties": {}}}]', "row 1")
# ({"name": "f", "parameters": {"type": "dict", "properties": {}, "required": []}},)
as_tools(functions(...))
# [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", ...}}}]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from decaylab.calls.values import LEVELS, is_deeper
from decaylab.errors import UserError

Function = dict[str, Any]

JSON_TYPES = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "tuple": "array",
    "list": "array",
    "bool": "boolean",
    "int": "integer",
    "str": "string",
    "any": None,
}
"""JSON schema's names of the types that function sets call otherwise. None: left out, since a
schema without a type allows any value."""


def functions(value: Any, where: str) -> tuple[Function, ...]:
    """The functions of a row, in their order, each with name, parameters, properties and required.

    Args:
        value: a list of functions, one function, or JSON text of either. Tools, as chat templates
            have them, are unwrapped.
        where: the row and the column, for messages.

    Raises:
        UserError: schemas that cannot be read.
    """
    if isinstance(value, str):
        value = _parsed(value, where)
    items = [value] if isinstance(value, Mapping) else value
    check_depth(items, where)
    if not isinstance(items, list | tuple):
        raise UserError(f"{where} must hold a list of function schemas, got {value!r:.60}")
    return tuple(_function(item, f"{where}, function {n}") for n, item in enumerate(items, 1))


def check_depth(value: Any, where: str) -> None:
    """Raises UserError for a value that is nested too deeply to be compared and written."""
    if is_deeper(value):
        raise UserError(f"{where} is nested more than {LEVELS} deep")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(
            f"{where} must hold function schemas as JSON, got {text!r:.60} ({reason})"
        ) from error


def _function(item: Any, where: str) -> Function:
    inner = item.get("function", item) if isinstance(item, Mapping) else item
    if not isinstance(inner, Mapping):
        raise UserError(f"{where}: must be an object with a name and parameters, got {item!r:.60}")
    name, description = inner.get("name"), inner.get("description")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: name must be text, got {name!r:.60}")
    made: Function = {"name": name}
    if isinstance(description, str):
        made["description"] = description
    made["parameters"] = _parameters(inner.get("parameters"), f"{where} ({name:.60})")
    return made


def _parameters(value: Any, where: str) -> dict[str, Any]:
    """The parameters with their properties and the required names; none where they are missing."""
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where}: parameters must be a JSON schema of an object, got {value!r:.60}"
        )
    properties, required = value.get("properties") or {}, value.get("required") or []
    if not _are_schemas(properties):
        raise UserError(
            f"{where}: properties must be an object with a schema for each parameter, got "
            f"{properties!r:.60}"
        )
    _check_types(value, where)
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise UserError(f"{where}: required must be a list of names, got {required!r:.60}")
    kind = {"type": value.get("type", "object")}
    return {**kind, **value, "properties": dict(properties), "required": list(required)}


def _are_schemas(properties: Any) -> bool:
    if not isinstance(properties, Mapping):
        return False
    return all(isinstance(schema, Mapping) for schema in properties.values())


def types_of(schema: Any) -> frozenset[str]:
    """The names of a schema's types; none for what is no schema or has no type."""
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    if not kinds:
        return frozenset()
    return frozenset(kinds if isinstance(kinds, list) else [kinds])


def _check_types(schema: Any, where: str) -> None:
    """Raises UserError for a type, at any depth, that is neither a name nor a list of names."""
    if not isinstance(schema, Mapping):
        return
    kinds = schema.get("type")
    names = kinds if isinstance(kinds, list) and kinds else [kinds]
    if kinds is not None and not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: type must be a name or a list of names, got {kinds!r:.60}")
    _check_types(schema.get("items"), where)
    if isinstance(inner := schema.get("properties"), Mapping):
        for name, one in inner.items():
            _check_types(one, f"{where}, {name:.60}")


def as_tools(offered: Iterable[Function]) -> list[dict[str, Any]]:
    """Functions as chat templates take them in `tools`: wrapped, with JSON schema's names of types.

    Names are kept, dots included. (The leaderboard writes `_` for `.` for models whose interface
    allows no dots; the judge accepts both.)
    """
    return [{"type": "function", "function": _tool(function)} for function in offered]


def _tool(function: Function) -> dict[str, Any]:
    return {**function, "parameters": _schema(function["parameters"])}


def _schema(schema: Any) -> Any:
    """A schema with JSON schema's names of types, at every depth."""
    if not isinstance(schema, Mapping):
        return schema
    made = dict(schema)
    _rename_types(made)
    if "items" in schema:
        made["items"] = _schema(schema["items"])
    if isinstance(schema.get("properties"), Mapping):
        made["properties"] = {name: _schema(one) for name, one in schema["properties"].items()}
    return made


def _rename_types(schema: dict[str, Any]) -> None:
    """Gives the type of a schema, or each of several, JSON schema's name; "any" among them leaves
    none."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        schema["type"] = _json_type(kinds)
    elif isinstance(kinds, list):
        names = [_json_type(kind) for kind in kinds]
        schema["type"] = None if None in names else list(dict.fromkeys(names))
    if schema.get("type", "") is None:
        del schema["type"]


def _json_type(kind: str) -> str | None:
    return JSON_TYPES.get(kind.lower(), kind)
