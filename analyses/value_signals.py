"""Does a signal know how a rollout will end? AUROC of signals at prefixes.

The labels are the outcomes of the student's fresh continuations of a prefix. A pair is a right and
a wrong one, of two prefixes; a signal is right about it if its value is higher at the prefix of the
right one. So .5 is ignorance, and below .5 low values go with right answers.

    all prefixes                             of any rollout and position
    same position                            of any rollout, at one position
    same position of the same problem        of two rollouts of one problem, at one position

Position itself is .5 by construction in the last two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import auroc as areas
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, Ints
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.value_prefixes import (
    FIRST_HALF,
    POSITION,
    SECOND_HALF,
    SIGNALS,
    STUDENT_COUNTS,
    Segments,
    Settings,
    segments,
)
from decaylab.runs.vocabulary import (
    ALL_PREFIXES,
    AREA,
    AUROC,
    BASE,
    COMPARISONS,
    FALL_AUROC,
    FALL_CHANGE,
    FALL_SHARE,
    FRACTION,
    OPEN,
    SAME_POSITION,
    SAME_PROBLEM,
    STUDENT,
    minus,
)

LEAST_FALL = 0.25
"""Smallest fall of the student's value over a segment that counts as a loss."""
BY_CONSTRUCTION = "0.5 by construction: the prefixes of a pair have one position"
OVER_DRAWS = "pairs of a right and a wrong continuation of different prefixes"
OVER_SEGMENTS = "pairs of a fall and a rise between draws at both ends, of different segments"
BETTER_SIDE = "each signal in the direction in which it knows more"


def measure(found: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows of all signals: for the outcome of fresh continuations, and for falls.

    Only prefixes at which every signal is defined take part, so that all of them are measured on
    the same ones: none at position 0, where nothing is written.

    found: rows of `decaylab.runs.value_prefixes.prefixes`.
    """
    between = segments(found, settings.grid)
    between = between.only((between.starts["position"] < settings.grid[-1]).to_numpy())
    return to_frame([*_outcomes(found, settings), *_falls(between, settings)])


def _outcomes(found: pd.DataFrame, settings: Settings) -> Iterator[Measurement]:
    defined = np.isfinite(found[[*SIGNALS]].to_numpy()).all(axis=1)
    later = (found["position"] > 0).to_numpy()
    note = estimated.left_out(
        int((later & ~defined).sum()), int(later.sum()), "prefixes have no score for some signal"
    )
    labels = _Labels(
        found[defined],
        found.loc[defined, f"{STUDENT_COUNTS}_right"].to_numpy(),
        found.loc[defined, f"{STUDENT_COUNTS}_draws"].to_numpy(),
    )
    yield from _areas(AUROC, labels, settings, OVER_DRAWS, note)


def _place(settings: Settings, **more: Any) -> dict[str, Any]:
    """Columns that all rows have, and some of their own."""
    alike = {"condition": STUDENT, "checkpoint": BASE, "answer_rule": settings.answer_rule}
    return alike | more


class _Labels:
    """Prefixes with right ones of some labels. right, number: counts, [prefixes]."""

    def __init__(self, prefixes: pd.DataFrame, right: Ints | Floats, number: Ints | Floats) -> None:
        self.prefixes, self.right, self.number = prefixes, right, number
        self.problems = prefixes["problem"].to_numpy()
        positions = prefixes["position"].to_numpy()
        both = prefixes.groupby(["position", "problem"], sort=False).ngroup().to_numpy()
        self.strata: dict[str, Ints | None] = {ALL_PREFIXES: None, SAME_POSITION: positions}
        self.strata[SAME_PROBLEM] = both.astype(np.int64)

    def area(self, scores: Floats, comparison: str, level: float) -> st.Estimate:
        return areas.auroc(
            scores, self.right, self.number, self.problems, self.strata[comparison], level=level
        )

    def difference(self, first: Floats, second: Floats, level: float) -> st.Estimate:
        """Of two areas over all prefixes."""
        return areas.difference(first, second, self.right, self.number, self.problems, level=level)


def _areas(
    what: str,
    labels: _Labels,
    settings: Settings,
    estimand: str,
    note: str = "",
) -> Iterator[Measurement]:
    """The area of each signal in each comparison, and over all prefixes its difference from that
    of position."""
    level = settings.level
    for comparison in COMPARISONS:
        for signal in SIGNALS:
            scores = labels.prefixes[signal].to_numpy(dtype=np.float64)
            area = labels.area(scores, comparison, level)
            fixed = signal == POSITION and comparison != ALL_PREFIXES
            place = _place(settings, view=comparison, category=signal, rollouts=len(scores))
            reason = BY_CONSTRUCTION if fixed else ""
            yield estimated.row(
                settings, what, AREA, area, reason, note, estimand=estimand, **place
            )
    position = _knowing(labels, POSITION, level)
    for signal in [*SIGNALS][1:]:
        change = labels.difference(_knowing(labels, signal, level), position, level)
        place = _place(settings, view=ALL_PREFIXES, category=signal, estimand=estimand)
        place["rollouts"] = len(labels.prefixes)
        yield estimated.row(
            settings, minus(what, "position"), AREA, change, BETTER_SIDE, note, **place
        )


def _knowing(labels: _Labels, signal: str, level: float) -> Floats:
    """A signal, turned round where low values go with right answers."""
    scores = labels.prefixes[signal].to_numpy(dtype=np.float64)
    low = labels.area(scores, ALL_PREFIXES, level).value < 0.5
    return -scores if low else scores


def _falls(between: Segments, settings: Settings) -> Iterator[Measurement]:
    """Segments over which the student's value falls by `LEAST_FALL`: one half of the draws chooses
    them, the other half measures by how much it fell there. And which signal knows of falls."""
    start, end = between.both_ends(FIRST_HALF)
    chosen = start - end >= LEAST_FALL - 1e-9
    problems = between.starts["problem"].to_numpy()
    share = st.proportion(chosen.astype(float), problems, level=settings.level)
    yield estimated.row(settings, FALL_SHARE, FRACTION, share, **_place(settings, view=OPEN))
    for half, of in ((FIRST_HALF, "the half that chose"), (SECOND_HALF, "the other half")):
        start, end = between.both_ends(half)
        mean = st.paired_difference(
            end[chosen], start[chosen], problems[chosen], level=settings.level
        )
        place = _place(settings, view=OPEN, category=f"by {of}")
        yield estimated.row(settings, FALL_CHANGE, FRACTION, mean, **place)
    defined = np.isfinite(between.starts[[*SIGNALS]].to_numpy()).all(axis=1)
    yield from _areas(FALL_AUROC, _fall_labels(between.only(defined)), settings, OVER_SEGMENTS)


def _fall_labels(between: Segments) -> _Labels:
    """Of the pairs of a draw at the start and one at the end of each segment that disagree: falls,
    from right to wrong, and rises.

    Where the value does not change, both are equally likely whatever the value is, so a signal
    that knows the value alone scores .5. (A fall of the estimated value is likelier by chance
    where values lie in the middle.)
    """
    start, end = between.start(STUDENT_COUNTS), between.end(STUDENT_COUNTS)
    drawn = start.draws
    # A rollout that has ended has its outcome in every draw.
    end_right = np.where(end.draws > 0, end.correct, end.correct * drawn)
    falls = start.correct * (drawn - end_right)
    rises = (drawn - start.correct) * end_right
    return _Labels(between.starts, falls, falls + rises)
