"""Claims on where the KL lies and what training does to it, by the rows of the diagnostics of scored tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from decaylab.found_runs import FoundRun
from decaylab.measurements import Measurement
from decaylab.students import Student, last_of_each, students
from decaylab.verdicts import (
    CONTRADICTED,
    HOLDS,
    ONE_SEED,
    PAPER,
    UNDECIDED,
    Claim,
    Judged,
    Rule,
    agreed,
    apart,
    listed,
    percent,
    pick,
    plain,
    points,
    side,
    usable,
    verdict,
)

HALF = 0.5
EARLY = Claim(
    "early-kl",
    "The reverse KL of the untrained student is highest at the first tokens and falls with position.",
    f"{PAPER}, Fig. 3 left",
    "The first position bin against every later one that rollouts of at least half of its problems reach. Holds where the "
    "interval of each lies wholly below that of the first; contradicted where one lies wholly above.",
    "decaylab signals",
    ("signals", "position-kl"),
    "three-signals",
)
CONCENTRATED = Claim(
    "concentrated-kl",
    "A tenth of a rollout's tokens, those of the highest reverse KL, hold most of it.",
    f"{PAPER}, section 5.1: 100 tokens hold about 93 %",
    "Share of a rollout's reverse KL, mean over rollouts, of the untrained student. Holds where it lies above a half, "
    "contradicted where it lies below.",
    "decaylab signals",
    ("signals",),
    "cumulative-kl",
)
CASCADE = Claim(
    "cascade",
    "Trained on the first N tokens alone, the student comes closer to its teacher behind them too.",
    f"{PAPER}, Fig. 3 right: 30 to 40 % less",
    "Ratio of the reverse KL behind position N after training to that before, of each student trained on a prefix, at its "
    "last checkpoint. Holds where it lies below 1 both on the student's own rollouts and on those of the untrained one; "
    "contradicted where both lie above 1.",
    "decaylab position-kl runs/esr runs/full",
    ("position-kl",),
    "position-kl",
)
SUBMODE = Claim(
    "sub-mode",
    "Early stopping moves the student's first choice to the teacher's second to fifth.",
    f"{PAPER}, behaviour table, right",
    "Change of that share over one set of tokens for all students, those of the highest reverse KL at which the teacher has "
    "two modes (elsewhere a rank of 2 to 5 is an error), of each student trained on a prefix. Holds where it lies above 0, "
    "contradicted where it lies below.",
    "decaylab submode runs/esr runs/full",
    ("submode",),
    "submode",
)


def early(run: FoundRun) -> Judged | None:
    """Whether the first position bin holds the highest reverse KL."""
    rows = _bins(run)
    if len(rows) < 2:
        return None
    first, later = rows[0], [row for row in rows[1:] if 2 * row.problems >= rows[0].problems and row.tokens > 0]
    if not later:
        return None
    above, below = ([row for row in later if apart(row, first) == sign] for sign in (1, -1))
    shown = HOLDS if len(below) == len(later) else CONTRADICTED if above else UNDECIDED
    last = max(above or later, key=lambda row: row.value)
    said = f"The mean reverse KL is {_at(first)} and {_at(last)}"
    if last.problems < first.problems:
        said += f", which rollouts of {last.problems} of the {first.problems} problems reach"
    said += f". Of {len(later)} later bins {len(below)} lie wholly below the first and {len(above)} wholly above."
    return Judged(shown, said + _unusable([first, *later]), (first, *later))


def concentrated(run: FoundRun) -> Judged | None:
    """Whether the tenth of the tokens with the highest KL holds more than half of it."""
    rows = {row.condition: row for row in pick(run.measurements, "kl_concentration", checkpoint="base", view="fresh")}
    row = rows.get("top-10-percent")
    if row is None:
        return None
    fewer = rows.get("top-5-percent")
    said = f"The top tenth of a rollout's tokens holds {percent(row)} of its reverse KL"
    said += f", the top twentieth {percent(fewer)}." if fewer else "."
    return Judged(verdict(side(row, at=HALF)), said, (row, *([fewer] if fewer else [])))


def cascade(run: FoundRun) -> Judged | None:
    """Whether the KL falls behind the trained positions, on fresh and on frozen rollouts."""
    rows = pick(run.measurements, "cascade_ratio", condition="all")
    if not rows:
        return None
    trained, full = stopped_early(run), of_selector(run, "full")
    beyond = [one for one in trained if _of(rows, one) and not _of(rows, one)[0].position_low < one.rollout_length]
    if not beyond:
        return Judged(UNDECIDED, _nobody(trained, rows), tuple(rows))
    mine = {one: _of(rows, one) for one in beyond}
    sides = [agreed(side(row, at=1.0) for row in both) if len(both) > 1 else 0 for both in mine.values()]
    ratios = "; ".join(_ratios(one, both) for one, both in mine.items())
    said = [f"Reverse KL from position {rows[0].position_low:g} on, after training over before: {ratios}."]
    beside = [_ratios(one, both) for one in full if (both := _of(rows, one))]
    said += [f"With full rollouts: {'; '.join(beside)}."] if beside else []
    evidence = tuple(row for one in (*beyond, *full) for row in _of(rows, one))
    return Judged(verdict(-agreed(sides)), " ".join([*said, *seeds_words(beyond)]) + _unusable(evidence), evidence)


def submode(run: FoundRun) -> Judged | None:
    """Whether the student's first choice moves to the teacher's ranks 2 to 5, where the teacher has two modes."""
    what = "in_teacher_top2to5_change"
    rows = pick(run.measurements, what, condition="common, two modes", view="frozen")
    everywhere = pick(run.measurements, what, condition="common", view="frozen")
    trained = stopped_early(run)
    mine = {one: _of(rows, one)[0] for one in trained if _of(rows, one)}
    if not rows:
        return None
    if not mine:
        return Judged(UNDECIDED, _nobody(trained, rows), tuple(rows))
    all_tokens = {row.checkpoint: points(row) for row in everywhere}
    said = [
        f"Where the teacher has two modes the share changes by {points(row)} ({one.label})"
        + (f", over all common tokens by {all_tokens[one.label]}." if one.label in all_tokens else ".")
        for one, row in mine.items()
    ]
    full = [(one, row) for one in of_selector(run, "full") for row in _of(rows, one)]
    said += [f"With full rollouts: {points(row)} ({one.label})." for one, row in full]
    evidence = (*mine.values(), *(row for _, row in full), *everywhere)
    shown = agreed(side(row) for row in mine.values())
    return Judged(verdict(shown), " ".join([*said, *seeds_words([*mine])]) + _unusable(evidence), evidence)


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
    """The students whose loss was on a prefix, stopped there or not, each at its last checkpoint."""
    return of_selector(run, "prefix", "prefix-mask")


def seeds_words(trained: Sequence[Student]) -> list[str]:
    """What must be known of the seeds behind students of one kind."""
    return [ONE_SEED] if len(trained) == 1 else [f"{len(trained)} students, each judged by itself."]


def _nobody(trained: Sequence[Student], rows: Sequence[Measurement]) -> str:
    """Why no student speaks for a claim on early stopping."""
    if trained:
        within = listed(f"{one.label} (N = {one.rollout_length:g})" for one in trained)
        return (
            f"Measured from position {rows[0].position_low:g} on, which lies within what was trained of {within}; "
            "say --rollout-length N."
        )
    measured = listed(dict.fromkeys(row.checkpoint for row in rows))
    return f"None of {measured} is known to be trained on a prefix; name the run folder that `decaylab train` made."


def _of(rows: Sequence[Measurement], one: Student) -> list[Measurement]:
    return [row for row in rows if row.checkpoint == one.label]


# Words


def _bins(run: FoundRun) -> list[Measurement]:
    """The reverse KL of the untrained student by position; over rollouts of one length where that was asked for."""
    found = pick(run.measurements, "reverse_kl", checkpoint="base", view="fresh", category="")
    kept = [row for row in found if row.condition == "survivors"] or [row for row in found if row.condition == "all"]
    return sorted((row for row in kept if not math.isnan(row.value)), key=lambda row: row.position_low)


def _at(row: Measurement) -> str:
    end = f"to {row.position_high - 1:g}" if math.isfinite(row.position_high) else "and later"
    return f"{plain(row, 'nats', '.3f')} at positions {row.position_low:g} {end}"


def _ratios(one: Student, both: Sequence[Measurement]) -> str:
    names = {"fresh": "on its own rollouts", "frozen": "on those of the untrained student"}
    return f"{one.label} " + listed(f"{plain(row)} {names.get(row.view, row.view)}" for row in both)


def _unusable(rows: Sequence[Measurement]) -> str:
    """How many of the numbers cannot decide anything."""
    under = sum(bool(row.under_floor) for row in rows)
    lacking = sum(not usable(row) and not row.under_floor for row in rows)
    said = f" {under} of {len(rows)} numbers lie under twice their noise floor and decide nothing." if under else ""
    return said + (f" {lacking} of {len(rows)} numbers have no interval that could decide." if lacking else "")
