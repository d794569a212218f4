"""Extracts expressions from a response, and selects those comparable to a gold answer.

expressions("so $x = 3$, or 0.75", "3")    # ["x = 3", "x", "3", "0.75"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from decaylab.problems import forms


def _number_runs() -> str:
    vulgar = "[" + "".join(forms.VULGAR) + "]"
    mixed = rf"(?:\d{{1,3}} )?\d{{1,3}}/\d{{1,3}}(?![\d/])|(?:\d{{1,3}} ?)?{vulgar}"
    number = rf"(?:{mixed}|\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?![\d])|\d+(?:\.\d+)?|\.\d+)"
    # Bounded: unlimited brackets would take quadratic time.
    term = rf"\({{0,9}}-?\$?{number}\){{0,9}}"
    run = rf"{term}(?:[ \t]*(?:[-+*/×÷^]|\\times|\\cdot|\\div)[ \t]*{term})*"
    # Not part of a longer number, word, exponent or LaTeX group; a unit of two or more letters may
    # follow (12cm).
    after = rf"(?!\d|[.,]\d|[\^_{{]| ?{vulgar}|(?:st|nd|rd|th)\b|[A-Za-z](?![A-Za-z]))"
    return rf"(?<![\w\\^_{{])(?<!\d[.,])(?<!\w-)(?P<run>{run}){after}(?P<percent>\s?\\?%)?"


_NUMBER_RUN = re.compile(_number_runs())
_NUMBER_LIST = re.compile(r"(?<![\w.,{-])[\[(]?-?[\d./]+(?:\s*,\s*-?[\d./]+)+[\])]?(?!\w)")
# Dollars as in pandoc: no space just inside, no digit after the closing one. So "$12 and then $15"
# is money.
_MATH = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<![\s\\])\$(?!\d)",
    re.DOTALL,
)
_BARE_LATEX = re.compile(r"(?<!\d)(?:-?\d{1,9})?\\(?:[dt]?frac\{[^{}]*\}\{[^{}]*\}|sqrt\{[^{}]*\})")
_LIST_MARKER = re.compile(
    r"^[ \t]*[*#]*\d+[.)](?=[ \t*]+\S)|\b(?:Step|Problem|Question|Case)\s+#?\d+", re.MULTILINE
)
RELATION = re.compile(
    r"(?<![<>!\\:])=|\\(?:approx|implies|Rightarrow|Leftrightarrow|equiv|in)(?![A-Za-z])|≈|⇒"
)


def expressions(text: str, answer: str) -> list[str]:
    """LaTeX, lists, arithmetic and numbers in a response, outside and inside its boxes."""
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
            for side in RELATION.split(row)
            if side.count("{") == side.count("}")
        ]
    return [found for found in dict.fromkeys(map(str.strip, maths + sides + plain)) if found]


_COMMAND_OR_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+|\\."
)


def comparable(gold: str, found: Iterable[str]) -> Iterator[str]:
    """The expressions that may equal gold; those with other variables are skipped to save time."""
    letters = [_letters(gold), _letters(RELATION.split(gold)[-1])]
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
