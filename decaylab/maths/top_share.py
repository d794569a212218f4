"""Means over the tokens that rank highest, with errors that account for the estimated threshold.

    top = top_tokens(reverse_kl, 0.1)      # the 10 % highest, ties to the earlier row; values below
                                           # are those of top.rows
    estimate = means(top, values, problems, tokens_by_problem, counted)
    low, high = interval(estimate)         # of means that lie in [0, 1]
    change = difference(estimate, before)  # token_means: paired, where both are of one set

Other rollouts would have put the threshold elsewhere, so that every token counts, whether it is in
the set or not. For theta = E(x | r >= c), c the 1-q quantile of the rank r, the influence of a
token is

    [1(r >= c) (x - theta) - d (1(r >= c) - q)] / q          d = E(x - theta | r = c)

and with x counted only where b is 1, theta = E(x | r >= c, b), it is

    [1(r >= c) b (x - theta) - d (1(r >= c) - q)] / P(r >= c, b)    d = E(b (x - theta) | r = c)

Source: delta method over the sample quantile (Bahadur 1966), as for trimmed means in Serfling 1980,
chapter 8; summed by problem, and each problem's sum over what the others hold, as in
``token_means``. How d is estimated is ours, see `NEAR`.
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

# d is the mean over the tokens whose rank is this share of the set's size or less from the
# threshold, on either side: from one side it is biased by the slope there, and half the set around
# the threshold is already enough for its noise not to matter.
NEAR = 0.25


@dataclass(frozen=True)
class TopTokens:
    """The rows of a table that rank highest, and the next ones below them.

    rows: ascending, [rows]. inside: of the set [rows]. near: next to the threshold, inside or below
    [rows]. tokens: of all.
    """

    rows: Ints
    inside: Bools
    near: Bools
    tokens: int


def highest(ranking: NDArray[np.generic], count: int) -> Ints:
    """Rows of the ``count`` highest entries, ascending; of equal entries the earlier rows. Time is
    linear."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    threshold = np.partition(ranking, ranking.size - count)[ranking.size - count]
    chosen = ranking > threshold
    ties = np.flatnonzero(ranking == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)


def top_tokens(ranking: NDArray[np.generic], share: float) -> TopTokens:
    """The ceil(share x tokens) tokens that rank highest.

    Raises ValueError unless share lies strictly between 0 and 1.
    """
    check_fraction("share", share)
    count = math.ceil(
        share * ranking.size - 1e-6
    )  # 0.07 x 100 is 7, though 7.000000000000001 in floating point
    reach = math.ceil(NEAR * count)
    rows = highest(ranking, min(count + reach, ranking.size))
    inside, near = np.zeros(rows.size, dtype=bool), np.ones(rows.size, dtype=bool)
    inside[highest(ranking[rows], count)] = True
    near[highest(ranking[rows], count - reach)] = False
    return TopTokens(rows, inside, near, ranking.size)


def means(
    top: TopTokens, values: Floats, problems: Ints, tokens_by_problem: Floats, counted: Bools
) -> CellMeans:
    """Mean of each column of values [rows, quantities] over the tokens of the set that are counted
    [rows].

    problems: code of each token, [rows]. tokens_by_problem: of the whole table, [problems]. A
    problem without a token in the
    set has an influence too: through the threshold.
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
    """Low and high of means of values in [0, 1]: the Wilson score interval at the effective size
    p(1-p) / SE^2.

    Student's t stands in place of z, with the effective number of problems less 1 degrees of
    freedom. The effective size is never above the number of tokens; where SE or p(1-p) is 0 it is
    the effective number of problems. NaN with fewer than 2 problems. Unlike in
    ``statistics.proportion`` no pseudo-problems are added: a problem of many tokens is hardly ever
    all right or all wrong, and they would widen the interval of 30 problems by a third. Nominal 95
    % intervals of shares of .35 and .016 hold the truth in .94 to .97 and in .95 to .99, with 30
    and 200 problems (tests/maths/test_top_share.py).

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
