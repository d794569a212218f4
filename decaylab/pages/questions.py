"""What a reader of a report asks: each question with the figures and tables that answer it, and its
answer in two sentences with the numbers of the runs.

for question in QUESTIONS:
    merged = question.source(runs, advice)     # None where the runs leave it open
    question.answer(Asked(merged.run, runs, advice))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from decaylab.claims import which_teacher
from decaylab.claims.advice import Advice
from decaylab.claims.advice_candidates import PREFIX
from decaylab.claims.advice_evidence import cost_ratios, full_cost
from decaylab.claims.advice_lengths import suggest
from decaylab.claims.advice_runs import most_problems
from decaylab.claims.on_decay import half_decay_words
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import (
    PERCENT_OF,
    POINTS_OF,
    RATIO,
    Style,
    listed,
    percent,
    pick,
    points,
)
from decaylab.pages.merging import Merged, MergedRun, merge
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES, TABLES, PaperItem
from decaylab.printing import rounded
from decaylab.runs import vocabulary
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import last_of_each, students
from decaylab.runs.vocabulary import (
    ADVANTAGE,
    BASE,
    FRESH,
    FROZEN,
    FULL,
    HALF_DECAY,
    STUDENT_PREFIX,
    change,
    winsorised,
)

EVERY = vocabulary.ALL
NAMED = 3  # students that a sentence names
TOKENS, NATS = Style(" tokens", 1), Style(" nats", 3)
TOKENS_CHANGED = Style(" tokens", 1, signed=True)


class Asked(NamedTuple):
    """run: behind the figure. runs: all."""

    run: FoundRun
    runs: Sequence[FoundRun]
    advice: Advice

    @property
    def trained(self) -> list[str]:
        """The trained students of the run, each at its last checkpoint."""
        return [student.label for student in last_of_each(students(self.run))]


@dataclass(frozen=True)
class Question:
    """name: its place in the page. figures: names of items, of which the first that the runs hold
    is shown. tables: names of items. answer: two sentences at most."""

    name: str
    heading: str
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    answer: Callable[[Asked], list[str]]

    def source(self, runs: Sequence[FoundRun]) -> Merged | None:
        """What its figure is drawn from; None where no run holds that."""
        found = [merge(paper_items.item(name, FIGURES), runs) for name in self.figures]
        return next(filter(None, found), None)

    @property
    def items(self) -> list[PaperItem]:
        return [paper_items.item(name, TABLES) for name in self.tables]

    @property
    def needs(self) -> str:
        """The command that would answer it."""
        return paper_items.item(self.figures[0], FIGURES).makes


def of_cost(merged: Merged, advice: Advice) -> Merged:
    """Lengths, full rollouts and the advised setting: of other selectors the table is enough."""
    if merged.run is None:
        return merged
    rows = merged.run.measurements
    advised = advice.recommended.arm if advice.recommended else ""
    kept = rows[rows["selector"].isin(["", PREFIX, FULL]) | (rows["checkpoint"] == advised)]
    kept = kept.sort_values("rollout_length", kind="stable", na_position="first")
    return replace(merged, run=MergedRun.of(merged.run, kept))


# The answers


def _decay(asked: Asked) -> list[str]:
    frame = asked.run.measurements
    gap, half = (pick(frame, what, condition=STUDENT_PREFIX) for what in (ADVANTAGE, HALF_DECAY))
    words = []
    if gap and not math.isnan(gap[0].value):
        over = f"{points(gap[0])} over {gap[0].problems:,} problems"
        words.append(f"Alone, the teacher is ahead of the student by {over}.")
    if half:
        lengths = frame.loc[frame["condition"] == STUDENT_PREFIX, "prefix_tokens"]
        words.append(half_decay_words(half[0], float(lengths.max())))
    return words


def _lengths(asked: Asked) -> list[str]:
    """What training says, as the advice has it."""
    return list(asked.advice.on_training or asked.advice.verdict)


def _kl(asked: Asked) -> list[str]:
    signals, _ = most_problems(asked.runs, "signals")
    where = list(suggest(signals, None).found) if signals else []
    return [*(where or _highest(asked.run)), _reached(asked)]


def _highest(run: FoundRun) -> list[str]:
    """Where the reverse KL of the untrained student is highest."""
    at = {"checkpoint": BASE, "view": FRESH, "condition": EVERY, "category": ""}
    bins = pick(run.measurements, winsorised("reverse_kl"), **at)
    known = [row for row in bins if not math.isnan(row.value)]
    if not known:
        return []
    top = max(known, key=lambda row: row.value)
    end = "" if math.isinf(top.position_high) else f" to {top.position_high - 1:g}"
    return [
        "The reverse KL of the untrained student is highest from position "
        f"{top.position_low:g}{end}: {NATS.number(top)}."
    ]


def _reached(asked: Asked) -> str:
    """By how much the KL fell behind the trained positions.

    Merged runs may begin at different positions: only students measured from the first one count.
    """
    at = {"condition": EVERY, "view": FRESH}
    rows = [
        row
        for label in asked.trained
        for row in pick(asked.run.measurements, "cascade_ratio", checkpoint=label, **at)
    ]
    if not rows:
        return _untrained("position-kl", "whether training reaches it")
    start = rows[0].position_low
    ratios = _by_student(asked, "cascade_ratio", RATIO, position_low=start, **at)
    return (
        f"From position {start:g} on, the reverse KL after training is this share of that before, "
        f"each student on its own rollouts: {ratios}."
    )


def _mode(asked: Asked) -> list[str]:
    at = {"condition": "common, two modes", "view": FROZEN}
    what = "in_teacher_top2to5"
    moved = _by_student(asked, change(what), POINTS_OF, **at)
    if not moved:
        own = {"checkpoint": BASE, "condition": "own", "view": FRESH}
        first, second = (
            pick(asked.run.measurements, name, **own) for name in ("equals_teacher_top1", what)
        )
        if not first or not second:
            return []
        return [
            "At its tokens of highest reverse KL the untrained student's first choice is the "
            f"teacher's in {percent(first[0])}, and the teacher's second to fifth in "
            f"{percent(second[0])}.",
            _untrained("submode", "whether training changes that"),
        ]
    words = [
        "Where the teacher has two modes, the share of tokens at which the student's first choice "
        f"is the teacher's second to fifth changes by {moved}."
    ]
    surer = _by_student(asked, change("student_top1_probability"), POINTS_OF, **at)
    if surer:
        words.append(f"The probability of the student's first choice changes there by {surer}.")
    return words


def _behaviour(asked: Asked) -> list[str]:
    frame = asked.run.measurements
    length, stops = (pick(frame, what, checkpoint=BASE) for what in ("response_tokens_mean", STOPS))
    changed = _by_student(asked, change("response_tokens_mean"), TOKENS_CHANGED)
    words = []
    if length:
        after = f"; training changes that by {changed}" if changed else ""
        words.append(
            f"The untrained student's responses have {TOKENS.number(length[0])} on average{after}."
        )
    if stops:
        after = _by_student(asked, STOPS, PERCENT_OF)
        trained = f"; after training {after} do" if after else ""
        words.append(f"Of them {percent(stops[0])} stop naturally{trained}.")
    return words


STOPS = "natural_stop_share"


def _cost(asked: Asked) -> list[str]:
    """What a step with full rollouts takes, and what the advised setting does."""
    advised, settings, arms = asked.advice.recommended, asked.advice.candidates, Arms.of(asked.run)
    words = full_cost(asked.run)
    if arms is None:
        return words
    if advised is not None and advised.arm != FULL:
        return [*words, f"The advised setting, {advised.words}: {cost_ratios(arms, advised.arm)}."]
    known = settings.dropna(subset="tokens_ratio").sort_values("tokens_ratio").to_dict("records")
    lead = "Full rollouts are the advised setting" if advised else "No setting is advised"
    if not known:
        return [*words, f"{lead}."]
    arm, gain = known[0]["arm"], POINTS_OF.text(known[0]["measured_gain"])
    return [
        *words,
        f"{lead}; the cheapest of the others, {arm}, changes accuracy by {gain} points and takes "
        f"{cost_ratios(arms, arm)}.",
    ]


def _teacher(asked: Asked) -> list[str]:
    return list(which_teacher.verdict(asked.run.measurements))[:2]


def _by_student(asked: Asked, what: str, style: Style, **at: object) -> str:
    """The number of each trained student, with its name behind it; "" where there is none."""
    parts = []
    for label in asked.trained:
        rows: list[Measurement] = pick(asked.run.measurements, what, checkpoint=label, **at)
        parts += [f"{style.number(row)} ({label})" for row in rows[:1]]
    if len(parts) > NAMED + 1:
        parts[NAMED:] = [f"{rounded(len(parts) - NAMED)} more"]
    return listed(parts)


def _untrained(figure: str, what: str) -> str:
    makes = paper_items.item(figure, FIGURES).makes
    return f"No trained student was measured; `{makes}` shows {what}."


DECAY = Question(
    "decay",
    "How far can the teacher be trusted?",
    ("prefix-decay",),
    ("prefix-curve",),
    _decay,
)
COST = Question("cost", "What did it cost?", ("efficiency",), ("efficiency",), _cost)
LENGTHS = Question(
    "lengths",
    "How long should rollouts be?",
    ("n-sweep", "token-selection"),
    ("n-sweep",),
    _lengths,
)
TEACHER = Question(
    "teacher", "Which teacher?", ("compare",), ("compare", "compare-totals"), _teacher
)
QUESTIONS = (
    LENGTHS,
    Question(
        "kl",
        "Where is the KL, and does training reach it?",
        ("position-kl", "three-signals"),
        ("position-kl",),
        _kl,
    ),
    Question("mode", "Does the student commit to a mode?", ("submode",), ("submode",), _mode),
    Question(
        "behaviour",
        "What did training do to length and stopping?",
        ("response-length",),
        ("response-length", "boxed-repetition"),
        _behaviour,
    ),
    COST,
    TEACHER,
)
ASKED = (DECAY, *QUESTIONS)
