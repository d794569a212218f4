"""Differences of retained advantage and of half-decay length: against slow loops, where one side is
censored, and how often their intervals hold the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulate import clustered, grades

from decaylab.maths.clusters import Floats, bootstrap_weights, percentile_interval
from decaylab.maths.retention import (
    NO_ADVANTAGE,
    OpenRollouts,
    half_decay,
    half_decay_length,
    retained_advantage,
)
from decaylab.maths.retention_differences import (
    PAIRED,
    half_decay_difference,
    retained_difference,
)

LENGTHS = (20, 40, 60)


def pair(
    shares: tuple[tuple[float, ...], tuple[float, ...]], seed: int = 0, problems: int = 60
) -> list[list[OpenRollouts]]:
    """Two teachers over the same rollouts of one student, 2 a problem, that keep these shares of
    their advantage at each length; fewer rollouts are open at each."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(problems), 2)
    student = clustered(0.35, 0.3, codes, rng)
    outcome, teacher = grades(student, rng), student + 0.85 * (1 - student)
    alone = teacher  # the chance itself: no sampling of the teacher without a prefix
    sides = []
    for kept in shares:
        arms = []
        for place, share in enumerate(kept):
            still = np.arange(codes.size) % 7 >= place
            correct = grades(student + share * (teacher - student), rng)
            columns = (correct, outcome, alone, codes)
            arms.append(OpenRollouts(*(np.asarray(column)[still] for column in columns)))
        sides.append(arms)
    return sides


def share(arm: OpenRollouts, drawn: list[int]) -> float:
    """The retained advantage of problems that were drawn one by one."""
    columns = [np.asarray(column) for column in arm]
    rows = [row for problem in drawn for row in np.flatnonzero(columns[3] == problem)]
    after, student, alone = (float(np.mean(column[rows])) for column in columns[:3])
    return (after - student) / (alone - student)


def test_the_value_is_that_of_the_first_less_that_of_the_second() -> None:
    firsts, seconds = pair(((0.9, 0.7, 0.1), (0.8, 0.2, 0.1)))
    found = retained_difference(firsts[1], seconds[1])
    one, other = retained_advantage(*firsts[1]), retained_advantage(*seconds[1])
    assert found.value == pytest.approx(one.value - other.value)
    assert found.value > 0.2 and found.low < found.value < found.high
    length = half_decay_difference(LENGTHS, firsts, seconds)
    one, other = half_decay(LENGTHS, firsts), half_decay(LENGTHS, seconds)
    assert length.value == pytest.approx(one.value - other.value) and length.value > 5
    assert found.method == length.method == PAIRED


def test_replicates_draw_the_same_problems_on_both_sides() -> None:
    """By loops over problems drawn one by one; draws of its own on each side would differ."""
    firsts, seconds = pair(((0.9, 0.7, 0.1), (0.8, 0.2, 0.1)), problems=40)
    differences, lengths = [], []
    for weights in bootstrap_weights(40, draws=60, seed=5):
        drawn = np.repeat(np.arange(40), weights.astype(int)).tolist()
        curves = [[share(arm, drawn) for arm in side] for side in (firsts, seconds)]
        differences.append(curves[0][1] - curves[1][1])
        first, second = (half_decay_length(LENGTHS, curve) for curve in curves)
        lengths.append((min(first, 60) - second, first - min(second, 60), first - second))
    found = retained_difference(firsts[1], seconds[1], seed=5, draws=60, level=0.8)
    low, high = percentile_interval(np.array(differences), 0.8)
    assert (found.low, found.high) == pytest.approx((low, high))
    found = half_decay_difference(LENGTHS, firsts, seconds, seed=5, draws=60, level=0.8)
    columns: list[Floats] = [np.array(column) for column in zip(*lengths, strict=True)]
    assert found.low == pytest.approx(percentile_interval(columns[0], 0.8)[0])
    assert found.high == pytest.approx(percentile_interval(columns[1], 0.8)[1])
    assert found.standard_error == pytest.approx(columns[2].std(ddof=1), nan_ok=True)


