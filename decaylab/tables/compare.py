"""What ``decaylab compare`` prints and the report shows: the verdict, each run at each prefix
length, and what holds of it as a whole. Differences (Δ) are from the reference, the first run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from decaylab.claims import one_run
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ACCURACY,
    ADVANTAGE,
    HALF_DECAY,
    STUDENT,
    STUDENT_PREFIX,
    STUDENTS,
    TEACHER,
    TEACHERS,
    against,
    difference,
)
from decaylab.tables import terminal
from decaylab.tables.model import Column, Number, Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import Source, columns

PREFIX = Column("prefix_tokens", "prefix (tokens)", "whole", (1, 0))
COUNTS = columns("compare-counts")
READING = (
    "ahead: teacher less student on the same rollouts; retained: share of its advantage that is "
    "left; p: sign-flip test over problems, by Holm over lengths and runs"
)
CALLED = {TEACHERS: TEACHER, STUDENTS: STUDENT}


def page(run: FoundRun) -> Page:
    """The verdict, what holds over all lengths, and each run at each prefix length."""
    source = Source(run.measurements, notes=False)
    options, compared = run.options, source.frame["category"].iloc[0]
    problems, names = run.record["identity"]["problems"], source.models
    shared = STUDENT if compared == TEACHERS else TEACHER
    level = f"{100 * options['level']:g} %"
    return Page(
        f"Which {CALLED[compared]}?",
        f"{' or '.join(names)}; {shared} {run.record['pair'][shared]['name']}; "
        f"{problems['name']}, {problems['asked']} problems x {options['samples']}, "
        f"T = {options['temperature']}, budget {options['max_tokens']} tokens, "
        f"answer rule {options['answer_rule']}; \u0394: from {names[0]}, on the same problems",
        one_run.verdict(run),
        [
            Table.of(f"Teacher ahead of the student, points, {level} intervals", _ahead(source)),
            Table.of("Over all lengths", totals(source)),
            *_each_run(source, level),
        ],
        [READING, *_undefined(source)],
        run.notes,
        paths=terminal.measured_paths(run.folder, run.folder / "compare.png"),
        carrying=2,
    )


def _ahead(source: Source) -> Iterator[Row]:
    """How far the teacher is ahead at each prefix length, a column for each run."""
    names = _runs(source)
    at = {"checkpoint": names[0], "condition": STUDENT_PREFIX}
    for length in source.values(ADVANTAGE, "prefix_tokens", at):
        row: Row = {PREFIX: Number(length)}
        for place, name in enumerate(names):
            column = Column(f"ahead_{name}", name, "tenths", (2, place), signed=True)
            place_of = {**at, "checkpoint": name, "prefix_tokens": length}
            row[column] = source.number(ADVANTAGE, place_of)
        yield row


def by_length(source: Source) -> Iterator[Row]:
    """Each run at each prefix length: accuracy, the student's, how far the teacher is ahead of it,
    what is retained of that; and the differences from the reference."""
    names = _runs(source)
    for name in names:
        for length in source.values(ACCURACY, "prefix_tokens", {"checkpoint": name}):
            at = {"checkpoint": name, "prefix_tokens": length, "condition": STUDENT_PREFIX}
            changed = {**at, "condition": against(names[0])}
            yield {
                _label(source): name,
                PREFIX: Number(length),
                **source.line(columns("compare"), at),
                **source.line(columns("compare-differences"), changed),
                **source.line(COUNTS, at),
            }


def totals(source: Source) -> Iterator[Row]:
    """Each run as a whole: half-decay length, KL and cost, with differences from the reference.

    An answer is one that the teacher writes without a prefix.
    """
    names, longest = _runs(source), source.frame["prefix_tokens"].max()
    for name in names:
        row: Row = {_label(source): name}
        for column in columns("compare-totals"):
            is_difference = column.of.endswith("_difference")
            condition = against(names[0]) if is_difference else STUDENT_PREFIX
            at: dict[str, Any] = {"checkpoint": name, "condition": condition}
            if source.rows(column.of, at)["prefix_tokens"].notna().any():
                at["prefix_tokens"] = 0.0
            row[column] = source.number(column.of, at, longest=longest)
        yield row


def _each_run(source: Source, level: str) -> Iterator[Table]:
    """A table for each run; counts that are the same throughout are printed above."""
    rows, run = [*by_length(source)], _label(source)
    dropped = {run, *(count for count in COUNTS if len({row[count] for row in rows}) == 1)}
    for name in source.models:
        title = f"{name}, the reference" if name == source.models[0] else name
        own = [row for row in rows if row[run] == name]
        kept = [{column: row[column] for column in row if column not in dropped} for row in own]
        yield Table.of(f"{title}: {level} intervals over problems", kept)


def _undefined(source: Source) -> Iterator[str]:
    """Why a half-decay length, or a difference of two, is not known; each reason once."""
    told = set()
    for what, called in (
        (HALF_DECAY, "half-decay length"),
        (difference(HALF_DECAY), "difference of half-decay lengths"),
    ):
        for name in source.models:
            for row in source.records(what, {"checkpoint": name}):
                is_shown = row["condition"] in (STUDENT_PREFIX, against(source.models[0]))
                if math.isnan(row["value"]) and is_shown and (name, row["note"]) not in told:
                    told.add((name, row["note"]))
                    yield f"{called}, {name}: {row['note']}"


def _runs(source: Source) -> list[str]:
    """The runs that are compared, the reference first; none in other measurements."""
    return source.values(ADVANTAGE, "checkpoint", condition=STUDENT_PREFIX, prefix_tokens=0.0)


def _label(source: Source) -> Column:
    """The column that says which run: by its teacher, or by its student."""
    called = CALLED[source.frame["category"].iloc[0]]
    return Column(called, called)
