r"""What is right in a response to an abacus problem, step by step, at its end or in the middle.

    check_steps("47+85=122\nwait, 47+85=132\n132-1", steps)

Every equation of a response is a written step: a number, a sign, a number, "=", a number, in any
notation. It is held against the step of the chain whose turn it is; behind "wait" or "check" it
restates the step before, unless it is the one whose turn it is. A step is

right      as the chain has it
wrong      something else, and nothing later puts it right
repaired   first wrong, and then restated right
unread     made of digits and signs, but no equation, or one that runs into letters or decimals:
           the verifier abstains from there on
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from decaylab.problems.abacus import Step

Verdict = Literal["right", "wrong", "repaired", "unread"]


@dataclass(frozen=True)
class WrittenStep:
    """One step that a response writes down.

    start, end: its characters, the restatements left out. restated: how often it is restated.
    """

    start: int
    end: int
    verdict: Verdict
    restated: int = 0


@dataclass(frozen=True)
class StepCheck:
    """What the step verifier found in a response or in the beginning of one.

    written: the complete steps in order, and the last one also where it is cut off and can no
    longer become right.
    boxed_wrong: the last complete box holds another number than the answer, or a box that is cut
    off can no longer hold it.
    """

    written: tuple[WrittenStep, ...]
    boxed_wrong: bool

    def count(self, verdict: Verdict) -> int:
        return sum(step.verdict == verdict for step in self.written)

    @property
    def abstains(self) -> bool:
        """Whether there is a step that cannot be read."""
        return self.count("unread") > 0

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
_BOXED = re.compile(r"\\boxed\{ *([0-9]*(?:\.[0-9]+)?)(.?)", re.DOTALL)


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
        expected = [str(steps[i]) if i < len(steps) else "" for i in range(len(written) + 1)]
        verdict = _verdict(text, run, expected[-1])
        restates = verdict == "wrong" and written and _RESTATES.search(text, behind, run.start())
        if restates:
            verdict = _verdict(text, run, expected[-2])
        behind = run.end()
        if verdict is None:
            break
        if restates:
            written[-1] = _restated(written[-1], verdict)
        else:
            written.append(WrittenStep(run.start(), run.end(), verdict))
        if verdict == "unread":
            break
    return StepCheck(tuple(written), _boxed_wrong(response, str(steps[-1].right)))


def _padded(sign: str, found: re.Match[str]) -> str:
    """As long as what it takes the place of, so that characters stay where they are."""
    return sign.rjust(len(found[0]))


def _is_step(text: str, run: re.Match[str]) -> bool:
    """Whether a run of digits and signs is a step: it has a sign, or stands where one stands."""
    return not re.fullmatch(r"[0-9 ]+", run[0]) or bool(_PLACE.search(text[: run.start()]))


def _verdict(text: str, run: re.Match[str], expected: str) -> Verdict | None:
    """The verdict of one equation, by what stands around it; None where the end of the text cuts
    it off and it may still become right."""
    equation, rest = run[0].replace(" ", ""), text[run.end() :]
    cut_off = rest.strip(" ") in ("", "\\")
    readable = _EQUATION.fullmatch(run[0]) or (cut_off and _BEGINNING.fullmatch(run[0]))
    clear = _CLEAR_START.match(text, run.start()) and _CLEAR_END.match(text, run.end())
    if not readable or not clear:
        return "unread"
    if equation == expected:
        return "right"
    if not cut_off or not expected.startswith(equation):
        return "wrong"
    following = expected[len(equation)]
    if "\\" in rest:  # the beginning of a command
        return None if following in "*/" else "wrong"
    return "wrong" if rest and run[0][-1].isdigit() and following.isdigit() else None


def _restated(step: WrittenStep, verdict: Verdict) -> WrittenStep:
    if verdict == "right" and step.verdict != "right":
        verdict = "repaired"
    return replace(step, verdict=verdict, restated=step.restated + 1)


def _boxed_wrong(response: str, answer: str) -> bool:
    """Whether the last box holds another number, or the beginning of one; a box that is cut off
    puts nothing right yet."""
    wrong = False
    for number, behind in _BOXED.findall(response):
        wrong = number != answer if behind else wrong or not answer.startswith(number)
    return wrong


def style(response: str) -> Literal["concise", "verbose"]:
    """The style a response is written in: verbose if it opens with a sentence, before any step."""
    first_line = response.partition("\n")[0]
    return "concise" if re.search(r"=|\\boxed", first_line) else "verbose"
