"""Prepares a problem's tests for the judge: what it runs itself, and what it asks the program for.

The judge runs the prompt's helper functions, the imports of the reference solution and the tests.
The function under test and other functions of the reference that the tests call are asked for by
name. Tests that need objects of the program's own, as MBPP 367, 601 and 927 do (``Node(1)``),
cannot be run so: their statements and calls that name such a class are evaluated beside the
program, by their text, and only the values come back. The comparison stays with the judge in either
case.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from functools import lru_cache

EVALUATE, EXECUTE = "_evaluated_by_the_program", "_executed_by_the_program"
"""Names of the two functions that prepared tests may call."""


@dataclass(frozen=True)
class Prepared:
    """What the judge is given.

    before: sources that it executes first.
    functions: names that it asks the program for.
    shares_objects: whether the tests need objects of the program's own.
    """

    before: list[str]
    functions: list[str]
    tests: str
    shares_objects: bool = field(default=False)

    def message(self) -> dict[str, object]:
        return {
            "before": self.before,
            "functions": self.functions,
            "tests": self.tests,
            "evaluate": EVALUATE,
            "execute": EXECUTE,
        }


@lru_cache(maxsize=512)
def prepared(prompt: str, entry_point: str, tests: str, reference: str) -> Prepared:
    """The tests of a problem, ready for the judge.

    Raises:
        SyntaxError: the tests or the prompt cannot be parsed.
    """
    tree, names = ast.parse(tests), defined(reference)
    needed = free_names(tree)
    classes = needed & names.classes
    functions = sorted({entry_point} | needed & names.functions - defined(prompt).functions)
    before = [source for source in (prompt, names.imports) if source.strip()]
    if not classes:
        return Prepared(before, functions, tests)
    return Prepared(before, functions, _moved(tree, classes), shares_objects=True)


# Names


@dataclass(frozen=True)
class Names:
    """The names that a source defines at its top level. imports: its import statements."""

    functions: set[str]
    classes: set[str]
    imports: str


def defined(source: str) -> Names:
    """What a source defines; nothing if it cannot be parsed."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        body = []
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    imports = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return Names(functions, classes, "\n".join(imports))


def free_names(tree: ast.AST) -> set[str]:
    """Names that a source uses and does not bind anywhere."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return used - {node.id for node in names if not isinstance(node.ctx, ast.Load)}


def called(tests: str) -> list[str]:
    """Names of the functions that tests call, in the order of the text."""
    nodes = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Call)]
    nodes.sort(key=lambda node: (node.lineno, node.col_offset))
    return [node.func.id for node in nodes if isinstance(node.func, ast.Name)]


def entry_point(tests: str, reference: str) -> str | None:
    """The function that tests call first and the reference defines; without a reference the first
    that is not built in."""
    functions, names = defined(reference).functions, called(tests)
    own = [name for name in names if name in functions]
    return next(iter(own or [name for name in names if not hasattr(builtins, name)]), None)


# Statements that need the program's objects


def _moved(tree: ast.Module, theirs: set[str]) -> str:
    """Tests whose statements and calls that touch the program's objects are evaluated beside it."""
    theirs, moved = set(theirs), []
    for statement in tree.body:
        if not free_names(statement) & theirs:
            moved.append(ast.unparse(statement))
        elif isinstance(statement, ast.Assert):
            moved.append(ast.unparse(_Moving(theirs).visit(statement)))
        else:
            theirs |= _bound(statement)
            moved.append(f"{EXECUTE}({ast.unparse(statement)!r})")
    return "\n".join(moved)


def _bound(statement: ast.stmt) -> set[str]:
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


class _Moving(ast.NodeTransformer):
    """Replaces each outermost call that names one of the program's objects by its value there."""

    def __init__(self, theirs: set[str]) -> None:
        self.theirs = theirs

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not free_names(node) & self.theirs:
            return node
        text = ast.Constant(ast.unparse(node))
        return ast.Call(ast.Name(EVALUATE, ast.Load()), [text], [])
