"""When a number decides a claim: what a claim and a finding are, and which intervals lie apart. Measurements in, no file.

A number lies above (below) another where its interval does, at a level of at least 95 %, and where the p-value that the
row has, corrected by Holm, is below 0.05. A number that touches, has no interval, or lies under its noise floor is on
neither side. Of several training seeds the interval over the seeds must say what that over problems says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from decaylab.found_runs import FoundRun
from decaylab.measurements import Measurement

Verdict = Literal["holds", "contradicted", "undecided", "not measured"]
HOLDS: Verdict = "holds"
CONTRADICTED: Verdict = "contradicted"
UNDECIDED: Verdict = "undecided"
NOT_MEASURED: Verdict = "not measured"
VERDICTS: tuple[Verdict, ...] = (HOLDS, CONTRADICTED, UNDECIDED, NOT_MEASURED)
LEAST_LEVEL, ALPHA = 0.95, 0.05
ONE_SEED = "One training seed stands behind this: how it differs between seeds was not measured."
PAPER = "arXiv 2605.27028"
NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper or of the literature that measurements can speak for or against.

    name: short. text: what is claimed, in one plain sentence. place: where it stands. rule: when it holds and when it is
    contradicted. needs: the command that measures it, as it is typed. commands: whose runs can hold that. figure: the
    registry's item that shows it. control: nobody's claim, but what must hold for the others to mean anything.
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
    """What was found about a claim. sentence: plain words with numbers. evidence: the rows that it stands on."""

    claim: Claim
    verdict: Verdict
    sentence: str
    evidence: pd.DataFrame


class Judged(NamedTuple):
    """What one run says about a claim."""

    verdict: Verdict
    sentence: str
    rows: tuple[Measurement, ...]


Rule = Callable[[FoundRun], Judged | None]  # None: the run does not hold what is asked


def pick(frame: pd.DataFrame, what: str, **columns: str) -> list[Measurement]:
    """The rows of one quantity whose columns have these values, in the order of the table."""
    chosen = frame["what"] == what
    for name, value in columns.items():
        chosen &= frame[name] == value
    return [
        Measurement(**{str(name): value for name, value in row.items()}) for row in frame[chosen].to_dict("records")
    ]


# Sides


def usable(row: Measurement) -> bool:
    """Whether the number may decide anything: with an interval, at the level, and above its noise floor."""
    return row.level >= LEAST_LEVEL and not row.under_floor and not any(map(math.isnan, (row.value, row.low, row.high)))


def side(row: Measurement, at: float = 0.0) -> int:
    """1 where the number is shown to lie above ``at``, -1 below, 0 where neither is shown.

    The p-value is that of a difference from 0 and is asked there alone.
    """
    if not usable(row) or (at == 0 and row.p_value_holm >= ALPHA):
        return 0
    return int(row.low > at) - int(row.high < at)


def apart(first: Measurement, second: Measurement) -> int:
    """1 where the first interval lies wholly above the second, -1 below, 0 where they touch.

    Of two numbers without a paired difference. It asks for more than a test of their difference would, however they are
    correlated: half-widths add up, standard errors never by more.
    """
    if not (usable(first) and usable(second)):
        return 0
    return int(first.low > second.high) - int(first.high < second.low)


class Number(NamedTuple):
    """A number of a training arm: its row over problems, the one over training seeds, and how many seeds there are."""

    over_problems: Measurement
    over_seeds: Measurement | None
    seeds: int

    @property
    def value(self) -> float:
        return self.over_problems.value

    @property
    def rows(self) -> tuple[Measurement, ...]:
        return (self.over_problems, *([self.over_seeds] if self.over_seeds else []))

    @property
    def _deciding(self) -> tuple[Measurement, ...]:
        """None where the interval over several seeds is missing."""
        if self.seeds < 2:
            return (self.over_problems,)
        return self.rows if self.over_seeds else ()

    def side(self, at: float = 0.0) -> int:
        """As `side`, where all intervals agree."""
        return agreed(side(row, at) for row in self._deciding)

    def apart(self, other: Number) -> int:
        """As `apart`, where all intervals agree; undecided where one has several seeds and the other has not."""
        if len(self._deciding) != len(other._deciding):
            return 0
        return agreed(apart(mine, theirs) for mine, theirs in zip(self._deciding, other._deciding))


def agreed(sides: Iterable[int]) -> int:
    """The side that all are on; 0 where they differ, or there is none."""
    found = set(sides)
    return found.pop() if len(found) == 1 else 0


def verdict(shown: int) -> Verdict:
    """Of a side: 1 speaks for the claim, -1 against it."""
    return {1: HOLDS, -1: CONTRADICTED}.get(shown, UNDECIDED)


# Words


def points(row: Measurement) -> str:
    """A difference of fractions, ``-4.2 points [-6.8, -1.8]``."""
    return _shown(row, 100, "+.1f", " points")


def percent(row: Measurement) -> str:
    """A fraction, ``88.4 % [85.2, 91.0]``."""
    return _shown(row, 100, ".1f", " %")


def plain(row: Measurement, unit: str = "", form: str = ".2f") -> str:
    """A number in its own unit, ``0.227 nats [0.215, 0.240]``."""
    return _shown(row, 1, form, f" {unit}" if unit else "")


def arm_points(number: Number) -> str:
    """A difference with both intervals, ``-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4] over 3 seeds``."""
    text = points(number.over_problems)
    if number.seeds < 2:
        return text
    over = _bracket(number.over_seeds, 100, "+.1f") if number.over_seeds else NO_INTERVAL
    return f"{text} over problems, {over} over {number.seeds} seeds"


def p_words(row: Measurement) -> str:
    """``, p = .002 by Holm``; nothing without one."""
    p = row.p_value_holm
    if math.isnan(p):
        return ""
    text = "< .001" if p < 0.001 else "= 1" if p > 0.9995 else f"= {p:.3f}".replace("0.", ".")
    return f", p {text} by Holm"


def listed(items: Iterable[object]) -> str:
    """``5, 10 and 20``."""
    words = [f"{item:g}" if isinstance(item, float) else str(item) for item in items]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def rounded(number: float, form: str) -> str:
    """A number as text, its zero without a minus."""
    text = f"{number:{form}}"
    return text.replace("-", "+" if form.startswith("+") else "") if float(text) == 0 else text


def _shown(row: Measurement, scale: float, form: str, unit: str) -> str:
    if math.isnan(row.value):
        return f"undefined ({row.note})" if row.note else "undefined"
    level = "" if row.level == LEAST_LEVEL else f" at {100 * row.level:g} %"
    ends = _bracket(row, scale, form)
    return f"{rounded(scale * row.value, form)}{unit} {f'({ends})' if ends == NO_INTERVAL else ends + level}"


def _bracket(row: Measurement, scale: float, form: str) -> str:
    if math.isnan(row.low) or math.isnan(row.high):
        return NO_INTERVAL
    return f"[{rounded(scale * row.low, form)}, {rounded(scale * row.high, form)}]"
