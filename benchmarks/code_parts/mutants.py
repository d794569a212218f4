"""Small changes of correct programs: another operator, constant, comparison, a statement less."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator

from decaylab.code.sets import CodeProblem

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Div,
    ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitXor: ast.BitOr,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_COMPARISONS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_DROPPED = (ast.Assign, ast.AugAssign, ast.Expr, ast.Break, ast.Continue, ast.If)


def mutants(problem: CodeProblem) -> Iterator[str]:
    """Every changed version of a problem's reference; the prompt's own lines stay."""
    tree = ast.parse(problem.reference)
    first = len(problem.prompt.splitlines())
    for index, node in enumerate(ast.walk(tree)):
        if getattr(node, "lineno", first + 1) <= first:
            continue
        for change in _changes(node):
            changed = copy.deepcopy(tree)
            change(list(ast.walk(changed))[index])
            yield ast.unparse(ast.fix_missing_locations(changed))


def drawn(problems: list[CodeProblem], size: int, seed: int) -> list[tuple[int, str]]:
    """Some mutants of some problems, by the problem's index: different texts, in a fixed order."""
    chance, made = random.Random(seed), []
    for index, problem in enumerate(problems):
        original = ast.unparse(ast.parse(problem.reference))
        made += [(index, text) for text in dict.fromkeys(mutants(problem)) if text != original]
    return chance.sample(made, min(size, len(made)))


def _changes(node: ast.AST) -> Iterator[Callable[[ast.AST], None]]:
    """What can be done to a node, as functions of its copy."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        yield lambda copied: setattr(copied, "op", _OPERATORS[type(copied.op)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        yield _compare_otherwise
    if isinstance(node, ast.BoolOp):
        yield lambda copied: setattr(copied, "op", _other_word(copied.op))
    if isinstance(node, ast.Constant):
        yield lambda copied: setattr(copied, "value", _other_constant(copied.value))
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield lambda copied: setattr(copied, "test", ast.UnaryOp(ast.Not(), copied.test))
    if isinstance(node, ast.Return):
        yield lambda copied: setattr(copied, "value", ast.Constant(None))
    if isinstance(getattr(node, "body", None), list):
        for place, statement in enumerate(node.body):
            if isinstance(statement, _DROPPED):
                yield lambda copied, place=place: copied.body.__setitem__(place, ast.Pass())


def _compare_otherwise(node: ast.Compare) -> None:
    node.ops[0] = _COMPARISONS[type(node.ops[0])]()


def _other_word(word: ast.boolop) -> ast.boolop:
    return ast.Or() if isinstance(word, ast.And) else ast.And()


def _other_constant(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float | complex):
        return value + 1
    return f"{value}x" if isinstance(value, str) else 1
