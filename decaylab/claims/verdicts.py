"""How a number decides a claim: what a claim and a finding are, the verdicts, and the one rule
behind all of them.

A claim states an `Effect`: its direction, and the smallest size that counts. `decided` compares an
interval with it:

    holds               the effect is shown: the interval lies wholly on its side, and a size that
                        counts is not excluded
    contradicted        the opposite is shown, and a size that would count is not excluded
    not supported       neither is shown, and an effect of the size that counts is excluded
    not testable here   the interval holds both no effect and one that counts; or the measurement is
                        below its minimum
    undecided           fewer than three training seeds, seeds that disagree, or results that
                        contradict each other

Where several numbers could each make a claim hold, or contradict it, their intervals are corrected
for how many there are. Measurements in, no file.
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
"""The smallest difference of accuracies of trained students that counts."""
MOST_SPREAD = 10
"""Between seeds, over the size of the effect; beyond it the seeds that would do are not counted
out."""
SHOWN_IN_SDS = 3.0
"""Of what size an effect is that few seeds are held against: in standard deviations between
seeds."""
NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper or of the literature that measurements can speak for or against.

    name: short. text: what is claimed, in one plain sentence. place: where it stands. rule: what is
    held against the claimed effect, and what size of it counts. needs: the command that measures
    it, as it is typed. commands: whose runs can hold that. figure: the registry's item that shows
    it. control: nobody's claim, but what must hold for the others to mean anything.
    """

    name: str
    text: str
    place: str
    rule: str
    needs: str
    commands: tuple[str, ...]
    figure: str
    control: bool = False


@dataclass(frozen=True)
class Finding:
    """What was found about a claim. sentence: plain words with numbers. evidence: the rows that it
    stands on."""

    claim: Claim
    verdict: Verdict
    sentence: str
    evidence: pd.DataFrame


class Judged(NamedTuple):
    """What one run says about a claim. rows: the numbers that it stands on, one at least."""

    verdict: Verdict
    sentence: str
    rows: tuple[Measurement, ...]


Rule = Callable[[FoundRun], Judged | None]  # None: the run does not hold what is asked


def pick(frame: pd.DataFrame, what: str, **columns: object) -> list[Measurement]:
    """The rows of one quantity whose columns have these values, in the order of the table."""
    return measured(vocabulary.select(frame, what=what, **columns))


def measured(frame: pd.DataFrame) -> list[Measurement]:
    """The rows of a table, in its order."""
    return [
        Measurement(**{str(name): value for name, value in row.items()})
        for row in frame.to_dict("records")
    ]


# An effect against an interval


class Effect(NamedTuple):
    """What a claim says of a number.

    none: the number where nothing happens. counts: the smallest one that counts as the claimed
    effect; on which side of ``none`` it lies is the direction of the claim. reached: the claim is
    that the number reaches ``counts``, so that a smaller effect in its direction does not make it
    hold.
    """

    none: float
    counts: float
    reached: bool = False


def usable(row: Measurement) -> bool:
    """Whether the number may decide anything: an interval, at the level, above its noise floor,
    over enough problems.

    Numbers that stand on no problems, such as seconds, are not held against their least number.
    """
    enough = row.level >= LEAST_LEVEL and not 0 < row.problems < LEAST_PROBLEMS
    return (
        enough and not row.under_floor and not any(map(math.isnan, (row.value, row.low, row.high)))
    )


def widened(row: Measurement, numbers: int, count: int = 0) -> Measurement:
    """The row with the interval of one of several numbers (Bonferroni); count: as `at_tail`."""
    return at_tail(row, ALPHA / 2 / numbers, count)


def at_tail(row: Measurement, tail: float, count: int = 0) -> Measurement:
    """The row with the interval that misses with this probability on each side: each side of its
    95 % interval by the ratio of Student's t quantiles.

    count: of problems, or of seeds; those of the row where it is 0. A number over neither is
    widened by the normal law.
    """
    degrees = (count or row.problems or math.inf) - 1
    factor = float(stdtrit(degrees, 1 - tail) / stdtrit(degrees, 1 - ALPHA / 2))
    low, high = (
        row.value - factor * (row.value - row.low),
        row.value + factor * (row.high - row.value),
    )
    return replace(row, low=low, high=high)


def side(row: Measurement, at: float = 0.0) -> int:
    """1 where the number is shown to lie above ``at``, -1 below, 0 where neither is shown.

    The p-value, corrected by Holm, is that of a difference from 0 and is asked there alone.
    """
    if not usable(row) or (at == 0 and row.p_value_holm >= ALPHA):
        return 0
    return int(row.low > at) - int(row.high < at)


