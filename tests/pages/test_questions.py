"""The answers to the report's questions stand on the rows that they speak of, and runs that
measured the same are drawn together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from decay_rows import decay_rows, decay_run
from made_runs import arm, made, row
from measured import MEASURED

from decaylab.claims.advice import advise
from decaylab.pages import questions
from decaylab.pages.asked import Asked
from decaylab.pages.merging import merge
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.tables.settings import settings

BY_NAME = {question.name: question for question in questions.ASKED}


def answer(name: str, *runs: FoundRun) -> list[str]:
    return BY_NAME[name].answer(Asked(runs[0], runs, advise(runs)))


def full_rollouts(**more: Any) -> list[Any]:
    at = {"checkpoint": "full", "selector": "full", "rollout_length": math.inf, "problems": 0}
    at |= {"view": "training", "estimand": "mean over training seeds", **more}
    return [
        row("tokens_sampled_per_step", 1000.0, 5.0, unit="tokens", **at),
        row("seconds_per_step", 2.0, 0.5, "total", unit="seconds", **at),
    ]


def test_decay_is_told_by_the_advantage_and_the_half_decay_length() -> None:
    assert answer("decay", decay_run()) == [
        "Alone, the teacher is ahead of the student by +44.9 points [+39.9, +49.9] over 300 "
        "problems.",
        "Half of its advantage over the student is gone after 39 tokens [34, 44].",
    ]
    lost = [
        replace(one, value=math.nan, low=math.nan, high=math.nan, note="no advantage")
        if one.what in ("teacher_advantage", "half_decay_length")
        else one
        for one in decay_rows()
    ]
    assert answer("decay", decay_run(lost)) == [
        "The half-decay length is undefined (no advantage)."
    ]


def test_a_teacher_that_is_worse_is_told_as_behind() -> None:
    worse = [
        replace(one, value=-0.1, low=-0.15, high=-0.05) if one.what == "teacher_advantage" else one
        for one in decay_rows()
    ]
    first, _ = answer("decay", decay_run(worse))
    assert "ahead" not in first
    assert first == (
        "Alone, the teacher is behind the student: -10.0 points [-15.0, -5.0] over 300 problems."
    )


def test_a_ratio_from_another_position_is_not_told_as_from_the_first() -> None:
    rows = [
        row("cascade_ratio", value, 0.05, "all", checkpoint=label, view="fresh", position_low=start)
        for label, value, start in (
            ("prefix-20-seed-0", 0.8, 20.0),
            ("full-seed-0", 0.4, 20.0),
            ("prefix-40-seed-0", 0.6, 40.0),
        )
    ]
    told = answer("kl", made("position-kl", rows))[-1]
    assert told.startswith("From position 20 on") and told.endswith(
        "0.80 [0.75, 0.85] (prefix-20-seed-0) and 0.40 [0.35, 0.45] (full-seed-0)."
    )


def test_lengths_are_told_by_training_and_what_it_says_of_the_suggested_one() -> None:
    sweep = made("sweep rollout-length", [*arm("prefix-40", -0.1), *arm("prefix-80", 0.0)])
    first, second = answer("lengths", sweep, decay_run())
    assert first.startswith("Against full rollouts, in points: -10.0 at N = 40, 0.0 at N = 80;")
    assert second.startswith("Without training, 39 tokens [34, 44] by the half-decay length would")
    assert "training contradicts it: -10.0 points" in second


def test_cost_tells_full_rollouts_and_the_advised_setting_against_them() -> None:
    """A prefix that is 10 points ahead, with 0.3 of the tokens and half of the seconds."""
    rows = [*arm("prefix-20", 0.1, 0.005, share=0.3, seconds=0.5), *full_rollouts()]
    full, advised = answer("cost", made("sweep rollout-length", rows))
    assert (
        full
        == "A step with full rollouts samples 1,000 tokens and takes 2.00 [1.50, 2.50] seconds."
    )
    assert advised.startswith(
        "The advised setting, rollouts of 20 tokens: 0.30 [0.29, 0.31] of the sampled tokens and "
        "0.50 ["
    )
    rows = [*arm("prefix-20", -0.1, 0.005, share=0.3, seconds=0.5), *full_rollouts()]
    _, advised = answer("cost", made("sweep rollout-length", rows))
    assert advised.startswith(
        "Full rollouts are the advised setting; the cheapest of the others, prefix-20, changes "
        "accuracy by -10.0 points and takes 0.30 ["
    )


def test_the_cost_figure_holds_lengths_full_rollouts_and_the_advised_setting() -> None:
    rows = [
        *(
            one
            for name in ("top-kl-20", "prefix-40", "prefix-20")
            for one in arm(name, 0.0, share=0.4)
        ),
        *full_rollouts(),
    ]
    run = made("sweep rollout-length", rows)
    merged = replace(merge(paper_items.item("mode-seeking", FIGURES), []), run=run)  # type: ignore[type-var]
    nothing = advise([])
    shown = questions.of_cost(merged, nothing).run
    assert shown and list(shown.measurements["checkpoint"].unique()) == [
        "prefix-20",
        "prefix-40",
        "full",
    ]
    chosen = replace(nothing, recommended=questions_setting("top-kl-20"))
    shown = questions.of_cost(merged, chosen).run
    assert shown and "top-kl-20" in set(shown.measurements["checkpoint"])


def questions_setting(arm_name: str) -> Any:
    from decaylab.claims.advice import Setting

    return Setting("top-kl", math.inf, arm_name)


def test_the_mode_is_told_of_the_untrained_student_where_no_other_was_measured() -> None:
    at = {"checkpoint": "base", "view": "fresh"}
    rows = [
        row("equals_teacher_top1", 0.8, 0.02, "own", **at),
        row("in_teacher_top2to5", 0.15, 0.01, "own", **at),
    ]
    first, second = answer("mode", made("submode", rows))
    assert first.endswith(
        "in 80.0 % [78.0, 82.0], and the teacher's second to fifth in 15.0 % [14.0, 16.0]."
    )
    assert second == (
        "No trained student was measured; `decaylab submode runs/esr runs/full` shows whether "
        "training changes that."
    )


def moved(label: str, second: float, first: float) -> list[Any]:
    """How a student's choices at tokens of two modes changed; intervals of half a point."""
    at = {"checkpoint": label, "view": "frozen"}
    return [
        row("in_teacher_top2to5_change", second, 0.005, "common, two modes", **at),
        row("student_top1_probability_change", first, 0.005, "common, two modes", **at),
    ]


