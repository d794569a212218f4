"""The abacus world: multi-step arithmetic word problems in which every written step can be checked.

A problem is a chain of operations on one running quantity. Because the chain is known, a response
can be graded at its answer, at each of its equations, and even in the middle of one: that is what
tells a prefix that is correct so far from one that has already gone wrong.

    problems = generate(100, seed=0)            # the same 100 problems on every machine
    wordy(problems[0], rng), terse(problems[0], rng)
    check_steps("47+85=132\\n132-1", problems[0].steps)
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

VERSION = "abacus-1"

NAMES = ("Mia", "Tom", "Ana", "Leo", "Eva", "Sam", "Ida", "Max", "Zoe", "Ben")
ITEMS = ("coins", "shells", "stamps", "marbles", "cards", "beads", "apples", "stones")
FACTORS = {2: "doubles", 3: "triples", 4: "quadruples"}
SHARES = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Difficulty:
    """How hard a problem is: number of steps, size of the quantity, size of what is added or taken
    away."""

    min_steps: int = 5
    max_steps: int = 8
    max_value: int = 999
    max_operand: int = 99

    def __post_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps:
            raise ValueError(
                f"steps must satisfy 1 <= min_steps <= max_steps, got {self.min_steps} and "
                f"{self.max_steps}"
            )
        if not 10 <= self.max_operand <= self.max_value // 2:
            raise ValueError(
                f"max_operand must lie between 10 and max_value / 2, got {self.max_operand} with "
                f"{self.max_value}"
            )


@dataclass(frozen=True)
class Step:
    """One operation on the running quantity: ``left operator operand = right``."""

    left: int
    operator: Literal["+", "-", "*", "/"]
    operand: int
    right: int

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.operand}={self.right}"


@dataclass(frozen=True)
class AbacusProblem:
    """A word problem with its chain of steps; the last step's right side is the answer."""

    name: str
    item: str
    steps: tuple[Step, ...]
    question: str

    @property
    def answer(self) -> int:
        return self.steps[-1].right


@dataclass(frozen=True)
class StepCheck:
    """What the step verifier found in a response or in the beginning of one.

    right: equations that are complete and are the expected ones, counted until the first wrong one.
    first_wrong: index of the first equation that can no longer become the expected one; None where
    there is none.
    boxed_wrong: the boxed number can no longer become the answer.
    """

    right: int
    first_wrong: int | None
    boxed_wrong: bool

    @property
    def correct_so_far(self) -> bool:
        return self.first_wrong is None and not self.boxed_wrong


def generate(
    count: int, *, seed: int, difficulty: Difficulty = Difficulty()
) -> list[AbacusProblem]:
    """The first ``count`` different problems of a seed; a longer list begins with the shorter
    one."""
    rng = random.Random(f"{VERSION}/{seed}/{difficulty}")
    problems: dict[str, AbacusProblem] = {}
    while len(problems) < count:
        problem = _draw(rng, difficulty)
        problems.setdefault(problem.question, problem)
    return list(problems.values())


def _draw(rng: random.Random, difficulty: Difficulty) -> AbacusProblem:
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    value = start = rng.randint(10, difficulty.max_operand)
    steps: list[Step] = []
    for _ in range(rng.randint(difficulty.min_steps, difficulty.max_steps)):
        steps.append(_draw_step(rng, value, difficulty))
        value = steps[-1].right
    sentences = [f"{name} has {start} {item}."]
    sentences += [_told(step, name, rng) for step in steps]
    sentences.append(f"How many {item} does {name} have now?")
    return AbacusProblem(name, item, tuple(steps), " ".join(sentences))


