"""Steps of a response: their places are those of the text, in characters and in tokens."""

from __future__ import annotations

import itertools
import random

import pytest

from decaylab.problems import abacus
from decaylab.problems.abacus_writing import Habits, respond
from decaylab.runs.step_verdicts import StepVerdict, in_tokens, step_verdicts

STEPS = (
    abacus.Step(47, "+", 85, 132),
    abacus.Step(132, "*", 2, 264),
    abacus.Step(264, "-", 4, 260),
)


def parts(text: str) -> list[tuple[str, str]]:
    return [(text[start:end], verdict) for start, end, verdict in step_verdicts(text, STEPS)]


def test_every_step_has_a_verdict_also_behind_a_wrong_and_a_repaired_one() -> None:
    text = "47+85=142\nwait, 47+85=132\n132*2=254\n254-4=250\n\\boxed{250}"
    assert parts(text) == [
        ("47+85=142", "repaired"),
        ("132*2=254", "wrong"),
        ("254-4=250", "wrong"),
    ]
    steps, first = in_tokens(list(text), STEPS)
    assert len(steps) == 3 and text[: first + 1].endswith("132*2=25")


def test_places_are_those_of_the_text_with_its_spaces_and_commands() -> None:
    text = "We get \\(47 + 85 = 132\\). Then \\(132 \\times 2 = 264\\), so \\(264 - 5 = 259\\)."
    assert parts(text) == [
        ("47 + 85 = 132", "right"),
        ("132 \\times 2 = 264", "right"),
        ("264 - 5 = 259", "wrong"),
    ]


def test_a_step_that_is_cut_off_has_no_verdict_until_no_ending_makes_it_right() -> None:
    assert parts("47+85=132\n132*2") == [("47+85=132", "right")]
    assert parts("47+85=132\n132*3") == [("47+85=132", "right"), ("132*3", "wrong")]


@pytest.mark.parametrize("text", ["", "no equation", "\n\n", "\\("])
def test_a_text_without_steps_has_none(text: str) -> None:
    assert step_verdicts(text, STEPS) == []
    assert in_tokens([text], STEPS) == ([], None)


@pytest.mark.parametrize("seed", range(20))
def test_places_hold_the_equations_of_either_style(seed: int) -> None:
    """By another route: the equations as the problem's own chain writes them."""
    (problem,) = abacus.generate(1, seed=seed)
    equations = [str(step) for step in problem.steps]
    for verbose in (0.0, 1.0):
        habits = Habits(verbose, 0.5, 0.5, 0.0, (1, 1, 1), (1, 1, 1), (0.0, 0.0), checks=0.0)
        text = respond(problem, habits, random.Random(seed))
        found = step_verdicts(text, problem.steps)
        plain = [
            text[start:end].replace("\\cdot", "*").replace("\\div", "/").replace(" ", "")
            for start, end, _ in found
        ]
        assert plain == equations and {verdict for _, _, verdict in found} == {"right"}


def test_tokens_of_a_step_are_those_that_hold_any_of_its_characters() -> None:
    pieces = ["47", "+85", "=1", "32\n", "132*", "2=2", "5", "4", "\n", "<|end|>"]
    assert in_tokens(pieces, STEPS) == (
        [StepVerdict(0, 4, "right"), StepVerdict(4, 8, "wrong")],
        6,  # the 5, where 264 would have had a 6
    )


def test_a_token_without_text_belongs_to_no_step() -> None:
    pieces = ["", "€ \n", "47+85=131", "\n"]
    steps, first = in_tokens(pieces, STEPS)
    assert steps == [StepVerdict(2, 3, "wrong")] and first == 2


def test_the_token_that_went_wrong_is_the_last_that_could_have_saved_the_step() -> None:
    """By brute force: before that token some ending makes the text right, and after it none."""
    orders = [
        {str(step), f"{step.operand}{step.operator}{step.left}={step.right}"}
        if step.operator in "+*"
        else {str(step)}
        for step in STEPS
    ]
    right = ["\n".join(lines) for lines in itertools.product(*orders)]
    chain = "\n".join(map(str, STEPS))
    for place in range(len(chain)):
        if not chain[place].isdigit():
            continue
        digit = str((int(chain[place]) + 1) % 10)
        pieces = list(chain[:place] + digit + chain[place + 1 :])
        _, first = in_tokens(pieces, STEPS)
        assert first is not None and first >= place, (pieces, place)
        for end, possible in ((first, True), (first + 1, False)):
            written = "".join(pieces[:end])
            assert any(text.startswith(written) for text in right) is possible


def test_a_step_too_many_is_wrong_from_its_first_character() -> None:
    pieces = list("\n".join(map(str, STEPS)) + "\n260+1=261")
    steps, first = in_tokens(pieces, STEPS)
    assert [step.verdict for step in steps] == ["right"] * 3 + ["wrong"]
    assert first == steps[-1].start
