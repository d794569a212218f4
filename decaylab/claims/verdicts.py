"""How a number decides a claim: claims, findings, verdicts, and the rule behind all verdicts.

A claim states an `Effect`: its direction, and the smallest size that counts. `decided` compares an
interval with it:

    holds               the effect is shown: the interval lies entirely on the claimed side, and a
                        size that counts is not excluded
    contradicted        the opposite is shown, and a size that counts is not excluded
    not supported       neither is shown, and an effect of the size that counts is excluded
    not testable here   the interval contains both no effect and one that counts, or there are too
                        few data
    undecided           fewer than three training seeds, seeds that disagree, or results that
                        contradict each other

If any one of several numbers can make a claim hold, or contradict it, their intervals are corrected
for the number of comparisons. Measurements in, no file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Literal, NamedTuple, get_args

import pandas as pd
from scipy.special import stdtrit

from decaylab import printing
from decaylab.maths.seeds import LEAST_SEEDS, OverSeeds, power_over_seeds, seeds_that_decide
from decaylab.runs import vocabulary
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

Verdict = Literal[
    "holds", "contradicted", "not supported", "undecided", "not testable here", "not measured"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
HOLDS, CONTRADICTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE, NOT_MEASURED = VERDICTS
LEAST_LEVEL, ALPHA = 0.95, 0.05
LEAST_PROBLEMS, LEAST_STEPS = 30, 50
POINTS = 0.02
"""The smallest difference in accuracy between trained students that counts."""
MOST_SPREAD = 10
"""Largest ratio of the spread between seeds to the effect for which needed seeds are computed."""
SHOWN_IN_SDS = 3.0
"""The effect size, in standard deviations between seeds, for which needed seeds are stated."""


@dataclass(frozen=True)
class Claim:
    """A claim of the literature that measurements can support or contradict.

    name: its id. text: the claim in one sentence. question: the same as a question. place: its
    source. rule: which number is compared with the claimed effect, and what size counts. needs: the
    command that measures it. commands: the commands whose runs can contain the measurement. figure:
    the registry's item that shows it. control: whether it is a condition for trusting the others
    instead of a published claim.
    """

    name: str
    text: str
    question: str
    place: str
    rule: str
    needs: str
    commands: tuple[str, ...]
    figure: str
    control: bool = False


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim. sentence: the result in words and numbers. evidence: the rows behind
    it."""

    claim: Claim
    verdict: Verdict
    sentence: str
    evidence: pd.DataFrame


class Judged(NamedTuple):
    """One run's verdict on a claim. rows: the numbers behind it, at least one. why: the sentence
    that says why nothing is decided, or what would decide it; "" if there is none."""

    verdict: Verdict
    sentence: str
    rows: tuple[Measurement, ...]
    why: str = ""


Rule = Callable[[FoundRun], Judged | None]  # None: the run lacks the measurement


def pick(frame: pd.DataFrame, what: str, **columns: object) -> list[Measurement]:
    """The rows of one quantity with these column values, in the order of the table."""
    return measured(vocabulary.select(frame, what=what, **columns))


def measured(frame: pd.DataFrame) -> list[Measurement]:
    """The rows of a table, in order."""
    return [
        Measurement(**{str(name): value for name, value in row.items()})
        for row in frame.to_dict("records")
    ]


# An effect against an interval


class Effect(NamedTuple):
    """The effect that a claim states.

    none: the number without an effect. counts: the smallest number that counts as the claimed
    effect; its side of ``none`` is the direction of the claim. reached: whether the claim requires
    the number to reach ``counts``, so that a smaller effect does not make it hold.
    """

    none: float
    counts: float
    reached: bool = False


def usable(row: Measurement) -> bool:
    """Whether the number can decide: it has an interval at a sufficient level, is above its noise
    floor, and covers enough problems.

    The minimum number of problems does not apply to numbers without problems, such as seconds.
    """
    enough = row.level >= LEAST_LEVEL and not 0 < row.problems < LEAST_PROBLEMS
    return (
        enough and not row.under_floor and not any(map(math.isnan, (row.value, row.low, row.high)))
    )


def widened(row: Measurement, numbers: int, count: int = 0) -> Measurement:
    """The row with its interval corrected for several numbers (Bonferroni). count: as `at_tail`."""
    return at_tail(row, ALPHA / 2 / numbers, count)


def at_tail(row: Measurement, tail: float, count: int = 0) -> Measurement:
    """The row with the interval at this tail probability on each side.

    Each side of the interval at the row's level is scaled by the ratio of Student's t quantiles.

    count: of problems or seeds; 0 takes the row's problems. Without either, the normal distribution
    is used.
    """
    degrees = (count or row.problems or math.inf) - 1
    factor = float(stdtrit(degrees, 1 - tail) / stdtrit(degrees, (1 + row.level) / 2))
    low, high = (
        row.value - factor * (row.value - row.low),
        row.value + factor * (row.high - row.value),
    )
    return replace(row, low=low, high=high)


