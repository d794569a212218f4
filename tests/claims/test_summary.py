"""The summary says what was measured and how, leads with the numbers, and tells first what must not
be believed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decay_rows import decay_rows, decay_run, signal_rows
from made_runs import arm, made, row

from decaylab.claims.advice import advise
from decaylab.claims.judge import CLAIMS, judge
from decaylab.claims.summary import KeyNumber, Summary, summary
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun

NAN, INF = math.nan, math.inf
MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measurements"


def test_the_headline_says_pair_advantage_half_decay_advice_and_how_many_claims_hold() -> None:
    told = summary([decay_run(), made("signals", signal_rows(), "signals")])
    text = " ".join(told.headline)
    for said in (
        "2 runs of the student small and the teacher large.",
        "ahead of the student by +44.9 points [+39.9, +49.9] over 300 problems. "
        "Half of its advantage over the student is gone after 39 tokens",
        "The length to compare with them is 39 tokens [34, 44] by the half-decay length",
        f"Of {len(CLAIMS) - 1} claims of the literature, 1 hold on this pair, 0 are contradicted",
        "Holds: teacher decay.",
        "Not testable here: early kl.",
        "Not measured: content, ",
    ):
        assert said in text, text
    assert "Contradicted:" not in text and "CONTROL" not in text


def test_the_findings_are_those_of_the_judge_with_controls_apart() -> None:
    runs = [decay_run()]
    told = summary(runs)
    judged = judge(runs)
    assert [(one.claim, one.verdict, one.sentence) for one in told.findings] == [
        (one.claim, one.verdict, one.sentence) for one in judged
    ]
    assert [one.claim.name for one in told.controls] == ["own-prefix"] and len(told.claims) == len(
        CLAIMS
    ) - 1


# Numbers


def numbers(*runs: FoundRun) -> dict[str, KeyNumber]:
    return {one.name: one for one in summary(runs).numbers}


def test_numbers_have_their_intervals() -> None:
    found = numbers(decay_run(), made("signals", signal_rows()))
    assert found["teacher's advantage"][1:] == (
        "44.9 points",
        "95 % interval over 300 problems 39.9 to 49.9",
    )
    assert found["half-decay length"][1:] == (
        "39 tokens",
        "95 % interval over 300 problems 34 to 44",
    )
    assert found["advised training"].value == "none"
    sweep = made("sweep rollout-length", [*arm("prefix-20", -0.1)])
    found = numbers(decay_run(), sweep)
    assert found["advised training"] == KeyNumber(
        "advised training",
        "full rollouts",
        "The other setting, prefix-20, is shown to be worse.",
    )


@pytest.mark.parametrize(
    ("half", "value", "note"),
    [
        (
            {"value": INF, "low": 44.0, "high": INF, "note": "not reached by 60"},
            "more than 60 tokens",
            "not reached by 60",
        ),
        (
            {"value": NAN, "low": NAN, "high": NAN, "note": "no advantage"},
            "undefined",
            "no advantage",
        ),
        (
            {"low": 30.0, "high": INF},
            "39 tokens",
            "95 % interval over 300 problems 30 to beyond the longest prefix",
        ),
        ({"low": NAN, "high": NAN}, "39 tokens", "no interval"),
    ],
)
def test_a_half_decay_length_without_end_or_value_is_told_in_words(
    half: dict[str, Any], value: str, note: str
) -> None:
    rows = [
        replace(one, **half) if one.what == "half_decay_length" else one for one in decay_rows()
    ]
    found = numbers(decay_run(rows))["half-decay length"]
    assert found.value == value and found.note.startswith(note)


def test_without_a_decay_run_the_half_decay_length_was_not_measured() -> None:
    found = numbers(made("signals", signal_rows()))
    assert found["half-decay length"] == KeyNumber(
        "half-decay length", "not measured", "`decaylab prefix-decay` measures it"
    )
    assert "teacher's advantage" not in found


def test_the_advice_is_that_of_all_runs() -> None:
    runs = [decay_run(), made("signals", signal_rows(), "signals")]
    runs.append(made("sweep rollout-length", [*arm("prefix-20", -0.1)], "lengths"))
    told = summary(runs)
    assert told.advice.text == advise(runs).text
    assert told.advice.short in told.headline and told.advice.used == (runs[2], runs[0], runs[1])


# What was measured


def test_what_was_measured_has_its_problems_samples_and_settings() -> None:
    (said,) = summary([decay_run()]).measured
    assert said == (
        "prefix-decay, run pair: 300 problems of abacus x 4 samples, T = 0.7, at most 320 tokens, "
        "answer rule last_boxed, "
        "seed 0, prefixes of 10 and 60 tokens."
    )


def test_a_sweep_tells_its_arms_and_seeds() -> None:
    rows = [*arm("prefix-5", 0.1), *arm("full", 0.0)]
    run = made(
        "sweep rollout-length", rows, "mine", samples=1, seeds=3, checkpoint_rule="last", seed=0
    )
    assert summary([run]).measured == (
        "sweep rollout-length, run mine: 300 problems x 1 sample, answer rule last_boxed, 3 "
        "training seeds, last checkpoint, "
        "seed 0; arms prefix-5, full.",
    )


def test_runs_that_measured_alike_are_told_in_one_sentence() -> None:
    runs = [
        made("evaluate", [row("avg_at_1", 0.5, checkpoint=f"full-seed-{i}")], f"run-{i}", samples=1)
        for i in range(9)
    ]
    (said,) = summary(runs).measured
    assert said == (
        "evaluate, runs run-0, run-1, run-2 and 6 more: 300 problems x 1 sample; students "
        "full-seed-0, full-seed-1, "
        "full-seed-2 and 6 more."
    )
    other = made("evaluate", [row("avg_at_1", 0.5)], "other", samples=2)
    assert len(summary([*runs, other]).measured) == 2


def test_an_empty_table_is_no_reason_to_fail() -> None:
    assert summary([made("signals", [])]).measured == ("signals, run made: 0 problems.",)


# Warnings


def warnings(*runs: FoundRun) -> str:
    return "\n".join(summary(runs).warnings)


def test_a_sound_run_warns_of_nothing() -> None:
    assert warnings(decay_run(), made("signals", signal_rows())) == ""


def test_a_control_that_fails_is_told_loudly_before_all_else() -> None:
    rows = [
        replace(one, value=-0.1, low=-0.12, high=-0.08) if one.condition == "own-prefix" else one
        for one in decay_rows()
    ]
    told = summary(
        [decay_run(rows, notes=["17 of 20 student rollouts were cut off at the budget"])]
    )
    assert (
        told.warnings[0].startswith("THE CONTROL FAILED: ") and "-10.0 points" in told.warnings[0]
    )
    assert any(line.startswith("THE CONTROL FAILED: do not") for line in told.headline)


def test_a_control_that_is_undecided_or_missing_is_told() -> None:
    around = [
        replace(one, low=0.001, p_value_holm=0.4) if one.condition == "own-prefix" else one
        for one in decay_rows()
    ]
    assert "the control is inconclusive: " in warnings(decay_run(around))
    without = [one for one in decay_rows() if one.condition != "own-prefix"]
    assert "the control was not measured: `decaylab prefix-decay --controls all`" in warnings(
        decay_run(without)
    )
    assert "control" not in warnings(made("signals", signal_rows())), (
        "nothing that it would guard was measured"
    )


def test_numbers_under_the_noise_floor_and_floors_that_are_missing_are_counted() -> None:
    assert "signals: 4 of 6 numbers lie under twice their noise floor" in warnings(
        made("signals", signal_rows(under=True), "signals")
    )
    assert "signals: the noise floor was not measured" in warnings(
        made("signals", signal_rows(floor=NAN), "signals")
    )
    assert warnings(made("evaluate", [row("avg_at_1", 0.5)])) == "", "accuracy has none"


def test_notes_of_runs_are_told_once_with_all_that_have_them() -> None:
    note = "17 of 20 student rollouts were cut off at the budget"
    runs = [decay_run(name=f"run-{i}", notes=[note]) for i in range(5)]
    assert warnings(*runs) == f"run-0, run-1, run-2 and 2 more: {note}"


def test_intervals_of_less_than_95_percent_are_told() -> None:
    assert (
        "pair: its intervals are at 90 %, too low to decide claims; measure again with --level 0.95"
        in warnings(decay_run(decay_rows(level=0.9)))
    )


def test_runs_that_were_made_differently_are_told_apart() -> None:
    found = warnings(decay_run(), decay_run(name="hot", temperature=1.0, problem_set="gsm8k"))
    assert "the runs differ in their temperature: 0.7 (pair); 1.0 (hot)" in found
    assert (
        "the runs differ in their problem set: abacus (pair); gsm8k (hot)" in found
        and "budget" not in found
    )
    assert "differ" not in warnings(decay_run(), made("signals", signal_rows())), (
        "what is not recorded differs from nothing"
    )


# Texts


@pytest.fixture(scope="module")
def embedded() -> Summary:
    return summary(found_runs.find([MEASURED]))


def test_the_summary_of_the_embedded_pair_reads_without_a_gap(embedded: Summary) -> None:
    lines = [*embedded.headline, *embedded.warnings, *embedded.measured, embedded.advice.text]
    lines += [f"{number.name} {number.value} {number.note}" for number in embedded.numbers]
    lines += [finding.sentence for finding in embedded.findings]
    for text in lines:
        words = text.replace("(", " ").replace(")", " ").replace("[", " ").split()
        assert not {"nan", "inf", "None", "-0.0"} & set(words)
        assert "  " not in text and "\n" not in text.replace("\n\n", "")
    assert "timed beside up to 1 other run" in " ".join(embedded.warnings)
    assert len(embedded.findings) == len(CLAIMS)
