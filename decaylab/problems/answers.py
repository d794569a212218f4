r"""Decides whether two answers are equal, and names the answer rules.

    equal(tidy(r"\frac{3}{4}"), tidy("0.75"))  # True

    @dl.answer_rule("same_text")                # a rule of the user's own
    def same_text(response: str, gold: str) -> bool:
        return response.strip() == gold

Plain numbers, words and choices are compared here, everything else by math-verify
(`decaylab.problems.symbolic`), after conversion to forms that it reads (`decaylab.problems.forms`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from decaylab.calls.judging import RULES as CALL_RULES
from decaylab.code.blocks import RULES as CODE_RULES
from decaylab.plugins import origins
from decaylab.problems import forms
from decaylab.problems.expressions import RELATION
from decaylab.problems.plain_numbers import (
    THOUSANDS,
    decimals,
    exact,
    gold_number,
    same_number,
    tidy,
)
from decaylab.problems.symbolic import math_equal, parsed

ANSWER_RULES = ("last_boxed", "first_boxed", "anywhere", "gsm8k")
"""The rules of mathematics, by which all its responses are graded; all verdicts are stored."""
Rule = Callable[[str, str], Any]
"""A rule of the user's own: response (after its thoughts) and gold answer in, a verdict out."""
Function = TypeVar("Function", bound=Callable[..., Any])
RULES: dict[str, Rule | None] = dict.fromkeys((*ANSWER_RULES, *CODE_RULES, *CALL_RULES))
"""Every rule by name; decaylab's own are judged in `decaylab.problems.grading`."""


def answer_rule(name: str) -> Callable[[Function], Function]:
    """Registers a function as an answer rule: ``@dl.answer_rule("my_rule")``.

    The function takes a response (the text after the last thought) and the gold answer, both as
    text, and returns True (correct), False (wrong), None (no answer), or the verdict as text:
    ``correct``, ``wrong`` or ``no_answer``. It runs in other processes with a time limit, so it
    must depend on nothing but its arguments. A response without text, or with an open thought, has
    no answer; the function is not called.

    Args:
        name: lower-case letters, digits and underscores.

    Raises:
        UserError: an invalid name, one that exists, or a function with other arguments.
    """

    def registered(function: Function) -> Function:
        origins.register(origins.ANSWER_RULE, name, function, ("response", "gold"), RULES)
        RULES[name] = function
        return function

    return registered


def applies(rule: str, answer: str) -> bool:
    """Whether an answer rule can grade against this gold answer: gsm8k requires a number.

    A rule of the user's own applies to every gold answer.
    """
    return rule != "gsm8k" or gold_number(answer) is not None


_HALF_OF_THE_DAY = re.compile(r"\b([ap])\.?\s*m\b", re.IGNORECASE)
_SEVERAL = re.compile(
    r"[,;]|\b(?:or|and)\b|\\(?:lor|vee|land|wedge|quad|qquad)(?![A-Za-z])"
)  # several statements rather than a chain of equations
_BASE = re.compile(r"(\w+)_\{?(\d+)\}?")
_MEANINGFUL_BLANK = re.compile(r"(?<=\d)\s+(?=\d)|(?<=\d),\s+(?=\d{3}(?!\d))")


def _same_text(gold: str, answer: str) -> bool:
    """Whether two answers are equal up to blanks; a blank between digits counts ("3 1/2")."""
    one, other = (
        "".join(_MEANINGFUL_BLANK.sub("|", text.strip()).split()) for text in (gold, answer)
    )
    return one == other


@lru_cache(maxsize=65536)
def equal(gold: str, answer: str) -> bool:
    """Whether a tidy answer equals a tidy gold answer. May hang in math-verify."""
    if _same_text(gold, answer):
        return True
    gold_value, value = exact(gold), exact(answer)
    if gold_value is not None and value is not None:
        return same_number(gold, gold_value, answer, value)
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
        return False  # a set is unordered, a point or an interval is ordered
    return math_equal(gold, answer, 6 if gold_value is None else decimals(gold_value))


def _bracket(answer: str) -> str:
    return answer.replace(r"\left", "").strip().removeprefix("\\")[:1]


def _same_percent(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal, at least one of them a percentage; None for anything else.

    The gold answer decides. A percentage (50 %) equals the same number with or without the sign,
    and the fraction 0.5. A fraction below 1 (0.5) equals the percentage 50 %. For a number from 1
    on, the sign in the answer is ignored as a unit.
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
        return same_number(first, gold_value, second, value)
    fraction = answer_percent is None and same_number(first, gold_value / 100, second, value)
    return fraction or same_number(first, gold_value, second, value)


def _same_choice(gold: str, answer: str) -> bool | None:
    """Whether two answers name the same option of a multiple choice; None if undecided.

    The letter or the content alone is enough. If both answers have both, both must agree.
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
    """Whether two inequalities, or one and a set, have the same solutions.

    None if neither is a readable inequality.
    """
    first, second = forms.interval(gold), forms.interval(answer)
    if first and second:
        return first[0].lower() == second[0].lower() and equal(first[1], second[1])
    other = answer if first else gold
    if (first or second) and "," in other and not re.search(r"[(\[{]", other):
        return False  # a list of numbers is not an interval
    if first:
        return equal(first[1], forms.members(answer))
    if second:
        return equal(forms.members(gold), second[1])
    return None


def box_equals(gold: str, content: str) -> bool:
    """Whether the content of a box, or the end of its chain of equations, equals the gold answer.

    gold: tidy.
    """
    answer = tidy(content)
    if equal(gold, answer):
        return True
    # "3 \times 4 = 12" has the answer 12, but "x = 3, y = 4" and "x = 3 or x = 4" do not have 4.
    chain = RELATION.split(re.sub(THOUSANDS, "", answer))
    if len(chain) < 2 or _SEVERAL.search("".join(chain)) or RELATION.search(gold):
        return False
    return equal(gold, tidy(chain[-1]))


def is_readable(gold: str) -> bool:
    """Whether a tidy gold answer is a number, a text, or readable by math-verify; may hang."""
    return (
        exact(gold) is not None
        or forms.is_text(gold)
        or any(not isinstance(one, str) for one in parsed(gold))
    )
