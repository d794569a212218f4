"""The step verifier of the abacus world, by hand, against a second reading by another method
(``abacus_evaluator``), at every cut, and on what cannot be read."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import abacus_evaluator
import pytest

from decaylab.problems import abacus
from decaylab.problems.abacus import AbacusProblem, Difficulty, Step
from decaylab.problems.abacus_checking import StepCheck, check_steps, style
from decaylab.problems.abacus_writing import Habits, respond

STEPS = (Step(47, "+", 85, 132), Step(132, "-", 16, 116), Step(116, "/", 4, 29))
BARE = "47+85=132\n132-16=116\n116/4=29\n\\boxed{29}"
PROBLEMS = abacus.generate(10_000, seed=5)
SHORT = abacus.generate(100, seed=5, difficulty=Difficulty(min_steps=2, max_steps=4))
MIXED = Habits(
    verbose=0.5,
    spaced=0.5,
    latex=0.5,
    cross=0.5,
    openings=(0.4, 0.3, 0.3),
    leads=(0.4, 0.3, 0.3),
    slips=(0.15, 0.15),
    checks=0.4,
    constancy=0.8,
)
GOING_ON = replace(MIXED, unnoticed=0.3)
EQUATION = re.compile(r"\d+ ?(?P<sign>[-+*/x]|\\times|\\cdot|\\div) ?\d+ ?= ?(?P<result>\d+)(?!\d)")


def of_one_kind(style: int, spaced: int, latex: int, cross: int, lead: int, slips: int) -> Habits:
    """A writer that always writes in the same notation and checks in every response."""
    chosen = tuple(float(index == lead) for index in range(3))
    return Habits(
        style,
        spaced,
        latex,
        cross,
        chosen,  # type: ignore[arg-type]
        chosen,  # type: ignore[arg-type]
        (slips, slips),
        checks=1.0,
        constancy=1.0,
    )


NOTATIONS = list(itertools.product((0, 1), (0, 1), (0, 1), (0, 1), (0, 1, 2)))
"""Style, spacing, LaTeX, cross or not, and the opening or lead: all that a writer may choose."""


def verdicts(check: StepCheck) -> list[str]:
    return [step.verdict for step in check.written]


def assert_agrees(problem: AbacusProblem, response: str) -> StepCheck:
    """The verifier and the evaluator find the same steps, verdicts and boxes, at the same
    characters where they can be read."""
    check = check_steps(response, problem.steps)
    reading = abacus_evaluator.read(problem.question, response)
    assert verdicts(check) == [step.verdict for step in reading.steps], response
    assert check.correct_so_far is reading.correct_so_far, response
    if not check.abstains:
        assert check.boxed_wrong == reading.boxed_wrong, response
    for mine, other in zip(check.written, reading.steps, strict=True):
        if other.verdict != "unread":
            assert (mine.start, mine.end) == (other.start, other.end), response
    return check


@pytest.mark.parametrize(
    ("response", "expected", "so_far"),
    [
        ("", [], True),
        ("47+85=132", ["right"], True),
        ("47+85=13", [], True),  # cut off: 132 may still come
        ("47+85=13\n", ["wrong"], False),  # ended: 13 it is
        ("47+85=13 ", ["wrong"], False),
        ("47+85=13.", ["wrong"], False),
        ("47+85=131", ["wrong"], False),
        ("47+85=1320", ["wrong"], False),
        ("47+85=132\n132+16", ["right", "wrong"], False),  # the wrong operation
        ("47+85=132\n131", ["right", "wrong"], False),  # miscopied, before any operation
        ("132-16=116", ["wrong"], False),  # a step left out
        ("47+85=132\n47+85=132", ["right", "wrong"], False),  # a step doubled
        ("47+85=132\n132-16=116\n116/4=29\n29+1=30", ["right"] * 3 + ["wrong"], False),
        ("47+85=132\n132-16=116\n116/4=29\n2", ["right"] * 3 + ["wrong"], False),
        # numbers in words are no equation
        ("First we get \\(47 + 85 = 132\\). Then 16", ["right"], True),
        ("Mia starts with 46 coins. 9 of them", [], True),
        ("so we get \\(116 \\div", ["wrong"], False),
        # a product where a sum belongs, visible before the word is whole
        ("so we get \\(47 \\t", ["wrong"], False),
        ("so we get \\(47 \\", ["wrong"], False),
        ("so we get \\(47 x", ["wrong"], False),
        ("so we get \\(", [], True),
        ("so we get \\", [], True),
        ("so we get 47", [], True),
        ("so we get 46", ["wrong"], False),
        ("so 46", ["wrong"], False),
        ("so we get \\( 46", ["wrong"], False),
        ("so  46", ["wrong"], False),
        ("add 85: 46", ["wrong"], False),
        ("add 84", [], True),  # names the operation; that is no step
        ("85+47=132", ["right"], True),  # a sum in the other order
        ("85 + 4", [], True),
        ("85+47=131", ["wrong"], False),
        ("47+85=132\n16-132", ["right", "wrong"], False),  # a difference in the other order
    ],
)
def test_equations_are_judged_where_they_stand(
    response: str, expected: list[str], so_far: bool
) -> None:
    check = check_steps(response, STEPS)
    assert (verdicts(check), check.correct_so_far) == (expected, so_far)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("47+85=122\nwait, 47+85=132", ["repaired"]),
        ("47+85=122. Wait, 47+85=132.", ["repaired"]),
        ("47+85=122\nwait, 47+85=13", ["wrong"]),  # not complete
        ("47+85=122\nwait, 47+85=131", ["wrong"]),
        ("47+85=122\nwait, 47+85=131\nwait, 47+85=132", ["repaired"]),
        ("47+85=122\nwait, 47+85=132\nwait, 47+85=122", ["wrong"]),
        ("47+85=132\nwait, 47+85=122", ["wrong"]),
        ("47+85=132\nwait, 47+85=132", ["right"]),
        ("47+85=132\ncheck: 47+85=132", ["right"]),
        ("47+85=132\ncheck: 47+84", ["wrong"]),
        ("47+85=122\ncheck: 47+85=132", ["repaired"]),
        ("47+85=122\nwait, 47+85=132\ncheck: 47+85=132", ["repaired"]),
        # what comes next in the chain is no restatement
        ("47+85=132\nwait, 132-16=116", ["right", "right"]),
        ("47+85=132\nwait, 132-1", ["right"]),
        ("47+85=122\nwait, 132-1", ["wrong"]),
        ("47+85=132\nwait, 132-16=115", ["wrong"]),
        ("wait, 47+85=132\nwait, 47+85=132", ["right"]),  # nothing stood before
        ("47+85=122\n132-16=116", ["wrong", "right"]),  # goes on without a repair
        ("47+85=122\n47+85=132", ["wrong", "wrong"]),  # nothing says that it restates
        ("47+85=122\nawaiting, 47+85=132", ["wrong", "wrong"]),
    ],
)
def test_behind_wait_and_check_an_equation_restates_the_step_before(
    response: str, expected: list[str]
) -> None:
    check = check_steps(response, STEPS)
    assert verdicts(check) == expected
    assert check.correct_so_far == ("wrong" not in expected)


@pytest.mark.parametrize(
    ("boxes", "wrong"),
    [
        ("", False),
        ("\\boxed{29}", False),
        ("\\boxed{30}", True),
        ("\\boxed{2", False),
        ("\\boxed{3", True),
        ("\\boxed{2}", True),
        ("\\boxed{290", True),
        ("\\boxed{}", True),
        ("\\boxed{2 9}", None),
        ("\\boxed{2a}", None),
        ("\\boxed{29^2}", None),
        ("\\boxed{29.5}", True),
        ("\\boxed{29,000}", True),
        ("\\boxed{29 000}", True),
        ("\\boxed{29.0}", False),
        ("\\boxed{029}", False),
        ("\\boxed{ 29 }", False),
        ("\\boxed{29 coins}", False),
        ("\\boxed{28}. So \\boxed{29}", False),  # the last one counts
        ("\\boxed{29}. So \\boxed{28}", True),
        ("\\boxed{29}. So \\boxed{2", False),
        ("\\boxed{28}. So \\boxed{", True),  # until the last one is complete
        ("\\boxed{28}. So \\boxed{29", True),
    ],
)
def test_the_last_complete_box_must_hold_the_answer_and_one_cut_off_may_still(
    boxes: str, wrong: bool | None
) -> None:
    check = check_steps(BARE.removesuffix("\\boxed{29}") + boxes, STEPS)
    assert verdicts(check) == ["right"] * 3
    assert check.boxed_wrong is wrong
    assert check.correct_so_far is (None if wrong is None else not wrong)


def test_any_wrong_digit_of_an_equation_or_of_the_box_is_found_at_once_and_stays() -> None:
    for place, character in enumerate(BARE):
        if character.isdigit():
            wrong = str((int(character) + 1) % 10)
            for end in range(place + 1, len(BARE) + 1):
                response = BARE[:place] + wrong + BARE[place + 1 : end]
                assert check_steps(response, STEPS).correct_so_far is False, response


def test_verdicts_are_counted() -> None:
    check = check_steps("47+85=122\nwait, 47+85=132\n132-16=116\n116/4=28\n29+", STEPS)
    assert verdicts(check) == ["repaired", "right", "wrong", "wrong"]
    counts = [check.count(verdict) for verdict in ("right", "wrong", "repaired", "unread")]  # type: ignore[arg-type]
    assert counts == [1, 2, 1, 0]
    assert not check.abstains


def test_the_style_of_a_response_is_told_by_its_first_line() -> None:
    rng = random.Random(0)
    for notation in NOTATIONS:
        habits = of_one_kind(*notation, slips=notation[1])
        for problem in PROBLEMS[:5]:
            expected = "verbose" if notation[0] else "concise"
            assert style(respond(problem, habits, rng)) == expected
    assert style("\\boxed{29}") == "concise"
    assert style("") == "verbose"


def everywhere_false(response: str, problem: AbacusProblem) -> set[int]:
    """The lengths at which a beginning of a response holds something wrong: from the first
    character that keeps a result from being right to the last digit of its repair."""
    lengths: set[int] = set()
    results = [found.span("result") for found in EQUATION.finditer(response)]
    turn, open_since = 0, None
    for start, end in results:
        right = str(problem.steps[min(turn, len(problem.steps) - 1)].right)
        written = response[start:end]
        if written == right:
            lengths.update(range(open_since or end, end))
            turn, open_since = turn + 1, None
            continue
        same = 0
        while same < len(written) and written[same] == right[same : same + 1]:
            same += 1
        open_since = start + same + 1
    return lengths


def test_every_beginning_of_a_right_response_in_every_notation_is_correct_so_far() -> None:
    rng = random.Random(0)
    for index, notation in enumerate(NOTATIONS):
        problem = SHORT[index]
        response = respond(problem, of_one_kind(*notation, slips=0), rng)
        for end in range(len(response) + 1):
            check = check_steps(response[:end], problem.steps)
            assert check.correct_so_far is True, response[:end]
        assert verdicts(check) == ["right"] * len(problem.steps)


def test_a_slip_is_wrong_from_its_first_wrong_digit_until_its_repair_is_complete() -> None:
    rng = random.Random(1)
    for index, notation in enumerate(NOTATIONS):
        problem = SHORT[index]
        response = respond(problem, of_one_kind(*notation, slips=1), rng)
        wrong = everywhere_false(response, problem)
        assert len(wrong) > 10 * len(problem.steps)
        for end in range(len(response) + 1):
            check = check_steps(response[:end], problem.steps)
            assert check.correct_so_far is (end not in wrong), response[:end]
        assert verdicts(check) == ["repaired"] * len(problem.steps)


def test_a_slip_that_is_the_beginning_of_the_result_is_wrong_once_its_number_ends() -> None:
    for opening, sign, closing in (("", "/", ""), ("\\(", " \\div ", "\\)")):
        start = f"{opening}22{sign}2=1"
        steps = (Step(22, "/", 2, 11),)
        assert check_steps(start, steps).correct_so_far
        wrong = f"{start}{closing}\nwait, {opening}22{sign}2=1"
        for end in range(len(start) + 1, len(wrong) + 1):
            assert check_steps(wrong[:end], steps).correct_so_far is False
        assert check_steps(wrong + "1", steps).correct_so_far


def test_a_step_starts_and_ends_at_the_characters_of_its_equation_in_every_notation() -> None:
    rng = random.Random(2)
    for index, (slips, notation) in enumerate(itertools.product((0, 1), NOTATIONS)):
        problem = SHORT[index]
        response = respond(problem, of_one_kind(*notation, slips=slips), rng)
        spaces, latex = " " * notation[1], notation[2]
        products = ("\\cdot", "\\times") if latex else ("*", "x")
        signs = {"*": products[notation[3]], "/": "\\div" if latex else "/"}
        written = check_steps(response, problem.steps).written
        for step, found in zip(problem.steps, written, strict=True):
            left, _, result = response[found.start : found.end].rpartition(f"{spaces}={spaces}")
            sign = signs.get(step.operator, step.operator)
            assert left == f"{step.left}{spaces}{sign}{spaces}{step.operand}"
            assert (int(result) == step.right) == (not slips)
            assert response[: found.start].endswith("\\(") == bool(latex)
            assert response[found.end :].startswith("\\)") == bool(latex)


def with_wrong_digit(response: str, rng: random.Random) -> str:
    place = rng.choice([found.start() for found in re.finditer(r"\d", response)])
    digit = rng.choice([digit for digit in "0123456789" if digit != response[place]])
    return response[:place] + digit + response[place + 1 :]


def without_repair(response: str, rng: random.Random) -> str:
    repairs = list(re.finditer(r"\nwait, [^\n]*| Wait, .*?\.(?= |\n|$)", response))
    if not repairs:
        return response
    repair = rng.choice(repairs)
    return response[: repair.start()] + response[repair.end() :]


def with_wrong_repair(response: str, rng: random.Random) -> str:
    repairs = list(re.finditer(r"(?<=ait, )[^\n=]*= ?(\d+)", response))
    if not repairs:
        return response
    start, end = rng.choice(repairs).span(1)
    wrong = max(0, int(response[start:end]) + rng.choice((-100, -10, -1, 1, 10, 100)))
    return f"{response[:start]}{wrong}{response[end:]}"


def without_step(response: str, rng: random.Random) -> str:
    lines = response.split("\n")
    del lines[rng.choice([index for index, line in enumerate(lines) if "=" in line])]
    return "\n".join(lines)


def with_step_doubled(response: str, rng: random.Random) -> str:
    lines = response.split("\n")
    index = rng.choice([index for index, line in enumerate(lines) if "=" in line])
    return "\n".join(lines[: index + 1] + lines[index:])


def with_steps_swapped(response: str, rng: random.Random) -> str:
    lines = response.split("\n")
    index = rng.choice([index for index, line in enumerate(lines) if "=" in line])
    other = rng.choice([index for index, line in enumerate(lines) if "=" in line])
    lines[index], lines[other] = lines[other], lines[index]
    return "\n".join(lines)


def with_wrong_box(response: str, rng: random.Random) -> str:
    start, end = rng.choice(list(re.finditer(r"(?<=\\boxed\{)\d*", response))).span()
    wrong = rng.choice(
        (response[start:end][:-1], f"{response[start:end]}1", f"{rng.randint(1, 999)}")
    )
    return response[:start] + wrong + response[end:]


def with_wrong_operation(response: str, rng: random.Random) -> str:
    found = rng.choice(list(EQUATION.finditer(response)))
    latex = response[: found.start()].endswith("\\(")
    signs = ["+", "-", *(("\\times", "\\cdot", "\\div") if latex else ("*", "x", "/"))]
    start, end = found.span("sign")
    return response[:start] + rng.choice(signs) + response[end:]


def with_numbers_swapped(response: str, rng: random.Random) -> str:
    found = rng.choice(list(EQUATION.finditer(response)))
    left, right = re.findall(r"\d+", found[0])[:2]
    start, end = found.start(), found.start("sign")
    swapped = right + response[start + len(left) : end] + found["sign"]
    behind = response[found.end("sign") : found.end()].replace(right, left, 1)
    return response[:start] + swapped + behind + response[found.end() :]


def cut_off(response: str, rng: random.Random) -> str:
    return response[: rng.randrange(len(response))]


Mutation = Callable[[str, random.Random], str]
MUTATIONS: tuple[Mutation, ...] = (
    with_wrong_digit,
    without_repair,
    with_wrong_repair,
    without_step,
    with_step_doubled,
    with_steps_swapped,
    with_wrong_box,
    with_wrong_operation,
    with_numbers_swapped,
)


def test_the_verifier_and_the_evaluator_agree_on_responses_with_slips_repairs_and_boxes() -> None:
    rng = random.Random(0)
    seen = Counter[str]()
    for index, problem in enumerate(PROBLEMS):
        habits = GOING_ON if index % 2 else MIXED
        response = respond(problem, habits, rng)
        check = assert_agrees(problem, response)
        assert habits == GOING_ON or check.correct_so_far is True
        seen.update(verdicts(check))
        seen["checked"] += "check:" in response
    assert seen["right"] > 40_000 and seen["repaired"] > 5_000 and seen["wrong"] > 1_000
    assert seen["checked"] > 3_000
    assert set(seen) == {"right", "repaired", "wrong", "checked"}


def test_the_verifier_and_the_evaluator_agree_on_mutated_responses_cut_off_or_not() -> None:
    rng = random.Random(1)
    seen: dict[str, Counter[bool | None]] = {}
    for index, problem in enumerate(PROBLEMS):
        response = respond(problem, GOING_ON, rng)
        mutation = rng.choice(MUTATIONS)
        mutated = mutation(response, rng)
        check = assert_agrees(problem, mutated)
        if index % 2:
            assert_agrees(problem, cut_off(mutated, rng))
        if mutated != response:
            seen.setdefault(mutation.__name__, Counter())[check.correct_so_far] += 1
    assert len(seen) == len(MUTATIONS)
    for counts in seen.values():
        assert counts[False] > 200
        assert counts[None] == 0


def test_the_verifier_and_the_evaluator_agree_on_responses_mutated_several_times() -> None:
    rng = random.Random(2)
    seen = Counter[str]()
    for problem in PROBLEMS[:1500]:
        response = respond(problem, GOING_ON, rng)
        for mutation in rng.choices(MUTATIONS, k=rng.randint(2, 4)):
            if EQUATION.search(response):
                response = mutation(response, rng)
        seen.update(verdicts(assert_agrees(problem, response)))
        seen.update(verdicts(assert_agrees(problem, cut_off(response, rng))))
    assert min(seen["right"], seen["wrong"], seen["repaired"]) > 500


def test_the_verifier_and_the_evaluator_agree_at_every_cut_of_mutated_responses() -> None:
    rng = random.Random(3)
    for problem in PROBLEMS[:25]:
        mutated = rng.choice(MUTATIONS)(respond(problem, GOING_ON, rng), rng)
        for end in range(len(mutated) + 1):
            assert_agrees(problem, mutated[:end])


@pytest.mark.parametrize(
    "malformed",
    [
        "47++85=132",
        "47+-85=132",
        "47+85==132",
        "47+85=132=132",
        "47+85=132-16=116",
        "47+85-16=116",
        "47 85 132",
        "47 85=132",
        "47+85 132",
        "47+85132",
        "=132",
        "85=132",
        "+85=132",
        "47+=132",
        "47+85=",
        "47+85",
        "47+",
        "132",
        "132=47+85",
        "-47+85=132",
        "4 7+85=132",
        "47 + 8 5 = 132",
        "47 + 85 = 1 32",
        "4a7+85=132",
        "a47+85=132",
        "47+85=132a",
        "47+85=1a32",
        "47+b+85=132",
        "47 plus 85=132",
        "47.5+85=132.5",
        "47+85=132.0",
        ".47+85=132",
        "47+85=132,000",
        "1,047+85=132",
        "(47+85)=132",
        "47^85=132",
        "47÷85=132",
        "47 × 85 = 132",
        "\\frac{47}{85}=132",
        "47 \\plus 85 = 132",
        "47**85=132",
        "47 \\times\\times 85 = 132",
        "47 x x 85 = 132",
        "47x x85=132",
        "+",
    ],
)
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("", ""),
        ("so ", ""),
        ("add 85: ", ""),
        ("\\(", "\\)"),
        ("Then 85 more come in, so we get ", "."),
        ("Then 85 more come in, so we get \\(", "\\)."),
    ],
)
def test_what_is_no_equation_is_unread_and_the_verifier_abstains_from_there_on(
    malformed: str, opening: str, closing: str
) -> None:
    for before in ("", "47+85=132\n"):
        response = f"{before}{opening}{malformed}{closing}\n132-16=116\n\\boxed{{30}}"
        check = check_steps(response, STEPS)
        assert verdicts(check) == ["right"] * bool(before) + ["unread"]
        assert check.abstains
        assert check.correct_so_far is None


@pytest.mark.parametrize("joined", ["4a7+85=132", "a47+85=132", "1.47+85=132", "1,047+85=132"])
def test_an_equation_behind_words_that_runs_into_more_is_unread(joined: str) -> None:
    assert verdicts(check_steps(f"Now {joined}\n", STEPS)) == ["unread"]
    assert verdicts(check_steps("Now, 47+85=132\n", STEPS)) == ["right"]


@pytest.mark.parametrize("malformed", ["47+85=122\nwait, 47++85=132", "47+85=132\ncheck: 85=132"])
def test_a_restatement_that_cannot_be_read_leaves_the_step_before_as_it_was(
    malformed: str,
) -> None:
    first, second = verdicts(check_steps(f"{malformed}\n", STEPS))
    assert first == ("wrong" if "122" in malformed else "right")
    assert second == "unread"


def doubled_sign(equation: str, rng: random.Random) -> str:
    start, end = EQUATION.fullmatch(equation).span("sign")  # type: ignore[union-attr]
    return equation[:end] + rng.choice("+-*/") + equation[end:]


def chained(equation: str, rng: random.Random) -> str:
    return f"{equation}{rng.choice('=+-*/')}{rng.randint(1, 999)}"


def without_sign(equation: str, rng: random.Random) -> str:
    start, end = EQUATION.fullmatch(equation).span("sign")  # type: ignore[union-attr]
    return equation[:start] + rng.choice(("", " ")) + equation[end:]


def without_equals(equation: str, rng: random.Random) -> str:
    return equation.replace("=", rng.choice(("", " ")))


def without_left(equation: str, rng: random.Random) -> str:
    return equation[equation.index("=") :] if rng.random() < 0.5 else equation.lstrip("0123456789")


def without_result(equation: str, rng: random.Random) -> str:
    return equation.rstrip("0123456789")


def with_letter(equation: str, rng: random.Random) -> str:
    start, end = EQUATION.fullmatch(equation).span("sign")  # type: ignore[union-attr]
    places = [place for place in range(len(equation) + 1) if not start <= place <= end]
    place = rng.choice(places)
    letters = rng.choice("abcdefghijklmnopqrstuvwyz") * rng.randint(1, 3)
    return equation[:place] + letters + equation[place + rng.randint(0, 1) :]


def split_number(equation: str, rng: random.Random) -> str:
    pairs = [found.start() + 1 for found in re.finditer(r"(?=\d\d)", equation)]
    place = rng.choice(pairs)
    return equation[:place] + " " + equation[place:]


def with_decimal(equation: str, rng: random.Random) -> str:
    end = rng.choice([found.end() for found in re.finditer(r"\d+", equation)])
    return f"{equation[:end]}{rng.choice('.,')}{rng.randint(0, 9)}{equation[end:]}"


MALFORMED: tuple[Mutation, ...] = (
    doubled_sign,
    chained,
    without_sign,
    without_equals,
    without_left,
    without_result,
    with_letter,
    split_number,
    with_decimal,
)


def spoiled(rng: random.Random, spoil: Mutation) -> Iterator[tuple[AbacusProblem, str, str, int]]:
    """Problems, a response to each, the same with one equation spoiled, and where that stands."""
    for problem in rng.sample(PROBLEMS, 150):
        response = respond(problem, GOING_ON, rng)
        found = rng.choice(list(EQUATION.finditer(response)))
        text = response[: found.start()] + spoil(found[0], rng) + response[found.end() :]
        yield problem, response, text, found.start()


@pytest.mark.parametrize("spoil", MALFORMED, ids=lambda spoil: spoil.__name__)
def test_an_equation_spoiled_at_random_is_unread_and_what_stands_before_keeps_its_verdict(
    spoil: Mutation,
) -> None:
    rng = random.Random(spoil.__name__)
    for problem, response, text, start in spoiled(rng, spoil):
        check = check_steps(text, problem.steps)
        before = check_steps(response[:start], problem.steps)
        assert verdicts(check) == [*verdicts(before), "unread"], text
        assert check.correct_so_far is None
        assert check.written[-1].start >= start
        assert assert_agrees(problem, text).abstains


def edited(equation: str, rng: random.Random) -> str:
    """With some characters replaced, left out or put in, but without words of their own."""
    characters = list(equation)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(characters))
        kind = rng.choice(("replace", "leave out", "put in"))
        new = rng.choice("0123456789+-*/= xabc")
        put_in = new + characters[place]
        characters[place] = {"replace": new, "leave out": "", "put in": put_in}[kind]
    text = "".join(characters)
    return edited(equation, rng) if re.search(r"(?:^| )x*[abc]", text) else text


def test_the_verifier_and_the_evaluator_agree_on_equations_edited_at_random() -> None:
    rng = random.Random(4)
    seen = Counter[bool | None]()
    for _ in range(20):
        for problem, _, text, _ in spoiled(rng, edited):
            seen[assert_agrees(problem, text).correct_so_far] += 1
    assert seen[None] > 1500 and seen[False] > 300 and seen[True] > 20
