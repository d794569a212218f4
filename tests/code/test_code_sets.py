"""Rows of the published sets, and what the judge is given of them."""

from __future__ import annotations

import json

import pytest
from code_problems import ENCODED, SUMS, TREE, encoded, sums, tree

from decaylab.code.preparing import EVALUATE, EXECUTE, entry_point
from decaylab.code.sets import (
    CodeProblem,
    humaneval,
    humaneval_plus,
    mbpp,
    mbpp_plus,
    shares_objects,
)
from decaylab.errors import UserError


def test_a_problem_is_the_same_after_it_was_written_in_ascii() -> None:
    problem = humaneval({**ENCODED, "prompt": ENCODED["prompt"] + "    # ü\n"})
    text = problem.text()
    assert text.isascii() and CodeProblem.of_text(text) == problem
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize("text", ["42", "{}", '{"suite": "mbpp"}', "\\boxed{1}"])
def test_another_gold_answer_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no code problem"):
        CodeProblem.of_text(text)


def test_humaneval_checks_the_entry_point_and_its_reference_continues_the_prompt() -> None:
    assert encoded().tests.endswith("\ncheck(restored)")
    assert encoded().reference == ENCODED["prompt"] + ENCODED["canonical_solution"]


def test_mbpp_takes_its_asserts_and_its_setup_and_leaves_challenges_out() -> None:
    row = {**SUMS, "challenge_test_list": ["assert added(9, 9) == 18"]}
    problem = mbpp({**row, "test_setup_code": "import math"})
    assert problem.tests.splitlines() == ["import math", *SUMS["test_list"]]
    assert problem.prompt == "" and "\r" not in problem.reference


def test_the_sanitized_mbpp_has_imports_and_its_prompt_elsewhere() -> None:
    row = {name: SUMS[name] for name in ("task_id", "code", "test_list")}
    problem = mbpp({**row, "prompt": SUMS["text"], "test_imports": ["import math"]})
    assert problem.tests.startswith("import math\n") and problem.prompt == ""


@pytest.mark.parametrize(
    "tests, reference, name",
    [
        ("assert f(1) == 2", "def f(x): ...", "f"),
        ("assert set(f(g(1))) == {2}", "def g(x): ...\ndef f(x): ...", "f"),
        ("assert sum(10, 15) == 6", "def sum(a, b): ...", "sum"),
        ("assert int(f(1)) == 2", "broken(", "f"),
        ("assert 1 == 1", "def f(x): ...", None),
    ],
)
def test_the_entry_point_of_mbpp_is_the_function_called_first(
    tests: str, reference: str, name: str | None
) -> None:
    assert entry_point(tests, reference) == name


PLUS_TESTS = """
import numpy as np

def assertion(out, exp, atol):
    assert out == exp or np.allclose(out, exp, rtol=1e-07, atol=atol)

def check(candidate):
    inputs, results = [[""], ["fg"]], ["", "ab"]
    for given, expected in zip(inputs, results):
        assertion(candidate(*given), expected, 0)
"""
"""A stand-in for the columns of evalplus/humanevalplus."""


def test_the_plus_sets_use_their_own_tests() -> None:
    plus = humaneval_plus({**ENCODED, "test": PLUS_TESTS})
    assert "np.allclose" in plus.tests and plus.tests.endswith("check(restored)")
    script = "inputs = [[1, 2]]\nfor given in inputs:\n    assert added(*given) == 3"
    other = mbpp_plus({**SUMS, "test_imports": ["import numpy as np"], "test": script})
    assert other.tests == f"import numpy as np\n{script}"
    assert other.entry_point == "added"


@pytest.mark.parametrize("column", ["entry_point", "test", "prompt", "canonical_solution"])
def test_a_missing_column_of_humaneval_is_named(column: str) -> None:
    for row in ({**ENCODED, column: ""}, {k: v for k, v in ENCODED.items() if k != column}):
        with pytest.raises(UserError, match=rf"HumanEval/38 cannot be judged: no {column}; its"):
            humaneval(row)


@pytest.mark.parametrize("column, value", [("test_list", []), ("test_list", None), ("code", "")])
def test_a_missing_column_of_mbpp_is_named(column: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"problem 11 cannot be judged: no {column}"):
        mbpp({**SUMS, column: value})


def test_tests_that_cannot_be_used_are_named() -> None:
    with pytest.raises(UserError, match="its tests are no Python"):
        mbpp({**SUMS, "test_list": ["assert added(1, == 3"]})
    with pytest.raises(UserError, match="test_list is 5; a list of text is needed"):
        mbpp({**SUMS, "test_list": 5})
    with pytest.raises(UserError, match="its tests call no function"):
        mbpp({**SUMS, "test_list": ["assert 1 == 1"]})
    with pytest.raises(UserError, match="no test; its columns are "):
        mbpp_plus(SUMS)


