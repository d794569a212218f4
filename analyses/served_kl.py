"""Served KL: how far a student is from a teacher that only an engine holds, at least; by position. An approximation.

Token statistics in, measurements out; no model, no file. What is measured is a lower bound of the reverse KL
(`served_scores.partial_reverse_kl`), with both policies' masses on the ids behind it: the nearer to 1 they are, the less the
bound can miss. No change of a bound is measured: how much it misses may change as well. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from decaylab import token_means as tm
from decaylab.clusters import Ints
from decaylab.measurements import Measurement, to_frame
from decaylab.statistics import ALIKE, ONE_PROBLEM
from decaylab.token_table import Scored, TokenTable, check_edges

QUANTITIES = {
    "reverse_kl_bound": "nats",
    "student_mass": "fraction",  # of each policy on the ids behind the bound
    "teacher_mass": "fraction",
    "log_ratio": "nats",  # log student - log teacher of the token that was taken
    "student_entropy": "nats",
}
SIGNED = "log_ratio"
NO_TOKENS = "no tokens"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. route: what the bound stands on, in words: it is
    told in every row. level: of every interval and band.

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
    """Each quantity by position bin and over the whole response, of each checkpoint in each view."""
    rows: list[Measurement] = []
    for one in scored:
        for quantity in QUANTITIES:
            rows += _rows(quantity, one, settings, settings.edges)
            rows += _rows(quantity, one, settings, (0,), name=f"mean_{quantity}")
    return to_frame(rows)


def _rows(
    quantity: str, one: Scored, settings: Settings, edges: tuple[int, ...], name: str = ""
) -> Iterable[Measurement]:
    """A row for each bin; a band where there are several."""
    means, rollouts = _means(one.tokens, quantity, edges, settings.estimand)
    low, high = tm.interval(means, level=settings.level)
    band_low, band_high = np.full((2, len(edges)), math.nan)
    if len(edges) > 1:
        critical = tm.band_multiplier(means, level=settings.level, seed=settings.seed)
        band_low, band_high = tm.interval(means, level=settings.level, critical=critical)
    for cell, (start, end) in enumerate(pairwise((*edges, math.inf))):
        yield Measurement(
            what=name or quantity,
            condition="all",
            view=one.view,
            checkpoint=one.checkpoint,
            unit=QUANTITIES[quantity],
            value=float(means.value[cell]),
            position_low=float(start),
            position_high=end,
            low=float(low[cell]),
            high=float(high[cell]),
            band_low=float(band_low[cell]),
            band_high=float(band_high[cell]),
            standard_error=float(means.standard_error[cell]),
            method=means.method,
            estimand=tm.ESTIMAND_NAMES[settings.estimand],
            problems=int(means.problems[cell]),
            rollouts=int(rollouts[cell]),
            tokens=int(means.tokens[cell]),
            level=settings.level,
            seed=settings.seed,
            run=settings.run,
            note="; ".join(filter(None, (f"approximation: {settings.route}", _note(means, cell)))),
        )


def _means(
    table: TokenTable, quantity: str, edges: tuple[int, ...], estimand: tm.Estimand
) -> tuple[tm.CellMeans, Ints]:
    """By bin, and how many rollouts reach each."""
    column: Callable[[str], Any] = table.__getitem__
    values = column("student_logprob") - column("teacher_logprob") if quantity == SIGNED else column(quantity)
    problems, bins, size = table.token_problems, table.bins(edges), (table.problem_count, len(edges))
    sums, counts = (tm.sums_by_problem(one, problems, bins, *size) for one in (values, None))
    reaching = (table.lengths[:, None] > np.array(edges)).sum(axis=0)
    return tm.means(sums, counts, estimand, signed=quantity == SIGNED), reaching


def _note(means: tm.CellMeans, cell: int) -> str:
    if means.tokens[cell] == 0:
        return NO_TOKENS
    if means.alike[cell]:
        return ALIKE
    return ONE_PROBLEM if means.problems[cell] < 2 else ""
