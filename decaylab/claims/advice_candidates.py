"""The settings that a pair's sweeps compared with full rollouts: gain, cost, contradictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from decaylab.claims.advice_gain import Gain
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    POINTS,
    POINTS_OF,
    Effect,
    Number,
    decided,
    listed,
    pick,
    points,
    side,
    widened,
)
from decaylab.maths.seeds import DISAGREE
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import BASE, FULL, ONE_RUN, THESE_SEEDS, minus

BETTER, WORSE, AS_GOOD, OPEN = "better", "worse", "as good", "not decided"
MORE, CHEAPER = Effect(0.0, POINTS), Effect(1.0, 0.9)
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


@dataclass(frozen=True)
class Candidate:
    """A setting with its results in one sweep. rivals: number of settings that this sweep compared
    with full rollouts. among: the number over all sweeps."""

    setting: Setting
    run: FoundRun
    arms: Arms
    number: Number
    rivals: int
    among: int

    @property
    def gain(self) -> Gain:
        return Gain.of(self.number, self.among)

    @property
    def verdict(self) -> str:
        """Better, or as good within the smallest relevant difference, by the corrected gain; worse
        by that gain or by the rule of the claims."""
        gain = self.gain
        if gain.low > 0:
            return BETTER
        if self.number.decided(MORE, self.rivals) == CONTRADICTED or gain.high < 0:
            return WORSE
        return AS_GOOD if gain.low > -POINTS else OPEN

    @property
    def promising(self) -> bool:
        """Whether it may still be ahead by a relevant difference."""
        return self.verdict in (AS_GOOD, OPEN) and not self.gain.high < POINTS

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
        rows = [
            widened(row, self.rivals * max(self.number.seeds, 1))
            for row in self.arms.pick(
                self.number.over_problems[0].what,
                **self.arms.at,
                checkpoint=self.setting.arm,
                estimand=ONE_RUN,
            )
        ]
        sides = [side(row) for row in rows]
        over = self.number.over_seeds
        disagree = -1 in sides or (over is not None and DISAGREE in over.note)
        if 1 not in sides or not disagree:
            return ""
        by_seed = listed(POINTS_OF.text(value) for value in self.number.by_seed)
        return f"the training seeds of {self.setting.arm} disagree: {by_seed} points per seed"

    @property
    def opposed(self) -> str:
        """The answer rule and checkpoint rule by which it is behind full rollouts, or ""."""
        reported = self.number.over_problems[0]
        rows = pick(
            self.run.measurements,
            reported.what,
            checkpoint=self.setting.arm,
            estimand=THESE_SEEDS,
        )
        for row in rows:
            if side(widened(row, max(len(rows) - 1, 1))) < 0:
                return (
                    f"{self.setting.arm} is ahead of full rollouts by the answer rule "
                    f"{reported.condition} at the {reported.view} checkpoint, but behind by "
                    f"{row.condition} at the {row.view} checkpoint, {points(row)}"
                )
        return ""


@dataclass(frozen=True)
class Compared:
    """The results of a pair's sweeps.

    candidates: each setting once, in the order of the runs, without full rollouts. full: accuracy
    of full rollouts against the untrained student, or None. conflicts: settings on which two sweeps
    disagree, with a description. notes: which run was used if several measured a setting.
    """

    candidates: tuple[Candidate, ...]
    full: Candidate | None
    conflicts: Mapping[Setting, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, sweeps: Sequence[FoundRun]) -> Compared:
        """If several sweeps measured a setting, the one with the most problems counts, then the one
        with the most seeds."""
        every: dict[Setting, list[tuple[FoundRun, Arms, Number, int]]] = {}
        full = []
        for run in sweeps:
            arms = Arms.of(run)
            if arms is None:
                continue
            numbers = arms.numbers(list(arms.selectors))
            for arm, number in numbers.items():
                setting = Setting(arms.selectors[arm], arms.lengths[arm], arm)
                every.setdefault(setting, []).append((run, arms, number, len(numbers)))
            base = arms.number(FULL, minus(arms.what, BASE)) if FULL in arms.selectors else None
            if base is not None:
                full.append((run, arms, base, 1))
        candidates, conflicts, notes = [], {}, []
        for setting, found in every.items():
            run, arms, number, rivals = max(found, key=_size)
            candidates.append(Candidate(setting, run, arms, number, rivals, len(every)))
            if conflict := _conflict(setting, found):
                conflicts[setting] = conflict
            others = [other.name for other, _, theirs, _ in found if _differs(theirs, number)]
            if others:
                notes.append(
                    f"for {setting.arm} the run {run.name} is used, which has the most problems, "
                    f"instead of {listed(others)}"
                )
        reference = None
        if full:
            run, arms, number, rivals = max(full, key=_size)
            reference = Candidate(FULL_ROLLOUTS, run, arms, number, rivals, 1)
        return cls(tuple(candidates), reference, conflicts, tuple(notes))

    def those(self, verdict: str) -> list[Candidate]:
        return [each for each in self.candidates if each.verdict == verdict]

    @property
    def table(self) -> pd.DataFrame:
        """One row per candidate."""
        return pd.DataFrame([_row(each) for each in self.candidates], columns=list(COLUMNS))


def largest(
    candidates: Iterable[Candidate],
    key: Callable[[Candidate], float] = lambda each: each.number.value,
) -> Candidate | None:
    """The candidate with the largest key, by default the measured gain; None if there is none."""
    return max(candidates, key=key, default=None)


def _size(found: tuple[FoundRun, Arms, Number, int]) -> tuple[int, int]:
    return found[2].over_problems[0].problems, found[2].seeds


def _differs(one: Number, other: Number) -> bool:
    """Whether two numbers come from different training runs. Sweeps may share runs."""
    return one.by_seed != other.by_seed


def _conflict(setting: Setting, found: Sequence[tuple[FoundRun, Arms, Number, int]]) -> str:
    """How one sweep shows a setting to be better and another shows it to be worse, or ""."""
    shown: dict[str, str] = {}
    for run, _, number, rivals in found:
        verdict = number.decided(MORE, rivals)
        if verdict in (HOLDS, CONTRADICTED):
            shown[verdict] = f"{points(number.over_problems[0])} in {run.name}"
    if len(shown) < 2:
        return ""
    return f"two sweeps disagree on {setting.arm}: {listed(shown.values())}"


COLUMNS = (
    "arm",
    "selector",
    "rollout_length",
    "verdict",
    "measured_gain",
    "expected_if_chosen",
    "low",
    "high",
    "among",
    "seeds",
    "problems",
    "tokens_ratio",
    "seconds_ratio",
    "run",
)


def _row(each: Candidate) -> dict[str, Any]:
    gain, tokens, seconds = each.gain, each.tokens, each.seconds
    return {
        "arm": each.setting.arm,
        "selector": each.setting.selector,
        "rollout_length": each.setting.rollout_length,
        "verdict": each.verdict,
        "measured_gain": gain.measured,
        "expected_if_chosen": gain.expected,
        "low": gain.low,
        "high": gain.high,
        "among": gain.among,
        "seeds": each.number.seeds,
        "problems": each.number.over_problems[0].problems,
        "tokens_ratio": tokens.value if tokens else math.nan,
        "seconds_ratio": seconds.value if seconds else math.nan,
        "run": each.run.name,
    }