def apart(first: Measurement, second: Measurement) -> int:
    """1 where the first interval lies wholly above the second, -1 below, 0 where they touch.

    Of two numbers without a paired difference. It asks for more than a test of their difference
    would, however they are
    correlated: half-widths add up, standard errors never by more.
    """
    if not (usable(first) and usable(second)):
        return 0
    return int(first.low > second.high) - int(first.high < second.low)


def decided(
    effect: Effect, row: Measurement, numbers: int = 1, *, each: bool = False, count: int = 0
) -> Verdict:
    """What one number says of a claimed effect.

    numbers: how many are compared, of which one would do to show the effect or its opposite; a
    p-value that is corrected by Holm stands for that. each: the claim is of all of them, so that
    one would also do to exclude it. count: as in `widened`.
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
    """The interval of the effect in the direction of the claim, 0 where nothing happens."""
    ends = (row.low - effect.none, row.high - effect.none)
    return ends if effect.counts > effect.none else (-ends[1], -ends[0])


def together(found: Iterable[Verdict]) -> Verdict:
    """Of intervals of one number, or of students trained alike, which must all say the same: the
    weakest of them.

    Undecided where one shows the effect and another excludes it.
    """
    verdicts = set(found)
    if UNDECIDED in verdicts or HOLDS in verdicts and verdicts & {CONTRADICTED, NOT_SUPPORTED}:
        return UNDECIDED
    order = (NOT_TESTABLE, NOT_SUPPORTED, CONTRADICTED, HOLDS)
    return next((verdict for verdict in order if verdict in verdicts), NOT_TESTABLE)


def some(found: Sequence[Verdict]) -> Verdict:
    """Of a claim that one of several numbers shows an effect: contradicted where each shows the
    opposite."""
    if HOLDS in found:
        return HOLDS
    if found and set(found) <= {CONTRADICTED, NOT_SUPPORTED}:
        return CONTRADICTED if set(found) == {CONTRADICTED} else NOT_SUPPORTED
    return UNDECIDED if UNDECIDED in found else NOT_TESTABLE


def every(found: Sequence[Verdict]) -> Verdict:
    """Of a claim that each of several numbers shows an effect: contradicted where one shows the
    opposite and none holds."""
    verdicts = set(found)
    if {HOLDS, CONTRADICTED} <= verdicts:
        return UNDECIDED
    if verdicts == {HOLDS}:
        return HOLDS
    order = (CONTRADICTED, UNDECIDED, NOT_SUPPORTED)
    return next((verdict for verdict in order if verdict in verdicts), NOT_TESTABLE)


# Training seeds


class Number(NamedTuple):
    """A number of one way of training. over_problems: its rows over problems, which must all agree.
    over_seeds: its mean over training seeds, with Student's interval where there is one. by_seed:
    the number of each seed. steps: of training, the fewest of any seed, NaN where not known; what
    is not known is not held against it.
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
        """As `decided`, where the intervals over problems and the one over three seeds or more
        agree."""
        if self.steps < LEAST_STEPS or not all(usable(row) for row in self.over_problems):
            return NOT_TESTABLE
        if self.seeds < LEAST_SEEDS or self.over_seeds is None or math.isnan(self.over_seeds.low):
            return UNDECIDED
        verdicts = [decided(effect, row, numbers, each=each) for row in self.over_problems]
        verdicts.append(decided(effect, self.over_seeds, numbers, each=each, count=self.seeds))
        return together(verdicts)


def held(row: Measurement, mean: OverSeeds) -> Measurement:
    """The row with the interval and the note of a mean over seeds."""
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
    """The fewest steps of training of those that are known, in whatever order; NaN where none
    are."""
    return min((count for count in steps if not math.isnan(count)), default=math.nan)