def side(row: Measurement, at: float = 0.0) -> int:
    """1 if the number is shown to lie above ``at``, -1 if below, 0 if neither is shown.

    The Holm-corrected p-value is for a difference from 0 and is used only for ``at`` = 0.
    """
    if not usable(row) or (at == 0 and row.p_value_holm >= ALPHA):
        return 0
    return int(row.low > at) - int(row.high < at)


def apart(first: Measurement, second: Measurement) -> int:
    """1 if the first interval lies entirely above the second, -1 if below, 0 if they overlap.

    For two numbers without a paired difference. This is stricter than a test of their difference,
    whatever their correlation: the half-widths add up, and standard errors add up to at most that.
    """
    if not (usable(first) and usable(second)):
        return 0
    return int(first.low > second.high) - int(first.high < second.low)


def decided(
    effect: Effect, row: Measurement, numbers: int = 1, *, each: bool = False, count: int = 0
) -> Verdict:
    """The verdict of one number on a claimed effect.

    numbers: how many are compared, if any one of them can show the effect or its opposite; a
    Holm-corrected p-value replaces this correction. each: whether the claim is about all of them,
    so that any one can also exclude it. count: as in `widened`.
    """
    if not usable(row):
        return NOT_TESTABLE
    corrected = effect.none == 0 and not math.isnan(row.p_value_holm)
    shown = _towards(effect, row if corrected else widened(row, numbers, count))
    plain_ends = _towards(effect, widened(row, numbers, count) if each else row)
    size = abs(effect.counts - effect.none)
    significant = not (corrected and row.p_value_holm >= ALPHA)
    if significant and shown[0] > (size if effect.reached else 0) and plain_ends[1] >= size:
        return HOLDS
    if significant and shown[1] < 0 and plain_ends[0] <= -size:
        return CONTRADICTED
    return NOT_SUPPORTED if plain_ends[1] < size else NOT_TESTABLE


def _towards(effect: Effect, row: Measurement) -> tuple[float, float]:
    """The interval of the effect in the direction of the claim; 0 is no effect."""
    ends = (row.low - effect.none, row.high - effect.none)
    return ends if effect.counts > effect.none else (-ends[1], -ends[0])


def together(found: Iterable[Verdict]) -> Verdict:
    """The weakest of verdicts that must agree: on intervals of one number, or on equally trained
    students.

    Undecided if one shows the effect and another excludes it.
    """
    verdicts = set(found)
    if UNDECIDED in verdicts or HOLDS in verdicts and verdicts & {CONTRADICTED, NOT_SUPPORTED}:
        return UNDECIDED
    order = (NOT_TESTABLE, NOT_SUPPORTED, CONTRADICTED, HOLDS)
    return next((verdict for verdict in order if verdict in verdicts), NOT_TESTABLE)


