"""Paired differences of accuracies: coverage, width, and how often a true fall is found.

Both arms answer the same problems, once or four times. Their outcomes are related in one of five
ways:

    unrelated       a problem's chance of a correct answer is drawn for each arm on its own
    difficulty      a problem is equally hard for both; its samples are drawn apart outcome
    the second arm repeats the first's outcomes, but for a few that change lumps           likewise,
    and what changes in a problem changes in all of its samples lumps and noise both arms answer
    apart at the accuracy of the first, and the second fails a few problems in all samples

The goal is coverage of .93 to .98. Where fewer than DIFFERING problems differ, on average, the
counts are too coarse for the
upper end: many draws then hold one difference or none, and an interval that must hold the truth
where they hold none is wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from coverage_parts import error
from decaylab.maths.statistics import paired_difference, sign_flip_p

Floats = NDArray[np.float64]
RELATIONS = ("unrelated", "difficulty", "outcome", "lumps")
NOISY = "lumps and noise"
DIFFERING = 5
ICC = 0.3  # intraclass correlation of a problem's samples
CHANGED = 0.06  # share of outcomes that change where both arms are equally accurate, at most


class Case(NamedTuple):
    """Accuracies of both arms over so many problems of so many samples, related in one of RELATIONS
    or NOISY."""

    problems: int
    samples: int
    first: float
    second: float
    relation: str


def draw(case: Case, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Outcomes of both arms, [draws, problems, samples], with expectations ``first`` and ``second``
    <= first."""
    shape, (first, second) = (draws, case.problems, case.samples), (case.first, case.second)

    def chances(mean: float) -> Floats:
        mass = 1 / ICC - 1
        return rng.beta(mean * mass, (1 - mean) * mass, shape[:2])[..., None]

    def outcomes(chance: Floats | float) -> Floats:
        return (rng.random(shape) < chance).astype(np.float64)

    if case.relation == NOISY:
        whole = rng.random((*shape[:2], 1)) < second / first
        return outcomes(first), outcomes(first) * whole
    chance = chances(first)
    x = outcomes(chance)
    if case.relation == "unrelated":
        return x, outcomes(chances(second))
    if case.relation == "difficulty":
        return x, outcomes(chance * (second / first))
    if case.relation == "lumps":  # one draw a problem, whatever its samples
        shape = (*shape[:2], 1)
        x = np.broadcast_to(outcomes(first), (draws, case.problems, case.samples))
    lost, won = (first - second) / first, 0.0
    if first == second:
        changed = min(CHANGED, 0.5 * (1 - first)) / 2
        lost, won = changed / first, changed / (1 - first)
    return x, np.where(x > 0, 1 - outcomes(lost), outcomes(won))


def plain(differences: Floats) -> tuple[Floats, Floats]:
    """Student's t interval of the mean over problems. differences: [draws, problems]."""
    count = differences.shape[1]
    middle, spread = differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(count)
    reach = float(t.ppf(0.975, count - 1)) * spread
    return middle - reach, middle + reach


def printed(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """What `paired_difference` gives for each draw."""
    codes = np.repeat(np.arange(x.shape[1]), x.shape[2])
    estimates = [
        paired_difference(first.ravel(), second.ravel(), codes) for first, second in zip(x, y)
    ]
    return np.array([each.low for each in estimates]), np.array([each.high for each in estimates])


def measured(case: Case, draws: int, seed: int = 0) -> dict[str, Any]:
    """Coverage, mean width and the share of intervals without 0; the same of Student's t on the
    problems' means.

    differing: mean number of problems whose score is not the same for both arms.
    """
    x, y = draw(case, draws, np.random.default_rng([seed, *(int(100 * part) for part in case[:4])]))
    differences, truth = (x - y).mean(axis=2), case.first - case.second
    row: dict[str, Any] = {
        **case._asdict(),
        "differing": float((np.abs(differences) > 1e-12).sum(axis=1).mean()),
    }
    for name, (low, high) in {"": printed(x, y), "t_": plain(differences)}.items():
        covered = float(((low <= truth + 1e-12) & (truth <= high + 1e-12)).mean())
        row |= {f"{name}coverage": covered, f"{name}error": error(covered, draws)}
        row |= {
            f"{name}width": float((high - low).mean()),
            f"{name}found": float(((low > 0) | (high < 0)).mean()),
        }
    return row


def by_sign_flips(case: Case, draws: int, seed: int = 0) -> float:
    """Share of the draws in which the sign-flip test finds a difference."""
    x, y = draw(case, draws, np.random.default_rng([seed, 1]))
    codes = np.arange(case.problems)
    return float(
        np.mean(
            [
                sign_flip_p(difference, codes, draws=1000) <= 0.05
                for difference in (x - y).mean(axis=2)
            ]
        )
    )


def cases() -> list[Case]:
    """Equally accurate arms, and a second arm that is less accurate by a tenth."""
    return [
        Case(problems, samples, accuracy, second, relation)
        for relation in RELATIONS
        for samples in (1, 4)
        for problems in (10, 30, 100, 500)
        for accuracy in (0.5, 0.7, 0.9, 0.95, 0.99)
        for second in (accuracy, round(0.9 * accuracy, 3))
        if not (relation == "lumps" and samples == 1)
    ]


LUMPS = [  # per sample .98 or .99, and 1 to 2.5 problems wholly wrong, on average
    Case(problems, samples, accuracy, accuracy * (1 - lumps / problems), NOISY)
    for problems in (30, 100)
    for samples, accuracy in ((4, 0.99), (16, 0.98))
    for lumps in (1, 1.5, 2, 2.5)
]
FALLS = [
    Case(6, 4, 0.95, 0.65, "difficulty"),
    Case(6, 16, 0.95, 0.65, "difficulty"),
    Case(10, 4, 0.9, 0.6, "difficulty"),
    Case(30, 1, 0.9, 0.7, "difficulty"),
    Case(30, 4, 0.9, 0.8, "difficulty"),
    Case(100, 1, 0.95, 0.85, "difficulty"),
    Case(100, 4, 0.99, 0.96, "difficulty"),
]


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for case in [*cases(), *LUMPS]:
        yield measured(case, draws)
    for case in FALLS:
        yield {**measured(case, draws), "sign_flip_found": by_sign_flips(case, draws)}
