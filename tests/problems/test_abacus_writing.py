"""The writer of responses to abacus problems: its habits, its slips, its checks and its boxes."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import abacus_evaluator
import pytest

from decaylab.problems import abacus
from decaylab.problems.abacus import AbacusProblem, Step
from decaylab.problems.abacus_writing import LEADS, Habits, broken, respond, slip

PROBLEMS = abacus.generate(3000, seed=11)
NEVER, ALWAYS = (0.0, 0.0), (1.0, 1.0)
HABITS = Habits(
    verbose=0.4,
    spaced=0.7,
    latex=0.45,
    cross=0.65,
    openings=(0.2, 0.3, 0.5),
    leads=(0.5, 0.2, 0.3),
    slips=(0.06, 0.1),
    checks=0.15,
    constancy=0.8,
)
CONCISE, VERBOSE = replace(HABITS, verbose=0.0), replace(HABITS, verbose=1.0)
NUMBERS = re.compile(r"\d+ ?(?:[-+*/x]|\\times|\\cdot|\\div) ?\d+ ?= ?(\d+)")
EQUATION = re.compile(r"(wait, )?(?:\\\()?(\d+) ?[-+*/x\\a-z]+ ?(\d+) ?= ?(\d+)", re.IGNORECASE)
SIGNS = {
    ("+", False): {"+"},
    ("-", False): {"-"},
    ("*", False): {"*", "x"},
    ("/", False): {"/"},
    ("+", True): {"+"},
    ("-", True): {"-"},
    ("*", True): {r"\cdot", r"\times"},
    ("/", True): {r"\div"},
}


def written(habits: Habits, seed: int = 0, count: int = len(PROBLEMS)) -> list[str]:
    rng = random.Random(seed)
    return [respond(problem, habits, rng) for problem in PROBLEMS[:count]]


def step_lines(response: str) -> list[str]:
    """The lines on which a response writes its steps, a line each where it does not slip."""
    before_box = response.partition("\\boxed")[0]
    return [line for line in before_box.split("\n") if "=" in line]


def assert_share(found: int, of: int, share: float) -> None:
    """Within 4 standard deviations of a binomial count."""
    assert of >= 1000
    assert abs(found - of * share) <= 4 * math.sqrt(of * share * (1 - share)), (found, of, share)


def first_lines(habits: Habits) -> list[str]:
    """The first step of each response; steps of one response share their notation, so the shares
    of first steps alone are binomial."""
    lines = []
    for response in written(replace(habits, slips=NEVER)):
        lines.append(step_lines(response)[0])
    return lines


def goes_on(value: int, steps: Sequence[Step]) -> bool:
    """Whether the same operations give whole results of at least 1 from another value."""
    now = Fraction(value)
    for step in steps:
        now = {
            "+": now + step.operand,
            "-": now - step.operand,
            "*": now * step.operand,
            "/": now / step.operand,
        }[step.operator]
        if now < 1 or now.denominator > 1:
            return False
    return True


def test_the_examples_of_the_module_are_what_a_writer_may_write() -> None:
    steps = (Step(38, "+", 55, 93), Step(93, "*", 2, 186))
    problem = AbacusProblem("Sam", "shells", steps, "")
    concise = "add 55: 38+55=83\nwait, 38+55=93\n93*2=186\n\\boxed{186}"
    verbose = (
        "First, Sam has 38 shells.\n"
        "Then 55 more come in, so we get \\(38 + 55 = 93\\).\n"
        "Next, the number doubles, so we get 93 x 2 = 186.\n"
        "Thus the answer is \\boxed{186}. To check: 93 x 2 = 186.\n"
        "So the answer is \\boxed{186}."
    )
    rng = random.Random(0)
    habits = Habits(0.0, 0.1, 0.1, 0.1, (1, 0, 1), (1, 0, 0), (0.5, 0.5), 0.0, constancy=0.2)
    assert concise in {respond(problem, habits, rng) for _ in range(3000)}
    habits = Habits(1.0, 0.9, 0.5, 0.9, (1, 0, 0), (1, 1, 0), (0.1, 0.1), 0.9, constancy=0.2)
    assert verbose in {respond(problem, habits, rng) for _ in range(3000)}


def test_the_share_of_verbose_responses_is_the_habit_s() -> None:
    verbose = [response[0].isupper() for response in written(HABITS)]
    assert_share(sum(verbose), len(verbose), HABITS.verbose)


@pytest.mark.parametrize("habits", [CONCISE, VERBOSE], ids=["concise", "verbose"])
def test_the_shares_of_spacing_and_delimiters_are_the_habit_s(habits: Habits) -> None:
    lines = first_lines(habits)
    assert_share(sum(" = " in line for line in lines), len(lines), habits.spaced)
    assert_share(sum("\\(" in line for line in lines), len(lines), habits.latex)


@pytest.mark.parametrize("habits", [CONCISE, VERBOSE], ids=["concise", "verbose"])
def test_the_share_of_crosses_among_products_is_the_habit_s(habits: Habits) -> None:
    found: list[bool] = []
    for response in written(replace(habits, slips=NEVER, constancy=0.0)):
        lines = "\n".join(step_lines(response))
        found += [sign in ("x", "\\times") for sign in re.findall(r"\d ?(x|\*|\\\w+) ?\d", lines)]
    products = sum(1 for problem in PROBLEMS for step in problem.steps if step.operator == "*")
    quotients = sum(1 for problem in PROBLEMS for step in problem.steps if step.operator == "/")
    assert products < len(found) < products + quotients  # \div is among what was found
    assert_share(sum(found), products, habits.cross)


def test_the_shares_of_openings_of_concise_steps_are_the_habit_s() -> None:
    lines = first_lines(CONCISE)
    kinds = Counter(
        "name" if ": " in line else "so" if line.startswith("so ") else "bare" for line in lines
    )
    for kind, share in zip(("bare", "so", "name"), CONCISE.openings, strict=True):
        assert_share(kinds[kind], len(lines), share)


def test_the_shares_of_leads_of_verbose_steps_are_the_habit_s() -> None:
    lines = first_lines(VERBOSE)
    leads = Counter(lead for line in lines for lead in LEADS if line.startswith(f"{lead} "))
    assert leads.total() == len(lines)
    for lead, share in zip(LEADS, VERBOSE.leads, strict=True):
        assert_share(leads[lead], len(lines), share)


@pytest.mark.parametrize("habits", [CONCISE, VERBOSE], ids=["concise", "verbose"])
def test_the_shares_of_slips_and_of_checks_are_the_habit_s(habits: Habits) -> None:
    responses = written(habits)
    slips = sum(response.lower().count("wait, ") for response in responses)
    checks = sum("check: " in response for response in responses)
    steps = sum(len(problem.steps) for problem in PROBLEMS)
    assert_share(slips, steps, habits.slips[int(habits.verbose)])
    assert_share(checks, len(responses), habits.checks)


@pytest.mark.parametrize("constancy", [0.0, 0.6, 1.0])
def test_a_step_keeps_the_notation_of_the_response_as_often_as_the_writer_is_constant(
    constancy: float,
) -> None:
    habits = replace(CONCISE, slips=NEVER, spaced=0.5, constancy=constancy)
    agree = []
    for response in written(habits):
        first, second = (" = " in line for line in step_lines(response)[:2])
        agree.append(first == second)
    assert_share(sum(agree), len(agree), constancy**2 + (1 - constancy**2) / 2)


def test_a_constant_writer_writes_every_step_of_a_response_alike() -> None:
    for response in written(replace(HABITS, constancy=1.0), count=500):
        lines = step_lines(response)
        assert len({" = " in line for line in lines}) == 1
        assert len({"\\(" in line for line in lines} | {"\\(\\boxed" in response}) == 1
        products = re.findall(r"\d ?(x|\*|\\times|\\cdot) ?\d", response)
        assert len(set(products)) <= 1


def test_what_a_habit_never_does_is_never_written() -> None:
    never = Habits(0.0, 0.0, 0.0, 0.0, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), NEVER, 0.0)
    for problem, response in zip(PROBLEMS, written(never, count=300)):
        equations = [str(step) for step in problem.steps]
        assert response.split("\n") == [*equations, f"\\boxed{{{problem.answer}}}"]


def test_every_step_is_written_with_its_own_numbers_and_a_sign_of_its_operation() -> None:
    equation = re.compile(r"(\\\()?(\d+)( ?)([-+*/x]|\\\w+)\3(\d+)\3=\3(\d+)(\\\))?")
    for habits in (CONCISE, VERBOSE):
        for problem, response in zip(PROBLEMS, written(replace(habits, slips=NEVER), count=1000)):
            lines = step_lines(response)
            for step, line in zip(problem.steps, lines, strict=True):
                found = equation.search(line)
                assert found
                opened, left, _, sign, operand, right, closed = found.groups()
                assert (int(left), int(operand), int(right)) == (
                    step.left,
                    step.operand,
                    step.right,
                )
                assert bool(opened) == bool(closed)
                assert sign in SIGNS[step.operator, bool(opened)]


@pytest.mark.parametrize("habits", [VERBOSE, replace(CONCISE, openings=(0.0, 0.0, 1.0))])
def test_a_verbose_step_and_a_named_one_tell_the_operation_of_the_problem(habits: Habits) -> None:
    times = {2: "doubles", 3: "triples", 4: "quadruples"}
    parts = {2: "two", 3: "three", 4: "four", 5: "five"}
    for problem, response in zip(PROBLEMS, written(replace(habits, slips=NEVER), count=500)):
        for step, line in zip(problem.steps, step_lines(response), strict=True):
            number = step.operand
            retold, named = {
                "+": (f"{number} more come in", f"add {number}: "),
                "-": (f"{number} are gone", f"take {number}: "),
                "*": (f"the number {times.get(number)}", f"times {number}: "),
                "/": (
                    f"{problem.name} keeps one of {parts.get(number)} parts",
                    f"share by {number}: ",
                ),
            }[step.operator]
            if habits.verbose:
                assert f" {retold}, so we get " in line
            else:
                assert line.startswith(named)


def test_every_slip_is_a_wrong_result_of_its_step_and_is_repaired_at_once_in_its_notation() -> None:
    slipping = replace(HABITS, slips=ALWAYS, checks=0.0)
    for problem, response in zip(PROBLEMS, written(slipping, count=1000)):
        found = list(NUMBERS.finditer(response))
        assert len(found) == 2 * len(problem.steps)
        for step, wrong, repair in zip(problem.steps, found[::2], found[1::2], strict=True):
            assert int(wrong[1]) != step.right
            assert int(repair[1]) == step.right
            assert wrong[0].removesuffix(wrong[1]) == repair[0].removesuffix(repair[1])
            between = response[wrong.end() : repair.start()]
            assert between in ("\nwait, ", "\\)\nwait, \\(", ". Wait, ", "\\). Wait, \\(")


def test_the_box_and_the_check_keep_the_notation_of_the_last_step() -> None:
    seen = Counter[bool]()
    for response in written(replace(HABITS, slips=NEVER, checks=1.0, constancy=0.0), count=500):
        last = step_lines(response)[-1]
        latex = "\\(" in last
        assert response.count("\\(\\boxed{") == (2 if latex else 0)
        _, _, check = response.partition("check: ")
        equation = check.partition("\n")[0].removesuffix(".")
        assert equation.startswith("\\(") == latex
        assert last.removesuffix(".").endswith(equation)
        seen[latex] += 1
    assert min(seen.values()) > 100


def test_without_slips_no_step_is_wrong_and_with_them_each_is_put_right() -> None:
    for slips, verdicts in (
        (NEVER, {"right"}),
        ((0.3, 0.3), {"right", "repaired"}),
        (ALWAYS, {"repaired"}),
    ):
        for problem, response in zip(PROBLEMS, written(replace(HABITS, slips=slips), count=500)):
            reading = abacus_evaluator.read(problem.question, response)
            assert len(reading.steps) == len(problem.steps)
            assert {step.verdict for step in reading.steps} <= verdicts
            assert reading.correct_so_far


def test_every_box_holds_the_answer_and_a_check_restates_the_last_step() -> None:
    seen = Counter[bool]()
    for problem, response in zip(PROBLEMS, written(replace(HABITS, checks=0.5), count=1000)):
        boxes = re.findall(r"\\boxed\{(\d+)\}", response)
        _, check, behind = response.partition("check: ")
        assert boxes == [str(problem.answer)] * (2 if check else 1)
        assert response.rstrip(".)\\").endswith(f"\\boxed{{{problem.answer}}}")
        if check:
            assert NUMBERS.search(behind).group(1) == str(problem.answer)
        seen[bool(check)] += 1
    assert min(seen.values()) > 300


def test_who_never_notices_goes_on_from_a_slip_where_it_can_and_boxes_what_comes_of_it() -> None:
    habits = replace(HABITS, slips=(0.3, 0.3), unnoticed=1.0, checks=0.3)
    seen = Counter[str]()
    for problem, response in zip(PROBLEMS, written(habits, count=1000)):
        equations = list(EQUATION.finditer(response))
        value = problem.steps[0].left
        for place, step in enumerate(problem.steps):
            found = equations.pop(0)
            left, operand, result = map(int, found.groups()[1:])
            assert (left, operand) == (value, step.operand)
            right = eval(f"{left}{step.operator}{operand}")
            rest = problem.steps[place + 1 :]
            if equations and equations[0][1]:
                repair = equations.pop(0)
                assert [int(number) for number in repair.groups()[1:]] == [left, operand, right]
                assert not goes_on(result, rest)
                seen["repaired"] += 1
                result = right
            elif result != right:
                assert goes_on(result, rest)
                seen["unnoticed"] += 1
            value = result
        assert set(re.findall(r"\\boxed\{(\d+)\}", response)) == {str(value)}
        for check in equations:  # of the last step as it stands
            assert (int(check[2]), int(check[4])) == (left, value)
        reading = abacus_evaluator.read(problem.question, response)
        assert len(reading.steps) == len(problem.steps)
    assert min(seen["repaired"], seen["unnoticed"]) > 100


@pytest.mark.parametrize("habits", [CONCISE, VERBOSE], ids=["concise", "verbose"])
def test_the_share_of_unnoticed_slips_among_those_that_allow_to_go_on_is_the_habit_s(
    habits: Habits,
) -> None:
    # What comes last can always stand.
    one = abacus.generate(3000, seed=1, difficulty=abacus.Difficulty(min_steps=1, max_steps=1))
    slipping = replace(habits, slips=ALWAYS, unnoticed=0.3, checks=0.0)
    rng = random.Random(0)
    responses = [respond(problem, slipping, rng) for problem in one]
    unnoticed = sum("wait, " not in response.lower() for response in responses)
    assert_share(unnoticed, len(one), 0.3)


@pytest.mark.parametrize(
    ("step", "other_operation"),
    [
        (Step(90, "+", 20, 110), 70),
        (Step(90, "-", 20, 70), 110),
        (Step(90, "*", 4, 360), 94),
        (Step(90, "/", 3, 30), 87),
    ],
    ids=str,
)
def test_the_kinds_of_slips_come_in_their_shares(step: Step, other_operation: int) -> None:
    rng = random.Random(0)
    slips = [slip(step, rng) for _ in range(4000)]
    assert {replace(wrong, right=step.right) for wrong in slips} == {step}
    right = step.right
    shares = {right - 10: 0.15, right + 10: 0.15, right - 1: 0.075, right + 1: 0.075}
    shares |= {other_operation: 0.3, step.left: 0.25}
    found = Counter(wrong.right for wrong in slips)
    assert found.keys() == shares.keys()
    for result, share in shares.items():
        assert_share(found[result], 4000, share)


@pytest.mark.parametrize(
    ("step", "results"),
    [
        (Step(4, "/", 2, 2), {1, 3, 4, 12}),  # 4-2 is right, too
        (Step(12, "-", 10, 2), {1, 3, 12, 22}),
        (Step(10, "+", 20, 30), {10, 20, 29, 31, 40}),  # 10-20 is below nought
        (Step(22, "-", 2, 20), {10, 19, 21, 22, 24, 30}),
    ],
    ids=str,
)
def test_a_slip_is_wrong_and_above_nought(step: Step, results: set[int]) -> None:
    rng = random.Random(0)
    assert {slip(step, rng).right for _ in range(400)} == results


def test_what_is_broken_ends_with_a_wrong_step_behind_steps_that_are_right() -> None:
    rng = random.Random(0)
    for problem in PROBLEMS:
        response = broken(problem, replace(HABITS, slips=ALWAYS, checks=1.0), rng)
        reading = abacus_evaluator.read(problem.question, response)
        *before, last = [step.verdict for step in reading.steps]
        assert before == ["right"] * len(before)
        assert last == "wrong"
        assert reading.correct_so_far is False
        end = reading.steps[-1].end
        assert response[end:].strip(".)\\") == ""
        assert response[end - 1].isdigit()
        right = problem.steps[len(before)].right
        assert not str(right).startswith(NUMBERS.findall(response)[-1])


def test_each_step_is_as_likely_to_be_the_broken_one_in_either_style() -> None:
    rng = random.Random(1)
    problem = next(problem for problem in PROBLEMS if len(problem.steps) == 5)
    texts = [broken(problem, HABITS, rng) for _ in range(4000)]
    assert_share(sum(text[0].isupper() for text in texts), 4000, HABITS.verbose)
    lengths = Counter(len(NUMBERS.findall(text)) for text in texts)
    assert set(lengths) == set(range(1, 6))
    for count in lengths.values():
        assert_share(count, 4000, 1 / 5)


@pytest.mark.parametrize(
    ("step", "results"),
    [
        (Step(22, "/", 2, 11), {10, 12, 20, 21, 22}),  # not 1
        (Step(11, "+", 99, 110), {100, 109, 111, 120}),  # not 11
        (Step(50, "-", 40, 10), {9, 11, 20, 50, 90}),
    ],
    ids=str,
)
def test_what_is_broken_cannot_become_right_by_another_digit(step: Step, results: set[int]) -> None:
    rng = random.Random(0)
    problem = AbacusProblem("Sam", "shells", (step,), "")
    habits = replace(CONCISE, openings=(1.0, 0.0, 0.0), spaced=0.0, latex=0.0)
    expected = {str(replace(step, right=result)) for result in results}
    assert {broken(problem, habits, rng) for _ in range(400)} == expected


def test_what_is_broken_begins_as_a_response_of_the_same_writer_does() -> None:
    rng = random.Random(0)
    habits = replace(HABITS, slips=NEVER, checks=0.0, verbose=1.0)
    openings = {broken(problem, habits, rng).split("\n")[0] for problem in PROBLEMS[:1] * 100}
    assert openings == {respond(PROBLEMS[0], habits, rng).split("\n")[0] for _ in range(100)}
    assert len(openings) == 3


def test_the_same_seed_gives_the_same_responses() -> None:
    assert written(HABITS, seed=1, count=100) == written(HABITS, seed=1, count=100)
    assert written(HABITS, seed=1, count=100) != written(HABITS, seed=2, count=100)
    first, again, other = (
        [broken(problem, HABITS, rng) for problem in PROBLEMS[:100]]
        for rng in map(random.Random, (1, 1, 2))
    )
    assert first == again != other
