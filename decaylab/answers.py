r"""Answers: what a response says (boxes, expressions, numbers), and whether two answers are equal.

    boxes(r"so \boxed{\frac{3}{4}}")           # ["\\frac{3}{4}"]
    equal(tidy(r"\frac{3}{4}"), tidy("0.75"))  # True

Plain numbers and words are compared here, everything else by math-verify. That can hang in C code, where its own
signal-based time-out does not reach (nor outside the main thread): decaylab.grading calls this in processes that can
be lost.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

# --- What a response says -------------------------------------------------------------------------------------------

_BOX_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?)|\\.|[{}]", re.DOTALL)


def boxes(text: str) -> list[str | None]:
    """Content of every box, in order of their starts; None for a box that never closes or has no braces."""
    found: list[str | None] = []
    # (index in found, start of content) for the brace of a box, None for another brace
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            if match["brace"]:
                open_braces.append((len(found), match.end()))
            found.append(None)
        elif match[0] == "{":
            open_braces.append(None)
        elif match[0] == "}" and open_braces and (box := open_braces.pop()) is not None:
            found[box[0]] = text[box[1] : match.start()]
    return found


def count_boxes(text: str) -> int:
    r"""Number of boxes (\boxed or \fbox) that the text opens, finished or not."""
    return len(boxes(text))


_BLANK = re.compile(r"\\(?:text|mathrm|mbox)\b|\\[ ,;:!_]|[\s{}$~.?_]")


def boxed_answers(text: str) -> list[str | None]:
    """Content of every box, in order; None for one that is malformed, empty or holds nothing but blanks."""
    return [content if content and _BLANK.sub("", content) else None for content in boxes(text)]


def _number_runs() -> str:
    number = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d])|\d+(?:\.\d+)?|\.\d+)"
    term = rf"\({{0,9}}-?\$?{number}\){{0,9}}"  # bounded, or a loop of brackets takes quadratic time
    run = rf"{term}(?:[ \t]*(?:[-+*/×÷^]|\\times|\\cdot|\\div)[ \t]*{term})*"
    # Not a part of a longer number, word, exponent or LaTeX group, but a unit of two or more letters may follow (12cm).
    after = r"(?!\d|[.,]\d|[\^_{]|(?:st|nd|rd|th)\b|[A-Za-z](?![A-Za-z]))"
    return rf"(?<![\w\\^_{{])(?<!\d[.,])(?<!\w-)(?P<run>{run}){after}(?P<percent>\s?\\?%)?"


_NUMBER_RUN = re.compile(_number_runs())
_NUMBER_LIST = re.compile(r"(?<![\w.,{-])[\[(]?-?[\d./]+(?:\s*,\s*-?[\d./]+)+[\])]?(?!\w)")
# Dollars as pandoc reads them: no space inside, no digit after the closing one. So "$12 and then $15" is money.
_MATH = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<![\s\\])\$(?!\d)",
    re.DOTALL,
)
_BARE_LATEX = re.compile(r"(?<!\d)(?:-?\d{1,9})?\\(?:[dt]?frac\{[^{}]*\}\{[^{}]*\}|sqrt\{[^{}]*\})")
_LIST_MARKER = re.compile(r"^[ \t]*[*#]*\d+[.)](?=[ \t*]+\S)|\b(?:Step|Problem|Question|Case)\s+#?\d+", re.MULTILINE)
_RELATION = re.compile(r"(?<![<>!\\:])=|\\(?:approx|implies|Rightarrow|Leftrightarrow|equiv|in)(?![A-Za-z])|≈|⇒")


def expressions(text: str, answer: str) -> list[str]:
    """Expressions that a response writes outside its boxes or as a part of them: LaTeX, lists, arithmetic, numbers."""
    text = _LIST_MARKER.sub(" ; ", re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "", text))
    maths = [next(filter(None, match.groups())) for match in _MATH.finditer(text)]
    text = _MATH.sub(" ; ", text)
    plain = [match[0] for match in _BARE_LATEX.finditer(text)]
    text = _BARE_LATEX.sub(" ; ", text)
    if "," in answer:
        plain += [match[0] for match in _NUMBER_LIST.finditer(text)]
    plain += [match["run"] + (r"\%" if match["percent"] else "") for match in _NUMBER_RUN.finditer(text)]
    sides = []
    for formula in maths:
        rows = [formula] if "matrix" in formula else re.sub(r"\\(begin|end)\{[a-z]+\*?\}|&", " ", formula).split(r"\\")
        sides += [side for row in rows for side in _RELATION.split(row) if side.count("{") == side.count("}")]
    return [found for found in dict.fromkeys(map(str.strip, maths + sides + plain)) if found]


_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)}$])-\\?\$?|(?<!\w)\$-)?(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+\b)?|(?<!\w)\.\d+)"
)


def final_number(text: str) -> Fraction | None:
    """The number after the last ####, else the last one of the text; None where there is none."""
    _, mark, after = text.replace("−", "-").rpartition("####")
    numbers = list(_NUMBER.finditer(after))
    if not numbers:
        return None
    number = numbers[0] if mark else numbers[-1]
    value = _decimal(number["digits"].replace(",", ""))
    return -value if number["sign"] else value


