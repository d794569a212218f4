"""Programs get the verdict that their tests give, however the two are kept apart."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from code_problems import ENCODED, SUMS, TREE, asserting, encoded, needs_sandbox, sums, tree

from decaylab.code import blocks, grading
from decaylab.code.grading import check_references, judge
from decaylab.code.running import Outcome, Runner
from decaylab.code.sets import CodeProblem, humaneval_plus, mbpp, mbpp_plus
from decaylab.errors import UserError

pytestmark = needs_sandbox
Case = tuple[str, str, str]  # tests, program, verdict


def judged(*cases: Case, sandboxed: bool = True) -> list[Outcome]:
    """The outcomes of programs against tests of `answer`."""
    asked = [("whole", program, asserting(tests).text()) for tests, program, _ in cases]
    return judge(asked, sandboxed=sandboxed, timeout_seconds=30)


def outcome(tests: str, program: str) -> Outcome:
    return judged((tests, program, ""))[0]


CASES: dict[str, Case] = {
    "correct": ("assert answer(2) == 4", "def answer(x): return x + x", "passed"),
    "wrong": ("assert answer(3) == 9", "def answer(x): return x + x", "failed"),
    "equal numbers of two types": ("assert answer() == 1", "def answer(): return 1.0", "passed"),
    "a list is no tuple": ("assert answer() == (1, 2)", "def answer(): return [1, 2]", "failed"),
    "a set": (
        "assert answer({1, 2}) == {2, 3}",
        "def answer(x): return {y + 1 for y in x}",
        "passed",
    ),
    "a complex number": ("assert answer(1j) == -1", "def answer(x): return x * x", "passed"),
    "nan is not nan": (
        "assert answer() == float('nan')",
        "def answer(): return float('nan')",
        "failed",
    ),
    "in place": (
        "given = [3, 1]\nanswer(given)\nassert given == [1, 3]",
        "def answer(x): x.sort()",
        "passed",
    ),
    "in place, inside": (
        "row = [1]\nanswer({'a': row}, more=[2])\nassert row == [1, 5]",
        "def answer(x, more): x['a'].append(5)",
        "passed",
    ),
    "an expected exception": (
        "try:\n    answer(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False",
        "def answer(x): return 1 / x",
        "passed",
    ),
    "an exception of its own": (
        "answer(0)",
        "class Own(KeyError): pass\ndef answer(x): raise Own('key')",
        "error",
    ),
    "a generator in a tuple": (
        "assert tuple(answer(3)) == (0, 1, 2)",
        "def answer(n):\n    yield from range(n)",
        "passed",
    ),
    "a type as an argument": (
        "assert answer((1, 'a'), str) == ['a']",
        "def answer(x, kind): return [y for y in x if type(y) is kind]",
        "passed",
    ),
    "a fraction": (
        "assert abs(answer(3) - 1 / 3) < 1e-9 and answer(2) == 0.5",
        "from fractions import Fraction\ndef answer(x): return Fraction(1, x)",
        "passed",
    ),
    "a decimal": (
        "assert answer('7.5') == 7.5 and answer('0.1') != 0.1",
        "from decimal import Decimal\ndef answer(x): return Decimal(x)",
        "passed",
    ),
    "a decimal equal to everything": (
        "assert answer('7.5') == 7",
        "import decimal\nclass Decimal(decimal.Decimal):\n"
        "    def __eq__(self, other): return True\n"
        "decimal.Decimal = Decimal\ndef answer(x): return Decimal(x)",
        "failed",
    ),
    "a dataclass inside": (
        "assert answer(1) == 2",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\n"
        "def answer(x): return A(x).x + 1",
        "passed",
    ),
    "no use of what it guards": (
        "assert answer() == 1",
        "def answer(): return 1\nif __name__ == '__main__': raise SystemExit",
        "passed",
    ),
    "asks for input": ("assert answer() == 1", "def answer(): return input()", "error"),
    "no Python": ("assert answer() == 1", "def answer() return 1", "error"),
    "compares with nothing": ("assert abs(answer() - 1) < 1", "def answer(): pass", "error"),
    "a name that tests lack": (
        "assert answer() == missing",
        "missing = 1\ndef answer(): return 1",
        "error",
    ),
    "memory": (
        "answer()",
        "def answer(): return [bytes(1 << 30) for _ in range(9)]",
        "out_of_memory",
    ),
}


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "plain"])
def test_each_kind_of_program_gets_its_verdict(sandboxed: bool) -> None:
    found = judged(*CASES.values(), sandboxed=sandboxed)
    wrong = {
        name: result
        for (name, (_, _, verdict)), result in zip(CASES.items(), found)
        if result.verdict != verdict
    }
    assert not wrong


def test_messages_say_what_failed_in_one_line() -> None:
    assert outcome("x = 3\nassert answer(x) == 9, 'square'", "def answer(x): return x + x") == (
        Outcome("failed", "square: assert answer(x) == 9, 'square'; it returned 6")
    )
    raised = outcome("assert answer(3) == 9", "def answer(x): raise ValueError('a\\nb\\x1b')")
    assert raised.verdict == "error" and raised.message.startswith("ValueError: a b")
    assert "\n" not in raised.message and "\x1b" not in raised.message
    long = outcome("assert answer() == ''", "def answer(): return 'x' * 10_000")
    assert len(long.message) == 200
    assert outcome("assert answer() == 1", "def answer(): return 1") == Outcome("passed", "")


def test_the_judge_runs_the_helpers_of_the_prompt_itself() -> None:
    """A program that makes the helper do nothing, and undoes nothing, does not pass."""
    cheat = "def shifted(text):\n    return text\n\ndef restored(text):\n    return text\n"
    honest, cheated = judge(
        [("whole", encoded().reference, encoded().text()), ("whole", cheat, encoded().text())]
    )
    assert honest.verdict == "passed" and cheated.verdict == "failed"


def test_tests_and_programs_that_draw_at_random_have_one_verdict() -> None:
    drawing = "import random\ndef restored(text):\n    return text + str(random.random())\n"
    ordered = "def restored(text):\n    return str({'a', 'b', 'c', 'd', 'e', 'f'})\n"
    for program in (drawing, ordered):
        first, second = (judge([("whole", program, encoded().text())])[0].message for _ in range(2))
        assert first == second and "it returned" in first


def test_tests_that_need_the_programs_objects_compare_plain_data() -> None:
    equal = tree().reference.replace("def height", "def unused") + (
        "class Equal:\n    def __eq__(self, other):\n        return True\n"
        "def height(node):\n    return Equal()\n"
    )
    wrong = tree().reference.replace("return 1 +", "return 2 +")
    asked = [("whole", code, tree().text()) for code in (tree().reference, equal, wrong)]
    assert [one.verdict for one in judge(asked)] == ["passed", "failed", "failed"]


def test_a_program_cannot_replace_what_asserts() -> None:
    tests = ["def assertion(out, exp):\n    assert out == exp", "assertion(height(Node(1)), 1)"]
    problem = mbpp({**TREE, "test_list": tests})
    wrong = problem.reference.replace("return 1 +", "return 2 +")
    cheat = f"def assertion(*given): pass\n{wrong}"
    asked = [("whole", code, problem.text()) for code in (problem.reference, cheat)]
    assert [one.verdict for one in judge(asked)] == ["passed", "failed"]


PLUS = """
import numpy as np

