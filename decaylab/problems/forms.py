r"""Recognises equivalent notations of an answer, from its text alone.

    mathematics("2pi")                    # "2\\pi "
    choice("A. 73")                       # ("A", "73")
    interval(r"0 \le x < 1")              # ("x", "[0,1)")
    text("20th of June")                  # "06-20"
    percent(r"-35.0\%")                   # "-35.0"

This module defines which notations count as the same (see docs/evaluate.md).
`decaylab.problems.answers` decides whether values are equal.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|mbox|mathrm|mathbf|mathsf|operatorname)\s*\{([^{}]*)\}"
)
_SPACING = re.compile(r"\\[ ,;:]|~|\\q?quad(?![A-Za-z])")


def unwrapped(answer: str) -> str:
    r"""The answer without wrappers such as \text{}, and with plain blanks."""
    return _SPACING.sub(" ", _WRAPPER.sub(r"\1", answer))


# Numbers

_FRACTION_PART = r"(?:\\[dt]?frac\s*(?:\{(?P<a>\d+)\}|(?P<b>\d))\s*(?:\{(?P<c>\d+)\}|(?P<d>\d))|(?P<e>\d+)\s*/\s*(?P<f>\d+))"  # noqa: E501
_MIXED = re.compile(
    rf"(?<![\w.,/^)}}_{{])(?P<whole>\d+)(?:(?:\s|~|\\[ "
    rf",;])+(?:and\s+)?|\s*(?=\\)){_FRACTION_PART}(?![\d./^])"
)
VULGAR = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅖": "2/5",
    "⅗": "3/5",
    "⅘": "4/5",
    "⅙": "1/6",
    "⅚": "5/6",
    "⅛": "1/8",
    "⅜": "3/8",
    "⅝": "5/8",
    "⅞": "7/8",
}


def sums_of_mixed(answer: str) -> str:
    r"""Writes mixed numbers as sums: "3 1/2", "3\frac{1}{2}" and "3½" become (3+1/2).

    The fraction must be proper.
    """

    def expanded(match: re.Match[str]) -> str:
        over = match["a"] or match["b"] or match["e"]
        under = match["c"] or match["d"] or match["f"]
        return f"({match['whole']}+{over}/{under})" if int(over) < int(under) else match[0]

    for sign, fraction in VULGAR.items():
        answer = answer.replace(sign, f" {fraction}") if sign in answer else answer
    return _MIXED.sub(expanded, answer.strip())


def percent(answer: str) -> str | None:
    """The number before a final percent sign of a tidy answer; None if there is no such sign."""
    return answer.removesuffix("\\%").strip() if answer.endswith("\\%") else None


# Mathematics in plain text

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|alpha|beta|gamma|theta|phi"  # noqa: E501
_NOTATIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"√\s*\(([^()]*)\)|(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1\2}"),
        (r"√\s*(\d+|[A-Za-z])|(?<![\\A-Za-z])sqrt\s*(\d+)", r"\\sqrt{\1\2}"),
        (r"π|(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"∞|(?<![\\A-Za-z])(?:infinity|infty|inf|oo)(?![A-Za-z])", r"\\infty "),
        (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (r"∪|(?<=[\])])\s*U\s*(?=[\[(])", r"\\cup "),
        (
            r"\\varnothing(?![A-Za-z])|∅|^\\?\{\s*\\?\}$|^(?:\\text\{)?(?:the )?empty set\}?$",
            r"\\emptyset ",
        ),
        (
            r"^(?:x\s*\\in\s*)?(?:\\mathbb\s*\{?R\}?|ℝ|(?:\\text\{)?(?:all )?real(?:s| "
            r"numbers)\}?)$",
            r"(-\\infty,\\infty)",
        ),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"·", r"\\cdot "),
    )
)


def mathematics(answer: str) -> str:
    r"""Rewrites plain-text mathematics as LaTeX: 2pi, √3, sqrt(2), ∞, sin x, ∅, "3 1/2"."""
    answer = sums_of_mixed(answer)
    for pattern, replacement in _NOTATIONS:
        answer = pattern.sub(replacement, answer)
    return answer


# Multiple choice

_CALLED = r"(?i:(?:option|choice|answer)(?:\s+is)?\s*:?\s*)?"
_LETTER = re.compile(rf"{_CALLED}(?:[(\[]\s*([A-Ja-j])\s*[)\]]|([A-J])\s*\)?)\s*[.:]?")
_ANOTHER = re.compile(r"[,;]\s*[(\[]?[A-J]\s*[)\].:]")
_LABELLED = re.compile(
    rf"{_CALLED}(?:[(\[]\s*([A-Ja-j])\s*[)\]]\s*[.:]?|([A-J])\s*[).:])(?:\s+|(?=[\d$\\-]))(\S.*)",
    re.DOTALL,
)


class Choice(NamedTuple):
    """An option of a multiple choice: its letter, and its content, which may be empty."""

    letter: str
    content: str


def choice(answer: str) -> Choice | None:
    r"""The option that an answer names: "A", "(A)", "\textbf{(A) } 73", "A. 73", "Option A".

    None for anything else.
    """
    bare = unwrapped(answer).strip().strip("$").strip()
    match = _LETTER.fullmatch(bare) or _LABELLED.fullmatch(bare)
    if (
        match
        and match.re is _LABELLED
        and (_LETTER.fullmatch(match[3].strip()) or _ANOTHER.search(match[3]))
    ):
        return None  # several options
    if not match:
        return None
    content = match[3].strip() if match.re is _LABELLED else ""
    return Choice((match[1] or match[2]).upper(), content)


# Text

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?:,?\s*(?P<year>\d{4}))?"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}",
        rf"{_MONTH}\s*(?:the\s+)?{_DAY}{_YEAR}",
        rf"{_MONTH}\s*,?\s*(?P<year>\d{{4}})",
    )
]
_PROSE = re.compile(r"[A-Za-z]{3,}(?:[\s'-]+[A-Za-z]+)*|[A-Za-z]{2}(?:[\s'-]+[A-Za-z]+)+")
_ITEM = re.compile(r"[a-z0-9]+")


def date(answer: str) -> str | None:
    """A date as month and day (06-20), with the year if there is one; None for anything else."""
    for pattern in _DATES:
        if match := pattern.fullmatch(answer.strip()):
            parts = match.groupdict()
            month = MONTHS.index(parts["month"][:3].lower()) + 1
            day = f"-{int(parts['day']):02}" if parts.get("day") else ""
            return f"{parts['year'] + '-' if parts['year'] else ''}{month:02}{day}"
    return None


def is_text(answer: str) -> bool:
    r"""Whether an answer is words: "ellipse", "\text{June 20}", "\text{B, E, G}"."""
    bare = unwrapped(answer).strip(" ()")
    if date(bare):
        return True
    if key(answer) is None or "\\" in mathematics(bare):
        return False
    rest, wrappers = _WRAPPER.subn("", answer)
    wrapped = (
        wrappers and bare[:1].isalpha() and not re.search(r"[^\s,;&().]", _SPACING.sub(" ", rest))
    )
    return bool(wrapped or _PROSE.fullmatch(bare))


def key(answer: str) -> str | None:
    """Key of a text: two texts with the same key are equal.

    Ignores case, blanks, brackets and the order of a list, except in brackets. None if the text has
    anything but letters, digits and punctuation.
    """
    bare = unwrapped(answer).strip()
    if found := date(bare):
        return found
    ordered = bare.startswith("(") and bare.endswith(")")
    parts = re.split(r"[,;&]|\band\b", bare.lower())
    items = [re.sub(r"[\s().'\"$-]", "", part) for part in parts]
    items = [item for item in items if item]
    if not items or not all(_ITEM.fullmatch(item) for item in items):
        return None
    return ",".join(items if ordered else sorted(items))


# Inequalities

_SIGNS = tuple(
    (re.compile(pattern), sign)
    for pattern, sign in (
        (r"\\(?:leqslant|leq|le)(?![A-Za-z])|<=|=<|⩽", "≤"),
        (r"\\(?:geqslant|geq|ge)(?![A-Za-z])|>=|⩾", "≥"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\neq?(?![A-Za-z])|!=", "≠"),
    )
)
_OR = re.compile(
    r"\\text\s*\{\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])|\\cup(?![A-Za-z])"
)
_AND = re.compile(
    r"\\text\s*\{\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\land(?![A-Za-z])|\\wedge(?![A-Za-z])|,"
)
_VARIABLE = r"[A-Za-z]|\\(?:theta|alpha|beta|lambda|phi)"
_BUILDER = re.compile(
    rf"\\?\{{\s*({_VARIABLE})(?:\s*\\in\s*\\mathbb\s*\{{?R\}}?)?\s*(?:\||\\mid|\\vert|:)(.*?)\\?\}}",
    re.DOTALL,
)
_MEMBER = re.compile(rf"\s*({_VARIABLE})\s*\\in(?![A-Za-z])(.*)", re.DOTALL)


class _Bounds(NamedTuple):
    """An interval from low to high, as LaTeX; ( and ) for an open end, [ and ] for a closed one."""

    left: str
    low: str
    high: str
    right: str


def interval(answer: str) -> tuple[str, str] | None:
    r"""The variable of an inequality and its solutions, as an interval or a union.

    For example "x<3", "3>x", "0 \le x < 1", "x<2 or x>3", "x>2 and x<5", "x \ne 2", "\{x : x<3\}".
    None for anything else.
    """
    if match := _BUILDER.fullmatch(answer.strip()):
        answer = match[2]
    for pattern, sign in _SIGNS:
        answer = pattern.sub(sign, answer)
    if not re.search("[<>≤≥≠]", answer):
        return None
    found = [_piece(piece) for piece in _OR.split(answer)]
    pieces = [one for one in found if one]
    if len(pieces) < len(found) or len({variable for variable, _ in pieces}) != 1:
        return None
    joined = [bounds for _, several in pieces for bounds in several]
    return pieces[0][0], r" \cup ".join(f"{b.left}{b.low},{b.high}{b.right}" for b in joined)


def members(answer: str) -> str:
    r"""The set in a statement of membership: "[0,1]" for "x \in [0,1]"; other answers unchanged."""
    match = _MEMBER.fullmatch(answer)
    return match[2].strip() if match else answer


def _piece(text: str) -> tuple[str, list[_Bounds]] | None:
    """The variable and the bounds of inequalities joined by "and"."""
    found = [_inequality(part) for part in _AND.split(text)]
    both = [one for one in found if one]
    if len(both) < len(found):
        return None
    if len(both) == 1:
        return both[0]
    (first, one), (second, other) = both[:2]
    if len(both) > 2 or first != second or len(one) != 1 or len(other) != 1:
        return None
    below, above = sorted((one[0], other[0]), key=lambda bounds: bounds.low == "-\\infty")
    if below.high != "\\infty" or above.low != "-\\infty":
        return None
    return first, [_Bounds(below.left, below.low, above.high, above.right)]


def _inequality(text: str) -> tuple[str, list[_Bounds]] | None:
    sides, signs = re.split("[<>≤≥≠]", text), re.findall("[<>≤≥≠]", text)
    sides = [side.strip(" $") for side in sides]
    if not all(sides):
        return None
    if len(signs) == 2 and "".join(signs) in ("<<", "<≤", "≤<", "≤≤", ">>", ">≥", "≥>", "≥≥"):
        low, middle, high = sides if signs[0] in "<≤" else sides[::-1]
        first, last = signs if signs[0] in "<≤" else signs[::-1]
        if re.fullmatch(_VARIABLE, middle):
            left = "[" if first in "≤≥" else "("
            right = "]" if last in "≤≥" else ")"
            return middle, [_Bounds(left, low, high, right)]
    if len(signs) != 1:
        return None
    (one, other), sign = sides, signs[0]
    if re.fullmatch(_VARIABLE, other) and not re.fullmatch(_VARIABLE, one):
        one, other, sign = other, one, sign.translate(str.maketrans("<>≤≥", "><≥≤"))
    if not re.fullmatch(_VARIABLE, one):
        return None
    below = _Bounds("(", "-\\infty", other, "]" if sign == "≤" else ")")
    above = _Bounds("[" if sign == "≥" else "(", other, "\\infty", ")")
    return one, {"<": [below], "≤": [below], ">": [above], "≥": [above], "≠": [below, above]}[sign]