def test_a_run_against_itself_differs_by_nothing_in_every_replicate() -> None:
    firsts, _ = pair(((0.9, 0.7, 0.1), (0.8, 0.2, 0.1)))
    found = retained_difference(firsts[1], firsts[1])
    assert (found.value, found.low, found.high, found.standard_error) == (0, 0, 0, 0)
    same = half_decay_difference(LENGTHS, firsts, firsts)
    assert same.value == 0 and same.low <= 0 <= same.high


def test_sides_that_change_places_change_the_sign() -> None:
    firsts, seconds = pair(((0.9, 0.7, 0.1), (0.8, 0.2, 0.1)))
    there = half_decay_difference(LENGTHS, firsts, seconds, draws=501)
    back = half_decay_difference(LENGTHS, seconds, firsts, draws=501)
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    one = retained_difference(firsts[0], seconds[0])
    assert one == replace(
        retained_difference(seconds[0], firsts[0]), value=one.value, low=one.low, high=one.high
    )
    assert one.value == pytest.approx(-retained_difference(seconds[0], firsts[0]).value)


def test_a_side_that_never_loses_half_gives_a_least_difference_and_no_value() -> None:
    firsts, seconds = pair(((0.98, 0.95, 0.95), (0.8, 0.1, 0.0)), problems=200)
    other = half_decay(LENGTHS, seconds).value
    found = half_decay_difference(LENGTHS, firsts, seconds)
    assert math.isnan(found.value) and found.high == math.inf and 0 < found.low < 60 - other + 10
    least = f"{60 - other:.1f}"
    assert found.note == (
        f"at least {least} tokens longer, one half-decay length is not reached by 60 tokens"
    )
    back = half_decay_difference(LENGTHS, seconds, firsts)
    assert back.low == -math.inf and back.high == pytest.approx(-found.low)
    assert back.note.startswith(f"at least {least} tokens shorter")
    neither = half_decay_difference(LENGTHS, firsts, firsts)
    assert math.isnan(neither.value) and (neither.low, neither.high) == (-math.inf, math.inf)
    assert neither.note == "neither half-decay length is reached by 60 tokens"


def test_a_teacher_without_an_advantage_has_no_difference() -> None:
    firsts, _ = pair(((0.9, 0.7, 0.1), (0.8, 0.2, 0.1)))
    flat = [OpenRollouts(arm.student, arm.student, arm.student, arm.problems) for arm in firsts]
    assert retained_difference(firsts[0], flat[0]).note == NO_ADVANTAGE
    found = half_decay_difference(LENGTHS, flat, firsts)
    assert math.isnan(found.value) and math.isnan(found.low)
    assert found.note == f"at prefix length 20: {NO_ADVANTAGE}"


def test_a_length_without_rollouts_in_a_replicate_is_left_out_and_counted() -> None:
    column = np.array([0.0, 0.0])
    few = OpenRollouts(column, column, column + 1, np.arange(2))
    firsts, seconds = pair(((0.9, 0.7, 0.9), (0.9, 0.7, 0.9)), problems=30)
    found = half_decay_difference((20, 40), [firsts[0], few], [seconds[0], few], draws=200)
    assert "of 200 replicates undefined, left out" in found.note


@pytest.mark.slow
@pytest.mark.parametrize("problems", [30, 100])
def test_intervals_hold_the_truth(problems: int) -> None:
    """The truth by arithmetic: shares .9, .7, .1 cross .5 at 40 + 20 * .2 / .6, and .8, .2, .1 at
    30, so they differ by 16.67 tokens."""
    shares = ((0.9, 0.7, 0.1), (0.8, 0.2, 0.1))
    runs, held, held_share = 300, 0, 0
    for seed in range(runs):
        firsts, seconds = pair(shares, seed=seed + 1, problems=problems)
        length = half_decay_difference(LENGTHS, firsts, seconds, draws=400)
        held += length.low <= 40 + 20 * 0.2 / 0.6 - 30 <= length.high
        difference = retained_difference(firsts[1], seconds[1], draws=400)
        held_share += difference.low <= 0.5 <= difference.high
    assert held / runs >= 0.91, held / runs
    assert held_share / runs >= 0.91, held_share / runs
