"""Means over the highest-ranked tokens, with errors that account for the estimated threshold.

    top = top_tokens(reverse_kl, 0.1)      # the top 10 %, ties to the earlier row
    estimate = means(top, values, problems, tokens_by_problem, counted)   # values: of top.rows
    low, high = interval(estimate)         # for means in [0, 1]
    change = difference(estimate, before)  # token_means: paired, both over the same set

Other rollouts would have moved the threshold, so every token has an influence, in the set or not.
For theta = E(x | r >= c), c the 1-q quantile of the rank r, the influence of a token is

    [1(r >= c) (x - theta) - d (1(r >= c) - q)] / q          d = E(x - theta | r = c)

and if x counts only where b is 1, theta = E(x | r >= c, b), it is

    [1(r >= c) b (x - theta) - d (1(r >= c) - q)] / P(r >= c, b)    d = E(b (x - theta) | r = c)

Source: delta method over the sample quantile (Bahadur 1966), as for trimmed means in Serfling 1980,
chapter 8; summed by problem and divided by the total of the other problems, as in ``token_means``.
The estimate of d is ours, see `NEAR`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from decaylab.maths.clusters import Floats, Ints, check_fraction
from decaylab.maths.statistics import wilson
from decaylab.maths.token_means import CellMeans

Bools = NDArray[np.bool_]

# d is the mean over the tokens near the threshold: on either side, this share of the set's size.
# One side alone is biased by the slope; half the set in all makes its noise negligible.
NEAR = 0.25


@dataclass(frozen=True)
class TopTokens:
    """The highest-ranked rows of a table, and the next ones below them.

    rows: ascending, [rows]. inside: in the set, [rows]. near: close to the threshold on either
    side, [rows]. tokens: number of all tokens.
    """

    rows: Ints
    inside: Bools
    near: Bools
    tokens: int


def highest(ranking: NDArray[np.generic], count: int) -> Ints:
    """Rows of the ``count`` highest entries, ascending; ties go to earlier rows. Linear time."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    threshold = np.partition(ranking, ranking.size - count)[ranking.size - count]
    chosen = ranking > threshold
    ties = np.flatnonzero(ranking == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)


def top_tokens(ranking: NDArray[np.generic], share: float) -> TopTokens:
    """The ceil(share x tokens) highest-ranked tokens.

    Raises ValueError unless share lies strictly between 0 and 1.
    """
    check_fraction("share", share)
    # 0.07 x 100 is 7, but 7.000000000000001 in floating point
    count = math.ceil(share * ranking.size - 1e-6)
    reach = math.ceil(NEAR * count)
    rows = highest(ranking, min(count + reach, ranking.size))
    inside, near = np.zeros(rows.size, dtype=bool), np.ones(rows.size, dtype=bool)
    inside[highest(ranking[rows], count)] = True
    near[highest(ranking[rows], count - reach)] = False
    return TopTokens(rows, inside, near, ranking.size)


def means(
    top: TopTokens, values: Floats, problems: Ints, tokens_by_problem: Floats, counted: Bools
) -> CellMeans:
    """Mean of each column of values [rows, quantities] over the counted tokens of the set.

    counted: [rows]. problems: code of each token, [rows]. tokens_by_problem: of the whole table,
    [problems]. A problem without a token in the set still has an influence, through the threshold.
    """
    used, count = top.inside & counted, tokens_by_problem.size
    sizes = np.bincount(problems[used], minlength=count).astype(np.float64)[:, None]
    sums = np.stack(
        [np.bincount(problems[used], column[used], count) for column in values.T], axis=1
    ).astype(np.float64)
    share = top.inside.sum() / max(top.tokens, 1)
    excess = np.bincount(problems[top.inside], minlength=count) - share * tokens_by_problem
    total, behind = sizes.sum(), np.count_nonzero(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = sums.sum(axis=0) / total
        slope = (
            np.where(counted[top.near, None], values[top.near] - value, 0.0).sum(axis=0)
            / top.near.sum()
        )
        residual = sums - sizes * value - np.outer(excess, slope)
        influence = residual / (total - sizes) * (1 - 1 / np.float64(behind))
    influence = influence if behind > 1 else np.zeros_like(sums)
    tokens = np.full(value.size, int(total))
    return CellMeans(
        value, influence, np.repeat(sizes, value.size, axis=1), tokens, log_scale=False
    )


def interval(estimate: CellMeans, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high for means of values in [0, 1]: Wilson's score interval at size p(1-p) / SE^2.

    Student's t replaces z, at (effective number of problems - 1) degrees of freedom. The effective
    size is at most the number of tokens; if SE or p(1-p) is 0, it is the effective number of
    problems. NaN with fewer than 2 problems. Unlike ``statistics.proportion``, no pseudo-problems
    are added: the values of a problem with many tokens are rarely all 0 or all 1, and
    pseudo-problems would widen the interval of 30 problems by a third. Nominal 95 % intervals of
    shares of .35 and .016 cover .94 to .97 and .95 to .99, with 30 and 200 problems
    (tests/maths/test_top_share.py).

    Source: Wilson 1927; effective size and t Korn and Graubard 1998, Franco et al. 2019.
    """
    check_fraction("level", level)
    value, variance = estimate.value, estimate.standard_error**2
    multiplier = stdtrit(np.maximum(estimate.effective_problems - 1, 1), 1 - (1 - level) / 2)
    chance = np.maximum(value * (1 - value), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.minimum(chance / variance, estimate.tokens)
        alike = np.isfinite(variance) & ((variance < 1e-20) | (chance < 1e-12))
        return wilson(value, np.where(alike, estimate.effective_problems, effective), multiplier)
