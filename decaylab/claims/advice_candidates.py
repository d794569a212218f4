"""A setting that sweeps compared with full rollouts: its gain, its cost, its contradictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from decaylab.claims.advice_gain import Gain
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    POINTS,
    Effect,
    Number,
    decided,
    fewest,
    held,
    pick,
    side,
    widened,
)
from decaylab.claims.wording import POINTS_OF, listed, points
from decaylab.maths.seeds import DISAGREE, apart_by, over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import FULL, THESE_SEEDS

BETTER, WORSE, AS_GOOD, OPEN = "better", "worse", "as good", "not decided"
NOT_AHEAD = "not ahead"
MORE, CHEAPER = Effect(0.0, POINTS), Effect(1.0, 0.9, reached=True)
PREFIX = "prefix"


@dataclass(frozen=True)
class Setting:
    """How to train. rollout_length: tokens at which rollouts stop, infinity for full rollouts. arm:
    its name in a sweep."""

    selector: str
    rollout_length: float
    arm: str

    @property
    def words(self) -> str:
        """Its description, as it follows "train with"."""
        if self.arm == FULL:
            return "full rollouts"
        if self.selector == PREFIX:
            return f"rollouts of {self.rollout_length:g} tokens"
        length = "full rollouts"
        if math.isfinite(self.rollout_length):
            length = f"rollouts of {self.rollout_length:g} tokens"
        return f"the selector {self.arm} on {length}"


FULL_ROLLOUTS = Setting(FULL, math.inf, FULL)


class Measured(NamedTuple):
    """A setting in one sweep. what: the compared difference. number: its results. rivals: how many
    settings this sweep compared with full rollouts."""

    run: FoundRun
    arms: Arms
    arm: str
    what: str
    number: Number
    rivals: int

    @property
    def problems(self) -> int:
        return self.number.over_problems[0].problems

    @property
    def by_seed(self) -> dict[float, Measurement]:
        return self.arms.by_seed(self.arm, self.what)


@dataclass(frozen=True)
class Candidate:
    """A setting with its results. parts: the sweeps behind them, the first one decides on costs;
    the others trained with other seeds. rivals: number of settings that the first sweep compared
    with full rollouts. among: the number over all comparable sweeps. next_seed: above the training
    seeds of all of them."""

    setting: Setting
    parts: tuple[Measured, ...]
    number: Number
    among: int
    next_seed: int

    @classmethod
    def of(
        cls, setting: Setting, found: Sequence[Measured], among: int, next_seed: int
    ) -> Candidate:
        """The results of the most precise sweep, together with sweeps of other training seeds on
        as many problems."""
        parts: list[Measured] = []
        for each in sorted(found, key=_precision, reverse=True):
            if not parts or _joins(each, parts):
                parts.append(each)
        return cls(setting, tuple(parts), _pooled(parts), among, next_seed)

    @property
    def run(self) -> FoundRun:
        return self.parts[0].run

    @property
    def arms(self) -> Arms:
        return self.parts[0].arms

    @property
    def rivals(self) -> int:
        return self.parts[0].rivals

    @property
    def gain(self) -> Gain:
        return Gain.of(self.number, self.among)

    @property
    def verdict(self) -> str:
        """Better, or as good within the smallest relevant difference, by the corrected gain; worse
        by that gain or by the rule of the claims; not ahead by a relevant difference."""
        gain = self.gain
        if gain.low > 0:
            return BETTER
        if self.number.decided(MORE, self.rivals) == CONTRADICTED or gain.high < 0:
            return WORSE
        if gain.low > -POINTS:
            return AS_GOOD
        return NOT_AHEAD if self.excluded else OPEN

    @property
    def promising(self) -> bool:
        """Whether it may still be ahead by a relevant difference."""
        return self.verdict in (AS_GOOD, OPEN) and not self.excluded

    @property
    def excluded(self) -> bool:
        """Whether the interval of its gain excludes a relevant difference. It is not corrected, as
        this excludes each setting for itself; without an interval over seeds, that over problems
        counts."""
        alone = Gain.of(self.number, 1)
        return (alone if alone.known else self.number.over_problems[0]).high < POINTS

    @property
    def cheaper(self) -> bool:
        """Whether it samples at least a tenth fewer tokens and is not shown to take longer."""
        tokens, seconds = self.tokens, self.seconds
        if tokens is None or decided(CHEAPER, tokens, self.rivals) != HOLDS:
            return False
        return not (seconds and seconds.over_seeds and side(seconds.over_seeds, 1.0) > 0)

    @property
    def tokens(self) -> Measurement | None:
        """Sampled tokens relative to full rollouts, a ratio."""
        return self.arms.tokens(self.setting.arm)

    @property
    def seconds(self) -> Number | None:
        """Seconds per step relative to full rollouts, a ratio."""
        return self.arms.seconds(self.setting.arm)

    @property
    def torn(self) -> str:
        """How its seeds contradict each other, or "". They do if one shows it ahead of full
        rollouts, and another shows it behind or the seeds disagree."""
        numbers = self.rivals * max(self.number.seeds, 1)
        sides = [
            side(widened(row, numbers)) for part in self.parts for row in part.by_seed.values()
        ]
        over = self.number.over_seeds
        disagree = -1 in sides or (over is not None and DISAGREE in over.note)
        if 1 not in sides or not disagree:
            return ""
        by_seed = listed(POINTS_OF.text(value) for value in self.number.by_seed)
        return f"the training seeds of {self.setting.arm} disagree: {by_seed} points per seed"

    @property
    def opposed(self) -> str:
        """How another answer rule or checkpoint rule shows the opposite of what the reported rules
        show of it, or ""."""
        reported, shown = self.number.over_problems[0], self.verdict
        if shown not in (BETTER, AS_GOOD, WORSE):
            return ""
        here, there, opposite = "ahead of", "behind", -1
        if shown == WORSE:
            here, there, opposite = "behind", "ahead", 1
        for row in self._by_other_rules():
            if side(row) == opposite:
                as_good = "as accurate as" if shown == AS_GOOD else here
                return (
                    f"{self.setting.arm} is {as_good} full rollouts by the answer rule "
                    f"{reported.condition} at the {reported.view} checkpoint, but {there} by "
                    f"{row.condition} at the {row.view} checkpoint, {points(row)}"
                )
        return ""

    def _by_other_rules(self) -> Iterator[Measurement]:
        """Its difference by each answer rule and checkpoint rule that is not reported, corrected
        for their number and for the number of settings."""
        reported = self.number.over_problems[0]
        at = {"checkpoint": self.setting.arm, "estimand": THESE_SEEDS}
        rows = pick(self.run.measurements, reported.what, **at)
        for row in rows:
            if (row.condition, row.view) != (reported.condition, reported.view):
                yield widened(row, (len(rows) - 1) * self.among)


def largest(
    candidates: Iterable[Candidate],
    key: Callable[[Candidate], float] = lambda each: each.number.value,
) -> Candidate | None:
    """The candidate with the largest key, by default the measured gain; None if there is none."""
    return max(candidates, key=key, default=None)


# One setting in several sweeps


def _precision(found: Measured) -> tuple[bool, float, int, int]:
    """Whether the gain is known, then how narrow its interval is, then problems and seeds."""
    gain = Gain.of(found.number, 1)
    width = round(gain.high - gain.low, 6) if gain.known else math.inf
    return gain.known, -width, found.problems, found.number.seeds


def _joins(other: Measured, parts: Sequence[Measured]) -> bool:
    """Whether its training seeds are known and new, and its problems and level are the same."""
    first = parts[0]
    taken = {seed for part in parts for seed in part.by_seed}
    seeds = set(other.by_seed)
    return (
        bool(seeds)
        and not any(map(math.isnan, seeds | taken))
        and not seeds & taken
        and other.problems == first.problems
        and other.number.over_problems[0].level == first.number.over_problems[0].level
    )


def _pooled(parts: Sequence[Measured]) -> Number:
    """The mean over the training seeds of all parts, which were tested on the same problems.

    The interval over problems is the mean of theirs, weighted by seeds. It covers at least as often
    as they do, however their errors are correlated: a standard deviation of a weighted sum is at
    most the weighted sum of the standard deviations.
    """
    first = parts[0].number
    if len(parts) == 1:
        return first
    weights = [part.number.seeds for part in parts]
    rows = [part.number.over_problems[0] for part in parts]

    def mean(values: Iterable[float]) -> float:
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    over_problems = replace(
        rows[0],
        value=mean(row.value for row in rows),
        low=mean(row.low for row in rows),
        high=mean(row.high for row in rows),
        standard_error=math.nan,
        p_value=math.nan,
        p_value_holm=math.nan,
        method="mean of the intervals of several sweeps",
        under_floor=any(row.under_floor for row in rows),
    )
    single = [row for part in parts for row in part.by_seed.values()]
    values = tuple(row.value for row in single)
    over = first.over_seeds
    if over is not None and all(map(math.isfinite, values)):
        errors = apart_by([row.standard_error for row in single])
        pooled = over_seeds(values, level=over.level, apart=errors)
        over = held(replace(over, p_value=math.nan, p_value_holm=math.nan, note=""), pooled)
    return Number((over_problems,), over, values, fewest(part.number.steps for part in parts))
