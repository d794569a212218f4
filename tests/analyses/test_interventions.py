"""Interventions by hand and on simulated tables of known effects."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from decaylab.analyses import interventions as analysis
from decaylab.maths.statistics import holm, paired_difference, sign_flip_p
from decaylab.runs.vocabulary import (
    ACCURACY,
    BROKEN,
    CONTENT,
    EDIT,
    INTERACTION,
    MEAN_KL,
    REPAIRED,
    STUDENT,
    STYLE,
    TEACHER,
    against,
    effect,
    row,
    select,
)

ARMS = (
    "correct/student-style",
    "correct/teacher-style",
    "wrong/student-style",
    "wrong/teacher-style",
)
NO_KL = pd.DataFrame({"rollout_id": [], "mean_reverse_kl": []})


def rollouts(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A rollouts table; a row holds condition, problem, value and what differs from a usual one."""
    usual = {"author": STUDENT, "prefix_rollout_id": "", "problem_id": "p0"}
    table = pd.DataFrame([{**usual, **one} for one in rows])
    grades = np.where(table["correct"], "correct", "wrong")
    return table.assign(grade_rule=grades, rollout_id=[f"r{place}" for place in table.index])


def measured(table: pd.DataFrame, kl: pd.DataFrame = NO_KL, reference: str = "") -> pd.DataFrame:
    settings = analysis.Settings(answer_rule="rule", reference=reference)
    return analysis.measure(table, kl, settings)


def made(accuracies: list[float], problems: int = 20) -> pd.DataFrame:
    """Ten continuations of each arm, of which this share is correct, the same in every problem."""
    return rollouts(
        [
            {
                "condition": f"made/2/{arm}",
                "problem_id": f"p{problem}",
                "correct": number < round(10 * share),
            }
            for problem in range(problems)
            for arm, share in zip(ARMS, accuracies, strict=True)
            for number in range(10)
        ]
    )


def test_the_three_effects_of_hand_sized_arms() -> None:
    frame = measured(made([0.9, 0.7, 0.2, 0.6]))
    at = {"what": effect(ACCURACY), "view": STUDENT, "category": "2 steps"}
    # correct: .9 .7, wrong: .2 .6; student's style: .9 .2, teacher's: .7 .6
    assert row(frame, condition=CONTENT, **at).value == pytest.approx(0.8 - 0.4)
    assert row(frame, condition=STYLE, **at).value == pytest.approx(0.55 - 0.65)
    assert row(frame, condition=INTERACTION, **at).value == pytest.approx(0.7 - 0.1)
    level = row(frame, what=ACCURACY, view=STUDENT, condition="wrong, teacher-style")
    assert (level.value, level.rollouts, level.problems) == (pytest.approx(0.6), 200, 20)
    assert select(frame, view=TEACHER)["value"].isna().all()


def test_an_interaction_and_its_interval_may_exceed_one() -> None:
    frame = measured(made([1.0, 0.0, 0.0, 1.0]))
    found = row(frame, what=effect(ACCURACY), condition=INTERACTION, view=STUDENT)
    assert found.value == pytest.approx(2.0) and found.high <= 2.0


def test_effects_are_paired_by_problem_and_leave_out_problems_without_every_arm() -> None:
    rng = np.random.default_rng(0)
    table = pd.concat(
        [
            made([0.5] * 4, 1).assign(problem_id=f"p{number}", keep=rng.uniform(0, 1, 40))
            for number in range(12)
        ],
        ignore_index=True,
    )
    chance = table["keep"] < 0.6
    table = table.assign(
        grade_rule=np.where(chance, "correct", "wrong"),
        rollout_id=[f"r{place}" for place in table.index],
    )
    table = table[~((table["problem_id"] == "p3") & (table["condition"] == f"made/2/{ARMS[2]}"))]
    found = row(measured(table), what=effect(ACCURACY), condition=CONTENT, view=STUDENT)
    whole = table[table["problem_id"] != "p3"]
    correct = (whole["grade_rule"] == "correct").astype(float)
    means = correct.groupby(
        [whole["problem_id"], whole["condition"].str.contains("correct")]
    ).mean()
    sides = means.unstack()
    expected = paired_difference(sides[True], sides[False], np.arange(11))
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.problems == 11
    assert found.p_value == pytest.approx(sign_flip_p(sides[True] - sides[False], np.arange(11)))