def seeds_words(numbers: Sequence[Number]) -> list[str]:
    """What must be known of the steps and the seeds behind numbers of trained students, a sentence
    each."""
    sentences = []
    short = [number.steps for number in numbers if number.steps < LEAST_STEPS]
    if short:
        sentences.append(
            f"Trained for {min(short):g} steps; below {LEAST_STEPS} nothing is judged."
        )
    if any(number.seeds < len(number.over_problems) for number in numbers):
        sentences.append(
            "Students that share a training seed, or whose seed is not known, do not count as "
            "several seeds."
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
        lead = "One training seed decides" if few == 1 else "Two training seeds decide"
        sentences.append(
            f"{lead} nothing: {enough} would find an effect of {SHOWN_IN_SDS:g} standard "
            f"deviations between seeds in {most} % of cases{over} "
            f"({LEAST_SEEDS} seeds: {least} %)."
        )
    return sentences


# What would test it


def remedy(effect: Effect, rows: Sequence[Measurement]) -> str:
    """How many problems would tell the smallest effect that counts from none, by the widest of the
    intervals."""
    few = [row.problems for row in rows if 0 < row.problems < LEAST_PROBLEMS]
    if few:
        return f"{min(few)} problems are too few: at least {LEAST_PROBLEMS} are needed."
    needed = problems_needed(effect, rows)
    if not needed:
        return ""
    return f"About {needed:,} problems would tell the smallest effect that counts from none."


def problems_needed(effect: Effect, rows: Sequence[Measurement]) -> int:
    """Problems, to two digits, that tell the smallest effect that counts from none with 80 % power;
    0 where the rows stand on as many.

    The standard error must shrink to a 2.8th of the effect, and it shrinks with the root of the
    problems.
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
    """Seeds that tell the smallest effect that counts from none, by the seeds that differ most;
    None where they differ by far more than it, 0 where it is not known."""
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
    """How many seeds would tell the smallest effect that counts from none; as `remedy`."""
    needed = seeds_needed(effect, numbers)
    if needed is not None and needed <= max(number.seeds for number in numbers):
        return ""
    many = f"{needed} seeds" if needed else f"More than {MOST_SPREAD**2:.0f} seeds"
    return f"{many} are needed, where they differ as these do."


# Words


class Style(NamedTuple):
    """How numbers of one kind are written: the unit behind them, decimals, whether with a sign."""

    unit: str = ""
    places: int = 2
    signed: bool = False
    fraction: bool = False  # written in per cent

    def text(self, value: float) -> str:
        shown = printing.percent(value) if self.fraction else value
        return printing.rounded(shown, self.places, signed=self.signed)

    def interval(self, row: Measurement) -> str:
        """The interval in brackets."""
        if math.isnan(row.low) or math.isnan(row.high):
            return NO_INTERVAL
        return f"[{self.text(row.low)}, {self.text(row.high)}]"

    def number(self, row: Measurement) -> str:
        """The number with its interval, ``0.227 nats [0.215, 0.240]``."""
        if math.isnan(row.value):
            return f"undefined ({row.note})" if row.note else "undefined"
        value, interval = f"{self.text(row.value)}{self.unit}", self.interval(row)
        if interval == NO_INTERVAL:
            return f"{value} ({interval})"
        level = "" if row.level == LEAST_LEVEL else f" at {100 * row.level:g} %"
        return f"{value} {interval}{level}"

    def over_seeds(self, number: Number) -> str:
        """The interval over seeds; each seed's number where there is none; nothing of one seed."""
        if number.seeds < 2:
            return ""
        over = self.interval(number.over_seeds) if number.over_seeds else NO_INTERVAL
        if over == NO_INTERVAL:
            over += f" ({listed(map(self.text, number.by_seed))})"
        return f"{over} over {number.seeds} seeds"

    def mean(self, number: Number, where: str = "") -> str:
        """A sentence on the mean over seeds; nothing of one seed."""
        if number.over_seeds is None:
            return ""
        return f"Mean{where} {self.text(number.over_seeds.value)}, {self.over_seeds(number)}."


RATIO = Style()
POINTS_OF = Style(" points", 1, signed=True, fraction=True)
PERCENT_OF = Style(" %", 1, fraction=True)


points = POINTS_OF.number  # of a difference of fractions: -4.2 points [-6.8, -1.8]
percent = PERCENT_OF.number  # of a fraction: 88.4 % [85.2, 91.0]


def arm_points(number: Number) -> str:
    """A difference with both intervals, ``-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4]
    over 3 seeds``."""
    over = POINTS_OF.over_seeds(number)
    return f"{points(number.over_problems[0])}{f' over problems, {over}' if over else ''}"


def p_words(row: Measurement) -> str:
    """``, p = 0.002 by Holm``; nothing without one."""
    if math.isnan(row.p_value_holm):
        return ""
    p = printing.p_value(row.p_value_holm)
    return f", p {p.replace('<', '< ')} by Holm" if "<" in p else f", p = {p} by Holm"


def listed(items: Iterable[object]) -> str:
    """``5, 10 and 20``."""
    words = [f"{item:g}" if isinstance(item, float) else str(item) for item in items]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def sentence(text: str) -> str:
    """Text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
