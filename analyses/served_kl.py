"""Served KL: a lower bound of the reverse KL from a teacher served by an engine, by position.

Token statistics in, measurements out; no model, no file. The bound
(`served_scores.partial_reverse_kl`) comes with both policies' masses on the included ids: the
closer they are to 1, the tighter it is. Changes of the bound are not measured, because its gap may
change too. Every interval resamples problems.
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
    "student_mass": FRACTION,  # on the ids included in the bound
    "teacher_mass": FRACTION,
    LOG_RATIO: NATS,  # log student - log teacher of the response token
    "student_entropy": NATS,
}


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement.

    edges: beginnings of the position bins, ascending from 0; the last bin has no upper end. route:
    the ids behind the bound, in words, for the note of every row.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...]
    route: str
    estimand: tm.Estimand = "tokens"

    def __post_init__(self) -> None:
        check_edges(self.edges)


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Each quantity by position bin and over the whole response, per checkpoint and view."""
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
    """A quantity by position bin. The mean has no interval; the winsorised mean has one."""
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
    """A quantity over the whole response."""
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
