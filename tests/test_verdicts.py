"""A number decides only where its intervals do, and words say it without a NaN, an infinity or a -0."""

from __future__ import annotations

import math

import pytest
from made_runs import made, row

from decaylab.measurements import COLUMNS, Measurement, to_frame
from decaylab.verdicts import Number, agreed, apart, arm_points, listed, p_words, percent, pick, plain, points, side

NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.001, 0.2, 1), (-0.2, -0.001, -1), (-0.1, 0.1, 0), (0.0, 0.2, 0), (-0.2, 0.0, 0), (NAN, 0.2, 0), (0.1, NAN, 0)],
)
def test_a_side_is_shown_where_the_interval_leaves_out_0_and_not_where_it_touches(
    low: float, high: float, expected: int
) -> None:
    assert side(row("x", 0.1, low=low, high=high)) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.049, 1), (0.05, 0), (0.2, 0), (NAN, 1)])
def test_a_corrected_p_value_must_agree_where_there_is_one(p: float, expected: int) -> None:
    assert side(row("x", 0.1, p_value_holm=p)) == expected
    assert side(row("x", 0.1, p_value=0.9)) == 1, "an uncorrected one is not asked"


def test_a_p_value_of_a_difference_from_0_is_not_asked_at_another_bound() -> None:
    assert side(row("x", 0.1, p_value_holm=0.9), at=0.05) == 1
    assert side(row("x", 0.1), at=0.2) == -1 and side(row("x", 0.1), at=0.105) == 0


def test_intervals_of_less_than_95_percent_and_numbers_under_their_floor_decide_nothing() -> None:
    assert side(row("x", 0.1, level=0.9)) == 0 and side(row("x", 0.1, level=0.99)) == 1
    assert side(row("x", 0.1, under_floor=True)) == 0
    assert apart(row("x", 0.1, level=0.9), row("x", 0.5)) == 0
    assert apart(row("x", 0.1), row("x", 0.5, under_floor=True)) == 0


def test_two_numbers_are_apart_where_their_intervals_do_not_touch() -> None:
    low, high = row("x", 0.1, 0.1), row("x", 0.31, 0.1)
    assert apart(low, high) == -1 and apart(high, low) == 1
    assert apart(low, row("x", 0.3, 0.1)) == 0, "they touch at 0.2"
    assert apart(low, row("x", NAN)) == 0


def test_the_interval_over_seeds_must_agree_where_several_seeds_stand_behind_a_number() -> None:
    above, around = row("x", 0.1), row("x", 0.1, 0.2)
    assert Number(above, above, 3).side() == 1
    assert Number(above, around, 3).side() == Number(around, above, 3).side() == 0
    assert Number(above, row("x", 0.1, NAN), 3).side() == Number(above, None, 3).side() == 0
    assert Number(above, None, 1).side() == Number(above, row("x", 0.1, NAN), 1).side() == 1


def test_arms_are_apart_where_they_are_over_problems_and_over_seeds() -> None:
    low, high, wide = row("x", 0.1), row("x", 0.5), row("x", 0.5, 0.45)
    assert Number(high, high, 3).apart(Number(low, low, 3)) == 1
    assert Number(high, wide, 3).apart(Number(low, low, 3)) == 0
    assert Number(high, None, 1).apart(Number(low, low, 3)) == 0, "what one seed is worth is not known"
    assert Number(high, None, 1).apart(Number(low, None, 1)) == 1


def test_sides_agree_only_where_all_are_the_same() -> None:
    assert agreed([1, 1]) == 1 and agreed([-1]) == -1
    assert agreed([1, -1]) == agreed([1, 0]) == agreed([]) == 0


def test_rows_are_picked_by_quantity_and_columns_and_are_what_was_put_in() -> None:
    first, second = row("x", 0.1, condition="a", view="open"), row("x", 0.2, condition="b", view="open")
    frame = to_frame([first, second, row("y", 0.3, condition="a")])
    assert [one.value for one in pick(frame, "x", view="open")] == [0.1, 0.2]
    (found,) = pick(frame, "x", condition="b")
    assert isinstance(found, Measurement) and found.low == second.low and math.isnan(found.prefix_tokens)
    assert tuple(made("signals", [first]).measurements.columns) == COLUMNS and pick(to_frame([]), "x") == []


def test_numbers_read_as_a_person_writes_them() -> None:
    one = row("x", -0.0417, low=-0.0683, high=-0.0177)
    assert points(one) == "-4.2 points [-6.8, -1.8]"
    assert percent(row("x", 0.8842, low=0.852, high=0.91)) == "88.4 % [85.2, 91.0]"
    assert plain(row("x", 0.2273, low=0.2149, high=0.2409), "nats", ".3f") == "0.227 nats [0.215, 0.241]"
    assert points(row("x", 0.0, low=-0.0004, high=0.0004)) == "+0.0 points [+0.0, +0.0]"
    assert plain(row("x", -0.001, low=-0.002, high=0.002)) == "0.00 [0.00, 0.00]"
    assert points(row("x", 0.1, NAN)) == "+10.0 points (no interval)"
    assert (
        points(row("x", NAN, note="no rollouts")) == "undefined (no rollouts)" and points(row("x", NAN)) == "undefined"
    )
    assert points(row("x", 0.1, 0.02, level=0.9)) == "+10.0 points [+8.0, +12.0] at 90 %"


def test_both_intervals_of_an_arm_are_told_and_only_one_of_a_single_seed() -> None:
    over = row("x", -0.119, low=-0.124, high=-0.114)
    number = row("x", -0.119, low=-0.143, high=-0.095)
    assert arm_points(Number(number, over, 3)) == (
        "-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4] over 3 seeds"
    )
    assert arm_points(Number(number, row("x", -0.119, NAN), 3)).endswith("over problems, no interval over 3 seeds")
    assert arm_points(Number(number, over, 1)) == "-11.9 points [-14.3, -9.5]"


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.0004, "p < .001"), (0.002, "p = .002"), (0.0496, "p = .050"), (0.9999, "p = 1"), (0.5, "p = .500")],
)
def test_p_values_are_told_with_three_places(p: float, words: str) -> None:
    assert p_words(row("x", 0.1, p_value_holm=p)) == f", {words} by Holm"
    assert p_words(row("x", 0.1)) == ""


def test_lists_read_aloud() -> None:
    assert listed([5.0, 10.0, 20.0]) == "5, 10 and 20" and listed(["a", "b"]) == "a and b"
    assert listed(["a"]) == "a" and listed([]) == ""
