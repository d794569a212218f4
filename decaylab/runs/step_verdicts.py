"""Which steps of a response are right, where the problem's chain of steps is known.

    step_verdicts(text, problem.steps)            characters of each step, and its verdict
    in_tokens(pieces, problem.steps)              the same in tokens, and where it first went wrong

`step_verdicts` is the one place of the view that calls the step verifier
(decaylab.problems.abacus_checking).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from decaylab.problems import abacus
from decaylab.problems.abacus_checking import check_steps

WRONG = "wrong"


class StepVerdict(NamedTuple):
    """A step of a response: from `start` up to but without `end`, in characters or in tokens."""

    start: int
    end: int
    verdict: str


class StepsInTokens(NamedTuple):
    """steps: in the order of the text. first_wrong: position of the token with which the first step
    that stays wrong went wrong; None where there is no such step."""

    steps: list[StepVerdict]
    first_wrong: int | None


def step_verdicts(text: str, steps: Sequence[abacus.Step]) -> list[StepVerdict]:
    """The steps of a response, or of the first part of one, that the verifier has a verdict on.

    Characters are those of ``text``. Nothing is said of what stands behind an unread step.
    """
    written = check_steps(text, steps).written
    return [StepVerdict(step.start, step.end, step.verdict) for step in written]


def in_tokens(pieces: Sequence[str], steps: Sequence[abacus.Step]) -> StepsInTokens:
    """The steps of a response in tokens, with the token at which it first went wrong.

    That token is the first after which no ending could make the step right: in ``47+85=142`` after
    ``47+85=1`` has been written it is the ``4``.

    Args:
        pieces: the texts of the response's tokens; "" where a token is the first part of a
            character.
    """
    text, ends = "".join(pieces), list(accumulate(map(len, pieces)))
    found = [step for step in step_verdicts(text, steps) if step.start < step.end]
    of_tokens = [
        StepVerdict(bisect_right(ends, start), bisect_left(ends, end) + 1, verdict)
        for start, end, verdict in found
    ]
    wrong = [step for step in found if step.verdict == WRONG]
    if not wrong:
        return StepsInTokens(of_tokens, None)
    return StepsInTokens(of_tokens, bisect_right(ends, _went_wrong(text, wrong[0], steps)))


def _went_wrong(text: str, step: StepVerdict, steps: Sequence[abacus.Step]) -> int:
    """Place of the character with which a wrong step went wrong: the first to be called so when the
    text is cut behind it."""
    for end in range(step.start + 1, len(text)):
        cut = step_verdicts(text[:end], steps)
        if any(other.start == step.start and other.verdict == WRONG for other in cut):
            return end - 1
    return len(text) - 1
