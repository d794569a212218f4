"""The summary says what was measured and how, leads with the numbers, and tells first what must not
be believed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from decay_rows import decay_rows, decay_run, signal_rows
from made_runs import arm, made, row
from measured import MEASURED

from decaylab.claims.advice import Advice, advise
from decaylab.claims.advice_candidates import FULL_ROLLOUTS
from decaylab.claims.judge import CLAIMS, judge
from decaylab.claims.summary import Summary, agreeing, summary
from decaylab.claims.verdicts import Finding
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun

NAN, INF = math.nan, math.inf


def test_how_many_claims_hold_is_counted_in_a_sentence() -> None:
    told = summary([decay_run(), made("signals", signal_rows(), "signals")])
    said = f"Of {len(CLAIMS) - 1} claims of the literature, 1 hold on this pair, 0 "
    assert told.counted.startswith(f"{said}are contradicted, 0 are not supported, 0 are undecided")
    assert "1 are not testable with these runs" in told.counted
    assert f"{len(CLAIMS) - 3} were not measured" in told.counted


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


# Claims and advice


def test_the_advice_is_that_of_all_runs() -> None:
    runs = [decay_run(), made("signals", signal_rows(), "signals")]
    runs.append(made("sweep rollout-length", [*arm("prefix-20", -0.1)], "lengths"))
    told = summary(runs)
    assert told.advice.text == advise(runs).text
    assert told.advice.used == (runs[2], runs[0], runs[1])


def test_the_few_claims_that_matter_are_decided_ones_first_and_five_at_most() -> None:
    told = summary(found_runs.find([MEASURED]))
    assert [one.claim.name for one in told.deciding] == [
        "early-stopping-beats-full",
        "peak-between",
        "teacher-decay",
        "content",
        "selectors-worse",
    ]
    (alone,) = summary([decay_run()]).deciding
    assert alone.claim.name == "teacher-decay" and alone.verdict == "holds"
    assert summary([made("signals", signal_rows())]).deciding == ()


def settings(verdict: str, selector: str = "prefix", tokens: float = 0.3) -> Advice:
    """An advice that compared a setting of this verdict, and full rollouts with it."""
    row = {"arm": f"{selector}-20", "selector": selector, "verdict": verdict}
    rows = [{**row, "tokens_ratio": tokens}]
    return replace(advise([]), candidates=pd.DataFrame(rows))


def judged(name: str, verdict: Any) -> Finding:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return Finding(claim, verdict, "Numbers.", pd.DataFrame())


@pytest.mark.parametrize(
    ("name", "verdict", "advice", "agreed"),
    [
        ("early-stopping-beats-full", "holds", settings("better"), "holds"),
        ("early-stopping-beats-full", "holds", settings("not decided"), "undecided"),
        ("early-stopping-beats-full", "holds", settings("better", tokens=0.9), "undecided"),
        ("early-stopping-beats-full", "not supported", settings("better"), "undecided"),
        ("early-stopping-beats-full", "not supported", settings("as good"), "not supported"),
        ("early-stopping-beats-full", "contradicted", settings("worse"), "contradicted"),
        ("peak-between", "holds", settings("better", tokens=0.9), "holds"),
        ("rising-weights", "holds", settings("as good", "rising"), "undecided"),
        ("falling-weights", "holds", settings("better", "rising"), "undecided"),
        ("teacher-decay", "holds", settings("worse"), "holds"),
        ("early-stopping-beats-full", "not measured", settings("better"), "not measured"),
    ],
)
def test_a_claim_on_settings_is_undecided_where_the_advice_decides_otherwise(
    name: str, verdict: Any, advice: Advice, agreed: str
) -> None:
    found = agreeing(judged(name, verdict), advice)
    assert found.verdict == agreed
    reason = found.sentence.removeprefix("Numbers.")
    assert bool(reason) == (agreed != verdict) and ("advice" in reason) == bool(reason)


def test_a_gain_of_one_sweep_that_the_choice_among_many_explains_is_not_told_as_shown() -> None:
    """One length of 12 settings is ahead by 4 points, by the rule of its sweep; corrected for all
    of them nothing is, so the report must not say that early stopping wins."""
    lengths = made("sweep rollout-length", arm("prefix-20", 0.03, 0.022, share=0.3), "lengths")
    others = [
        one
        for place in range(14)
        for one in arm(f"top-{place}-20", 0.001 * (place - 7), 0.022, share=1.0)
    ]
    runs = [lengths, made("sweep selector", others, "selectors")]
    by_rule = {one.claim.name: one.verdict for one in judge(runs)}
    told = {one.claim.name: one for one in summary(runs).findings}
    early = told["early-stopping-beats-full"]
    assert by_rule["early-stopping-beats-full"] == "holds"
    assert summary(runs).advice.recommended in (None, FULL_ROLLOUTS)
    assert early.verdict == "undecided" and "among 15 settings" in early.sentence


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


def alarms(*runs: FoundRun) -> str:
    return "\n".join(summary(runs).alarms)


def test_a_sound_run_warns_of_nothing() -> None:
    assert warnings(decay_run(), made("signals", signal_rows())) == ""


def test_a_control_that_fails_is_an_alarm() -> None:
    rows = [
        replace(one, value=-0.1, low=-0.12, high=-0.08) if one.condition == "own-prefix" else one
        for one in decay_rows()
    ]
    told = summary(
        [decay_run(rows, notes=["17 of 20 student rollouts were cut off at the budget"])]
    )
    (alarm,) = told.alarms
    assert alarm.startswith("The control failed, so do not trust the decay results until this is ")
    assert "-10.0 points" in alarm and "cut off" in " ".join(told.warnings)


def test_a_control_that_is_undecided_or_missing_is_told() -> None:
    around = [
        replace(one, low=0.001, p_value_holm=0.4) if one.condition == "own-prefix" else one
        for one in decay_rows()
    ]
    assert alarms(decay_run(around)).startswith("The control is inconclusive: ")
    without = [one for one in decay_rows() if one.condition != "own-prefix"]
    assert warnings(decay_run(without)).startswith(
        "The control was not measured: `decaylab prefix-decay --controls all`"
    )
    assert not alarms(decay_run(without))
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
    lines = [*embedded.warnings, *embedded.measured, embedded.advice.text, embedded.counted]
    lines += [finding.sentence for finding in embedded.findings]
    for text in lines:
        words = text.replace("(", " ").replace(")", " ").replace("[", " ").split()
        assert not {"nan", "inf", "None", "-0.0"} & set(words)
        assert "  " not in text and "\n" not in text.replace("\n\n", "")
    assert "timed beside up to 1 other run" in " ".join(embedded.warnings)
    assert len(embedded.findings) == len(CLAIMS)
