r"""Writes responses to abacus problems, in a style set by habits.

There are two styles, concise and verbose, each with variants of notation. A response may contain a
slip and its repair, and may check the result and box it again. The chain 38+55=93, 93*2=186,
concise with a slip, and verbose with a check:

    add 55: 38+55=83                First, Sam has 38 shells.
    wait, 38+55=93                  Then 55 more come in, so we get \(38 + 55 = 93\).
    93*2=186                        Next, the number doubles, so we get 93 x 2 = 186.
    \boxed{186}                     Thus the answer is \boxed{186}. To check: 93 x 2 = 186.
                                    So the answer is \boxed{186}.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add, floordiv, mul, sub

from decaylab.problems.abacus import FACTORS, SHARES, AbacusProblem, Step

OPENINGS = ("", "so ", "name")
"""Openings of a concise step: the equation itself, a word, or the name of the operation."""
LEADS = ("Then", "Next,", "After that,")
"""Openings of a verbose step."""
OPERATIONS = {"+": "add", "-": "take", "*": "times", "/": "share by"}
SLIPS = {"ten": 0.3, "one": 0.15, "operation": 0.3, "copy": 0.25}
"""Kinds of slip with their shares: the result is off by ten or by one, is that of another
operation, or copies the previous number."""
OPERATORS = {"+": add, "-": sub, "*": mul, "/": floordiv}
OTHER_OPERATION = {"+": sub, "-": add, "*": add, "/": sub}


@dataclass(frozen=True)
class Habits:
    """How often a writer uses each style and notation, and makes each kind of slip.

    verbose: share of verbose responses. spaced, latex, cross: share of steps with spaces around the
    signs, inside ``\\(`` and ``\\)``, and with x or ``\\times`` rather than * or ``\\cdot``.
    openings, leads: shares of OPENINGS in concise steps and of LEADS in verbose ones. slips: share
    of steps whose first result is wrong, in concise and in verbose responses. unnoticed: share of
    slips on which the response builds, if it can; the others are repaired at once. checks: share of
    responses that check the last step and box the answer again. constancy: share of steps in the
    response's usual notation; the others draw a new one.
    """

    verbose: float
    spaced: float
    latex: float
    cross: float
    openings: tuple[float, float, float]
    leads: tuple[float, float, float]
    slips: tuple[float, float]
    checks: float
    unnoticed: float = 0.0
    constancy: float = 0.9


def respond(problem: AbacusProblem, habits: Habits, rng: random.Random) -> str:
    """A response drawn from the habits; its answer is correct unless a slip stays unnoticed."""
    writer = _Writer(problem, habits, rng)
    text = writer.opening()
    steps = list(problem.steps)
    for place in range(len(steps)):
        step = steps[place]
        if rng.random() < habits.slips[writer.verbose]:
            wrong = slip(step, rng)
            text += writer.step(wrong)
            rest = going_on(wrong.right, steps[place + 1 :])
            # Draws no random number if unnoticed is 0, to keep seeded responses stable.
            if rest is not None and habits.unnoticed and rng.random() < habits.unnoticed:
                steps[place:] = [wrong, *rest]
            else:
                text += writer.repair(step)
        else:
            text += writer.step(step)
        text += "\n"
    text += writer.ending(steps[-1])
    return text + writer.check(steps[-1]) if rng.random() < habits.checks else text


def broken(problem: AbacusProblem, habits: Habits, rng: random.Random) -> str:
    """The beginning of a response, ending with an unrepaired wrong step, uniformly chosen."""
    writer = _Writer(problem, habits, rng)
    *right, last = problem.steps[: rng.randint(1, len(problem.steps))]
    lines = [writer.step(step) + "\n" for step in right]
    wrong = slip(last, rng)
    while str(last.right).startswith(str(wrong.right)):  # 1 may still become 11
        wrong = slip(last, rng)
    return writer.opening() + "".join(lines) + writer.step(wrong)


def beginning(
    problem: AbacusProblem, steps: Sequence[Step], habits: Habits, rng: random.Random
) -> str:
    """The beginning of a response that writes exactly these steps.

    It ends with the last step, without the end of its line: behind that, a verbose writer repairs
    nothing any more, and a concise one does.
    """
    writer = _Writer(problem, habits, rng)
    return writer.opening() + "\n".join(writer.step(step) for step in steps)


def slip(step: Step, rng: random.Random) -> Step:
    """The step with a wrong result, at least 1."""
    while True:
        kind = rng.choices([*SLIPS], [*SLIPS.values()])[0]
        if kind == "copy":
            wrong = step.left
        elif kind == "operation":
            wrong = OTHER_OPERATION[step.operator](step.left, step.operand)
        else:
            off = 10 if kind == "ten" else 1
            wrong = step.right + rng.choice((-off, off))
        if wrong > 0 and wrong != step.right:
            return replace(step, right=wrong)


def going_on(value: int, steps: Sequence[Step]) -> list[Step] | None:
    """The same operations from another value; None if a result would be below 1 or a fraction."""
    chain = []
    for step in steps:
        if step.operator == "/" and value % step.operand:
            return None
        right = OPERATORS[step.operator](value, step.operand)
        if right < 1:
            return None
        chain.append(replace(step, left=value, right=right))
        value = right
    return chain


class _Writer:
    """Writes the parts of one response."""

    def __init__(self, problem: AbacusProblem, habits: Habits, rng: random.Random) -> None:
        self.problem, self.habits, self.rng = problem, habits, rng
        self.verbose = rng.random() < habits.verbose
        self.usual = self._notation()
        self.now = self.usual

    def opening(self) -> str:
        if not self.verbose:
            return ""
        name, item, start = self.problem.name, self.problem.item, self.problem.steps[0].left
        sentences = (
            f"Let us go step by step. {name} starts with {start} {item}.",
            f"To find the answer, we follow the {item}. We start with {start}.",
            f"First, {name} has {start} {item}.",
        )
        return self.rng.choice(sentences) + "\n"

    def step(self, step: Step) -> str:
        """One step, in the usual notation or in a new one."""
        keeps = self.rng.random() < self.habits.constancy
        self.now = self.usual if keeps else self._notation()
        if self.verbose:
            retold = _retold(step, self.problem.name)
            return f"{self.now.lead} {retold}, so we get {self.now.equation(step)}."
        opening = self.now.opening
        if opening == "name":
            opening = f"{OPERATIONS[step.operator]} {step.operand}: "
        return opening + self.now.equation(step)

    def repair(self, step: Step) -> str:
        """The correction of a slip, in the same notation."""
        equation = self.now.equation(step)
        return f" Wait, {equation}." if self.verbose else f"\nwait, {equation}"

    def ending(self, last: Step) -> str:
        if not self.verbose:
            return self._box(last)
        return f"{self.rng.choice(('Therefore', 'Thus'))} the answer is {self._box(last)}."

    def check(self, last: Step) -> str:
        """The last step again, and its result in a second box."""
        equation = self.now.equation(last)
        if not self.verbose:
            return f"\ncheck: {equation}\n{self._box(last)}"
        return f" To check: {equation}.\nSo the answer is {self._box(last)}."

    def _box(self, last: Step) -> str:
        box = f"\\boxed{{{last.right}}}"
        return f"\\({box}\\)" if self.now.latex else box

    def _notation(self) -> _Notation:
        habits, rng = self.habits, self.rng
        return _Notation(
            spaced=rng.random() < habits.spaced,
            latex=rng.random() < habits.latex,
            cross=rng.random() < habits.cross,
            opening=rng.choices(OPENINGS, habits.openings)[0],
            lead=rng.choices(LEADS, habits.leads)[0],
        )


@dataclass(frozen=True)
class _Notation:
    spaced: bool
    latex: bool
    cross: bool
    opening: str
    lead: str

    def equation(self, step: Step) -> str:
        sign: str = step.operator
        if sign == "*":
            plain, command = ("x", "\\times") if self.cross else ("*", "\\cdot")
            sign = command if self.latex else plain
        elif sign == "/" and self.latex:
            sign = "\\div"
        space = " " if self.spaced else ""
        text = space.join([str(step.left), sign, str(step.operand), "=", str(step.right)])
        return f"\\({text}\\)" if self.latex else text


def _retold(step: Step, name: str) -> str:
    if step.operator == "+":
        return f"{step.operand} more come in"
    if step.operator == "-":
        return f"{step.operand} are gone"
    if step.operator == "*":
        return f"the number {FACTORS[step.operand]}"
    return f"{name} keeps one of {SHARES[step.operand]} parts"
