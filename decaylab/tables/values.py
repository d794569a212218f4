"""What ``decaylab values`` prints: values by position, scores, signals, turning points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.claims import one_run
from decaylab.printing import in_unit, percent
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ALL_PREFIXES,
    AUROC,
    COMPARISONS,
    FALL_AUROC,
    FALL_CHANGE,
    FALL_SHARE,
    FRACTION,
    OPEN,
    SAME_POSITION,
    SAME_PROBLEM,
    SCORE_CORRELATION,
    SHARE_OF_LENGTH,
    STUDENT,
    TEACHER,
    TURNING_SHARE,
    VALUE,
    VARIANCES,
    minus,
)
from decaylab.tables import terminal
from decaylab.tables.by_model import BRACKETS
from decaylab.tables.model import Column, Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import Source, bin_at, columns, positions, shown

SEGMENT, SIGNAL, POSITION, HALF = columns("values-labels")
NAMES = {
    ALL_PREFIXES: "all prefixes",
    SAME_POSITION: "same position",
    SAME_PROBLEM: "same position and problem",
}
READING = (
    "value: share of correct answers among fresh continuations of a prefix; unfinished: the "
    "rollouts that are continued at the position",
    "segment: from one position to the next, or to the end of the rollout if that comes first; the "
    "last one goes to the end. An end has the rollout's own outcome",
    "Pearson: correlation of the summed log teacher / student of a segment with the change of the "
    "student's value over it, the variance of the change taken less its sampling part; Spearman: "
    "raw, lowered by that noise; covariance: in nats, needs no correction",
    "AUROC: of a right and a wrong continuation of two prefixes, how often the right one's prefix "
    "has the higher signal; 0.5 is ignorance, below it low values go with right answers. Prefixes "
    "at position 0 have no signal",
    "against position: of two signals, each in the direction in which it knows more",
    "falls against rises: of draws at both ends of a segment that disagree, from right to wrong or "
    "from wrong to right; 0.5 where no signal goes with the change of value",
)
FIRST_ORDER = (
    "the covariance is what a small step towards the teacher over the segment changes in the "
    "student's value there, to first order{}"
)


def page(run: FoundRun) -> Page:
    """The values, how scores go with them, and which signal knows them."""
    source, options = Source(run.measurements, notes=False), run.options
    rule = source.frame["answer_rule"].iloc[0]
    problems = run.record["identity"]["problems"]
    return Page(
        "Values along rollouts",
        f"{options['student']} with {options['teacher']} as its teacher; "
        f"{terminal.asked(options, problems, 'along the rollouts in')}; {options['draws']} "
        f"continuations of each prefix by each policy; answer rule {rule}",
        one_run.verdict(run),
        _tables(source, options),
        [*READING, _first_order(options), *_reasons(run)],
        run.notes,
        terminal.measured_paths(run.folder, run.folder / "values.png"),
        carrying=3,
        brackets=BRACKETS.format(100 * source.frame["level"].iloc[0]),
    )


def _first_order(options: dict[str, Any]) -> str:
    """What the covariance means, and whether these temperatures make it an approximation."""
    sampled, scored = options["temperature"], options["score_temperature"]
    if sampled == scored == 1:
        return FIRST_ORDER.format("")
    return FIRST_ORDER.format(
        f", where sampling and scoring are at temperature 1; here {sampled:g} and {scored:g}: an "
        "approximation"
    )


def _reasons(run: FoundRun) -> Iterator[str]:
    """Why numbers or intervals are missing."""
    frame = run.measurements
    missing = frame[(frame["note"] != "") & frame["low"].isna() & ~frame["what"].isin(VARIANCES)]
    for note, rows in missing.groupby("note", sort=False):
        yield f"{note} ({len(rows)} of {', '.join(rows['what'].unique())})"


def _tables(source: Source, options: dict[str, Any]) -> Iterator[Table]:
    yield Table.of("Correct answers from each position on, %", _by_position(source))
    yield Table.of(
        "Does the teacher's score of a segment go with the change of the student's value?",
        _scores(source),
    )
    title = "Which signal knows the outcome of a fresh continuation? AUROC for a correct answer"
    yield Table.of(title, _signals(source, AUROC))
    yield Table.of(
        f"Turning points of the student's value, at a false-discovery rate of {options['fdr']:g}",
        _turns(source),
    )
    yield Table.of("Variance of values at a position, taken apart", _variances(source))
    yield Table.of(_falls_title(source), _falls(source))
    title = "Which signal knows that the next segment loses value? AUROC of falls against rises"
    yield Table.of(title, _signals(source, FALL_AUROC))
    title = "By position as a share of the final length (looks into the future), %"
    yield Table.of(title, _by_share(source))


def _by_position(source: Source) -> Iterator[Row]:
    for position in source.values(VALUE, "prefix_tokens", view=OPEN):
        yield source.line(columns("values"), {"view": OPEN, "prefix_tokens": position})


def _scores(source: Source) -> Iterator[Row]:
    for span in source.spans(SCORE_CORRELATION):
        yield {SEGMENT: positions(span), **source.line(columns("values-scores"), bin_at(span))}


def _signals(source: Source, what: str) -> Iterator[Row]:
    compared = [_compared(what, comparison) for comparison in COMPARISONS]
    against = shown(minus(what, "position"), "against position")
    for signal in source.values(what, "category"):
        yield {SIGNAL: signal, **source.line([*compared, against], {"category": signal})}


def _compared(what: str, comparison: str) -> Column:
    return shown(what, NAMES[comparison], at=(("view", comparison),))


def _turns(source: Source) -> Iterator[Row]:
    spans = source.places(TURNING_SHARE, "position_low", "position_high")
    for number, span in enumerate(spans):
        last = number == len(spans) - 1
        label = "all" if last and len(spans) > 2 else positions(span)
        yield {SEGMENT: label, **source.line(columns("values-turns"), bin_at(span))}


def _variances(source: Source) -> Iterator[Row]:
    for position in source.values(VARIANCES[0], "prefix_tokens"):
        yield source.line(columns("values-variances"), {"prefix_tokens": position})


def _falls_title(source: Source) -> str:
    shares = source.demanded(FALL_SHARE)
    share, number = shares["value"].iloc[0], shares["rollouts"].iloc[0]
    return (
        f"Segments over which half of the draws see the student's value fall by 25 points or more: "
        f"{in_unit(share, FRACTION)} % of {number}. The change there, points"
    )


def _falls(source: Source) -> Iterator[Row]:
    for half in source.values(FALL_CHANGE, "category"):
        yield {HALF: half, **source.line(columns("values-falls"), {"category": half})}


def _by_share(source: Source) -> Iterator[Row]:
    roles = [shown(VALUE, role, at=(("condition", role),)) for role in (STUDENT, TEACHER)]
    for low, high in source.places(VALUE, "position_low", "position_high", view=SHARE_OF_LENGTH):
        label = f"{percent(low):.0f}-{percent(high):.0f} %"
        at = {"view": SHARE_OF_LENGTH, **bin_at((low, high))}
        yield {POSITION: label, **source.line(roles, at)}
