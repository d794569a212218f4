"""The jackknife over problems: of a mean it is the clustered t interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from decaylab.maths import jackknife
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM


def replicates_of(values: np.ndarray) -> np.ndarray:
    return (values.sum() - values) / (values.size - 1)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_of_a_mean_it_is_the_t_interval(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    found = jackknife.estimate(float(values.mean()), replicates_of(values), rollouts=7, level=0.9)
    error = values.std(ddof=1) / np.sqrt(count)
    assert found.standard_error == pytest.approx(error)
    assert found.high - found.value == pytest.approx(t.ppf(0.95, count - 1) * error)
    assert (found.problems, found.rollouts, found.note) == (count, 7, "")


def test_rounding_alone_is_no_spread() -> None:
    found = jackknife.estimate(0.5, np.array([0.5, 0.5 + 1e-16, 0.5]), rollouts=3, level=0.95)
    assert np.isnan(found.low)
    assert found.note == ALIKE


def test_without_spread_or_problems_it_says_why() -> None:
    one = jackknife.estimate(0.5, np.array([np.nan]), rollouts=3, level=0.95)
    assert (one.value, one.note) == (0.5, ONE_PROBLEM)
    lost = jackknife.estimate(0.5, np.array([0.4, np.nan]), rollouts=3, level=0.95)
    assert (lost.value, lost.note) == (0.5, jackknife.UNDEFINED_WITHOUT)
    assert np.isnan(lost.low)
    none = jackknife.estimate(np.nan, np.zeros(2), rollouts=0, level=0.95, note="no pair")
    assert np.isnan(none.value)
    assert none.note == "no pair"


def test_ends_stay_within_the_possible_values() -> None:
    values = np.array([0.0, 1.0, 1.0])
    found = jackknife.estimate(
        2 / 3, replicates_of(values), rollouts=3, level=0.95, within=(0.0, 1.0)
    )
    assert (found.low, found.high) == (0, 1)
