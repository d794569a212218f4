r"""Places of a response at which one token decides: hand-sized cases, and against a second verifier
that knows only the question (``abacus_evaluator``)."""

from __future__ import annotations

import random
from dataclasses import replace

import abacus_evaluator
import pytest

from decaylab.problems import abacus, abacus_places
from decaylab.problems.abacus import Step
from decaylab.problems.abacus_places import Equation, equations, is_consistent, is_true
from decaylab.problems.abacus_writing import Habits, respond

STEPS = (Step(38, "+", 55, 93), Step(93, "*", 2, 186), Step(186, "-", 70, 116))
TOKENS = (*"0123456789", " ", "=", "\n", "wait", "\\", "-", " 9", "93", "92", "9 ", "<|end|>")
WRITER = Habits(
    0.5, 0.5, 0.5, 0.5, (0.4, 0.3, 0.3), (0.4, 0.3, 0.3), (0.2, 0.2), checks=0.3, unnoticed=0.5
)


def only(text: str, number: int) -> Equation:
    return next(each for each in equations(text, STEPS) if each.number == number)


def true_tokens(before: str) -> set[str]:
    return {token for token in TOKENS if may(token) and is_true(before, token, STEPS)}


def consistent_tokens(equation: str) -> set[str]:
    own = abacus_places.as_written(equation)
    assert own is not None
    return {token for token in TOKENS if may(token) and is_consistent(equation, token, own)}


def may(token: str) -> bool:
    return abacus_places.may_begin_a_result(token)


def test_the_tokens_of_a_result_are_those_of_all_notations() -> None:
    assert true_tokens("38+55=") == {"9", " ", " 9", "93"}  # "9 " ends at 9
    assert true_tokens("First, Sam has 38 shells.\nThen, we get \\(38 + 55 = ") == {
        *("9", " ", " 9", "93")
    }
    assert consistent_tokens("38+55=") == {"9", " ", " 9", "93"}


def test_the_two_senses_part_on_a_made_error() -> None:
    wrong = "38+55=83\n83*2="
    assert only(f"{wrong}166", 2).state == "already-wrong"
    assert true_tokens(wrong) == set()  # nothing behind this "=" repairs 83
    assert consistent_tokens("83*2=") == {"1", " "}  # 166, on the wrong number
    assert consistent_tokens("93 x 2 = ") == {"1", " "}  # 186, by chance the same digit


def test_a_repaired_chain_is_true_again_and_a_restated_step_is_no_place() -> None:
    text = "38+55=83\nwait, 38+55=93\n93*2=186\ncheck: 93*2=186"
    found = list(equations(text, STEPS))
    assert [(each.number, each.state) for each in found] == [
        (1, "correct-so-far"),
        (2, "repaired"),
    ]
    assert text[found[1].result : found[1].end] == "186"


def test_numbers_that_were_copied_wrong_make_the_prefix_wrong_at_its_result() -> None:
    equation = only("38+55=93\n92*2=184", 2)
    assert (equation.before, equation.state) == ("correct-so-far", "already-wrong")


@pytest.mark.parametrize("written", ["5-9=", "7/2=", "7/0="])
def test_an_equation_without_a_whole_result_is_consistent_with_nothing(written: str) -> None:
    assert abacus_places.as_written(written) is None


def test_which_places_there_are_does_not_depend_on_the_results() -> None:
    rng = random.Random(1)
    for problem in abacus.generate(60, seed=8):
        text = respond(problem, WRITER, rng)
        places = {each.result for each in equations(text, problem.steps)}
        for each in equations(text, problem.steps):
            cut = text[: each.result]
            for digit in "19":
                again = {one.result for one in equations(cut + digit, problem.steps)}
                assert again == {place for place in places if place <= each.result}


def test_a_written_character_is_true_exactly_where_a_second_verifier_sees_no_error_yet() -> None:
    rng, seen = random.Random(2), {True: 0, False: 0}
    for problem in abacus.generate(150, seed=9):
        text = respond(problem, WRITER, rng)
        for each in equations(text, problem.steps):
            if each.state == "already-wrong":
                continue
            before, written = text[: each.result], text[each.result]
            reading = abacus_evaluator.read(problem.question, before + written)
            judged = is_true(before, written, problem.steps)
            assert judged == reading.correct_so_far, before + written
            seen[judged] += 1
    assert min(seen.values()) > 30, seen


def test_before_an_error_both_senses_agree_on_every_token() -> None:
    rng = random.Random(3)
    for problem in abacus.generate(40, seed=10):
        text = respond(problem, replace(WRITER, slips=(0.0, 0.0)), rng)
        for each in equations(text, problem.steps):
            own = abacus_places.as_written(text[each.start : each.result])
            assert own is not None
            for token in filter(may, TOKENS):
                true = is_true(text[: each.result], token, problem.steps)
                assert true == is_consistent(text[each.start : each.result], token, own)


def test_tokens_that_cannot_begin_a_result_are_neither_true_nor_consistent() -> None:
    own = abacus_places.as_written("38+55=")
    assert own is not None
    # the end of the turn has no text, and would leave the equation as open as it was
    for token in (each for each in TOKENS if not may(each)):
        assert not is_true("38+55=", token, STEPS), token
        assert not is_consistent("38+55=", token, own), token


# Repairs


@pytest.mark.parametrize(
    ("behind", "token", "opens"),
    [
        ("\n", "wait", True),
        ("\n", "wa", True),
        (".", " Wait", True),
        ("\\).", " W", True),
        ("", "\nwait,", True),
        ("\n", "check", True),
        ("\n", "we", False),
        ("\n", "waiting", False),
        ("\n", "so", False),
        ("\n", "\n", False),
        ("\nso", " wait", False),
    ],
)
def test_a_repair_opens_with_the_words_that_the_verifier_knows(
    behind: str, token: str, opens: bool
) -> None:
    assert abacus_places.opens_a_repair(behind, token) == opens


def test_a_step_ends_wrong_only_where_the_text_before_it_was_correct() -> None:
    text = "38+55=83\n83*2=166\n"
    first, second = equations(text, STEPS)
    assert abacus_places.ends_wrong(text, first, STEPS) is True
    assert abacus_places.ends_wrong(text, second, STEPS) is None
    right = "38+55=93\n93*2=18"
    first, second = equations(right, STEPS)
    assert abacus_places.ends_wrong(right, first, STEPS) is False
    assert abacus_places.ends_wrong(right, second, STEPS) is None  # 18 may become 186
