"""Sums by problem and bootstrap draws, by hand and against the errors they must reproduce."""

from __future__ import annotations

import numpy as np
import pytest
from simulate import ragged

from decaylab.clusters import bootstrap_weights, per_problem_sums
from decaylab.statistics import proportion


def test_bootstrap_weights_are_multinomial_counts_of_problems() -> None:
    weights = bootstrap_weights(10, draws=20_000, seed=0)
    assert weights.shape == (20_000, 10) and np.all(weights.sum(axis=1) == 10)
    assert weights.var() == pytest.approx(0.9, abs=0.02)  # Binomial(10, 1/10); Poisson weights would have 1
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-0.1, abs=0.03)
    assert np.array_equal(bootstrap_weights(10, draws=5, seed=1), bootstrap_weights(10, draws=5, seed=1))
    assert not np.array_equal(bootstrap_weights(10, draws=5, seed=1), bootstrap_weights(10, draws=5, seed=2))
    with pytest.raises(ValueError):
        bootstrap_weights(0, draws=5, seed=0)


def test_bootstrapped_ratio_has_the_linearised_standard_error() -> None:
    x, _, problems, _ = ragged(count=200)
    sums = per_problem_sums(np.stack([np.ones(x.size), x], axis=1), problems, np.unique(problems))
    rollouts, right = (bootstrap_weights(200, draws=4000, seed=0) @ sums).T
    assert (right / rollouts).std() == pytest.approx(proportion(x, problems).standard_error, rel=0.05)


def test_per_problem_sums_by_hand() -> None:
    assert per_problem_sums([1, 2, 4], [9, 3, 9], [3, 5, 9]).tolist() == [2, 0, 5]
    assert per_problem_sums([[1, 10], [2, 20]], [9, 9], [9, 1]).tolist() == [[3, 30], [0, 0]]
