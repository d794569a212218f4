"""One source for a figure that several runs of a pair can be drawn from.

merged = merge(item, runs)       # None where no run holds what the item needs
merged.run                       # the rows of all runs that agree
merged.left                      # runs that measured the same otherwise
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from decaylab.claims.advice_runs import problems_of
from decaylab.pages import gallery
from decaylab.paper.paper_items import PaperItem
from decaylab.runs.found_runs import COMPARISON, FoundRun

# What names a row, of which the rest was measured
NAMING = [
    "what",
    "condition",
    "checkpoint",
    "view",
    "category",
    "position_low",
    "prefix_tokens",
    "step",
    "estimand",
    "training_seed",
    "answer_rule",
]


@dataclass(frozen=True)
class MergedRun(FoundRun):
    """A run with other rows than its folder's: some of them, or those of other runs besides."""

    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def of(cls, run: FoundRun, rows: pd.DataFrame, name: str = "") -> MergedRun:
        return cls(run.folder, name or run.name, run.command, run.record, run.pair, rows)

    @property
    def measurements(self) -> pd.DataFrame:
        return self.rows


@dataclass(frozen=True)
class Merged:
    """What an item is drawn from. run: None where the item needs none. left: the runs that hold it
    too and are not drawn, since they measured the same otherwise."""

    item: PaperItem
    run: FoundRun | None
    left: tuple[FoundRun, ...] = ()

    @property
    def entry(self) -> gallery.Entry:
        return gallery.Entry(self.item, self.run, self.item.name)


def merge(item: PaperItem, runs: Sequence[FoundRun]) -> Merged | None:
    """The run with the most problems, of equals the one with the most students, and the students of
    those that agree with it on what both measured; None where no run holds what is needed."""
    if not item.commands:
        return Merged(item, None)
    holding = sorted(gallery.sources(item, runs), key=_size, reverse=True)
    if not holding:
        return None
    first, *others = holding
    frame, names, left = first.measurements, [first.name], []
    for run in others:
        rows = run.measurements
        if run.command == COMPARISON or not _agree(item.rows(frame), item.rows(rows)):
            left.append(run)
            continue
        more = rows[~rows["checkpoint"].isin(frame["checkpoint"])]
        if len(more):
            frame, names = pd.concat([frame, more], ignore_index=True), [*names, run.name]
    if len(names) == 1:
        return Merged(item, first, tuple(left))
    return Merged(item, MergedRun.of(first, frame, " and ".join(names)), tuple(left))


def _size(run: FoundRun) -> tuple[int, int]:
    return problems_of(run), run.measurements["checkpoint"].nunique()


def _agree(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether both measured something, and the same of all that both measured."""
    shared = first.merge(second, on=NAMING, suffixes=("", "_other"))
    same = np.isclose(shared["value"], shared["value_other"], equal_nan=True)
    return len(shared) > 0 and bool(same.all())