def test_the_mode_begins_with_whether_a_change_is_shown() -> None:
    still = [*moved("esr", 0.001, 0.0), *moved("full", 0.0, 0.02)]
    first, second = answer("mode", made("submode", still))
    assert first.startswith("No change is shown: where the teacher has two modes, the share of")
    assert first.endswith("by +0.1 points [-0.4, +0.6] (esr) and 0.0 points [-0.5, +0.5] (full).")
    assert second.startswith("A change is shown for full: the probability of the student's first")
    both = [*moved("esr", -0.02, 0.03), *moved("full", -0.05, 0.02)]
    assert all(
        one.startswith("A change is shown: ") for one in answer("mode", made("submode", both))
    )
    unknown = [*moved("esr", math.nan, 0.0), *moved("full", 0.0, 0.0)]
    first, second = answer("mode", made("submode", unknown))
    assert first.startswith("Where the teacher has two modes") and "undefined (esr)" in first
    assert second.startswith("No change is shown: ")


def stops(*values: float) -> list[Any]:
    return [
        row("natural_stop_share", value, 0.01, checkpoint=label, view="fresh")
        for label, value in zip(("base", "esr", "full"), values)
    ]


def test_stopping_is_one_short_sentence_where_all_or_none_stop() -> None:
    def told(*values: float) -> str:
        return answer("behaviour", made("behaviour", stops(*values)))[-1]

    assert told(1.0, 1.0, 1.0) == (
        "All responses stop naturally, before and after training (interval from 99.0 %)."
    )
    assert told(0.0, 0.0) == (
        "No response stops naturally, before and after training (interval up to 1.0 %)."
    )
    assert told(1.0) == "All responses stop naturally, before training (interval from 99.0 %)."
    assert told(1.0, 0.9) == (
        "Of them 100.0 % [99.0, 101.0] stop naturally; after training 90.0 % [89.0, 91.0] (esr) do."
    )


def cumulative(low: float, at: float, high: float) -> FoundRun:
    """45 % of the KL over 88 positions in the first so many, and in the first 46 of all tokens."""
    place = {"checkpoint": "base", "view": "fresh", "unit": "tokens"}
    rows = [
        row("cumulative_kl_horizon", 88.0, math.nan, "survivors", **place),
        row("cumulative_kl_threshold", 0.45, math.nan, "survivors", **place),
        replace(row("cumulative_kl_position", at, 0.0, "survivors", **place), low=low, high=high),
        row("cumulative_kl_position", 46.0, 3.0, "mass", **place),
        row("reverse_kl", 0.2, 0.01, checkpoint="base", view="fresh", position_low=0.0),
    ]
    return made("signals", rows)


