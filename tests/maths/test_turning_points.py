"""Turning points: exact p-values, and the false-discovery rate under shared draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import boschloo_exact, fisher_exact

from decaylab.maths.turning_points import turning_points


def test_a_segment_without_change_has_a_p_value_near_1_and_a_whole_change_turns() -> None:
    found = turning_points([8, 0, 16], [16] * 3, [8, 0, 0], [16] * 3)
    assert found.p_values[:2].min() > 0.9
    assert found.turns.tolist() == [False, False, True]
    assert found.change.tolist() == [0, 0, -1]


def test_p_values_are_exact_and_below_fishers() -> None:
    """By the sum over all tables at the chance that is worst for the null."""
    found = turning_points([1], [8], [6], [8])
    assert found.p_values[0] == pytest.approx(boschloo_exact([[1, 6], [7, 2]]).pvalue)
    assert found.p_values[0] < fisher_exact([[1, 6], [7, 2]])[1]
    tables = [(a, b) for a in range(9) for b in range(9)]
    fisher = {(a, b): fisher_exact([[a, b], [8 - a, 8 - b]])[1] for a, b in tables}
    extreme = [each for each in tables if fisher[each] <= fisher[1, 6] + 1e-12]

    def chance(p: float) -> float:
        law = np.array([float(np.prod([(8 - i) / (i + 1) for i in range(k)])) for k in range(9)])
        law *= p ** np.arange(9) * (1 - p) ** (8 - np.arange(9))
        return float(sum(law[a] * law[b] for a, b in extreme))

    worst = max(chance(p) for p in np.linspace(0.001, 0.999, 999))
    assert found.p_values[0] == pytest.approx(worst, abs=1e-4)


def test_adjusted_p_values_are_those_of_benjamini_and_yekutieli() -> None:
    found = turning_points([0, 2, 8, 5], [8] * 4, [8, 4, 1, 5], [8] * 4)
    order = np.argsort(found.p_values)
    harmonic = sum(1 / rank for rank in range(1, 5))
    raw = found.p_values[order] * 4 * harmonic / np.arange(1, 5)
    expected = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1)
    assert found.adjusted[order] == pytest.approx(expected)


def test_the_false_discovery_rate_holds_where_neighbours_share_their_draws() -> None:
    rng, false = np.random.default_rng(1), []
    for _ in range(25):
        chances = np.full((40, 6), 0.5)
        changed = rng.random(40) < 0.3
        chances[changed, 3:] = 0.95
        right = rng.binomial(16, chances)
        flat = [part.ravel() for part in (right[:, :-1], right[:, 1:])]
        drawn = np.full(200, 16)
        turns = turning_points(flat[0], drawn, flat[1], drawn, rate=0.1).turns.reshape(40, 5)
        real = np.zeros((40, 5), dtype=bool)
        real[changed, 2] = True
        false.append((turns & ~real).sum() / max(1, turns.sum()))
    assert np.mean(false) < 0.1
    assert (turns & real).sum() > 0


def test_unequal_draws_and_none_at_all() -> None:
    found = turning_points([4], [4], [0], [32])
    assert found.p_values[0] < 0.01
    assert turning_points([1], [1], [0], [1]).p_values[0] == pytest.approx(0.5)
    assert turning_points([], [], [], []).turns.size == 0


def test_impossible_counts_are_refused() -> None:
    for counts in ((3, 2, 0, 2), (-1, 2, 0, 2), (0, 2, 3, 2), (0, 2, -1, 2)):
        with pytest.raises(ValueError, match="between 0 and the draws"):
            turning_points(*([each] for each in counts))
    for counts in ((0, 0, 0, 2), (0, 2, 0, 0)):
        with pytest.raises(ValueError, match="at least 1 draw"):
            turning_points(*([each] for each in counts))
    with pytest.raises(ValueError, match="one entry per segment"):
        turning_points([1, 1], [2, 2], [1], [2])
    with pytest.raises(ValueError, match="rate must lie between 0 and 1"):
        turning_points([1], [2], [0], [2], rate=0)
