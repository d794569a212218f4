"""The table behind the advice: every setting that sweeps compared with full rollouts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from decaylab.claims.advice_candidates import NOT_AHEAD, WORSE
from decaylab.claims.verdicts import POINTS
from decaylab.printing import percent
from decaylab.tables.model import Column, Number, Row, Table

ARM, VERDICT = Column("arm", "setting"), Column("verdict", "against full rollouts")
MEASURED = Column("measured_points", "measured (points)", "tenths", (1,), signed=True)
BOUND = Column("bound_points", "at least, at even odds (points)", "tenths", (2,), signed=True)
TOKENS = Column("tokens_ratio", "tokens", "value", (3,))
SECONDS = Column("seconds_ratio", "seconds per step", "value", (4,))
SEEDS = Column("seeds", "seeds", "whole", (5,))
PROBLEMS = Column("problems", "problems", "whole", (6,))
RUN = Column("run", "run", place=(7,))
TITLE = "Every setting compared with full rollouts"
CAPTION = (
    "Difference in accuracy from full rollouts: measured, with the interval over problems; and the "
    "bound at even odds with the interval for other problems and seeds{corrected}. Not ahead: a "
    "lead of {counts:g} points is excluded. Tokens and seconds: over those of full rollouts."
)


def settings(candidates: pd.DataFrame) -> Table:
    """The candidates of an advice (columns of `claims.advice_compared.COLUMNS`) as a table, in
    the order of the measured difference."""
    rows = candidates.sort_values("measured_gain", ascending=False, kind="stable")
    lines = [_line(row) for row in rows.to_dict("records")]
    among = candidates["among"].max()
    corrected = f", corrected for the choice among {among} settings" if among > 1 else ""
    caption = CAPTION.format(corrected=corrected, counts=percent(POINTS))
    return Table.of(TITLE, lines, name="settings", caption=caption)


def _line(row: Mapping[Hashable, Any]) -> Row:
    names = ("measured_gain", "problems_low", "problems_high", "gain_at_even_odds", "low", "high")
    measured, problems_low, problems_high, bound, low, high = (percent(row[name]) for name in names)
    note = "no interval for other seeds" if math.isnan(low) else ""
    return {
        ARM: row["arm"],
        VERDICT: row["verdict"],
        MEASURED: Number(measured, problems_low, problems_high),
        **({} if row["verdict"] in (NOT_AHEAD, WORSE) else {BOUND: Number(bound, low, high, note)}),
        TOKENS: Number(row["tokens_ratio"]),
        SECONDS: Number(row["seconds_ratio"]),
        SEEDS: Number(row["seeds"]),
        PROBLEMS: Number(row["problems"]),
        RUN: row["run"],
    }
