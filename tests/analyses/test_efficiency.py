"""What training takes, by hand; ratios to full rollout against scipy, paired by seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from coverage_parts import seconds
from scipy import stats
from synthetic_runs import PHASES, grown, metrics, trained

from decaylab.analyses.efficiency import Settings, measure, over_steps
from decaylab.runs.trained import TrainedRun

ONE = np.ones((2, 1))


def run(arm: str, seed: int = 0, steps: int = 3, **columns: Any) -> TrainedRun:
    return trained(arm, seed, {50: ONE}, ONE, ONE, recorded=metrics(steps, **columns))


def pick(
    frame: pd.DataFrame,
    what: str,
    condition: str = "total",
    arm: str = "prefix-20",
    seed: float = math.nan,
) -> Any:
    chosen = (frame.what == what) & (frame.condition == condition) & (frame.checkpoint == arm)
    (row,) = frame[
        chosen & (frame.training_seed.isna() if math.isnan(seed) else frame.training_seed == seed)
    ].itertuples()
    return row


def test_seconds_memory_and_tokens_by_hand() -> None:
    """The first of three steps warms up: (2 + 4) / 2 = 3 s of generation, not 36; memory is the
    largest of all steps."""
    frame = measure(
        [
            run(
                "prefix-20",
                generation_seconds=[102.0, 2.0, 4.0],
                scoring_seconds=[1.0, 1.0, 1.0],
                training_seconds=[9.0, 2.0, 2.0],
                generation_peak_gib=[7.0, 5.0, 5.0],
                scoring_peak_gib=[2.0, 3.0, 2.0],
                training_peak_gib=[6.0, 6.0, 6.5],
                tokens_sampled=[500, 300, 340],
            )
        ],
        Settings(),
    )
    seconds = {
        phase: pick(frame, "seconds_per_step", phase, seed=0).value for phase in (*PHASES, "total")
    }
    assert seconds == {"generation": 3, "scoring": 1, "training": 2, "total": 6}
    peaks = {phase: pick(frame, "peak_gib", phase, seed=0).value for phase in (*PHASES, "total")}
    assert peaks == {"generation": 7, "scoring": 3, "training": 6.5, "total": 7}, (
        "phases do not add up to a peak"
    )
    assert pick(frame, "tokens_sampled_per_step", "generation", seed=0).value == 320
    assert not frame.what.str.contains("ratio").any(), "there is no full rollout to compare with"


def test_ratios_are_taken_seed_by_seed_with_the_t_interval_of_their_logarithms() -> None:
    runs = grown()
    frame = measure(runs, Settings())
    total = {
        (run.arm, run.seed): run.metrics[1:][[f"{phase}_seconds" for phase in PHASES]]
        .sum(axis=1)
        .mean()
        for run in runs
    }
    tokens = {(run.arm, run.seed): run.metrics[1:].tokens_sampled.mean() for run in runs}
    for what, condition, of in (
        ("seconds_ratio", "total", total),
        ("tokens_ratio", "generation", tokens),
    ):
        logs = [math.log(of["prefix-20", seed] / of["full", seed]) for seed in range(3)]
        low, high = np.exp(stats.ttest_1samp(logs, 0.0).confidence_interval(0.95))
        row = pick(frame, what, condition)
        assert (row.value, row.low, row.high) == pytest.approx((math.exp(np.mean(logs)), low, high))
        assert row.method == "Student t over training seeds on the log scale"
    beyond = pick(frame, "seconds_ratio_over_tokens_ratio")
    assert beyond.value == pytest.approx(
        pick(frame, "seconds_ratio").value / pick(frame, "tokens_ratio", "generation").value
    )
    assert not len(frame[(frame.checkpoint == "full") & frame.what.str.contains("ratio")])


def test_time_that_goes_as_the_tokens_has_a_ratio_of_1() -> None:
    """A fifth of the tokens in a fifth of the time: 1. In half the time: 2.5."""
    full = run(
        "full",
        tokens_sampled=1000,
        generation_seconds=10.0,
        scoring_seconds=5.0,
        training_seconds=5.0,
    )
    fast = run(
        "prefix-20",
        tokens_sampled=200,
        generation_seconds=2.0,
        scoring_seconds=1.0,
        training_seconds=1.0,
    )
    slow = run(
        "prefix-5",
        tokens_sampled=200,
        generation_seconds=6.0,
        scoring_seconds=3.0,
        training_seconds=1.0,
    )
    frame = measure([full, fast, slow], Settings())
    assert pick(frame, "seconds_ratio_over_tokens_ratio").value == pytest.approx(1.0)
    assert pick(frame, "seconds_ratio_over_tokens_ratio", arm="prefix-5").value == pytest.approx(
        2.5
    )
    assert pick(frame, "seconds_ratio", arm="prefix-5").value == pytest.approx(0.5)
    assert pick(frame, "seconds_ratio", "training", arm="prefix-5").value == pytest.approx(0.2)


def test_a_single_seed_has_its_interval_over_blocks_of_steps() -> None:
    """60 steps behind the first make 30 blocks of 2; t over the blocks that count as independent,
    by the definition."""
    rng = np.random.default_rng(1)
    drawn = {
        arm: {f"{phase}_seconds": rng.uniform(1, 2, 61) * scale for phase in PHASES}
        for arm, scale in (("full", 5), ("prefix-20", 1))
    }
    runs = [run(arm, steps=61, **columns) for arm, columns in drawn.items()]
    row = pick(measure(runs, Settings()), "seconds_ratio")
    totals = {arm: np.sum([*columns.values()], axis=0)[1:] for arm, columns in drawn.items()}
    blocks = {arm: total.reshape(30, 2).mean(axis=1) for arm, total in totals.items()}
    logs = pd.Series(np.log(blocks["prefix-20"] / blocks["full"]))
    about = logs - logs.mean()
    plain = float((about * about.shift(1)).sum() / (about**2).sum())
    raised = plain + (1 + 4 * max(plain, 0)) / 30 + math.sqrt((1 - plain**2) / 30)
    assert raised > 0.1
    independent = 30 * (1 - raised) / (1 + raised)
    error = logs.std() / math.sqrt(1 - 1 / independent) / math.sqrt(independent)
    value = totals["prefix-20"].mean() / totals["full"].mean()
    reach = stats.t(independent - 1).ppf(0.975) * error
    assert (row.low, row.high) == pytest.approx((value * math.exp(-reach), value * math.exp(reach)))
    assert row.value == pytest.approx(value) and row.standard_error == pytest.approx(value * error)
    assert "blocks of consecutive steps" in row.method and row.estimand == "one training run"
    short = measure([run("full", steps=30), run("prefix-20", steps=30)], Settings())
    assert (
        pick(short, "seconds_ratio").note
        == "fewer than 30 steps and one training seed: no interval"
    )


def test_steps_that_are_too_much_alike_have_no_interval() -> None:
    """Seconds that double over the run: the mean of the next steps is anybody's guess."""
    rising = np.linspace(1, 2, 200)
    found = over_steps([rising, np.ones(200)])
    assert found.value == pytest.approx(1.5) and math.isnan(found.low) and math.isnan(found.high)
    assert "33 blocks count as only" in found.note and "run more steps or seeds" in found.note
    same = over_steps([np.full(200, 2.0), np.ones(200)])
    assert (
        same.value == 2
        and math.isnan(same.low)
        and same.note == "the ratio is the same in every block of steps: no interval"
    )


