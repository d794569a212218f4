"""What ``decaylab compare`` prints and the report shows: the verdict, each run at each prefix
length, and what holds of it as a whole. Differences (Δ) are from the reference, the first run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from decaylab.runs.vocabulary import (
    ACCURACY,
    HALF_DECAY,
    STUDENT,
    STUDENT_PREFIX,
    STUDENTS,
    TEACHER,
    TEACHERS,
    against,
)
from decaylab.tables import terminal
from decaylab.tables.model import Column, Form, Number, Row, Table
from decaylab.tables.source import Source, columns

if TYPE_CHECKING:
    from decaylab.commands.compare import CompareResult

PREFIX = Column("prefix_tokens", "prefix (tokens)", "whole", (1, 0))
CALLED = {TEACHERS: TEACHER, STUDENTS: STUDENT}


def print_comparison(result: CompareResult) -> None:
    """The verdict, the tables that carry it, and where the results are."""
    source = Source(result.measurements, notes=True)
    identity, options = result.record["identity"], result.record["identity"]["options"]
    names = source.models
    compared = source.frame["category"].iloc[0]
    shared = STUDENT if compared == TEACHERS else TEACHER
    level = f"{100 * options['level']:g} %"
    terminal.print_page(
        f"Which {CALLED[compared]}?",
        f"{' or '.join(names)}, {shared} {result.record['pair'][shared]['name']}; "
        f"{identity['problems']['name']}, {identity['problems']['asked']} problems x "
        f"{options['samples']} samples, T = {options['temperature']}, "
        f"budget {options['max_tokens']} tokens, answer rule {options['answer_rule']}",
        [
            "\n".join(result.verdict),
            Table.of(
                f"After k tokens of the student's rollouts, {level} intervals over problems "
                f"(Δ: from {names[0]}, paired)",
                by_length(source, form="group"),
            ),
            Table.of(f"Over all lengths (Δ: from {names[0]}, paired)", totals(source)),
        ],
        [f"note: {note}" for note in result.notes],
        terminal.measured_paths(result.folder, result.folder / "compare.png"),
    )


def by_length(source: Source, form: Form = "words") -> Iterator[Row]:
    """Each run at each prefix length: accuracy, the student's, their difference, what is retained;
    and the differences from the reference."""
    run, reference = _label(source, form), source.models[0]
    for name in source.models:
        at: dict[str, Any] = {"checkpoint": name}
        for length in source.values(ACCURACY, "prefix_tokens", at):
            at |= {"prefix_tokens": length}
            yield {
                run: name,
                PREFIX: Number(length),
                **source.line(columns("compare"), {**at, "condition": STUDENT_PREFIX}),
                **source.line(
                    columns("compare-differences"), {**at, "condition": against(reference)}
                ),
                **source.line(columns("compare-counts"), {**at, "condition": STUDENT_PREFIX}),
            }


def totals(source: Source) -> Iterator[Row]:
    """Each run as a whole: half-decay length, KL and cost, with differences from the reference."""
    run, reference = _label(source, "words"), source.models[0]
    longest = source.frame["prefix_tokens"].max()
    for name in source.models:
        row: Row = {run: name}
        for column in columns("compare-totals"):
            condition = STUDENT_PREFIX
            if column.of.endswith("_difference"):
                condition = against(reference)
            at = {"checkpoint": name, "condition": condition}
            if source.rows(column.of, at)["prefix_tokens"].notna().any():
                at |= {"prefix_tokens": 0.0}  # of the teacher alone
            cell = source.number(column.of, at)
            if column.of == HALF_DECAY and isinstance(cell, Number):
                cell = replace(cell, longest=longest)
            row[column] = cell
        yield row


def _label(source: Source, form: Form) -> Column:
    """The column that says which run: by its teacher, or by its student."""
    called = CALLED[source.frame["category"].iloc[0]]
    return Column(called, "" if form == "group" else called, form)
