"""Several sweeps of one pair: repeats count together, other ways of training count apart, and the
level of the run is that of its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from decay_rows import decay_rows, decay_run
from made_runs import arm, made, row
from scipy import stats

from decaylab.claims.advice import advise
from decaylab.claims.advice_candidates import FULL_ROLLOUTS
from decaylab.claims.advice_compared import compare
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import at_tail
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

DIFFERENCE = "avg_at_1_minus_full"
ONE_RUN, THESE, SEEDS = (
    "one training run",
    "mean over rollouts, over these seeds",
    "mean over training seeds",
)


def sweep(
    *arms: Sequence[Measurement],
    name: str = "one",
    seed: int = 0,
    full: float = 0.21,
    **training: Any,
) -> FoundRun:
    """A sweep whose training seeds begin with ``seed``. full: what full rollouts gain."""
    rows = [*arm("full", full, ending="_minus_base"), *(one for each in arms for one in each)]
    rows = [
        replace(one, training_seed=one.training_seed + seed)
        if math.isfinite(one.training_seed)
        else one
        for one in rows
    ]
    runs = {"full-seed-0": {"selector": "full", "training": {"selector": "full", **training}}}
    identity = {"options": {"seed": seed, "seeds": 3, "samples": 1}, "runs": runs}
    return made("sweep rollout-length", rows, name, {"identity": identity})


def by(rule: str, rows: Sequence[Measurement]) -> list[Measurement]:
    return [replace(one, condition=rule, answer_rule=rule) for one in rows]


# Repeats


def test_a_repeat_with_other_seeds_counts_in_either_order() -> None:
    first = sweep(arm("prefix-20", 0.08, 0.01))
    repeat = sweep(arm("prefix-20", 0.0, 0.012, p=0.9), name="repeat", seed=3)
    advised = [advise(order) for order in ([first, repeat], [repeat, first])]
    assert [each.recommended for each in advised] == [FULL_ROLLOUTS] * 2
    for each in advised:
        assert each.candidates["measured_gain"].item() == pytest.approx(0.04)
        assert each.candidates["seeds"].item() == 6
        assert "mean over 6 training seeds of" in each.runs_read
        assert "--seed 6" in each.experiment.command, "seeds that nobody has trained yet"


def test_two_sweeps_count_as_the_mean_over_their_seeds_by_hand() -> None:
    sweeps = [
        sweep(arm("prefix-20", 0.06, 0.03, over_seeds=0.02)),
        sweep(arm("prefix-20", 0.04, 0.02, over_seeds=0.01, seeds=5), name="two", seed=3),
    ]
    (candidate,) = compare(sweeps)[0].candidates
    values = [
        one.value
        for run in sweeps
        for one in run.measurements.itertuples()
        if one.what == DIFFERENCE and one.estimand == ONE_RUN
    ]
    low, high = stats.t.interval(0.95, 7, np.mean(values), stats.sem(values))
    over = candidate.number.over_seeds
    assert (over.low, over.high) == pytest.approx((low, high))
    (over_problems,) = candidate.number.over_problems
    assert over_problems.value == pytest.approx(np.mean(values))
    reach = (3 * 0.03 + 5 * 0.02) / 8  # as if the errors over problems were the same ones
    assert over_problems.high - over_problems.value == pytest.approx(reach)


def test_sweeps_that_share_seeds_or_differ_in_problems_are_not_pooled() -> None:
    one = sweep(arm("prefix-20", 0.08, 0.01))
    for other in (
        sweep(arm("prefix-20", 0.02, 0.02), name="two"),
        sweep(arm("prefix-20", 0.02, 0.02, problems=200), name="two", seed=3),
    ):
        for order in ([one, other], [other, one]):
            advice = advise(order)
            assert advice.candidates["measured_gain"].item() == 0.08
            assert "For prefix-20, one is used, the more precise result, not two." in (
                advice.runs_read
            )


def test_one_seed_on_more_problems_does_not_hide_five_seeds() -> None:
    good = sweep(arm("prefix-20", 0.08, 0.01, seeds=5), name="good")
    large = sweep(arm("prefix-20", 0.07, 0.01, seeds=1, problems=500), name="large", seed=9)
    for order in ([good, large], [large, good]):
        assert advise(order).recommended.arm == "prefix-20"


# Other ways of training


def test_sweeps_that_train_in_another_way_are_not_compared_with_each_other() -> None:
    good = sweep(arm("prefix-20", 0.08), name="good", learning_rate=1e-4)
    bad = sweep(arm("prefix-40", 0.20), name="bad", full=-0.3, learning_rate=1e-2)
    for order in ([good, bad], [bad, good]):
        advice = advise(order)
        assert advice.recommended.arm == "prefix-20"
        assert list(advice.candidates["arm"]) == ["prefix-20"]
        assert (
            "bad cannot be compared with good (learning rate 0.01 instead of 0.0001); read alone: "
            '"No setting is recommended' in advice.text
        ) or '"Train with rollouts of 40 tokens"' in advice.text
        assert "+21.0 points" in advice.expected_gain


@pytest.mark.parametrize("option", [{"bins": [0, 5]}, {"checkpoint_every": 5}])
def test_what_only_records_a_training_does_not_set_it_apart(option: dict[str, Any]) -> None:
    one = sweep(arm("prefix-20", 0.08))
    two = sweep(arm("prefix-40", -0.08), name="two", **option)
    assert len(compare([one, two])) == 1


def test_sweeps_graded_by_other_rules_contradict_each_other_and_seeds_do_not_help() -> None:
    one = sweep(arm("prefix-20", 0.08))
    two = replace_rows(sweep(arm("prefix-20", -0.08), name="two"), "anywhere")
    advice = advise([one, two])
    assert advice.recommended is None and advice.experiment is None
    assert "by different rules: +8.0 points [+7.0, +9.0] in one (answer rule last_boxed" in (
        advice.short
    )
    assert "More seeds cannot settle it" in advice.would_change


def replace_rows(run: FoundRun, rule: str) -> FoundRun:
    frame = run.measurements
    ruled = frame["answer_rule"] != ""
    run.__dict__["measurements"] = frame.assign(
        condition=frame["condition"].mask(ruled, rule),
        answer_rule=frame["answer_rule"].mask(ruled, rule),
    )
    return run


# Answer rules within one sweep


def test_a_setting_that_only_another_rule_shows_ahead_is_no_reason_for_full_rollouts() -> None:
    rows = [*arm("prefix-20", -0.08), *by("anywhere", arm("prefix-20", 0.08))]
    advice = advise([sweep(rows)])
    assert advice.recommended is None
    assert "is behind full rollouts by the answer rule last_boxed" in advice.text
    assert "but ahead by anywhere" in advice.text and "the rules differ" in advice.would_change


def test_a_better_setting_on_which_the_rules_agree_is_taken() -> None:
    opposed = [*arm("prefix-20", 0.08), *by("first_boxed", arm("prefix-20", -0.05))]
    sound = [*arm("prefix-40", 0.075), *by("first_boxed", arm("prefix-40", 0.07))]
    advice = advise([sweep(opposed, sound)])
    assert advice.recommended.arm == "prefix-40"
    assert "behind by first_boxed" in " ".join(advice.evidence)


# What is decided, and what is not


def test_full_rollouts_that_do_not_help_leave_an_undecided_setting_open() -> None:
    run = sweep(arm("prefix-20", 0.06, 0.04, over_seeds=0.075), full=0.0)
    advice = advise([run])
    assert advice.recommended is None
    assert "prefix-20 is not decided" in advice.short and "even the best" not in advice.short
    assert "--values 20,full" in advice.experiment.command
    none = sweep(arm("prefix-20", -0.06), full=0.0)
    assert "even the best setting does not improve" in advise([none]).short


@pytest.mark.parametrize(("ratio", "high", "chosen"), [(0.95, 0.99, False), (0.85, 0.89, True)])
def test_cheaper_is_a_tenth_fewer_tokens(ratio: float, high: float, chosen: bool) -> None:
    at = {"checkpoint": "prefix-60", "selector": "prefix", "rollout_length": 60.0}
    at |= {"view": "training", "estimand": SEEDS, "problems": 0, "unit": "ratio"}
    tokens = row("tokens_ratio", ratio, 0.0, "generation", **at)
    tokens = replace(tokens, low=2 * ratio - high, high=high)
    advice = advise([sweep([*arm("prefix-60", 0.0, 0.004, p=0.9), tokens])])
    assert (advice.recommended != FULL_ROLLOUTS) == chosen


@pytest.mark.parametrize(
    ("changes", "reason", "command"),
    [
        ({"over_seeds": math.nan}, "the same for every training seed", "--seed 3"),
        ({"problems": 20}, "Only 20 problems were tested; at least 30", "sweep rollout-length"),
        ({"level": 0.9}, "The intervals are at 90 %; at least 95 %", "--level 0.95"),
        ({"step": 10.0}, "Trained for 10 steps; a verdict needs at least 50", "sweep"),
        ({"seeds": 2}, "Two training seeds are not enough", "--seeds 3"),
    ],
)
def test_what_an_inconclusive_sweep_lacks_is_named_with_what_supplies_it(
    changes: dict[str, Any], reason: str, command: str
) -> None:
    advice = advise([sweep(arm("prefix-20", 0.05, **changes))])
    assert advice.recommended is None and reason in advice.short
    assert command in advice.experiment.command


def test_the_largest_gain_that_is_told_is_that_of_a_setting_with_an_interval() -> None:
    one = sweep(arm("prefix-20", 0.10, 0.12, seeds=1, p=0.2))
    two = sweep(arm("prefix-40", 0.0, 0.03, p=0.8), name="two")
    advice = advise([one, two])
    assert "Of the settings with an interval, prefix-40 has the largest" in advice.expected_gain
    assert "candidate is prefix-20: +10.0 points (no interval for other seeds)" in (
        advice.would_change
    )


def test_an_arm_without_a_seed_of_full_rollouts_is_named() -> None:
    alone = [one for one in arm("random-20", 0.1) if not one.what.endswith("_minus_full")]
    advice = advise([sweep(arm("prefix-20", 0.08), alone)])
    assert "In one, random-20 has no training seed in common" in advice.runs_read


def test_seeds_that_would_decide_are_told_and_ten_are_proposed() -> None:
    advice = advise([sweep(arm("prefix-20", 0.0, 0.02, over_seeds=0.2, p=0.9))])
    assert "--seeds 10 " in advice.experiment.command
    assert "certainty would take" in advice.experiment.cost


# The level of a run


def test_intervals_over_seeds_are_at_the_level_of_the_run() -> None:
    rows = [replace(one, level=0.99) for one in arm("prefix-20", 0.06, 0.03, seconds=0.5)]
    arms = Arms.of(sweep(rows))
    number = arms.number("prefix-20", DIFFERENCE)
    low, high = stats.t.interval(0.99, 2, np.mean(number.by_seed), stats.sem(number.by_seed))
    assert (number.over_seeds.low, number.over_seeds.high) == pytest.approx((low, high))
    seconds = arms.seconds("prefix-20")
    logs = np.log(seconds.by_seed)
    low, high = np.exp(stats.t.interval(0.99, 2, logs.mean(), stats.sem(logs)))
    assert (seconds.over_seeds.low, seconds.over_seeds.high) == pytest.approx((low, high))


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_a_corrected_interval_does_not_depend_on_the_level_it_was_computed_at(
    level: float,
) -> None:
    error, problems = 0.01, 300
    reach = stats.t.ppf((1 + level) / 2, problems - 1) * error
    corrected = at_tail(row(DIFFERENCE, 0.05, reach, problems=problems, level=level), 0.005)
    assert corrected.high - 0.05 == pytest.approx(stats.t.ppf(0.995, problems - 1) * error)


# Which decay run


def test_of_decay_runs_one_with_the_control_counts_and_the_others_settings_are_told() -> None:
    bare = [one for one in decay_rows() if one.condition != "own-prefix"]
    large = decay_run([replace(one, problems=500) for one in bare], "large", temperature=0.0)
    small = decay_run(name="small")
    advice = advise([large, small])
    assert (
        "small is used, which has the control (300), instead of large (500, temperature 0.0)."
        in advice.runs_read
    )
    tied = advise([decay_run(name="a"), decay_run(name="b")])
    assert "a is used, the first of those with the most problems (300)" in tied.runs_read
    failing = [
        replace(one, value=-0.3, low=-0.35, high=-0.25, p_value_holm=0.001, problems=100)
        if one.condition == "own-prefix"
        else one
        for one in decay_rows()
    ]
    assert "The control of bad fails." in advise([small, decay_run(failing, "bad")]).runs_read
