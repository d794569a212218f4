"""Claims on response length, boxes and the course of accuracy over training."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from decaylab.claims.of_students import EARLY_STOPS, Rows, StudentRule, by_seeds, judged
from decaylab.claims.verdicts import Effect, Judged, Number, Rule, Verdict, fewest, pick, usable
from decaylab.claims.wording import PERCENT_OF, POINTS_OF, Style, listed, percent
from decaylab.printing import rounded
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import students
from decaylab.runs.vocabulary import FRESH, FULL, change

TOKENS = Style(" tokens", 1, signed=True)
TENTH, HALF = 0.1, 0.5
DISAGREE = 0.25
"""Shares of responses of two seeds disagree if they are further apart."""


def _length_words(rows: Rows, before: Sequence[Measurement]) -> str:
    changes = []
    for student, row in rows.items():
        note = f", {row.note}" if row.note else ""
        changes.append(f"{TOKENS.number(row)} ({student.label}{note})")
    length, tenth = (rounded(share * before[0].value, 1) for share in (1, TENTH))
    return (
        f"The mean length, {length} tokens before training, changes by {'; '.join(changes)}; a "
        f"change of {tenth} tokens counts."
    )


def _box_words(rows: Rows, before: Sequence[Measurement]) -> str:
    shares = [f"{percent(row)} of responses ({who.label})" for who, row in rows.items()]
    untrained = f", against {percent(before[0])} of the untrained student's" if before else ""
    return f"Several boxes appear in {listed(shares)}{untrained}."


def _length_rule(selectors: tuple[str, ...], sign: int) -> StudentRule:
    """The mean length changes in this direction by at least a tenth of the untrained student's."""
    return StudentRule(
        selectors,
        what=change("response_tokens_mean"),
        before="response_tokens_mean",
        needed=True,
        effect=lambda length: Effect(0.0, sign * TENTH * length, reached=True),
        apart=lambda length: HALF * length,
        mean=TOKENS,
        where=" change",
        lead=_length_words,
    )


BOXED = StudentRule(
    (FULL,),
    what="several_boxes_share",
    before="several_boxes_share",
    needed=False,
    effect=lambda share: Effect(share, HALF, reached=True),
    apart=lambda share: DISAGREE,
    mean=PERCENT_OF,
    where="",
    lead=_box_words,
    already="Most responses of the untrained student already had several boxes.",
)


# Collapse


class _Trace(NamedTuple):
    """Accuracy, or its gain over the untrained student, at each checkpoint of one run.

    before: interval of the same quantity for the untrained student. seed: of the training, NaN if
    unknown.
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
        """The last checkpoint minus the level that keeps half of the best gain; without an interval
        if the best checkpoint shows no gain."""
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

    def words(self, style: Style) -> str:
        """The last checkpoint and the best, in words."""
        last, best = self.last, self.best
        lead = f"{self.name} {style.number(last)} at step {last.step:g}, its last checkpoint"
        if best is last:
            return f"{lead} and the most accurate of them"
        return f"{lead}, and {style.number(best)} at step {best.step:g}, the most accurate of them"


def collapse(run: FoundRun) -> Judged | None:
    """Whether accuracy falls back over the checkpoints of full rollouts."""
    evaluated = run.command == "evaluate"
    traces = _evaluated(run, _reported(run)) if evaluated else _swept(run)
    if not traces:
        return None
    lead, style = "Correct answers", PERCENT_OF
    if evaluated:
        lead, style = "Over the untrained student", POINTS_OF
    number, lost = _of_traces(traces), _lost(traces)
    verdict = number.decided(lost)
    words = [f"{lead}: {'; '.join(trace.words(style) for trace in traces)}."]
    where = " of the last checkpoint above half of the best gain, points"
    words.append(POINTS_OF.mean(number, where))
    if odd := _by_other_rules(run, verdict) if evaluated else []:
        words.append(f"Other answer rules disagree: {', '.join(odd)}.")
    evidence = [row for trace in traces for row in trace.rows]
    return judged(verdict, words, lost, [number], evidence + list(number.rows))


def _by_other_rules(run: FoundRun, verdict: Verdict) -> list[str]:
    """The answer rules that give another verdict."""
    odd = []
    for rule in run.measurements["answer_rule"].unique():
        traces = _evaluated(run, rule) if rule else []
        other = _of_traces(traces).decided(_lost(traces)) if traces else verdict
        if other != verdict:
            odd.append(f"{rule} {other}")
    return odd


def _lost(traces: Sequence[_Trace]) -> Effect:
    """The effect that at most half of the gain is left."""
    gains = [trace.best.value - sum(trace.before) / 2 for trace in traces]
    return Effect(max(sum(gains) / len(gains) / 2, TENTH / 10), 0.0, reached=True)


def _of_traces(traces: Sequence[_Trace]) -> Number:
    """The number over runs with one seed each. There is no mean if runs share a seed or a seed is
    unknown."""
    rows, seeds = [trace.kept for trace in traces], [trace.seed for trace in traces]
    return by_seeds(rows, seeds, fewest(trace.last.step for trace in traces), DISAGREE)


def _evaluated(run: FoundRun, rule: str) -> list[_Trace]:
    """The paired difference from the untrained student by step, of each run on full rollouts in an
    evaluation."""
    frame = run.measurements
    differences = [name for name in frame["what"] if re.fullmatch(r"avg_at_\d+_minus_base", name)]
    at = {"condition": rule, "view": FRESH}
    rows = {row.checkpoint: row for row in pick(frame, "".join(differences[:1]), **at)}
    steps: dict[str, list[Measurement]] = {}
    seeds: dict[str, float] = {}
    for student in students(run):
        if student.selector == FULL and student.label in rows and not math.isnan(student.step):
            steps.setdefault(student.run, []).append(rows[student.label])
            seeds[student.run] = student.seed
    traces = []
    for name, checkpoints in steps.items():
        if len(checkpoints) > 1:
            short = name.rstrip("/").rsplit("/", 1)[-1]
            traces.append(_Trace(short, seeds[name], (0.0, 0.0), _by_step(checkpoints)))
    return traces


def _swept(run: FoundRun) -> list[_Trace]:
    """Accuracy by step of each run on full rollouts in a sweep; on the test problems if every
    checkpoint was evaluated, otherwise on validation."""
    at = {"selector": FULL}
    rows = pick(run.measurements, "accuracy", **at, view="test")
    rows = rows or pick(run.measurements, "accuracy", **at, view="validation")
    traces = []
    for seed in sorted({row.training_seed for row in rows}):
        steps = [row for row in rows if row.training_seed == seed]
        start = [row for row in steps if row.step == 0]
        after = [row for row in steps if row.step > 0]
        if start and len(after) > 1:
            name = f"{after[0].checkpoint}, seed {seed:g}, on the {after[0].view}"
            traces.append(_Trace(name, seed, (start[0].low, start[0].high), _by_step(after)))
    return traces


def _by_step(rows: Sequence[Measurement]) -> tuple[Measurement, ...]:
    return tuple(sorted(rows, key=lambda row: row.step))


def _reported(run: FoundRun) -> str:
    """The reported answer rule, which comes first in the table."""
    frame = run.measurements
    rules = frame.loc[frame["what"].str.fullmatch(r"avg_at_\d+"), "answer_rule"]
    return str(next(iter(rules), ""))


RULES: dict[str, Rule] = {
    "shorter-responses": _length_rule(EARLY_STOPS, -1).judge,
    "longer-responses": _length_rule((FULL,), 1).judge,
    "several-boxes": BOXED.judge,
    "collapse": collapse,
}