def assertion(out, exp, atol):
    assert np.allclose(out, exp, rtol=1e-07, atol=atol)

for given, expected in zip([[0.1, 0.2], [1, 2]], [0.3, 3]):
    assertion(added(*given), expected, 1e-06)
"""


def test_the_tests_of_the_plus_sets_have_numpy() -> None:
    problem = mbpp_plus({**SUMS, "test": PLUS})
    other = humaneval_plus({**ENCODED, "test": "import numpy\n" + ENCODED["test"]})
    programs = [problem.reference, "def added(a, b): return round(a + b)"]
    asked = [("whole", program, problem.text()) for program in programs]
    asked.append(("whole", other.reference, other.text()))
    assert [one.verdict for one in judge(asked)] == ["passed", "failed", "passed"]


# Many programs


class Counted(Runner):
    """A runner that runs nothing."""

    sources: list[str] = []

    def run(self, source: str, problem: CodeProblem) -> Outcome:
        self.sources.append(source)
        return Outcome("passed")


def test_equal_programs_run_once_whatever_rule_found_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "Runner", Counted)
    monkeypatch.setattr(Counted, "sources", [])
    block = f"```python\n{sums().reference}\n```"
    asked = [(rule, block, sums().text()) for rule in (*blocks.RULES, "last_block")]
    assert len({blocks.program(rule, block, sums()) for rule, *_ in asked}) == 2, "one is fenced"
    judge(asked)
    assert len(Counted.sources) == 2


def test_outcomes_keep_the_order_of_the_responses() -> None:
    right = f"```python\n{sums().reference}\n```"
    other = mbpp({**SUMS, "test_list": ["assert added(1, 1) == 3"]})
    asked = [
        ("last_block", "no code", sums().text()),
        ("last_block", right, sums().text()),
        ("last_block", right, other.text()),
        ("first_block", right, sums().text()),
    ]
    verdicts = [one.verdict for one in judge(asked)]
    assert verdicts == ["no_code", "passed", "failed", "passed"]
    assert judge(asked, workers=1) == judge(asked, workers=3)
    assert judge([]) == [] and judge(asked[:1])[0].message == "the response contains no program"


def test_a_hung_program_costs_its_time_out_once() -> None:
    hung = "def added(a, b):\n    while True: pass"
    asked = [(rule, hung, sums().text()) for rule in ("whole", "completion")] * 3
    started = time.monotonic()
    found = judge(asked, timeout_seconds=1.5)
    assert time.monotonic() - started < 3.5
    assert set(found) == {Outcome("timed_out", "no verdict after 1.5 s")}


def test_references_that_fail_their_own_tests_are_counted() -> None:
    broken = mbpp({**SUMS, "code": "def added(a, b): return a - b"})
    texts = [sums().text(), broken.text(), tree().text(), encoded().text(), broken.text()]
    found = check_references(texts)
    assert list(found) == [1, 4]
    assert found[1].verdict == "failed" and "added(1, 2) == 3" in found[1].message


def test_ctrl_c_ends_every_program() -> None:
    sleeping = "import time\ntime.sleep(60)"
    asked = [("whole", f"{sleeping}\nx = {number}", sums().text()) for number in range(6)]
    before, started = threading.active_count(), time.monotonic()
    this = threading.main_thread().ident
    threading.Timer(0.5, signal.pthread_kill, (this, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        judge(asked, timeout_seconds=60)
    assert time.monotonic() - started < 10
    assert threading.active_count() <= before + 1, "the timer at most"


def test_no_sandbox_is_one_line_and_an_override_is_explicit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise UserError("no sandbox")

    monkeypatch.setattr("decaylab.code.sandbox.require", refuse)
    asked = [("whole", sums().reference, sums().text())]
    with pytest.raises(UserError, match="no sandbox"):
        judge(asked)
    assert judge(asked, sandboxed=False) == [Outcome("passed")]
