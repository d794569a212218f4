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

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from decaylab.maths import jackknife
from decaylab.maths.clusters import Floats, Ints, finite_column
from decaylab.maths.statistics import Estimate

METHOD = "jackknife over problems, logit"
NO_PAIRS = "no pair of a right and a wrong continuation: undefined"


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
        return self.concordant / self.number if self.number else np.nan

    @property
    def replicates(self) -> Floats:
        """The AUROC without each problem that takes part in a pair; NaN where no pair is left."""
        some = self.number_of > 0
        left = self.number - self.number_of[some]
        share = (self.concordant - self.concordant_of[some]) / np.where(left > 0, left, 1.0)
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
    items = _items(correct, draws, problems, strata)
    pairs = _pairs(_scores(scores, items), items)
    found = jackknife.estimate(
        pairs.value, pairs.replicates, rollouts=items.rollouts, level=level, note=NO_PAIRS
    )
    if np.isnan(found.low):
        return replace(found, method=METHOD)
    value = found.value
    reach = (found.high - value) / (value * (1 - value))
    low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    return replace(found, low=float(low), high=float(high), method=METHOD)


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
    return jackknife.estimate(
        one.value - other.value,
        one.replicates - other.replicates,
        rollouts=items.rollouts,
        level=level,
        within=(-1.0, 1.0),
        note=NO_PAIRS,
    )


@dataclass(frozen=True)
class _Items:
    """Prefixes: their right and wrong continuations, problem and stratum, [prefixes]."""

    right: Floats
    wrong: Floats
    problems: Ints
    strata: Ints

    @property
    def rollouts(self) -> int:
        """Number of continuations."""
        return int(self.right.sum() + self.wrong.sum())


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
    codes, groups = (np.unique(each, return_inverse=True)[1] for each in (codes, groups))
    return _Items(right, drawn - right, codes.astype(np.int64), groups.astype(np.int64))


def _scores(scores: ArrayLike, items: _Items) -> Floats:
    column = finite_column("scores", scores)
    if column.shape != items.right.shape:
        raise ValueError("scores must have one entry per prefix")
    return column


def _pairs(scores: Floats, items: _Items) -> _Pairs:
    """Sums over the pairs of different prefixes within each stratum, and by problem.

    A pair within one problem would be counted from both of its sides: it is taken off once.
    """
    count = int(items.problems.max(initial=0)) + 1
    below, others = _ranked(scores, items.wrong, items.strata)
    above, more = _ranked(-scores, items.right, items.strata)
    own = items.strata * count + items.problems
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
    levels, place = np.unique(np.stack([strata, scores], axis=1), axis=0, return_inverse=True)
    place, group = place.ravel(), levels[:, 0].astype(np.int64)
    of_level = np.bincount(place, weights)
    of_group = np.bincount(group, of_level)
    ahead = np.cumsum(of_level) - of_level - (np.cumsum(of_group) - of_group)[group]
    lower = ahead[place] + (of_level[place] - weights) / 2
    return lower, of_group[strata] - weights
