"""The shared part of claims on trained students: selecting students, grouping them by setting, and
the verdict over all settings.

`StudentRule` judges a claim that a number of each student lies beyond a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from decaylab.claims.verdicts import (
    LEAST_PROBLEMS,
    NOT_TESTABLE,
    Effect,
    Judged,
    Number,
    Verdict,
    every,
    fewest,
    held,
    pick,
    remedy,
    seeds_words,
    too_few,
    usable,
    why_open,
)
from decaylab.claims.wording import Style
from decaylab.maths.seeds import over_seeds, ratios_over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import Student, last_of_each, students
from decaylab.runs.vocabulary import BASE, FRESH, OVER_SEEDS

EARLY_STOPS = ("prefix", "prefix-mask")  # the loss is on a prefix; only the first stops there
Rows = Mapping[Student, Measurement]


@dataclass(frozen=True)
class StudentRule:
    """A claim that a number of every student of some selectors lies beyond a threshold.

    what: the quantity. before: the quantity of the untrained student that the threshold depends on.
    needed: whether the claim cannot be judged without it. effect, apart: the claimed effect and the
    distance at which seeds disagree, as functions of the untrained student's number. mean, where:
    format of the mean over seeds. lead: the first sentence, from the rows of the trained and of the
    untrained students. already: the sentence if the untrained student is beyond the threshold
    already, so that the claim cannot be tested.
    """

    selectors: tuple[str, ...]
    what: str
    before: str
    needed: bool
    effect: Callable[[float], Effect]
    apart: Callable[[float], float]
    mean: Style
    where: str
    lead: Callable[[Rows, Sequence[Measurement]], str]
    already: str = ""

    def judge(self, run: FoundRun) -> Judged | None:
        """The verdict over all settings; None if the run lacks the numbers."""
        before = pick(run.measurements, self.before, checkpoint=BASE)
        rows = {}
        for student in of_selector(run, *self.selectors):
            for row in pick(run.measurements, self.what, checkpoint=student.label, view=FRESH):
                rows[student] = row
        if not rows or (self.needed and not before):
            return None
        start = before[0].value if before else 0.0
        effect, lead = self.effect(start), self.lead(rows, before)
        if self.already and start >= effect.counts:
            return Judged(
                NOT_TESTABLE, f"{lead} {self.already}", tuple(rows.values()) + tuple(before)
            )
        numbers = trained_alike(rows, apart=self.apart(start))
        means = [self.mean.mean(number, self.where) for number in numbers]
        return judged_all(effect, [lead] + means, numbers, before)


def of_selector(run: FoundRun, *selectors: str) -> list[Student]:
    """The trained students of these selectors, each at its last checkpoint."""
    return last_of_each([student for student in students(run) if student.selector in selectors])


def way(student: Student) -> tuple[str, float]:
    """A student's setting. Students of one setting differ only by their seed."""
    return student.selector, student.rollout_length


def trained_alike(rows: Rows, *, apart: float = math.inf, log: bool = False) -> list[Number]:
    """A number for each setting, from one row per student: each seed's row over problems, and the
    mean over seeds.

    There is no mean if students share a seed or a seed is unknown, since they may differ in other
    ways. apart, log: as in `over_seeds` and `ratios_over_seeds`.
    """
    ways: dict[tuple[str, float], list[Student]] = {}
    for student in rows:
        ways.setdefault(way(student), []).append(student)
    numbers = []
    for alike in ways.values():
        seeds = [student.seed for student in alike]
        steps = fewest(student.steps for student in alike)
        numbers.append(by_seeds([rows[student] for student in alike], seeds, steps, apart, log))
    return numbers


def by_seeds(
    rows: Sequence[Measurement],
    seeds: Sequence[float],
    steps: float,
    apart: float,
    log: bool = False,
) -> Number:
    """The number of one setting. seeds: of the rows, NaN if unknown."""
    values = tuple(row.value for row in rows)
    known = {seed for seed in seeds if not math.isnan(seed)}
    if len(known) < len(rows):
        return Number(tuple(rows), None, values[: max(len(known), 1)], steps)
    if len(rows) < 2 or not np.isfinite(values).all() or (log and min(values) <= 0):
        return Number(tuple(rows), None, values, steps)
    level = min(row.level for row in rows)
    if log:
        mean = ratios_over_seeds(values, np.ones(len(values)), level=level)
    else:
        mean = over_seeds(values, level=level, apart=apart)
    over = replace(
        rows[0],
        checkpoint="",
        method=mean.method,
        estimand=OVER_SEEDS,
        note="",
        p_value=math.nan,
        p_value_holm=math.nan,
        training_seed=math.nan,
        under_floor=False,
        level=level,
    )
    return Number(tuple(rows), held(over, mean), values, steps)


def judged_all(
    effect: Effect,
    words: Sequence[str],
    numbers: Sequence[Number],
    beside: Sequence[Measurement] = (),
) -> Judged:
    """The verdict on a claim that each setting shows an effect."""
    verdict = every([number.decided(effect, len(numbers), each=True) for number in numbers])
    rows = [row for number in numbers for row in number.rows]
    return judged(verdict, words, effect, numbers, rows + list(beside))


def judged(
    verdict: Verdict,
    words: Sequence[str],
    effect: Effect,
    numbers: Sequence[Number],
    rows: Sequence[Measurement],
) -> Judged:
    """The verdict, with sentences on its seeds and numbers and on what would test the claim."""
    over = [row for number in numbers for row in number.over_problems]
    weak = [would_test(verdict, effect, over), *unusable(over)]
    sentences = dict.fromkeys(filter(None, [*words, *seeds_words(numbers), *weak]))
    return Judged(verdict, " ".join(sentences), tuple(rows), why_open(verdict, numbers, weak))


def would_test(verdict: Verdict, effect: Effect, rows: Sequence[Measurement]) -> str:
    """What would test a claim that is not testable here, or ""."""
    return remedy(effect, rows) if verdict == NOT_TESTABLE else ""


def unusable(rows: Sequence[Measurement]) -> list[str]:
    """How many of the numbers are too weak to decide, one sentence per reason."""
    few = [row for row in rows if 0 < row.problems < LEAST_PROBLEMS]
    under = [row for row in rows if row.under_floor]
    lacking = [row for row in rows if not usable(row) and row not in few and row not in under]
    sentences = []
    if under:
        sentences.append(f"{_counted(under, rows)} too close to the noise floor to decide.")
    if few and len(few) == len(rows):
        sentences.append(too_few(few))
    elif few:
        sentences.append(
            f"{_counted(few, rows)} measured on fewer than {LEAST_PROBLEMS} problems, too few to "
            "decide."
        )
    if lacking:
        sentences.append(f"{_counted(lacking, rows)} without a usable interval.")
    return sentences


def _counted(those: Sequence[Measurement], rows: Sequence[Measurement]) -> str:
    """The beginning of a sentence on some of the numbers: ``2 of 5 numbers are``."""
    if len(rows) == 1:
        return "The number is"
    if len(those) == len(rows):
        return f"All {len(rows)} numbers are"
    return f"{len(those)} of {len(rows)} numbers {'is' if len(those) == 1 else 'are'}"
