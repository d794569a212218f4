"""Tables in a terminal, by rich; and the page that a command prints around its tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from decaylab.tables.model import Table

if TYPE_CHECKING:
    from decaylab.planner.preflight import PreflightReport

NARROW_NAMES = {
    "no prefix": "no\nprefix",
    "p (Holm)": "p\n(Holm)",
    "student itself": "student\nitself",
}
WIDTH = 118


def terminal() -> Console:
    """As wide as the terminal; of a fixed width, and without colour, where there is none."""
    return Console(width=None if Console().is_terminal else WIDTH, highlight=False)


def print_page(
    heading: str,
    subject: str,
    parts: Iterable[Table | str],
    lines: Iterable[str],
    paths: Iterable[str],
    *,
    advice: str = "",
) -> None:
    """What a command prints: what was measured, tables and texts, remarks, where things are.

    heading: in bold, before the subject. lines: remarks, a bullet each.
    """
    console = terminal()
    wrap = not console.is_terminal
    console.print(f"\n[bold]{heading}[/bold]: {escape(subject)}", soft_wrap=wrap)
    for part in parts:
        console.print(render(part, console) if isinstance(part, Table) else Text(f"\n{part}"))
    remarks = list(lines)
    if remarks:
        console.print()
    for line in remarks:
        console.print(f"- {line}", markup=False, emoji=False, soft_wrap=wrap)
    if advice:
        console.print(Text.assemble(("\nAdvice\n", "bold"), advice))
    console.print("\n" + "\n".join(paths), markup=False, emoji=False, soft_wrap=True)


def measured_paths(folder: Path, figure: Path | None = None) -> list[str]:
    """Where a run has its figure and its measurements."""
    measurements = f"measurements: {folder / 'measurements.csv'}  (and .parquet)"
    if figure is None:
        return [measurements]
    return [f"figure: {figure}  (and .svg)", measurements]


def asked(options: dict[str, Any], problems: dict[str, Any], rollouts: str) -> str:
    """The problems and how rollouts were sampled, or which rollouts were given."""
    how = (
        f"x {options['samples']} samples at T = {options['temperature']:g}, "
        f"budget {options['max_tokens']} tokens"
    )
    if options.get("rollouts"):
        how = f"{rollouts} {options['rollouts']}"
    return f"{problems['name']}, {problems['asked']} problems {how}"


def render(table: Table, console: Console) -> RenderableType:
    """A table under its title. Intervals stand under their numbers where it is too wide else."""
    if not table.rows:
        return Text(f"\n{table.title}: none")
    names: list[str] = []
    left: list[str] = []
    for column in table.columns:
        if column.form == "group":
            continue
        # The first column stands under the names of groups, where there are any.
        grouped = not names and table.columns[0].form == "group"
        names.append(column.name)
        if grouped or not column.numeric:
            left.append(column.name)
    rows, narrow = _in_groups(table), console.width < WIDTH
    beside = grid(names, rows, narrow, left=left)
    unlimited = console.options.update(max_width=10 * console.width)
    if Measurement.get(console, unlimited, beside).maximum > console.width:
        beside = grid(names, rows, narrow, stacked=True, left=left)
    return titled(table.title, beside)


def _in_groups(table: Table) -> list[list[str] | None]:
    """The rows as text: under the name of their group, groups apart by a rule (None)."""
    grouped = table.columns[0].form == "group"
    rows: list[list[str] | None] = []
    before = ""
    for row in table.rows:
        cells = table.printed(row)
        group = cells.pop(0) if grouped else ""
        if group != before:
            if rows:
                rows.append(None)
            rows.append([group] + [""] * (len(cells) - 1))
        if group:
            cells[0] = f" {cells[0]}"
        before = group
        rows.append(cells)
    return rows


def grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[str] | None],
    narrow: bool,
    *,
    stacked: bool = False,
    left: Collection[str] = (),
) -> RichTable:
    """A table of text; None among the rows is a rule. On a narrow terminal, or if stacked, an
    interval stands under its number.

    left: the columns of words; those of numbers are set to the right.
    """
    box = SIMPLE_HEAD if narrow else HEAVY_HEAD
    padding = (0, 0 if narrow else 1)
    table = RichTable(box=box, header_style="", padding=padding, show_edge=not narrow)
    for column in columns:
        shown = NARROW_NAMES.get(column, column) if narrow else column
        table.add_column(shown, justify="left" if column in left else "right", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
            continue
        cells = list(row)
        if narrow or stacked:
            cells = [_stacked(cell, tight=narrow) for cell in cells]
        # Text, since names and tokens may hold what rich takes for markup.
        table.add_row(*map(Text, cells))
    return table


def _stacked(cell: str, *, tight: bool) -> str:
    number, bracket, interval = cell.partition(" [")
    if tight:
        number, interval = number.replace(" %", "%"), interval.replace(", ", ",")
    return f"{number}\n[{interval}" if bracket else number


def titled(title: str, table: RichTable) -> Group:
    """A table under its title, which is not folded to the width of a small table."""
    return Group(Text(f"\n{title}", style="bold"), table)


def print_preflight(report: PreflightReport) -> None:
    """The checks of a pair and the verdict."""
    console = terminal()
    marks = {
        "ok": "[green]ok[/green]",
        "warning": "[yellow]warning[/yellow]",
        "no": "[red]no[/red]",
    }
    table = RichTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in report.checks:
        table.add_row(marks[check.verdict], check.name, Text(check.finding))
    console.print(table)
    console.print(f"\n[bold]{report.verdict}[/bold]")
