"""Numbers as people read them: one rounding, one mark for undefined, one way to show an interval.

    rounded(66.85, 1)                        66.9
    with_interval(0.654, 0.608, 0.698, "fraction")   65.4 [60.8, 69.8]

Numbers are rounded half away from zero, as the decimal number that they are written as: 9/2000 is
0.5 %, in the terminal, in a table, in a sentence and in a figure. Undefined is an en dash.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal

UNDEFINED = "\u2013"
DIGITS = 3  # significant ones, of a number without a fixed number of decimals
SMALL = Decimal("0.001")  # numbers below it are written 9.1e-4
TENTHS = ("fraction", "tokens")  # units whose values have one decimal
GIB = 2**30
# Controls, signs that turn the direction of writing, and halves of a character.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
    r"\ud800-\udfff]"
)


def visible(text: str) -> str:
    """A text with what cannot be seen shown by its code, such as \u27e8U+202E\u27e9."""
    return _UNSEEN.sub(lambda sign: f"\u27e8U+{ord(sign[0]):04X}\u27e9", text)


def rounded(value: float, places: int = 0, *, signed: bool = False) -> str:
    """A number to this many decimals, half away from zero: 66.85 is 66.9, 1480 is 1,480.

    signed: a plus before a positive number. Undefined is the mark; infinity is spelt out by the
    caller, who knows what it is beyond.
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "\u221e" if value > 0 else "-\u221e"
    number = _decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return _with_sign(number, signed)


def significant(value: float, digits: int = DIGITS, *, signed: bool = False) -> str:
    """A number to this many significant digits, at least whole: 0.108, 8.84, 1,480; 9.1e-4 below
    0.001."""
    if not math.isfinite(value):
        return rounded(value)
    number = _decimal(value)
    if not number:
        return "0"
    if abs(number) < SMALL:
        short = number.quantize(Decimal(1).scaleb(number.adjusted() - 1), ROUND_HALF_UP)
        mantissa = short.scaleb(-short.adjusted()).quantize(Decimal("0.1"))
        plus = "+" if signed and short > 0 else ""
        return f"{plus}{mantissa}e{short.adjusted()}"
    for _ in range(2):  # 99.96 has one digit more once it is rounded
        places = Decimal(1).scaleb(min(0, number.adjusted() - digits + 1))
        number = number.quantize(places, ROUND_HALF_UP)
    return _with_sign(number, signed)


def in_unit(value: float, unit: str, *, signed: bool = False) -> str:
    """A value of a measurements row: a fraction in per cent and tokens with one decimal, all else
    to three significant digits."""
    shown = percent(value) if unit == "fraction" else value
    if unit in TENTHS:
        return rounded(shown, 1, signed=signed)
    return significant(shown, signed=signed)


def with_interval(
    value: float, low: float, high: float, unit: str = "", *, signed: bool = False
) -> str:
    """``65.4 [60.8, 69.8]``; the value alone where it has no interval."""
    shown = in_unit(value, unit, signed=signed)
    if math.isnan(value) or math.isnan(low):
        return shown
    ends = [in_unit(end, unit, signed=signed) for end in (low, high)]
    return f"{shown} [{ends[0]}, {ends[1]}]"


def magnitude(value: float) -> str:
    """One significant digit with its power of ten, of a noise floor: 6e-8, 2e-2; 0 is 0."""
    if not value or math.isnan(value):
        return rounded(value)
    number = _decimal(value)
    digit = number.quantize(Decimal(1).scaleb(number.adjusted()), ROUND_HALF_UP)
    return f"{digit.scaleb(-digit.adjusted()):.0f}e{digit.adjusted()}"


def percent(fraction: float) -> float:
    """A fraction in per cent, to fifteen digits: 0.6585 is 65.85 and not 65.85000000000001."""
    return float(f"{fraction * 100:.15g}")


def p_value(p: float) -> str:
    """Three decimals; ``<0.001`` below that."""
    return "<0.001" if p < 0.001 else rounded(p, 3)


def seconds(duration: float) -> str:
    """A duration: seconds up to two minutes, minutes up to two hours, then hours."""
    if duration < 120:
        return f"{rounded(duration)} s"
    if duration < 7200:
        return f"{rounded(duration / 60)} min"
    return f"{rounded(duration / 3600, 1)} h"


def gib(size: float) -> str:
    """Bytes in GiB, without the unit: two decimals below 10, else one."""
    return rounded(size / GIB, 2 if size < 10 * GIB else 1)


def _decimal(value: float) -> Decimal:
    """The number as it is written, without the dust of binary arithmetic."""
    return Decimal(f"{value:.14g}")


def _with_sign(number: Decimal, signed: bool) -> str:
    if signed and number:
        return f"{number:+,f}"
    return f"{number or abs(number):,f}"  # no minus before zero
