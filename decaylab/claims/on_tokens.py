"""Claims on where the KL lies and how training changes it, by the diagnostics of scored tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from decaylab.claims.of_students import (
    EARLY_STOPS,
    judged,
    judged_all,
    of_selector,
    trained_alike,
    unusable,
    way,
    would_test,
)
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    NOT_TESTABLE,
    Effect,
    Judged,
    Rule,
    Verdict,
    decided,
    every,
    pick,
    together,
)
from decaylab.claims.wording import POINTS_OF, RATIO, Style, listed, percent, points
from decaylab.maths.seeds import APART
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import Student
from decaylab.runs.vocabulary import (
    ALL,
    BASE,
    FRESH,
    FROZEN,
    FULL,
    SURVIVORS,
    change,
    kl_named,
    of_two_tokenizers,
    winsorised,
)

NATS = Style(" nats", 3)
HIGHEST, CONCENTRATION = Effect(1.0, 1.1), Effect(0.1, 0.5, reached=True)
CLOSER, MOVED = Effect(1.0, 0.9), Effect(0.0, 0.02)


def early(run: FoundRun) -> Judged | None:
    """Whether the first position bin holds the highest reverse KL."""
    bins = _bins(run)
    if not bins:
        return None
    first = bins[0]
    later = [row for row in bins[1:] if 2 * row.problems >= first.problems and row.tokens > 0]
    if not later:
        return None
    if math.isnan(first.value):
        return Judged(NOT_TESTABLE, "The first bin has no value.", (first,))
    ratios = [_ratio(first, row) for row in later]
    verdicts = [decided(HIGHEST, ratio, len(later), each=True) for ratio in ratios]
    above = [row for row, verdict in zip(later, verdicts) if verdict == CONTRADICTED]
    open_ratios = [row for row, verdict in zip(ratios, verdicts) if verdict == NOT_TESTABLE]
    verdict = CONTRADICTED if above else every(verdicts)
    last = max(above or later, key=lambda row: -math.inf if math.isnan(row.value) else row.value)
    reached = ""
    if last.problems < first.problems:
        reached = f", which rollouts of {last.problems} of the {first.problems} problems reach"
    words = [
        f"The winsorised mean reverse KL is {_at(first)} and {_at(last)}{reached}.",
        f"Of {len(later)} later bins, {verdicts.count(HOLDS)} are shown to be below the first and "
        f"{len(above)} above.",
    ]
    weak = [*unusable([first, *later]), would_test(verdict, HIGHEST, open_ratios)]
    return _judged(verdict, words, weak, (first, *later))


def _judged(
    verdict: Verdict, words: Sequence[str], weak: Sequence[str], rows: tuple[Measurement, ...]
) -> Judged:
    """The verdict in sentences. weak: on what is too weak to decide, and what would decide it."""
    sentences = dict.fromkeys(filter(None, [*words, *weak]))
    return Judged(verdict, " ".join(sentences), rows, next(filter(None, reversed(weak)), ""))


def _ratio(first: Measurement, second: Measurement) -> Measurement:
    """The first number divided by the second, with an interval from the ends of both; no interval
    if an end is not above 0."""
    low, high = (math.nan, math.nan)
    if min(first.low, second.low) > 0:
        low, high = first.low / second.high, first.high / second.low
    return replace(
        first,
        value=first.value / second.value if second.value else math.nan,
        low=low,
        high=high,
        problems=min(first.problems, second.problems),
        under_floor=first.under_floor or second.under_floor,
        level=min(first.level, second.level),
        unit="ratio",
    )


def concentrated(run: FoundRun) -> Judged | None:
    """Whether the 10 % of tokens with the highest KL hold more than half of it."""
    at = {"checkpoint": BASE, "view": FRESH}
    tenth = pick(run.measurements, "kl_concentration", **at, condition="top-10-percent")
    twentieth = pick(run.measurements, "kl_concentration", **at, condition="top-5-percent")
    if not tenth:
        return None
    fewer = f", the top twentieth {percent(twentieth[0])}" if twentieth else ""
    verdict = decided(CONCENTRATION, tenth[0])
    sentences = [
        f"The top tenth of a rollout's tokens holds {percent(tenth[0])} of its reverse KL{fewer}.",
        *unusable(tenth),
        would_test(verdict, CONCENTRATION, tenth),
    ]
    return Judged(
        verdict, " ".join(dict.fromkeys(filter(None, sentences))), tuple(tenth + twentieth)
    )


def cascade(run: FoundRun) -> Judged | None:
    """Whether the KL falls after the trained positions, on fresh and on frozen rollouts."""
    rows = pick(run.measurements, "cascade_ratio", condition=ALL)
    if not rows:
        return None
    start, trained, beyond = rows[0].position_low, of_selector(run, *EARLY_STOPS), {}
    for student in trained:
        both = _of(rows, student)
        if both and not both[0].position_low < student.rollout_length:
            beyond[student] = both
    if not beyond:
        return Judged(NOT_TESTABLE, _not_tested(trained, rows), tuple(rows))
    by_view = []
    for view in VIEWS:
        in_view = {}
        for student, both in beyond.items():
            for row in both:
                if row.view == view:
                    in_view[student] = row
        by_view.append(trained_alike(in_view, log=True))
    ways = len({way(student) for student in beyond})
    verdicts = []
    for pair in zip(*by_view):
        verdicts.append(together(number.decided(CLOSER, ways, each=True) for number in pair))
    ratios = "; ".join(_ratios(student, both) for student, both in beyond.items())
    words = [f"Reverse KL from position {start:g} on, after / before training: {ratios}."]
    numbers = [number for view in by_view for number in view]
    for number in numbers:
        words.append(RATIO.mean(number, f" {VIEWS[number.over_problems[0].view]}"))
    full = {student: _of(rows, student) for student in of_selector(run, FULL)}
    beside = [_ratios(student, both) for student, both in full.items() if both]
    words += [f"With full rollouts: {'; '.join(beside)}."] if beside else []
    both_kinds = list(beyond.values()) + list(full.values())
    evidence = [row for both in both_kinds for row in both]
    evidence += [number.over_seeds for number in numbers if number.over_seeds]
    verdict = every(verdicts)
    if len(verdicts) < ways:
        words.append("Not measured on both kinds of rollouts.")
        verdict = NOT_TESTABLE
    return judged(verdict, words, CLOSER, by_view[0] or by_view[1], evidence)


def submode(run: FoundRun) -> Judged | None:
    """Whether the student's top token moves to the teacher's ranks 2 to 5 where the teacher has two
    modes."""
    what = change("in_teacher_top2to5")
    rows = pick(run.measurements, what, condition="common, two modes", view=FROZEN)
    if not rows:
        return None
    everywhere = pick(run.measurements, what, condition="common", view=FROZEN)
    trained = of_selector(run, *EARLY_STOPS)
    mine = {student: row for student in trained for row in _of(rows, student)}
    if not mine:
        return Judged(NOT_TESTABLE, _not_tested(trained, rows), tuple(rows))
    words = []
    for student, row in mine.items():
        over_all = ""
        for other in _of(everywhere, student):
            over_all = f"; over all common tokens, by {points(other)}"
        label = f"{points(row)} ({student.label}){over_all}"
        words.append(f"Where the teacher has two modes, the share changes by {label}.")
    numbers = trained_alike(mine, apart=APART)
    words += [POINTS_OF.mean(number) for number in numbers]
    full = {student: row for student in of_selector(run, FULL) for row in _of(rows, student)}
    for student, row in full.items():
        words.append(f"With full rollouts: {points(row)} ({student.label}).")
    return judged_all(MOVED, words, numbers, list(full.values()) + everywhere)


def _of_one_tokenizer(rule: Rule) -> Rule:
    """The rule, which decides nothing of a pair of two tokenizers."""

    def judged(run: FoundRun) -> Judged | None:
        found = rule(run)
        if found is None or not of_two_tokenizers(run.measurements):
            return found
        sentence = kl_named(found.sentence, run.measurements)
        return found._replace(verdict=NOT_TESTABLE, sentence=sentence, why=TWO_TOKENIZERS)

    return judged


TWO_TOKENIZERS = (
    "With two tokenizers the next byte is compared, at boundaries of both, and not the next token."
)
RULES: dict[str, Rule] = {
    "early-kl": _of_one_tokenizer(early),
    "concentrated-kl": _of_one_tokenizer(concentrated),
    "cascade": _of_one_tokenizer(cascade),
    "sub-mode": _of_one_tokenizer(submode),
}


# Words

VIEWS = {FRESH: "on its own rollouts", FROZEN: "on the untrained student's rollouts"}


def _not_tested(trained: Sequence[Student], rows: Sequence[Measurement]) -> str:
    """Why no measured student can test a claim on early stopping."""
    if trained:
        within = listed(f"{who.label} (N = {who.rollout_length:g})" for who in trained)
        return (
            f"Measured from position {rows[0].position_low:g} on, which is among the trained "
            f"positions of {within}; set --rollout-length to that N."
        )
    measured = listed(dict.fromkeys(row.checkpoint for row in rows))
    return (
        f"None of {measured} is known to be trained on a prefix; give the run folder of "
        "`decaylab train`."
    )


def _of(rows: Sequence[Measurement], student: Student) -> list[Measurement]:
    return [row for row in rows if row.checkpoint == student.label]


def _bins(run: FoundRun) -> list[Measurement]:
    """The winsorised reverse KL of the untrained student by position, over survivors if measured.

    The plain mean of a bin has no reliable interval.
    """
    at = {"checkpoint": BASE, "view": FRESH, "category": ""}
    what = winsorised("reverse_kl")
    rows = pick(run.measurements, what, **at, condition=SURVIVORS)
    rows = rows or pick(run.measurements, what, **at, condition=ALL)
    return sorted(rows, key=lambda row: row.position_low)


def _at(row: Measurement) -> str:
    end = f"to {row.position_high - 1:g}" if math.isfinite(row.position_high) else "and later"
    return f"{NATS.number(row)} at positions {row.position_low:g} {end}"


def _ratios(student: Student, both: Sequence[Measurement]) -> str:
    views = [f"{RATIO.number(row)} {VIEWS.get(row.view, row.view)}" for row in both]
    return f"{student.label} {listed(views)}"
