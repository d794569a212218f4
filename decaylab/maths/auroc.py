"""AUROC of a score for the outcomes of fresh continuations, clustered by problem; no I/O.

The unit is a prefix: a score, and how many of its fresh continuations are right. A pair is one
right and one wrong continuation of two different prefixes; it is concordant if the right one's
prefix has the higher score, and half so if the scores are equal. The AUROC is the share of
concordant pairs, so .5 says nothing and below .5 says that low scores go with right answers.

    auroc(scores, correct, draws, problems, strata)     # pairs within a stratum only
    difference(first, second, correct, draws, problems, strata)     # of two scores, paired

strata: None compares all prefixes; positions compare prefixes of one position; codes of (position,
problem) compare the rollouts of one problem at one position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

from decaylab.maths import jackknife
from decaylab.maths.clusters import Floats, Ints, check_fraction, finite_column
from decaylab.maths.statistics import ONE_PROBLEM, UNDEFINED, Estimate

METHOD = "jackknife over problems, logit"
NO_PAIRS = "no pair of a right and a wrong continuation: undefined"
NO_SPREAD = "the same without each problem: no interval"


@dataclass(frozen=True)
class _Pairs:
    """Sums over pairs. concordant, all: over all of them, and those that a problem takes part in,
    [problems]."""

    concordant: float
    number: float
    concordant_of: Floats
    number_of: Floats

    @property
    def value(self) -> float:
        return self.concordant / self.number

    @property
    def replicates(self) -> Floats:
        """The AUROC without each problem; NaN where no pair is left."""
        left = self.number - self.number_of
        share = (self.concordant - self.concordant_of) / np.where(left > 0, left, 1.0)
        return np.where(left > 0, share, np.nan)


def auroc(
    scores: ArrayLike,
    correct: ArrayLike,
    draws: ArrayLike,
    problems: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Estimate:
    """Share of concordant pairs, with an interval by the jackknife over problems.

    The interval is symmetric on the logit scale, with Student's t. Where every replicate is alike
    (one score for all, or every pair concordant) there is none, and a note.

    Args:
        scores: [prefixes].
        correct: right continuations, [prefixes].
        draws: continuations, [prefixes].
        problems: integer codes, [prefixes].
        strata: integer codes; pairs are taken within a stratum. None: one stratum.
        level: of the interval.

    Raises:
        ValueError: arrays of different lengths, scores that are not finite, or more right
            continuations than draws.

    Source: Mann and Whitney 1947; clustered: Obuchowski 1997, here by the jackknife.
    """
    check_fraction("level", level)
    items = _items(correct, draws, problems, strata)
    pairs = _pairs(_scores(scores, items), items)
    rollouts = int(items.draws.sum())
    if pairs.number == 0:
        return Estimate(*UNDEFINED, METHOD, pairs.number_of.size, rollouts, NO_PAIRS)
    taking_part = pairs.number_of > 0
    count, value = int(taking_part.sum()), pairs.value
    error = jackknife.standard_error(pairs.replicates[taking_part])
    if count < 2 or not error > 1e-12 or not 0 < value < 1:
        reason = ONE_PROBLEM if count < 2 else NO_SPREAD
        if np.isnan(error) and count >= 2:
            reason = jackknife.UNDEFINED_WITHOUT
        return Estimate(value, *UNDEFINED[:3], METHOD, count, rollouts, reason)
    reach = float(stdtrit(count - 1, 0.5 + level / 2)) * error / (value * (1 - value))
    low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    return Estimate(value, float(low), float(high), error, METHOD, count, rollouts)


def difference(
    first: ArrayLike,
    second: ArrayLike,
    correct: ArrayLike,
    draws: ArrayLike,
    problems: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Estimate:
    """AUROC of the first score minus that of the second over the same pairs; see `auroc`."""
    items = _items(correct, draws, problems, strata)
    one, other = (_pairs(_scores(scores, items), items) for scores in (first, second))
    rollouts, taking_part = int(items.draws.sum()), one.number_of > 0
    replicates = (one.replicates - other.replicates)[taking_part]
    if one.number == 0:
        return jackknife.estimate(np.nan, replicates, rollouts=rollouts, level=level, note=NO_PAIRS)
    return jackknife.estimate(
        one.value - other.value, replicates, rollouts=rollouts, level=level, within=(-1.0, 1.0)
    )


@dataclass(frozen=True)
class _Items:
    """Prefixes: their right and wrong continuations, problem and stratum, [prefixes]."""

    right: Floats
    wrong: Floats
    problems: Ints
    strata: Ints

    @property
    def draws(self) -> Floats:
        return self.right + self.wrong


def _items(
    correct: ArrayLike, draws: ArrayLike, problems: ArrayLike, strata: ArrayLike | None
) -> _Items:
    right, drawn = finite_column("correct", correct), finite_column("draws", draws)
    codes = np.asarray(problems)
    groups = np.zeros(right.size, dtype=np.int64) if strata is None else np.asarray(strata)
    if any(column.shape != right.shape for column in (drawn, codes, groups)):
        raise ValueError("correct, draws, problems and strata must have one entry per prefix")
    if np.any((right < 0) | (right > drawn)):
        raise ValueError("correct must lie between 0 and draws")
    return _Items(right, drawn - right, _codes(codes), _codes(groups))


def _scores(scores: ArrayLike, items: _Items) -> Floats:
    column = finite_column("scores", scores)
    if column.shape != items.right.shape:
        raise ValueError("scores must have one entry per prefix")
    return column


def _codes(values: ArrayLike) -> Ints:
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def _pairs(scores: Floats, items: _Items) -> _Pairs:
    """Sums over the pairs of different prefixes within each stratum, and by problem.

    A pair within one problem would be counted from both of its sides: it is taken off once.
    """
    count = int(items.problems.max(initial=-1)) + 1
    below, others = _ranked(scores, items.wrong, items.strata)
    above, more = _ranked(-scores, items.right, items.strata)
    own = items.strata * max(count, 1) + items.problems
    inside, fellows = _ranked(scores, items.wrong, own)

    def by_problem(values: Floats) -> Floats:
        return np.bincount(items.problems, values, count).astype(np.float64)

    concordant, number = items.right * below, items.right * others
    return _Pairs(
        float(concordant.sum()),
        float(number.sum()),
        by_problem(concordant + items.wrong * above - items.right * inside),
        by_problem(number + items.wrong * more - items.right * fellows),
    )


def _ranked(scores: Floats, weights: Floats, strata: Ints) -> tuple[Floats, Floats]:
    """For each item, the weight of the other items of its stratum with lower scores, those with
    equal ones by half; and the weight of all others, [items]."""
    if scores.size == 0:
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((scores, strata))
    level, group = scores[order], strata[order]
    total = np.cumsum(weights[order])
    starts_group = np.r_[True, group[1:] != group[:-1]]
    starts_tie = starts_group | np.r_[True, level[1:] != level[:-1]]
    before = np.r_[0.0, total[:-1]]  # the weight ahead of each place

    def from_start(starts: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The weight ahead of each item's run, and up to its end."""
        place = np.cumsum(starts) - 1
        first = before[starts]
        return first[place], np.r_[first[1:], total[-1]][place]

    (group_first, group_end), (tie_first, tie_end) = (
        from_start(starts_group),
        from_start(starts_tie),
    )
    own = weights[order]
    lower = (tie_first - group_first) + (tie_end - tie_first - own) / 2
    found, others = np.empty(scores.size), np.empty(scores.size)
    found[order], others[order] = lower, group_end - group_first - own
    return found, others
