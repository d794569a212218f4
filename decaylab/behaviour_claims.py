"""Claims on what becomes of rollouts and of accuracy over training, by behaviour, evaluations and validations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from decaylab.found_runs import FoundRun
from decaylab.measurements import Measurement
from decaylab.students import students
from decaylab.token_claims import HALF, of_selector, seeds_words, stopped_early
from decaylab.verdicts import (
    ONE_SEED,
    PAPER,
    Claim,
    Judged,
    Rule,
    agreed,
    listed,
    percent,
    pick,
    plain,
    points,
    side,
    usable,
    verdict,
)

TENTH = 0.1
SHORTER = Claim(
    "shorter-responses",
    "Early stopping shortens the student's responses.",
    f"{PAPER}, behaviour table, left: median 860 to 380",
    "Paired change of the mean length in tokens, of each student trained on a prefix, at its last checkpoint. Holds where it "
    "lies below minus a tenth of the untrained student's length, contradicted where it lies above: less than a tenth is not "
    "what is claimed.",
    "decaylab behaviour runs/esr runs/full",
    ("behaviour",),
    "response-length",
)
LONGER = Claim(
    "longer-responses",
    "Full rollouts lengthen the student's responses.",
    f"{PAPER}, behaviour table, left: median 860 to 1,530",
    "Paired change of the mean length in tokens, of each student trained on full rollouts, at its last checkpoint. Holds "
    "where it lies above a tenth of the untrained student's length, contradicted where it lies below.",
    "decaylab behaviour runs/esr runs/full",
    ("behaviour",),
    "response-length",
)
BOXES = Claim(
    "several-boxes",
    "Trained on full rollouts, the student comes to box several answers in most of its responses.",
    f"{PAPER}, boxed repetition table: 2.9 to 89.1 %",
    "Share of responses with several boxes, of each student trained on full rollouts, at its last checkpoint. Holds where it "
    "lies above a half, contradicted where it lies below.",
    "decaylab behaviour runs/full",
    ("behaviour",),
    "boxed-repetition",
)
COLLAPSE = Claim(
    "collapse",
    "Trained on full rollouts, the student loses most of what it had gained by the end of training.",
    f"{PAPER}, per-step tables: 65.60 to 43.80 %",
    "Accuracy over the checkpoints of each run on full rollouts. Holds where the interval of the last one lies wholly below "
    "half of the gain that the best one has over the untrained student, contradicted where it lies wholly above; undecided "
    "where the best one shows no gain.",
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
    rows = {one: row for one in trained for row in _rows_of(run, "response_tokens_mean_change", one.label)}
    if not rows or not base:
        return None
    margin = sign * TENTH * base[0].value
    said = [
        f"{one.label} {plain(row, 'tokens', '+.1f')}" + (f" ({row.note})" if row.note else "")
        for one, row in rows.items()
    ]
    lead = f"The mean length of {base[0].value:.1f} tokens changes by: {'; '.join(said)}; a tenth would be {abs(margin):.1f}."
    shown = sign * agreed(side(row, at=margin) for row in rows.values())
    words = " ".join([lead, *seeds_words([*rows])])
    return Judged(verdict(shown), words, (*rows.values(), base[0]))


def boxes(run: FoundRun) -> Judged | None:
    """Whether most responses of students trained on full rollouts box several answers."""
    rows = {one: row for one in of_selector(run, "full") for row in _rows_of(run, "several_boxes_share", one.label)}
    if not rows:
        return None
    before = pick(run.measurements, "several_boxes_share", checkpoint="base")
    said = [f"{percent(row)} of its responses ({one.label})" for one, row in rows.items()]
    text = f"Several boxes stand in {listed(said)}"
    text += f", where the untrained student has {percent(before[0])}." if before else "."
    shown = agreed(side(row, at=HALF) for row in rows.values())
    return Judged(verdict(shown), " ".join([text, *seeds_words([*rows])]), (*rows.values(), *before))


# Collapse


class _Trace(NamedTuple):
    """Accuracy, or its gain over the untrained student, at each checkpoint of one run; before: of that student."""

    name: str
    before: tuple[float, float]
    rows: tuple[Measurement, ...]

    @property
    def best(self) -> Measurement:
        return max(self.rows, key=lambda row: row.value)

    @property
    def last(self) -> Measurement:
        return self.rows[-1]

    @property
    def side(self) -> int:
        """1 where most of the gain is lost, -1 where it is kept."""
        if not (usable(self.best) and usable(self.last)) or not self.best.low > self.before[1]:
            return 0
        low, high = ((start + end) / 2 for start, end in zip(self.before, (self.best.low, self.best.high)))
        return int(self.last.high < low) - int(self.last.low > high)


def collapse(run: FoundRun) -> Judged | None:
    """Whether accuracy falls back over the checkpoints of full rollouts."""
    evaluated = run.command == "evaluate"
    rule = _reported(run.measurements)
    traces = _evaluated(run, rule) if evaluated else _swept(run)
    if not traces:
        return None
    told = "; ".join(_told(one, points if evaluated else percent) for one in traces)
    shown = agreed(one.side for one in traces)
    words = f"{'Over the untrained student' if evaluated else 'Right answers'}: {told}."
    others = {other: agreed(one.side for one in _evaluated(run, other)) for other in _rules(run) if other != rule}
    odd = [f"{other} {verdict(its)}" for other, its in others.items() if evaluated and its != shown]
    words += f" By another answer rule: {', '.join(odd)}." if odd else ""
    words += f" {ONE_SEED}" if len(traces) == 1 else f" {len(traces)} runs, each judged by itself."
    return Judged(verdict(shown), words, tuple(row for one in traces for row in one.rows))


def _told(one: _Trace, text: Callable[[Measurement], str]) -> str:
    last, best = one.last, one.best
    if best is last:
        return f"{one.name} {text(last)} at step {last.step:g}, its last checkpoint and its best"
    then = f"{text(best)} at step {best.step:g}, its best"
    return f"{one.name} {text(last)} at step {last.step:g}, its last checkpoint, and {then}"


def _evaluated(run: FoundRun, rule: str) -> list[_Trace]:
    """Of each run on full rollouts in an evaluation: the paired difference to the untrained student, by step."""
    frame = run.measurements
    what = next((name for name in frame["what"] if re.fullmatch(r"avg_at_\d+_minus_base", name)), "")
    rows = {row.checkpoint: row for row in pick(frame, what, condition=rule, view="fresh")}
    found: dict[str, list[Measurement]] = {}
    for one in students(run):
        if one.selector == "full" and one.label in rows and not math.isnan(one.step):
            found.setdefault(one.run, []).append(rows[one.label])
    return [_Trace(_short(name), (0.0, 0.0), _by_step(steps)) for name, steps in found.items() if len(steps) > 1]


def _swept(run: FoundRun) -> list[_Trace]:
    """Of each run on full rollouts in a sweep: accuracy by step, on the test where every checkpoint was evaluated."""
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
            traces.append(_Trace(name, (start[0].low, start[0].high), _by_step(after)))
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
