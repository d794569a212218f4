"""The verdict of a comparison: which teacher, none of them, or several that are not told apart."""

from __future__ import annotations

import math
import re
from typing import Any

import made_decay
import pandas as pd
from made_decay import LENGTHS, RULE
from made_runs import row

from decaylab.analyses.compare import STUDENTS, TEACHERS, Settings, Side, measure
from decaylab.claims.which_teacher import NONE, OPEN, better, excluded, held_to, verdict
from decaylab.runs.measurements import to_frame

NEAR = {20: 0.42, 40: 0.4}
GOOD, FAIR, LOST = {20: 0.85, 40: 0.75}, {20: 0.6, 40: 0.55}, {20: 0.33, 40: 0.3}


def compared(
    *teachers: tuple[str, dict[int, float], float], compared: str = TEACHERS, problems: int = 120
) -> pd.DataFrame:
    """The comparison of teachers: name, chances after a prefix, chance alone."""
    sides = [
        Side(name, made_decay.rollouts(kept, alone=alone, problems=problems, seed=seed))
        for seed, (name, kept, alone) in enumerate(teachers)
    ]
    return measure(sides, Settings(LENGTHS, RULE, compared, True))  # type: ignore[arg-type]


def by_hand(
    teachers: dict[str, tuple[float, float]], reach: float = 0.01, **more: Any
) -> pd.DataFrame:
    """The advantages of teachers alone and after 20 tokens, with intervals of so much to either
    side and p-values that show nothing."""
    given = {"category": TEACHERS, "p_value_holm": 1.0, **more}
    rows = []
    for name, advantages in teachers.items():
        for length, value in zip((0.0, 20.0), advantages, strict=True):
            place = {"checkpoint": name, "prefix_tokens": length}
            rows.append(row("teacher_advantage", value, reach, "student-prefix", **place, **given))
    return to_frame(rows)


def test_no_teacher_where_an_advantage_that_counts_is_excluded_for_each() -> None:
    first, second = verdict(by_hand({"a": (0.0, 0.0), "b": (0.005, -0.01)}))
    assert first == (
        f"{NONE}; a lasting advantage of 2 points or more over the student is excluded."
    )
    assert second == (
        "Teacher minus student: a 0.0 points [-1.0, +1.0] alone; b +0.5 points [-0.5, +1.5] alone."
    )


def test_an_advantage_is_excluded_alone_or_after_the_first_prefix_corrected_for_the_two() -> None:
    gone = by_hand({"a": (0.4, 0.0)})
    assert excluded(gone, "a"), "gone after the first prefix"
    assert verdict(gone)[1] == (
        "Teacher minus student: a +40.0 points [+39.0, +41.0] alone, 0.0 points [-1.0, +1.0] after "
        "20 tokens."
    )
    assert excluded(by_hand({"a": (0.0, 0.4)}), "a"), "none without a prefix"
    assert not excluded(by_hand({"a": (0.4, 0.4)}), "a")
    # Of 300 problems: 2.2525 / 1.9679 is the ratio of Student's quantiles at 1.25 and 2.5 %.
    assert excluded(by_hand({"a": (0.02 - 0.01147, 0.4)}), "a")
    assert not excluded(by_hand({"a": (0.02 - 0.01142, 0.4)}), "a")


def test_too_few_problems_are_no_reason_not_to_distil() -> None:
    """The larger the advantage that ten problems leave open, the less may be said against it."""
    frame = compared(("a", LOST, 0.35), ("b", GOOD, 0.95), problems=10)
    first, second, third = verdict(frame)
    assert first == (
        f"{OPEN}: no teacher is shown to have a lasting advantage over the student, and one of 2 "
        "points or more is not excluded for a and b."
    )
    assert second.startswith("Teacher minus student: a ") and "; b +" in second
    assert third == "Only 10 problems; at least 30 are needed."
    few = by_hand({"a": (0.0, 0.0)}, problems=29)
    assert verdict(few)[0].startswith(OPEN) and verdict(few)[-1].startswith("Only 29 problems")
    short = by_hand({"a": (0.4, 0.4)})
    short["problems"] = [300, 8]
    assert verdict(short)[-1] == (
        "Only 8 problems have rollouts unfinished at 20 tokens; at least 30 are needed."
    )
    low = by_hand({"a": (0.0, 0.0)}, level=0.9)
    assert verdict(low)[-1] == "The intervals are at 90 %: compare again with --level 0.95."