def some(found: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim that one of several numbers shows an effect: contradicted if each
    shows the opposite."""
    if HOLDS in found:
        return HOLDS
    if found and set(found) <= {CONTRADICTED, NOT_SUPPORTED}:
        return CONTRADICTED if set(found) == {CONTRADICTED} else NOT_SUPPORTED
    return UNDECIDED if UNDECIDED in found else NOT_TESTABLE


def every(found: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim that each of several numbers shows an effect: contradicted if one
    shows the opposite and none holds."""
    verdicts = set(found)
    if {HOLDS, CONTRADICTED} <= verdicts:
        return UNDECIDED
    if verdicts == {HOLDS}:
        return HOLDS
    order = (CONTRADICTED, UNDECIDED, NOT_SUPPORTED)
    return next((verdict for verdict in order if verdict in verdicts), NOT_TESTABLE)


# Training seeds


class Number(NamedTuple):
    """A number of one setting.

    over_problems: its rows over problems, which must all agree. over_seeds: its mean over training
    seeds, with Student's interval if defined. by_seed: the number of each seed. steps: the fewest
    training steps of any seed; NaN if unknown, which counts as enough.
    """

    over_problems: tuple[Measurement, ...]
    over_seeds: Measurement | None
    by_seed: tuple[float, ...]
    steps: float = math.nan

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def value(self) -> float:
        return self.over_problems[0].value if self.over_seeds is None else self.over_seeds.value

    @property
    def rows(self) -> tuple[Measurement, ...]:
        return (*self.over_problems, *([self.over_seeds] if self.over_seeds else []))

    def decided(self, effect: Effect, numbers: int = 1, *, each: bool = False) -> Verdict:
        """As `decided`, if the intervals over problems and over at least three seeds agree."""
        if self.steps < LEAST_STEPS or not all(usable(row) for row in self.over_problems):
            return NOT_TESTABLE
        if self.seeds < LEAST_SEEDS or self.over_seeds is None or math.isnan(self.over_seeds.low):
            return UNDECIDED
        verdicts = [decided(effect, row, numbers, each=each) for row in self.over_problems]
        verdicts.append(decided(effect, self.over_seeds, numbers, each=each, count=self.seeds))
        return together(verdicts)


def held(row: Measurement, mean: OverSeeds) -> Measurement:
    """The row with value, interval and note of a mean over seeds."""
    note = "; ".join(dict.fromkeys(filter(None, (mean.note, row.note))))
    return replace(
        row,
        value=mean.value,
        low=mean.low,
        high=mean.high,
        standard_error=mean.standard_error,
        note=note,
    )


def fewest(steps: Iterable[float]) -> float:
    """The fewest training steps among the known ones; NaN if none is known."""
    return min((count for count in steps if not math.isnan(count)), default=math.nan)


def steps_words(numbers: Sequence[Number]) -> list[str]:
    """A sentence on training steps that are too few."""
    short = [number.steps for number in numbers if number.steps < LEAST_STEPS]
    if not short:
        return []
    return [f"Trained for {min(short):g} steps; a verdict needs at least {LEAST_STEPS}."]


def seeds_words(numbers: Sequence[Number]) -> list[str]:
    """Sentences on training steps or seeds that are too few."""
    sentences = steps_words(numbers)
    if any(number.seeds < len(number.over_problems) for number in numbers):
        sentences.append(
            "Students with the same or an unknown training seed do not count as several seeds."
        )
    few = min(number.seeds for number in numbers)
    if few < LEAST_SEEDS:
        family = len(numbers)
        enough = seeds_that_decide(SHOWN_IN_SDS, numbers=family)
        least, most = (
            printing.rounded(100 * power_over_seeds(count, SHOWN_IN_SDS, numbers=family))
            for count in (LEAST_SEEDS, enough)
        )
        over = f" over {family} numbers" if family > 1 else ""
        lead = "One training seed is" if few == 1 else "Two training seeds are"
        sentences.append(
            f"{lead} not enough: {enough} would detect an effect of {SHOWN_IN_SDS:g} standard "
            f"deviations between seeds in {most} % of cases{over} "
            f"({LEAST_SEEDS} seeds: {least} %)."
        )
    return sentences


def why_open(verdict: Verdict, numbers: Sequence[Number], others: Sequence[str]) -> str:
    """The sentence that says why a claim on trained students is not decided, as in `Judged.why`.

    Steps and problems come first if it cannot be tested, seeds if it is undecided. others:
    sentences on problems and intervals.
    """
    sentences = [*seeds_words(numbers), *others]
    if verdict == NOT_TESTABLE:
        sentences = [*steps_words(numbers), *others, *sentences]
    return next(filter(None, sentences), "")


# What would test it


def remedy(effect: Effect, rows: Sequence[Measurement]) -> str:
    """A sentence on the problems needed to detect the smallest effect that counts, by the widest
    interval."""
    if few := too_few(rows):
        return few
    needed = problems_needed(effect, rows)
    if not needed:
        return ""
    return f"About {needed:,} problems would detect the smallest effect that counts."


def too_few(rows: Sequence[Measurement]) -> str:
    """A sentence on numbers over fewer problems than a verdict needs; "" if all have enough.

    If only some lack problems it is about the one with the fewest.
    """
    few = [row for row in rows if 0 < row.problems < LEAST_PROBLEMS]
    if not few:
        return ""
    count, which = max(row.problems for row in few), ""
    if len(few) < len(rows):
        least = min(few, key=lambda row: row.problems)
        count = least.problems
        if least.prefix_tokens > 0:
            verb = "has" if count == 1 else "have"
            which = f" {verb} rollouts unfinished at {least.prefix_tokens:g} tokens"
    noun = "problem" if count == 1 else "problems"
    return f"Only {count} {noun}{which}; at least {LEAST_PROBLEMS} are needed."


def problems_needed(effect: Effect, rows: Sequence[Measurement]) -> int:
    """Problems, to two digits, needed to detect the smallest effect that counts with 80 % power; 0
    if the rows have as many.

    The standard error must shrink to the effect / 2.8, and falls with the square root of the number
    of problems.
    """
    size = abs(effect.counts - effect.none)
    known = [row for row in rows if row.problems and math.isfinite(row.high - row.low)]
    needed = max(
        (row.problems * ((row.high - row.low) / 3.92 * 2.8 / size) ** 2 for row in known),
        default=0.0,
    )
    if needed <= max((row.problems for row in known), default=0):
        return 0
    return round(float(f"{needed:.2g}"))


def seeds_needed(effect: Effect, numbers: Sequence[Number]) -> int | None:
    """Seeds needed to detect the smallest effect that counts, by the largest spread between seeds.

    None if the spread far exceeds the effect, 0 if it is unknown.
    """
    size = abs(effect.counts - effect.none)
    several = [number for number in numbers if number.seeds >= LEAST_SEEDS]
    several = [number for number in several if all(map(math.isfinite, number.by_seed))]
    spread = max((stdev(number.by_seed) for number in several), default=0.0)
    if not spread:
        return 0
    if spread >= MOST_SPREAD * size:
        return None
    return seeds_that_decide(size / spread, numbers=len(numbers))


def seeds_remedy(effect: Effect, numbers: Sequence[Number]) -> str:
    """A sentence on the seeds needed to detect the smallest effect that counts; see `remedy`."""
    needed = seeds_needed(effect, numbers)
    if needed is not None and needed <= max(number.seeds for number in numbers):
        return ""
    many = f"{needed} seeds" if needed else f"More than {MOST_SPREAD**2:.0f} seeds"
    return f"{many} are needed at this spread between seeds."
