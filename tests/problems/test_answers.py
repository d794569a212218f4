"""Answers: the short cuts agree with math-verify, arithmetic is read exactly, boxes end at their
own brace."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from decaylab.problems import forms
from decaylab.problems.answers import box_equals, equal, is_readable
from decaylab.problems.boxes import boxed_answers, boxed_lists, boxes, count_boxes
from decaylab.problems.plain_numbers import exact, gold_number, same_rounded, tidy

# --- The short cuts against math-verify
# ---------------------------------------------------------------------------


def math_verify_verdict(gold: str, answer: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    parsed = [parse(rf"\boxed{{{text}}}", config, parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(*parsed, timeout_seconds=None))


def test_exact_path_gives_the_verdict_of_math_verify() -> None:
    numbers = [
        "0",
        "7",
        "-7",
        "12",
        "120",
        "-12",
        "0.5",
        ".5",
        "-0.5",
        "0.50",
        "1,080",
        "1080",
        "1/2",
        "-1/2",
        "3/4",
    ]
    numbers += [
        r"\frac{1}{2}",
        r"\frac{-1}{2}",
        r"-\frac{1}{2}",
        r"\frac{3}{4}",
        "0.75",
        "7.0",
        "12.000000",
        "3 + 4",
    ]
    numbers += [
        r"\frac{1}{3}",
        "0.333333",
        "0.33333",
        "0.333334",
        "1080.0",
        "3 \\times 4",
        "(3+4)*1",
        "19 - 7",
    ]
    pairs = [(gold, answer) for gold in numbers for answer in numbers]
    # All pairs take a minute in math-verify; every number still meets a dozen others.
    for gold, answer in random.Random(0).sample(pairs, 300):
        assert exact(gold) is not None and exact(answer) is not None
        assert equal(gold, answer) == math_verify_verdict(gold, answer), (gold, answer)


def test_exact_path_reads_arithmetic_and_nothing_else() -> None:
    assert exact("47 + 89") == 136
    assert exact(r"2 \times (3 - 5) \div 8") == Fraction(-1, 2)
    for other in (
        "",
        "x",
        "2**9",
        "2^9",
        "7//2",
        "3(4)",
        "1/0",
        "1 2",
        "(",
        "9" * 5000,
        r"\frac{1}{0}",
        "1,2",
    ):
        assert exact(other) is None, other


def test_small_gold_answers_need_their_significant_digits() -> None:
    assert equal(".0000672", "0.0000672") and not equal(".0000672", "0.0000671")
    assert equal("0.15", "0.15000001") and not equal("0.15", "0.1501")


CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "equal_cases.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case['gold']} ~ {case['answer']}" for case in CASES]
)
def test_pair_is_equal_or_not_as_its_reader_says(case: dict[str, str]) -> None:
    assert box_equals(tidy(case["gold"]), case["answer"]) is case["equal"]


def test_the_form_of_gold_decides_what_a_percent_sign_means() -> None:
    answers = ("15", "0.15", r"15\%", r"0.15\%")
    accepted = {
        gold: [one for one in answers if equal(gold, tidy(one))] for gold in ("15", "0.15", r"15\%")
    }
    assert accepted == {
        "15": ["15", r"15\%"],
        "0.15": ["0.15", r"15\%"],
        r"15\%": ["15", "0.15", r"15\%"],
    }


def test_inequalities_become_the_intervals_of_their_solutions() -> None:
    assert forms.interval("0 <= x < 1") == ("x", "[0,1)")
    assert forms.interval("3 > x") == forms.interval("x < 3") == ("x", r"(-\infty,3)")
    assert forms.interval("x<=a") == ("x", r"(-\infty,a]")
    assert forms.interval("x>2 and x<5") == forms.interval("x<5, x>2") == ("x", "(2,5)")
    for other in ("x = 3", "(2,3)", "x<y<z<w", "x<2 or y>3", "2<x>3", "<3", "x>2 and x>5"):
        assert forms.interval(other) is None, other


# --- Boxes
# ---------------------------------------------------------------------------


def test_boxes_are_counted_finished_or_not() -> None:
    assert count_boxes("none") == 0
    assert count_boxes(r"\boxed{1} \fbox{2} \boxed{\boxed{3}} \boxed{4") == 5
    assert count_boxes(r"\boxedtext{1}") == 0


def test_boxes_end_at_their_own_brace() -> None:
    assert boxes(r"\boxed{\frac{1}{2}} and \boxed {\{3\}}") == [r"\frac{1}{2}", r"\{3\}"]
    assert boxes(r"\boxed{a \boxed{b}} \boxed{c") == [r"a \boxed{b}", "b", None]


def test_a_box_without_content_is_no_answer_and_keeps_its_place() -> None:
    assert boxed_answers(r"\boxed{} \boxed{ \text{ } } \boxed 5 \boxed{7} \boxed{8") == [
        None,
        None,
        None,
        "7",
        None,
    ]


def test_boxes_side_by_side_are_one_list_and_boxes_apart_are_not() -> None:
    for text in (
        r"\boxed{2}, \boxed{3}",
        r"$\boxed{2}$ and $\boxed{3}$",
        r"x = \boxed{2} or x = \boxed{3}",
    ):
        assert boxed_lists(text) == ["2, 3", "2, 3"], text
    assert boxed_lists(r"\boxed{2}\text{ and }\boxed{3}, \boxed{4}") == ["2, 3, 4"] * 3
    assert boxed_lists(r"\boxed{2}. Hence \boxed{3}") == ["2", "3"]
    assert boxed_lists(r"\boxed{a \boxed{b}} \boxed{} \boxed{2}, \boxed{c") == [
        r"a \boxed{b}",
        "b",
        None,
        "2",
        None,
    ]


# --- Gold answers
# ---------------------------------------------------------------------------


def test_the_number_of_a_gold_answer_is_read_without_its_unit() -> None:
    assert gold_number(r"15\%") == gold_number(r"15^\circ") == gold_number(r"15 \text{ cm}") == 15
    assert gold_number("3 apples, 4 pears\n#### -1,200") == -1200
    assert gold_number("x + 1") is None


def test_a_gold_answer_that_no_reader_of_digits_can_find_is_no_number() -> None:
    golds = (
        r"\frac{14}{3}",
        "3 1/2",
        "3 + 4",
        "2516_8",
        r"(3,4]",
        r"\sqrt{51}",
        r"\text{Evelyn}",
        r"x=5",
        r"2 \times 3",
    )
    assert not [gold for gold in golds if gold_number(gold) is not None]
    assert (
        gold_number(r"10,\!080") == 10080
        and gold_number(r"\$18.90") == Fraction("18.9")
        and gold_number("-.5") == -0.5
    )


def test_numbers_agree_to_six_decimals_and_small_ones_to_their_digits() -> None:
    assert same_rounded(Fraction(1, 3), Fraction("0.333333")) and not same_rounded(
        Fraction(1, 3), Fraction("0.33333")
    )
    assert not same_rounded(Fraction("0.0000672"), Fraction("0.0000671"))


def test_a_gold_answer_is_readable_as_number_text_or_mathematics() -> None:
    assert all(is_readable(tidy(gold)) for gold in ("12", r"\text{Evelyn}", r"\sqrt{2}"))
    assert not any(is_readable(tidy(gold)) for gold in ("", "°", r"\frac{1}{"))
