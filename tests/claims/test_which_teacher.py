"""The verdict of a comparison: which teacher, none of them, or several that are not told apart."""

from __future__ import annotations

import made_decay
import pandas as pd
from made_decay import LENGTHS, RULE

from decaylab.analyses.compare import STUDENTS, TEACHERS, Settings, Side, measure
from decaylab.claims.which_teacher import NONE, better, held_to, verdict

GOOD, FAIR, LOST = {20: 0.85, 40: 0.75}, {20: 0.6, 40: 0.55}, {20: 0.33, 40: 0.3}


def compared(
    *teachers: tuple[str, dict[int, float], float], compared: str = TEACHERS
) -> pd.DataFrame:
    """The comparison of teachers: name, chances after a prefix, chance alone."""
    sides = [
        Side(name, made_decay.rollouts(kept, alone=alone, problems=120, seed=seed))
        for seed, (name, kept, alone) in enumerate(teachers)
    ]
    return measure(sides, Settings(LENGTHS, RULE, compared, True))  # type: ignore[arg-type]


def test_no_teacher_is_a_verdict_with_what_could_have_been_seen() -> None:
    frame = compared(("a", LOST, 0.35), ("b", LOST, 0.33))
    first, second, third = verdict(frame)
    assert first == f"{NONE} No teacher has a lasting advantage over the student."
    assert second.startswith("Teacher minus student: a ") and "; b " in second
    assert third.startswith("120 problems detect an advantage of ")
    assert third.endswith("points in four of five cases; a smaller one may have been missed.")


def test_an_advantage_that_is_gone_after_the_first_prefix_does_not_hold() -> None:
    frame = compared(("a", LOST, 0.9), ("b", LOST, 0.33))
    assert held_to(frame, "a") == 0
    first, second, _ = verdict(frame)
    assert first.startswith(NONE)
    assert "a +" in second and "points" in second and ", but " in second
    assert "after 20 tokens" in second


def test_the_only_teacher_that_is_ahead_is_named_first() -> None:
    frame = compared(("own", LOST, 0.35), ("good", GOOD, 0.95))
    assert held_to(frame, "good") == 40
    first, second = verdict(frame)
    assert first.startswith("Distil from good: ahead of the student by +")
    assert "after 40 tokens, half-decay length not reached by 40 tokens" in first
    assert second.startswith("No lasting advantage, teacher minus student: own ")


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
    assert third.startswith("No lasting advantage, teacher minus student: other ")
    none = compared(("one", LOST, 0.35), ("two", LOST, 0.35), compared=STUDENTS)
    assert verdict(none)[0].startswith(f"{NONE} The teacher has no lasting advantage over any")
