r"""Places of a response to an abacus problem at which one token decides, and which tokens are
correct there.

    38+55=83⏎wait, 38+55=93⏎93*2=186          a result begins behind every "="
         ^  ^                                  and behind a step, a repair can open

Two senses of "correct" at a result:

true to the problem            the text with the token can still become a step of the chain
consistent with the equation   it can still become the result of the equation as it is written,
                               on whatever numbers

Both are sets of tokens, since notation is free: a space ahead of the digits is in them. Whether a
text can still become correct is the step verifier's word (`abacus_checking`) and nobody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from decaylab.problems.abacus import Step
from decaylab.problems.abacus_checking import check_steps, with_plain_signs
from decaylab.problems.abacus_writing import OPERATORS

State = Literal["correct-so-far", "repaired", "already-wrong"]

_EQUATION = re.compile(r"(\d+) *([+*/-]) *(\d+) *= *")
_RESTATES = re.compile(r"\b(?:wait|check)\b", re.IGNORECASE)
_BEGINS_A_RESULT = re.compile(r"[ =]*(?:\d.*)?", re.DOTALL)
_BEHIND_A_STEP = re.compile(r"[\s.\\)]*")
REPAIRS = ("wait", "check")
"""Words behind which the verifier reads an equation as a step that is written again."""


@dataclass(frozen=True)
class Equation:
    """An equation of a response that is a step of its own, not one that restates a step.

    number: from 1, in the order of the text. start, result, end: characters of its first number, of
    the place where its result begins, and behind the last digit of the result. before: state of the
    text ahead of it. state: of the text up to its result, which is wrong if its numbers are.
    """

    number: int
    start: int
    result: int
    end: int
    before: State
    state: State


def equations(text: str, steps: Sequence[Step]) -> Iterator[Equation]:
    """The equations of a response, up to where the verifier abstains.

    Which equations there are does not depend on the results that were written, so nothing is
    selected by them. Equations behind "wait" or "check" are left out.
    """
    plain, behind, number = with_plain_signs(text), 0, 0
    for found in _EQUATION.finditer(plain):
        restates = _RESTATES.search(plain, behind, found.start())
        digits = re.compile(r"\d*").match(plain, found.end())
        assert digits, "an empty match is one"
        behind = digits.end()
        if restates:
            continue
        before = state_of(text[: found.start()], steps)
        state = state_of(text[: found.end()], steps)
        if before is None or state is None:
            return
        number += 1
        yield Equation(number, found.start(), found.end(), behind, before, state)


def ends_wrong(text: str, equation: Equation, steps: Sequence[Step]) -> bool | None:
    """Whether an equation behind a correct beginning is wrong; None if it has no end in the text,
    or if the verifier abstains or called the text wrong before it."""
    if equation.before == "already-wrong" or equation.end in (equation.result, len(text)):
        return None
    closed = state_of(text[: equation.end] + "\n", steps)
    return None if closed is None else closed == "already-wrong"


def state_of(text: str, steps: Sequence[Step]) -> State | None:
    """What the verifier says of a beginning; None where it abstains."""
    check = check_steps(text, steps)
    if check.abstains:
        return None
    if not check.correct_so_far:
        return "already-wrong"
    return "repaired" if check.count("repaired") else "correct-so-far"


def may_begin_a_result(token: str) -> bool:
    """Whether a token's text can stand where a result begins: spaces, "=" and digits come first."""
    return bool(token) and bool(_BEGINS_A_RESULT.fullmatch(token))


def is_true(before: str, token: str, steps: Sequence[Step]) -> bool:
    """Whether the text with this token can still become a response without an unrepaired error."""
    return check_steps(before + token, steps).correct_so_far is True


def as_written(equation: str) -> Step | None:
    """The step that an equation would be with the result of its own arithmetic.

    equation: its text up to the result. None where the result is no whole number from 0 up, which
    no notation of the world can write.
    """
    found = _EQUATION.match(with_plain_signs(equation))
    if found is None:
        return None
    left, operator, operand = int(found[1]), found[2], int(found[3])
    if operator == "/" and (operand == 0 or left % operand):
        return None
    right = OPERATORS[operator](left, operand)
    return Step(left, operator, operand, right) if right >= 0 else None  # type: ignore[arg-type]


def is_consistent(equation: str, token: str, step: Step) -> bool:
    """Whether an equation with this token can still become its own step.

    equation: its text up to the token. step: what `as_written` gives.
    """
    check = check_steps(equation + token, [step])
    return not (check.count("wrong") or check.count("unread"))


def opens_a_repair(behind: str, token: str) -> bool:
    """Whether a token can begin one of `REPAIRS` behind a step.

    behind: the text between the step and the token, in which nothing but punctuation and white
    space may stand.
    """
    if not _BEHIND_A_STEP.fullmatch(behind):
        return False
    word = (behind + token)[_end_of_punctuation(behind + token) :].lower()
    return bool(word) and any(_begins(word, repair) for repair in REPAIRS)


def may_still_open(behind: str) -> bool:
    """Whether a repair can still open behind this text, which follows a step."""
    return bool(_BEHIND_A_STEP.fullmatch(behind))


def _end_of_punctuation(text: str) -> int:
    found = _BEHIND_A_STEP.match(text)
    assert found, "an empty match is one"
    return found.end()


def _begins(word: str, repair: str) -> bool:
    """Whether a word is the repair's word, its beginning, or the word and something behind it."""
    return repair.startswith(word) or bool(re.match(rf"{repair}\b", word))
