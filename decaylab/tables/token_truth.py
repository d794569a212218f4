"""What ``decaylab token-truth`` prints: mass on correct tokens, repairs, and both by position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.claims import one_run
from decaylab.claims.verdicts import pick
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    BEHIND_CORRECT,
    BEHIND_WRONG,
    CONSISTENCY,
    CORRECT_SO_FAR,
    REPAIR,
    REPAIRED,
    TEACHER,
    TRUTH,
    gain,
    of_policy,
)
from decaylab.tables import terminal
from decaylab.tables.by_model import BRACKETS
from decaylab.tables.model import Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import GROUP, WHOLE, Source, bin_at, columns, positions

COMMAND = "token-truth"
STATE, POSITION = columns("truth-labels")
STATES = {
    CORRECT_SO_FAR: "correct so far",
    REPAIRED: "repaired",
    ALREADY_WRONG: "already wrong",
    BEHIND_WRONG: "the first wrong step",
    BEHIND_CORRECT: "a correct step",
}
TITLES = {
    TRUTH: "Mass on tokens that are true to the problem, where a result begins",
    CONSISTENCY: "Mass on tokens that are consistent with the equation as it was written",
    REPAIR: "Chance that a repair opens, right behind",
}
READING = (
    "true to the problem: the step can still become correct; consistent: the equation can still "
    "become its own result, on whatever numbers; each is a set of tokens, since notation is free",
    "gain of one token: the teacher's mass minus the student's, on the same prefixes",
    "AUROC: of two tokens drawn from the student at one place, one correct and one wrong, how "
    "often the correct one has the larger log t/s; 50 % is chance",
    "in a chain that is already wrong no token of an equation is true to the problem: what is "
    "true there is a repair, right behind the error",
)


def page(run: FoundRun) -> Page:
    """Masses by state of the prefix, repairs, and the masses by position."""
    options, source = run.options, Source(run.measurements, notes=False)
    return Page(
        "Token truth",
        f"{options['student']} with {options['teacher']} as its teacher; "
        f"{terminal.asked(options, run.record['identity']['problems'], 'of the rollouts in')}; "
        f"scored at temperature {options['score_temperature']:g}",
        one_run.verdict(run),
        _tables(source),
        [*READING, *_left_out(run)],
        run.notes,
        terminal.measured_paths(run.folder, run.folder / f"{COMMAND}.png"),
        [f"every place: {run.folder / 'places.parquet'}"],
        carrying=3,
        brackets=BRACKETS.format(100 * source.frame["level"].iloc[0]),
    )


def _left_out(run: FoundRun) -> Iterator[str]:
    """Places without a number of one kind, over all positions."""
    for row in pick(run.measurements, of_policy(CONSISTENCY, TEACHER), **WHOLE):
        if row.note:
            yield f"{row.checkpoint}, consistent, {STATES[row.condition]}: {row.note}"


def _tables(source: Source) -> Iterator[Table]:
    for what, title in TITLES.items():
        yield Table.of(f"{title}, %", [*_by_state(source, what)])
    for what in (TRUTH, CONSISTENCY):
        if rows := [*_by_position(source, what)]:
            yield Table.of(f"{TITLES[what]}, by position, %", rows)


def _by_state(source: Source, what: str) -> Iterator[Row]:
    for model in source.models:
        for state in source.values(gain(what), "condition", checkpoint=model):
            at = {"checkpoint": model, "condition": state, **WHOLE}
            yield {GROUP: model, STATE: STATES[state], **_numbers(source, what, at)}


def _by_position(source: Source, what: str) -> Iterator[Row]:
    for model in source.models:
        for state in source.values(gain(what), "condition", checkpoint=model):
            for span in source.spans(gain(what)):
                if span == tuple(WHOLE.values()):
                    continue
                at = {"checkpoint": model, "condition": state, **bin_at(span)}
                labels = {GROUP: f"{model}, {STATES[state]}", POSITION: positions(span)}
                yield {**labels, **_numbers(source, what, at)}


def _numbers(source: Source, what: str, at: dict[str, Any]) -> Row:
    listed = columns("truth")
    if what == REPAIR:  # behind a step there is no choice between results
        listed = tuple(column for column in listed if column.name != "AUROC")
    return source.line(listed, at, what)
