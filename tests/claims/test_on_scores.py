"""When scores are said to stay corrective, on rows written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_runs import made, row

from decaylab.claims.judge import Finding, judge
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import teacher_tokens


def retained(*values: float, reach: float = 0.05) -> list[Measurement]:
    """The retained advantage at 10, 20, ... tokens."""
    return [
        row(
            "retained_advantage",
            value,
            reach,
            "student-prefix",
            prefix_tokens=10.0 * place,
            view="open",
        )
        for place, value in enumerate(values, start=1)
    ]


def gains(
    *values: float,
    count: float = 1,
    condition: str = "hand-back",
    reach: float = 0.01,
    p: float = 0.001,
    what: str = "corrective_gain",
) -> list[Measurement]:
    """A number of a hand-back at 10, 20, ... tokens."""
    at = {"view": "open", "category": teacher_tokens(count), "p_value_holm": p}
    return [
        row(what, value, reach, condition, prefix_tokens=10.0 * place, **at)
        for place, value in enumerate(values, start=1)
    ]


def found(rows: Sequence[Measurement]) -> Finding:
    findings = judge([made("prefix-decay", rows)])
    (one,) = [one for one in findings if one.claim.name == "scores-stay-corrective"]
    return one


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((-0.2, 0.05, 0.05), "holds"),
        ((0.2, 0.0, 0.05), "holds"),  # one length is enough
        ((0.2, -0.05, -0.05), "contradicted"),
        ((0.2, -0.05, 0.05), "undecided"),
        ((0.2, 0.001, -0.001), "not supported"),
    ],
)
def test_only_lengths_that_have_lost_half_are_judged(
    values: tuple[float, ...], expected: str
) -> None:
    assert found([*retained(0.8, 0.4, 0.3), *gains(*values)]).verdict == expected


def test_the_fewest_tokens_are_judged_and_no_others() -> None:
    rows = [*retained(0.3), *gains(0.001), *gains(0.3, count=10)]
    assert found(rows).verdict == "not supported"
    assert found([*retained(0.3), *gains(0.3), *gains(0.001, count=10)]).verdict == "holds"


def test_many_tokens_say_nothing_about_scores() -> None:
    one = found([*retained(0.3), *gains(0.3, count=40)])
    assert one.verdict == "not testable here"
    assert "40 teacher tokens say what its continuation is worth" in one.sentence
    assert found([*retained(0.3), *gains(0.3, count=10)]).verdict == "holds"


def test_the_sentence_names_the_largest_change_in_either_direction() -> None:
    one = found([*retained(0.3, 0.3, 0.3), *gains(-0.03, -0.09, -0.05)])
    assert "by at most -9.0 points" in one.sentence


def test_half_must_be_lost_by_the_interval() -> None:
    one = found([*retained(0.47), *gains(0.3)])
    assert one.verdict == "not testable here"
    assert "less than half of the teacher's advantage shown to be left" in one.sentence
    assert found([*retained(0.44), *gains(0.3)]).verdict == "holds"


def test_a_gain_that_holm_does_not_show_is_not_testable_and_says_what_would() -> None:
    one = found([*retained(0.3), *gains(0.05, reach=0.04, p=0.2)])
    assert one.verdict == "not testable here" and "problems would detect" in one.sentence


def test_the_sentence_has_the_largest_gain_and_where_it_is() -> None:
    said = found([*retained(0.8, 0.4, 0.3), *gains(0.2, 0.05, 0.03)]).sentence
    assert "left at 20 and 30 tokens" in said
    assert "1 teacher token changes the student's accuracy by at most +5.0 points" in said
    assert "at 20, p = 0.001 by Holm." in said


@pytest.mark.parametrize(
    "control",
    [
        gains(0.05, count=0, condition="hand-back-control"),
        gains(
            -0.05,
            count=float("inf"),
            condition="hand-back-control",
            what="corrective_gain_minus_continuation",
        ),
    ],
    ids=["afresh", "to the end"],
)
def test_a_control_that_fails_leaves_the_claim_undecided(control: list[Measurement]) -> None:
    rows = [*retained(0.3), *gains(0.3)]
    one = found([*rows, *control])
    assert one.verdict == "undecided" and "so the claim is undecided" in one.sentence
    within = [replace(each, value=0.0, low=-0.01, high=0.01) for each in control]
    assert found([*rows, *within]).verdict == "holds"
    # The gain of all tokens is no control: it is A - S.
    whole = gains(0.3, count=float("inf"), condition="hand-back-control")
    assert found([*rows, *whole]).verdict == "holds"


def test_a_run_without_a_hand_back_has_not_measured_it() -> None:
    assert found(retained(0.3)).verdict == "not measured"
