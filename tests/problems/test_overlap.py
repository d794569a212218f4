"""Training problems that are among the test problems are found, also inside of other words."""

from __future__ import annotations

import pytest

from decaylab.problems.code_sets import essence
from decaylab.problems.overlap import shared
from decaylab.problems.problem import Problem

SENTENCE = "Write a function that returns the sum of all even numbers in a given list"
MBPP = f"{SENTENCE}\nYour code should pass these tests:\nassert f([1, 2]) == 2"
HUMANEVAL = (
    "Complete this Python function.\n```python\nfrom typing import List\n\n\n"
    'def f(numbers: List[int]) -> int:\n    """ Return the sum of all even numbers that stand at '
    'odd places of the list.\n    >>> f([1, 2])\n    2\n    """\n```'
)


def problems(*questions: str) -> list[Problem]:
    return [Problem(str(place), text, None) for place, text in enumerate(questions)]


@pytest.mark.parametrize(
    ("training", "test", "found"),
    [
        (MBPP.upper(), MBPP, True),
        (f"Please help. {SENTENCE}. Thanks!", MBPP, True),
        (
            "Return the sum of all even numbers that stand at odd places of the list",
            HUMANEVAL,
            True,
        ),
        (
            "Write a function.\nYour code should pass these tests:\nassert f([1, 2]) == 2",
            MBPP,
            False,
        ),
        (
            "from typing import List def f(numbers: List[int]) -> int: as in a tutorial",
            HUMANEVAL,
            False,
        ),
        ("Find the roots of an equation", "Find the roots of an equation of degree two", False),
        ("First, find the roots of an equation here", "Find the roots of an equation", True),
        ("Sort a list now", "Sort a list", False),  # fewer than six words say nothing
    ],
)
def test_a_training_problem_with_the_text_of_a_test_problem_is_found(
    training: str, test: str, found: bool
) -> None:
    assert shared(problems(training), problems(test), in_text=True) == ({0} if found else set())


def test_of_mathematics_the_whole_question_must_be_the_same() -> None:
    training = problems("What is  1 + 1?", "Tell me: what is 1 + 1? It is on the test.", "What?")
    assert shared(training, problems("what is 1 + 1?"), in_text=False) == {0}


def test_the_essence_leaves_out_code_asserts_and_examples() -> None:
    assert essence(MBPP) == SENTENCE
    assert essence(HUMANEVAL).split()[:3] == ["Return", "the", "sum"] and ">>>" not in essence(
        HUMANEVAL
    )
