"""Slow references in the notation of the definitions, to check the fast code against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def clustered_se(values: Sequence[float], problems: Sequence[int], weights: Sequence[float]) -> float:
    """SE of sum(w x) / sum(w): sqrt(G/(G-1) * sum over problems of (its sum of w (x - mean))^2) / sum(w)."""
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / total
    scores: dict[int, float] = {}
    for x, problem, w in zip(values, problems, weights, strict=True):
        scores[problem] = scores.get(problem, 0.0) + w * (x - mean)
    count = len(scores)
    return math.sqrt(count / (count - 1) * sum(score**2 for score in scores.values())) / total


def wilson(value: float, size: float, multiplier: float) -> tuple[float, float]:
    """Where |value - p| = multiplier * sqrt(p (1 - p) / size), found by bisection on either side of the value."""

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


def paired_interval(
    first: Sequence[float], second: Sequence[float], problems: Sequence[int], multiplier: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Intervals of the first mean and of the difference, from rows (multiplicity, mass, first sum, second sum).

    A row is a problem; two more, counted half each, are the problem only the first gets right and the one only the
    second does. Plain problems carry G/(G-1).
    """
    names = sorted(set(problems))
    member = {name: [i for i, problem in enumerate(problems) if problem == name] for name in names}
    rows = [(len(member[g]), sum(first[i] for i in member[g]), sum(second[i] for i in member[g])) for g in names]
    total, count = len(problems), len(names)
    pseudo = sum(m * m for m, _, _ in rows) / total
    more = [(pseudo, pseudo, 0.0), (pseudo, 0.0, pseudo)]
    means, centres, intervals = [], [], []
    for column in (1, 2):
        hits = sum(row[column] for row in rows)
        means.append(hits / total)
        centres.append((hits + pseudo / 2) / (total + pseudo))
        about = [(row[column] - centres[-1] * row[0]) ** 2 for row in [*rows, *more]]
        spread = count / (count - 1) * sum(about[:-2]) + sum(about[-2:]) / 2
        size = min(total * (total + pseudo) * centres[-1] * (1 - centres[-1]) / spread, total)
        if all(abs(row[column] - means[-1] * row[0]) < 1e-12 for row in rows):
            size = total / pseudo
        intervals.append(wilson(means[-1], size, multiplier))
    gram = [[0.0, 0.0], [0.0, 0.0]]
    for i, j in itertools.product((0, 1), repeat=2):
        plain = sum((row[i + 1] - means[i] * row[0]) * (row[j + 1] - means[j] * row[0]) for row in rows)
        extra = sum((row[i + 1] - centres[i] * row[0]) * (row[j + 1] - centres[j] * row[0]) for row in more)
        gram[i][j] = count / (count - 1) * plain + extra / 2
    correlation = gram[0][1] / math.sqrt(gram[0][0] * gram[1][1])
    (l1, u1), (l2, u2) = intervals
    d = means[0] - means[1]

    def arm(a: float, b: float) -> float:
        return math.sqrt(a * a + b * b - 2 * correlation * a * b)

    low, high = d - arm(means[0] - l1, u2 - means[1]), d + arm(u1 - means[0], means[1] - l2)
    return intervals[0], (max(low, -1.0), min(high, 1.0))


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
