"""Tables in a terminal, by rich. `page` prints what stands around them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
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
    "teacher tokens": "teacher\ntokens",
    "handed back": "handed\nback",
}
WIDTH = 118
LABEL = 40  # columns that the label of a row gets at most


def terminal() -> Console:
    """As wide as the terminal; of a fixed width, and without colour, where there is none."""
    return Console(width=None if Console().is_terminal else WIDTH, highlight=False)


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
    count = problems["asked"]
    return f"{problems['name']}, {count} problem{'s' * (count != 1)} {how}"


def render(table: Table, console: Console) -> RenderableType:
    """A table under its title. Where it is too wide, intervals stand under their numbers; where it
    still is, the columns continue below beside the same labels."""
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
    if _width(beside, console) <= console.width:
        return titled(table.title, beside)
    # With labels in one line if that takes no more grids.
    ways = [[*_blocks(names, rows, narrow, console.width, left, one)] for one in (True, False)]
    blocks: list[RenderableType] = []
    for widths in min(ways, key=len):
        kept = [None if row is None else [row[place] for place in widths] for row in rows]
        columns = [names[place] for place in widths]
        blocks += [Text("")] * bool(blocks)
        blocks.append(grid(columns, kept, narrow, True, left, [*widths.values()]))
    return titled(table.title, *blocks)


def _width(grid: RichTable, console: Console) -> int:
    """The columns of the terminal that a grid takes where nothing is folded."""
    unlimited = console.options.update(max_width=10 * console.width)
    return Measurement.get(console, unlimited, grid).maximum


Rows = Sequence[Sequence[str] | None]


def _blocks(
    names: Sequence[str],
    rows: Rows,
    narrow: bool,
    width: int,
    left: Collection[str],
    one_line: bool,
) -> Iterator[dict[int, int]]:
    """The columns, by place, of as many grids as it takes for no number to be folded, each with its
    width; the labels, which come first, stand in each. one_line: labels are not folded either."""
    between, edge = (1, 0) if narrow else (3, 1)
    count = next(i for i, name in enumerate((*names, "")) if i and name not in left)
    least, wanted = [], []
    for place, name in enumerate(names):
        words = name in left
        full = _least(name, rows, place, narrow, words=words, whole=True)
        wanted.append(max(full, min(len(name), LABEL)))
        whole = one_line and place < count
        least.append(full if whole else _least(name, rows, place, narrow, words=words, whole=False))
    labels = dict(enumerate(least[:count]))
    all_room = width - sum(labels.values()) - between * count - edge
    block, room = {**labels}, all_room
    for place in range(count, len(names)):
        if least[place] + between > room and len(block) > count:
            yield _filled(block, wanted, room)
            block, room = {**labels}, all_room
        block[place] = least[place]
        room -= least[place] + between
    yield _filled(block, wanted, room)


def _filled(block: dict[int, int], wanted: Sequence[int], room: int) -> dict[int, int]:
    """The widths with the room that is left given to what would be folded."""
    filled = {}
    for place, width in block.items():
        more = max(0, min(wanted[place] - width, room))
        filled[place] = width + more
        room -= more
    return filled


def _least(name: str, rows: Rows, place: int, tight: bool, *, words: bool, whole: bool) -> int:
    """Columns of the terminal without which something would be folded that must not be: a number
    or an end of its interval, a word of a header or of a label.

    words: the column is one of labels. whole: these should not be folded at all.
    """
    parts = name.split()
    for row in rows:
        if row is not None and row[place]:
            cell = row[place] if words else _stacked(row[place], tight=tight)
            parts += cell.split() if words and not whole else cell.splitlines()
    return min(max(map(len, parts), default=0), LABEL)


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
    rows: Rows,
    narrow: bool,
    stacked: bool = False,
    left: Collection[str] = (),
    widths: Sequence[int] = (),
) -> RichTable:
    """A table of text; None among the rows is a rule. On a narrow terminal, or if stacked, an
    interval stands under its number.

    left: the columns of words; those of numbers are set to the right. widths: of the columns; by
    default as wide as they need to be.
    """
    box = SIMPLE_HEAD if narrow else HEAVY_HEAD
    padding = (0, 0 if narrow else 1)
    table = RichTable(box=box, header_style="", padding=padding, show_edge=not narrow)
    for place, column in enumerate(columns):
        table.add_column(
            NARROW_NAMES.get(column, column) if narrow else column,
            justify="left" if column in left else "right",
            overflow="fold",
            width=widths[place] if widths else None,
        )
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


def titled(title: str, *tables: RenderableType) -> Group:
    """Tables under one title, which is not folded to the width of a small table."""
    return Group(Text(f"\n{title}", style="bold"), *tables)


def print_preflight(report: PreflightReport) -> None:
    """The verdict and the checks of a pair."""
    console = terminal()
    console.print(f"\n[bold]{report.verdict}[/bold]\n")
    marks = {
        "ok": "[green]ok[/green]",
        "warning": "[yellow]warning[/yellow]",
        "no": "[red]no[/red]",
    }
    table = RichTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in report.checks:
        table.add_row(marks[check.verdict], check.name, Text(check.finding))
    console.print(table)
