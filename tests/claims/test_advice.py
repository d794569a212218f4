"""Training decides, full rollouts are always an option, and what the runs do not show is not
recommended. The gain of a way that was chosen among several is in test_advice_gain.py, the length
that decay suggests in test_advice_lengths.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from decay_rows import decay_rows, decay_run, signals_run
from made_runs import arm, made, row
from measured import MEASURED

from decaylab.claims.advice import Advice, advise
from decaylab.claims.advice_candidates import FULL_ROLLOUTS
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

LENGTHS = "sweep rollout-length"
FULL_OVER_BASE = arm("full", 0.21, ending="_minus_base")
WORSE = {"prefix-20": -0.12, "prefix-40": -0.06}


def sweep(
    arms: Sequence[Sequence[Measurement]],
    name: str = "lengths",
    command: str = LENGTHS,
    spoken: str = "",
    base: Sequence[Measurement] = tuple(FULL_OVER_BASE),
    **options: Any,
) -> FoundRun:
    record = {"identity": {"options": {"seed": 0, "seeds": 3, **options}}, "command": spoken}
    rows = [*base, *(one for rows in arms for one in rows)]
    return made(command, rows, name, record)


def worse() -> FoundRun:
    return sweep([arm(name, change) for name, change in WORSE.items()])


def readable(advice: Advice) -> Advice:
    """The advice, whose texts hold no leftovers."""
    words = advice.text.replace("(", " ").replace(")", " ").replace("[", " ").split()
    assert not {"nan", "inf", "None", "-0.0", "–"} & set(words), advice.text
    assert "  " not in advice.text and ".." not in advice.text and " ." not in advice.text
    assert len(advice.verdict) == 2 and advice.text.startswith(advice.short)
    return advice


# Full rollouts


def test_a_sweep_that_contradicts_half_decay_decides() -> None:
    advice = readable(advise([decay_run(), signals_run(), worse()]))
    assert advice.recommended == FULL_ROLLOUTS
    assert advice.short == (
        "Train with full rollouts. Each of the 2 other settings compared is shown to be worse, "
        "including rollouts of 40 tokens, near the half-decay length of 39."
    )
    assert "training contradicts it: -6.0 points [-7.0, -5.0] over problems" in advice.text
    assert "39 tokens [34, 44] by the half-decay length" in advice.text
    assert [run.command for run in advice.used] == [LENGTHS, "prefix-decay", "signals"]


def test_what_full_rollouts_gain_and_what_the_best_other_way_would_is_said() -> None:
    advice = readable(
        advise([sweep([arm("prefix-60", 0.004, 0.02, p=0.6), arm("prefix-5", -0.2)])])
    )
    assert advice.recommended == FULL_ROLLOUTS
    assert (advice.gain.even_odds, advice.gain.low, advice.gain.high) == (0.0, 0.0, 0.0)
    assert "Full rollouts gain +21.0 points [+20.0, +22.0] over problems" in advice.expected_gain
    assert "prefix-60 has the largest measured gain: +0.4 points [" in advice.expected_gain
    assert "at even odds), corrected for the choice among 2" in advice.expected_gain
    assert (
        "first candidate is prefix-60" in advice.would_change
        and "prefix-5" not in advice.would_change
    )
    assert "--values 60,full" in advice.experiment.command


def test_where_no_other_way_can_be_ahead_only_other_settings_would_change_the_answer() -> None:
    advice = readable(advise([worse()]))
    assert advice.would_change.startswith("Only a setting that was not compared")
    assert advice.experiment.command.startswith("decaylab sweep selector --values full,")
    both = readable(advise([sweep([arm("prefix-20", -0.12), arm("random-20", -0.2)])]))
    assert both.experiment is None and "Next experiment" not in both.text


def test_a_single_way_that_is_worse_is_named() -> None:
    advice = readable(advise([sweep([arm("prefix-20", -0.12)])]))
    assert advice.verdict[1] == "The other setting, prefix-20, is shown to be worse."


def test_full_rollouts_are_advised_on_the_runs_of_the_embedded_pair() -> None:
    runs = found_runs.find([MEASURED])
    advice = readable(advise(runs))
    assert advice.recommended == FULL_ROLLOUTS
    assert "6 are shown to be worse, including rollouts of 40 tokens" in advice.short
    assert advice.short.endswith("39; 2 could still be ahead by 2 points.")
    names = {run.name for run in advice.used}
    assert names == {"rollout-length", "selector", "prefix-decay", "signals", "trained-behaviour"}
    table = advice.candidates.set_index("arm")
    assert len(table) == 23 and table["among"].eq(23).all()
    assert set(table.index[table["verdict"] == "worse"]) == {
        "prefix-5",
        "prefix-10",
        "prefix-20",
        "prefix-40",
        "prefix-mask-20",
        "progressive-20",
    }
    assert table.loc["prefix-40", "measured_gain"] == pytest.approx(0.61875 - 0.682083, abs=1e-6)
    assert "1,104 tokens" in advice.expected_cost and "prefix-60 at -0.8" in advice.expected_cost


# Another way of training


def test_a_way_that_is_shown_to_be_better_is_advised_with_its_shrunk_gain() -> None:
    run = sweep([arm("prefix-20", 0.08, 0.01, share=0.3, seconds=0.5), arm("prefix-5", -0.1)])
    advice = readable(advise([run, decay_run()]))
    assert advice.recommended.arm == "prefix-20" and advice.recommended.rollout_length == 20
    assert 0 < advice.gain.low < advice.gain.even_odds < advice.gain.measured == 0.08
    assert advice.short.startswith("Train with rollouts of 20 tokens. It gains +8.0 points [+")
    assert "corrected for the choice among 2" in advice.short
    assert "0.30 [0.29, 0.31] of the sampled tokens" in advice.expected_cost
    assert "0.50 [0.45, 0.55] of the seconds" in advice.expected_cost
    assert "not ahead of full rollouts" in advice.would_change


def test_as_good_within_two_points_and_cheaper_is_advised_and_no_more_is_promised() -> None:
    even = arm("prefix-60", 0.0, 0.004, p=0.9, share=0.6)
    advice = readable(advise([sweep([even, arm("prefix-5", -0.2)])]))
    assert advice.recommended.arm == "prefix-60"
    assert "No setting is shown to be better than full rollouts" in advice.short
    assert "0.60 [0.59, 0.61] of the tokens" in advice.short
    assert advice.gain.low > -0.02 and advice.gain.even_odds < 0
    for other in (
        arm("prefix-60", 0.0, 0.004, p=0.9, share=0.97),
        arm("prefix-60", 0.0, 0.004, p=0.9, share=0.6, seconds=1.3),
        arm("prefix-60", 0.0, 0.02, p=0.9, share=0.6),
    ):
        assert advise([sweep([other, arm("prefix-5", -0.2)])]).recommended == FULL_ROLLOUTS


def test_a_gain_that_would_be_shown_alone_is_not_among_twenty() -> None:
    lucky = arm("random-20", 0.05, 0.02)
    assert advise([sweep([lucky])]).recommended.arm == "random-20"
    many = [arm(f"suffix-{place}", -0.001, 0.02, p=1.0) for place in range(10, 30)]
    assert advise([sweep([lucky, *many])]).recommended == FULL_ROLLOUTS


# Nothing is recommended


def nothing(advice: Advice, *words: str) -> Advice:
    readable(advice)
    assert advice.recommended is None and advice.gain is None
    assert advice.short.startswith("No setting is recommended")
    assert all(word in advice.text for word in words), advice.text
    assert not advice.expected_gain and not advice.expected_cost
    return advice


def test_seeds_that_disagree_are_named_by_seed() -> None:
    torn = arm("prefix-20", 0.05, 0.01, over_seeds=0.5)  # +25.1, +5.0 and -15.1 by seed
    advice = nothing(
        advise([sweep([torn, arm("prefix-40", -0.06)])]),
        "the evidence contradicts itself",
        "training seeds of prefix-20 disagree: +25.1, +5.0 and -15.1 points per seed",
    )
    assert "--values 20,full" in advice.experiment.command
    assert "--seed 3" in advice.experiment.command
    behind = arm("prefix-20", -0.30, 0.01, over_seeds=0.5)  # apart as far, but all of them behind
    assert advise([sweep([behind, arm("prefix-40", -0.06)])]).recommended == FULL_ROLLOUTS


def test_a_way_that_is_shown_to_be_better_outweighs_seeds_that_disagree_elsewhere() -> None:
    torn = arm("prefix-20", 0.05, 0.01, over_seeds=0.5)
    advice = readable(advise([sweep([torn, arm("prefix-40", 0.1)])]))
    assert advice.recommended.arm == "prefix-40"
    assert "seeds of prefix-20 disagree" in " ".join(advice.evidence)


def test_sweeps_that_decide_otherwise_on_one_way_are_named() -> None:
    runs = [
        sweep([arm("prefix-20", 0.08)], "one"),
        sweep([arm("prefix-20", -0.08, problems=200)], "two"),
    ]
    advice = nothing(advise(runs), "Two sweeps disagree on prefix-20: +8.0 points")
    assert "in one" in advice.short and "in two" in advice.short


def test_answer_rules_that_decide_otherwise_are_named() -> None:
    other = [
        replace(one, condition="first_boxed", answer_rule="first_boxed")
        for one in arm("prefix-20", -0.05)
    ]
    nothing(
        advise([sweep([[*arm("prefix-20", 0.08), *other]])]),
        "by the answer rule last_boxed at the last checkpoint, but behind by first_boxed",
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int) -> None:
    run = sweep(
        [arm("prefix-20", -0.2, seeds=seeds), arm("prefix-40", 0.2, seeds=seeds)],
        spoken=f"decaylab sweep rollout-length --values 20,40,full --seeds {seeds} --quiet",
    )
    advice = nothing(advise([run]), "full rollouts remain the default", "are inconclusive")
    assert advice.experiment.command == (
        "decaylab sweep rollout-length --values 20,40,full --seeds 3"
    )


def test_training_that_does_not_help_is_not_recommended() -> None:
    run = sweep([arm("prefix-20", -0.1)], base=arm("full", 0.001, 0.005, ending="_minus_base"))
    nothing(advise([run]), "does not improve this student by 2 points", "+0.1 points")


def test_with_only_a_decay_run_its_length_is_to_be_compared() -> None:
    run = decay_run(problems="abacus")
    advice = nothing(advise([run]), "no run of this pair compared a setting")
    assert "39 tokens [34, 44] by the half-decay length; it remains a guess" in advice.short
    assert advice.experiment.command == (
        "decaylab sweep rollout-length --values 20,39,78,full --seeds 3 --teacher large "
        "--student small --problems TRAINING_SET --test-problems abacus"
    )
    assert [run.command for run in advice.used] == ["prefix-decay"]


def test_a_decay_run_on_too_few_problems_is_to_be_repeated_on_more() -> None:
    rows = [
        replace(one, problems=20, low=math.nan, high=math.nan) if "advantage" in one.what else one
        for one in decay_rows()
    ]
    advice = nothing(advise([decay_run(rows)]), "the teacher's advantage has no interval")
    assert advice.experiment.command.endswith("--limit 600"), "twice the most that were measured"


def test_with_nothing_the_decay_run_comes_first() -> None:
    advice = nothing(advise([]), "full rollouts, which remain the default")
    assert advice.experiment.command == "decaylab prefix-decay"
    assert advice.runs_read == "No run has the measurements that an advice needs."
    assert advise([made("submode", [row("wordy_share", 0.1)])]).short == advice.short


def test_a_sweep_without_full_rollouts_compares_nothing() -> None:
    run = sweep([arm("prefix-20", 0.1, ending="_minus_base")], base=())
    nothing(advise([run]), "compared a setting with full rollouts")


# Which runs


def test_of_two_runs_of_a_command_the_one_with_most_problems_is_read_and_that_is_said() -> None:
    few = decay_run(
        [replace(one, value=9.0, low=8.0, high=10.0, problems=90) for one in decay_rows()], "few"
    )
    many = decay_run(name="many")
    for order in ([few, many], [many, few]):
        advice = advise(order)
        assert advice.used == (many,) and "39 tokens" in advice.short
        assert (
            "Of 2 prefix-decay runs, many is used, which has the most problems "
            "(300), instead of few (90)." in advice.runs_read
        )


def test_every_sweep_is_read_and_a_way_that_two_measured_counts_once() -> None:
    small = sweep([arm("prefix-20", -0.1, problems=100), arm("prefix-5", -0.2)], "small")
    large = sweep([arm("prefix-20", -0.13), arm("prefix-40", -0.05)], "large")
    advice = readable(advise([small, large]))
    table = advice.candidates.set_index("arm")
    assert sorted(table.index) == ["prefix-20", "prefix-40", "prefix-5"]
    assert table.loc["prefix-20", "run"] == "large" and table["among"].eq(3).all()
    said = "For prefix-20, large is used, the more precise result, not small."
    assert said in advice.runs_read
    same = advise([large, sweep([arm("prefix-20", -0.13)], "shared")])
    assert "counts" not in same.runs_read, "both compare the same training runs"


# What comes next


def test_the_next_experiment_costs_what_the_steps_of_these_runs_took() -> None:
    spoken = (
        "decaylab sweep rollout-length --values 5,60,full --seeds 3 --steps 100 --out runs/x "
        "--budget=4 --quiet"
    )
    close = arm("prefix-60", 0.004, 0.02, over_seeds=0.005, p=0.6, seconds=0.5)
    close = [replace(one, step=100.0) for one in close]
    advice = advise([sweep([close, arm("prefix-5", -0.2)], spoken=spoken)])
    assert advice.experiment.command == (
        "decaylab sweep rollout-length --values 60,full --seeds 3 --seed 3 --steps 100"
    )
    # 3 seeds x 100 steps x (0.5 s of the arm and 1 s of full rollouts)
    assert advice.experiment.seconds == pytest.approx(3 * 100 * 1.5)
    assert "6 runs of 100 steps, about 8 min" in advice.experiment.cost


def test_seeds_that_differ_more_ask_for_more_of_them() -> None:
    def seeds(reach: float) -> int:
        run = sweep([arm("prefix-60", 0.0, 0.02, over_seeds=reach, p=0.6)])
        words = advise([run]).experiment.command.split()
        return int(words[words.index("--seeds") + 1])

    assert 3 == seeds(0.005) < seeds(0.03) < seeds(0.1) == 10


def test_where_no_step_was_timed_the_cost_is_not_known() -> None:
    advice = advise([sweep([arm("prefix-60", 0.0, 0.02, p=0.6)])])
    assert math.isnan(advice.experiment.seconds) and "is unknown" in advice.experiment.cost


def test_behaviour_of_students_trained_as_advised_is_told() -> None:
    place = {"checkpoint": "full-seed-0", "selector": "full", "rollout_length": math.inf}
    place |= {"view": "fresh", "training_seed": 0.0}
    rows = [
        row("response_tokens_mean_change", -3.0, 1.0, unit="tokens", **place),
        row("natural_stop_share", 0.9, 0.05, **place),
    ]
    advice = readable(advise([worse(), made("behaviour", rows, "after")]))
    assert "changes the response length by -3.0 [-4.0, -2.0] tokens; 90.0 %" in advice.text


def test_what_scores_were_found_to_be_worth_is_told_and_decides_nothing() -> None:
    point = {"view": "open", "prefix_tokens": 40.0}
    gain = {**point, "category": "teacher tokens: 1", "p_value_holm": 0.001}
    decay = decay_run(
        [
            *decay_rows(),
            row("retained_advantage", 0.3, 0.05, "student-prefix", **point),
            row("corrective_gain", 0.04, 0.01, "hand-back", **gain),
        ]
    )
    segment = {"position_low": 0.0, "position_high": 20.0, "view": "open"}
    values = made("values", [row("score_covariance", 0.1, 0.01, "student", **segment)])
    without, advice = advise([decay_run(), worse()]), readable(advise([decay, values, worse()]))
    assert (advice.recommended, advice.verdict) == (without.recommended, without.verdict)
    assert "there 1 teacher token changes the student's accuracy by at most +4.0" in advice.text
    assert "with the change of the student's value over tokens 0 to 19" in advice.text
    assert [run.command for run in advice.used][1:] == ["prefix-decay", "values"]
