"""Grading: the case table, and workers that hang."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Grader, Grades, Verdict

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "grading_cases.jsonl").read_text().splitlines()
]
TOWER = r"\boxed{9^{9^{9^{9}}}}"  # sympy computes it until the machine is full


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_seconds=30) as started:
        yield started


@pytest.fixture(scope="module")
def graded_cases(grader: Grader) -> Grades:
    return grader.grade([case["response"] for case in CASES], [case["answer"] for case in CASES])


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=[f"{i}-{case['origin'][:40]}" for i, case in enumerate(CASES)]
)
def test_case_gets_the_verdicts_of_its_reader(graded_cases: Grades, index: int) -> None:
    expected = CASES[index]["verdicts"]
    assert {rule: str(graded_cases.verdicts[rule][index]) for rule in expected} == expected, CASES[
        index
    ]


def test_case_table_is_large_enough_and_says_where_its_cases_come_from() -> None:
    real = [case for case in CASES if case["origin"].startswith("SmolLM2-135M-Instruct")]
    assert len(CASES) >= 70 and len(real) >= 25
    assert all(set(case["verdicts"]) <= set(ANSWER_RULES) for case in CASES)
    assert {verdict for case in CASES for verdict in case["verdicts"].values()} == {
        "correct",
        "wrong",
        "no_answer",
    }


# --- The grader
# ---------------------------------------------------------------------------


def test_only_the_hanging_response_times_out() -> None:
    responses = [rf"\boxed{{{number}}}" for number in range(100)]
    responses[40] = TOWER
    with Grader(timeout_seconds=2) as grader:
        grades = grader.grade(responses, ["7"] * 40 + ["5"] + ["7"] * 59, rules=["last_boxed"])
        again = grader.grade([r"\boxed{7}"], ["7"])  # the replaced worker goes on
    verdicts = grades.verdicts["last_boxed"]
    assert [index for index, verdict in enumerate(verdicts) if verdict is Verdict.TIMEOUT] == [40]
    assert [index for index, verdict in enumerate(verdicts) if verdict.is_correct] == [7]
    assert grades.counts("last_boxed") == {
        Verdict.CORRECT: 1,
        Verdict.WRONG: 98,
        Verdict.NO_ANSWER: 0,
        Verdict.TIMEOUT: 1,
        Verdict.NOT_APPLICABLE: 0,
        Verdict.ERROR: 0,
        Verdict.OUT_OF_MEMORY: 0,
    }
    assert all(again.correct(rule) == [True] for rule in ANSWER_RULES)


def test_a_timeout_of_one_rule_leaves_the_others_their_verdicts() -> None:
    with Grader(timeout_seconds=2) as grader:
        grades = grader.grade(
            [rf"{TOWER} \boxed{{5}}"], ["5"], rules=["first_boxed", "last_boxed", "gsm8k"]
        )
    assert {rule: verdicts[0] for rule, verdicts in grades.verdicts.items()} == {
        "first_boxed": Verdict.TIMEOUT,
        "last_boxed": Verdict.CORRECT,
        "gsm8k": Verdict.CORRECT,
    }


def test_boxes_side_by_side_answer_a_list(grader: Grader) -> None:
    responses = [
        r"So \boxed{2} and \boxed{3}.",
        r"$x = \boxed{3}$, $\boxed{2}$",
        r"\boxed{2} is one, then \boxed{3}",
    ]
    grades = grader.grade(responses, ["2,3"] * 3)
    assert grades.correct("last_boxed") == grades.correct("first_boxed") == [True, True, False]
    alone = grader.grade(responses, ["3"] * 3).verdicts  # the last box alone still counts
    assert [verdict.is_correct for verdict in alone["last_boxed"]] == [True, False, True]


def test_grading_works_outside_the_main_thread(grader: Grader) -> None:
    found: list[Grades] = []
    thread = threading.Thread(
        target=lambda: found.append(grader.grade([r"\boxed{\sqrt{8}}"], [r"2\sqrt{2}"]))
    )
    thread.start()
    thread.join(timeout=60)
    assert found[0].verdicts["last_boxed"] == [Verdict.CORRECT]


def test_order_and_repetition_change_no_verdict(grader: Grader, graded_cases: Grades) -> None:
    order = list(range(len(CASES))) * 2
    random.Random(1).shuffle(order)
    with Grader(workers=2, timeout_seconds=30) as fresh:  # knows nothing yet
        for judge in (grader, fresh):
            picked = order if judge is grader else order[:60]
            grades = judge.grade(
                [CASES[i]["response"] for i in picked], [CASES[i]["answer"] for i in picked]
            )
            for rule in ANSWER_RULES:
                assert grades.verdicts[rule] == [graded_cases.verdicts[rule][i] for i in picked]


def test_unparsable_gold_answers_are_named(grader: Grader) -> None:
    answers = [
        "12",
        "",
        r"\frac{1}{",
        r"\text{Evelyn}",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        r"\sum_{",
        "(3,4]",
        "°",
    ]
    assert grader.unparsable(answers) == [1, 2, 5, 7]


def test_misuse_is_refused(grader: Grader) -> None:
    with pytest.raises(ValueError, match="2 responses and 1 answers"):
        grader.grade(["1", "2"], ["1"])
    with pytest.raises(ValueError, match="got second_boxed"):
        grader.grade(["1"], ["1"], rules=["second_boxed"])
    with pytest.raises(ValueError, match="must be positive"):
        Grader(timeout_seconds=0)


def test_nothing_to_grade_starts_no_worker() -> None:
    grader = Grader()
    assert grader.grade([], []).verdicts == {rule: [] for rule in ANSWER_RULES}
    assert grader._pool == []


def test_worker_imports_no_torch_and_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import logging, sys\n"
        "logging.disable(logging.CRITICAL)\n"
        "from decaylab.problems.symbolic import math_equal\n"
        "from decaylab.problems.grading import Grader\n"
        "print('main runs')\n"
        "print(Grader().grade([r'\\boxed{12}'], ['12']).correct('last_boxed'))\n"
        "math_equal('x', 'y', 6)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split("\n")[:3] == ["main runs", "[True]", "False"]
    assert done.stderr == ""