def gold_number(answer: str) -> Fraction | None:
    """The number that a gold answer is or ends on, without its unit; None where it is none."""
    if "####" in answer:
        return final_number(answer)
    return exact(_WRAPPER.sub("", re.sub(r"\\%|\^\{?\\circ\}?", "", tidy(answer))).strip())


def _decimal(text: str) -> Fraction:
    # An exponent or a digit run of thousands of places is babble, not an answer: as an infinity it equals no gold.
    mantissa, _, exponent = text.lower().partition("e")
    return Fraction(text) if len(mantissa) <= 300 and len(exponent) <= 4 else Fraction(10) ** 400


# --- Whether two answers are equal ----------------------------------------------------------------------------------

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\^?[°º]", r"^\\circ"),
        (r"\\!|(?<=\d)(?:\{,\}|\\,)(?=\d{3})", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"^\s*\$(.*)\$\s*$", r"\1"),
        (r"^[\s=]+|[\s.,;:=]+$", ""),
        (r"^(-?)\s*\\?\$\s*(?=[-\d.])|(?<=\d)\s*\\?\$$", r"\1"),
        (r"\s*(?:\\?%|percent)$", r"\\%"),
        (rf"^(-?{_PLAIN})[eE]([-+]?\d+)$", r"\1 \\times 10^{\2}"),
        # A bare unit: "18.90 dollars", "15 cm^2". Words that belong to an expression or a list stay.
        (
            rf"^(-?{_PLAIN})\s+(?!(?:pi|and|or|sqrt|sin|cos|tan|log|ln|mod)\b)[A-Za-z][A-Za-z .]+(?:\^\{{?\d\}}?)?$",
            r"\1",
        ),
    )
)


@lru_cache(maxsize=65536)
def tidy(answer: str) -> str:
    """The answer without what carries no meaning: outer dollars, currency, blanks in numbers, units, last period."""
    if answer.isdigit():
        return answer
    for pattern, replacement in _TIDY:
        answer = pattern.sub(replacement, answer)
    return answer.replace(" ", "") if re.fullmatch(r"-?\d{1,3}(?: \d{3})+", answer) else answer


_THOUSANDS = r"(?<=\d),(?=\d{3}(?!\d))"
_FRACTION = re.compile(r"\\frac\{(-?\d+)\}\{(-?\d+)\}|\\frac(\d)(\d)")
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip


@lru_cache(maxsize=65536)
def exact(answer: str) -> Fraction | None:
    """The value of a tidy plain number, fraction or sum of them; None for anything else."""
    if re.fullmatch(rf"-?{_PLAIN}", answer):
        return Fraction(answer.replace(",", "").rstrip(".")) if len(answer) <= 300 else None
    text = _FRACTION.sub(lambda m: f"(({m[1] or m[3]})/({m[2] or m[4]}))", answer)
    for pattern, replacement in ((r"\\times|\\cdot|×", "*"), (r"\\div|÷", "/"), (_THOUSANDS, "")):
        text = re.sub(pattern, replacement, text)
    if len(text) > 200 or not re.fullmatch(r"[\d\s.()+*/-]+", text):
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


def _decimals(gold: Fraction) -> int:
    """Decimals to which an answer in decimals must agree: six, and as many more as gold has zeros after the point."""
    return 6 if gold == 0 or abs(gold) >= 1 else 5 - math.floor(math.log10(abs(gold)))


