"""Token truth and interventions: how often the intervals of gains, AUROCs and effects hold the
truth.

    gain            places of random number in each problem; both masses near 0 or 1, as they are,
                    around a difficulty of the problem
    auroc           a share of concordant pairs that differs by problem, and pairs of any weight
    content, style, interaction
                    four samples of each arm, whose accuracies vary by problem
    kl              log-normal means of four samples of each arm, which share the problem's level

The goal is coverage of .90 to .98 with 30 problems and of .92 to .97 with 200.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverage_parts import error
from decaylab.analyses import interventions, token_truth
from decaylab.maths.statistics import Estimate
from decaylab.runs.vocabulary import FRACTION, NATS

Floats = NDArray[np.float64]
PROBLEMS = (30, 200)
LEVEL = 0.95
PLACES = 18  # of a problem, on average
MEANS = {"student": 0.85, "teacher": 0.92}
SPREAD_BETWEEN, SPREAD_WITHIN = 4.0, 1.5  # sizes of Beta laws: the smaller, the wider
ACCURACIES = (0.7, 0.55, 0.35, 0.3)  # of correct and wrong content, each in both styles
SAMPLES = 4
KL_LEVEL, KL_EFFECTS = 0.2, (0.9, 1.0, 1.2, 1.3)


def _codes(problems: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.repeat(np.arange(problems), 1 + rng.poisson(PLACES - 1, problems))


def _beta(means: Floats, size: float, rng: np.random.Generator) -> Floats:
    near = np.clip(means, 1e-3, 1 - 1e-3)
    return rng.beta(near * size, (1 - near) * size)


def gain(problems: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """A gain over places, and its expectation by the means of both laws."""
    codes = _codes(problems, rng)
    masses = {
        who: _beta(_beta(np.full(problems, mean), SPREAD_BETWEEN, rng)[codes], SPREAD_WITHIN, rng)
        for who, mean in MEANS.items()
    }
    estimate = token_truth.mean_gain(masses["teacher"] - masses["student"], codes, level=LEVEL)
    return estimate, MEANS["teacher"] - MEANS["student"]


def auroc(problems: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """A share of pairs, whose weights are unrelated to it."""
    codes = _codes(problems, rng)
    share = _beta(_beta(np.full(problems, 0.8), SPREAD_BETWEEN, rng)[codes], SPREAD_WITHIN, rng)
    mass = _beta(np.full(len(codes), 0.8), 2.0, rng)
    pairs = mass * (1 - mass)
    return token_truth.pair_share(pairs, pairs * share, codes, level=LEVEL), 0.8


def accuracies(problems: int, rng: np.random.Generator) -> Floats:
    """Mean outcomes of each arm, [problems, arms]."""
    chances = _beta(np.broadcast_to(ACCURACIES, (problems, 4)), SPREAD_BETWEEN, rng)
    return rng.binomial(SAMPLES, chances) / SAMPLES


def _effect(name: str, unit: str, arms: Floats, means: tuple[float, ...]) -> tuple[Estimate, float]:
    signs, factor = interventions.EFFECTS[name]
    plus = arms[:, [sign > 0 for sign in signs]].mean(axis=1)
    less = arms[:, [sign < 0 for sign in signs]].mean(axis=1)
    estimate = interventions.difference(unit, plus, less, np.arange(len(arms)), level=LEVEL)
    return estimate, float(np.dot(signs, means)) / 2


def kl(problems: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """The effect of content on a KL, which is skewed."""
    level = KL_LEVEL * np.exp(rng.normal(-0.125, 0.5, (problems, 1, 1)))
    noise = np.exp(rng.normal(-0.125, 0.5, (problems, 4, SAMPLES)))
    arms = (level * np.array(KL_EFFECTS)[:, None] * noise).mean(axis=2)
    means = tuple(KL_LEVEL * share for share in KL_EFFECTS)
    return _effect("content", NATS, arms, means)


def _of_accuracy(name: str) -> Callable[[int, np.random.Generator], tuple[Estimate, float]]:
    return lambda problems, rng: _effect(name, FRACTION, accuracies(problems, rng), ACCURACIES)


CASES: dict[str, Callable[[int, np.random.Generator], tuple[Estimate, float]]] = {
    "gain": gain,
    "auroc": auroc,
    **{name: _of_accuracy(name) for name in interventions.EFFECTS},
    "kl": kl,
}


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for number, (name, draw) in enumerate(CASES.items()):
        for problems in PROBLEMS:
            rng = np.random.default_rng([number, problems])
            found = [draw(problems, rng) for _ in range(draws)]
            held = [one.low <= truth <= one.high for one, truth in found]
            yield {
                "quantity": name,
                "problems": problems,
                "truth": found[0][1],
                "mean": float(np.mean([one.value for one, _ in found])),
                "coverage": float(np.mean(held)),
                "error": error(float(np.mean(held)), draws),
                "width": float(np.mean([one.high - one.low for one, _ in found])),
            }
