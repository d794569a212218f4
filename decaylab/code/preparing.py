"""Prepares a problem's tests for the judge: what it runs itself, and what it asks the program for.

The judge runs the prompt's helper functions, the tests, and those imports of the reference solution
that the tests rely on. The function under test and other functions of the reference that the tests
call are asked for by name. Tests that need objects of the program's own, as MBPP 367, 601 and 927
do (``Node(1)``), cannot be run so: assignments and calls that name such an object are evaluated
beside the program, by their text, and only values come back. Assertions stay with the judge.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from functools import lru_cache

EVALUATE, EXECUTE = "_in_program", "_run_in_program"
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
    shares_objects: bool

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
        SyntaxError: the tests cannot be parsed.
    """
    tree, names = ast.parse(tests), defined(reference)
    needed = free_names(tree)
    classes = needed & names.classes
    functions = {entry_point} | needed & names.functions - defined(prompt).functions
    before = [source for source in (prompt, *names.imports_of(needed)) if source.strip()]
    if classes:
        tests = _moved(tree, classes, functions)
    return Prepared(before, sorted(functions), tests, shares_objects=bool(classes))


# Names


@dataclass(frozen=True)
class Names:
    """The names that a source defines at its top level, and its import statements."""

    functions: set[str]
    classes: set[str]
    imports: list[ast.Import | ast.ImportFrom]

    def imports_of(self, needed: set[str]) -> list[str]:
        """The import statements that bind one of these names."""
        return [ast.unparse(node) for node in self.imports if needed & _imported(node)]


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name.partition(".")[0] for alias in node.names}


def defined(source: str) -> Names:
    """What a source defines; nothing if it cannot be parsed."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        body = []
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return Names(functions, classes, imports)


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


def names_function(tests: str, entry_point: str) -> bool:
    """Whether tests name the function that they are about; if not, they cannot fail.

    In HumanEval's form it is the first parameter of ``check``, and a call of ``check`` does not
    count.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _root(node.func) == "check"]
    handed = {argument for call in calls for argument in call.args}
    names = {node.id for node in nodes if isinstance(node, ast.Name) and node not in handed}
    return bool(names & {entry_point, *_candidates(nodes)})


def _candidates(nodes: list[ast.AST]) -> set[str]:
    """The first parameters of functions called ``check``."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    given = [node.args.args for node in functions if node.name == "check"]
    return {arguments[0].arg for arguments in given if arguments}


# Tests that need the program's objects


def _moved(tree: ast.Module, theirs: set[str], functions: set[str]) -> str:
    """Tests of which the parts that touch the program's objects are evaluated beside it.

    Assignments are executed there, and what they bind is the program's from then on. Elsewhere
    only expressions move, so that an assertion, or a function that makes one, stays with the judge.

    theirs: names of the program's objects.
    """
    theirs, moved = set(theirs), []
    for statement in tree.body:
        if not free_names(statement) & theirs:
            moved.append(ast.unparse(statement))
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            theirs |= _bound(statement)
            moved.append(f"{EXECUTE}({ast.unparse(statement)!r})")
        else:
            moved.append(ast.unparse(_Moving(theirs, functions).visit(statement)))
    return "\n".join(moved)


def _bound(statement: ast.stmt) -> set[str]:
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


class _Moving(ast.NodeTransformer):
    """Replaces what the program has to evaluate by its value there: its objects with their
    attributes, and calls of its functions, classes and methods that name one of its objects."""

    def __init__(self, theirs: set[str], functions: set[str]) -> None:
        self.theirs, self.functions = theirs, functions

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_theirs = _root(node.func) in self.theirs | self.functions
        if is_theirs and free_names(node) & self.theirs:
            return _evaluated(node)
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return _evaluated(node) if _root(node) in self.theirs else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _evaluated(node) if node.id in self.theirs else node


def _root(node: ast.AST) -> str:
    """The name with which an expression such as ``tree.root.left`` begins; "" if it has none."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _evaluated(node: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(EVALUATE, ast.Load()), [ast.Constant(ast.unparse(node))], [])
