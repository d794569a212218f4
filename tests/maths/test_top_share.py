"""Means over the highest-ranking tokens: by hand, against a bootstrap that chooses the set anew,
and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from scipy.stats import t

from decaylab.maths import token_means
from decaylab.maths.statistics import proportion
from decaylab.maths.token_means import CellMeans, difference
from decaylab.maths.top_share import highest, interval, means, top_tokens

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SHARE = 0.1


def estimate(
    ranking: Floats,
    values: Floats,
    problems: Ints,
    counted: NDArray[np.bool_] | None = None,
    share: float = SHARE,
) -> CellMeans:
    """`means` of one quantity given for all tokens."""
    top = top_tokens(ranking, share)
    counted = np.ones(values.size, dtype=bool) if counted is None else counted
    tokens = np.bincount(problems).astype(float)
    return means(top, values[top.rows][:, None], problems[top.rows], tokens, counted[top.rows])


def simulated(
    count: int,
    rng: np.random.Generator,
    *,
    odds: float = -0.4,
    spread: float = 0.5,
    own: float = 0.3,
) -> tuple[Floats, Floats, NDArray[np.bool_], Ints]:
    """Ranking, an outcome, what is counted, and problems: some rank high throughout, and outcomes
    go with the rank.

    spread: of the problems' levels of the ranking. own: how far outcomes of a problem go together
    besides.
    """
    problems = np.repeat(np.arange(count), rng.integers(75, 226, count))
    level, other = rng.normal(size=count), rng.normal(size=count)
    log_rank = 1.2 * rng.normal(size=problems.size) + spread * level[problems]
    chance = 1 / (1 + np.exp(0.8 * (log_rank - 1.8) - odds - own * 0.7 * (level + other)[problems]))
    return (
        np.exp(log_rank),
        (rng.random(problems.size) < chance).astype(float),
        rng.random(problems.size) < 0.6,
        problems,
    )


def bootstrap_error(
    ranking: Floats, values: Floats, counted: NDArray[np.bool_], problems: Ints, draws: int
) -> float:
    """Spread of the mean over bootstrap samples of problems, the set chosen anew in each; the slow
    definition."""
    member = [np.flatnonzero(problems == problem) for problem in np.unique(problems)]
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        rows = np.concatenate([member[i] for i in rng.integers(0, len(member), len(member))])
        inside = rows[np.argsort(-ranking[rows], kind="stable")[: math.ceil(SHARE * rows.size)]]
        found.append(values[inside][counted[inside]].mean())
    return float(np.std(found))


# --- the set
# ---------------------------------------------------------------------------


def test_the_set_is_that_of_a_stable_sort_ties_to_the_earlier_row() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 9, 100):
        ranking = rng.integers(0, 4, size).astype(float)
        for count in range(size + 1):
            expected = sorted(range(size), key=lambda row: (-ranking[row], row))[:count]
            assert highest(ranking, count).tolist() == sorted(expected)


def test_a_share_is_rounded_up_as_a_decimal_number() -> None:
    """.07 of 100 tokens is 7, though .07 * 100 is 7.000000000000001 in floating point; of 101 it is
    8."""
    for share, tokens, expected in ((0.07, 100, 7), (0.07, 101, 8), (0.1, 1, 1), (0.1, 30, 3)):
        assert top_tokens(np.arange(float(tokens)), share).inside.sum() == expected


def test_tokens_next_to_the_threshold_are_a_quarter_of_the_set_on_either_side() -> None:
    """Of 80 tokens the highest 8 are 72 .. 79, and 2 on either side of the threshold are 70, 71 |
    72, 73."""
    top = top_tokens(np.arange(80.0), 0.1)
    assert top.rows[top.inside].tolist() == list(range(72, 80))
    assert top.rows[top.near].tolist() == [70, 71, 72, 73]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_chooses_none_or_all_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        top_tokens(np.arange(5.0), share)


# --- values and errors
# ---------------------------------------------------------------------------


def test_three_problems_by_hand() -> None:
    """12 tokens, the highest 6 chosen: rows 0-3 of problem 0, 4 of problem 1, 8 of problem 2;
    values 1 1 0 0 | 1 | 0.

    theta = 1/2. Next to the threshold: ranks 5 to 8, rows 4 and 8 inside, 5 and 9 below, values 1 0
    | 1 1: d = 3/4 - 1/2. Tokens by problem 4, 4, 4, so 2 of each are expected in the set: excess 2,
    -1, -1. Residuals (s - m theta - d excess): 2 - 2 - 1/2 = -1/2;  1 - 1/2 + 1/4 = 3/4;  0 - 1/2 +
    1/4 = -1/4. Over what the others hold, 2, 5 and 5, times 1 - 1/3: -1/6, 1/10, -1/30. SE^2 = 3/2
    (1/36 + 1/100 + 1/900) = .0583.
    """
    ranking = np.array([12.0, 11, 10, 9, 8, 6, 1, 2, 7, 5, 3, 4])
    values = np.array([1.0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0])
    found = estimate(ranking, values, np.repeat([0, 1, 2], 4), share=0.5)
    assert found.value[0] == 0.5
    assert found.influence[:, 0] == pytest.approx([-1 / 6, 1 / 10, -1 / 30])
    assert found.standard_error[0] ** 2 == pytest.approx(1.5 * (1 / 36 + 1 / 100 + 1 / 900))
    assert (found.tokens[0], found.problems[0]) == (6, 3)


def test_counting_a_part_of_the_set_does_not_change_the_set() -> None:
    """As above, rows 0, 2, 3 and 8 counted: values 1 0 0 0, theta = 1/4; the set is chosen first,
    so row 5 stays out."""
    ranking = np.array([12.0, 11, 10, 9, 8, 6, 1, 2, 7, 5, 3, 4])
    values = np.array([1.0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0])
    counted = np.isin(np.arange(12), [0, 2, 3, 5, 8])
    found = estimate(ranking, values, np.repeat([0, 1, 2], 4), counted, share=0.5)
    assert (found.value[0], found.tokens[0], found.problems[0]) == (0.25, 4, 2)
    # d = (0 - 1/4 + 1 - 1/4) / 4 = 1/8 over the four near tokens, of which rows 8 and 5 are counted
    assert found.influence[2, 0] == pytest.approx((0 - 1 / 4 + 1 / 8) / 3 / 2)


def test_the_value_is_the_plain_mean_over_the_sorted_set() -> None:
    ranking, values, counted, problems = simulated(25, np.random.default_rng(4))
    inside = np.argsort(-ranking, kind="stable")[: math.ceil(0.1 * ranking.size)]
    assert estimate(ranking, values, problems).value[0] == pytest.approx(values[inside].mean())
    part = values[inside][counted[inside]]
    found = estimate(ranking, values, problems, counted)
    assert found.value[0] == pytest.approx(part.mean()) and found.tokens[0] == part.size


def test_influences_sum_to_nothing_where_problems_are_alike_in_size() -> None:
    """Without the division by what the others hold, they do so exactly; a threshold term of the
    wrong share would not."""
    ranking, values, counted, problems = simulated(40, np.random.default_rng(5))
    found = estimate(ranking, values, problems, counted)
    held = (found.weights.sum() - found.weights[:, 0]) * found.influence[:, 0]
    assert abs(held.sum()) < 1e-9 * np.abs(held).sum()


def test_the_error_is_that_of_choosing_the_set_anew_and_not_of_a_threshold_known_beforehand() -> (
    None
):
    """Where problems differ much in rank, a threshold taken as known gives little more than half of
    the error."""
    ranking, values, counted, problems = simulated(
        150, np.random.default_rng(0), spread=1.0, own=0.0
    )
    everything = np.ones_like(counted)
    anew = bootstrap_error(ranking, values, everything, problems, draws=300)
    found = estimate(ranking, values, problems)
    assert found.standard_error[0] == pytest.approx(anew, rel=0.12)
    inside = top_tokens(ranking, 0.1)
    rows = inside.rows[inside.inside]
    assert proportion(values[rows], problems[rows]).standard_error < 0.7 * anew
    part = bootstrap_error(ranking, values, counted, problems, draws=300)
    assert estimate(ranking, values, problems, counted).standard_error[0] == pytest.approx(
        part, rel=0.12
    )


def test_a_change_on_one_set_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(2)
    ranking, values, _, problems = simulated(25, rng)
    after = np.where(rng.random(values.size) < 0.2, 1 - values, values)
    change = difference(estimate(ranking, after, problems), estimate(ranking, values, problems))
    direct = estimate(ranking, after - values, problems)
    assert change.value > 0, "else neither interval could be on the log scale"
    assert np.ravel(token_means.interval(change)) == pytest.approx(
        np.ravel(token_means.interval(direct))
    )
    assert change.value == pytest.approx(direct.value)
    assert change.standard_error == pytest.approx(direct.standard_error)


# --- intervals
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 25])
def test_the_interval_is_wilsons_at_the_effective_size(count: int) -> None:
    """At least one degree of freedom, which two problems of unequal sizes would not reach."""
    ranking, values, _, problems = simulated(count, np.random.default_rng(1), own=2.0)
    found = estimate(ranking, values, problems)
    p, size = found.value[0], found.value[0] * (1 - found.value[0]) / found.standard_error[0] ** 2
    assert size < found.tokens[0]
    low, high = interval(found, level=0.9)
    multiplier = float(t.ppf(0.95, max(found.effective_problems[0] - 1, 1)))
    assert (low[0], high[0]) == pytest.approx(reference.wilson(p, size, multiplier))


def test_there_is_no_more_evidence_than_tokens() -> None:
    """20 problems with 5 tokens each in the set, 3 of them right, in one problem 2: p(1-p) / SE^2
    is far above 100."""
    values = np.tile(np.arange(50.0) % 2, 20)
    values[49] = 0
    found = estimate(np.tile(np.arange(50.0), 20), values, np.repeat(np.arange(20), 50))
    low, high = interval(found)
    assert found.value[0] == 0.59 and 0.59 * 0.41 / found.standard_error[0] ** 2 > 1000
    assert (low[0], high[0]) == pytest.approx(reference.wilson(0.59, 100, float(t.ppf(0.975, 19))))


def test_shares_of_0_and_1_have_the_evidence_of_the_problems() -> None:
    """20 problems of 50 tokens, 5 of each in the set, all outcomes alike: n / (n + t^2) with n =
    20, not 100."""
    ranking, problems = np.tile(np.arange(50.0), 20), np.repeat(np.arange(20), 50)
    expected = 20 / (20 + float(t.ppf(0.975, 19)) ** 2)
    low, high = interval(estimate(ranking, np.ones(1000), problems))
    assert (low[0], high[0]) == pytest.approx((expected, 1))
    low, high = interval(estimate(ranking, np.zeros(1000), problems))
    assert (low[0], high[0]) == pytest.approx((0, 1 - expected))


def test_outcomes_below_the_threshold_alone_do_not_give_a_share_of_0_a_false_width() -> None:
    """None in the set, all of those just below: d is not 0 and so is not the error, but p(1-p)
    is."""
    rng = np.random.default_rng(0)
    ranking, problems = rng.random(1000), np.repeat(np.arange(20), 50)
    found = estimate(ranking, (ranking < np.sort(ranking)[-100]).astype(float), problems)
    low, high = interval(found)
    n = found.effective_problems[0]
    square = float(t.ppf(0.975, n - 1)) ** 2
    assert found.value[0] == 0 and (low[0], high[0]) == pytest.approx((0, square / (n + square)))


def test_one_problem_has_a_value_and_no_interval_and_no_token_has_neither() -> None:
    one = estimate(np.arange(20.0), np.ones(20), np.zeros(20, dtype=int))
    assert one.value[0] == 1 and all(np.isnan(end[0]) for end in interval(one))
    behind = estimate(
        np.arange(20.0), np.ones(20), np.repeat([0, 1], 10)
    )  # only the second problem is in the set
    assert (
        (one.influence == 0).all()
        and (behind.influence == 0).all()
        and np.isnan(interval(behind)[0][0])
    )
    none = estimate(np.arange(20.0), np.ones(20), np.repeat([0, 1], 10), np.zeros(20, dtype=bool))
    assert (none.influence == 0).all()
    assert (
        np.isnan(none.value[0])
        and none.tokens[0] == 0
        and all(np.isnan(end[0]) for end in interval(none))
    )
    empty = estimate(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))
    assert np.isnan(empty.value[0])


def test_pseudo_problems_would_widen_the_interval_of_many_tokens_a_problem() -> None:
    """What the interval for grades would give on the same tokens, threshold aside: a third more at
    30 problems."""
    wider = []
    for seed in range(20):
        ranking, values, _, problems = simulated(30, np.random.default_rng(seed))
        low, high = interval(estimate(ranking, values, problems))
        top = top_tokens(ranking, SHARE)
        rows = top.rows[top.inside]
        plain = proportion(values[rows], problems[rows])
        wider.append((plain.high - plain.low) / (high[0] - low[0]))
    assert 1.15 < np.mean(wider) < 1.6, np.mean(wider)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "draws"), [(30, 400), (200, 400)])
@pytest.mark.parametrize("odds", [-0.4, -4.0])
def test_intervals_hold_the_truth_as_often_as_they_say(count: int, draws: int, odds: float) -> None:
    """Shares near .35 and .02, over the set and over a part of it; 400 draws, two binomial errors
    at .95 are .022."""
    ranking, values, counted, problems = simulated(30_000, np.random.default_rng(99), odds=odds)
    truths = [float(estimate(ranking, values, problems, part).value[0]) for part in (None, counted)]
    rng, held = np.random.default_rng(1), np.zeros(2)
    for _ in range(draws):
        ranking, values, counted, problems = simulated(count, rng, odds=odds)
        for case, part in enumerate((None, counted)):
            low, high = interval(estimate(ranking, values, problems, part))
            held[case] += low[0] <= truths[case] <= high[0]
    assert np.all(held / draws > 0.92) and np.all(held / draws < 0.99), held / draws