def test_an_interval_over_steps_is_wider_where_neighbours_are_alike() -> None:
    """The same 200 numbers in their order, and sorted within runs of 20: alike for longer."""
    steps = np.exp(np.random.default_rng(1).normal(0, 0.1, 200))
    alike = np.sort(steps.reshape(10, 20), axis=1).ravel()
    plain, wider = (over_steps([column, np.ones(200)]) for column in (steps, alike))
    assert wider.value == pytest.approx(plain.value)
    assert math.log(wider.high / wider.low) > 2 * math.log(plain.high / plain.low)


def test_a_ratio_and_its_inverse_mirror_each_other() -> None:
    rng = np.random.default_rng(2)
    columns = np.exp(rng.normal(0, 0.2, (4, 100)))
    one, other = over_steps([columns[0], columns[1]]), over_steps([columns[1], columns[0]])
    assert (one.low, one.high) == pytest.approx((1 / other.high, 1 / other.low))
    four = over_steps(list(columns))
    means = columns.mean(axis=1)
    assert (
        four.value == pytest.approx(means[0] / means[1] / (means[2] / means[3]))
        and four.low < four.value < four.high
    )


@pytest.mark.slow
@pytest.mark.parametrize("steps", seconds.STEPS)
def test_intervals_over_steps_hold_or_are_not_printed(steps: int) -> None:
    """AR(1) noise. Where at least a tenth of the runs get an interval it covers .93; no more than
    .05 print one that misses."""
    for correlation in seconds.CORRELATIONS:
        row = seconds.measured(steps, correlation, 1000, seed=1)
        assert row["missed"] <= 0.05 + 3 * row["missed_error"], row
        if row["printed"] > 0.1:
            assert row["coverage"] >= 0.93 - 3 * row["error"], row
        if steps >= 60 and correlation <= 0.5:
            assert row["printed"] > 0.75, row