def _same_number(gold: str, gold_value: Fraction, answer: str, value: Fraction) -> bool:
    """Exactly equal, or equal when rounded where one of the two is written in decimals."""
    return gold_value == value if "." not in gold + answer else same_rounded(gold_value, value)


def same_rounded(gold: Fraction, value: Fraction) -> bool:
    """Whether two numbers agree to six decimals, or to more where gold is small."""
    decimals = _decimals(gold)
    return round(gold, decimals) == round(value, decimals)


_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")

_PROSE = re.compile(r"[A-Za-z]{3,}(?:[\s'-]+[A-Za-z]+)*|[A-Za-z]{2}(?:[\s'-]+[A-Za-z]+)+")


def plain_words(answer: str) -> str | None:
    """A text answer in lower case without wrapper, brackets, blanks; None where the answer is mathematics."""
    bare, wrappers = _WRAPPER.subn(r"\1", answer)
    if not wrappers and not _PROSE.fullmatch(bare.strip(" ()")):
        return None
    letters = re.sub(r"[\s().,'\"-]|\\[ ,;]", "", bare)
    return letters.lower() if letters.isalpha() and letters not in ("pi", "infty") else None


_BASE = re.compile(r"(\w+)_\{?(\d+)\}?")
_COMMAND_OR_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+|\\."
)


def comparable(gold: str, found: Iterable[str]) -> Iterator[str]:
    """The expressions that may equal gold: what has other variables is not worth math-verify's time."""
    letters = [_letters(gold), _letters(_RELATION.split(gold)[-1])]
    return (one for one in found if plain_words(gold) or _letters(one) in letters)


def _letters(expression: str) -> set[str]:
    return set(re.findall("[a-z]", _COMMAND_OR_TEXT.sub(" ", expression).lower()))


@lru_cache(maxsize=4096)
def _parse(answer: str) -> tuple[Any, ...]:
    """math-verify's reading of a tidy answer; what it can't read stays a string."""
    from math_verify import LatexExtractionConfig, parse

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    return tuple(parse(rf"\boxed{{{answer}}}", config, parsing_timeout=None))


@lru_cache(maxsize=65536)
def equal(gold: str, answer: str) -> bool:
    """Whether a tidy answer equals a tidy gold answer. Only what is no plain number and no text goes to math-verify."""
    if "".join(gold.split()) == "".join(answer.split()):
        return True
    gold_value, value = exact(gold), exact(answer)
    if gold_value is not None and value is not None:
        return _same_number(gold, gold_value, answer, value)
    if (words := plain_words(gold)) is not None:
        return words == (plain_words(answer) or re.sub(r"[\s().]", "", answer).lower())
    if (base := _BASE.fullmatch(gold)) and (other := _BASE.fullmatch(answer)):
        return base.groups() == other.groups()
    if "," in gold and {_bracket(gold), _bracket(answer)} in ({"{", "("}, {"{", "["}):
        return False  # a set has no order, a point or an interval has
    return math_equal(gold, answer, 6 if gold_value is None else _decimals(gold_value))


def _bracket(answer: str) -> str:
    return answer.replace(r"\left", "").strip().removeprefix("\\")[:1]


def math_equal(gold: str, answer: str, decimals: int) -> bool:
    """math-verify's verdict on two tidy answers, at this many decimals; may take for ever."""
    from math_verify import verify

    for expected in _parse(gold):
        for given in _parse(answer):
            try:
                if verify(expected, given, float_rounding=decimals, timeout_seconds=None, raise_on_error=True):
                    return True
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001, S112  (sympy fails in as many ways as there are strange answers)
                continue
    return False


def box_equals(gold: str, content: str) -> bool:
    """Whether the content of a box, or what stands last in its chain of equations, equals a tidy gold answer."""
    answer = tidy(content)
    if equal(gold, answer):
        return True
    # "3 \times 4 = 12" answers 12, but "x = 3, y = 4" does not answer 4.
    chain = _RELATION.split(re.sub(_THOUSANDS, "", answer))
    return len(chain) > 1 and "," not in "".join(chain) and not _RELATION.search(gold) and equal(gold, tidy(chain[-1]))


def is_readable(gold: str) -> bool:
    """Whether a tidy gold answer is a number, a text, or something that math-verify reads; may take for ever."""
    return exact(gold) is not None or bool(plain_words(gold)) or any(not isinstance(one, str) for one in _parse(gold))
