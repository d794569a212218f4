"""Which steps of a response are correct, for problems with known steps.

    step_verdicts(text, problem.steps)    characters of each step, and its verdict
    in_tokens(pieces, problem.steps)      the same in tokens, and the first error

Only `step_verdicts` calls the step verifier (decaylab.problems.abacus_checking) for the view.
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
    """A step of a response from `start` up to, but excluding, `end`, in characters or tokens."""

    start: int
    end: int
    verdict: str


class StepsInTokens(NamedTuple):
    """steps: in the order of the text. first_wrong: position of the token at which the first step
    that stays wrong became wrong; None if there is none."""

    steps: list[StepVerdict]
    first_wrong: int | None


def step_verdicts(text: str, steps: Sequence[abacus.Step]) -> list[StepVerdict]:
    """The steps of a response, or of its beginning, that the verifier can judge.

    Positions are characters of ``text``. Steps after an unreadable one have no verdict.
    """
    written = check_steps(text, steps).written
    return [StepVerdict(step.start, step.end, step.verdict) for step in written]


def in_tokens(pieces: Sequence[str], steps: Sequence[abacus.Step]) -> StepsInTokens:
    """The steps of a response in tokens, with the token of the first error.

    That is the first token after which no continuation makes the step correct: in ``47+85=142`` it
    is the ``4``.

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
    """Place of the character at which a wrong step became wrong: the shortest beginning of the text
    that the verifier calls wrong ends there."""
    for end in range(step.start + 1, len(text)):
        cut = step_verdicts(text[:end], steps)
        if any(other.start == step.start and other.verdict == WRONG for other in cut):
            return end - 1
    return len(text) - 1
