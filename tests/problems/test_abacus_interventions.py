"""Made and edited prefixes: against a second verifier, and against the styles of the recipe."""

from __future__ import annotations

import random
from collections import Counter

import abacus_evaluator
import pytest

from decaylab.data.abacus.recipe import RECIPES
from decaylab.problems import abacus
from decaylab.problems import abacus_interventions as world
from decaylab.problems.abacus import Step
from decaylab.problems.abacus_checking import style
from decaylab.problems.abacus_writing import Habits, respond

PROBLEMS = abacus.generate(120, seed=11)
STEPS = (Step(38, "+", 55, 93), Step(93, "*", 2, 186), Step(186, "-", 70, 116))
WRITER = Habits(
    0.5, 0.5, 0.5, 0.5, (0.4, 0.3, 0.3), (0.4, 0.3, 0.3), (0.2, 0.2), checks=0.3, unnoticed=0.5
)


def test_a_second_verifier_agrees_with_the_content_of_every_made_prefix() -> None:
    for number, problem in enumerate(PROBLEMS):
        for count in (1, 2, 4):
            texts = world.made(problem, count, random.Random(number))
            assert len(texts) == 4
            for (content, _), text in texts.items():
                reading = abacus_evaluator.read(problem.question, text)
                assert reading.correct_so_far == (content == world.CORRECT), text
                assert len(reading.steps) == count


def test_both_styles_write_the_same_chain_and_both_contents_the_same_words() -> None:
    for number, problem in enumerate(PROBLEMS[:40]):
        texts = world.made(problem, 3, random.Random(number))
        for content in (world.CORRECT, world.WRONG):
            numbers = []
            for name in world.STYLES:
                lines = texts[content, name].splitlines()[-3:]
                text = " ".join(line.rpartition("we get")[2] for line in lines)
                numbers.append([word for word in digits(text) if word])
            shorter, longer = sorted(numbers, key=len)
            # the concise style names operands too: "add 55: 38+55=93"
            assert set(shorter) <= set(longer)
        for name in world.STYLES:
            both = [letters(texts[content, name]) for content in (world.CORRECT, world.WRONG)]
            assert both[0] == both[1]


def digits(text: str) -> list[str]:
    return "".join(sign if sign.isdigit() else " " for sign in text).split()


def arithmetic(written: str) -> int:
    sign = next(sign for sign in "+-*/" if sign in written)
    left, right = map(int, written.split(sign))
    results = {"+": left + right, "-": left - right, "*": left * right}
    return results.get(sign, left // max(right, 1))


def letters(text: str) -> str:
    return "".join(sign for sign in text if sign.isalpha())


def test_a_wrong_chain_slips_once_at_any_of_its_steps_and_follows_from_there() -> None:
    slips = Counter[int]()
    for number, problem in enumerate(PROBLEMS):
        text = world.made(problem, 3, random.Random(number))[world.WRONG, world.STUDENT_STYLE]
        value, wrong = problem.steps[0].left, []
        for place, line in enumerate(text.splitlines()):
            left, right = line.rpartition(" ")[2].split("=")
            assert left.startswith(str(value)), "each step goes on from the one before"
            if arithmetic(left) != int(right):
                wrong.append(place)
            value = int(right)
        assert len(wrong) == 1
        slips[wrong[0]] += 1
    assert min(slips[place] for place in range(3)) > 20


def test_the_styles_are_the_usual_choices_of_the_recipe_s_writers() -> None:
    for name, role in ((world.STUDENT_STYLE, "student"), (world.TEACHER_STYLE, "teacher")):
        theirs, ours = RECIPES[role].habits, world.STYLES[name]
        for habit in ("verbose", "spaced", "latex", "cross"):
            assert getattr(ours, habit) == round(getattr(theirs, habit)), (name, habit)
        used = "leads" if ours.verbose else "openings"
        shares = getattr(theirs, used)
        assert getattr(ours, used)[shares.index(max(shares))] == 1
    first = world.made(PROBLEMS[0], 1, random.Random(0))
    styles = {name: style(first[world.CORRECT, name]) for name in world.STYLES}
    assert styles == {world.STUDENT_STYLE: "concise", world.TEACHER_STYLE: "verbose"}


def test_no_prefix_is_made_of_the_whole_chain() -> None:
    problem = PROBLEMS[0]
    assert world.made(problem, len(problem.steps), random.Random(0)) == {}


def test_a_question_names_its_person_and_its_things() -> None:
    for problem in PROBLEMS[:20]:
        assert world.world_problem(problem.question, problem.steps) == problem


# Edits of a response


def test_a_second_verifier_agrees_with_every_edit_of_a_response() -> None:
    rng, seen = random.Random(3), Counter[str]()
    for problem in PROBLEMS:
        text = respond(problem, WRITER, rng)
        for edit in world.edited(text, problem.steps, rng):
            seen[edit.kind] += 1
            repaired = edit.kind == "repaired"
            for prefix, correct in ((edit.as_written, not repaired), (edit.changed, repaired)):
                closed = prefix if "\n" not in prefix[-1:] else prefix[:-1]
                reading = abacus_evaluator.read(problem.question, closed)
                assert reading.correct_so_far == correct, prefix
            assert text.startswith(edit.as_written)
            common = len(edit.changed) - len(edit.changed.rpartition("\n")[2])
            assert edit.changed[:common] == text[:common], "lines before it stay as they are"
    assert min(seen["repaired"], seen["broken"]) > 30


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("38+55=83", "38+55=93"),
        ("38 + 55 = 83", "38 + 55 = 93"),
        ("48+55=93", "38+55=93"),
        ("83 + 55  =13", "38 + 55  =93"),
    ],
)
def test_a_repaired_equation_keeps_its_notation(written: str, expected: str) -> None:
    assert world.rewritten(written, STEPS[0]) == expected


def test_a_repaired_product_keeps_the_command_of_its_sign() -> None:
    assert world.rewritten(r"92 \times 2 = 184", STEPS[1]) == r"93 \times 2 = 186"


def test_the_first_wrong_step_is_repaired_and_an_earlier_one_broken() -> None:
    text = "38+55=93\n93*2=176\nwait, 93*2=186\n186-70=106"
    edits = {edit.kind: edit for edit in world.edited(text, STEPS, random.Random(0))}
    repaired, broken = edits["repaired"], edits["broken"]
    assert (repaired.number, repaired.as_written, repaired.changed) == (
        2,
        "38+55=93\n93*2=176",
        "38+55=93\n93*2=186",
    )
    assert (broken.number, broken.as_written) == (1, "38+55=93")
    assert broken.changed.startswith("38+55=") and broken.changed != broken.as_written


def test_a_result_that_could_still_become_correct_is_passed_over() -> None:
    assert [*world.edited("38+55=9\nso", STEPS, random.Random(0))] == []


def test_a_step_of_another_operation_is_passed_over_since_its_words_would_stay() -> None:
    for wrong in ("add 55: 38-55=7\nso", "Then 65 more come in, so we get 38+65=103.\nSo"):
        assert [*world.edited(wrong, STEPS, random.Random(0))] == []
    copied = "add 55: 83+55=138\nso"  # the first number stands in no word
    (edit,) = world.edited(copied, STEPS, random.Random(0))
    assert (edit.kind, edit.changed) == ("repaired", "add 55: 38+55=93")
