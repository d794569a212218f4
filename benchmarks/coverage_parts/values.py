"""AUROC, covariance and correlation of values known from a few draws; and turning points.

A world of a few kinds of problems, so that the truth is a sum over a table. The rollouts of one
problem are alike in kind and differ in state; a state has a chance of a right answer now and
behind the segment, and a law of its score. An AUROC's truth is the expected number of concordant
pairs over the expected number of pairs.

    auroc, ...        the share of intervals that hold the truth (goal: .90 to .98 at 30 problems,
                      .92 to .97 at 200), and the mean deviation from it
    turning points    the false-discovery rate, and the share of true changes that are found: by
                      the product, and by Benjamini and Hochberg on halves of the draws, of which
                      neighbouring segments share none
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from coverage_parts import error
from decaylab.maths import auroc
from decaylab.maths.noisy_values import Counts, change_and_signal
from decaylab.maths.statistics import Estimate
from decaylab.maths.turning_points import turning_points

Floats = NDArray[np.float64]
KINDS = (0.3, 0.4, 0.3)
"""How often a problem is easy, middling, hard."""
STATES: tuple[tuple[float, ...], ...] = ((0.8, 0.2), (0.6, 0.4), (0.3, 0.7))
"""Of a problem's prefixes, the shares on and off the track, by kind."""
NOW: tuple[tuple[float, ...], ...] = ((0.95, 0.4), (0.8, 0.15), (0.5, 0.02))
THEN: tuple[tuple[float, ...], ...] = ((1.0, 0.3), (0.9, 0.0), (0.6, 0.0))
SCORES = (0.0, 1.0, 2.0)
LAWS: tuple[tuple[float, ...], ...] = ((0.2, 0.3, 0.5), (0.5, 0.3, 0.2))
"""Of the score on and off the track."""
OTHER: tuple[tuple[float, ...], ...] = ((0.3, 0.4, 0.3), (0.4, 0.3, 0.3))
PREFIXES = 4
CELLS = list(product(range(3), range(2), range(3)))


class Sample(NamedTuple):
    """One draw of the world, one entry per prefix."""

    problems: NDArray[np.int64]
    score: Floats
    other: Floats
    now: Floats
    then: Floats


def drawn(problems: int, rng: np.random.Generator) -> Sample:
    kind = np.repeat(rng.choice(3, problems, p=KINDS), PREFIXES)
    state = (rng.random(kind.size) > np.array(STATES)[kind, 0]).astype(int)

    def scores(laws: tuple[tuple[float, ...], ...]) -> Floats:
        steps = np.cumsum(np.array(laws), axis=1)[state]
        return (rng.random(kind.size)[:, None] > steps[:, :-1]).sum(axis=1).astype(np.float64)

    return Sample(
        np.repeat(np.arange(problems), PREFIXES),
        scores(LAWS),
        scores(OTHER),
        np.array(NOW)[kind, state],
        np.array(THEN)[kind, state],
    )


def concordance(laws: tuple[tuple[float, ...], ...], within: bool) -> tuple[float, float]:
    """Expected concordant pairs and pairs of two prefixes, of one problem or of two."""
    concordant = number = 0.0
    for (kind, state, score), (other, its, lower) in product(CELLS, CELLS):
        if within and kind != other:
            continue
        kinds = KINDS[kind] * (1.0 if within else KINDS[other])
        chance = kinds * STATES[kind][state] * STATES[other][its]
        chance *= laws[state][score] * laws[its][lower]
        pairs = chance * NOW[kind][state] * (1 - NOW[other][its])
        number += pairs
        concordant += pairs * ((score > lower) + 0.5 * (score == lower))
    return concordant, number


def true_auroc(laws: tuple[tuple[float, ...], ...], problems: int, within_only: bool) -> float:
    inside, outside = concordance(laws, True), concordance(laws, False)
    if within_only:
        return inside[0] / inside[1]
    shares = PREFIXES - 1, (problems - 1) * PREFIXES
    sums = [inside[part] * shares[0] + outside[part] * shares[1] for part in (0, 1)]
    return sums[0] / sums[1]


def true_covariance() -> tuple[float, float]:
    """Of the score with the change of value, and the correlation."""
    table = np.array(
        [
            (KINDS[k] * STATES[k][w] * LAWS[w][s], SCORES[s], THEN[k][w] - NOW[k][w])
            for k, w, s in CELLS
        ]
    ).T
    weight, score, change = table
    moments = [(weight @ score, weight @ change)]
    x, y = score - moments[0][0], change - moments[0][1]
    covariance = float(weight @ (x * y))
    return covariance, covariance / float(np.sqrt((weight @ x**2) * (weight @ y**2)))


