r"""Checks the steps of a response to an abacus problem; the response may be incomplete.

    check_steps("47+85=122\nwait, 47+85=132\n132-1", steps)

Every equation of a response is a written step: number, sign, number, "=", number, in any notation.
It is compared with the next step of the chain. After "wait" or "check" it restates the previous
step, unless it matches the next one. The verdict on a step is one of:

right      matches the chain; the two numbers of a sum or a product may stand in either order
wrong      does not match and is not corrected before the next step; this includes correct
           arithmetic on a number that was already wrong
repaired   wrong at first, then restated correctly before the next step
unread     digits and signs that are not an equation, or an equation that runs into letters or
           decimals: the verifier abstains from there on

The last box is compared as a number. A box with anything else in it is unread too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from decaylab.problems.abacus import Step
from decaylab.problems.boxes import boxes
from decaylab.problems.plain_numbers import exact, tidy

Verdict = Literal["right", "wrong", "repaired", "unread"]


@dataclass(frozen=True)
class WrittenStep:
    """One written step of a response: characters ``start`` to ``end``, without restatements."""

    start: int
    end: int
    verdict: Verdict


@dataclass(frozen=True)
class StepCheck:
    """The step verifier's result for a response or its beginning.

    written: the complete steps in order; also an incomplete last one that can no longer become
    correct. boxed_wrong: the last complete box has a number other than the answer, or an incomplete
    box can no longer become correct; None if the last box has no number in it.
    """

    written: tuple[WrittenStep, ...]
    boxed_wrong: bool | None

    def count(self, verdict: Verdict) -> int:
        return sum(step.verdict == verdict for step in self.written)

    @property
    def abstains(self) -> bool:
        """Whether there is a step or a last box that cannot be read."""
        return self.count("unread") > 0 or self.boxed_wrong is None

    @property
    def correct_so_far(self) -> bool | None:
        """Whether it contains no unrepaired error; None if the verifier abstains."""
        if self.abstains:
            return None
        return not self.count("wrong") and not self.boxed_wrong


_SIGNS = (
    (re.compile(r"\\times|\\cdot|\\t(?:im?e?)?$|\\c(?:do?)?$|(?<![A-Za-z])x(?![A-Za-z])"), "*"),
    (re.compile(r"\\div|\\di?$"), "/"),
)
"""Each notation of a sign, including LaTeX commands cut off by the end of the text."""
_RUN = re.compile(r"[0-9+*/=-](?:[0-9+*/= -]*[0-9+*/=-])?")
_EQUATION = re.compile(r"\d+ *[+*/-] *\d+ *= *\d+")
_BEGINNING = re.compile(r"\d+ *(?:[+*/-] *(?:\d+ *(?:= *\d*)?)?)?")
_CLEAR_START, _CLEAR_END = re.compile(r"(?<![\w.])(?<!\d,)"), re.compile(r"(?!\w|[.,]\d)")
"""Boundaries of an equation: not inside a word or a decimal number."""
_PLACE = re.compile(r"(?:^|\n|\\\(|:|\b(?:so|get|wait,) ) *$", re.IGNORECASE)
"""Text before an equation: a lone number after it is the beginning of one."""
_RESTATES = re.compile(r"\b(?:wait|check)\b", re.IGNORECASE)
_CUT_OFF_BOX = re.compile(r"\\boxed\{ *([0-9]*)$")


def check_steps(response: str, steps: Sequence[Step]) -> StepCheck:
    """Checks a response, or its beginning, against the problem's chain.

    The last equation may be cut off anywhere. It counts as wrong once no ending can make it
    correct. A wrong step counts as repaired once its restatement is complete.
    """
    text = with_plain_signs(response)
    written: list[WrittenStep] = []
    behind = 0
    for run in _RUN.finditer(text):
        if not _is_step(text, run):
            continue
        turn = len(written)
        verdict = _verdict(text, run, steps[turn : turn + 1])
        restates = verdict == "wrong" and written and _RESTATES.search(text, behind, run.start())
        if restates:
            verdict = _verdict(text, run, steps[turn - 1 : turn])
        behind = run.end()
        if verdict is None:
            break
        if restates:
            put_right = verdict == "right" and written[-1].verdict != "right"
            written[-1] = replace(written[-1], verdict="repaired" if put_right else verdict)
        else:
            written.append(WrittenStep(run.start(), run.end(), verdict))
        if verdict == "unread":
            break
    return StepCheck(tuple(written), _boxed_wrong(response, steps[-1].right))


def with_plain_signs(text: str) -> str:
    """The text with every notation of a sign as one of + - * /; no character moves."""
    for notation, sign in _SIGNS:
        text = notation.sub(partial(_padded, sign), text)
    return text


def _padded(sign: str, found: re.Match[str]) -> str:
    """The sign padded to the length of its notation, so that positions in the text do not move."""
    return sign.rjust(len(found[0]))


def _is_step(text: str, run: re.Match[str]) -> bool:
    """Whether a run of digits and signs is a step: it has a sign, or is where a step begins."""
    return not re.fullmatch(r"[0-9 ]+", run[0]) or bool(_PLACE.search(text[: run.start()]))


def _verdict(text: str, run: re.Match[str], steps: Sequence[Step]) -> Verdict | None:
    """The verdict on one equation; None if it is incomplete and may still become correct.

    steps: the step to compare it with; empty after the last one.
    """
    cut_off = text[run.end() :].strip(" ") in ("", "\\")
    readable = _EQUATION.fullmatch(run[0]) or (cut_off and _BEGINNING.fullmatch(run[0]))
    clear = _CLEAR_START.match(text, run.start()) and _CLEAR_END.match(text, run.end())
    if not readable or not clear:
        return "unread"
    equations = [equation for step in steps for equation in _equations(step)]
    if run[0].replace(" ", "") in equations:
        return "right"
    begun = cut_off and any(_begins(run[0], text[run.end() :], each) for each in equations)
    return None if begun else "wrong"


def _equations(step: Step) -> set[str]:
    equations = {str(step)}
    if step.operator in "+*":
        equations.add(f"{step.operand}{step.operator}{step.left}={step.right}")
    return equations


def _begins(written: str, rest: str, expected: str) -> bool:
    """Whether the text's last characters may still become this equation.

    rest: the spaces or the backslash at the end of the text.
    """
    equation = written.replace(" ", "")
    if not expected.startswith(equation):
        return False
    following = expected[len(equation)]
    if "\\" in rest:  # the beginning of a command
        return following in "*/"
    return not (rest and written[-1].isdigit() and following.isdigit())


def _boxed_wrong(response: str, answer: int) -> bool | None:
    """Whether the last box has another number, or the beginning of one; None if it has no number.

    An incomplete box does not correct an earlier one.
    """
    wrong: bool | None = False
    for content in boxes(response):
        if content is None:
            continue
        value = exact(tidy(content))
        wrong = None if value is None and content.strip() else value != answer
    cut_off = _CUT_OFF_BOX.search(response)
    return True if cut_off and not str(answer).startswith(cut_off[1]) else wrong


def style(response: str) -> Literal["concise", "verbose"]:
    """The style of a response: verbose if its first line is a sentence rather than a step."""
    first_line = response.partition("\n")[0]
    return "concise" if re.search(r"=|\\boxed", first_line) else "verbose"