def test_a_machine_without_a_peak_says_so() -> None:
    nothing = {f"{phase}_peak_gib": math.nan for phase in PHASES}
    frame = measure([run("full", **nothing), run("prefix-20", **nothing)], Settings())
    for what in ("peak_gib", "peak_ratio"):
        row = pick(frame, what)
        assert math.isnan(row.value) and "does not report its peak memory" in row.note
    assert pick(frame, "seconds_per_step").value == 3


def test_memory_ratios_are_those_of_the_peaks() -> None:
    runs = [
        *(run("full", seed, training_peak_gib=8.0 + seed) for seed in range(2)),
        *(run("prefix-20", seed, training_peak_gib=4.0 + seed) for seed in range(2)),
    ]
    row = pick(measure(runs, Settings()), "peak_ratio", "training")
    assert row.value == pytest.approx(math.sqrt(4 / 8 * 5 / 9))
    single = pick(measure([runs[0], runs[2]], Settings()), "peak_ratio", "training")
    assert (
        single.value == pytest.approx(0.5)
        and math.isnan(single.low)
        and "a peak has no interval" in single.note
    )


def test_seeds_without_a_run_of_full_rollout_are_left_out_and_counted() -> None:
    runs = [
        *(run("prefix-20", seed, generation_seconds=1.0 + seed) for seed in range(3)),
        run("full", 1),
    ]
    row = pick(measure(runs, Settings()), "seconds_ratio")
    assert (
        row.value == pytest.approx(4 / 3)
        and "2 of 3 seeds have no run of full, left out" in row.note
    )


def test_a_note_on_the_machine_stands_with_every_number() -> None:
    frame = measure(grown(seeds=2), Settings(note="2 runs at once shared the machine"))
    assert frame.note.str.contains("2 runs at once").all()


def test_a_ratio_over_seeds_is_a_geometric_mean_and_says_so() -> None:
    """Ratios 4 and 1 have the geometric mean 2; the means over seeds, 3.5 and 2 seconds, have the
    ratio 1.75."""
    seconds = {("full", 0): 1.0, ("full", 1): 3.0, ("prefix-20", 0): 4.0, ("prefix-20", 1): 3.0}
    runs = []
    for (arm, seed), total in seconds.items():
        phases = {f"{phase}_seconds": total / 3 for phase in PHASES}
        runs.append(run(arm, seed, **phases))
    frame = measure(runs, Settings())
    ratio = pick(frame, "seconds_ratio")
    assert ratio.value == pytest.approx(2.0)
    assert ratio.estimand == "geometric mean over training seeds"
    levels = [pick(frame, "seconds_per_step", arm=arm) for arm in ("prefix-20", "full")]
    assert [level.value for level in levels] == pytest.approx([3.5, 2.0])
    assert {level.estimand for level in levels} == {"mean over training seeds"}
    alone = measure([one for one in runs if one.seed == 0], Settings())
    assert pick(alone, "seconds_ratio").estimand == "one training run"
