"""The gain over full rollouts of a setting chosen as the best of several."""

from __future__ import annotations

import math
from dataclasses import dataclass

from decaylab.claims.verdicts import ALPHA, LEAST_STEPS, Number, at_tail, usable
from decaylab.claims.wording import POINTS_OF
from decaylab.maths.seeds import LEAST_SEEDS


@dataclass(frozen=True)
class Gain:
    """Difference in accuracy from full rollouts, a fraction, on other problems and training seeds,
    of one setting chosen among several.

    measured: the mean difference; choosing the largest biases it upwards. low, high: the 95 %
    interval of the true gain, valid whichever setting is chosen. even_odds: the true gain is at
    least this in at least half of the cases, whichever setting is chosen; a bound, not an
    expectation, and far below ``measured`` if there were many settings. among: number of settings
    to choose from, without full rollouts.

    Interval and bound use the half-widths over problems and over seeds (Student's t, with
    the degrees of freedom of each) at a tail of 2.5 % or 50 % divided by ``among`` (Bonferroni),
    added in quadrature. Simultaneous intervals hold under any rule of choice. The sum in quadrature
    covers at least as often as its parts if errors are normal and independent of the estimated
    variances. Sampling error is in both parts, which widens the interval.

    Source: Banerjee 1960 (the sum), Zou and Donner 2008 (of sides that differ), Benjamini and
    Yekutieli 2005 (simultaneous intervals after a choice). The bound at even odds is ours.
    """

    measured: float
    even_odds: float
    low: float
    high: float
    among: int

    @classmethod
    def of(cls, number: Number, among: int) -> Gain:
        """The gain behind a number. Only ``measured`` is defined if an interval over problems or
        seeds is missing, or if there are too few data for a verdict."""
        measured = number.over_problems[0].value
        over = number.over_seeds
        known = number.seeds >= LEAST_SEEDS and not number.steps < LEAST_STEPS
        if not known or over is None or math.isnan(over.low) or not usable(number.over_problems[0]):
            return cls(measured, math.nan, math.nan, math.nan, among)
        low, high = _ends(number, ALPHA / 2 / among)
        even_odds, _ = _ends(number, 0.5 / among)
        return cls(measured, even_odds, low, high, among)

    @property
    def known(self) -> bool:
        return not math.isnan(self.low)

    @property
    def words(self) -> str:
        """``+4.0 points [+0.8, +5.9] (at least +3.1 at even odds)``: the measured gain, the
        corrected interval, and the bound if there was a choice."""
        text = POINTS_OF.text
        if not self.known:
            return f"{text(self.measured)} points (no interval for other seeds)"
        bound = f" (at least {text(self.even_odds)} at even odds)" if self.among > 1 else ""
        return f"{text(self.measured)} points [{text(self.low)}, {text(self.high)}]{bound}"


def _ends(number: Number, tail: float) -> tuple[float, float]:
    """The interval for other problems and seeds with this tail probability on each side, clipped to
    -1 and 1."""
    assert number.over_seeds is not None
    problems = at_tail(number.over_problems[0], tail)
    seeds = at_tail(number.over_seeds, tail, number.seeds)
    below = math.hypot(problems.value - problems.low, seeds.value - seeds.low)
    above = math.hypot(problems.high - problems.value, seeds.high - seeds.value)
    return max(problems.value - below, -1.0), min(problems.value + above, 1.0)