@pytest.mark.parametrize(
    "test",
    [
        "def check(candidate):\n    pass",
        "def check(candidate):\n    assert True\n\ncheck(restored)",
        "def assertion(out, exp):\n    assert out == exp\n\ndef check(candidate): ...",
        "def check(): ...",
    ],
)
def test_tests_that_cannot_fail_are_refused(test: str) -> None:
    with pytest.raises(UserError, match="problem HumanEval/38 .* never call restored, so that"):
        humaneval({**ENCODED, "test": test})
    with pytest.raises(UserError, match="problem 11 .* never call added, so that"):
        mbpp_plus({**SUMS, "test": test})


@pytest.mark.parametrize(
    "test",
    [
        "def check(f):\n    f('a')",
        "def check(candidate):\n    assert list(map(candidate, 'ab')) == ['v', 'w']",
        "def check(_):\n    assert restored('') == ''",
    ],
)
def test_tests_that_can_fail_are_taken(test: str) -> None:
    assert humaneval({**ENCODED, "test": test}).tests.startswith(test)


@pytest.mark.parametrize("column", ["test_setup_code", "test_imports"])
def test_setup_and_imports_are_text_or_a_list_of_text(column: str) -> None:
    row = {**SUMS, "test_setup_code": ""}
    for value in ("import re\nimport os", ["import re", "import os"]):
        assert mbpp({**row, column: value}).tests.startswith("import re\nimport os\nassert")
    plus = {**row, "test_imports": "import re", "test": "assert added(1, 2) == 3"}
    assert mbpp_plus(plus).tests == "import re\nassert added(1, 2) == 3"
    for wrong in (5, ["import re", 5], {"a": "b"}):
        with pytest.raises(
            UserError, match=rf"problem 11 .* {column} is .*; a list of text is needed"
        ):
            mbpp({**row, column: wrong})


# For the judge


def test_the_judge_runs_the_prompt_and_asks_only_for_the_function() -> None:
    prepared = encoded().prepared()
    assert prepared.before[0] == ENCODED["prompt"]
    assert prepared.functions == ["restored"] and not prepared.shares_objects


def test_imports_of_the_reference_are_there_for_the_tests() -> None:
    row = {**SUMS, "code": "import sys, re\nimport os.path as p\ndef added(a, b): return a + b"}
    assert mbpp(row).prepared().before == []
    row["test_list"] = ["assert added(1, 2) == sys.maxsize"]
    assert mbpp(row).prepared().before == ["import sys, re"]
    row["test_list"] = ["assert added(1, 2) == len(p.sep)"]
    assert mbpp(row).prepared().before == ["import os.path as p"]


def test_a_second_function_of_the_reference_is_asked_for_too() -> None:
    row = {**SUMS, "code": "def added(a, b): ...\ndef twice(a): ...\ndef unused(): ..."}
    problem = mbpp({**row, "test_list": ["assert added(twice(1), 1) == 3"]})
    assert problem.prepared().functions == ["added", "twice"]


def test_only_statements_that_need_the_programs_objects_go_to_it() -> None:
    prepared = tree().prepared()
    assert prepared.shares_objects
    assert shares_objects(tree().text()) and not shares_objects(sums().text())
    assert prepared.tests.splitlines() == [
        f"{EXECUTE}('root = Node(1)')",
        f"{EXECUTE}('root.left = Node(2)')",
        f"{EXECUTE}('root.left.right = Node(3)')",
        f"assert {EVALUATE}('height(root)') == 3",
        f"assert {EVALUATE}('height(Node(7))') == 1",
    ]
    assert TREE["test_list"][0] in tree().tests, "the problem keeps its own tests"


def test_an_assertion_is_never_made_beside_the_program() -> None:
    """A program could define `assertion` itself."""
    tests = [
        "def assertion(out, exp):\n    assert out == exp",
        "found = height(root)",
        "assertion(set([height(root.left)]), {2})",
        "assertion(found, max(3, len('abc')))",
        "root.grow(1)",
        "for node in [root]:\n    assertion(node, 1)",
    ]
    prepared = mbpp({**TREE, "test_list": tests}).prepared()
    assert prepared.tests.splitlines()[3:] == [
        "def assertion(out, exp):",
        "    assert out == exp",
        f"{EXECUTE}('found = height(root)')",
        f"assertion(set([{EVALUATE}('height(root.left)')]), {{2}})",
        f"assertion({EVALUATE}('found'), max(3, len('abc')))",
        f"{EVALUATE}('root.grow(1)')",
        f"for node in [{EVALUATE}('root')]:",
        "    assertion(node, 1)",
    ]
