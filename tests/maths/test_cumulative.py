"""The cumulative curve by hand, on the published bins, and against resampled rollouts written out
one by one."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from simulate import Floats, Ints

from decaylab.maths.clusters import bootstrap_weights, percentile_interval
from decaylab.maths.cumulative import crossing, crossing_of_bins, cumulative, horizon_of
from decaylab.paper import publication

NAN = float("nan")


def table(lengths: Ints, problems: Ints, seed: int = 0) -> tuple[list[Floats], Floats, Floats]:
    """The KL of each rollout, and its sums and counts by problem and position."""
    rng = np.random.default_rng(seed)
    rollouts = [rng.exponential(1 / (1 + np.arange(length))) for length in lengths]
    sums, counts = np.zeros((2, problems.max() + 1, lengths.max()))
    for kl, problem in zip(rollouts, problems):
        sums[problem, : len(kl)] += kl
        counts[problem, : len(kl)] += 1
    return rollouts, sums, counts


def slow_curve(rollouts: list[Floats], horizon: int, survivors: bool) -> list[float]:
    """Cumulative KL at 0, 1, ... horizon tokens."""
    curve = [0.0]
    for position in range(horizon):
        here = [float(kl[position]) for kl in rollouts if len(kl) > position]
        step = sum(here) / len(here) if survivors and here else NAN if survivors else sum(here)
        curve.append(curve[-1] + step)
    return curve


def slow_position(curve: list[float], share: float) -> float:
    """The first number of tokens at which a straight line between the points of the curve reaches
    the share."""
    target = share * curve[-1]
    for tokens in range(1, len(curve)):
        if curve[tokens] >= target:
            return tokens - 1 + (target - curve[tokens - 1]) / (curve[tokens] - curve[tokens - 1])
    return NAN


def test_crossing_by_hand_weighs_bins_by_their_width() -> None:
    """10 tokens of 3 nats and 20 of 1: 50 nats. 45 % = 22.5 lie before 22.5 / 3 = 7.5; 80 % = 40
    before 10 + 10 / 1.

    Without the widths 45 % of 3 + 1 would lie before 6.
    """
    assert crossing([0, 10, 30], [3, 1], 0.45) == pytest.approx(7.5)
    assert crossing([0, 10, 30], [3, 1], 0.8) == pytest.approx(20)
    assert crossing([0, 10, 30], [3, 1], 0.6) == pytest.approx(10), "exactly at an edge"
    assert crossing([0, 10, 20, 30], [1, 0, 1], 0.5) == 10, (
        "reached at the start of a stretch without KL"
    )


def test_the_same_code_gives_107_and_124_tokens_from_the_published_bins() -> None:
    """three_signals to 500: 106.74, gaps given half to either side. With the gaps left out it would
    be 30.5.

    position_kl (before) to 700: 339.5 nats, 45 % = 152.775, of which 103 + 38 lie in the first two
    bins and the other 11.775 in 23.55 tokens of .50. Bins counted without their widths would reach
    the share at 100.
    """
    kl = publication.three_signals().query("what == 'reverse_kl'")
    signals = crossing_of_bins(kl.position_low, kl.position_high, kl.value, 0.45)
    assert round(signals) == 107 and signals == pytest.approx(106.74, abs=0.005)
    assert crossing(np.arange(17) * 10, kl.value, 0.45) == pytest.approx(30.46, abs=0.005)
    for checkpoint, tokens in (("base", 123.55), ("esr-100", 222.08)):
        bins = publication.position_kl().query("checkpoint == @checkpoint")
        assert bins.position_high.max() == 700
        found = crossing_of_bins(bins.position_low, bins.position_high, bins.value, 0.45)
        assert found == pytest.approx(tokens, abs=0.005)
        assert checkpoint != "base" or round(found) == 124


def test_the_unit_of_the_kl_does_not_matter_however_small_the_total() -> None:
    """.3, .06 and .03 nats, far below 1 in total; and a millionth of it, and a million times as
    much."""
    kl = np.array([0.3, 0.06, 0.03])
    sums = np.stack([kl, kl[::-1], 2 * kl])
    stated = cumulative(sums, None, [1, 2], 0.45)
    assert crossing([0, 1, 2, 3], kl, 0.45) == pytest.approx(0.45 * 0.39 / 0.3)
    for unit in (1e-6, 1e6):
        assert crossing([0, 1, 2, 3], unit * kl, 0.45) == pytest.approx(0.45 * 0.39 / 0.3)
        scaled = cumulative(unit * sums, None, [1, 2], 0.45)
        assert [one[:4] for one in scaled] == [pytest.approx(one[:4]) for one in stated]


def test_crossing_keeps_leading_axes_and_is_nan_without_kl() -> None:
    found = crossing([0, 1, 2], [[1, 1], [0, 1], [0, 0], [NAN, 1]], 0.5)
    assert found == pytest.approx([1, 1.5, NAN, NAN], nan_ok=True)


@pytest.mark.parametrize("share", [0.05, 0.45, 0.99])
def test_crossing_inverts_the_cumulative_curve(share: float) -> None:
    rng = np.random.default_rng(1)
    edges = np.concatenate([[0], rng.uniform(1, 9, 12).cumsum()])
    kl = rng.exponential(size=12)
    curve = np.concatenate([[0], (kl * np.diff(edges)).cumsum()])
    assert np.interp(crossing(edges, kl, share), edges, curve) == pytest.approx(share * curve[-1])


def test_crossing_refuses_a_share_that_is_none() -> None:
    for share in (0, 1, 45):
        with pytest.raises(ValueError, match="share must lie between 0 and 1"):
            crossing([0, 1], [1], share)


def test_horizon_is_the_last_position_that_a_tenth_and_ten_of_the_rollouts_reach() -> None:
    """Lengths 1 to 200: 20 rollouts have 181 tokens or more. 1 to 20: 10 have 11 or more, not 2
    with 19."""
    assert horizon_of(np.arange(1, 201)) == 181
    assert horizon_of(np.arange(1, 21)) == 11
    assert horizon_of(np.arange(1, 106)) == 95, "11 rollouts are the first to be a tenth of 105"
    assert horizon_of(np.array([7, 5, 9])) == 5, "fewer than 10: all of them"
    assert horizon_of(np.zeros(0, dtype=np.int64)) == 0
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 30, 10 + 9 * seed)
        reached = [n for n in range(31) if (lengths >= n).sum() >= max(10, 0.1 * len(lengths))]
        assert horizon_of(lengths) == max(reached)


def test_survivors_and_mass_by_hand() -> None:
    """Rollouts 4 2 and 2 0 2: means 3, 1, 2 with sum 6; sums 6, 2, 2 with sum 10.

    Half of 6 is reached at 1 token, half of 10 at 5/6. Before 2 tokens lie 4/6 and 8/10.
    """
    sums, counts = np.array([[4.0, 2, 0], [2, 0, 2]]), np.array([[1.0, 1, 0], [1, 1, 1]])
    survivors = [one.value for one in cumulative(sums, counts, [2, 3, 4], 0.5)]
    assert survivors == pytest.approx([1, 4 / 6, 1, NAN], nan_ok=True)
    mass = cumulative(sums, None, [2, 3, 4], 0.5)
    assert [one.value for one in mass] == pytest.approx([5 / 6, 0.8, 1, NAN], nan_ok=True)
    assert mass[3].note == "beyond the horizon" and math.isnan(mass[3].low)


@pytest.mark.parametrize("survivors", [True, False])
def test_values_and_intervals_are_those_of_rollouts_drawn_problem_by_problem(
    survivors: bool,
) -> None:
    rng = np.random.default_rng(3)
    lengths, problems = rng.integers(3, 15, 24), rng.integers(0, 8, 24)
    rollouts, sums, counts = table(lengths, problems)
    horizon, edges = (8, [2, 5]) if survivors else (int(lengths.max()), [2, 5])
    found = cumulative(
        sums[:, :horizon],
        counts[:, :horizon] if survivors else None,
        edges,
        0.45,
        seed=5,
        draws=80,
        level=0.9,
    )
    replicates = []
    for weights in [np.ones(8), *bootstrap_weights(8, draws=80, seed=5)]:
        drawn = [
            kl for kl, problem in zip(rollouts, problems) for _ in range(int(weights[problem]))
        ]
        curve = slow_curve(drawn, horizon, survivors)
        replicates.append(
            [slow_position(curve, 0.45), *(curve[edge] / curve[-1] for edge in edges)]
        )
    value, *rest = np.array(replicates)
    for i, one in enumerate(found):
        kept = np.array(rest)[:, i]
        kept = kept[~np.isnan(kept)]
        assert one.value == pytest.approx(value[i])
        assert (one.low, one.high) == pytest.approx(percentile_interval(kept, 0.9))
        assert (
            one.standard_error == pytest.approx(kept.std(ddof=1)) and one.low < one.value < one.high
        )


def test_the_interval_resamples_problems_and_not_rollouts() -> None:
    """Ten copies of each rollout under its own problem add nothing; as problems of their own they
    would."""
    lengths, problems = np.full(12, 9), np.arange(12)
    rollouts, sums, counts = table(lengths, problems)
    alone = cumulative(sums, counts, [4], 0.45)
    assert cumulative(10 * sums, 10 * counts, [4], 0.45)[0][:4] == pytest.approx(alone[0][:4])
    copies = cumulative(np.tile(sums, (10, 1)), np.tile(counts, (10, 1)), [4], 0.45)[0]
    assert copies.high - copies.low < 0.5 * (alone[0].high - alone[0].low)


def test_replicates_without_a_survivor_are_left_out_and_counted() -> None:
    """Only one of three problems reaches position 1: (2/3)^3 = 8/27 of the replicates lack it."""
    sums, counts = np.array([[1.0, 1], [2, 0], [1, 0]]), np.array([[1.0, 1], [1, 0], [1, 0]])
    one = cumulative(sums, counts, [], 0.45, draws=500)[0]
    lost = int(one.note.split(" ")[0])
    assert (
        one.note == f"{lost} of 500 replicates undefined, left out"
        and abs(lost - 500 * 8 / 27) < 45
    )
    assert np.isfinite([one.value, one.low, one.high]).all()
    assert cumulative(sums, None, [], 0.45, draws=500)[0].note == "", "sums are defined in all"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_error_is_the_deviation_of_the_replicates_and_needs_two_of_them(draws: int) -> None:
    sums = np.array([[3.0, 1, 0], [1, 1, 2], [1, 3, 3]])
    replicates = [
        float(crossing([0, 1, 2, 3], weights @ sums, 0.45))
        for weights in bootstrap_weights(3, draws=draws, seed=1)
    ]
    found = cumulative(sums, None, [], 0.45, seed=1, draws=draws)[0]
    assert found.standard_error == pytest.approx(
        statistics.stdev(replicates) if draws > 1 else NAN, nan_ok=True
    )
    assert (found.low, found.high) == pytest.approx(
        (min(replicates), max(replicates))
    ) and found.note == ""


def test_unless_told_otherwise_1000_replicates_of_seed_0_give_95_percent_also_of_two_problems() -> (
    None
):
    """In a quarter of the replicates both draws are the second problem, which does not reach
    position 1."""
    sums, counts = np.array([[3.0, 1], [1, 0]]), np.array([[1.0, 1], [1, 0]])
    stated = cumulative(sums, counts, [1], 0.45, level=0.95, seed=0, draws=1000)
    assert cumulative(sums, counts, [1], 0.45) == stated
    assert all(
        " of 1000 replicates undefined" in one.note and math.isfinite(one.low) for one in stated
    )


@pytest.mark.parametrize("kl", [[0.0, 0, 0, 2], [0, 0, 3, 1], [3, 0, 0, 0]])
def test_the_kl_may_begin_late_and_end_early(kl: list[float]) -> None:
    found = cumulative(np.tile(kl, (3, 1)), None, [1, 2, 3, 4], 0.45)
    assert [one.value for one in found[1:]] == pytest.approx(np.cumsum(kl) / sum(kl))
    assert found[0].value == pytest.approx(slow_position([0.0, *np.cumsum(kl).tolist()], 0.45))


def test_what_is_undefined_is_nan_and_says_why() -> None:
    flat = cumulative(np.zeros((3, 4)), np.ones((3, 4)), [2, 4, 5], 0.45)
    assert [one.note for one in flat] == ["no KL up to the horizon"] * 3 + ["beyond the horizon"]
    short = cumulative(np.array([[1.0, 0]] * 3), np.array([[1.0, 0]] * 3), [1], 0.45)
    assert [one.note for one in short] == ["no rollout reaches the horizon"] * 2
    assert np.isnan([one[:4] for one in (*flat, *short)]).all()
    none = cumulative(np.zeros((0, 0)), np.zeros((0, 0)), [2], 0.45)
    assert np.isnan([one.value for one in none]).all()
    single = cumulative(np.ones((1, 4)), np.ones((1, 4)), [1], 0.45)
    assert [one.value for one in single] == pytest.approx([1.8, 0.25])
    assert {one.note for one in single} == {"fewer than 2 problems: no interval"}
    assert np.isnan([one[1:4] for one in single]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("problems", "least"), [(30, 0.88), (200, 0.91)])
def test_the_interval_covers_the_true_position(problems: int, least: float) -> None:
    """Exponential KL of mean 2 / (1 + p/10) that goes together within a problem; lengths geometric,
    unrelated to it.

    Measured over 2,000 tables: .915 with 30 problems, .944 with 200; 400 tables have a standard
    error of .014 and .011.
    """
    rng, hits, horizon, runs = np.random.default_rng(0), 0, 40, 400
    level = 2 / (1 + np.arange(horizon) / 10)
    truth = float(crossing(np.arange(horizon + 1), level, 0.45))
    for _ in range(runs):
        effect = rng.gamma(2, 0.5, (problems, 1, 1)) * np.exp(
            rng.normal(0, 0.3, (problems, 1, 1)) * np.arange(horizon) / 20
        )
        effect /= np.exp((0.3 * np.arange(horizon) / 20) ** 2 / 2)
        kl = rng.exponential(effect * level, (problems, 4, horizon))
        alive = np.arange(horizon) < rng.geometric(1 / 80, (problems, 4, 1))
        found = cumulative(
            (kl * alive).sum(axis=1), alive.sum(axis=1).astype(float), [], 0.45, draws=300
        )[0]
        hits += found.low <= truth <= found.high
    assert least <= hits / runs <= 0.985, hits / runs
