"""Compares two answers as mathematics with math-verify.

Answers that it finds equal are checked again, since it ignores tiny differences. It may hang in C
code, so `decaylab.problems.grading` calls it in worker processes.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

from decaylab.problems import forms


@lru_cache(maxsize=4096)
def parsed(answer: str) -> tuple[Any, ...]:
    """math-verify's readings of a tidy answer; unreadable parts stay strings."""
    from math_verify import LatexExtractionConfig, parse

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    readings = parse(rf"\boxed{{{answer}}}", config, parsing_timeout=None)
    return tuple(map(_with_imaginary_unit, readings))


def _with_imaginary_unit(expression: Any) -> Any:
    """The expression with i as the imaginary unit; math-verify leaves it a variable."""
    symbols = getattr(expression, "free_symbols", ())
    names = {symbol for symbol in symbols if symbol.name == "i"}
    return expression.subs(dict.fromkeys(names, _sympy().I)) if names else expression


def math_equal(gold: str, answer: str, decimals: int) -> bool:
    """Whether two tidy answers are equal by math-verify, at this many decimals; may hang."""
    from math_verify import verify

    for expected in parsed(forms.mathematics(gold)):
        for given in parsed(forms.mathematics(answer)):
            try:
                agree = verify(
                    expected,
                    given,
                    float_rounding=decimals,
                    timeout_seconds=None,
                    raise_on_error=True,
                )
                if agree and not _apart(expected, given):
                    return True
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001, S112  (sympy fails in as many ways as there are strange answers)
                continue
    return False


DIGITS = 60
"""Significant digits to which two values must agree; math-verify only compares their difference
with 0."""
_PLACES = (Fraction(3, 7), Fraction(11, 13), Fraction(-17, 5), Fraction(23, 19))


def _apart(expected: Any, given: Any) -> bool:
    """Whether two expressions differ although math-verify finds them equal, as 1/2^99 and 1/2^98.

    Sets, points and matrices are compared by member, functions at a few points. If either side has
    a decimal, six digits are enough.
    """
    sympy = _sympy()
    expected, given = _right_side(expected), _right_side(given)
    ours, theirs = _members(expected), _members(given)
    if ours and len(ours) == len(theirs):
        if isinstance(expected, sympy.FiniteSet) or isinstance(given, sympy.FiniteSet):
            return any(all(_apart(member, other) for other in theirs) for member in ours)
        return any(map(_apart, ours, theirs))  # order counts
    try:
        first, second = _value(expected), _value(given)
    except (TypeError, ValueError, AttributeError):
        return False
    if first is None or second is None:
        return False
    is_decimal = bool(expected.atoms(sympy.Float) or given.atoms(sympy.Float))
    if first.is_Rational and second.is_Rational and not is_decimal:
        return bool(first != second)
    size = sympy.Max(abs(first), abs(second))
    return bool(
        size > 0
        and sympy.N(abs(first - second), DIGITS)
        > size * sympy.Rational(1, 10 ** (5 if is_decimal else DIGITS))
    )


def _right_side(expression: Any) -> Any:
    """The right side of an equation for a symbol: 4 for x = 4; other expressions unchanged."""
    sympy = _sympy()
    if isinstance(expression, sympy.Eq) and expression.lhs.is_Symbol:
        return expression.rhs
    return expression


def _members(expression: Any) -> list[Any]:
    """The members of a set, point or matrix, or an interval's ends; empty for anything else."""
    sympy = _sympy()
    if isinstance(expression, sympy.MatrixBase):
        return list(expression.flat())
    if isinstance(expression, sympy.Interval):
        return [expression.start, expression.end]
    return list(expression.args) if isinstance(expression, sympy.FiniteSet | sympy.Tuple) else []


def _value(expression: Any) -> Any:
    """The value of an expression, with a fixed number for each variable; None if it has none.

    Exact if rational, else with twice the digits that are compared.
    """
    sympy = _sympy()
    if not isinstance(expression, sympy.Expr):
        return None
    names = sorted(expression.free_symbols, key=str)
    places = {
        name: sympy.Rational(*_PLACES[index % len(_PLACES)].as_integer_ratio())
        for index, name in enumerate(names)
    }
    value = expression.doit().subs(places)
    if not value.is_number or value.is_finite is False:
        return None
    return value if value.is_Rational else sympy.N(value, 2 * DIGITS)


def _sympy() -> Any:
    import sympy

    return sympy
