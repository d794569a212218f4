"""Served KL: at least how far a student is from a teacher that only an engine holds, by position.
An approximation.

Token statistics in, measurements out; no model, no file. What is measured is a lower bound of the
reverse KL (`served_scores.partial_reverse_kl`), with both policies' masses on the ids behind it:
the nearer to 1 they are, the less the bound can miss. No change of a bound is measured, because how
much it misses may change as well. Every interval resamples problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import token_means as tm
from decaylab.maths.winsorised import SumsAndCounts
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import ALL, FRACTION, NATS
from decaylab.tokens.token_table import Scored, TokenTable, check_edges

BOUND, LOG_RATIO = "reverse_kl_bound", "log_ratio"
QUANTITIES = {
    BOUND: NATS,
    "student_mass": FRACTION,  # of each policy on the ids behind the bound
    "teacher_mass": FRACTION,
    LOG_RATIO: NATS,  # log student - log teacher of the token that was taken
    "student_entropy": NATS,
}


@dataclass(frozen=True)
class Settings(rows.Settings):
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. route: what the bound
    stands on, in words, for the note of every row.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...]
    route: str
    estimand: tm.Estimand = "tokens"

    def __post_init__(self) -> None:
        check_edges(self.edges)


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Each quantity by position bin and over the whole response, of each checkpoint in each
    view."""
    measured: list[Measurement] = []
    for each in scored:
        place = {"condition": ALL, "view": each.view, "checkpoint": each.checkpoint}
        for quantity in QUANTITIES:
            measured += _bins(quantity, each.tokens, place, settings)
            measured.append(_whole(quantity, each.tokens, place, settings))
    return to_frame(measured)


def _bins(
    quantity: str, table: TokenTable, place: dict[str, Any], settings: Settings
) -> Iterator[Measurement]:
    """By position bin. The mean has no interval; the winsorised mean beside it has one."""
    sums, counts = _tokens(table, quantity, settings.edges)
    places = []
    for span in rows.spans(settings.edges):
        rollouts = int((table.lengths > span["position_low"]).sum())
        places.append({**place, **span, "rollouts": rollouts})
    problems = int(counts.any(axis=1).sum())
    cells = rows.skewed(settings, places, problems, estimand=settings.estimand)
    levels = cells.levels(quantity, QUANTITIES[quantity], (sums, counts), shared=quantity == BOUND)
    for row in levels:
        yield replace(row, note=rows.joined(_approximation(settings), row.note))


def _whole(
    quantity: str, table: TokenTable, place: dict[str, Any], settings: Settings
) -> Measurement:
    """Over the whole response."""
    signed = quantity == LOG_RATIO  # all others are never below 0
    means = tm.means(*_tokens(table, quantity, (0,)), settings.estimand, signed=signed)
    (estimate,) = rows.of_cells(means, level=settings.level, undefined="")
    (span,) = rows.spans((0,))
    return rows.row(
        settings,
        f"mean_{quantity}",
        QUANTITIES[quantity],
        replace(estimate, note=rows.joined(_approximation(settings), estimate.note)),
        **place,
        **span,
        estimand=tm.ESTIMAND_NAMES[settings.estimand],
        rollouts=int((table.lengths > 0).sum()),
        tokens=int(means.tokens[0]),
    )


def _tokens(table: TokenTable, quantity: str, edges: tuple[int, ...]) -> SumsAndCounts:
    """Sum of a quantity over each problem's tokens in each bin, and their number."""
    values: Any
    if quantity == LOG_RATIO:
        values = np.subtract(table["student_logprob"], table["teacher_logprob"])
    else:
        values = table[quantity]
    problems, bins = table.token_problems, table.bins(edges)
    size = (table.problem_count, len(edges))
    sums = tm.sums_by_problem(values, problems, bins, *size)
    return sums, tm.sums_by_problem(None, problems, bins, *size)


def _approximation(settings: Settings) -> str:
    return f"approximation: {settings.route}"