def test_the_kl_is_late_or_early_where_its_interval_leaves_out_an_even_spread() -> None:
    """45 % of 88 positions are 39.6."""
    first, _ = answer("kl", cumulative(50.0, 53.0, 56.0))
    assert first == (
        "By position, the KL lies late: 45 % of the base student's reverse KL over the first 88 "
        "tokens lies in the first 53 [50, 56] (its noise floor was not measured), where an even "
        "spread would have the first 40 (by the mean over the rollouts that reach a position). "
        "Summed over all tokens, of which early positions have more, it is the first 46 [43, 49]."
    )
    early, _ = answer("kl", cumulative(20.0, 22.0, 24.0))
    assert early.startswith("By position, the KL lies early: 45 % of")
    assert answer("kl", cumulative(39.0, 42.0, 44.0))[0].startswith("45 % of the base student's")


def test_the_kl_of_a_run_without_signals_is_told_where_it_is_highest() -> None:
    rows = [
        row(
            "winsorised_reverse_kl",
            value,
            0.01,
            "all",
            checkpoint="base",
            view="fresh",
            unit="nats",
            position_low=low,
            position_high=low + 10,
        )
        for low, value in ((0.0, 0.2), (10.0, 0.5), (20.0, math.nan))
    ]
    first, second = answer("kl", made("position-kl", rows))
    assert first == (
        "The reverse KL of the untrained student is highest from position 10 to 19: 0.500 nats "
        "[0.490, 0.510]."
    )
    assert second.startswith("No trained student was measured")


# Several runs


@pytest.fixture(scope="module")
def committed() -> list[FoundRun]:
    return found_runs.find([MEASURED])


def test_a_run_of_the_base_student_is_part_of_the_one_that_has_others_too(
    committed: list[FoundRun],
) -> None:
    merged = merge(paper_items.item("position-kl", FIGURES), committed)
    assert merged and merged.run and merged.run.name == "trained-position-kl" and not merged.left


def test_two_sweeps_of_the_same_full_rollouts_are_drawn_together(
    committed: list[FoundRun],
) -> None:
    merged = merge(paper_items.item("efficiency", FIGURES), committed)
    assert merged and merged.run and merged.run.name == "selector and rollout-length"
    frame = merged.run.measurements
    of_both = set(frame["checkpoint"])
    for run in committed:
        if run.command.startswith("sweep"):
            assert set(run.measurements["checkpoint"]) <= of_both
    full = frame[(frame["checkpoint"] == "full") & (frame["what"] == "tokens_ratio")]
    assert not full.duplicated().any()


def test_runs_that_measured_the_same_otherwise_are_not_mixed() -> None:
    def behaviour(name: str, tokens: float, problems: int, student: str) -> FoundRun:
        rows = [
            row(
                "response_tokens_p50",
                value,
                1.0,
                checkpoint=label,
                problems=problems,
                unit="tokens",
            )
            for label, value in (("base", tokens), (student, 60.0))
        ]
        return made("behaviour", rows, name)

    item = paper_items.item("response-length", FIGURES)
    small = behaviour("small", 70.0, 100, "esr")
    alike, other = behaviour("alike", 70.0, 300, "full"), behaviour("other", 71.0, 300, "full")
    merged = merge(item, [small, alike])
    assert merged and merged.run and not merged.left
    assert set(merged.run.measurements["checkpoint"]) == {"base", "esr", "full"}
    merged = merge(item, [small, other])
    assert merged and merged.run is other and merged.left == (small,)
    assert merge(item, [decay_run()]) is None


# The table behind the advice


def test_the_table_of_settings_has_the_numbers_of_the_advice(committed: list[FoundRun]) -> None:
    candidates = advise(committed).candidates
    table = settings(candidates)
    frame = table.frame
    assert len(frame) == len(candidates) == 23 and "among 23 settings" in table.caption
    assert frame["measured_points"].is_monotonic_decreasing
    both = frame.merge(candidates, on="arm")
    assert both["measured_points"].to_list() == pytest.approx(
        (100 * both["measured_gain"]).to_list()
    )
    at_40 = table.text[table.text["setting"] == "prefix-40"].iloc[0]
    assert at_40["against full rollouts"] == "worse"
    assert at_40["measured (points)"] == "-6.3 [-8.1, -4.5]" and at_40["tokens"] == "0.580"
    rising = table.text[table.text["setting"] == "rising"].iloc[0]
    assert rising["against full rollouts"] in ("not ahead", "worse")
    assert rising["at least, at even odds (points)"] == "", "no bound where no lead is possible"
    assert isinstance(frame, pd.DataFrame)
    assert "choice among" not in settings(candidates.head(1).assign(among=1)).caption
