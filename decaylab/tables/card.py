"""The numbers of a model card: of each run those that its verdict is about, one in a row.

numbers(runs)        # one Table: quantity, value with interval, unit, problems, run
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from decaylab.problems.tasks import measure_name
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.students import last_of_each, students
from decaylab.runs.vocabulary import (
    ACCURACY,
    ADVANTAGE,
    ALL,
    BASE,
    DIFFERENCE,
    FRACTION,
    FRESH,
    FULL,
    HALF_DECAY,
    LAST,
    MEAN_KL,
    NATS,
    OPEN,
    OVER_SEEDS,
    OWN_PREFIX,
    RESPONSE_LOG_RATIO,
    STUDENT,
    STUDENT_PREFIX,
    TEACHER,
    THESE_SEEDS,
    TOKENS,
    VALIDATION,
    minus,
)
from decaylab.tables.model import Cell, Column, Number, Row, Table
from decaylab.tables.prefix_decay import half_decay
from decaylab.tables.source import Source

TRAIN = "train"
QUANTITY, UNIT, RUN = (Column(name, name) for name in ("quantity", "unit", "run"))
VALUE = Column("value", "value", "value")
PROBLEMS = Column("problems", "problems", "whole")
HELD_OUT = {
    ACCURACY: "held-out accuracy",
    MEAN_KL: "held-out mean reverse KL",
    RESPONSE_LOG_RATIO: "held-out log-ratio of a response up to the budget",
}
UNITS = {FRACTION: "%", NATS: "nats per token", TOKENS: "tokens"}


class Line(NamedTuple):
    """A number to be shown. what, at: its coordinates among a run's measurements. gap: a difference
    of fractions, shown in points with a sign."""

    name: str
    what: str
    at: Mapping[str, Any]
    gap: bool = False


def numbers(runs: Sequence[FoundRun]) -> Table:
    """The numbers of these runs, with their 95 % intervals (or those of the run's own level)."""
    rows = [row for run in runs for row in _rows(run)]
    levels = sorted({float(level) for run in runs for level in run.measurements["level"].unique()})
    shown = " and ".join(f"{100 * level:g} %" for level in levels)
    caption = f"In brackets: {shown} intervals over problems." if shown else ""
    return Table.of("Numbers", rows, caption=caption)


def held_out(validation: pd.DataFrame) -> pd.DataFrame:
    """Measurements out of the rows of validation.csv: before training, and at the last step."""
    if validation.empty:
        return to_frame([])
    distance = (MEAN_KL, "reverse_kl", NATS)
    if RESPONSE_LOG_RATIO in validation:
        distance = (RESPONSE_LOG_RATIO, RESPONSE_LOG_RATIO, NATS)
    measured = []
    for record in (validation.iloc[0], validation.iloc[-1]):
        for what, column, unit in ((ACCURACY, "accuracy", FRACTION), distance):
            measured.append(
                Measurement(
                    what,
                    "",
                    float(record[column]),
                    unit,
                    view=VALIDATION,
                    step=float(record["step"]),
                    low=float(record.get(f"{column}_low", math.nan)),
                    high=float(record.get(f"{column}_high", math.nan)),
                    problems=int(record["problems"]),
                    rollouts=int(record["problems"]),
                )
            )
    return to_frame(measured).drop_duplicates(["what", "step"])


def _rows(run: FoundRun) -> Iterator[Row]:
    source = Source(run.measurements)
    if run.command == "prefix-decay":
        yield from _decay(source, run)
    for line in LINES.get(run.command, _scored)(source, run):
        cell = source.number(line.what, line.at)
        if isinstance(cell, Number):
            yield _row(line.name, cell, line.gap, source.field("problems", line.what, line.at), run)


def _row(name: str, number: Number, gap: bool, problems: Cell, run: FoundRun) -> Row:
    unit = "points" if gap else UNITS.get(number.unit, "")
    value = dataclasses.replace(number, signed=gap)
    return {QUANTITY: name, VALUE: value, UNIT: unit, PROBLEMS: problems, RUN: run.name}


# Decay


def _decay(source: Source, run: FoundRun) -> Iterator[Row]:
    """The half-decay length, as the terminal prints it."""
    at = {"condition": STUDENT_PREFIX, "view": OPEN}
    if not source.rows(HALF_DECAY, at).empty:
        problems = source.field("problems", HALF_DECAY, at)
        name, shown = "half-decay length of the teacher's advantage", half_decay(source)
        yield {QUANTITY: name, VALUE: shown, UNIT: "tokens", PROBLEMS: problems, RUN: run.name}


def _decay_lines(source: Source, run: FoundRun) -> Iterator[Line]:
    for name in (TEACHER, STUDENT):
        yield Line(f"accuracy of the {name} alone", ACCURACY, {"condition": name})
    yield Line(
        "advantage of the teacher over the student",
        ADVANTAGE,
        {"condition": STUDENT_PREFIX},
        gap=True,
    )
    authors = {STUDENT_PREFIX: "student tokens", OWN_PREFIX: "tokens of its own (control)"}
    for condition, words in authors.items():
        at = {"condition": condition, "view": OPEN}
        for length in source.values(DIFFERENCE, "prefix_tokens", at):
            name = f"change of the teacher's accuracy after {length:g} {words}"
            yield Line(name, DIFFERENCE, {**at, "prefix_tokens": length}, gap=True)


# Checkpoints


def trained(run: FoundRun) -> list[str]:
    """The last checkpoint of each training."""
    return [student.label for student in last_of_each(students(run))]


def _scored(source: Source, run: FoundRun) -> Iterator[Line]:
    """Mean KL before training and after it, and what is left of it behind the trained tokens."""
    at = {"condition": ALL, "view": FRESH, "category": "", "token": ""}
    bound = "" if run.command != "served-kl" else "_bound"
    least = " (at least)" if bound else ""
    for label in (BASE, *trained(run)):
        place = {**at, "checkpoint": label}
        if len(source.rows(MEAN_KL + bound, place)) == 1:
            yield Line(f"mean reverse KL, {spoken(label)}{least}", MEAN_KL + bound, place)
    for label in trained(run):
        place = {"condition": ALL, "view": FRESH, "checkpoint": label}
        if len(source.rows("cascade_ratio", place)) == 1:
            start = source.rows("cascade_ratio", place)["position_low"].iloc[0]
            name = f"reverse KL from position {start:g} on, after / before training, {label}"
            yield Line(name, "cascade_ratio", place)


def _evaluated(source: Source, run: FoundRun) -> Iterator[Line]:
    average = f"avg_at_{run.options['samples']}"
    rule = source.demanded(average)["condition"].iloc[0]
    at, shown = {"view": FRESH, "condition": rule}, measure_name(rule, run.options["samples"])
    for label in (BASE, TEACHER, *trained(run)):
        yield Line(f"{shown}, {spoken(label)}", average, {**at, "checkpoint": label})
    for label in trained(run):
        for other in (BASE, TEACHER):
            name = f"{shown}, {label} against {spoken(other)}"
            yield Line(name, minus(average, other), {**at, "checkpoint": label}, gap=True)


def _behaviour(source: Source, run: FoundRun) -> Iterator[Line]:
    at = {"view": FRESH}
    quantities = {
        "response_tokens_mean": "mean response length",
        "natural_stop_share": "responses that stop naturally",
    }
    for what, words in quantities.items():
        for label in (BASE, TEACHER, *trained(run)):
            yield Line(f"{words}, {spoken(label)}", what, {**at, "checkpoint": label})


def _held_out(source: Source, run: FoundRun) -> Iterator[Line]:
    for what, words in HELD_OUT.items():
        for step in source.values(what, "step"):
            when = f"step {step:g}" if step else "before training"
            yield Line(f"{words}, {when}", what, {"view": VALIDATION, "step": step})


def _arms(source: Source, run: FoundRun) -> Iterator[Line]:
    """Accuracy of each arm, and its difference from full rollouts, or else from the student before
    training."""
    average = f"avg_at_{run.options['samples']}"
    rows = source.demanded(average)
    rule, arms = rows["condition"].iloc[0], [name for name in source.models if name]
    at, shown = {"view": LAST, "condition": rule}, measure_name(rule, run.options["samples"])
    for arm in arms:
        place = {**at, "checkpoint": arm, "estimand": THESE_SEEDS}
        yield Line(f"{shown}, {spoken(arm)}", average, place)
    other = FULL if FULL in arms else BASE
    for arm in arms:
        for estimand, over in ((THESE_SEEDS, ""), (OVER_SEEDS, ", interval over seeds")):
            place = {**at, "checkpoint": arm, "estimand": estimand}
            name = f"{shown}, {arm} against {spoken(other)}{over}"
            yield Line(name, minus(average, other), place, gap=True)


def spoken(label: str) -> str:
    """A measured policy in words."""
    names = {BASE: "student before training", TEACHER: "teacher", FULL: "full rollouts"}
    return names.get(label, label)


Lines = Callable[[Source, FoundRun], Iterator[Line]]
LINES: Mapping[str, Lines] = {
    "prefix-decay": _decay_lines,
    "evaluate": _evaluated,
    "behaviour": _behaviour,
    "sweep rollout-length": _arms,
    "sweep selector": _arms,
    TRAIN: _held_out,
}
