"""Slow references in the notation of the definitions, to check the fast code against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def clustered_se(
    values: Sequence[float], problems: Sequence[int], weights: Sequence[float]
) -> float:
    """SE of sum(w x) / sum(w): sqrt(G/(G-1) * sum over problems of (its sum of w (x - mean))^2) /
    sum(w)."""
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / total
    scores: dict[int, float] = {}
    for x, problem, w in zip(values, problems, weights, strict=True):
        scores[problem] = scores.get(problem, 0.0) + w * (x - mean)
    count = len(scores)
    return math.sqrt(count / (count - 1) * sum(score**2 for score in scores.values())) / total


def wilson(value: float, size: float, multiplier: float) -> tuple[float, float]:
    """Where |value - p| = multiplier * sqrt(p (1 - p) / size), found by bisection on either side of
    the value."""

    def end(bound: float) -> float:
        inside, outside = value, bound
        for _ in range(200):
            middle = (inside + outside) / 2
            if abs(value - middle) <= multiplier * math.sqrt(middle * (1 - middle) / size):
                inside = middle
            else:
                outside = middle
        return inside

    return end(0.0), end(1.0)


def proportion_interval(
    values: Sequence[float], problems: Sequence[int], multiplier: float
) -> tuple[float, float]:
    """Interval of a mean from rows (mass, sum), one a problem, and two more, counted half each: all
    right and all wrong.

    Plain problems carry G/(G-1).
    """
    names = sorted(set(problems))
    rows = [
        (problems.count(g), sum(x for x, own in zip(values, problems, strict=True) if own == g))
        for g in names
    ]
    total, count, hits = len(problems), len(names), sum(values)
    pseudo = sum(mass * mass for mass, _ in rows) / total
    centre = (hits + pseudo / 2) / (total + pseudo)
    about = [(own - centre * mass) ** 2 for mass, own in [*rows, (pseudo, pseudo), (pseudo, 0.0)]]
    spread = count / (count - 1) * sum(about[:-2]) + sum(about[-2:]) / 2
    return wilson(
        hits / total,
        min(total * (total + pseudo) * centre * (1 - centre) / spread, total),
        multiplier,
    )


def paired_interval(
    first: Sequence[float],
    second: Sequence[float],
    problems: Sequence[int],
    weights: Sequence[float],
    multiplier: float,
) -> tuple[float, float]:
    """Student's t over the problems' deviations, as shares of an average problem, with the
    pseudo-problems of differences.

    K problems that differ by d, and n - K that do not, have sums of powers of the deviations whose
    ratio gives d and K back; half a problem of d either way is added, and as many as .1 problems of
    a whole difference either way.
    """
    rows = [
        (
            sum(w for w, own in zip(weights, problems, strict=True) if own == g),
            sum(
                w * (x - y)
                for w, x, y, own in zip(weights, first, second, problems, strict=True)
                if own == g
            ),
        )
        for g in sorted(set(problems))
    ]
    total, count = sum(mass for mass, _ in rows), len(rows)
    value, average = (
        sum(own for _, own in rows) / total,
        sum(mass * mass for mass, _ in rows) / total,
    )
    apart = [(own - value * mass) / average for mass, own in rows]
    second_power, third, fourth = (sum(e**power for e in apart) for power in (2, 3, 4))
    known = second_power > 1e-9
    halves = sum(
        (2 * own / average) ** 2 for _, own in rows
    )  # problems, where each differs by half of one
    problems_that_differ = min(second_power * second_power / fourth, halves) if known else 0.0
    added = (second_power + 0.1 * (1 + 1)) / (problems_that_differ + 0.1)
    error = math.sqrt(count / (count - 1) * second_power + added) / (total / average)
    middle = value + (third / second_power / 2 / (total / average) if known else 0.0)
    return max(-1.0, middle - multiplier * error), min(1.0, middle + multiplier * error)


def sign_flip_p(sums: Sequence[float]) -> float:
    """Share of all sign patterns whose |sum| is at least the observed one."""
    observed = abs(sum(sums))
    patterns = itertools.product((1, -1), repeat=len(sums))
    totals = [abs(sum(s * d for s, d in zip(signs, sums, strict=True))) for signs in patterns]
    return sum(total >= observed - 1e-9 for total in totals) / len(totals)


def pass_at_k(outcomes: Sequence[int], k: int) -> float:
    """Share of all ways to pick k of the outcomes that hold at least one right one."""
    picks = list(itertools.combinations(outcomes, k))
    return sum(any(pick) for pick in picks) / len(picks)


def half_decay_length(lengths: Sequence[float], retained: Sequence[float]) -> float:
    """Walk along the curve from (0, 1) in steps of 1/1000 of a segment until it is at most .5."""
    points = list(zip(lengths, retained, strict=True))
    points = points if points[0][0] == 0 else [(0.0, 1.0), *points]
    if points[0][1] <= 0.5:
        return points[0][0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        for step in range(1, 1001):
            if y0 + (y1 - y0) * step / 1000 <= 0.5:
                return x0 + (x1 - x0) * step / 1000
    return math.inf
