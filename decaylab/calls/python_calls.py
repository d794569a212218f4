"""Calls written in Python's syntax. The text is parsed and never evaluated.

    python_calls("[math.gcd(a=12, b=-8), f(to=['x', true])]")
    # [Call("math.gcd", {"a": 12, "b": -8}), Call("f", {"to": ["x", True]})]

Literals become values; ``true``, ``false`` and ``null`` too. A bare word is its own text, as in the
leaderboard's reader. Whatever Python would have to compute (``2 * 3``, ``f(1)``, ``x[0]``) stays as
its source text, so that the call can be read and its name judged. An argument by position has its
place as name. Of an argument given twice the last value counts.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

from decaylab.calls.values import Call, Malformed

_WORDS = {"true": True, "false": False, "null": None}
_PLAIN = (str, int, float, bool, type(None))


def python_calls(source: str) -> list[Call]:
    """The calls of a text that holds nothing else: in lines, in a list, or separated by ``;`` or
    ``,``.

    Raises:
        Malformed: not Python's syntax, or other statements than calls.
    """
    try:
        calls = [_call(node) for node in _expressions(source)]
    # Nested too deeply for the parser, or for what walks its tree.
    except (RecursionError, MemoryError) as error:
        raise Malformed("not Python (nested too deeply)") from error
    except (SyntaxError, ValueError) as error:
        reason = error if isinstance(error, Malformed) else "not Python's call syntax"
        raise Malformed(str(reason)) from error
    return calls


def _expressions(source: str) -> list[ast.expr]:
    """The expressions that stand for calls; those in a list or tuple one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on an unusual escape in a string
        statements = ast.parse(source.strip()).body
    if not statements:
        raise Malformed("nothing but comments")
    found: list[ast.expr] = []
    for statement in statements:
        if not isinstance(statement, ast.Expr):
            raise Malformed("Python statements that are not calls")
        value = statement.value
        found += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    return found


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise Malformed("a Python expression that is not a call")
    arguments = {str(place): _value(value) for place, value in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise Malformed("a call with **")
        arguments[keyword.arg] = _value(keyword.value)
    return Call(_name(node.func), arguments)


def _name(node: ast.expr) -> str:
    """A plain or dotted name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise Malformed("a call of something without a name")
    return ".".join([node.id, *reversed(parts)])


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value) if isinstance(value, _PLAIN):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
            return _signed(node)
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys) if all(isinstance(key, ast.Constant) for key in keys):
            return _dictionary(node)
        case ast.Name(id=word):
            return _WORDS.get(word, word)
    return ast.unparse(node)


def _signed(node: ast.UnaryOp) -> Any:
    assert isinstance(node.operand, ast.Constant)
    number: Any = node.operand.value
    return -number if isinstance(node.op, ast.USub) else number


def _dictionary(node: ast.Dict) -> dict[Any, Any]:
    pairs: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        assert isinstance(key, ast.Constant)
        pairs[key.value] = _value(value)
    return pairs
