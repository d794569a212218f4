"""Checks a piece of Python of the documents that cannot run here: it compiles, its imports are
there, and its calls of decaylab have the arguments that the functions take."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import fields
from typing import Any

from document_blocks import Stale

import decaylab
from decaylab.errors import UserError
from decaylab.options.command_options import COMMANDS


def check(source: str) -> None:
    """Raises Stale where a name or an argument is not there."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise Stale(f"line {error.lineno}: {error.msg}") from error
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolve(node, names)
        if isinstance(node, ast.Call):
            function = _resolve(node.func, names)
            if function is not None and _is_ours(function):
                _check_call(function, node)


def _is_ours(function: Any) -> bool:
    return (getattr(function, "__module__", "") or "").split(".")[0] == "decaylab"


OPTIONAL = ("nemo_rl", "ray", "trackio", "verl", "vllm", "wandb")
"""Modules that a reader may have and this machine may lack: names from them are not checked."""


def _imported(tree: ast.AST) -> dict[str, Any]:
    """What the imports of a program bring in."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                module, top = _module(one.name), one.name.split(".")[0]
                names[one.asname or top] = module if one.asname else _module(top)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = _module(node.module)
            for one in node.names:
                if module is not None:
                    names[one.asname or one.name] = _member(module, one.name)
    return names


def _module(name: str) -> Any:
    if name.split(".")[0] in OPTIONAL:
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Stale(f"no module {name}") from error


def _member(module: Any, name: str) -> Any:
    """What ``from module import name`` brings in: an attribute or a module below."""
    if hasattr(module, name):
        return getattr(module, name)
    try:
        return importlib.import_module(f"{module.__name__}.{name}")
    except ModuleNotFoundError as error:
        raise Stale(f"{module.__name__} has no {name}") from error


def _resolve(node: ast.AST, names: dict[str, Any]) -> Any:
    """The object of a dotted name that begins with an import, None for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _resolve(node.value, names)
    if owner is None or not (inspect.ismodule(owner) or inspect.isclass(owner)):
        return None
    if not hasattr(owner, node.attr):
        raise Stale(f"{getattr(owner, '__name__', owner)} has no {node.attr}")
    return getattr(owner, node.attr)


def _check_call(function: Any, call: ast.Call) -> None:
    """Binds the arguments; options of a command are checked with their values where they are
    written out."""
    if any(isinstance(one, ast.Starred) for one in call.args):
        return
    given = {one.arg: one.value for one in call.keywords if one.arg}
    signature = inspect.signature(function)
    try:
        signature.bind(*call.args, **given)
    except TypeError as error:
        raise Stale(f"{ast.unparse(call)}: {error}") from error
    command = getattr(function, "__name__", "").replace("_", "-")
    ours = getattr(decaylab, command.replace("-", "_"), None) is function
    if not ours or command not in COMMANDS:
        return
    known = {*COMMANDS[command].names, *signature.parameters}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise Stale(f"{ast.unparse(call)}: no option {unknown[0]} of {command}")
    options = given.keys() & {field.name for field in fields(COMMANDS[command].kind)}
    literal = {name: _literal(given[name]) for name in options - {"over", "values"}}
    try:
        COMMANDS[command].kind(**{name: one for name, one in literal.items() if one is not ...})
    except (UserError, TypeError) as error:
        raise Stale(f"{ast.unparse(call)}: {error}") from error


def _literal(node: ast.expr) -> Any:
    """The value of an expression that is written out; the ellipsis for any other."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...
