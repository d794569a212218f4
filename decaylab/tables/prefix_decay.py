"""What ``decaylab prefix-decay`` prints: the decay curve, its controls, the paper's view of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from decaylab.claims import one_run
from decaylab.printing import UNDEFINED, percent, rounded, with_interval
from decaylab.problems.tasks import measure_name
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    CARRY_FORWARD,
    CORRECT_SO_FAR,
    ENDED_RIGHT,
    ENDED_WRONG,
    OPEN,
    OWN_PREFIX,
    REVERSE,
    STUDENT,
    STUDENT_PREFIX,
    STUDENT_TURNS,
    SWAPPED,
    TEACHER,
)
from decaylab.tables import hand_back, terminal
from decaylab.tables.model import Number, Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import Source, columns

CONTROLS = {
    OWN_PREFIX: "its own prefix (must stay flat)",
    CORRECT_SO_FAR: "prefix correct so far",
    ALREADY_WRONG: "prefix already wrong",
    ENDED_RIGHT: "rollout that ends correct (future)",
    ENDED_WRONG: "rollout that ends wrong (future)",
    SWAPPED: "prefix of another problem",
    REVERSE: "student continues teacher",
}
CONTROL, TURNS = columns("decay-labels")
RATES = {
    "recovery_rate": "recovery (teacher correct where the student ended wrong)",
    "spoil_rate": (
        "regression (teacher wrong where the student, and the teacher alone, are correct)"
    ),
}


def page(run: FoundRun) -> Page:
    """The decay curve, the controls, the paper's view and the lines that sum up."""
    source = Source(run.measurements, notes=False)
    identity, options = run.record["identity"], run.options
    rule, samples = source.frame["answer_rule"].iloc[0], options["samples"]
    greedy = options["temperature"] == 0 and not options.get("rollouts")
    handed = [*hand_back.tables(source, greedy)]
    return Page(
        "Teacher decay",
        f"{options['teacher']} on prefixes of {options['student']}; "
        f"{identity['problems']['name']}, {identity['problems']['asked']} problems x "
        f"{samples} samples, T = {options['temperature']}, "
        f"budget {options['max_tokens']} tokens, answer rule {rule}",
        one_run.verdict(run),
        _tables(source, measure_name(rule, samples), handed),
        [*summary(source)],
        run.notes,
        paths=_paths(run),
        carrying=1 + len(handed),
    )


def _paths(run: FoundRun) -> list[str]:
    paths = terminal.measured_paths(run.folder, run.folder / "prefix-decay.png")
    handed = run.folder / "hand-back.png"
    return [f"figure: {handed}  (and .svg)", *paths] if handed.exists() else paths


def _tables(source: Source, measure: str, handed: Sequence[Table]) -> Iterator[Table]:
    level = f"{100 * source.frame['level'].iloc[0]:g} %"
    yield Table.of(
        f"Unfinished rollouts at the prefix length: per cent, {level} intervals over problems",
        _curve(source, measure),
    )
    yield from handed
    if controls := [*_controls(source)]:
        yield Table.of(
            "Controls: accuracy against the teacher alone on the same problems "
            "(own prefix: against the rollouts continued)",
            controls,
        )
    if turns := [*_turns(source)]:
        yield Table.of(
            "Behind whole turns of the student; the teacher answers in one turn, without tools "
            "(tokens: the student's, mean)",
            turns,
        )
    yield Table.of(
        "Carried forward, as in the paper: a finished rollout counts as it stands, "
        "so the curve falls as rollouts end",
        _carried(source),
    )


def _carried(source: Source) -> Iterator[Row]:
    for at in _lengths(source, STUDENT_PREFIX, CARRY_FORWARD):
        yield source.line(columns("carried-forward"), at)


def _lengths(source: Source, condition: str, view: str) -> list[dict[str, Any]]:
    """The coordinates of a curve, a prefix length each."""
    at = {"condition": condition, "view": view}
    lengths = source.values("accuracy_difference", "prefix_tokens", at)
    return [{**at, "prefix_tokens": length} for length in lengths]


def _curve(source: Source, measure: str) -> Iterator[Row]:
    curve = columns("decay-curve", measure=measure)
    prefix, still_open, accuracy, *_, itself, _ = curve
    yield {
        **dict.fromkeys(curve, ""),
        prefix: Number(0),
        still_open: Number(100),
        accuracy: source.number("accuracy", condition=TEACHER),
        itself: source.number("accuracy", condition=STUDENT),
    }
    for at in _lengths(source, STUDENT_PREFIX, OPEN):
        yield source.line(curve, at)


def _controls(source: Source) -> Iterator[Row]:
    for condition, meaning in CONTROLS.items():
        for at in _lengths(source, condition, OPEN):
            yield {CONTROL: meaning, **source.line(columns("controls"), at)}


def _turns(source: Source) -> Iterator[Row]:
    at = {"condition": STUDENT_TURNS, "view": "turns"}
    for category, tokens in source.places("accuracy", "category", "prefix_tokens", at=at):
        cells = source.line(columns("turns"), {**at, "prefix_tokens": tokens})
        yield {TURNS: category.rpartition(" ")[2], **cells}


def summary(source: Source) -> Iterator[str]:
    """Half-decay length, what could have been detected, recovery and spoil rates: a line each."""
    at = {"condition": STUDENT_PREFIX, "view": OPEN}
    yield _half_decay(source)
    points = []
    for row in source.records("smallest_detectable_difference", at):
        points.append(f"{rounded(percent(row['value']), 1)} at {row['prefix_tokens']:g}")
    if points:
        yield (
            "smallest change this many problems could have shown (80 % power), points: "
            f"{', '.join(points)}"
        )
    for what, words in RATES.items():
        rates = []
        for row in source.records(what, at):
            rate = with_interval(row["value"], row["low"], row["high"], row["unit"])
            rates.append(f"{rate} at {row['prefix_tokens']:g}")
        if rates:
            yield f"{words}, %: {'; '.join(rates)}"


def _half_decay(source: Source) -> str:
    rows = source.rows("half_decay_length", condition=STUDENT_PREFIX)
    if rows.empty:
        return "half-decay length: no prefix was continued"
    row = rows.iloc[0]
    if math.isnan(row["value"]):
        return f"half-decay length: undefined ({row['note']})"
    shown = half_decay(source).replace(" [", " tokens [")
    return f"half-decay length (half of the teacher's advantage gone): {shown}"


def half_decay(source: Source) -> str:
    """The half-decay length in whole tokens with its interval, ``39 [33, 44]``; > 60 is beyond the
    longest prefix."""
    row, frame = source.rows("half_decay_length", condition=STUDENT_PREFIX).iloc[0], source.frame
    if math.isnan(row["value"]):
        return UNDEFINED
    longest = frame.loc[frame["condition"] == STUDENT_PREFIX, "prefix_tokens"].max()
    ends = []
    for end in row[["value", "low", "high"]]:
        ends.append(f"> {longest:g}" if math.isinf(end) else rounded(end))
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"
