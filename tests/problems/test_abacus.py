"""The abacus world: problems, styles, and the verifiers of answers and of steps."""

from __future__ import annotations

import random

import pytest

from decaylab.problems import abacus
from decaylab.problems.abacus import Difficulty, Step, check_steps

STEPS = (Step(47, "+", 85, 132), Step(132, "-", 16, 116), Step(116, "/", 4, 29))
TERSE = "47+85=132\n132-16=116\n116/4=29\n\\boxed{29}"
PROBLEMS = abacus.generate(300, seed=7)


def test_every_step_of_every_problem_is_true_arithmetic_and_continues_the_last() -> None:
    for problem in PROBLEMS:
        value = problem.steps[0].left
        for step in problem.steps:
            assert step.left == value
            # An exact division is the inverse of a product; eval knows nothing of this module.
            assert eval(f"{step.left}{step.operator}{step.operand}") == step.right
            value = step.right
        assert problem.answer == value


def test_a_reader_of_the_question_alone_can_recover_every_step() -> None:
    words = {
        "doubles": "*2",
        "triples": "*3",
        "quadruples": "*4",
        "two": "/2",
        "three": "/3",
        "four": "/4",
        "five": "/5",
    }
    for problem in PROBLEMS:
        first, *told, _ = problem.question.split(". ")
        assert first.split()[2] == str(problem.steps[0].left)
        for sentence, step in zip(told, problem.steps, strict=True):
            numbers = [word for word in sentence.split() if word.rstrip(".").isdigit()]
            if numbers:
                sign = "-" if "loses" in sentence or "gives away" in sentence else "+"
                assert f"{step.operator}{step.operand}" == sign + numbers[0].rstrip(".")
            else:
                named = [
                    told
                    for word, told in words.items()
                    if word in sentence.split() or f"{word}." in sentence.split()
                ]
                named = named or [
                    told for word, told in words.items() if f" {word} " in f"{sentence} "
                ]
                assert f"{step.operator}{step.operand}" in named


def test_the_same_seed_gives_the_same_problems_and_a_longer_list_begins_with_the_shorter() -> None:
    assert abacus.generate(50, seed=7) == PROBLEMS[:50]
    assert abacus.generate(50, seed=8) != PROBLEMS[:50]
    assert len({problem.question for problem in PROBLEMS}) == 300


def test_difficulty_bounds_the_steps_and_the_values() -> None:
    difficulty = Difficulty(min_steps=2, max_steps=3, max_value=200, max_operand=50)
    for problem in abacus.generate(200, seed=1, difficulty=difficulty):
        assert 2 <= len(problem.steps) <= 3
        assert all(2 <= step.right <= 200 for step in problem.steps)


@pytest.mark.parametrize(
    "bad", [{"min_steps": 0}, {"min_steps": 5, "max_steps": 4}, {"max_operand": 600}]
)
def test_an_impossible_difficulty_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Difficulty(**bad)


def test_every_beginning_of_a_right_response_in_either_style_is_correct_so_far() -> None:
    rng = random.Random(0)
    for problem in PROBLEMS[:60]:
        for response in (abacus.terse(problem), abacus.wordy(problem, rng)):
            for end in range(len(response) + 1):
                assert check_steps(response[:end], problem.steps).correct_so_far, response[:end]
            whole = check_steps(response, problem.steps)
            assert (whole.right, whole.first_wrong, whole.boxed_wrong) == (
                len(problem.steps),
                None,
                False,
            )


def test_any_wrong_digit_of_an_equation_or_of_the_box_is_found_at_once() -> None:
    for place, character in enumerate(TERSE):
        if character.isdigit():
            wrong = str((int(character) + 1) % 10)
            for end in range(place + 1, len(TERSE) + 1):
                response = TERSE[:place] + wrong + TERSE[place + 1 : end]
                assert not check_steps(response, STEPS).correct_so_far, response


@pytest.mark.parametrize(
    ("response", "right", "first_wrong"),
    [
        ("", 0, None),
        ("47+85=132", 1, None),
        ("47+85=13", 0, None),  # cut off: 132 may still come
        ("47+85=13\n", 0, 0),  # ended: 13 it is
        ("47+85=131", 0, 0),
        ("47+85=132\n132+16", 1, 1),  # the wrong operation
        ("47+85=132\n131", 1, 1),  # the last result miscopied, before any operation
        ("132-16=116", 0, 0),  # a step left out
        ("47+85=132\n132-16=116\n116/4=29\n29+1=30", 3, 3),  # one step too many
        ("First we get \\(47 + 85 = 132\\). Then 16", 1, None),  # numbers in words are no equation
        ("so we get \\(116 \\div", 0, 0),
        (
            "so we get \\(47 \\ti",
            0,
            0,
        ),  # a product where a sum belongs, visible before the word is whole
    ],
)
def test_equations_are_judged_where_they_stand(
    response: str, right: int, first_wrong: int | None
) -> None:
    check = check_steps(response, STEPS)
    assert (check.right, check.first_wrong) == (right, first_wrong)


def test_a_wrong_box_is_wrong_although_every_step_is_right() -> None:
    assert check_steps(TERSE, STEPS).correct_so_far
    assert not check_steps(TERSE.replace("{29}", "{30}"), STEPS).correct_so_far
    assert check_steps(TERSE.replace("{29}", "{2"), STEPS).correct_so_far
    assert not check_steps(TERSE.replace("{29}", "{2}"), STEPS).correct_so_far


def test_style_is_told_by_the_first_character() -> None:
    assert abacus.style(abacus.terse(PROBLEMS[0])) == "terse"
    assert all(
        abacus.style(abacus.wordy(problem, random.Random(0))) == "wordy"
        for problem in PROBLEMS[:20]
    )
