r"""Answers: what a response says (boxes, expressions, numbers), and whether two answers are equal.

    boxes(r"so \boxed{\frac{3}{4}}")           # ["\\frac{3}{4}"]
    equal(tidy(r"\frac{3}{4}"), tidy("0.75"))  # True

Plain numbers, words and choices are compared here, everything else by math-verify, in forms that it
reads (see decaylab.problems.forms). That can hang in C code, where its own signal-based time-out
does not reach (nor outside the main thread): decaylab.problems.grading calls this in processes that
can be lost.
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

from decaylab.problems import forms

ANSWER_RULES = ("last_boxed", "first_boxed", "anywhere", "gsm8k")
"""The named rules by which a response is graded; every one of them is stored."""

# --- What a response says
# ---------------------------------------------------------------------------

_BOX_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?)|\\.|[{}]", re.DOTALL
)


def _spans(text: str) -> list[tuple[int, int, str | None]]:
    """Start, end and content of every box, in order of their starts."""
    found: list[tuple[int, int, str | None]] = []
    # (index in found, start of content) for the brace of a box, None for another brace
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            if match["brace"]:
                open_braces.append((len(found), match.end()))
            found.append((match.start(), match.end(), None))
        elif match[0] == "{":
            open_braces.append(None)
        elif match[0] == "}" and open_braces and (box := open_braces.pop()) is not None:
            found[box[0]] = found[box[0]][0], match.end(), text[box[1] : match.start()]
    return found


def boxes(text: str) -> list[str | None]:
    """Content of every box, in order of their starts; None for a box that never closes or has no
    braces."""
    return [content for _, _, content in _spans(text)]


def count_boxes(text: str) -> int:
    r"""Number of boxes (\boxed or \fbox) that the text opens, finished or not."""
    return len(boxes(text))


_BLANK = re.compile(r"\\(?:text|mathrm|mbox)\b|\\[ ,;:!_]|[\s{}$~.?_]")


def boxed_answers(text: str) -> list[str | None]:
    """Content of every box, in order; None for one that is malformed, empty or holds nothing but
    blanks."""
    return [_answer(content) for content in boxes(text)]


def _answer(content: str | None) -> str | None:
    return content if content and _BLANK.sub("", content) else None


_BETWEEN_BOXES = re.compile(
    r"(?:[\s,;&$]|\\[()\[\],;: "
    r"]|\\q?quad|(?:and|or)(?![A-Za-z])|\\text\s*\{\s*(?:and|or)\s*\}|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)


def boxed_lists(text: str) -> list[str | None]:
    r"""For every box, in order, the list that it stands in: "2, 3" for both of "\boxed{2} and
    \boxed{3}".

    Boxes stand in one list where nothing but separators, "and", "or" or "x =" is between them. A
    box on its own is a list of one. None as in `boxed_answers`.
    """
    lists: list[list[int]] = []
    spans = _spans(text)
    for index, (start, _, content) in enumerate(spans):
        end, before = spans[index - 1][1:] if index else (0, None)
        joins = (
            index
            and _answer(content)
            and _answer(before)
            and _BETWEEN_BOXES.fullmatch(text, end, max(end, start))
        )
        if joins and start >= end:
            lists[-1].append(index)
        else:
            lists.append([index])
    found: list[str | None] = []
    for members in lists:
        contents = [_answer(spans[index][2]) for index in members]
        found += [", ".join(filter(None, contents)) or None] * len(members)
    return found


def _number_runs() -> str:
    vulgar = "[" + "".join(forms.VULGAR) + "]"
    mixed = rf"(?:\d{{1,3}} )?\d{{1,3}}/\d{{1,3}}(?![\d/])|(?:\d{{1,3}} ?)?{vulgar}"
    number = rf"(?:{mixed}|\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?![\d])|\d+(?:\.\d+)?|\.\d+)"
    term = (
        rf"\({{0,9}}-?\$?{number}\){{0,9}}"  # bounded, or a loop of brackets takes quadratic time
    )
    run = rf"{term}(?:[ \t]*(?:[-+*/×÷^]|\\times|\\cdot|\\div)[ \t]*{term})*"
    # Not a part of a longer number, word, exponent or LaTeX group, but a unit of two or more
    # letters may follow (12cm).
    after = rf"(?!\d|[.,]\d|[\^_{{]| ?{vulgar}|(?:st|nd|rd|th)\b|[A-Za-z](?![A-Za-z]))"
    return rf"(?<![\w\\^_{{])(?<!\d[.,])(?<!\w-)(?P<run>{run}){after}(?P<percent>\s?\\?%)?"


_NUMBER_RUN = re.compile(_number_runs())
_NUMBER_LIST = re.compile(r"(?<![\w.,{-])[\[(]?-?[\d./]+(?:\s*,\s*-?[\d./]+)+[\])]?(?!\w)")
# Dollars as pandoc reads them: no space inside, no digit after the closing one. So "$12 and then
# $15" is money.
_MATH = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<![\s\\])\$(?!\d)",
    re.DOTALL,
)
_BARE_LATEX = re.compile(r"(?<!\d)(?:-?\d{1,9})?\\(?:[dt]?frac\{[^{}]*\}\{[^{}]*\}|sqrt\{[^{}]*\})")
_LIST_MARKER = re.compile(
    r"^[ \t]*[*#]*\d+[.)](?=[ \t*]+\S)|\b(?:Step|Problem|Question|Case)\s+#?\d+", re.MULTILINE
)
_HALF_OF_THE_DAY = re.compile(r"\b([ap])\.?\s*m\b", re.IGNORECASE)
_SEVERAL = re.compile(
    r"[,;]|\b(?:or|and)\b|\\(?:lor|vee|land|wedge|quad|qquad)(?![A-Za-z])"
)  # several statements, no chain
_RELATION = re.compile(
    r"(?<![<>!\\:])=|\\(?:approx|implies|Rightarrow|Leftrightarrow|equiv|in)(?![A-Za-z])|≈|⇒"
)


def expressions(text: str, answer: str) -> list[str]:
    """Expressions that a response writes outside its boxes or as a part of them: LaTeX, lists,
    arithmetic, numbers."""
    text = _LIST_MARKER.sub(" ; ", re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "", text))
    maths = [next(filter(None, match.groups())) for match in _MATH.finditer(text)]
    text = _MATH.sub(" ; ", text)
    plain = [match[0] for match in _BARE_LATEX.finditer(text)]
    text = _BARE_LATEX.sub(" ; ", text)
    if "," in answer:
        plain += [match[0] for match in _NUMBER_LIST.finditer(text)]
    plain += [
        match["run"] + (r"\%" if match["percent"] else "") for match in _NUMBER_RUN.finditer(text)
    ]
    sides = []
    for formula in maths:
        rows = (
            [formula]
            if "matrix" in formula
            else re.sub(r"\\(begin|end)\{[a-z]+\*?\}|&", " ", formula).split(r"\\")
        )
        sides += [
            side
            for row in rows
            for side in _RELATION.split(row)
            if side.count("{") == side.count("}")
        ]
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
    """The number that a gold answer is or ends on, without its unit; None where it is none that
    digits can write.

    Of a fraction, a sum or a mixed number `final_number` would read the last part: those are none.
    """
    if "####" in answer:
        return final_number(answer)
    bare = _WRAPPER.sub("", re.sub(r"\\%|\^\{?\\circ\}?", "", tidy(answer))).strip()
    number = exact(bare)
    return number if number is not None and final_number(bare) == number else None


def applies(rule: str, answer: str) -> bool:
    """Whether an answer rule can judge responses to a problem with this gold answer: gsm8k wants a
    number."""
    return rule != "gsm8k" or gold_number(answer) is not None


def _decimal(text: str) -> Fraction:
    # An exponent or a digit run of thousands of places is babble, not an answer: as an infinity it
    # equals no gold.
    mantissa, _, exponent = text.lower().partition("e")
    return Fraction(text) if len(mantissa) <= 300 and len(exponent) <= 4 else Fraction(10) ** 400


# --- Whether two answers are equal
# ---------------------------------------------------------------------------

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
        # A bare unit: "18.90 dollars", "15 cm^2". Words that belong to an expression or a list
        # stay.
        (
            rf"^(-?{_PLAIN})\s+(?!(?:pi|and|or|sqrt|sin|cos|tan|log|ln|mod|of|(?i:{'|'.join(forms.MONTHS)})[a-z]*)\b)"
            r"[A-Za-z][A-Za-z .]+(?:\^\{?\d\}?)?$",
            r"\1",
        ),
    )
)


@lru_cache(maxsize=65536)
def tidy(answer: str) -> str:
    """The answer without what carries no meaning: outer dollars, currency, blanks in numbers,
    units, last period."""
    if answer.isdigit():
        return answer
    for pattern, replacement in _TIDY:
        answer = pattern.sub(replacement, answer)
    return answer.replace(" ", "") if re.fullmatch(r"-?\d{1,3}(?: \d{3})+", answer) else answer


_THOUSANDS = r"(?<=\d),(?=\d{3}(?!\d))"
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
    """The value of a tidy plain number, fraction, mixed number, power of ten, or sum of them; None
    for anything else."""
    if re.fullmatch(rf"-?{_PLAIN}", answer):
        return Fraction(answer.replace(",", "").rstrip(".")) if len(answer) <= 300 else None
    if len(answer) > 200:
        return None
    text = _FRACTION.sub(
        lambda m: f"(({m[1] or m[3]})/({m[2] or m[4]}))", forms.sums_of_mixed(answer)
    )
    for pattern, replacement in ((r"\\times|\\cdot|×", "*"), (r"\\div|÷", "/"), (_THOUSANDS, "")):
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


def _decimals(gold: Fraction) -> int:
    """Decimals to which an answer in decimals must agree: six, and as many more as gold has zeros
    after the point."""
    return 6 if gold == 0 or abs(gold) >= 1 else 5 - math.floor(math.log10(abs(gold)))


def _same_number(gold: str, gold_value: Fraction, answer: str, value: Fraction) -> bool:
    """Exactly equal, or equal when rounded where one of the two is written in decimals."""
    return gold_value == value if "." not in gold + answer else same_rounded(gold_value, value)


def same_rounded(gold: Fraction, value: Fraction) -> bool:
    """Whether two numbers agree to six decimals, or to more where gold is small."""
    decimals = _decimals(gold)
    return round(gold, decimals) == round(value, decimals)


_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")

_BASE = re.compile(r"(\w+)_\{?(\d+)\}?")
_COMMAND_OR_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+|\\."
)


def comparable(gold: str, found: Iterable[str]) -> Iterator[str]:
    """The expressions that may equal gold: what has other variables is not worth math-verify's
    time."""
    letters = [_letters(gold), _letters(_RELATION.split(gold)[-1])]
    if forms.is_text(gold):
        return iter(found)
    is_inequality = forms.interval(gold) is not None
    return (
        one
        for one in found
        if _letters(one) in letters
        or is_inequality != (forms.interval(one) is not None)
        and len(one) < 100
    )


def _letters(expression: str) -> set[str]:
    return set(re.findall("[a-z]", _COMMAND_OR_TEXT.sub(" ", expression).lower()))


@lru_cache(maxsize=4096)
def _parse(answer: str) -> tuple[Any, ...]:
    """math-verify's reading of a tidy answer; what it can't read stays a string."""
    from math_verify import LatexExtractionConfig, parse

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    parsed = parse(rf"\boxed{{{answer}}}", config, parsing_timeout=None)
    return tuple(_with_imaginary_unit(one) for one in parsed)


def _with_imaginary_unit(expression: Any) -> Any:
    """The expression with the letter i as the square root of -1, which math-verify leaves a
    variable."""
    names = {one for one in getattr(expression, "free_symbols", ()) if one.name == "i"}
    return expression.subs(dict.fromkeys(names, _sympy().I)) if names else expression


_MEANINGFUL_BLANK = re.compile(r"(?<=\d)\s+(?=\d)|(?<=\d),\s+(?=\d{3}(?!\d))")


def _same_text(gold: str, answer: str) -> bool:
    """Whether two answers differ in blanks at most: not in one that parts digits, "3 1/2" from
    "31/2"."""
    one, other = (
        "".join(_MEANINGFUL_BLANK.sub("|", text.strip()).split()) for text in (gold, answer)
    )
    return one == other


@lru_cache(maxsize=65536)
def equal(gold: str, answer: str) -> bool:
    """Whether a tidy answer equals a tidy gold answer. Only what is no plain number and no text
    goes to math-verify."""
    if _same_text(gold, answer):
        return True
    gold_value, value = exact(gold), exact(answer)
    if gold_value is not None and value is not None:
        return _same_number(gold, gold_value, answer, value)
    if (decided := _same_percent(gold, answer)) is not None:
        return decided
    if (decided := _same_choice(gold, answer)) is not None:
        return decided
    halves = [_HALF_OF_THE_DAY.search(forms.unwrapped(one)) for one in (gold, answer)]
    if all(halves) and halves[0][1].lower() != halves[1][1].lower():  # type: ignore[index]
        return False  # 12 AM, 12 PM
    words = forms.key(answer)
    if forms.is_text(gold):
        return words == forms.key(gold)
    if forms.is_text(answer) and words == forms.key(gold):
        return True
    if (base := _BASE.fullmatch(gold)) and (other := _BASE.fullmatch(answer)):
        return base.groups() == other.groups()
    if (decided := _same_inequality(gold, answer)) is not None:
        return decided
    if "," in gold and {_bracket(gold), _bracket(answer)} in ({"{", "("}, {"{", "["}):
        return False  # a set has no order, a point or an interval has
    return math_equal(gold, answer, 6 if gold_value is None else _decimals(gold_value))


def _bracket(answer: str) -> str:
    return answer.replace(r"\left", "").strip().removeprefix("\\")[:1]


def _same_percent(gold: str, answer: str) -> bool | None:
    """Whether two numbers agree, one of them per cent at least; None where that is not what they
    are.

    The form of gold decides. In per cent: the answer is the same per cent, or that number with its
    sign left out, or the fraction that it is. Below 1, a fraction: per cent are hundredths. From 1
    on: the sign is a unit like any other.
    """
    gold_percent, answer_percent = forms.percent(gold), forms.percent(answer)
    if gold_percent is None and answer_percent is None:
        return None
    first, second = gold_percent or gold, answer_percent or answer
    gold_value, value = exact(first), exact(second)
    if gold_value is None or value is None:
        return None
    if gold_percent is None:
        value = value / 100 if abs(gold_value) < 1 else value
        return _same_number(first, gold_value, second, value)
    fraction = answer_percent is None and _same_number(first, gold_value / 100, second, value)
    return fraction or _same_number(first, gold_value, second, value)


def _same_choice(gold: str, answer: str) -> bool | None:
    """Whether two answers name one option of a multiple choice; None where they do not decide it.

    A letter is enough for an option with its content, and so is the content; where both are there,
    both count.
    """
    first, second = forms.choice(gold), forms.choice(answer)
    if first and second:
        same_content = not (first.content and second.content) or equal(
            tidy(first.content), tidy(second.content)
        )
        return first.letter == second.letter and same_content
    if first and first.content:
        return equal(tidy(first.content), answer)
    if second and second.content:
        return equal(gold, tidy(second.content))
    return None


def _same_inequality(gold: str, answer: str) -> bool | None:
    """Whether inequalities, or one and a set, have the same solutions; None where neither is one
    that can be read."""
    first, second = forms.interval(gold), forms.interval(answer)
    if first and second:
        return first[0].lower() == second[0].lower() and equal(first[1], second[1])
    other = answer if first else gold
    if (first or second) and "," in other and not re.search(r"[(\[{]", other):
        return False  # numbers side by side are no interval
    if first:
        return equal(first[1], forms.members(answer))
    if second:
        return equal(forms.members(gold), second[1])
    return None


def math_equal(gold: str, answer: str, decimals: int) -> bool:
    """math-verify's verdict on two tidy answers, at this many decimals; may take for ever."""
    from math_verify import verify

    for expected in _parse(forms.mathematics(gold)):
        for given in _parse(forms.mathematics(answer)):
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
"""Significant digits in which two values must agree that math-verify finds equal: it compares
differences with 0."""
_PLACES = (Fraction(3, 7), Fraction(11, 13), Fraction(-17, 5), Fraction(23, 19))


