"""Calls written in Python's syntax. The text is parsed and never evaluated.

    python_calls("[math.gcd(a=12, b=-8), f(to=['x', true])]")
    # [Call("math.gcd", {"a": 12, "b": -8}), Call("f", {"to": ["x", True]})]
    program_calls("n = gcd(a=12, b=8)\nprint(n)", lambda name: name == "gcd")
    # [Call("gcd", {"a": 12, "b": 8})]

Literals become values; ``true``, ``false`` and ``null`` too. A bare word is its own text, as in the
leaderboard's reader. Whatever Python would have to compute (``2 * 3``, ``f(1)``, ``x[0]``) stays as
its source text, so that the call can be read and its name judged. An argument by position has its
place as name. Of an argument given twice the last value counts.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from decaylab.calls.values import Call, Malformed

_WORDS = {"true": True, "false": False, "null": None}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Offered = Callable[[str], bool]
"""Whether a function of this name is offered."""
_PLAIN = (str, int, float, bool, type(None))


def python_calls(source: str) -> list[Call]:
    """The calls of a text that holds nothing else: in lines, in a list, or separated by ``;`` or
    ``,``.

    Raises:
        Malformed: not Python's syntax, or other statements than calls.
    """
    with _malformed_for_errors():
        return [_call(node) for node in _expressions(source)]


def program_calls(source: str, offered: Offered) -> list[Call]:
    """The calls of offered functions among the statements of a program, alone or assigned. A list
    of calls counts as a whole if one of them is offered. No function counts that the program
    defines itself.

    Raises:
        Malformed: not Python's syntax, or the call of an offered function cannot be read.
    """
    with _malformed_for_errors():
        statements = _statements(source)
        defined = {one.name for one in statements if isinstance(one, _DEFINITIONS)}
        calls: list[Call] = []
        for statement in statements:
            nodes = _called(statement)
            names = {_name(node.func) for node in nodes if isinstance(node, ast.Call)} - defined
            if any(name and offered(name) for name in names):
                calls += [_call(node) for node in nodes]
        return calls


@contextmanager
def _malformed_for_errors() -> Iterator[None]:
    """Turns the errors of Python's parser into Malformed."""
    try:
        yield
    # Nested too deeply for the parser, or for what walks its tree.
    except (RecursionError, MemoryError) as error:
        raise Malformed("not Python (nested too deeply)") from error
    except (SyntaxError, ValueError) as error:
        reason = error if isinstance(error, Malformed) else "not Python's call syntax"
        raise Malformed(str(reason)) from error


def _statements(source: str) -> list[ast.stmt]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on an unusual escape in a string
        return ast.parse(source.strip()).body


def _called(statement: ast.stmt) -> list[ast.expr]:
    """What a statement may call: its expression, the items of a list, what it assigns or prints."""
    match statement:
        case ast.Expr(value=ast.List(elts=items) | ast.Tuple(elts=items)):
            return items
        case ast.Expr(value=ast.Call(ast.Name("print"), [ast.Call() as value], [])):
            return [value]
        case ast.Expr(value=value) | ast.Assign(value=ast.Call() as value):
            return [value]
        case ast.AnnAssign(value=ast.Call() as value):
            return [value]
    return []


def _expressions(source: str) -> list[ast.expr]:
    """The expressions that stand for calls; those in a list or tuple one by one."""
    statements = _statements(source)
    if not statements:
        raise Malformed("nothing but comments")
    if not all(isinstance(statement, ast.Expr) for statement in statements):
        raise Malformed("Python statements that are not calls")
    return [node for statement in statements for node in _called(statement)]


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise Malformed("a Python expression that is not a call")
    arguments = {str(place): _value(value) for place, value in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise Malformed("a call with **")
        arguments[keyword.arg] = _value(keyword.value)
    name = _name(node.func)
    if not name:
        raise Malformed("a call of something without a name")
    return Call(name, arguments)


def _name(node: ast.expr) -> str:
    """A plain or dotted name; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
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
