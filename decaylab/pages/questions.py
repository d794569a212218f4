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

from decaylab.claims import which_teacher
from decaylab.claims.advice import Advice
from decaylab.claims.advice_candidates import PREFIX
from decaylab.claims.advice_evidence import cost_ratios, full_cost
from decaylab.claims.on_decay import ahead_words, half_decay_words
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import pick, side, widened
from decaylab.claims.wording import PERCENT_OF, POINTS_OF, Style, listed, percent
from decaylab.pages import kl_answer
from decaylab.pages.asked import NAMED, Asked, by_student, rows_by_student, untrained
from decaylab.pages.merging import Merged, MergedRun, merge
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES, TABLES, PaperItem
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import (
    ADVANTAGE,
    BASE,
    FRESH,
    FROZEN,
    FULL,
    HALF_DECAY,
    STUDENT_PREFIX,
    change,
)

TOKENS = Style(" tokens", 1)
TOKENS_CHANGED = Style(" tokens", 1, signed=True)


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
        words.append(ahead_words(asked.run))
    if half:
        lengths = frame.loc[frame["condition"] == STUDENT_PREFIX, "prefix_tokens"]
        words.append(half_decay_words(half[0], float(lengths.max())))
    return words


def _lengths(asked: Asked) -> list[str]:
    """What training says, as the advice has it."""
    return list(asked.advice.on_training or asked.advice.verdict)


def _mode(asked: Asked) -> list[str]:
    at = {"condition": "common, two modes", "view": FROZEN}
    what = "in_teacher_top2to5"
    moved = by_student(asked, change(what), POINTS_OF, **at)
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
            untrained("submode", "whether training changes that"),
        ]
    words = [
        f"{_lead(rows_by_student(asked, change(what), **at))}where the teacher has two modes, the "
        "share of tokens at which the student's first choice is the teacher's second to fifth "
        f"changes by {moved}."
    ]
    surer = by_student(asked, change("student_top1_probability"), POINTS_OF, **at)
    if surer:
        lead = _lead(rows_by_student(asked, change("student_top1_probability"), **at))
        words.append(
            f"{lead}the probability of the student's first choice changes there by {surer}."
        )
    return [f"{one[0].upper()}{one[1:]}" for one in words]


def _lead(rows: Sequence[Measurement]) -> str:
    """Whether any of several changes is shown, to stand before their numbers; "" where one is
    undefined."""
    if any(math.isnan(row.value) for row in rows):
        return ""
    shown = [row.checkpoint for row in rows if side(widened(row, len(rows)))]
    if not shown:
        return "No change is shown: "
    if len(shown) == len(rows):
        return "A change is shown: "
    named = listed(shown) if len(shown) <= NAMED else f"{len(shown)} of {len(rows)} students"
    return f"A change is shown for {named}: "


def _behaviour(asked: Asked) -> list[str]:
    frame = asked.run.measurements
    length, stops = (pick(frame, what, checkpoint=BASE) for what in ("response_tokens_mean", STOPS))
    changed = by_student(asked, change("response_tokens_mean"), TOKENS_CHANGED)
    words = []
    if length:
        after = f"; training changes that by {changed}" if changed else ""
        words.append(
            f"The untrained student's responses have {TOKENS.number(length[0])} on average{after}."
        )
    if stops:
        words.append(_stops(asked, stops[0]))
    return words


def _stops(asked: Asked, before: Measurement) -> str:
    trained = rows_by_student(asked, STOPS)
    everywhere = {row.value for row in (before, *trained)}
    when = "before and after training" if trained else "before training"
    if everywhere == {1.0}:
        ends = [row.low for row in (before, *trained) if not math.isnan(row.low)]
        bound = f" (interval from {PERCENT_OF.text(min(ends))} %)" if ends else ""
        return f"All responses stop naturally, {when}{bound}."
    if everywhere == {0.0}:
        ends = [row.high for row in (before, *trained) if not math.isnan(row.high)]
        bound = f" (interval up to {PERCENT_OF.text(max(ends))} %)" if ends else ""
        return f"No response stops naturally, {when}{bound}."
    after = f"; after training {by_student(asked, STOPS, PERCENT_OF)} do" if trained else ""
    return f"Of them {percent(before)} stop naturally{after}."


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
        kl_answer.kl,
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
