"""What a command prints about a run: verdict, the table that carries it, what must be known.

With ``verbose`` also every other table, how to read them, and rows without a value.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from decaylab.printing import magnitude
from decaylab.tables import terminal
from decaylab.tables.model import MARK, Cell, Column, Number, Table

COUNTS = ("whole", "floor")  # forms of numbers that are no result
NAMED = 4  # rows that are named one by one


@dataclass(frozen=True)
class Page:
    """What is printed about a run.

    subject: what was measured, on what. verdict: at most three sentences. parts: tables and texts,
    of which the first ``carrying`` carry the verdict. reading: what the words and signs of the
    tables mean. brackets: what the intervals of the tables are, printed if one shows any. notes:
    what must be known, and what to do about it. paths: where things are; more_paths: those that few
    readers need.
    """

    heading: str
    subject: str
    verdict: Sequence[str]
    parts: Iterable[Table | str]
    reading: Sequence[str] = ()
    notes: Sequence[str] = ()
    paths: Sequence[str] = ()
    more_paths: Sequence[str] = ()
    carrying: int = 1
    brackets: str = ""


def print_page(page: Page, folder: Path, *, verbose: bool = False) -> None:
    """Prints a page; without verbose the verdict and the tables that carry it.

    folder: of the run, for whoever wants the rest.
    """
    console = terminal.terminal()
    parts = list(page.parts)
    _say(console, f"\n[bold]{escape(page.heading)}[/bold]", *map(escape, page.verdict))
    shown = parts if verbose else [_terse(part) for part in parts[: page.carrying]]
    for part in shown:
        drawn = terminal.render(part, console) if isinstance(part, Table) else Text(f"\n{part}")
        console.print(drawn)
    _say(console, "", escape(page.subject))
    lines = [f"note: {note}" for note in page.notes]
    if page.brackets and any(map(_has_interval, shown)):
        lines.insert(0, page.brackets)
    if verbose:
        lines = [*page.reading, *lines]
    else:
        carrying = [part for part in parts[: page.carrying] if isinstance(part, Table)]
        lines += [*_left_out(carrying), *_floors(carrying)]
    for line in lines:
        _say(console, escape(f"- {line}"))
    console.print()
    paths = list(page.paths)
    if verbose:
        paths += page.more_paths
    elif len(parts) > page.carrying or page.reading:
        paths.append(f"more: decaylab show {shlex.quote(str(folder))} --verbose")
    for path in paths:
        console.print(path, markup=False, emoji=False, soft_wrap=True)


def _say(console: Console, *lines: str) -> None:
    wrap = not console.is_terminal
    for line in lines:
        console.print(line, emoji=False, soft_wrap=wrap)


# What is left out of a table that carries a verdict


def _terse(part: Table | str) -> Table | str:
    """A table without rows that hold no value, and without noise floors unless a number is near
    its own."""
    if not isinstance(part, Table):
        return part
    rows = [row for row in part.rows if _has_value(part.columns, row)]
    kept = []
    for place, column in enumerate(part.columns):
        cells = [row[place] for row in rows]
        if column.form == "floor" and not _near_floor(part):
            continue
        if column.numeric and cells and all(_is_undefined(cell) for cell in cells):
            continue
        kept.append(place)
    cut = tuple(tuple(row[place] for place in kept) for row in rows)
    return replace(part, columns=tuple(part.columns[place] for place in kept), rows=cut)


def _has_value(columns: Sequence[Column], row: Sequence[Cell]) -> bool:
    """Whether any number of a row is defined; counts and floors alone are not."""
    values = [cell for column, cell in zip(columns, row) if _is_value(column)]
    return not values or not all(_is_undefined(cell) for cell in values)


def _has_interval(part: Table | str) -> bool:
    if not isinstance(part, Table):
        return False
    cells = [cell for row in part.rows for cell in row]
    return any(isinstance(cell, Number) and not math.isnan(cell.low) for cell in cells)


def _is_value(column: Column) -> bool:
    return column.numeric and column.form not in COUNTS


def _is_undefined(cell: Cell) -> bool:
    return cell == "" or isinstance(cell, Number) and math.isnan(cell.value)


def _near_floor(table: Table) -> bool:
    return any(isinstance(cell, Number) and cell.under_floor for row in table.rows for cell in row)


def _left_out(tables: Sequence[Table]) -> Iterator[str]:
    """The rows that hold no value, by their labels."""
    for part in tables:
        label = 1 if part.columns and part.columns[0].form == "group" else 0
        empty = [row for row in part.rows if not _has_value(part.columns, row)]
        if empty:
            names = list(dict.fromkeys(part.printed(row)[label] for row in empty))
            named = ", ".join(names[:NAMED]) + " and others" * (len(names) > NAMED)
            yield f"left out, no value: {part.columns[label].name} {named} (--verbose says why)"


def _floors(tables: Sequence[Table]) -> Iterator[str]:
    """The noise floors of these tables in one line."""
    floors = [number.value for table in tables for number in table.column_of_form("floor")]
    known = [floor for floor in floors if not math.isnan(floor)]
    if any(map(_near_floor, tables)):
        yield (
            f"{MARK}: closer to no effect than twice its noise floor, so rounding may explain it; "
            "score with --head float32 or --dtype float32"
        )
    elif known:
        yield f"noise floor: at most {magnitude(max(known))} nats; no number is near its floor"
    elif floors:
        yield "noise floor: not measured; --floor-problems 32 measures it"
