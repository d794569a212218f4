r"""Prefixes that are made, or edited, to isolate one cause: content or style.

    made(problem, 2, rng)        the first two steps, correct and wrong, in both styles
    edited(text, steps, rng)     a response up to its first wrong step, and the same with the step
                                 repaired; and up to a correct step, and the same with it broken

Every text is read by the step verifier before anybody gets it (`verified`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from decaylab.problems.abacus import AbacusProblem, Step
from decaylab.problems.abacus_checking import check_steps, with_plain_signs
from decaylab.problems.abacus_places import Equation, ends_wrong, equations
from decaylab.problems.abacus_writing import Habits, beginning, going_on, slip

CORRECT, WRONG = "correct", "wrong"
STUDENT_STYLE, TEACHER_STYLE = "student-style", "teacher-style"
NEVER = (0.0, 0.0)
STYLES = {
    STUDENT_STYLE: Habits(0.0, 0.0, 0.0, 0.0, (0, 0, 1), (0, 0, 1), NEVER, checks=0, constancy=1),
    TEACHER_STYLE: Habits(1.0, 1.0, 1.0, 1.0, (0, 0, 1), (1, 0, 0), NEVER, checks=0, constancy=1),
}
"""The usual choice of each writer that the embedded pair learnt from (data/abacus/recipe.py): the
student's is concise, plain and tight, the teacher's verbose, in LaTeX and spaced."""
ATTEMPTS = 50
_SUBJECT = re.compile(r"(\w+) has \d+ (\w+)\.")
_PARTS = re.compile(r"(\d+)( *)([+*/-])( *)(\d+)( *= *)(\d+)")


def verified(text: str, steps: Sequence[Step], *, correct: bool) -> str:
    """The text, which the step verifier must call correct so far, or wrong."""
    found = check_steps(text, steps).correct_so_far
    assert found is correct, f"the verifier says {found} of an intervention: {text!r}"
    return text


def world_problem(question: str, steps: Sequence[Step]) -> AbacusProblem:
    """The problem of a question, for writers, who name its person and its things."""
    found = _SUBJECT.match(question)
    assert found, f"{question!r} is a question of the world"
    return AbacusProblem(found[1], found[2], tuple(steps), question)


def made(problem: AbacusProblem, count: int, rng: random.Random) -> dict[tuple[str, str], str]:
    """The first ``count`` steps of a problem in every content and style.

    Wrong chains hold one slip, at a step that is drawn, and are consistent from there on; both
    styles write the same chain. Empty if the problem has no step left behind them, or if no slip
    leaves whole numbers.
    """
    steps = problem.steps
    wrong = _wrong_chain(steps[:count], rng) if count < len(steps) else None
    if wrong is None:
        return {}
    seed, texts = rng.random(), {}
    for style, habits in STYLES.items():
        for content, chain in ((CORRECT, steps[:count]), (WRONG, wrong)):
            # the same opening for both contents
            text = beginning(problem, chain, habits, random.Random(f"{seed} {style}"))
            texts[content, style] = verified(text, steps, correct=content == CORRECT)
    return texts


def _wrong_chain(steps: Sequence[Step], rng: random.Random) -> tuple[Step, ...] | None:
    """The steps with one slip, from which the others follow."""
    for _ in range(ATTEMPTS):
        place = rng.randrange(len(steps))
        first = slip(steps[place], rng)
        rest = going_on(first.right, steps[place + 1 :])
        open_end = not rest and str(steps[place].right).startswith(str(first.right))
        if rest is not None and not open_end:  # at the end, 1 may still become 11
            return (*steps[:place], first, *rest)
    return None


# Edits of a response


@dataclass(frozen=True)
class Edit:
    """A response cut right behind a step, as it was written and with that step changed.

    kind: repaired or broken. number: of the step, from 1.
    """

    kind: Literal["repaired", "broken"]
    number: int
    as_written: str
    changed: str


def edited(text: str, steps: Sequence[Step], rng: random.Random) -> Iterator[Edit]:
    """The first wrong step of a response repaired, and one of the correct steps before it broken.

    Whether a later part of the response repairs the step makes no difference. A result that is the
    beginning of the correct one is passed over, since more digits could follow; so is a wrong step
    of another operation or number than the problem's, whose words would still tell the wrong one.
    """
    correct: list[Equation] = []
    for equation in equations(text, steps):
        wrong = ends_wrong(text, equation, steps)
        if wrong is None:
            break
        if wrong:
            yield from _repaired(text, equation, steps)
            break
        correct.append(equation)
    if correct:
        yield from _broken(text, rng.choice(correct), steps, rng)


def _repaired(text: str, equation: Equation, steps: Sequence[Step]) -> Iterator[Edit]:
    step, cut = _expected(text, equation, steps), text[: equation.end]
    if step is None or check_steps(cut, steps).correct_so_far is not False:
        return
    if not _same_operation(text[equation.start : equation.end], step):
        return
    changed = text[: equation.start] + rewritten(text[equation.start : equation.end], step)
    yield Edit(
        "repaired",
        equation.number,
        verified(cut, steps, correct=False),
        verified(changed, steps, correct=True),
    )


def _same_operation(equation: str, step: Step) -> bool:
    """Whether an equation has the sign and the second number of a step."""
    found = _PARTS.fullmatch(with_plain_signs(equation))
    assert found, f"{equation!r} is an equation"
    return (found[3], int(found[5])) == (step.operator, step.operand)


def _broken(
    text: str, equation: Equation, steps: Sequence[Step], rng: random.Random
) -> Iterator[Edit]:
    step, cut = _expected(text, equation, steps), text[: equation.end]
    if step is None:
        return
    wrong = slip(step, rng)
    while str(step.right).startswith(str(wrong.right)):  # 1 may still become 11
        wrong = slip(step, rng)
    changed = f"{text[: equation.result]}{wrong.right}"
    yield Edit(
        "broken",
        equation.number,
        verified(cut, steps, correct=True),
        verified(changed, steps, correct=False),
    )


def _expected(text: str, equation: Equation, steps: Sequence[Step]) -> Step | None:
    """The step of the chain that an equation stands for; None behind the last one."""
    turn = len(check_steps(text[: equation.start], steps).written)
    return steps[turn] if turn < len(steps) else None


def rewritten(equation: str, step: Step) -> str:
    """An equation with the first number and the result of a step, in its own notation."""
    found = _PARTS.fullmatch(with_plain_signs(equation))
    assert found, f"{equation!r} is an equation"
    # no character moves, so the notation of the sign stands between the two numbers
    return f"{step.left}{equation[found.end(1) : found.start(7)]}{step.right}"
