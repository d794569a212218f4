"""Sums by problem and bootstrap draws, by hand and against the errors they must reproduce."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import sem
from simulate import ragged

from decaylab.maths.clusters import (
    bootstrap_weights,
    check_fraction,
    checked_rollouts,
    clustered_se,
    per_problem_sums,
    percentile_interval,
)
from decaylab.maths.statistics import proportion


def test_bootstrap_weights_are_multinomial_counts_of_problems() -> None:
    weights = bootstrap_weights(10, draws=20_000, seed=0)
    assert weights.shape == (20_000, 10) and np.all(weights.sum(axis=1) == 10)
    assert weights.var() == pytest.approx(
        0.9, abs=0.02
    )  # Binomial(10, 1/10); Poisson weights would have 1
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-0.1, abs=0.03)
    assert np.array_equal(
        bootstrap_weights(10, draws=5, seed=1), bootstrap_weights(10, draws=5, seed=1)
    )
    assert not np.array_equal(
        bootstrap_weights(10, draws=5, seed=1), bootstrap_weights(10, draws=5, seed=2)
    )


def test_bootstrapped_ratio_has_the_linearised_standard_error() -> None:
    x, _, problems, _ = ragged(count=200)
    sums = per_problem_sums(np.stack([np.ones(x.size), x], axis=1), problems, np.unique(problems))
    rollouts, right = (bootstrap_weights(200, draws=4000, seed=0) @ sums).T
    assert (right / rollouts).std() == pytest.approx(
        proportion(x, problems).standard_error, rel=0.05
    )


def test_per_problem_sums_by_hand() -> None:
    assert per_problem_sums([1, 2, 4], [9, 3, 9], [3, 5, 9]).tolist() == [2, 0, 5]
    assert per_problem_sums([[1, 10], [2, 20]], [9, 9], [9, 1]).tolist() == [[3, 30], [0, 0]]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_the_clustered_error_of_equal_problems_is_the_standard_error_of_their_means(
    count: int,
) -> None:
    x = np.random.default_rng(count).normal(size=count)
    assert clustered_se((x - x.mean()) / count) == pytest.approx(sem(x))
    assert np.isnan(clustered_se(x[:1])) and np.isnan(clustered_se(x[:0]))


def test_the_percentile_interval_is_the_narrowest_central_one_between_replicates_that_holds_the_level() -> (  # noqa: E501
    None
):
    """Of 0 .. 100 the central half is 25 to 75; of 0 .. 99, 24.75 to 74.25, out to 24 and 75: ends
    are never interpolated."""
    shuffled = np.random.default_rng(0).permutation
    assert percentile_interval(shuffled(101) * 1.0, 0.5) == (25, 75)
    assert percentile_interval(shuffled(100) * 1.0, 0.5) == (24, 75)
    for size in (1, 2, 7, 40, 1000):
        values = shuffled(size) * 1.0
        for level in (0.2, 0.8, 0.95):
            central = max(tail for tail in range(size) if tail <= (1 - level) / 2 * (size - 1))
            assert percentile_interval(values, level) == (central, size - 1 - central)
    assert percentile_interval(np.array([np.inf, 1, 2, -np.inf]), 0.95) == (-np.inf, np.inf)
    assert np.isnan(percentile_interval(np.zeros(0), 0.9)).all()
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 1.5"):
        percentile_interval(np.zeros(3), 1.5)


@pytest.mark.parametrize("value", [-0.5, 0.0, 1.0, 1.5, 95.0, np.nan])
def test_a_fraction_lies_strictly_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        check_fraction("share", value)
    check_fraction("share", 0.001)
    check_fraction("share", 0.999)


def test_rollouts_of_weight_0_are_left_out_and_any_other_weight_is_kept() -> None:
    (x, y), codes, w = checked_rollouts(([0, 0.5, 1], [1, 0, 0]), [7, 8, 9], [0.2, 0, 3])
    assert (x.tolist(), y.tolist(), codes.tolist(), w.tolist()) == (
        [0, 1],
        [1, 0],
        [7, 9],
        [0.2, 3],
    )
    (x,), codes, w = checked_rollouts(([0, 0.5],), [7, 8], None)
    assert (x.tolist(), codes.tolist(), w.tolist()) == ([0, 0.5], [7, 8], [1, 1])
    (x,), codes, w = checked_rollouts(([],), [], None)
    assert x.size == codes.size == w.size == 0 and codes.dtype == np.int64
    (x,), codes, w = checked_rollouts(([1],), [7], [0])
    assert x.size == codes.size == w.size == 0


@pytest.mark.parametrize(
    ("values", "problems", "weights", "said"),
    [
        ([-0.5, 0.5], [0, 1], None, r"\[0, 1\], got -0.5 to 0.5"),
        ([0.5, 1.5], [0, 1], None, r"\[0, 1\], got 0.5 to 1.5"),
        ([1.5], [0], None, r"\[0, 1\], got 1.5 to 1.5"),
        ([0.5, 0.5], [0, 1], [1, -0.5], "must not be negative, got -0.5"),
        ([0.5, 0.5], [0, 1], [1, np.inf], "weights must be one-dimensional and finite"),
        (
            [0.5, np.nan],
            [0, 1],
            None,
            "values must be one-dimensional and finite: shape .2,., 1 NaN",
        ),
        ([[0.5, 0.5]], [[0, 1]], None, "values must be one-dimensional"),
        ([0.5, 0.5], [0], None, r"the same length, got \[\(2,\), \(2,\)\] and \(1,\)"),
        ([0.5, 0.5], [0, 1], [1], "the same length"),
        ([0.5], [0.5], None, "integer codes, got float64"),
    ],
)
def test_what_is_no_table_of_rollouts_is_refused(
    values: list[float], problems: list[int], weights: list[float] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        checked_rollouts((values,), problems, weights)


@pytest.mark.parametrize("code", [2, 4, 10])
def test_a_code_that_is_not_among_those_asked_for_is_refused_wherever_it_would_stand(
    code: int,
) -> None:
    with pytest.raises(ValueError, match="not in codes"):
        per_problem_sums([1, 1], [3, code], [9, 3, 5])


def test_rollouts_without_a_code_each_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) rollouts, codes of shape \(1,\)"):
        per_problem_sums(np.ones((2, 3)), [3], [3])


def test_one_problem_and_one_draw_are_enough_and_none_is_refused() -> None:
    assert bootstrap_weights(1, draws=1, seed=0).tolist() == [[1]]
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        bootstrap_weights(0, draws=5, seed=0)
    with pytest.raises(ValueError, match="at least 1, got 5 and 0"):
        bootstrap_weights(5, draws=0, seed=0)
