"""Answer rules of the user's own, in the grading processes: verdicts, time limits, errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from own_parts import PLUGIN, forgotten, write_plugin

import decaylab as dl
from decaylab.errors import UserError
from decaylab.plugins import loading
from decaylab.problems.grading import Grader, Verdict
from decaylab.problems.own_rules import verdict

RULES = """
import ctypes, time
import decaylab as dl

@dl.answer_rule("odd")
def odd(response, gold):
    print("to standard output")
    if "slow" in response:
        time.sleep(60)
    if "crash" in response:
        ctypes.string_at(0)
    if "raise" in response:
        return response.index("absent")
    return {"yes": True, "no": False, "none": None, "text": "wrong"}.get(response, 7)
"""


@pytest.fixture(scope="module")
def grader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    """The rule is registered by a file."""
    with forgotten(), Grader(timeout_seconds=1.0) as grader:
        loading.load(str(write_plugin(tmp_path_factory.mktemp("rules"), RULES, "my_rules.py")))
        yield grader


def verdicts(grader: Grader, *responses: str) -> list[Verdict]:
    return grader.grade(responses, ["1"] * len(responses), rules=["odd"]).verdicts["odd"]


def test_a_rule_gives_its_verdicts_in_a_process_of_its_own(grader: Grader) -> None:
    given = verdicts(grader, "yes", "no", "none", "text", "", "<think> yes")
    assert given == ["correct", "wrong", "no_answer", "wrong", "no_answer", "no_answer"]


def test_a_rule_that_hangs_or_crashes_is_a_time_out_as_ours_is(grader: Grader) -> None:
    given = verdicts(grader, "yes", "slow", "no", "crash", "text")
    assert given == ["correct", Verdict.TIMEOUT, "wrong", Verdict.TIMEOUT, "wrong"]


def test_a_rule_that_raises_names_its_function_and_line(grader: Grader) -> None:
    words = r"answer rule 'odd' \(odd in my_rules.py\): ValueError: substring not found"
    place = r"\(line 13 of my_rules.py\), on a response that ends 'raise'"
    with pytest.raises(UserError, match=f"{words} {place}"):
        verdicts(grader, "yes", "raise")
    assert verdicts(grader, "no") == ["wrong"], "the next call starts a new process"


def test_what_is_no_verdict_is_refused() -> None:
    def judged(returned: object) -> str:
        return verdict(lambda response, gold: returned, "text", "1")

    for wrong in (1, 0.0, "right", [True], "timeout", "not_applicable"):
        with pytest.raises(UserError, match="must return True, False, None or correct, wrong, no_"):
            judged(wrong)
    assert [judged(np.True_), judged(False), judged(None)] == ["correct", "wrong", "no_answer"]


def test_gold_answers_that_only_a_rule_of_ones_own_reads_are_not_wrong_by_the_others(
    grader: Grader,
) -> None:
    rules = ("last_boxed", "anywhere", "odd")
    graded = grader.grade(["yes", ""], ["{]1", "{]1"], rules=rules).verdicts
    assert graded == {
        "last_boxed": [Verdict.NOT_APPLICABLE] * 2,
        "anywhere": [Verdict.NOT_APPLICABLE] * 2,
        "odd": [Verdict.CORRECT, Verdict.NO_ANSWER],
    }


def test_a_file_that_changes_meanwhile_is_refused_and_imported_again_when_asked(
    tmp_path: Path,
) -> None:
    with forgotten(), Grader() as grader:
        path = write_plugin(tmp_path)
        loading.load(str(path))
        write_plugin(tmp_path, PLUGIN.replace("% 2 == 1", "% 2 == 0"))
        with pytest.raises(UserError, match="my_parts.py has changed since this command began"):
            grader.grade(["abc"], ["1"], rules=["odd_length"])
        loading.load(str(path))
        assert grader.grade(["abc"], ["1"], rules=["odd_length"]).counts("odd_length")["wrong"] == 1


def test_a_rule_that_no_process_can_import_is_refused(grader: Grader) -> None:
    dl.answer_rule("short")(lambda response, gold: True)
    with pytest.raises(UserError, match="'short' is a lambda"):
        grader.grade(["a"], ["1"], rules=["short"])
    with pytest.raises(ValueError, match="answer rules are last_boxed, .*odd, short, got none"):
        grader.grade(["a"], ["1"], rules=["none"])