def changed(kind: str, outcomes: list[tuple[int, str, bool, bool]]) -> pd.DataFrame:
    """Pairs: number of the step, problem, correct as written, correct changed."""
    rows = []
    for place, (number, problem, as_written, correct) in enumerate(outcomes):
        for arm, value in (("as-written", as_written), ("changed", correct)):
            rows.append(
                {
                    **{"condition": f"{kind}/{number}/{arm}", "problem_id": problem},
                    **{"prefix_rollout_id": f"{kind}{place}", "correct": value},
                }
            )
    return rollouts(rows)


def test_a_changed_step_is_compared_with_the_same_prefix_as_written_by_place() -> None:
    table = pd.concat(
        [
            changed(
                "repaired",
                [(1, "p0", False, True), (1, "p1", True, True), (2, "p1", False, True)],
            ),
            changed("broken", [(1, "p0", True, False), (3, "p2", True, False)]),
        ],
        ignore_index=True,
    )
    frame = measured(table.assign(rollout_id=[f"r{place}" for place in table.index]))
    at = {"what": effect(ACCURACY), "view": STUDENT}
    assert row(frame, condition=REPAIRED, category="step 1", **at).value == pytest.approx(0.5)
    assert row(frame, condition=REPAIRED, category="step 2", **at).value == pytest.approx(1.0)
    assert row(frame, condition=REPAIRED, category="all steps", **at).value == pytest.approx(2 / 3)
    assert row(frame, condition=BROKEN, category="all steps", **at).value == pytest.approx(-1.0)
    beside = row(frame, what=ACCURACY, condition="repaired, as-written", category="all steps")
    assert beside.value == pytest.approx(1 / 3)
    one = row(frame, condition=REPAIRED, category="step 2", **at)
    assert math.isnan(one.low) and "fewer than 2 problems" in one.note


def test_labels_are_compared_with_the_reference_over_problems_that_have_both() -> None:
    table = rollouts(
        [
            {"condition": f"edit/{number}/{label}", "problem_id": problem, "correct": correct}
            for number, label, problem, correct in (
                (0, "a/b", "p0", True),
                (1, "a/b", "p0", False),
                (0, "other", "p0", False),
                (0, "a/b", "p1", True),
                (0, "other", "p1", True),
                (0, "other", "p2", True),  # has no reference
            )
        ]
    )
    frame = measured(table, reference="a/b")
    at = {"what": effect(ACCURACY), "view": STUDENT}
    found = row(frame, condition=against("a/b"), category="other", **at)
    assert found.value == pytest.approx(((0 - 0.5) + (1 - 1)) / 2) and found.problems == 2
    assert row(frame, what=ACCURACY, condition=EDIT, category="other").value == pytest.approx(2 / 3)
    assert select(frame, category="a/b", **at).empty


def test_the_kl_behind_is_a_t_interval_over_problems_of_the_student_s_continuations() -> None:
    rng = np.random.default_rng(1)
    table = made([0.5] * 4, 15)
    kl = pd.DataFrame(
        {"rollout_id": table["rollout_id"], "mean_reverse_kl": rng.gamma(1, 0.1, len(table))}
    )
    both = pd.concat([table, table.assign(author=TEACHER, rollout_id=table["rollout_id"] + "t")])
    frame = measured(both, kl)
    found = row(frame, what=effect(MEAN_KL), condition=STYLE)
    values = kl["mean_reverse_kl"].to_numpy().reshape(15, 2, 2, 10)
    differences = (values[:, :, 0] - values[:, :, 1]).mean(axis=(1, 2))
    low, high = stats.t.interval(0.95, 14, differences.mean(), stats.sem(differences))
    assert (found.value, found.low, found.high) == pytest.approx((differences.mean(), low, high))
    assert (found.unit, found.view) == ("nats", STUDENT)


def test_p_values_are_corrected_over_the_effects_of_a_family_by_both_policies() -> None:
    rng = np.random.default_rng(2)
    tables = []
    for author, count in product((STUDENT, TEACHER), (1, 2)):
        table = made([0.5] * 4, 12)
        grades = np.where(rng.uniform(size=len(table)) < 0.5, "correct", "wrong")
        condition = table["condition"].str.replace("made/2", f"made/{count}")
        tables.append(table.assign(author=author, condition=condition, grade_rule=grades))
    both = pd.concat(tables, ignore_index=True)
    frame = measured(both.assign(rollout_id=[f"r{place}" for place in both.index]))
    effects = select(frame, what=effect(ACCURACY))
    assert len(effects) == 12
    assert effects["p_value_holm"].tolist() == pytest.approx(holm(effects["p_value"]).tolist())
    assert "1 step" in set(effects["category"])
