"""Function schemas are checked where they are read, and become tools of a chat template."""

from __future__ import annotations

import json
from typing import Any

import pytest

from decaylab.calls.schemas import as_tools, functions
from decaylab.errors import UserError

PROPERTIES = {
    "type": {"type": "dict", "properties": {"float": {"type": "float"}}},
    "at": {"type": "tuple", "items": {"type": "array", "items": {"type": "float"}}},
    "rows": {"type": "array", "items": {"type": "dict", "properties": {"x": {"type": "any"}}}},
    "any": {"type": "any", "description": "Whatever."},
    "unit": {"type": "string", "enum": ["dict", "float"], "default": "tuple"},
    "either": {"type": ["string", "null"], "items": True},
    "number": {"type": ["float", "int", "double", "null"]},
    "all": {"type": ["string", "any"]},
}
GIVEN = {
    "name": "math.f",
    "description": "F.",
    "parameters": {"type": "dict", "properties": PROPERTIES, "required": ["at"]},
}
AS_JSON_SCHEMA = {
    "type": {"type": "object", "properties": {"float": {"type": "number"}}},
    "at": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "rows": {"type": "array", "items": {"type": "object", "properties": {"x": {}}}},
    "any": {"description": "Whatever."},
    "unit": {"type": "string", "enum": ["dict", "float"], "default": "tuple"},
    "either": {"type": ["string", "null"], "items": True},
    "number": {"type": ["number", "integer", "null"]},
    "all": {},
}


def test_tools_have_the_types_of_json_schema_and_nothing_else_changes() -> None:
    (tool,) = as_tools(functions([GIVEN], "row 1"))
    assert tool == {
        "type": "function",
        "function": {
            "name": "math.f",
            "description": "F.",
            "parameters": {"type": "object", "properties": AS_JSON_SCHEMA, "required": ["at"]},
        },
    }
    assert list(tool["function"]["parameters"]["properties"]) == list(PROPERTIES), "in their order"
    assert GIVEN["parameters"]["type"] == "dict" and PROPERTIES["at"]["type"] == "tuple"


@pytest.mark.parametrize(
    "value",
    [
        [GIVEN],
        (GIVEN,),
        GIVEN,
        json.dumps([GIVEN]),
        json.dumps(GIVEN),
        [{"type": "function", "function": GIVEN}],
    ],
)
def test_functions_are_read_however_a_row_holds_them(value: Any) -> None:
    assert functions(value, "row 1") == (GIVEN,)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"properties": None}])
def test_a_function_may_have_no_parameters(parameters: Any) -> None:
    (function,) = functions([{"name": "now", "parameters": parameters}], "row 1")
    assert function["parameters"]["properties"] == {} and function["parameters"]["required"] == []
    assert "description" not in function


def of_type(kind: Any) -> list[dict[str, Any]]:
    return [{"name": "f", "parameters": {"properties": {"a": {"items": {"type": kind}}}}}]


DEEP: list[Any] = []
for _ in range(60):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "row 1 must hold a list of function schemas, got None"),
        (5, "row 1 must hold a list of function schemas, got 5"),
        ("[{", r"row 1 must hold function schemas as JSON, got '\[\{' \(Expecting"),
        ("[" * 100_000, "as JSON"),
        ([GIVEN, "f"], "row 1, function 2: must be an object with a name and parameters, got 'f'"),
        ([{"parameters": {}}], "row 1, function 1: name must be text, got None"),
        ([{"name": " ", "parameters": {}}], "row 1, function 1: name must be text, got ' '"),
        ([{"name": "f", "parameters": {"required": [1]}}], "required must be a list of names"),
        ([{"name": "f", "parameters": [1]}], r"function 1 \(f\): parameters must be .*got \[1\]"),
        ([{"name": "f", "parameters": {"properties": {"a": "int"}}}], "schema for each parameter"),
        ([{"name": "f", "parameters": {"properties": ["a"]}}], "schema for each parameter"),
        (of_type(5), r"function 1 \(f\), a: type must be a name or a list of names, got 5"),
        (of_type({}), "type must be a name or a list of names, got {}"),
        (of_type([]), r"type must be a name or a list of names, got \[\]"),
        (of_type(["string", ["null"]]), "type must be a name or a list of names, got"),
        ([{"name": "f", "parameters": {"default": DEEP}}], "row 1 is nested more than 50 deep"),
        ([{"name": "f", "parameters": {"required": "a"}}], "required must be a list of names"),
    ],
)
def test_schemas_that_cannot_be_read_are_refused_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        functions(value, "row 1")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250
