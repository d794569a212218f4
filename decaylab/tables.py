"""What a command prints: measurements as tables for people, in per cent, with intervals beside every number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from decaylab.preflight import PreflightReport
    from decaylab.run import PrefixDecayResult

WIDTH = 118
SPLITS = ("correct-so-far", "already-wrong", "ended-right", "ended-wrong")
CONTROL_MEANING = {
    "own-prefix": "teacher continues itself (must stay at 0)",
    "correct-so-far": "prefix correct so far, by step verifier",
    "already-wrong": "prefix already wrong, by step verifier",
    "ended-right": "prefix of a rollout that ended right",
    "ended-wrong": "prefix of a rollout that ended wrong",
    "swapped": "prefix of another problem",
    "reverse": "student continues the teacher",
}


def print_prefix_decay(result: PrefixDecayResult) -> None:
    """The headline curve, the controls, the paper's view and the lines that sum up."""
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False, soft_wrap=False)
    frame = result.measurements
    identity, rule = result.record["identity"], str(frame["answer_rule"].iloc[0])
    options, samples = identity["options"], identity["options"]["samples"]
    console.print(
        f"\n[bold]Teacher decay[/bold]: {options['teacher']} on prefixes of {options['student']}; "
        f"{identity['problems']['name']}, {identity['problems']['asked']} problems x {samples} samples, "
        f"T = {options['temperature']}, budget {options['max_tokens']} tokens, answer rule {rule}"
    )
    console.print(_headline(frame, samples))
    if _conditions(frame):
        console.print(_controls(frame))
    console.print(_carry_forward(frame))
    for line in summary(frame):
        console.print(f"- {line}", soft_wrap=True)
    for note in result.notes:
        console.print(f"- note: {note}", soft_wrap=True)
    console.print(f"\nfigure: {result.figures[0]}  (and .svg)\nmeasurements: {result.folder / 'measurements.csv'}  (and .parquet)")


def pick(frame: pd.DataFrame, what: str, condition: str, view: str | None = None, prefix_tokens: float | None = None) -> pd.DataFrame:
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
    return value if math.isnan(one.low) else f"{value} \\[{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def p_value(number: float) -> str:
    return "" if math.isnan(number) else "<.001" if number < 0.001 else f"{number:.3f}"


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="", expand=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 and column == "control" else "right")
    return table


def _headline(frame: pd.DataFrame, samples: int) -> Table:
    columns = ["prefix", "open", f"teacher avg@{samples}", "unprefixed", "difference", "p (Holm)", "student itself", "retained"]
    level = f"{100 * frame['level'].iloc[0]:g} %"
    table = _table(f"Rollouts still open at the prefix length: per cent, {level} intervals over problems", columns)
    teacher, student = pick(frame, "accuracy", "teacher"), pick(frame, "accuracy", "student")
    table.add_row("0", "100 %", percent(teacher), "", "", "", percent(student), "")
    for _, row in pick(frame, "accuracy", "student-prefix", "open").iterrows():
        at = {"condition": "student-prefix", "view": "open", "prefix_tokens": row.prefix_tokens}
        change = pick(frame, "accuracy_difference", **at)
        table.add_row(
            f"{row.prefix_tokens:g}",
            f"{100 * pick(frame, 'open_share', **at).value.iloc[0]:.0f} %",
            percent(row),
            f"{100 * pick(frame, 'reference_accuracy', **at).value.iloc[0]:.1f}",
            percent(change, signed=True),
            p_value(change.p_value_holm.iloc[0]),
            f"{100 * pick(frame, 'student_accuracy', **at).value.iloc[0]:.1f}",
            percent(pick(frame, "retained_advantage", **at)),
        )
    return table


def _conditions(frame: pd.DataFrame) -> list[str]:
    return [name for name in CONTROL_MEANING if len(pick(frame, "accuracy_difference", name, "open"))]


def _controls(frame: pd.DataFrame) -> Table:
    table = _table(
        "Controls: change of accuracy against the same problems unprefixed (own-prefix: against the rollouts continued)",
        ["control", "prefix", "rollouts", "accuracy", "reference", "difference", "p (Holm)"],
    )
    for name in _conditions(frame):
        for index, (_, row) in enumerate(pick(frame, "accuracy_difference", name, "open").iterrows()):
            at = {"condition": name, "view": "open", "prefix_tokens": row.prefix_tokens}
            table.add_row(
                CONTROL_MEANING[name] if index == 0 else "",
                f"{row.prefix_tokens:g}",
                f"{row.rollouts}",
                f"{100 * pick(frame, 'accuracy', **at).value.iloc[0]:.1f}",
                f"{100 * pick(frame, 'reference_accuracy', **at).value.iloc[0]:.1f}",
                percent(row, signed=True),
                p_value(row.p_value_holm),
            )
        table.add_section()
    return table


def _carry_forward(frame: pd.DataFrame) -> Table:
    table = _table(
        "Carried forward, as in the paper: a finished rollout counts as it stands, so the curve falls as rollouts end",
        ["prefix", "finished", "accuracy", "difference to the teacher alone"],
    )
    for _, row in pick(frame, "accuracy", "student-prefix", "carry-forward").iterrows():
        at = {"condition": "student-prefix", "view": "carry-forward", "prefix_tokens": row.prefix_tokens}
        table.add_row(
            f"{row.prefix_tokens:g}",
            f"{100 * pick(frame, 'finished_share', **at).value.iloc[0]:.0f} %",
            percent(row),
            percent(pick(frame, "accuracy_difference", **at), signed=True),
        )
    return table


def summary(frame: pd.DataFrame) -> list[str]:
    """Half-decay length, what could have been seen, recovery and spoil rates: a line each."""
    lines = [_half_decay_line(frame)]
    detectable = pick(frame, "smallest_detectable_difference", "student-prefix", "open")
    if len(detectable):
        shown = ", ".join(f"{100 * row.value:.1f} at {row.prefix_tokens:g}" for _, row in detectable.iterrows())
        lines.append(f"smallest change this many problems could have shown (80 % power): {shown} points")
    for what, words in (
        ("recovery_rate", "recovery (teacher right although the student ended wrong)"),
        ("spoil_rate", "spoil (teacher wrong although the student, and the teacher unprefixed, are right)"),
    ):
        rows = pick(frame, what, "student-prefix", "open")
        if len(rows):
            shown = "; ".join(f"{percent(row)} at {row.prefix_tokens:g}" for _, row in rows.iterrows())
            lines.append(f"{words}, %: {shown}".replace("\\[", "["))
    return [line.replace("[", "\\[") for line in lines]


def _half_decay_line(frame: pd.DataFrame) -> str:
    rows = pick(frame, "half_decay_length", "student-prefix")
    if not len(rows):
        return "half-decay length: no prefix was continued"
    row = rows.iloc[0]
    if math.isnan(row.value):
        return f"half-decay length: undefined ({row.note})"
    lengths = frame[frame.condition == "student-prefix"].prefix_tokens
    ends = [f"> {lengths.max():g}" if math.isinf(end) else f"{end:.0f}" for end in (row.value, row.low, row.high)]
    return f"half-decay length (half of the teacher's advantage gone): {ends[0]} tokens [{ends[1]}, {ends[2]}]"


def print_preflight(report: PreflightReport) -> None:
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    marks = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "no": "[red]no[/red]"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in report.checks:
        table.add_row(marks[check.verdict], check.name, check.finding.replace("[", "\\["))
    console.print(table)
    console.print(f"\n[bold]{report.verdict}[/bold]", soft_wrap=True)
