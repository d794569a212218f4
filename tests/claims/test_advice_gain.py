"""The gain of a way that was chosen among many: its interval holds the true gain whatever was
chosen, and the bound at even odds exceeds it in at most half of the cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_runs import made, row
from scipy import stats
from synthetic_runs import trained

from decaylab.analyses import sweep
from decaylab.claims.advice import advise
from decaylab.claims.advice_candidates import largest
from decaylab.claims.advice_compared import compare
from decaylab.claims.advice_gain import Gain
from decaylab.claims.verdicts import Number, held
from decaylab.maths.seeds import over_seeds
from decaylab.runs.found_runs import FoundRun

PROBLEMS, SEEDS = 30, 3


def number(value: float, error: float, by_seed: np.ndarray, problems: int = PROBLEMS) -> Number:
    """A difference with Student's interval over problems, from its standard error, and over
    seeds."""
    reach = stats.t.ppf(0.975, problems - 1) * error
    over = row("avg_at_1_minus_full", value, reach, problems=problems)
    seeds = tuple(float(each) for each in by_seed)
    return Number((over,), held(over, over_seeds(seeds)), seeds, 100.0)


def test_the_interval_by_hand() -> None:
    seeds = np.array([0.01, 0.02, 0.06])
    gain = Gain.of(number(0.03, 0.01, seeds), among=4)
    error = np.std(seeds, ddof=1) / math.sqrt(3)
    for tail, low, high in ((0.025 / 4, gain.low, gain.high), (0.5 / 4, gain.even_odds, None)):
        over_problems = stats.t.ppf(1 - tail, 29) * 0.01
        reach = math.sqrt(over_problems**2 + (stats.t.ppf(1 - tail, 2) * error) ** 2)
        assert low == pytest.approx(0.03 - reach)
        assert high is None or high == pytest.approx(0.03 + reach)
    assert gain.measured == 0.03 and gain.among == 4


def test_a_way_that_was_not_chosen_among_others_is_not_shrunk() -> None:
    gain = Gain.of(number(0.03, 0.01, np.array([0.01, 0.02, 0.06])), among=1)
    assert gain.even_odds == pytest.approx(gain.measured)


def test_ends_stay_within_what_a_difference_can_be() -> None:
    gain = Gain.of(number(0.5, 0.2, np.array([0.1, 0.5, 0.9])), among=20)
    assert (gain.low, gain.high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    "seeds", [np.array([0.1]), np.array([0.1, 0.2]), np.array([0.1, 0.1, 0.1])]
)
def test_without_an_interval_over_seeds_no_gain_is_known(seeds: np.ndarray) -> None:
    gain = Gain.of(number(0.1, 0.01, seeds), among=2)
    assert not gain.known and math.isnan(gain.even_odds)
    assert gain.words == "+10.0 points (no interval for other seeds)"


def test_what_stands_on_too_little_has_no_gain() -> None:
    sound = number(0.1, 0.01, np.array([0.05, 0.1, 0.15]))
    (over,) = sound.over_problems
    assert Gain.of(sound._replace(steps=50.0), among=2).known
    assert Gain.of(sound._replace(steps=math.nan), among=2).known, "not known, not held against it"
    for lacking in (
        sound._replace(steps=49.0),
        sound._replace(over_seeds=None),
        sound._replace(over_problems=(replace(over, problems=29),)),
        sound._replace(over_problems=(replace(over, level=0.9),)),
        sound._replace(over_problems=(replace(over, low=math.nan),)),
    ):
        gain = Gain.of(lacking, among=2)
        assert not gain.known and gain.measured == 0.1
        assert math.isnan(gain.high) and math.isnan(gain.even_odds)


def test_sides_that_differ_are_added_side_by_side() -> None:
    sound = number(0.1, 0.01, np.array([0.05, 0.1, 0.15]))
    (over,) = sound.over_problems
    lopsided = sound._replace(over_problems=(replace(over, low=0.07, high=0.18),))
    seeds = sound.over_seeds
    assert seeds is not None
    gain = Gain.of(lopsided, among=1)
    assert gain.low == pytest.approx(0.1 - math.hypot(0.03, 0.1 - seeds.low))
    assert gain.high == pytest.approx(0.1 + math.hypot(0.08, seeds.high - 0.1))


def test_the_words_of_a_gain_say_what_was_measured_beside_what_is_expected() -> None:
    gain = Gain(0.04, 0.031, 0.008, 0.059, 3)
    assert gain.words == "+4.0 points [+0.8, +5.9] (at least +3.1 at even odds)"
    assert replace(gain, among=1).words == "+4.0 points [+0.8, +5.9]"


def drawn(
    rng: np.random.Generator, ways: int, of_problems: float, of_seeds: float, shared: float
) -> list[Number]:
    """Ways of training without any true gain. of_problems, of_seeds: standard errors of the two
    parts; shared: that of what all ways have in common, as full rollouts are."""
    common = rng.normal(0, shared)
    numbers = []
    for _ in range(ways):
        problem_errors = rng.normal(0, of_problems * math.sqrt(PROBLEMS), PROBLEMS)
        seed_errors = rng.normal(0, of_seeds * math.sqrt(SEEDS), SEEDS)
        by_seed = common + problem_errors.mean() + seed_errors
        total = math.hypot(problem_errors.std(ddof=1) / math.sqrt(PROBLEMS), shared)
        numbers.append(number(float(by_seed.mean()), total, by_seed))
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_problems", "of_seeds", "shared"),
    [(0.02, 0.0002, 0.0), (0.002, 0.02, 0.0), (0.02, 0.02, 0.0), (0.02, 0.005, 0.015)],
)
@pytest.mark.parametrize("ways", [1, 8])
def test_where_all_ways_are_equal_no_more_is_promised_than_there_is(
    ways: int, of_problems: float, of_seeds: float, shared: float
) -> None:
    rng = np.random.default_rng(17)
    trials, held_true, promised, uncorrected = 1200, 0, 0, 0
    for _ in range(trials):
        numbers = drawn(rng, ways, of_problems, of_seeds, shared)
        best = max(numbers, key=lambda each: each.value)
        gain = Gain.of(best, ways)
        held_true += gain.low <= 0 <= gain.high
        promised += gain.even_odds > 0
        alone = Gain.of(best, 1)
        uncorrected += alone.low <= 0 <= alone.high
    error = math.sqrt(0.05 * 0.95 / trials)
    assert held_true / trials >= 0.95 - 3 * error
    assert promised / trials <= 0.5 + 3 * math.sqrt(0.25 / trials)
    if ways == 1 and min(of_problems, of_seeds) < 0.003:  # one part: Student's own interval
        assert held_true / trials <= 0.95 + 3 * error + 0.01
    if ways == 8 and min(of_problems, of_seeds) < 0.003:
        assert uncorrected / trials < 0.95 - 6 * error, "the choice matters"


ARMS = ("prefix-5", "prefix-20", "prefix-40", "random-20", "full")


def equal_arms(rng: np.random.Generator, problems: int = 40) -> FoundRun:
    """A sweep, measured from outcomes, whose arms have the same expected accuracy: each has its own
    problems and its own seeds that it is better or worse at."""
    hard = rng.normal(0, 1, (problems, 1))

    def right(own: np.ndarray, of_seed: float) -> np.ndarray:
        chance = 1 / (1 + np.exp(-(hard + own + of_seed)))
        return (rng.random((problems, 1)) < chance).astype(float)

    level = np.zeros((problems, 1))
    base, teacher = right(level - 2.0, 0.0), right(level + 1.0, 0.0)
    runs = []
    for arm in ARMS:
        own = rng.normal(0, 0.5, (problems, 1))
        for seed in range(SEEDS):
            runs.append(trained(arm, seed, {100: right(own, rng.normal(0, 0.2))}, base, teacher))
    run = made("sweep rollout-length", [])
    run.__dict__["measurements"] = sweep.measure(runs, sweep.Settings(("last_boxed",)))
    return run


@pytest.mark.slow
def test_sweeps_of_equal_arms_advise_full_rollouts() -> None:
    rng, trials = np.random.default_rng(3), 40
    others, known, covered, promised = 0, 0, 0, 0
    for _ in range(trials):
        run = equal_arms(rng)
        advice = advise([run])
        others += advice.recommended is not None and advice.recommended.arm != "full"
        candidates = [each for each in compare([run])[0].candidates if each.gain.known]
        best = largest(candidates)
        if best is not None:
            known += 1
            covered += best.gain.low <= 0 <= best.gain.high
            promised += best.gain.even_odds > 0
    assert others <= 2 and known > trials / 2
    assert covered >= known - 2 and promised <= known / 2