def _apart(expected: Any, given: Any) -> bool:
    """Whether two expressions differ that math-verify holds equal, since their difference is tiny:
    1/2^99 and 1/2^98.

    Members of sets, points and matrices are compared with each other, functions at a few places.
    Where a decimal stands on either side six digits are enough.
    """
    sympy = _sympy()
    expected, given = (
        one.rhs if isinstance(one, sympy.Eq) and one.lhs.is_Symbol else one
        for one in (expected, given)
    )
    members = [_members(one) for one in (expected, given)]
    if all(members) and len(members[0]) == len(members[1]):
        if not any(isinstance(one, sympy.FiniteSet) for one in (expected, given)):
            return any(_apart(*pair) for pair in zip(*members, strict=True))  # order counts
        return any(all(_apart(one, other) for other in members[1]) for one in members[0])
    try:
        first, second = (_value(one) for one in (expected, given))
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


def _members(expression: Any) -> list[Any]:
    """Of a set, a point, an interval's ends or a matrix; none for anything else."""
    sympy = _sympy()
    if isinstance(expression, sympy.MatrixBase):
        return list(expression.flat())
    if isinstance(expression, sympy.Interval):
        return [expression.start, expression.end]
    return list(expression.args) if isinstance(expression, sympy.FiniteSet | sympy.Tuple) else []


def _value(expression: Any) -> Any:
    """The number that a closed expression is, or a function at a place of its own for each
    variable; None for neither.

    Exact where it is rational, else in twice the digits that are compared.
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


def box_equals(gold: str, content: str) -> bool:
    """Whether the content of a box, or what stands last in its chain of equations, equals a tidy
    gold answer."""
    answer = tidy(content)
    if equal(gold, answer):
        return True
    # "3 \times 4 = 12" answers 12, but "x = 3, y = 4" and "x = 3 or x = 4" do not answer 4.
    chain = _RELATION.split(re.sub(_THOUSANDS, "", answer))
    if len(chain) < 2 or _SEVERAL.search("".join(chain)) or _RELATION.search(gold):
        return False
    return equal(gold, tidy(chain[-1]))


def is_readable(gold: str) -> bool:
    """Whether a tidy gold answer is a number, a text, or something that math-verify reads; may take
    for ever."""
    return (
        exact(gold) is not None
        or forms.is_text(gold)
        or any(not isinstance(one, str) for one in _parse(gold))
    )
