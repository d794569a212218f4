"""What ``decaylab arm-gains`` prints: every arm beside what one teacher token is worth there."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.claims import one_run
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import PREDICTORS, RANK_CORRELATION, TRAINING, TRAINING_GAIN
from decaylab.tables import terminal
from decaylab.tables.by_model import BRACKETS
from decaylab.tables.model import Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import Source, columns

COMMAND = "arm-gains"
ARM, BUDGET, PREDICTOR, OVER = columns("arm-gain-labels")
NAMES = dict(
    zip(PREDICTORS, ("one teacher token", "mass on correct tokens", "share of the KL"), strict=True)
)
READING = (
    "training: accuracy of the trained student less that of the untrained one, from the sweep",
    "one teacher token: at tokens drawn from those that the arm trains on, accuracy of the student "
    "that finishes behind one token of the teacher's, less that of the student without it; both "
    "continuations are fresh",
    "mass on correct tokens: teacher's less student's, where a step's result begins and the arm "
    "trains; only of problems whose steps are known",
    "share of the KL: of the reverse KL of all tokens of the rollouts, on those of the arm",
)


def page(run: FoundRun) -> Page:
    """Arms with their numbers, and the rank correlations over them."""
    options, source = run.options, Source(run.measurements, notes=False)
    return Page(
        "One teacher token, where arms train",
        f"{options['student']} with {options['teacher']} as its teacher; "
        f"{terminal.asked(options, run.record['identity']['problems'], 'of the rollouts in')}; "
        f"{options['tokens_per_arm']} tokens drawn for each arm",
        one_run.verdict(run),
        _tables(source),
        [*READING, *_notes(run)],
        run.notes,
        terminal.measured_paths(run.folder, run.folder / f"{COMMAND}.png"),
        [f"every drawn token: {run.folder / 'places.parquet'}"],
        carrying=2,
        brackets=BRACKETS.format(100 * source.frame["level"].iloc[0]),
    )


def _tables(source: Source) -> Iterator[Table]:
    title = "What training gave each arm, and what was measured where it trains"
    yield Table.of(title, _arms(source))
    if rows := [*_correlations(source)]:
        yield Table.of("Rank correlation with what training gave, over arms of one budget", rows)


def _arms(source: Source) -> Iterator[Row]:
    found = source.rows(TRAINING_GAIN).sort_values("value", ascending=False, kind="stable")
    for arm in found["checkpoint"]:
        yield {ARM: arm, **source.line(columns("arm-gains"), {"checkpoint": arm})}


def _correlations(source: Source) -> Iterator[Row]:
    for budget in source.values(RANK_CORRELATION, "rollout_length"):
        for predictor, name in NAMES.items():
            at = {"condition": predictor, "rollout_length": budget}
            for arms in source.values(RANK_CORRELATION, "category", at=at):
                labels: Row = {BUDGET: f"{budget:g} tokens", PREDICTOR: name, OVER: arms}
                yield {**labels, **source.line(columns("arm-correlations"), at)}


def _notes(run: FoundRun) -> Iterator[str]:
    """Why a number is missing or has no test."""
    frame = run.measurements
    for note, rows in frame[frame["note"] != ""].groupby("note", sort=False):
        arms = rows[rows["condition"] == TRAINING]["checkpoint"].unique()
        yield f"{note} ({', '.join(arms)})" if len(arms) else str(note)
