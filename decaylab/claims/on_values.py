"""Claims on what knows how a rollout will end, by values along rollouts; and what one run says of
the teacher's score."""

from __future__ import annotations

import math

from decaylab.claims.of_students import unusable, would_test
from decaylab.claims.verdicts import (
    LEAST_PROBLEMS,
    Effect,
    Judged,
    Rule,
    decided,
    every,
    pick,
    side,
    widened,
)
from decaylab.claims.wording import Style, listed
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.value_prefixes import POSITION, UNCERTAINTY
from decaylab.runs.vocabulary import ALL_PREFIXES, AUROC, OPEN, SCORE_COVARIANCE, minus

AREA, AREA_CHANGE = Style(places=3), Style(places=3, signed=True)
KNOWS_LESS = Effect(0.0, -0.05)


def position(run: FoundRun) -> Judged | None:
    """Whether position knows more of the outcome than each measure of the student's uncertainty,
    over all prefixes."""
    rows = []
    for signal in UNCERTAINTY:
        at = {"view": ALL_PREFIXES, "category": signal}
        rows += pick(run.measurements, minus(AUROC, "position"), **at)
    own = pick(run.measurements, AUROC, view=ALL_PREFIXES, category=POSITION)
    if not rows or not own:
        return None
    verdict = every([decided(KNOWS_LESS, row, len(rows), each=True) for row in rows])
    differences = listed([f"{row.category} {AREA_CHANGE.number(row)}" for row in rows])
    words = [
        f"Position has an AUROC of {AREA.number(own[0])} for a correct answer over all prefixes.",
        f"Against it, each in the direction in which it knows more: {differences}.",
    ]
    weak = [*unusable(rows), would_test(verdict, KNOWS_LESS, rows)]
    sentences = " ".join(dict.fromkeys(filter(None, [*words, *weak])))
    return Judged(verdict, sentences, (*rows, *own), next(filter(None, reversed(weak)), ""))


def in_line(run: FoundRun) -> str:
    """Where the teacher's score of a segment is shown to go with the student's change of value,
    corrected for the number of segments."""
    rows = pick(run.measurements, SCORE_COVARIANCE, view=OPEN)
    if not rows:
        return ""
    if max(row.problems for row in rows) < LEAST_PROBLEMS:
        return (
            "Whether the teacher's score goes with the change of the student's value is not judged "
            f"by fewer than {LEAST_PROBLEMS} problems."
        )
    shown = {1: list[str](), -1: list[str]()}
    for row in rows:
        way = side(widened(row, len(rows)))
        if way:
            shown[way].append(_segment(row))
    if not any(shown.values()):
        return (
            "In no segment is the teacher's score shown to go with the change of the student's "
            "value, or against it."
        )
    parts = [f"{words} tokens {listed(shown[way])}" for way, words in WAYS.items() if shown[way]]
    return f"The teacher's score goes {listed(parts)}; elsewhere nothing is shown."


WAYS = {
    1: "with the change of the student's value over",
    -1: "against the change of the student's value over",
}
RULES: dict[str, Rule] = {"position-uncertainty": position}


def _segment(row: Measurement) -> str:
    if math.isinf(row.position_high):
        return f"from {row.position_low:.0f} on"
    return f"{row.position_low:.0f} to {row.position_high - 1:.0f}"
