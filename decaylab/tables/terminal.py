"""What a command prints: measurements as tables for people, in per cent, with intervals beside
every number."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from decaylab.commands.prefix_decay import PrefixDecayResult
    from decaylab.planner.preflight import PreflightReport

NARROW_NAMES = {
    "unprefixed": "un-\nprefixed",
    "p (Holm)": "p\n(Holm)",
    "student itself": "student\nitself",
}
WIDTH = 118
CONTROL_MEANING = {
    "own-prefix": "its own prefix (must stay flat)",
    "correct-so-far": "prefix correct so far",
    "already-wrong": "prefix already wrong",
    "ended-right": "rollout that ends right (future)",
    "ended-wrong": "rollout that ends wrong (future)",
    "swapped": "prefix of another problem",
    "reverse": "student continues teacher",
}


def print_prefix_decay(result: PrefixDecayResult) -> None:
    """The headline curve, the controls, the paper's view and the lines that sum up."""
    console = terminal()
    frame = result.measurements
    identity, rule = result.record["identity"], str(frame["answer_rule"].iloc[0])
    options, samples = identity["options"], identity["options"]["samples"]
    console.print(
        f"\n[bold]Teacher decay[/bold]: {escape(options['teacher'])} on prefixes of "
        f"{escape(options['student'])}; "
        f"{escape(identity['problems']['name'])}, {identity['problems']['asked']} problems x "
        f"{samples} samples, "
        f"T = {options['temperature']}, budget {options['max_tokens']} tokens, answer rule {rule}",
        soft_wrap=not console.is_terminal,
    )
    narrow = console.width < WIDTH
    console.print(_headline(frame, samples, narrow))
    if _conditions(frame):
        console.print(_controls(frame, narrow))
    if len(pick(frame, "accuracy", "student-turns")):
        console.print(_turns(frame, narrow))
    console.print(_carry_forward(frame, narrow))
    for line in (*summary(frame), *(f"note: {note}" for note in result.notes)):
        console.print(f"- {line}", markup=False, soft_wrap=not console.is_terminal)
    csv = result.folder / "measurements.csv"
    paths = f"\nfigure: {result.figures[0]}  (and .svg)\nmeasurements: {csv}  (and .parquet)"
    console.print(paths, markup=False, soft_wrap=True)


def terminal() -> Console:
    """As wide as the terminal; of a fixed width, and without colour, where there is none."""
    return Console(width=None if Console().is_terminal else WIDTH, highlight=False)


def pick(
    frame: pd.DataFrame,
    what: str,
    condition: str,
    view: str | None = None,
    prefix_tokens: float | None = None,
) -> pd.DataFrame:
    """The rows of one quantity."""
    chosen = (frame.what == what) & (frame.condition == condition)
    if view is not None:
        chosen &= frame["view"] == view
    if prefix_tokens is not None:
        chosen &= frame.prefix_tokens == prefix_tokens
    return frame[chosen]


def percent(row: pd.DataFrame | pd.Series, *, signed: bool = False) -> str:
    """A fraction as ``62.7 [58.1, 67.0]``."""
    one = row.iloc[0] if isinstance(row, pd.DataFrame) else row
    if math.isnan(one.value):
        return "n/a"
    sign = "+" if signed else ""
    value = f"{100 * one.value:{sign}.1f}"
    return (
        value
        if math.isnan(one.low)
        else f"{value} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"
    )


def _bare(row: pd.DataFrame | pd.Series) -> str:
    """The same without its interval, for what only stands beside."""
    return percent(row).split(" [")[0]


def p_value(number: float) -> str:
    return "" if math.isnan(number) else "<.001" if number < 0.001 else f"{number:.3f}"


def grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[str] | None],
    narrow: bool,
    *,
    stacked: bool = False,
    left: Collection[str] = ("control",),
) -> Table:
    """None among the rows is a line. On a narrow terminal, or if stacked, an interval stands under
    its number.

    left: the columns of words; those of numbers are set to the right.
    """
    box = SIMPLE_HEAD if narrow else HEAVY_HEAD
    table = Table(box=box, header_style="", padding=(0, 0 if narrow else 1), show_edge=not narrow)
    for column in columns:
        shown = NARROW_NAMES.get(column, column) if narrow else column
        table.add_column(shown, justify="left" if column in left else "right", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(
                *(Text(_stacked(cell, tight=narrow) if narrow or stacked else cell) for cell in row)
            )
    return table


def _stacked(cell: str, *, tight: bool) -> str:
    number, bracket, interval = cell.partition(" [")
    if tight:
        number, interval = number.replace(" %", "%"), interval.replace(", ", ",")
    return f"{number}\n[{interval}" if bracket else number


def titled(title: str, table: Table) -> Group:
    """A title of its own: it is not folded to the width of a small table."""
    return Group(Text(f"\n{title}", style="bold"), table)


def _headline(frame: pd.DataFrame, samples: int, narrow: bool) -> Group:
    columns = [
        "prefix",
        "open",
        f"teacher avg@{samples}",
        "unprefixed",
        "difference",
        "p (Holm)",
        "student itself",
        "retained",
    ]
    level = f"{100 * frame['level'].iloc[0]:g} %"
    teacher, student = pick(frame, "accuracy", "teacher"), pick(frame, "accuracy", "student")
    rows: list[list[str] | None] = [
        ["0", "100 %", percent(teacher), "", "", "", percent(student), ""]
    ]
    for _, row in pick(frame, "accuracy", "student-prefix", "open").iterrows():
        at = {"condition": "student-prefix", "view": "open", "prefix_tokens": row.prefix_tokens}
        change = pick(frame, "accuracy_difference", **at)
        cells = [
            f"{row.prefix_tokens:g}",
            f"{100 * pick(frame, 'open_share', **at).value.iloc[0]:.0f} %",
            percent(row),
            _bare(pick(frame, "reference_accuracy", **at)),
            percent(change, signed=True),
            p_value(change.p_value_holm.iloc[0]),
            _bare(pick(frame, "student_accuracy", **at)),
            percent(pick(frame, "retained_advantage", **at)),
        ]
        rows.append(cells)
    title = f"Rollouts still open at the prefix length: per cent, {level} intervals over problems"
    return titled(title, grid(columns, rows, narrow, stacked=True))


def _conditions(frame: pd.DataFrame) -> list[str]:
    return [
        name for name in CONTROL_MEANING if len(pick(frame, "accuracy_difference", name, "open"))
    ]


def _controls(frame: pd.DataFrame, narrow: bool) -> Group:
    columns = ["control", "prefix", "rollouts", "accuracy", "reference", "difference", "p (Holm)"]
    rows: list[list[str] | None] = []
    for name in _conditions(frame):
        for index, (_, row) in enumerate(
            pick(frame, "accuracy_difference", name, "open").iterrows()
        ):
            at = {"condition": name, "view": "open", "prefix_tokens": row.prefix_tokens}
            cells = [
                CONTROL_MEANING[name] if index == 0 else "",
                f"{row.prefix_tokens:g}",
                f"{row.rollouts}",
                _bare(pick(frame, "accuracy", **at)),
                _bare(pick(frame, "reference_accuracy", **at)),
                percent(row, signed=True),
                p_value(row.p_value_holm),
            ]
            rows.append(cells)
        rows.append(None)
    title = (
        "Controls: accuracy against the same problems unprefixed (own prefix: against the "
        "rollouts continued)"
    )
    return titled(title, grid(columns, rows, narrow))


def _turns(frame: pd.DataFrame, narrow: bool) -> Group:
    columns = [
        "turns",
        "tokens",
        "rollouts",
        "accuracy",
        "unprefixed",
        "difference",
        "p (Holm)",
        "student itself",
    ]
    rows: list[list[str] | None] = []
    for _, row in pick(frame, "accuracy", "student-turns").iterrows():
        at = {"condition": "student-turns", "view": "turns", "prefix_tokens": row.prefix_tokens}
        change = pick(frame, "accuracy_difference", **at)
        cells = [
            row.category.rpartition(" ")[2],
            f"{row.prefix_tokens:.0f}",
            f"{row.rollouts}",
            percent(row),
            _bare(pick(frame, "reference_accuracy", **at)),
            percent(change, signed=True),
            p_value(change.p_value_holm.iloc[0]),
            _bare(pick(frame, "student_accuracy", **at)),
        ]
        rows.append(cells)
    title = (
        "Behind whole turns of the student; the teacher answers in one turn, without tools "
        "(tokens: the student's, mean)"
    )
    return titled(title, grid(columns, rows, narrow))


def _carry_forward(frame: pd.DataFrame, narrow: bool) -> Group:
    rows: list[list[str] | None] = []
    for _, row in pick(frame, "accuracy", "student-prefix", "carry-forward").iterrows():
        at = {
            "condition": "student-prefix",
            "view": "carry-forward",
            "prefix_tokens": row.prefix_tokens,
        }
        cells = [
            f"{row.prefix_tokens:g}",
            f"{100 * pick(frame, 'finished_share', **at).value.iloc[0]:.0f} %",
            percent(row),
            percent(pick(frame, "accuracy_difference", **at), signed=True),
        ]
        rows.append(cells)
    title = (
        "Carried forward, as in the paper: a finished rollout counts as it stands, so the "
        "curve falls as rollouts end"
    )
    return titled(
        title,
        grid(["prefix", "finished", "accuracy", "difference to the teacher alone"], rows, narrow),
    )


def summary(frame: pd.DataFrame) -> list[str]:
    """Half-decay length, what could have been seen, recovery and spoil rates: a line each."""
    lines = [_half_decay_line(frame)]
    detectable = pick(frame, "smallest_detectable_difference", "student-prefix", "open")
    if len(detectable):
        shown = ", ".join(
            f"{_bare(row)} at {row.prefix_tokens:g}" for _, row in detectable.iterrows()
        )
        lines.append(
            f"smallest change this many problems could have shown (80 % power), points: {shown}"
        )
    for what, words in (
        ("recovery_rate", "recovery (teacher right although the student ended wrong)"),
        (
            "spoil_rate",
            "spoil (teacher wrong although the student, and the teacher unprefixed, are right)",
        ),
    ):
        rows = pick(frame, what, "student-prefix", "open")
        if len(rows):
            shown = "; ".join(
                f"{percent(row)} at {row.prefix_tokens:g}" for _, row in rows.iterrows()
            )
            lines.append(f"{words}, %: {shown}")
    return lines


def _half_decay_line(frame: pd.DataFrame) -> str:
    rows = pick(frame, "half_decay_length", "student-prefix")
    if not len(rows):
        return "half-decay length: no prefix was continued"
    row = rows.iloc[0]
    if math.isnan(row.value):
        return f"half-decay length: undefined ({row.note})"
    lengths = frame[frame.condition == "student-prefix"].prefix_tokens
    ends = [
        f"> {lengths.max():g}" if math.isinf(end) else f"{end:.0f}"
        for end in (row.value, row.low, row.high)
    ]
    return (
        f"half-decay length (half of the teacher's advantage gone): {ends[0]} tokens "
        f"[{ends[1]}, {ends[2]}]"
    )


def print_preflight(report: PreflightReport) -> None:
    console = terminal()
    marks = {
        "ok": "[green]ok[/green]",
        "warning": "[yellow]warning[/yellow]",
        "no": "[red]no[/red]",
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in report.checks:
        table.add_row(marks[check.verdict], check.name, Text(check.finding))
    console.print(table)
    console.print(f"\n[bold]{report.verdict}[/bold]")
