"""Measurements as cells of tables: looked up by their coordinates, and remembered for the caption.

A table is a list of columns, each of which says which quantity fills it, and a loop over the
coordinates of its rows: ``source.line(columns("kinds"), {"checkpoint": "base"})`` fills one row.
`columns.csv` lists the columns.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from decaylab import printing
from decaylab.errors import UserError
from decaylab.paper import publication
from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import (
    BASE,
    FRACTION,
    MEAN_OVER_ROLLOUTS,
    ONE_RUN,
    TEACHER,
    THESE_SEEDS,
)
from decaylab.tables.model import SOURCE_KEY, Cell, Column, Form, Number, Row

MEASURED, PUBLISHED = "measured", f"published, {publication.SOURCE}"
SOURCE = Column(SOURCE_KEY, "source", place=(9,))
At = Mapping[str, Any]  # coordinates of rows
EVERYWHERE: At = {}
PLACE = "place"  # of a record among the rows
DRAFT = "draft"  # in the note of a published number that the paper itself does not have
NAMES = {BASE: "student (base)", TEACHER: "teacher"}
WHOLE: dict[str, Any] = {"position_low": 0.0, "position_high": math.inf}
NOWHERE = {"position_low": math.nan, "position_high": math.nan, "category": "", "token": ""}
# Quantities printed with a sign. What could have been detected has none.
SIGNED = re.compile(r"(?!.*detectable).*(_change|_difference|_gain|_effect|_minus_[a-z]+)")


class Source:
    """The rows of one origin: measured, or published.

    pair: what the two policies are called. notes: whether numbers carry their notes, for footnotes.
    used: the rows that became cells.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        published: bool = False,
        pair: str = "",
        notes: bool = True,
    ) -> None:
        self.published, self.pair, self.notes = published, pair, notes
        self.frame = frame.reset_index(drop=True)
        self._records: Any = self.frame.assign(**{PLACE: self.frame.index}).to_dict("records")
        self._by_what: dict[Any, pd.DataFrame] = dict([*self.frame.groupby("what", sort=False)])
        self._used: set[Any] = set()

    @property
    def used(self) -> pd.DataFrame:
        return self.frame.iloc[sorted(self._used)]

    @property
    def name(self) -> str:
        """What the column of the source says."""
        return PUBLISHED if self.published else MEASURED

    def whats(self, pattern: str) -> list[str]:
        """The quantities whose whole name matches, in the order of the rows."""
        return [str(what) for what in self._by_what if re.fullmatch(pattern, str(what))]

    def rows(self, what: str, at: At = EVERYWHERE, **more: Any) -> pd.DataFrame:
        """The rows of a quantity at these coordinates; there may be none."""
        return vocabulary.select(self._frame(what), **at, **more)

    def demanded(self, what: str) -> pd.DataFrame:
        """The rows of a quantity that the run's options promise.

        Raises:
            UserError: there are none, as where run.json belongs to other measurements.
        """
        rows = self._frame(what)
        if rows.empty:
            raise UserError(
                f"the measurements have no {what}, which run.json promises: one of them was "
                "changed; rerun the run's command with --overwrite"
            )
        return rows

    def records(self, what: str, at: At) -> list[dict[str, Any]]:
        """The rows of a quantity at these coordinates, as dictionaries."""
        return [self._records[place] for place in self.rows(what, at).index]

    def _frame(self, what: str) -> pd.DataFrame:
        return self._by_what.get(what, self.frame[:0])

    def _record(self, what: str, at: At) -> dict[str, Any] | None:
        """The row at these coordinates, None where there is none."""
        frame = self._frame(what)
        places = frame.index[vocabulary.places(frame, **at)]
        if len(places) > 1:
            vocabulary.row(frame, what=what, **at)  # raises: it says where they are
        return self._records[places[0]] if len(places) else None

    def places(
        self, what: str, *columns: str, at: At = EVERYWHERE, **more: Any
    ) -> list[tuple[Any, ...]]:
        """The coordinates at which a quantity was measured, in the order of its rows."""
        frame = self._frame(what)
        matching = vocabulary.places(frame, **at, **more)
        values = [frame[column].to_numpy()[matching].tolist() for column in columns]
        # By their text, in which NaN equals itself.
        return [*{str(place): place for place in zip(*values, strict=True)}.values()]

    def values(self, what: str, column: str, at: At = EVERYWHERE, **more: Any) -> list[Any]:
        """The values of one coordinate at which a quantity was measured."""
        return [value for (value,) in self.places(what, column, at=at, **more)]

    @property
    def models(self) -> list[str]:
        """The students, and the teacher if it was measured, in the order of the rows."""
        return [str(name) for name in self.frame["checkpoint"].unique()]

    def largest(self, what: str, count: int, at: At) -> Iterator[Any]:
        """The rows of the largest values of a quantity, undefined ones left out."""
        rows = self.rows(what, at).dropna(subset="value")
        highest = rows.sort_values("value", ascending=False, kind="stable").head(count)
        yield from highest.itertuples()

    def spans(self, what: str) -> list[tuple[float, float]]:
        """The position bins of a quantity."""
        return sorted(self.places(what, "position_low", "position_high"))

    def line(
        self, columns: Iterable[Column], at: At = EVERYWHERE, what: str = "", ending: str = ""
    ) -> Row:
        """One row: each column filled at these coordinates and its own, which take precedence.

        what: the quantity of columns that name none, or ``{}`` in the name of theirs. ending: of
        all quantities, such as ``_change``. Coordinates may hold both.
        """
        place = dict(at)
        what, ending = place.pop("what", what), place.pop("ending", ending)
        return {column: self.cell(column, what, ending, place) for column in columns}

    def cell(self, column: Column, what: str, ending: str, at: At) -> Cell:
        what = (column.of or "{}").format(what) + ending
        at = {**at, **dict(column.at)}
        if column.field:
            return self.field(column.field, what, at, undefined=column.form == "floor")
        number = self.number(what, at, quiet=column.quiet)
        if column.bare and isinstance(number, Number):
            return Number(number.value, unit=number.unit, under_floor=number.under_floor)
        return number

    def number(
        self,
        what: str,
        at: At = EVERYWHERE,
        *,
        longest: float = math.nan,
        quiet: bool = False,
        **more: Any,
    ) -> Cell:
        """One number with its interval, fractions in per cent; "" where there is no such row.

        quiet: its note is dropped unless it is undefined.

        Raises:
            LookupError: there are several such rows.
        """
        row = self._record(what, {**at, **more})
        if row is None:
            return ""
        self._used.add(row[PLACE])
        unit = str(row["unit"])
        value, low, high = (scaled(float(row[end]), unit) for end in ("value", "low", "high"))
        return Number(
            value,
            low,
            high,
            self._note(row, quiet),
            longest,
            unit,
            under_floor=bool(row["under_floor"]),
            published=self.published,
            signed=SIGNED.fullmatch(what) is not None,
        )

    def field(self, field: str, what: str, at: At, *, undefined: bool = False) -> Cell:
        """A count or another field of a measurement, such as its p-value; "" where it has none.

        undefined: whether the mark of undefined stands where the field of a row is NaN.
        """
        row = self._record(what, at)
        if row is None:
            return ""
        value = float(row[field])
        if math.isnan(value):
            return Number(value) if undefined else ""
        uncounted = self.published and value == 0
        return "" if uncounted else Number(value)

    def _note(self, row: dict[str, Any], quiet: bool) -> str:
        note = str(row["note"])
        if self.published:
            # The only remark on a published number: that a draft alone has it.
            place = note.removeprefix(f"{publication.SOURCE}, ").partition(";")[0]
            return place if DRAFT in place else ""
        dropped = quiet and not math.isnan(row["value"])
        return note if self.notes and not dropped else ""


