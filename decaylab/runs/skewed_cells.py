"""Rows of cells whose mean a few problems may dominate.

    reverse_kl                   mean of the cell, without an interval; the note says why
    reverse_kl_largest_problem   the largest share of one problem in the cell's sum
    winsorised_reverse_kl        winsorised mean of problem means, with an interval and a band over
                                 the cells

Changes have the same rows. `decaylab.maths.winsorised` gives the reasons. Sums by problem in,
measurements out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decaylab.maths import token_means as tm
from decaylab.maths import winsorised as ws
from decaylab.maths.winsorised import SumsAndCounts, Winsorised
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import FRACTION, change

NO_TOKENS = "no tokens"
NOT_FINITE = "the value of some token is not finite"
NO_RATIO = "no ratio: 0 before, or the value of some token is not finite"
RARE_PROBLEMS = (
    "sensitive to rare problems: no interval of the plain mean holds; see the winsorised mean"
)

MOSTLY_ALIKE = "the same in nearly all problems: no interval"
NEAR_AN_END = "a share below 5 % or above 95 %: a few problems decide it, so it has no interval"


def near_an_end(share: float) -> bool:
    """Whether a share of the KL is so close to 0 or 1 that a few problems decide it.

    Intervals of smaller shares covered .54 to .89 on the embedded pair with 60 problems, others .91
    to .97.
    """
    return not 0.05 <= share <= 0.95


@dataclass(frozen=True)
class Cells:
    """The coordinates of the numbers.

    places: further columns of each cell's rows: coordinates, rollouts, run, a remark as note.
    problems: number of measured problems, with or without tokens. estimand: of the plain mean.
    among: appended to every estimand's name. banded: whether the cells form one curve with a band.
    """

    places: Sequence[dict[str, Any]]
    problems: int
    estimand: tm.Estimand = "tokens"
    level: float = 0.95
    seed: int = 0
    among: str = ""
    banded: bool = True

    def levels(
        self, what: str, unit: str, tokens: SumsAndCounts, *, shared: bool = True
    ) -> Iterator[Measurement]:
        """A quantity in each cell, from its sums and counts by problem, [problems, cells].

        shared: whether the sum is meaningful, and with it the largest problem's share.
        """
        yield from self._plain(what, unit, tm.means(*tokens, self.estimand), NOT_FINITE)
        if shared:
            yield from self._largest(what, tokens)
        yield from self._winsorised(what, unit, ws.winsorised(tokens, seed=self.seed))

    def changes(
        self, what: str, unit: str, after: SumsAndCounts, before: SumsAndCounts
    ) -> Iterator[Measurement]:
        """``what_change`` in the quantity's unit; ``what_relative_change`` as a fraction of it.

        The winsorised relative change averages the problems' ratios, so it is not the ratio of two
        winsorised levels: its estimand says so.
        """
        absolute, relative = change(what), f"{what}_relative_change"
        new, old = (tm.means(*side, self.estimand) for side in (after, before))
        difference, ratio = ws.winsorised_change(after, before, seed=self.seed)
        yield from self._plain(absolute, unit, tm.difference(new, old), NOT_FINITE)
        yield from self._winsorised(absolute, unit, difference, ws.CHANGE_ESTIMAND)
        yield from self._plain(relative, FRACTION, tm.ratio(new, old), NO_RATIO, relative=True)
        reaching = "reach it with more than 0 on both sides"
        yield from self._winsorised(relative, FRACTION, ratio, ws.RATIO_ESTIMAND, reaching)

    def _plain(
        self,
        what: str,
        unit: str,
        means: tm.CellMeans,
        undefined: str,
        *,
        relative: bool = False,
    ) -> Iterator[Measurement]:
        """The plain means; relative: ratios of them, minus 1."""
        errors, name, origin = means.standard_error, tm.ESTIMAND_NAMES[self.estimand], 0.0
        if relative:
            name, origin = f"{tm.RATIO_NAMES[self.estimand]}, minus 1", 1.0
        for cell, value in enumerate(means.value - origin):
            # A plain mean has no interval even where it is defined.
            note = RARE_PROBLEMS
            if not math.isfinite(value):
                note = undefined if means.tokens[cell] else NO_TOKENS
            row = self._row(what, unit, value, note, name, means, cell)
            yield Measurement(**row, standard_error=float(errors[cell]))

    def _largest(self, what: str, tokens: SumsAndCounts) -> Iterator[Measurement]:
        counted, name = tm.means(*tokens), f"{what}_largest_problem"
        for cell, share in enumerate(ws.largest_share(tokens[0])):
            note = "" if math.isfinite(share) else "nothing to share"
            row = self._row(name, FRACTION, share, note, "share of the total", counted, cell)
            yield Measurement(**row)

    def _winsorised(
        self,
        what: str,
        unit: str,
        estimate: Winsorised,
        estimand: str = ws.ESTIMAND,
        counted: str = "reach it",
    ) -> Iterator[Measurement]:
        low, high = ws.interval(estimate, level=self.level)
        band_low = band_high = np.full(len(low), math.nan)
        if self.banded:
            band_low, band_high = ws.band(estimate, level=self.level)
        columns = {"low": low, "high": high, "band_low": band_low, "band_high": band_high}
        columns["standard_error"] = estimate.standard_error
        for cell, value in enumerate(estimate.value):
            note = self._lacking(estimate, cell, counted)
            row = self._row(f"winsorised_{what}", unit, value, note, estimand, estimate, cell)
            ends = {name: float(column[cell]) for name, column in columns.items()}
            yield Measurement(**{**row, **ends, "method": ws.METHOD})

    def _lacking(self, estimate: Winsorised, cell: int, counted: str) -> str:
        """Why there is no interval, or ""."""
        present = int(estimate.problems[cell])
        if not present:
            return NO_TOKENS
        if present < ws.LEAST_PROBLEMS:
            needed = ws.problems_needed(present, self.problems)
            return (
                f"{present} of {self.problems} problems {counted}: too few for an interval, about "
                f"{needed} are needed"
            )
        if not math.isfinite(estimate.value[cell]):
            return NOT_FINITE
        return MOSTLY_ALIKE if estimate.alike[cell] else ""

    def _row(
        self,
        what: str,
        unit: str,
        value: float,
        note: str,
        estimand: str,
        counted: tm.CellMeans | Winsorised,
        cell: int,
    ) -> dict[str, Any]:
        place = self.places[cell]
        return {
            "what": what,
            "unit": unit,
            "value": float(value),
            "level": self.level,
            "seed": self.seed,
            "problems": int(counted.problems[cell]),
            "tokens": int(counted.tokens[cell]),
            "estimand": estimand + self.among,
            **place,
            "note": "; ".join(filter(None, (note, place.get("note", "")))),
        }
