"""What ``decaylab interventions`` prints: effects of content and style, changed steps, and every
arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decaylab.claims import one_run
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ACCURACY,
    BROKEN,
    CONTENT,
    EDIT,
    INTERACTION,
    MEAN_KL,
    REPAIRED,
    STUDENT,
    STYLE,
    TEACHER,
    effect,
)
from decaylab.tables import terminal
from decaylab.tables.by_model import BRACKETS
from decaylab.tables.model import Column, Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import GROUP, Source, columns

COMMAND = "interventions"
PREFIX, ARM, LABEL = columns("intervention-labels")
CONTINUED = {STUDENT: "continued by the student", TEACHER: "continued by the teacher"}
MADE_EFFECTS = (CONTENT, STYLE, INTERACTION)
QUANTITIES = {ACCURACY: "accuracy, points", MEAN_KL: "reverse KL behind the prefix, nats"}
READING = (
    "content: correct minus wrong; style: the student's (concise) minus the teacher's (verbose); "
    "interaction: the effect of content in the student's style minus that in the teacher's",
    "repaired, broken: a rollout of the student up to a step, with that step changed, minus the "
    "same prefix as it was written; a repaired step is the first wrong one",
    "p (Holm): sign-flip test over problems, corrected over the effects of made prefixes, of "
    "repaired, and of broken steps, each on the same quantity",
)


def page(run: FoundRun) -> Page:
    """The effects on accuracy, on the KL, and every arm."""
    options, source = run.options, Source(run.measurements, notes=False)
    return Page(
        "Interventions",
        f"{options['student']} with {options['teacher']} as its teacher; "
        f"{terminal.asked(options, run.record['identity']['problems'], 'of the rollouts in')}",
        one_run.verdict(run),
        _tables(source),
        READING,
        run.notes,
        terminal.measured_paths(run.folder, run.folder / f"{COMMAND}.png"),
        carrying=2,
        brackets=BRACKETS.format(100 * source.frame["level"].iloc[0]),
    )


def _tables(source: Source) -> Iterator[Table]:
    own = EDIT in set(source.frame["condition"])
    for what, unit in QUANTITIES.items():
        if own:
            rows = [*_edits(source, what)]
            title = f"Prefixes by label, and their difference from the reference: {unit}"
        else:
            rows = [*_effects(source, what)]
            title = f"What a prefix does to {unit}"
        if rows:
            yield Table.of(title, rows)
    for what in QUANTITIES:
        if not own and (rows := [*_levels(source, what)]):
            title = "Accuracy of every arm, %" if what == ACCURACY else "Reverse KL of every arm"
            yield Table.of(title, rows)


def _effects(source: Source, what: str) -> Iterator[Row]:
    """A row an effect and number of steps, a group a policy that continues."""
    for author, words in CONTINUED.items():
        for condition in (*MADE_EFFECTS, REPAIRED, BROKEN):
            places = source.values(effect(what), "category", condition=condition, view=author)
            for category in places:
                at = {"condition": condition, "category": category, "view": author}
                labels: Row = {GROUP: words, ARM: condition, PREFIX: category}
                yield {**labels, **source.line(columns("effect"), at, what)}


def _levels(source: Source, what: str) -> Iterator[Row]:
    for author, words in CONTINUED.items():
        for condition, category in source.places(what, "condition", "category", view=author):
            at = {"condition": condition, "category": category, "view": author}
            labels: Row = {GROUP: words, ARM: condition, PREFIX: category}
            yield {**labels, **source.line(columns("arm"), at, what)}


def _edits(source: Source, what: str) -> Iterator[Row]:
    for author, words in CONTINUED.items():
        for label in source.values(what, "category", condition=EDIT, view=author):
            at = {"category": label, "view": author}
            yield {
                **{GROUP: words, LABEL: label},
                **source.line(_mean_of_label(), {**at, "condition": EDIT}, what),
                **_difference(source, what, at),
            }


def _mean_of_label() -> tuple[Column, ...]:
    """The columns of a label's mean; the problems beside it are those of the difference."""
    return tuple(column for column in columns("arm") if column.name != "problems")


def _difference(source: Source, what: str, at: Mapping[str, Any]) -> Row:
    """The difference of a label from the reference; empty for the reference itself."""
    wanted: tuple[Column, ...] = columns("effect")[:3]
    found = source.values(effect(what), "condition", at=at)
    return source.line(wanted, {**at, "condition": found[0] if found else ""}, what)
