"""Claims on where the KL lies and what training does to it, by the rows of the diagnostics of
scored tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_PROBLEMS,
    NOT_TESTABLE,
    PAPER,
    Claim,
    Effect,
    Judged,
    Number,
    Rule,
    Verdict,
    decided,
    every,
    fewest,
    listed,
    over_seeds_words,
    percent,
    pick,
    plain,
    points,
    remedy,
    seeds_words,
    together,
    usable,
)
from decaylab.maths.seeds import APART, LOG_METHOD, over_seeds, ratios_over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import Student, last_of_each, students

HIGHEST, CONCENTRATION = Effect(1.0, 1.1), Effect(0.1, 0.5, reached=True)
CLOSER, MOVED = Effect(1.0, 0.9), Effect(0.0, 0.02)
EARLY = Claim(
    "early-kl",
    "The reverse KL of the untrained student is highest at the first tokens and falls with "
    "position.",
    f"{PAPER}, Fig. 3 left",
    "Ratio of the first position bin, a winsorised mean over problems, to every later one that "
    "rollouts of at least half of "
    "its problems reach, by the ends of both intervals, corrected for how many they are. Holds "
    "where each ratio lies above 1; "
    "contradicted where one lies below; not supported where one excludes a tenth more, which is "
    "what counts.",
    "decaylab signals",
    ("signals", "position-kl"),
    "three-signals",
)
CONCENTRATED = Claim(
    "concentrated-kl",
    "A tenth of a rollout's tokens, those of the highest reverse KL, hold most of it.",
    f"{PAPER}, section 5.1: 100 tokens hold about 93 %",
    "Share of a rollout's reverse KL, mean over rollouts, of the untrained student. Holds where "
    "it lies above a half; not "
    "supported where it lies below.",
    "decaylab signals",
    ("signals",),
    "cumulative-kl",
)
CASCADE = Claim(
    "cascade",
    "Trained on the first N tokens alone, the student comes closer to its teacher behind them too.",
    f"{PAPER}, Fig. 3 right: 30 to 40 % less",
    "Ratio of the reverse KL behind position N after training to that before, of each student "
    "trained on a prefix, at its "
    "last checkpoint. Holds where it lies below 1 both on the student's own rollouts and on those "
    "of the untrained one; "
    "contradicted where both lie above 1; not supported where both exclude a tenth less, which is "
    "what counts.",
    "decaylab position-kl runs/esr runs/full",
    ("position-kl",),
    "position-kl",
)
SUBMODE = Claim(
    "sub-mode",
    "Early stopping moves the student's first choice to the teacher's second to fifth.",
    f"{PAPER}, behaviour table, right",
    "Change of that share over one set of tokens for all students, those of the highest reverse "
    "KL at which the teacher has "
    "two modes (elsewhere a rank of 2 to 5 is an error), of each student trained on a prefix. "
    "Holds where it lies above 0, "
    "contradicted where it lies below; not supported where it excludes 2 points more, which is "
    "what counts.",
    "decaylab submode runs/esr runs/full",
    ("submode",),
    "submode",
)


def early(run: FoundRun) -> Judged | None:
    """Whether the first position bin holds the highest reverse KL."""
    rows = _bins(run)
    if len(rows) < 2:
        return None
    first, later = (
        rows[0],
        [row for row in rows[1:] if 2 * row.problems >= rows[0].problems and row.tokens > 0],
    )
    if not later:
        return None
    if math.isnan(first.value):
        return Judged(NOT_TESTABLE, "The first bin has no value.", (first,))
    ratios = [_ratio(first, row) for row in later]
    found = [decided(HIGHEST, ratio, len(later), each=True) for ratio in ratios]
    above, below = (
        [row for row, one in zip(later, found) if one == shown] for shown in (CONTRADICTED, HOLDS)
    )
    shown = CONTRADICTED if above else every(found)
    last = max(above or later, key=lambda row: -math.inf if math.isnan(row.value) else row.value)
    said = f"The winsorised mean reverse KL is {_at(first)} and {_at(last)}"
    if last.problems < first.problems:
        said += f", which rollouts of {last.problems} of the {first.problems} problems reach"
    said += (
        f". Of {len(later)} later bins {len(below)} are shown to lie below the first and "
        f"{len(above)} above."
    )
    said += _unusable([first, *later]) + _would_test(shown, HIGHEST, ratios)
    return Judged(shown, said, (first, *later))


def _ratio(first: Measurement, second: Measurement) -> Measurement:
    """The one over the other with an interval from the ends of both; none where one is not above
    0."""
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
    """Whether the tenth of the tokens with the highest KL holds more than half of it."""
    rows = {
        row.condition: row
        for row in pick(run.measurements, "kl_concentration", checkpoint="base", view="fresh")
    }
    row = rows.get("top-10-percent")
    if row is None:
        return None
    fewer = rows.get("top-5-percent")
    said = f"The top tenth of a rollout's tokens holds {percent(row)} of its reverse KL"
    said += f", the top twentieth {percent(fewer)}." if fewer else "."
    evidence = (row, *([fewer] if fewer else []))
    shown = decided(CONCENTRATION, row)
    return Judged(
        shown, said + _unusable([row]) + _would_test(shown, CONCENTRATION, [row]), evidence
    )


def cascade(run: FoundRun) -> Judged | None:
    """Whether the KL falls behind the trained positions, on fresh and on frozen rollouts."""
    rows = pick(run.measurements, "cascade_ratio", condition="all")
    if not rows:
        return None
    trained, full = stopped_early(run), of_selector(run, "full")
    beyond = [
        one
        for one in trained
        if _of(rows, one) and not _of(rows, one)[0].position_low < one.rollout_length
    ]
    if not beyond:
        return Judged(NOT_TESTABLE, _nobody(trained, rows), tuple(rows))
    mine = {one: _of(rows, one) for one in beyond}
    views = [
        trained_alike(
            {one: row for one, both in mine.items() for row in both if row.view == view}, log=True
        )
        for view in ("fresh", "frozen")
    ]
    arms = len({_way(one) for one in beyond})
    found = [
        together(number.decided(CLOSER, arms, each=True) for number in pair) for pair in zip(*views)
    ]
    ratios = "; ".join(_ratios(one, both) for one, both in mine.items())
    said = [
        f"Reverse KL from position {rows[0].position_low:g} on, after training over before: "
        f"{ratios}."
    ]
    said += [
        over_words(number, 1, ".2f", f" {VIEWS[number.over_problems[0].view]}")
        for view in views
        for number in view
    ]
    beside = [_ratios(one, both) for one in full if (both := _of(rows, one))]
    said += [f"With full rollouts: {'; '.join(beside)}."] if beside else []
    evidence = tuple(row for one in (*beyond, *full) for row in _of(rows, one))
    seeds = tuple(number.over_seeds for view in views for number in view if number.over_seeds)
    if len(found) < arms:
        said.append("Not measured on both kinds of rollouts.")
    shown = every(found) if len(found) == arms else NOT_TESTABLE
    return judged(shown, said, CLOSER, views[0] or views[1], (*evidence, *seeds))


def submode(run: FoundRun) -> Judged | None:
    """Whether the student's first choice moves to the teacher's ranks 2 to 5, where the teacher has
    two modes."""
    what = "in_teacher_top2to5_change"
    rows = pick(run.measurements, what, condition="common, two modes", view="frozen")
    everywhere = pick(run.measurements, what, condition="common", view="frozen")
    trained = stopped_early(run)
    mine = {one: _of(rows, one)[0] for one in trained if _of(rows, one)}
    if not rows:
        return None
    if not mine:
        return Judged(NOT_TESTABLE, _nobody(trained, rows), tuple(rows))
    all_tokens = {row.checkpoint: points(row) for row in everywhere}
    said = [
        f"Where the teacher has two modes the share changes by {points(row)} ({one.label})"
        + (
            f", over all common tokens by {all_tokens[one.label]}."
            if one.label in all_tokens
            else "."
        )
        for one, row in mine.items()
    ]
    numbers = trained_alike(mine, apart=APART)
    said += [over_words(number, 100, "+.1f") for number in numbers]
    full = [(one, row) for one in of_selector(run, "full") for row in _of(rows, one)]
    said += [f"With full rollouts: {points(row)} ({one.label})." for one, row in full]
    evidence = (*mine.values(), *(row for _, row in full), *everywhere)
    found = [number.decided(MOVED, len(numbers), each=True) for number in numbers]
    return judged(
        every(found),
        said,
        MOVED,
        numbers,
        (*evidence, *(row for one in numbers for row in one.rows)),
    )


RULES: tuple[tuple[Claim, Rule], ...] = (
    (EARLY, early),
    (CONCENTRATED, concentrated),
    (CASCADE, cascade),
    (SUBMODE, submode),
)


# Students


def of_selector(run: FoundRun, *selectors: str) -> list[Student]:
    """The trained students of these selectors, each at its last checkpoint."""
    return last_of_each([one for one in students(run) if one.selector in selectors])


def stopped_early(run: FoundRun) -> list[Student]:
    """The students whose loss was on a prefix, stopped there or not, each at its last
    checkpoint."""
    return of_selector(run, "prefix", "prefix-mask")


def _way(one: Student) -> tuple[str, float]:
    """How a student was trained; those of one way differ by their seed."""
    return one.selector, one.rollout_length


def trained_alike(
    rows: Mapping[Student, Measurement], *, apart: float = math.inf, log: bool = False
) -> list[Number]:
    """A number a way of training, from one row a student: each seed's rows over problems, and their
    mean over the seeds.

    Students that share a seed, or whose seed is not known, have no such mean: what else they differ
    in is not known either.
    apart, log: as `over_seeds` and `ratios_over_seeds` have it.
    """
    ways: dict[tuple[str, float], list[Student]] = {}
    for one in rows:
        ways.setdefault(_way(one), []).append(one)
    return [_number(alike, [rows[one] for one in alike], apart, log) for alike in ways.values()]


def _number(
    alike: Sequence[Student], rows: Sequence[Measurement], apart: float, log: bool
) -> Number:
    values, steps = tuple(row.value for row in rows), fewest(one.steps for one in alike)
    seeds = {one.seed for one in alike if not math.isnan(one.seed)}
    if len(seeds) < len(rows):
        return Number(tuple(rows), None, values[: max(len(seeds), 1)], steps)
    if len(rows) < 2 or not np.isfinite(values).all() or (log and min(values) <= 0):
        return Number(tuple(rows), None, values, steps)
    mean = (
        ratios_over_seeds(values, np.ones(len(values))) if log else over_seeds(values, apart=apart)
    )
    over = replace(
        rows[0],
        checkpoint="",
        value=mean.value,
        low=mean.low,
        high=mean.high,
        standard_error=mean.standard_error,
        method=LOG_METHOD if log else mean.method,
        estimand="mean over training seeds",
        note=mean.note,
        p_value=math.nan,
        p_value_holm=math.nan,
        training_seed=math.nan,
        under_floor=False,
    )
    return Number(tuple(rows), over, values, steps)


def over_words(number: Number, scale: float, form: str, where: str = "") -> str:
    """A sentence on the mean over seeds; nothing of one seed."""
    if number.over_seeds is None:
        return ""
    mean = f"{scale * number.over_seeds.value:{form}}"
    return f"Mean{where} {mean}, {over_seeds_words(number, scale, form)}."


def judged(
    found: Verdict,
    said: Sequence[str],
    effect: Effect,
    numbers: Sequence[Number],
    rows: tuple[Measurement, ...],
) -> Judged:
    """The verdict with what must be known of seeds and numbers behind it, and what would test the
    claim."""
    over = [row for number in numbers for row in number.over_problems]
    words = [*filter(None, said), *seeds_words(numbers)]
    words += filter(None, [remedy(effect, over)]) if found == NOT_TESTABLE else []
    return Judged(found, " ".join(words) + _unusable(over), rows)


def _nobody(trained: Sequence[Student], rows: Sequence[Measurement]) -> str:
    """Why no student speaks for a claim on early stopping."""
    if trained:
        within = listed(f"{one.label} (N = {one.rollout_length:g})" for one in trained)
        return (
            f"Measured from position {rows[0].position_low:g} on, which lies within what was "
            f"trained of {within}; "
            "say --rollout-length N."
        )
    measured = listed(dict.fromkeys(row.checkpoint for row in rows))
    return (
        f"None of {measured} is known to be trained on a prefix; name the run folder that "
        "`decaylab train` made."
    )


def _of(rows: Sequence[Measurement], one: Student) -> list[Measurement]:
    return [row for row in rows if row.checkpoint == one.label]


# Words

VIEWS = {"fresh": "on its own rollouts", "frozen": "on those of the untrained student"}


def _bins(run: FoundRun) -> list[Measurement]:
    """The reverse KL of the untrained student by position, winsorised: the plain mean of a bin has
    no interval that holds.

    Over rollouts of one length where that was asked for.
    """
    found = pick(
        run.measurements, "winsorised_reverse_kl", checkpoint="base", view="fresh", category=""
    )
    kept = [row for row in found if row.condition == "survivors"] or [
        row for row in found if row.condition == "all"
    ]
    return sorted(kept, key=lambda row: row.position_low)


def _at(row: Measurement) -> str:
    end = f"to {row.position_high - 1:g}" if math.isfinite(row.position_high) else "and later"
    return f"{plain(row, 'nats', '.3f')} at positions {row.position_low:g} {end}"


def _ratios(one: Student, both: Sequence[Measurement]) -> str:
    return f"{one.label} " + listed(f"{plain(row)} {VIEWS.get(row.view, row.view)}" for row in both)


def _would_test(found: Verdict, effect: Effect, rows: Sequence[Measurement]) -> str:
    """What would test a claim that is not testable here, behind other words; nothing where that is
    not known."""
    told = remedy(effect, rows) if found == NOT_TESTABLE else ""
    return f" {told}" if told else ""


def _unusable(rows: Sequence[Measurement]) -> str:
    """How many of the numbers cannot decide anything."""
    under = sum(bool(row.under_floor) for row in rows)
    few = sum(0 < row.problems < LEAST_PROBLEMS for row in rows)
    lacking = sum(
        not usable(row) and not row.under_floor and not 0 < row.problems < LEAST_PROBLEMS
        for row in rows
    )
    said = (
        f" {under} of {len(rows)} numbers lie under twice their noise floor and decide nothing."
        if under
        else ""
    )
    said += (
        f" {few} of {len(rows)} numbers stand on fewer than {LEAST_PROBLEMS} problems and decide "
        "nothing."
        if few
        else ""
    )
    return said + (
        f" {lacking} of {len(rows)} numbers have no interval that could decide." if lacking else ""
    )
