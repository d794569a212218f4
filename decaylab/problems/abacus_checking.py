r"""What is right in a response to an abacus problem, step by step, at its end or in the middle.

    check_steps("47+85=122\nwait, 47+85=132\n132-1", steps)

Every equation of a response is a written step: a number, a sign, a number, "=", a number, in any
notation. It is held against the step of the chain whose turn it is; behind "wait" or "check" it
restates the step before, unless it is the one whose turn it is. A step is

right      as the chain has it, the two numbers of a sum or a product in either order
wrong      something else, and not restated right; also where it is sound arithmetic on a number
           that was wrong before
repaired   first wrong, and then restated right, before the next step
unread     made of digits and signs, but no equation, or one that runs into letters or decimals:
           the verifier abstains from there on

The last box is compared as a number. A box that holds anything else cannot be read either.
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
    """One step that a response writes down, from character ``start`` to ``end``, without its
    restatements."""

    start: int
    end: int
    verdict: Verdict


@dataclass(frozen=True)
class StepCheck:
    """What the step verifier found in a response or in the beginning of one.

    written: the complete steps in order, and the last one also where it is cut off and can no
    longer become right.
    boxed_wrong: whether the last complete box holds another number than the answer, or a box that
    is cut off can no longer hold it; None where the last box holds no number.
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
        """Whether nothing wrong stands in it unrepaired; None where the verifier abstains."""
        if self.abstains:
            return None
        return not self.count("wrong") and not self.boxed_wrong


_SIGNS = (
    (re.compile(r"\\times|\\cdot|\\t(?:im?e?)?$|\\c(?:do?)?$|(?<![A-Za-z])x(?![A-Za-z])"), "*"),
    (re.compile(r"\\div|\\di?$"), "/"),
)
"""Each notation of a sign, also where the end of the text cuts its command off."""
_RUN = re.compile(r"[0-9+*/=-](?:[0-9+*/= -]*[0-9+*/=-])?")
_EQUATION = re.compile(r"\d+ *[+*/-] *\d+ *= *\d+")
_BEGINNING = re.compile(r"\d+ *(?:[+*/-] *(?:\d+ *(?:= *\d*)?)?)?")
_CLEAR_START, _CLEAR_END = re.compile(r"(?<![\w.])(?<!\d,)"), re.compile(r"(?!\w|[.,]\d)")
"""Between what an equation may stand: not among letters, and not as a part of a decimal."""
_PLACE = re.compile(r"(?:^|\n|\\\(|:|\b(?:so|get|wait,) ) *$", re.IGNORECASE)
"""What stands before an equation, so that a number behind it is the beginning of one."""
_RESTATES = re.compile(r"\b(?:wait|check)\b", re.IGNORECASE)
_CUT_OFF_BOX = re.compile(r"\\boxed\{ *([0-9]*)$")


def check_steps(response: str, steps: Sequence[Step]) -> StepCheck:
    """Checks a response, or the first part of one, against the problem's chain.

    The last equation may be cut off anywhere. It counts as wrong as soon as no ending can make it
    right, and a wrong step as repaired as soon as its restatement is complete.
    """
    text = response
    for notation, sign in _SIGNS:
        text = notation.sub(partial(_padded, sign), text)
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


def _padded(sign: str, found: re.Match[str]) -> str:
    """As long as what it takes the place of, so that characters stay where they are."""
    return sign.rjust(len(found[0]))


def _is_step(text: str, run: re.Match[str]) -> bool:
    """Whether a run of digits and signs is a step: it has a sign, or stands where one stands."""
    return not re.fullmatch(r"[0-9 ]+", run[0]) or bool(_PLACE.search(text[: run.start()]))


def _verdict(text: str, run: re.Match[str], steps: Sequence[Step]) -> Verdict | None:
    """The verdict of one equation, by what stands around it, against the step whose turn it is (no
    step: behind the last one); None where the end of the text cuts it off and it may still become
    right."""
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
    """Whether what is written, and the blanks or the backslash that end the text, may become an
    equation."""
    equation = written.replace(" ", "")
    if not expected.startswith(equation):
        return False
    following = expected[len(equation)]
    if "\\" in rest:  # the beginning of a command
        return following in "*/"
    return not (rest and written[-1].isdigit() and following.isdigit())


def _boxed_wrong(response: str, answer: int) -> bool | None:
    """Whether the last box holds another number, or the beginning of one; a box that is cut off
    puts nothing right yet. None where it holds something that is no number."""
    wrong: bool | None = False
    for content in boxes(response):
        if content is None:
            continue
        value = exact(tidy(content))
        wrong = None if value is None and content.strip() else value != answer
    cut_off = _CUT_OFF_BOX.search(response)
    return True if cut_off and not str(answer).startswith(cut_off[1]) else wrong


def style(response: str) -> Literal["concise", "verbose"]:
    """The style a response is written in: verbose if it opens with a sentence, before any step."""
    first_line = response.partition("\n")[0]
    return "concise" if re.search(r"=|\\boxed", first_line) else "verbose"
