"""What a source defines, and whether it continues the prompt of a problem."""

from __future__ import annotations

import ast
import re


def parsed(source: str) -> ast.Module | None:
    """The tree of a source; None if it is no Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defines(source: str, name: str) -> bool:
    """Whether a source defines a name at its top level: a function, a class or an assignment."""
    word = re.escape(name)
    return bool(re.search(rf"^((async )?def |class ){word}\b|^{word} *(:.*)?=[^=]", source, re.M))


def is_body(source: str, prompt: str, name: str) -> bool:
    """Whether a source goes on with the function that a prompt begins: together they are Python,
    and the function ends in the source.

    What follows the prompt at the first column leaves the function with its docstring alone.
    """
    tree = parsed(prompt + source)
    found = [node for node in tree.body if _is_function(node, name)] if tree else []
    return any((node.end_lineno or 0) > len(prompt.rstrip().split("\n")) for node in found[:1])


def _is_function(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name


def begins_indented(source: str) -> bool:
    """Whether the first line that is neither blank nor a comment is indented."""
    lines = [line for line in source.split("\n") if line.strip()]
    code = [line for line in lines if not line.lstrip().startswith("#")]
    return code[0][0].isspace() if code else False
