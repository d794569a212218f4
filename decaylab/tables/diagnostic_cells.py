"""The numbers of a diagnostic as cells of tables: found by their coordinates, with intervals and
the noise floor.

Fractions are printed in per cent, all else in its unit. What is undefined is n/a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.text import Text

from decaylab.tables import terminal

if TYPE_CHECKING:
    from decaylab.commands.diagnose import DiagnosticResult

Span = tuple[float, float]
Lines = list[list[str]]

WHOLE: Span = (0.0, math.inf)
NOWHERE = {"span": None, "category": "", "token": ""}
MARK = "\u2020"
SIGNED = ("_change", "_minus_base", "_minus_teacher")  # endings of differences


class Page:
    """The measurements of one run, looked up by their coordinates, and how a table is laid out."""

    def __init__(self, result: DiagnosticResult, console: Console) -> None:
        self.frame, self.console = result.measurements, console
        self.options: dict[str, Any] = result.record["identity"]["options"]
        self.checkpoints = [str(name) for name in self.frame["checkpoint"].unique()]
        self.trained = self.checkpoints != ["base"]
        self.views = ("fresh", "frozen")[: 1 + self.trained]  # base alone is the same in both
        self.rows = {key_of(row): row for row in self.frame.itertuples()}

    def find(
        self, what: str, checkpoint: str, condition: str = "all", view: str = "fresh", **at: Any
    ) -> Any:
        """The row of one number, None where there is none. at: its span of positions, category and
        token, if it has."""
        return self.rows.get(
            (what, condition, view, checkpoint, *({**NOWHERE, **at}[name] for name in NOWHERE))
        )

    def judged(self, what: str, rule: str) -> str:
        """An answer rule, with the number of problems that it judges where it does not apply to
        all."""
        rows = self.frame[self.frame["what"] == what]
        own, every = (
            int(some["problems"].max()) for some in (rows[rows["condition"] == rule], rows)
        )
        return rule if own == every else f"{rule} ({own} of {every} problems)"

    def shown(
        self, whats: Iterable[str], checkpoint: str, condition: str, view: str = "fresh", **at: Any
    ) -> list[str]:
        """Several numbers of one place."""
        return [shown(self.find(what, checkpoint, condition, view, **at)) for what in whats]

    def spans(self, what: str) -> list[Span]:
        """The position bins of a quantity."""
        bins = self.frame[self.frame["what"] == what][
            ["position_low", "position_high"]
        ].drop_duplicates()
        return sorted(bins.itertuples(index=False, name=None))

    def values(self, column: str, what: str) -> list[str]:
        """What a coordinate takes on for a quantity, in the order of the measurements."""
        return [str(value) for value in self.frame[self.frame["what"] == what][column].unique()]

    def by_model(self, make: Callable[[str], Lines]) -> list[list[str] | None]:
        return sections((name, make(name)) for name in self.checkpoints)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str] | None],
        words: int = 1,
    ) -> RenderableType:
        """Intervals stand beside their numbers if the table is not too wide then. words: columns
        that hold no numbers."""
        if not rows:
            return Text(f"\n{title}: none")
        width, left = self.console.width, columns[:words]
        table = terminal.grid(columns, rows, width < terminal.WIDTH, left=left)
        if (
            Measurement.get(
                self.console, self.console.options.update(max_width=10 * width), table
            ).maximum
            > width
        ):
            table = terminal.grid(columns, rows, width < terminal.WIDTH, stacked=True, left=left)
        return terminal.titled(title, table)


def key_of(row: Any) -> tuple[Any, ...]:
    span = None if math.isnan(row.position_low) else (row.position_low, row.position_high)
    return (row.what, row.condition, row.view, row.checkpoint, span, row.category, row.token)


def sections(named: Iterable[tuple[str, Lines]]) -> list[list[str] | None]:
    """Lines under a name each, a rule between."""
    rows: list[list[str] | None] = []
    for name, lines in named:
        if lines:
            blank = [""] * (len(lines[0]) - 1)
            rows += [None, [name, *blank], *([f" {first}", *rest] for first, *rest in lines)]
    return rows[1:]


# Cells


def shown(row: Any) -> str:
    """``0.288 [0.242, 0.343]``, a fraction in per cent, a change with its sign; marked where twice
    its floor exceeds it."""
    if row is None:
        return ""
    signed = row.what.endswith(SIGNED)
    if row.unit == "fraction":
        text = terminal.percent(row, signed=signed)
    else:
        form = ("+" if signed else "") + (".1f" if row.unit == "tokens" else "#.3g")
        value, low, high = (
            f"{number:{form}}".rstrip(".") for number in (row.value, row.low, row.high)
        )
        text = (
            "n/a"
            if math.isnan(row.value)
            else value
            if math.isnan(row.low)
            else f"{value} [{low}, {high}]"
        )
    value, bracket, interval = text.partition(" [")
    return f"{value}{MARK if row.under_floor else ''}{bracket}{interval}"


def brief(row: Any) -> str:
    """The number alone, to three decimals."""
    shown = "n/a" if math.isnan(row.value) else "<.001" if row.value < 0.001 else f"{row.value:.3f}"
    return shown + MARK * bool(row.under_floor)


def with_floor(*rows: Any) -> list[str]:
    """Each number, and its noise floor in the next column."""
    return [
        cell for row in rows for cell in (shown(row), "" if row is None else small(row.noise_floor))
    ]


def small(floor: float) -> str:
    return "n/a" if math.isnan(floor) else "0" if floor == 0 else f"{floor:.0e}"


def positions(span: Span) -> str:
    """The first and the last position of a bin."""
    low, high = span
    return (
        f"{low:.0f}+"
        if math.isinf(high)
        else f"{low:.0f}"
        if high == low + 1
        else f"{low:.0f}-{high - 1:.0f}"
    )


def spoken(selector: str) -> str:
    return selector.replace("-x-", " x ")
