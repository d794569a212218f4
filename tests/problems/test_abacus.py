"""The abacus world: its problems and their chains of steps, their difficulty, and the parts of the
world."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from typing import get_args

import pytest

from decaylab.problems import abacus
from decaylab.problems.abacus import Difficulty, Part

PROBLEMS = abacus.generate(300, seed=7)
TOLD = (
    (r"(?:\w+ finds|A friend brings) (\d+) more", "+"),
    (r"\w+ loses (\d+) of them", "-"),
    (r"\w+ gives away (\d+)", "-"),
    (r"Then the number (doubles|triples|quadruples)", "*"),
    (r"\w+ splits them into (two|three|four|five) equal parts and keeps one", "/"),
)
WORDS = {"doubles": 2, "triples": 3, "quadruples": 4, "two": 2, "three": 3, "four": 4, "five": 5}


def recovered(sentence: str) -> tuple[str, int]:
    """The operation that a reader takes from one sentence of a question."""
    for pattern, operator in TOLD:
        if found := re.fullmatch(pattern, sentence):
            return operator, WORDS.get(found[1]) or int(found[1])
    raise AssertionError(f"no operation: {sentence}")


def test_every_step_of_every_problem_is_true_arithmetic_and_continues_the_last() -> None:
    for problem in PROBLEMS:
        value = problem.steps[0].left
        for step in problem.steps:
            assert step.left == value
            # A share is whole: the quotient of integers is compared. eval knows nothing of steps.
            assert eval(f"{step.left}{step.operator}{step.operand}") == step.right
            value = step.right
        assert problem.answer == value


def test_a_reader_of_the_question_alone_can_recover_every_step() -> None:
    for problem in PROBLEMS:
        first, *told, last = problem.question.split(". ")
        assert first == f"{problem.name} has {problem.steps[0].left} {problem.item}"
        assert last == f"How many {problem.item} does {problem.name} have now?"
        steps = [(step.operator, step.operand) for step in problem.steps]
        assert [recovered(sentence) for sentence in told] == steps


def test_every_operation_and_every_wording_is_told_somewhere() -> None:
    sentences = [
        re.sub(r"\d+", "N", sentence.replace(problem.name, "X"))
        for problem in PROBLEMS
        for sentence in problem.question.split(". ")[1:-1]
    ]
    times = [f"Then the number {word}" for word in ("doubles", "triples", "quadruples")]
    shares = [
        f"X splits them into {word} equal parts and keeps one"
        for word in ("two", "three", "four", "five")
    ]
    sums = ["X finds N more", "A friend brings N more", "X loses N of them", "X gives away N"]
    assert set(sentences) == {*sums, *times, *shares}


def test_a_step_is_printed_as_its_equation() -> None:
    assert str(abacus.Step(47, "+", 85, 132)) == "47+85=132"


def test_the_same_seed_gives_the_same_problems_and_a_longer_list_begins_with_the_shorter() -> None:
    assert abacus.generate(50, seed=7) == PROBLEMS[:50]
    assert abacus.generate(50, seed=8) != PROBLEMS[:50]
    assert len({problem.question for problem in PROBLEMS}) == 300


def test_the_problems_of_a_version_are_the_same_on_every_machine_and_for_good() -> None:
    assert abacus.VERSION == "abacus-2"
    problems = abacus.generate(100, seed=0)
    assert problems[0].question == (
        "Eva has 43 coins. Eva gives away 4. A friend brings 15 more. Eva finds 95 more. "
        "Eva gives away 19. Eva finds 23 more. Eva splits them into three equal parts and keeps "
        "one. How many coins does Eva have now?"
    )
    questions = "\n".join(problem.question for problem in problems)
    assert zlib.crc32(questions.encode()) == 1396577455
    parts = [abacus.part_of(problem.question) for problem in problems[:8]]
    assert parts == ["test", "train", "train", "test", "pair", "test", "train", "pair"]


@pytest.mark.parametrize(
    "difficulty",
    [
        Difficulty(),
        Difficulty(min_steps=2, max_steps=3, max_value=200, max_operand=50),
        Difficulty(min_steps=1, max_steps=1),
        Difficulty(min_steps=4, max_steps=12, max_value=38, max_operand=19),
        Difficulty(min_steps=4, max_steps=12, max_value=29, max_operand=10),
    ],
    ids=str,
)
def test_difficulty_bounds_the_steps_and_the_values_and_reaches_its_bounds(
    difficulty: Difficulty,
) -> None:
    problems = abacus.generate(400, seed=1, difficulty=difficulty)
    lengths = {len(problem.steps) for problem in problems}
    assert lengths == set(range(difficulty.min_steps, difficulty.max_steps + 1))
    for problem in problems:
        assert 10 <= problem.steps[0].left <= difficulty.max_operand
        for step in problem.steps:
            assert 10 <= step.right <= difficulty.max_value
            if step.operator in "+-":
                assert 2 <= step.operand <= difficulty.max_operand


@pytest.mark.parametrize(
    "bad",
    [
        {"min_steps": 0},
        {"min_steps": 5, "max_steps": 4},
        {"max_operand": 9},
        {"max_operand": 600},
        {"max_value": 28, "max_operand": 10},  # 19 could not go on
        {"max_value": 36, "max_operand": 18},
    ],
)
def test_an_impossible_difficulty_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Difficulty(**bad)


def test_the_parts_cover_the_world_and_share_no_question() -> None:
    parts = get_args(Part)
    told = {part: abacus.generate(200, seed=7, part=part) for part in parts}
    by_question = {
        problem.question: part for part, problems in told.items() for problem in problems
    }
    assert len(by_question) == 200 * len(parts)
    for problem in PROBLEMS:  # of the same seed, so the first of each part are among them
        assert by_question[problem.question] == abacus.part_of(problem.question)


def test_a_part_holds_the_problems_of_the_world_that_belong_to_it_in_order() -> None:
    for part in get_args(Part):
        own = [problem for problem in PROBLEMS if abacus.part_of(problem.question) == part]
        assert abacus.generate(len(own), seed=7, part=part) == own


def test_other_seeds_and_difficulties_draw_no_question_of_another_part() -> None:
    easy = Difficulty(min_steps=1, max_steps=1, max_operand=10)  # questions come again
    drawn = {
        part: {
            problem.question
            for seed in range(3)
            for problem in abacus.generate(300, seed=seed, difficulty=easy, part=part)
        }
        for part in get_args(Part)
    }
    again = abacus.generate(300, seed=9, difficulty=easy)
    repeats = [problem.question for problem in again]
    for part, questions in drawn.items():
        known = [question for question in repeats if question in questions]
        assert known
        assert {abacus.part_of(question) for question in known} == {part}


def test_half_of_the_questions_are_the_pair_s_and_a_quarter_of_them_each_other_part_s() -> None:
    problems = abacus.generate(4000, seed=3)
    counts = Counter(abacus.part_of(problem.question) for problem in problems)
    assert set(counts) == {"test", "train", "pair"}
    for part, share in (("test", 0.25), ("train", 0.25), ("pair", 0.5)):
        spread = math.sqrt(share * (1 - share) / 4000)
        assert abs(counts[part] / 4000 - share) < 4 * spread
