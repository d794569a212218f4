"""The abacus world: multi-step arithmetic word problems whose written steps can be checked.

A problem is a chain of operations on one running quantity. ``abacus_writing`` writes responses to
it, and ``abacus_checking`` checks them step by step.

    problems = generate(100, seed=0)            # the same 100 problems on every machine
    problems = generate(100, seed=0, part="test")
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

VERSION = "abacus-2"
Part = Literal["test", "train", "pair"]
PARTS: tuple[Part, ...] = ("test", "train", "pair", "pair")
"""The parts of the world, by a checksum of the question: for tests, for training students, and for
training the embedded pair (twice as large). No question is in two parts, for any seed."""

NAMES = ("Mia", "Tom", "Ana", "Leo", "Eva", "Sam", "Ida", "Max", "Zoe", "Ben")
ITEMS = ("coins", "shells", "stamps", "marbles", "cards", "beads", "apples", "stones")
FACTORS = {2: "doubles", 3: "triples", 4: "quadruples"}
SHARES = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Difficulty:
    """How hard a problem is: number of steps, largest quantity, largest number added or removed."""

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
        if self.max_value < self.max_operand + 19:  # 19 and less may allow only a sum
            raise ValueError(
                f"max_value must be at least max_operand + 19, got {self.max_value} with "
                f"{self.max_operand}"
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


def generate(
    count: int,
    *,
    seed: int,
    difficulty: Difficulty = Difficulty(),
    part: Part | None = None,
) -> list[AbacusProblem]:
    """The first ``count`` distinct problems of a seed, from one part of the world or from all.

    A longer list begins with the shorter one.
    """
    rng = random.Random(f"{VERSION}/{seed}/{difficulty}")
    problems: dict[str, AbacusProblem] = {}
    while len(problems) < count:
        problem = _draw(rng, difficulty)
        if part in (None, part_of(problem.question)):
            problems.setdefault(problem.question, problem)
    return list(problems.values())


def part_of(question: str) -> Part:
    """The part of the world of a question."""
    return PARTS[zlib.crc32(question.encode()) % len(PARTS)]


def _draw(rng: random.Random, difficulty: Difficulty) -> AbacusProblem:
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    value = start = rng.randint(10, difficulty.max_operand)
    steps: list[Step] = []
    for _ in range(rng.randint(difficulty.min_steps, difficulty.max_steps)):
        steps.append(_draw_step(rng, value, difficulty))
        value = steps[-1].right
    sentences = [f"{name} has {start} {item}."]
    sentences += [_sentence(step, name, rng) for step in steps]
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


def _sentence(step: Step, name: str, rng: random.Random) -> str:
    """The sentence of the problem for a step."""
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
