"""What one way of training gains over full rollouts, when it was chosen among several because it
looked best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from decaylab.claims.verdicts import ALPHA, LEAST_STEPS, POINTS_OF, Number, at_tail, usable
from decaylab.maths.seeds import LEAST_SEEDS


@dataclass(frozen=True)
class Gain:
    """Difference of accuracies from full rollouts, a fraction, on other problems and with other
    training seeds, of one way of training that was chosen among several.

    measured: the mean difference, which the choice of the largest makes too large. low, high: the
    interval that holds the true gain at 95 % whichever way is chosen. expected: shrunk so that it
    exceeds the true gain in at most half of the cases, whichever way is chosen. among: how many
    ways there were to choose from, full rollouts apart.

    Both take each half-width over problems and over seeds (Student's t, degrees of freedom of each)
    at a tail of 2.5 % or 50 % over ``among`` (Bonferroni), and add the two in quadrature. One of
    several simultaneous intervals holds under any rule of choice. The sum in quadrature covers at
    least as often as its parts do: normal errors that are independent of the estimated variances
    are enough. The error that samples add stands in both parts, which makes it wider.

    Source: Banerjee 1960 (the sum), Zou and Donner 2008 (of sides that differ), Benjamini and
    Yekutieli 2005 (simultaneous intervals after a choice). Shrinking to the median bound is ours.
    """

    measured: float
    expected: float
    low: float
    high: float
    among: int

    @classmethod
    def of(cls, number: Number, among: int) -> Gain:
        """NaN but for ``measured`` where the number has no interval over problems or seeds, or
        stands on less than any verdict needs."""
        measured = number.over_problems[0].value
        over = number.over_seeds
        known = number.seeds >= LEAST_SEEDS and not number.steps < LEAST_STEPS
        if not known or over is None or math.isnan(over.low) or not usable(number.over_problems[0]):
            return cls(measured, math.nan, math.nan, math.nan, among)
        low, high = _ends(number, ALPHA / 2 / among)
        expected, _ = _ends(number, 0.5 / among)
        return cls(measured, expected, low, high, among)

    @property
    def known(self) -> bool:
        return not math.isnan(self.low)

    @property
    def words(self) -> str:
        """``+3.1 points [+0.8, +5.9] (measured: +4.0)``; what was measured, where no more is
        known."""
        text = POINTS_OF.text
        if not self.known:
            return f"measured {text(self.measured)} points (no interval for other seeds)"
        return (
            f"{text(self.expected)} points [{text(self.low)}, {text(self.high)}] (measured: "
            f"{text(self.measured)})"
        )


def _ends(number: Number, tail: float) -> tuple[float, float]:
    """The interval for other problems and other seeds that misses with this probability on each
    side, within -1 and 1."""
    assert number.over_seeds is not None
    problems = at_tail(number.over_problems[0], tail)
    seeds = at_tail(number.over_seeds, tail, number.seeds)
    below = math.hypot(problems.value - problems.low, seeds.value - seeds.low)
    above = math.hypot(problems.high - problems.value, seeds.high - seeds.value)
    return max(problems.value - below, -1.0), min(problems.value + above, 1.0)