def scaled(value: float, unit: str) -> float:
    """A fraction in per cent, any other value as it is."""
    return printing.percent(value) if unit == FRACTION else value


# Columns


@cache
def columns(table: str, **words: Any) -> tuple[Column, ...]:
    """The columns of a table, as `columns.csv` lists them. words: for the braces of their names."""
    text = resources.files("decaylab.tables").joinpath("columns.csv").read_text(encoding="utf-8")
    listed = []
    for line in csv.DictReader(text.splitlines()):
        if line["table"] == table:
            listed.append(_column(line, words))
    return tuple(listed)


def _column(line: dict[str, Any], words: dict[str, Any]) -> Column:
    coordinates = dict(pair.split("=") for pair in line["at"].split())
    place = tuple(float(number) for number in line["place"].split())
    return Column(
        # Columns of the terminal have no key of their own: their cells name them.
        line["key"].format(**words) or f"{line['of']} {line['field']} {line['at']}",
        line["name"].format(**words),
        line["form"],
        place or (0,),
        bool(line["signed"]),
        line["of"],
        line["field"],
        tuple(coordinates.items()),
        bool(line["quiet"]),
        bool(line["bare"]),
    )


def percent(key: str, name: str, *place: float, **filled: Any) -> Column:
    """A column of fractions in per cent."""
    return Column(f"{key}_percent", f"{name} (%)", "tenths", (1, *place), **filled)


def shown(of: str, name: str, form: Form = "value", **filled: Any) -> Column:
    """A column of a table in the terminal; columns stand in the order of the specification."""
    return Column(f"{of} {filled}", name, form, of=of, **filled)


MODEL_NAME = Column("model", "model")  # of tables in the terminal: the name that was typed
GROUP = Column("group", "", "group")


# Words


def over_problems_of(measured: list[str]) -> str:
    """The estimand to show of these, by its interval over problems."""
    shown_first = (THESE_SEEDS, ONE_RUN, MEAN_OVER_ROLLOUTS)
    return next(estimand for estimand in shown_first if estimand in measured)


def spoken(label: str) -> str:
    """A model as a table names it."""
    return NAMES.get(label, label)


def ordered(labels: list[Any], first: tuple[str, ...] = (BASE, TEACHER)) -> list[Any]:
    """Base and teacher before the others, which keep their order."""
    return sorted(labels, key=lambda label: first.index(label) if label in first else len(first))


def positions(span: tuple[float, float]) -> str:
    """The first and the last position of a bin."""
    low, high = span
    if math.isinf(high):
        return f"{low:.0f}+"
    return f"{low:.0f}" if high == low + 1 else f"{low:.0f}-{high - 1:.0f}"


def bin_at(span: tuple[float, float]) -> dict[str, Any]:
    """A bin of positions as coordinates."""
    return {"position_low": span[0], "position_high": span[1]}


def judged_by(source: Source, what: str, rule: str) -> str:
    """An answer rule, with the number of problems that it judges where it does not apply to all."""
    judged = source.rows(what, condition=rule)["problems"].max()
    asked = source.rows(what)["problems"].max()
    return rule if judged == asked else f"{rule} ({judged} of {asked} problems)"
