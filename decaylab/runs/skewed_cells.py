"""Rows of cells in which a few problems may hold much of a mean: the mean without an interval, and
what has one.

    reverse_kl                   mean of the cell; its interval is undefined, and the note says why
    reverse_kl_largest_problem   share of the cell's sum that the problem with the most holds
    winsorised_reverse_kl        mean of problem means without the extremes, with an interval and a
    band over the cells

Likewise for changes. See `decaylab.maths.winsorised` for why. Sums by problem in, measurements out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from decaylab.maths import token_means as tm
from decaylab.maths import winsorised as ws
from decaylab.maths.winsorised import SumsAndCounts, Winsorised
from decaylab.runs.measurements import Measurement

NO_TOKENS = "no tokens"
NOT_FINITE = "the value of some token is not finite"
NO_RATIO = "no ratio: 0 before, or the value of some token is not finite"
RARE_PROBLEMS = (
    "sensitive to rare problems: no interval of the plain mean holds; see the winsorised mean"
)

MOSTLY_ALIKE = "the same in nearly all problems: no interval"
NEAR_AN_END = "a share below 5 % or above 95 %: a few problems decide it, so it has no interval"


def near_an_end(share: float) -> bool:
    """Whether a share of the KL is so small, or so large, that a few problems decide it.

    Intervals of smaller shares covered .54 to .89 on the embedded pair with 60 problems, others .91
    to .97.
    """
    return not 0.05 <= share <= 0.95


@dataclass(frozen=True)
class Cells:
    """Where the numbers stand.

    places: of each cell what its rows hold beside the number: coordinates, rollouts, run, a remark
    as note. problems: that were measured, whatever their tokens. estimand: of the plain mean.
    among: what follows the name of every estimand.
    banded: the cells are one curve, which gets a band.
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
        """A quantity in each cell, of its sums and counts by problem, [problems, cells].

        shared: its sum has a meaning, so that the largest problem's share of it has one too.
        """
        yield from self._plain(what, unit, tm.means(*tokens, self.estimand), NOT_FINITE)
        if shared:
            yield from self._largest(what, tokens)
        yield from self._winsorised(what, unit, ws.winsorised(tokens, seed=self.seed))

    def changes(
        self, what: str, unit: str, after: SumsAndCounts, before: SumsAndCounts
    ) -> Iterator[Measurement]:
        """``what_change`` in the quantity's unit, and ``what_relative_change`` as a fraction of
        what it was."""
        new, old = (tm.means(*side, self.estimand) for side in (after, before))
        change, relative = ws.winsorised_change(after, before, seed=self.seed)
        yield from self._plain(f"{what}_change", unit, tm.difference(new, old), NOT_FINITE)
        yield from self._winsorised(f"{what}_change", unit, change)
        yield from self._plain(
            f"{what}_relative_change", "fraction", tm.ratio(new, old), NO_RATIO, origin=1.0
        )
        yield from self._winsorised(
            f"{what}_relative_change",
            "fraction",
            relative,
            "reach it with more than 0 on both sides",
        )

    def _plain(
        self, what: str, unit: str, means: tm.CellMeans, undefined: str, origin: float = 0.0
    ) -> Iterator[Measurement]:
        """The plain means, counted from an origin."""
        for cell, place in enumerate(self.places):
            value = float(means.value[cell] - origin)
            note = (
                RARE_PROBLEMS
                if math.isfinite(value)
                else undefined
                if means.tokens[cell]
                else NO_TOKENS
            )
            error = float(means.standard_error[cell])
            name = tm.ESTIMAND_NAMES[self.estimand]
            yield self._row(what, unit, value, place, note, name, means, cell, standard_error=error)

    def _largest(self, what: str, tokens: SumsAndCounts) -> Iterator[Measurement]:
        counted = tm.means(*tokens)
        for cell, (place, share) in enumerate(
            zip(self.places, ws.largest_share(tokens[0]), strict=True)
        ):
            note = "" if math.isfinite(share) else "nothing to share"
            yield self._row(
                f"{what}_largest_problem",
                "fraction",
                share,
                place,
                note,
                "share of the total",
                counted,
                cell,
            )

    def _winsorised(
        self, what: str, unit: str, found: Winsorised, counted: str = "reach it"
    ) -> Iterator[Measurement]:
        low, high = ws.interval(found, level=self.level)
        band_low, band_high = (
            ws.band(found, level=self.level) if self.banded else (low * math.nan,) * 2
        )
        errors = found.standard_error
        for cell, place in enumerate(self.places):
            ends = {
                "low": low,
                "high": high,
                "band_low": band_low,
                "band_high": band_high,
                "standard_error": errors,
            }
            numbers = {name: float(column[cell]) for name, column in ends.items()}
            value, note = float(found.value[cell]), self._lacking(found, cell, counted)
            yield self._row(
                f"winsorised_{what}",
                unit,
                value,
                place,
                note,
                ws.ESTIMAND,
                found,
                cell,
                method=ws.METHOD,
                **numbers,
            )

    def _lacking(self, found: Winsorised, cell: int, counted: str) -> str:
        """Why there is no interval; nothing where there is one."""
        present = int(found.problems[cell])
        if not present:
            return NO_TOKENS
        if present < ws.LEAST_PROBLEMS:
            needed = ws.problems_needed(present, self.problems)
            return (
                f"{present} of {self.problems} problems {counted}: too few for an interval, "
                f"about {needed} would do"
            )
        if not math.isfinite(found.value[cell]):
            return NOT_FINITE
        return MOSTLY_ALIKE if found.alike[cell] else ""

    def _row(
        self,
        what: str,
        unit: str,
        value: float,
        place: dict[str, Any],
        note: str,
        estimand: str,
        counted: tm.CellMeans | Winsorised,
        cell: int,
        **more: Any,
    ) -> Measurement:
        note = "; ".join(filter(None, (note, place.get("note", ""))))
        counts = {"problems": int(counted.problems[cell]), "tokens": int(counted.tokens[cell])}
        common = {"unit": unit, "value": value, "level": self.level, "seed": self.seed}
        return Measurement(
            what=what,
            **{
                **common,
                **counts,
                "estimand": estimand + self.among,
                **place,
                **more,
                "note": note,
            },
        )