def estimates(sample: Sample, draws: int, rng: np.random.Generator) -> dict[str, Estimate]:
    size = np.full(sample.now.size, draws)
    now, then = rng.binomial(draws, sample.now), rng.binomial(draws, sample.then)
    given = now, size, sample.problems
    moved = change_and_signal(
        sample.score, Counts.of(now, size), Counts.of(then, size), sample.problems
    )
    return {
        "auroc, all prefixes": auroc.auroc(sample.score, *given),
        "auroc, of one problem": auroc.auroc(sample.score, *given, sample.problems),
        "auroc, difference": auroc.difference(sample.score, sample.other, *given),
        "covariance": moved.covariance,
        "pearson": moved.pearson,
    }


def truths(problems: int) -> dict[str, float]:
    whole = true_auroc(LAWS, problems, False)
    covariance, correlation = true_covariance()
    return {
        "auroc, all prefixes": whole,
        "auroc, of one problem": true_auroc(LAWS, problems, True),
        "auroc, difference": whole - true_auroc(OTHER, problems, False),
        "covariance": covariance,
        "pearson": correlation,
    }


def intervals(problems: int, draws: int, simulations: int) -> Iterator[dict[str, Any]]:
    rng, truth = np.random.default_rng(problems + draws), truths(problems)
    found = [estimates(drawn(problems, rng), draws, rng) for _ in range(simulations)]
    for name, true in truth.items():
        values = np.array([each[name].value for each in found])
        inside = np.array([each[name].low <= true <= each[name].high for each in found])
        none = np.isnan([each[name].low for each in found])
        share = float(inside[~none].mean())
        yield {
            "case": name,
            "problems": problems,
            "continuations": draws,
            "truth": true,
            "bias": float(np.nanmean(values) - true),
            "bias_error": float(np.nanstd(values) / np.sqrt(simulations)),
            "coverage": share,
            "coverage_error": error(share, simulations),
            "without_interval": float(none.mean()),
        }


# Turning points


def paths(share: float, size: float, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """True values of 60 rollouts at 7 positions, and the segments over which they change."""
    values = np.repeat(rng.choice([0.2, 0.5, 0.8], (60, 1)), 7, axis=1)
    changes = rng.random((60, 6)) < share
    for place in range(6):
        before = values[:, place]
        up = np.where(before + size > 1, -1, np.where(before - size < 0, 1, rng.choice([-1, 1])))
        after = before + up * size
        changes[:, place] &= (after >= 0) & (after <= 1)
        values[:, place + 1 :] = np.where(changes[:, place], after, before)[:, None]
    return values, changes


def by_halves(outcomes: NDArray[np.bool_], rate: float) -> NDArray[np.bool_]:
    """Benjamini and Hochberg's rule where segments end on one half of the draws and begin on the
    other."""
    half = outcomes.shape[2] // 2
    ends, starts = outcomes[:, 1:, :half].sum(axis=2), outcomes[:, :-1, half:].sum(axis=2)
    size = np.full(ends.size, half)
    tested = turning_points(starts.ravel(), size, ends.ravel(), size, rate=rate)
    adjusted = false_discovery_control(tested.p_values, method="bh")
    return np.asarray((adjusted <= rate).reshape(ends.shape))


def found_changes(outcomes: NDArray[np.bool_], rate: float) -> NDArray[np.bool_]:
    right = outcomes.sum(axis=2)
    start, end = right[:, :-1], right[:, 1:]
    size = np.full(end.size, outcomes.shape[2])
    return turning_points(start.ravel(), size, end.ravel(), size, rate=rate).turns.reshape(
        end.shape
    )


def rates(share: float, size: float, draws: int, simulations: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([draws, round(100 * share), round(100 * size)])
    sums: dict[str, list[tuple[float, float]]] = {}
    for _ in range(simulations):
        values, changes = paths(share, size, rng)
        outcomes = rng.random((*values.shape, draws)) < values[:, :, None]
        for name, method in (("turning points", found_changes), ("by halves", by_halves)):
            turns = method(outcomes, 0.1)
            false, true = (turns & ~changes).sum(), (turns & changes).sum()
            power = true / max(1, changes.sum()) if changes.any() else np.nan
            sums.setdefault(name, []).append((false / max(1, turns.sum()), power))
    for name, each in sums.items():
        false_share, power = np.array(each).T
        yield {
            "case": name,
            "changes": share,
            "size": size,
            "continuations": draws,
            "false_discovery_rate": float(false_share.mean()),
            "rate_error": float(false_share.std() / np.sqrt(simulations)),
            "power": float(np.nanmean(power)) if changes.any() else float("nan"),
        }


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for problems, continuations in product((30, 200), (4, 8, 16)):
        yield from intervals(problems, continuations, draws)
    fewer = max(1, draws // 10)  # each holds 360 segments
    for continuations in (8, 16, 32) if draws > 10 else (8,):
        yield from rates(0.0, 0.3, continuations, fewer)
        for share, size in product((0.1, 0.3), (0.3, 0.6)):
            yield from rates(share, size, continuations, fewer)
