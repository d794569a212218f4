"""A rule is measured over the problems whose gold answer it can judge, and nowhere where those are
too few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses import behaviour, evaluation, prefix_decay
from decaylab.errors import UserError
from decaylab.pair import gradable
from decaylab.problems import applicable
from decaylab.problems.answers import applies
from decaylab.problems.grading import Grader, Verdict
from decaylab.problems.problem import Problem, problem_set

RULES = ("last_boxed", "gsm8k")


def graded(problems: int, without: int, checkpoint: str = "base") -> pd.DataFrame:
    """Two rollouts a problem, all correct by last_boxed, the first of each by gsm8k, which does not
    apply to the last ones."""
    rows: list[dict[str, Any]] = []
    for number in range(problems):
        for sample in range(2):
            by_number = (
                "not_applicable"
                if number >= problems - without
                else "wrong"
                if sample
                else "correct"
            )
            rows.append(
                {
                    "rollout_id": f"student/p{number:03}/{sample}",
                    "checkpoint": checkpoint,
                    "step": 0.0,
                    "condition": "student",
                    "problem_id": f"p{number:03}",
                    "sample": sample,
                    "stop_reason": "eos",
                    "response_ids": np.array([1, 2, 3], dtype=np.int32),
                    "response_tokens": 2,
                    "text": "x",
                    "answer_start": 0,
                    "prefix_tokens": 0,
                    "prefix_rollout_id": "",
                    "prefix_correct_so_far": None,
                    "grade_last_boxed": "correct",
                    "grade_gsm8k": by_number,
                    "vote_last_boxed": 0,
                    "vote_gsm8k": sample,
                }
            )
    return pd.DataFrame(rows)


def test_ninety_five_per_cent_of_the_problems_are_enough_and_fewer_are_not() -> None:
    assert applicable.is_shown(graded(100, 5), "gsm8k") and not applicable.is_shown(
        graded(100, 6), "gsm8k"
    )
    assert len(applicable.rows(graded(100, 5), "gsm8k")) == 190
    assert (
        applicable.note(graded(100, 5), "gsm8k")
        == "gsm8k does not apply to 5 of 100 gold answers, left out"
    )
    assert applicable.note(graded(100, 0), "gsm8k") == ""


def test_evaluation_is_over_the_problems_to_which_a_rule_applies() -> None:
    both = pd.concat([graded(40, 2), graded(40, 2, "teacher")])
    frame = evaluation.measure(both, evaluation.Settings(RULES))
    row = frame[(frame["what"] == "avg_at_2") & (frame["condition"] == "gsm8k")].iloc[0]
    assert (row["value"], row["problems"], row["rollouts"]) == (
        0.5,
        38,
        76,
    )  # with the others it would be 0.475
    assert "does not apply to 2 of 40" in row["note"]
    whole = frame[(frame["what"] == "avg_at_2") & (frame["condition"] == "last_boxed")].iloc[0]
    assert (whole["value"], whole["problems"]) == (1.0, 40) and "does not apply" not in whole[
        "note"
    ]


def test_behaviour_is_over_the_problems_to_which_a_rule_applies() -> None:
    frame = behaviour.measure(
        {"base": graded(40, 2), "later": graded(40, 2)}, behaviour.Settings(RULES)
    )
    rows = frame[frame["condition"] == "gsm8k"].set_index(["what", "checkpoint"])
    assert (
        rows.loc[("accuracy", "base"), "value"] == 0.5
        and rows.loc[("accuracy", "base"), "problems"] == 38
    )
    assert (
        rows.loc[("accuracy_change", "later"), "value"] == 0
        and rows.loc[("accuracy_change", "later"), "problems"] == 38
    )


@pytest.mark.parametrize("without", [3, 40])
def test_a_rule_that_applies_to_too_few_has_no_rows(without: int) -> None:
    few = graded(40, without)
    assert set(evaluation.measure(few, evaluation.Settings(RULES))["condition"]) == {"last_boxed"}
    assert set(behaviour.measure({"base": few}, behaviour.Settings(RULES))["condition"]) == {
        "",
        "last_boxed",
    }


def test_prefix_decay_leaves_out_the_problems_to_which_its_rule_does_not_apply() -> None:
    rows = graded(40, 2)
    both = pd.concat([rows, rows.assign(condition="teacher", rollout_id="t" + rows["rollout_id"])])
    frame = prefix_decay.measure(both, prefix_decay.Settings((0,), "gsm8k"))
    row = frame[(frame["what"] == "accuracy") & (frame["condition"] == "student")].iloc[0]
    assert (row["value"], row["problems"]) == (0.5, 38)


def test_gsm8k_judges_numbers_and_nothing_else() -> None:
    golds = ["12", "-1,200", r"\$18.90", r"15\%", r"90^\circ", "5.4 \\text{ cents}"]
    others = [r"\frac{14}{3}", r"(3,4]", r"\text{Evelyn}", "p - q", "2516_8", "3 1/2"]
    assert all(applies("gsm8k", gold) for gold in golds) and not any(
        applies("gsm8k", gold) for gold in others
    )
    assert all(applies("last_boxed", gold) for gold in others)
    with Grader(timeout_seconds=30) as grader:
        grades = grader.grade(
            ["I say 3", "no number"] * 2, [r"\frac{14}{3}"] * 2 + ["3"] * 2, rules=["gsm8k"]
        )
    expected = [Verdict.NOT_APPLICABLE] * 2 + [Verdict.CORRECT, Verdict.NO_ANSWER]
    assert grades.verdicts["gsm8k"] == expected


def test_a_reported_rule_that_applies_to_too_few_is_refused_and_another_is_told() -> None:
    asked = [Problem(f"p{number}", "?", "12" if number else r"\frac{1}{2}") for number in range(3)]
    mine = problem_set("mine", "", asked, ())
    with Grader() as grader:
        with pytest.raises(
            UserError, match="--answer-rule gsm8k applies to 2 of 3 gold answers of mine"
        ):
            gradable.problems(mine, grader, "gsm8k")
        _, (note,) = gradable.problems(mine, grader, "last_boxed")
        _, notes = gradable.problems(problem_set("mine", "", asked[1:2], ()), grader, "gsm8k")
    assert note == "gsm8k applies to 2 of 3 gold answers of mine, the plain numbers: not shown"
    assert notes == ()
