"""Rows of measurements as cells of a table: looked up by their coordinates, and remembered for the
caption."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from decaylab import printing
from decaylab.paper import publication
from decaylab.tables.text import SOURCE_KEY, Cell, Column, Number

Row = dict[Column, Cell]
Record = dict[str, Any]  # a row of measurements by its columns, and where it stands among them

MEASURED, PUBLISHED = "measured", f"published, {publication.SOURCE}"
SOURCE = Column(SOURCE_KEY, "source", place=(9,))
DRAFT = "draft"  # in the note of a published number that the paper itself does not have
NAMES = {"base": "student (base)", "teacher": "teacher"}
PLACE = "place"
PLAIN = ("value", "low", "high")


class Source:
    """The rows of one origin: measured, or published. pair: what the two policies are called.

    used: the rows that became cells.
    """

    def __init__(self, frame: pd.DataFrame, *, published: bool, pair: str = "") -> None:
        self.published, self.pair = published, pair
        self.frame = frame.reset_index(drop=True)
        self._by_what: dict[str, list[Record]] = {}
        records: Any = self.frame.to_dict("records")
        for place, record in enumerate(records):
            self._by_what.setdefault(str(record["what"]), []).append({**record, PLACE: place})
        self._used: set[int] = set()

    @property
    def used(self) -> pd.DataFrame:
        return self.frame.iloc[sorted(self._used)]

    @property
    def name(self) -> str:
        """What stands in the column of the source."""
        return PUBLISHED if self.published else MEASURED

    def whats(self, pattern: str) -> list[str]:
        """The quantities whose whole name matches, in the order of the rows."""
        return [what for what in self._by_what if re.fullmatch(pattern, what)]

    def rows(self, what: str, **at: Any) -> list[Record]:
        """The rows of a quantity at these coordinates; NaN is a coordinate too."""
        wanted = {name: _coordinate(value) for name, value in at.items()}
        rows = self._by_what.get(what, [])
        return [
            row
            for row in rows
            if all(_coordinate(row[name]) == value for name, value in wanted.items())
        ]

    def places(self, what: str, *columns: str, **at: Any) -> list[tuple[Any, ...]]:
        """The coordinates that the rows of a quantity stand at, in their order."""
        found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for row in self.rows(what, **at):
            found.setdefault(
                tuple(_coordinate(row[name]) for name in columns),
                tuple(row[name] for name in columns),
            )
        return [*found.values()]

    def values(self, what: str, column: str, **at: Any) -> list[Any]:
        """What one coordinate takes on for a quantity."""
        return [value for (value,) in self.places(what, column, **at)]

    def number(
        self,
        what: str,
        *,
        longest: float = math.nan,
        signed: bool = False,
        quiet: bool = False,
        **at: Any,
    ) -> Cell:
        """One number with its interval, fractions in per cent; "" where there is no such row.

        quiet: its note is not told unless it is undefined.

        Raises:
            ValueError: several rows stand there.
        """
        rows = self.rows(what, **at)
        if not rows:
            return ""
        if len(rows) > 1:
            where = ", ".join(f"{column} {value}" for column, value in at.items())
            raise ValueError(
                f"{len(rows)} rows of {what} at {where}; give the measurements of one run"
            )
        row = rows[0]
        self._used.add(row[PLACE])
        value, low, high = (scaled(float(row[name]), str(row["unit"])) for name in PLAIN)
        note = self._draft(str(row["note"])) if self.published else str(row["note"])
        note = note if not quiet or math.isnan(value) or self.published else ""
        under = bool(row["under_floor"])
        return Number(
            value,
            low,
            high,
            note,
            longest,
            under_floor=under,
            published=self.published,
            signed=signed,
        )

    def field(self, column: str, what: str, **at: Any) -> Cell:
        """A count or a coordinate of the row of a number, such as its tokens; "" where nothing was
        counted."""
        rows = self.rows(what, **at)
        value = float(rows[0][column]) if rows else math.nan
        return "" if math.isnan(value) or (self.published and value == 0) else Number(value)

    def p(self, what: str, **at: Any) -> Cell:
        """The p-value of a number, corrected over those compared."""
        return self.field("p_value_holm", what, **at)

    def longest(self, condition: str) -> float:
        """The longest prefix that was continued."""
        return float(self.frame.loc[self.frame["condition"] == condition, "prefix_tokens"].max())

    def _draft(self, note: str) -> str:
        """The remark on a number that stands in a draft alone."""
        place = note.removeprefix(f"{publication.SOURCE}, ").partition(";")[0]
        return place if DRAFT in place else ""


def _coordinate(value: Any) -> Any:
    """What a coordinate is compared by: NaN equals itself."""
    return None if isinstance(value, float) and math.isnan(value) else value


def scaled(value: float, unit: str) -> float:
    """Fractions in per cent, to fifteen digits: 0.6585 is 65.85 and not 65.85000000000001."""
    return printing.percent(value) if unit == "fraction" else value


def words(key: str, name: str, place: int) -> Column:
    """A column of words, before those of numbers."""
    return Column(key, name, place=(0, place))


def percent(key: str, name: str, *place: float, signed: bool = False) -> Column:
    """A column of fractions in per cent; of differences of such, in points."""
    unit = "points" if signed else "percent"
    return Column(
        f"{key}_{unit}", f"{name} ({'points' if signed else '%'})", "tenths", (1, *place), signed
    )


def column(key: str, name: str, form: Any, *place: float) -> Column:
    return Column(key, name, form, (1, *place))


def spoken(label: str) -> str:
    """A model as a table names it."""
    return NAMES.get(label, label)


def ordered(labels: list[Any], first: tuple[str, ...] = ("base", "teacher")) -> list[Any]:
    """Base and teacher before the others, which keep their order."""
    return [one for one in first if one in labels] + [one for one in labels if one not in first]