def test_ten_problems_recommend_no_teacher_either() -> None:
    assert math.isnan(held_to(by_hand({"a": (0.6, 0.5)}, p_value_holm=0.001, problems=10), "a"))
    assert held_to(by_hand({"a": (0.6, 0.5)}, p_value_holm=0.001, problems=30), "a") == 20


def test_more_teachers_do_not_turn_not_decided_into_do_not_distil() -> None:
    names = [f"teacher-{place}" for place in range(8)]
    frame = by_hand(dict.fromkeys(names, (0.1, 0.08)), reach=0.12)
    first, second, third = verdict(frame)
    assert first.startswith(OPEN) and "teacher-0, teacher-1, teacher-2, teacher-3 and 4" in first
    assert second.endswith(" and 4 more.")
    # 300 problems, standard error 0.24 / 3.92; it must fall to 0.02 / 2.8.
    assert (
        third
        == "About 22,000 problems would detect an advantage of 2 points in four of five cases."
    )


def test_what_is_not_decided_comes_with_what_could_have_been_seen() -> None:
    frame = compared(("a", NEAR, 0.4), ("b", NEAR, 0.45))
    first, second, third = verdict(frame)
    assert first.startswith(OPEN)
    assert second.startswith("Teacher minus student: a ") and "; b " in second
    assert re.fullmatch(
        r"About [\d,]+ problems would detect an advantage of 2 points in four of five cases; these "
        r"120 detect one of \d+\.\d points\.",
        third,
    )


def test_an_advantage_that_is_gone_after_the_first_prefix_does_not_hold() -> None:
    frame = compared(("a", NEAR, 0.9), ("b", NEAR, 0.4))
    assert held_to(frame, "a") == 0
    first, second, _ = verdict(frame)
    assert first.startswith(OPEN), "120 problems leave 2 points open"
    assert "a +" in second and "points" in second
    assert "after 20 tokens" in second


def test_the_only_teacher_that_is_ahead_is_named_first() -> None:
    frame = compared(("own", LOST, 0.35), ("good", GOOD, 0.95))
    assert held_to(frame, "good") == 40
    first, second = verdict(frame)
    assert first.startswith("Distil from good: ahead of the student by +")
    assert "after 40 tokens, half-decay length not reached by 40 tokens" in first
    assert second.startswith("No lasting advantage is shown, teacher minus student: own ")


def test_of_two_that_hold_the_better_one_is_named_and_the_difference_told() -> None:
    frame = compared(("fair", FAIR, 0.9), ("good", GOOD, 0.95))
    assert better(frame, "good", "fair") and not better(frame, "fair", "good")
    first, second = verdict(frame)
    assert first.startswith("Distil from good: ")
    assert second.startswith("good is ahead of fair (+") and "by Holm)" in second
    turned = compared(("good", GOOD, 0.95), ("fair", FAIR, 0.9))
    assert verdict(turned)[1].startswith("fair is behind good (-")


def test_two_that_are_not_told_apart_are_both_named_with_the_cheaper() -> None:
    frame = compared(("a", GOOD, 0.9), ("b", GOOD, 0.9))
    (line,) = verdict(frame)
    assert line.startswith("Distil from a or b: ") and "none is shown to be the best" in line
    assert "writes the shortest answers" in line


def test_of_students_it_says_over_which_the_advantage_holds() -> None:
    frame = compared(("small", GOOD, 0.9), ("other", LOST, 0.35), compared=STUDENTS)
    first, second, third = verdict(frame)
    assert first == "The teacher has a lasting advantage over small."
    assert second.startswith("small: ahead of the student by +")
    assert third.startswith("No lasting advantage is shown, teacher minus student: other ")
    none = compared(("one", NEAR, 0.4), ("two", NEAR, 0.4), compared=STUDENTS)
    assert verdict(none)[0].startswith(
        f"{OPEN}: the teacher is not shown to have a lasting advantage over any of these students"
    )
