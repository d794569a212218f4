r"""Tidies, parses and compares plain numbers in answers.

tidy("1,200 dollars")                 # "1,200"
exact(r"\frac{3}{4}")                 # Fraction(3, 4)
final_number("so 3 + 4 is 7.")        # Fraction(7, 1)
"""

from __future__ import annotations

import ast
import math
import operator
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from decaylab.problems import forms

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\^?[°º]", r"^\\circ"),
        (r"(?<=\d),\\!\s*(?=\d{3})", ","),
        (r"\\!|(?<=\d)(?:\{,\}|\\,)(?=\d{3})", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"^\s*\$(.*)\$\s*$", r"\1"),
        (r"^[\s=]+|[\s.,;:=]+$", ""),
        (r"^(-?)\s*\\?\$\s*(?=[-\d.])|(?<=\d)\s*\\?\$$", r"\1"),
        (r"\s*(?:\\?%|percent|\\text\s*\{\s*(?:\\?%|percent)\s*\})$", r"\\%"),
        (rf"^(-?{_PLAIN})[eE]([-+]?\d+)$", r"\1 \\times 10^{\2}"),
        *(
            (
                rf"^(-?{_PLAIN})\s*(?:\\text\s*\{{\s*)?{word}\b(?:\s*[A-Za-z. "
                rf"]+)?\s*\}}?(?:\s*[A-Za-z. ]+)?$",
                rf"\1 \\times 10^{{{power}}}",
            )
            for word, power in (("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12))
        ),
        # A unit without \text: "18.90 dollars", "15 cm^2". Words that belong to an expression or a
        # list are kept.
        (
            rf"^(-?{_PLAIN})\s+(?!(?:pi|and|or|sqrt|sin|cos|tan|log|ln|mod|of|(?i:{'|'.join(forms.MONTHS)})[a-z]*)\b)"
            r"[A-Za-z][A-Za-z .]+(?:\^\{?\d\}?)?$",
            r"\1",
        ),
    )
)


@lru_cache(maxsize=65536)
def tidy(answer: str) -> str:
    """The answer without outer dollars, currency, blanks in numbers, units and the last period."""
    if answer.isdigit():
        return answer
    for pattern, replacement in _TIDY:
        answer = pattern.sub(replacement, answer)
    return answer.replace(" ", "") if re.fullmatch(r"-?\d{1,3}(?: \d{3})+", answer) else answer


THOUSANDS = r"(?<=\d),(?=\d{3}(?!\d))"
_FRACTION = re.compile(r"\\frac\{(-?\d+)\}\{(-?\d+)\}|\\frac(\d)(\d)")
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


_POWER_OF_TEN = re.compile(r"(?<![\d.])10\s*\^\s*(?:\{\s*(-?\d{1,3})\s*\}|(-?\d{1,3}))(?!\d)")


@lru_cache(maxsize=65536)
def exact(answer: str) -> Fraction | None:
    """The value of a tidy plain number, fraction, mixed number, power of ten, or their arithmetic.

    None for anything else.
    """
    if re.fullmatch(rf"-?{_PLAIN}", answer):
        return Fraction(answer.replace(",", "").rstrip(".")) if len(answer) <= 300 else None
    if len(answer) > 200:
        return None
    text = _FRACTION.sub(
        lambda m: f"(({m[1] or m[3]})/({m[2] or m[4]}))", forms.sums_of_mixed(answer)
    )
    for pattern, replacement in ((r"\\times|\\cdot|×", "*"), (r"\\div|÷", "/"), (THOUSANDS, "")):
        text = re.sub(pattern, replacement, text)
    text = _POWER_OF_TEN.sub(lambda m: f"({Fraction(10) ** int(m[1] or m[2])})", text)
    if not re.fullmatch(r"[\d\s.()+*/-]+", text):
        return None

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.BinOp(left, op, right):
                return Fraction(_OPERATORS[type(op)](value(left), value(right)))
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.Constant():
                return Fraction(ast.get_source_segment(text, node) or "")
            case _:
                raise ValueError("not arithmetic")

    try:
        text = text.strip()
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
        return None


def decimals(gold: Fraction) -> int:
    """Decimals to which a decimal answer must agree: six, plus gold's zeros after the point."""
    return 6 if gold == 0 or abs(gold) >= 1 else 5 - math.floor(math.log10(abs(gold)))


def same_number(gold: str, gold_value: Fraction, answer: str, value: Fraction) -> bool:
    """Whether two numbers are equal: exactly, or after rounding if one is written in decimals."""
    return gold_value == value if "." not in gold + answer else same_rounded(gold_value, value)


def same_rounded(gold: Fraction, value: Fraction) -> bool:
    """Whether two numbers agree to six decimals, or to more if gold is small."""
    places = decimals(gold)
    return round(gold, places) == round(value, places)


_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)}$])-\\?\$?|(?<!\w)\$-)?(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+\b)?|(?<!\w)\.\d+)"
)


def final_number(text: str) -> Fraction | None:
    """The number after the last ####, or else the last number of the text; None if none."""
    _, mark, after = text.replace("−", "-").rpartition("####")
    numbers = list(_NUMBER.finditer(after))
    if not numbers:
        return None
    number = numbers[0] if mark else numbers[-1]
    value = _decimal(number["digits"].replace(",", ""))
    return -value if number["sign"] else value


def _decimal(text: str) -> Fraction:
    # An exponent or number with thousands of digits is gibberish: it becomes a value that no gold
    # answer has.
    mantissa, _, exponent = text.lower().partition("e")
    return Fraction(text) if len(mantissa) <= 300 and len(exponent) <= 4 else Fraction(10) ** 400


_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")


def gold_number(answer: str) -> Fraction | None:
    """The number of a gold answer without its unit, or after ####; None if it is not a number.

    None also for a fraction, a sum or a mixed number, since `final_number` reads only its last
    part.
    """
    if "####" in answer:
        return final_number(answer)
    bare = _WRAPPER.sub("", re.sub(r"\\%|\^\{?\\circ\}?", "", tidy(answer))).strip()
    number = exact(bare)
    return number if number is not None and final_number(bare) == number else None
