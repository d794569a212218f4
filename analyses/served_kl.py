"""Served KL: how far a student is from a teacher that only an engine holds, at least; by position.
An approximation.

Token statistics in, measurements out; no model, no file. What is measured is a lower bound of the
reverse KL (`served_scores.partial_reverse_kl`), with both policies' masses on the ids behind it:
the nearer to 1 they are, the less the bound can miss. No change of a bound is measured: how much it
misses may change as well. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd

from decaylab.maths import token_means as tm
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM
from decaylab.maths.winsorised import SumsAndCounts
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NO_TOKENS, Cells
from decaylab.tokens.token_table import Scored, TokenTable, check_edges

QUANTITIES = {
    "reverse_kl_bound": "nats",
    "student_mass": "fraction",  # of each policy on the ids behind the bound
    "teacher_mass": "fraction",
    "log_ratio": "nats",  # log student - log teacher of the token that was taken
    "student_entropy": "nats",
}
BOUND, SIGNED = "reverse_kl_bound", "log_ratio"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. route: what the bound
    stands on, in words: it is told in every row. level: of every interval and band.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...]
    route: str
    estimand: tm.Estimand = "tokens"
    level: float = 0.95
    seed: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        check_edges(self.edges)


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Each quantity by position bin and over the whole response, of each checkpoint in each
    view."""
    rows: list[Measurement] = []
    for one in scored:
        for quantity in QUANTITIES:
            rows += _bins(quantity, one, settings)
            rows.append(_whole(quantity, one, settings))
    return to_frame(rows)


def _bins(quantity: str, one: Scored, settings: Settings) -> Iterable[Measurement]:
    """By position bin. The mean has no interval, the winsorised mean beside it has one."""
    tokens = _tokens(one.tokens, quantity, settings.edges)
    ends = pairwise((*settings.edges, math.inf))
    common = {
        "condition": "all",
        "view": one.view,
        "checkpoint": one.checkpoint,
        "run": settings.run,
    }
    places = [
        {
            **common,
            "position_low": float(low),
            "position_high": high,
            "rollouts": int((one.tokens.lengths > low).sum()),
        }
        for low, high in ends
    ]
    measured = int(tokens[1].any(axis=1).sum())
    cells = Cells(places, measured, settings.estimand, settings.level, settings.seed)
    for row in cells.levels(quantity, QUANTITIES[quantity], tokens, shared=quantity == BOUND):
        yield replace(row, note=_approximation(settings, row.note))


def _whole(quantity: str, one: Scored, settings: Settings) -> Measurement:
    """Over the whole response."""
    tokens = _tokens(one.tokens, quantity, (0,))
    means = tm.means(*tokens, settings.estimand, signed=quantity == SIGNED)
    low, high = tm.interval(means, level=settings.level)
    return Measurement(
        what=f"mean_{quantity}",
        condition="all",
        view=one.view,
        checkpoint=one.checkpoint,
        unit=QUANTITIES[quantity],
        value=float(means.value[0]),
        position_low=0.0,
        position_high=math.inf,
        low=float(low[0]),
        high=float(high[0]),
        standard_error=float(means.standard_error[0]),
        method=means.method,
        estimand=tm.ESTIMAND_NAMES[settings.estimand],
        problems=int(means.problems[0]),
        rollouts=int((one.tokens.lengths > 0).sum()),
        tokens=int(means.tokens[0]),
        level=settings.level,
        seed=settings.seed,
        run=settings.run,
        note=_approximation(settings, _note(means, 0)),
    )


def _tokens(table: TokenTable, quantity: str, edges: tuple[int, ...]) -> SumsAndCounts:
    """Sum of a quantity over each problem's tokens in each bin, and their number."""
    column: Callable[[str], Any] = table.__getitem__
    values = (
        column("student_logprob") - column("teacher_logprob")
        if quantity == SIGNED
        else column(quantity)
    )
    problems, bins, size = (
        table.token_problems,
        table.bins(edges),
        (table.problem_count, len(edges)),
    )
    sums, counts = (tm.sums_by_problem(column, problems, bins, *size) for column in (values, None))
    return sums, counts


def _approximation(settings: Settings, note: str) -> str:
    return "; ".join(filter(None, (f"approximation: {settings.route}", note)))


def _note(means: tm.CellMeans, cell: int) -> str:
    if means.tokens[cell] == 0:
        return NO_TOKENS
    if means.alike[cell]:
        return ALIKE
    return ONE_PROBLEM if means.problems[cell] < 2 else ""