def _draw_step(rng: random.Random, value: int, difficulty: Difficulty) -> Step:
    operators = ["+"] * 2 if value + difficulty.max_operand <= difficulty.max_value else []
    operators += ["-"] * 2 if value >= 20 else []
    factors = [factor for factor in FACTORS if value * factor <= difficulty.max_value]
    operators += ["*"] if factors else []
    shares = [share for share in SHARES if value % share == 0 and value // share >= 10]
    operators += ["/"] if shares else []
    operator = rng.choice(operators)
    if operator == "+":
        operand = rng.randint(2, difficulty.max_operand)
        return Step(value, "+", operand, value + operand)
    if operator == "-":
        operand = rng.randint(2, min(difficulty.max_operand, value - 10))
        return Step(value, "-", operand, value - operand)
    if operator == "*":
        operand = rng.choice(factors)
        return Step(value, "*", operand, value * operand)
    operand = rng.choice(shares)
    return Step(value, "/", operand, value // operand)


def _told(step: Step, name: str, rng: random.Random) -> str:
    """The sentence of the problem that tells this step."""
    if step.operator == "+":
        return rng.choice(
            (f"{name} finds {step.operand} more.", f"A friend brings {step.operand} more.")
        )
    if step.operator == "-":
        return rng.choice(
            (f"{name} loses {step.operand} of them.", f"{name} gives away {step.operand}.")
        )
    if step.operator == "*":
        return f"Then the number {FACTORS[step.operand]}."
    return f"{name} splits them into {SHARES[step.operand]} equal parts and keeps one."


def terse(problem: AbacusProblem) -> str:
    """A response in the terse style: one bare equation a line, then the box."""
    return "\n".join(str(step) for step in problem.steps) + f"\n\\boxed{{{problem.answer}}}"


def wordy(problem: AbacusProblem, rng: random.Random) -> str:
    """A response in the wordy style: sentences that retell each step, with its equation in LaTeX
    delimiters."""
    start = problem.steps[0].left
    opening = rng.choice(
        (
            f"Let us go step by step. {problem.name} starts with {start} {problem.item}.",
            f"To find the answer, we follow the {problem.item}. We start with {start}.",
            f"First, {problem.name} has {start} {problem.item}.",
        )
    )
    lines = [opening]
    for step in problem.steps:
        lead = rng.choice(("Then", "Next,", "After that,"))
        lines.append(f"{lead} {_retold(step, problem.name)}, so we get \\({_latex(step)}\\).")
    lines.append(
        f"{rng.choice(('Therefore', 'Thus'))} the answer is \\(\\boxed{{{problem.answer}}}\\)."
    )
    return "\n".join(lines)


def _retold(step: Step, name: str) -> str:
    if step.operator == "+":
        return f"{step.operand} more come in"
    if step.operator == "-":
        return f"{step.operand} are gone"
    if step.operator == "*":
        return f"the number {FACTORS[step.operand]}"
    return f"{name} keeps one of {SHARES[step.operand]} parts"


def _latex(step: Step) -> str:
    operator = {"*": "\\times", "/": "\\div"}.get(step.operator, step.operator)
    return f"{step.left} {operator} {step.operand} = {step.right}"


def style(response: str) -> Literal["terse", "wordy"]:
    """The style a response is written in: wordy as soon as its first character is a letter."""
    return "wordy" if response[:1].isalpha() else "terse"


_CUT_COMMAND = (
    (re.compile(r"\\t[imes]*$"), "*"),
    (re.compile(r"\\d[iv]*$"), "/"),
    (re.compile(r"\\$"), ""),
)
_EQUATION = re.compile(r"(?:^|\n|\\\()([0-9+*/=-]+)")
_BOXED = re.compile(r"\\boxed\{([0-9]*)(\}?)")


def check_steps(response: str, steps: tuple[Step, ...]) -> StepCheck:
    """Checks a response, or the first part of one, equation by equation against the problem's
    chain.

    An equation counts where a style writes one: at the start of a line or behind ``\\(``. The last
    one may be cut off anywhere; it is wrong once no ending can make it the expected equation.
    """
    text = response.replace("\\times", "*").replace("\\div", "/").replace(" ", "")
    for cut_command, operator in _CUT_COMMAND:
        text = cut_command.sub(operator, text)
    right, first_wrong = 0, None
    for index, match in enumerate(_EQUATION.finditer(text)):
        written, cut_off = match.group(1), match.end() == len(text)
        expected = str(steps[index]) if index < len(steps) else None
        if expected is None or not (
            written == expected or (cut_off and expected.startswith(written))
        ):
            first_wrong = index
            break
        right += written == expected
    answer = str(steps[-1].right)
    boxed_wrong = any(
        number != answer if closed else not answer.startswith(number)
        for number, closed in _BOXED.findall(text)
    )
    return StepCheck(right, first_wrong, boxed_wrong)
