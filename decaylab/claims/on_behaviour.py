"""Claims on what becomes of rollouts and of accuracy over training, by behaviour, evaluations and
validations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from decaylab.claims.on_tokens import judged, of_selector, over_words, stopped_early, trained_alike
from decaylab.claims.verdicts import (
    NOT_TESTABLE,
    PAPER,
    Claim,
    Effect,
    Judged,
    Number,
    Rule,
    every,
    fewest,
    listed,
    percent,
    pick,
    plain,
    points,
    usable,
)
from decaylab.maths.seeds import over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import students

TENTH, HALF = 0.1, 0.5
DISAGREE = 0.25
"""Shares of responses of two seeds that lie further apart disagree."""
SHORTER = Claim(
    "shorter-responses",
    "Early stopping shortens the student's responses.",
    f"{PAPER}, behaviour table, left: median 860 to 380",
    "Paired change of the mean length in tokens, of each student trained on a prefix, at its last "
    "checkpoint. Holds where it "
    "lies below minus a tenth of the untrained student's length, not supported where above: less "
    "than a tenth is not what is "
    "claimed. Contradicted where the responses are longer by what may be a tenth.",
    "decaylab behaviour runs/esr runs/full",
    ("behaviour",),
    "response-length",
)
LONGER = Claim(
    "longer-responses",
    "Full rollouts lengthen the student's responses.",
    f"{PAPER}, behaviour table, left: median 860 to 1,530",
    "Paired change of the mean length in tokens, of each student trained on full rollouts, at its "
    "last checkpoint. Holds "
    "where it lies above a tenth of the untrained student's length, not supported where below; "
    "contradicted where the "
    "responses are shorter by what may be a tenth.",
    "decaylab behaviour runs/esr runs/full",
    ("behaviour",),
    "response-length",
)
BOXES = Claim(
    "several-boxes",
    "Trained on full rollouts, the student comes to box several answers in most of its responses.",
    f"{PAPER}, boxed repetition table: 2.9 to 89.1 %",
    "Share of responses with several boxes, of each student trained on full rollouts, at its last "
    "checkpoint. Holds where it "
    "lies above a half, not supported where it lies below.",
    "decaylab behaviour runs/full",
    ("behaviour",),
    "boxed-repetition",
)
COLLAPSE = Claim(
    "collapse",
    "Trained on full rollouts, the student loses most of what it had gained by the end of "
    "training.",
    f"{PAPER}, per-step tables: 65.60 to 43.80 %",
    "Accuracy over the checkpoints of each run on full rollouts. What the last one lies above "
    "half of the gain that the best "
    "one has over the untrained student, by the ends of their intervals. Holds where it lies "
    "below 0; not supported where "
    "above; not testable where the best one shows no gain.",
    "decaylab evaluate runs/full",
    ("evaluate", "sweep rollout-length", "sweep selector"),
    "stability",
)


def shorter(run: FoundRun) -> Judged | None:
    """Whether students trained on a prefix answer in fewer tokens, by a tenth or more."""
    return _length(run, -1)


def longer(run: FoundRun) -> Judged | None:
    """Whether students trained on full rollouts answer in more tokens, by a tenth or more."""
    return _length(run, 1)


def _length(run: FoundRun, sign: int) -> Judged | None:
    trained = of_selector(run, "full") if sign > 0 else stopped_early(run)
    base = pick(run.measurements, "response_tokens_mean", checkpoint="base")
    rows = {
        one: row
        for one in trained
        for row in _rows_of(run, "response_tokens_mean_change", one.label)
    }
    if not rows or not base:
        return None
    before = base[0].value
    effect = Effect(0.0, sign * TENTH * before, reached=True)
    said = [
        f"{one.label} {plain(row, 'tokens', '+.1f')}" + (f" ({row.note})" if row.note else "")
        for one, row in rows.items()
    ]
    lead = (
        f"The mean length of {before:.1f} tokens changes by: {'; '.join(said)}; a tenth would "
        f"be {TENTH * before:.1f}."
    )
    numbers = trained_alike(rows, apart=HALF * before)
    words = [lead, *(over_words(number, 1, "+.1f", " change") for number in numbers)]
    return _judged(effect, words, numbers, base)


def boxes(run: FoundRun) -> Judged | None:
    """Whether most responses of students trained on full rollouts box several answers."""
    rows = {
        one: row
        for one in of_selector(run, "full")
        for row in _rows_of(run, "several_boxes_share", one.label)
    }
    if not rows:
        return None
    before = pick(run.measurements, "several_boxes_share", checkpoint="base")
    said = [f"{percent(row)} of its responses ({one.label})" for one, row in rows.items()]
    text = f"Several boxes stand in {listed(said)}"
    text += f", where the untrained student has {percent(before[0])}." if before else "."
    numbers = trained_alike(rows, apart=DISAGREE)
    start = before[0].value if before else 0.0
    words = [text, *(over_words(number, 100, ".1f") for number in numbers)]
    if start >= HALF:
        return Judged(NOT_TESTABLE, f"{text} Most did before training.", (*rows.values(), *before))
    return _judged(Effect(start, HALF, reached=True), words, numbers, before)


def _judged(
    effect: Effect, said: Sequence[str], numbers: Sequence[Number], beside: Sequence[Measurement]
) -> Judged:
    """The verdict of all ways of training that a claim is on."""
    found = [number.decided(effect, len(numbers), each=True) for number in numbers]
    return judged(
        every(found),
        said,
        effect,
        numbers,
        (*(row for number in numbers for row in number.rows), *beside),
    )


# Collapse


class _Trace(NamedTuple):
    """Accuracy, or its gain over the untrained student, at each checkpoint of one run; before: of
    that student.

    seed: of the training, NaN where not known.
    """

    name: str
    seed: float
    before: tuple[float, float]
    rows: tuple[Measurement, ...]

    @property
    def best(self) -> Measurement:
        return max(self.rows, key=lambda row: row.value)

    @property
    def last(self) -> Measurement:
        return self.rows[-1]

    @property
    def kept(self) -> Measurement:
        """What the last lies above half of the best gain; without an interval where the best one
        shows no gain."""
        half = [
            (start + end) / 2 for start, end in zip(self.before, (self.best.low, self.best.high))
        ]
        gained = usable(self.best) and usable(self.last) and self.best.low > self.before[1]
        low, high = (
            (self.last.low - half[1], self.last.high - half[0]) if gained else (math.nan, math.nan)
        )
        value = self.last.value - (sum(self.before) / 2 + self.best.value) / 2
        return replace(
            self.last,
            what="kept_above_half_of_the_gain",
            value=value,
            low=low,
            high=high,
            p_value_holm=math.nan,
        )


def collapse(run: FoundRun) -> Judged | None:
    """Whether accuracy falls back over the checkpoints of full rollouts."""
    evaluated = run.command == "evaluate"
    rule = _reported(run.measurements)
    traces = _evaluated(run, rule) if evaluated else _swept(run)
    if not traces:
        return None
    told = "; ".join(_told(one, points if evaluated else percent) for one in traces)
    words = [f"{'Over the untrained student' if evaluated else 'Right answers'}: {told}."]
    number, lost = _of_traces(traces), _lost(traces)
    shown = number.decided(lost)
    words += [
        over_words(
            number, 100, "+.1f", " of what the last lies above half of the best gain, points"
        )
    ]
    others = {
        other: _of_traces(found).decided(_lost(found))
        for other in _rules(run)
        if (found := _evaluated(run, other))
    }
    odd = [
        f"{other} {its}"
        for other, its in others.items()
        if evaluated and other != rule and its != shown
    ]
    words += [f"By another answer rule: {', '.join(odd)}."] if odd else []
    evidence = (*(row for one in traces for row in one.rows), *number.rows)
    return judged(shown, words, lost, [number], evidence)


def _lost(traces: Sequence[_Trace]) -> Effect:
    """Half of the gain and less is left; where nothing is lost, as much stands above half of it as
    below."""
    gains = [one.best.value - sum(one.before) / 2 for one in traces]
    return Effect(max(sum(gains) / len(gains) / 2, TENTH / 10), 0.0, reached=True)


def _of_traces(traces: Sequence[_Trace]) -> Number:
    """One run a seed; runs that share a seed, or whose seed is not known, have no mean over
    seeds."""
    rows = tuple(one.kept for one in traces)
    values, steps = tuple(row.value for row in rows), fewest(one.last.step for one in traces)
    seeds = {one.seed for one in traces if not math.isnan(one.seed)}
    if len(seeds) < len(rows):
        return Number(rows, None, values[: max(len(seeds), 1)], steps)
    mean = over_seeds(values, apart=DISAGREE)
    over = replace(
        rows[0], value=mean.value, low=mean.low, high=mean.high, note=mean.note, problems=0
    )
    return Number(rows, over if len(rows) > 1 else None, values, steps)


def _told(one: _Trace, text: Callable[[Measurement], str]) -> str:
    last, best = one.last, one.best
    if best is last:
        return f"{one.name} {text(last)} at step {last.step:g}, its last checkpoint and its best"
    then = f"{text(best)} at step {best.step:g}, its best"
    return f"{one.name} {text(last)} at step {last.step:g}, its last checkpoint, and {then}"


def _evaluated(run: FoundRun, rule: str) -> list[_Trace]:
    """Of each run on full rollouts in an evaluation: the paired difference to the untrained
    student, by step."""
    frame = run.measurements
    what = next(
        (name for name in frame["what"] if re.fullmatch(r"avg_at_\d+_minus_base", name)), ""
    )
    rows = {row.checkpoint: row for row in pick(frame, what, condition=rule, view="fresh")}
    found: dict[str, list[Measurement]] = {}
    seeds: dict[str, float] = {}
    for one in students(run):
        if one.selector == "full" and one.label in rows and not math.isnan(one.step):
            found.setdefault(one.run, []).append(rows[one.label])
            seeds[one.run] = one.seed
    return [
        _Trace(_short(name), seeds[name], (0.0, 0.0), _by_step(steps))
        for name, steps in found.items()
        if len(steps) > 1
    ]


def _swept(run: FoundRun) -> list[_Trace]:
    """Of each run on full rollouts in a sweep: accuracy by step, on the test where every checkpoint
    was evaluated."""
    rows = pick(run.measurements, "accuracy", selector="full")
    views: Mapping[str, list[Measurement]] = {
        view: [row for row in rows if row.view == view] for view in ("test", "validation")
    }
    kept = views["test"] or views["validation"]
    traces = []
    for seed in sorted({row.training_seed for row in kept}):
        steps = [row for row in kept if row.training_seed == seed]
        start = [row for row in steps if row.step == 0]
        after = [row for row in steps if row.step > 0]
        if start and len(after) > 1:
            name = f"{after[0].checkpoint}, seed {seed:g}, on the {after[0].view}"
            traces.append(_Trace(name, seed, (start[0].low, start[0].high), _by_step(after)))
    return traces


def _by_step(rows: Sequence[Measurement]) -> tuple[Measurement, ...]:
    return tuple(sorted(rows, key=lambda row: row.step))


def _rules(run: FoundRun) -> list[str]:
    rows = run.measurements
    return [str(rule) for rule in dict.fromkeys(rows["answer_rule"]) if rule]


def _reported(frame: pd.DataFrame) -> str:
    """The answer rule that is reported, which stands first."""
    rows = frame[frame["what"].str.fullmatch(r"avg_at_\d+")]
    return str(rows["answer_rule"].iloc[0]) if len(rows) else ""


def _short(run: str) -> str:
    return run.rstrip("/").rsplit("/", 1)[-1]


def _rows_of(run: FoundRun, what: str, label: str) -> list[Measurement]:
    return pick(run.measurements, what, checkpoint=label, view="fresh")


RULES: tuple[tuple[Claim, Rule], ...] = (
    (SHORTER, shorter),
    (LONGER, longer),
    (BOXES, boxes),
    (COLLAPSE, collapse),
)
