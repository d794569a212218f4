"""What ``decaylab train`` prints: what was trained, held-out problems at each checkpoint, where KL
and time went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from decaylab.tables import terminal

if TYPE_CHECKING:
    from decaylab.trainer.loop import TrainResult

WINDOW = 10
NUMBERS = (
    ("loss", "loss", ".4f"),
    ("reverse KL, nats a token", "reverse_kl", ".4f"),
    ("tokens with loss, a step", "tokens_selected", ".0f"),
    ("their mean position", "mean_selected_position", ".1f"),
    ("tokens written, a rollout", "response_tokens", ".1f"),
    ("gradient norm", "gradient_norm", ".3g"),
)
PHASES = ("generation", "scoring", "training")


def print_training(result: TrainResult) -> None:
    """The run in a sentence, its tables, and what stands where."""
    console = terminal.terminal()
    wrap = not console.is_terminal
    trained = result.record["identity"]["training"]
    stop = trained["rollout_length"]
    where = (
        f"rollouts of {stop} tokens"
        if stop != "full"
        else f"full rollouts (at most {trained['max_tokens']} tokens)"
    )
    budget = (
        f", {trained['budget']} tokens of each"
        if trained["budget"] and str(trained["budget"]) != stop
        else ""
    )
    console.print(
        f"\n[bold]Training[/bold]: {escape(trained['student'])} by {escape(trained['teacher'])} "
        f"({result.record['preset']} "
        f"preset); selector {trained['selector']}, {where}{budget}; {len(result.metrics)} steps of "
        f"{trained['problems_per_step']} problems x {trained['rollouts_per_problem']}, seed "
        f"{trained['seed']}",
        soft_wrap=wrap,
    )
    if len(result.metrics):
        console.print(_steps(result.metrics))
    if len(result.validation):
        console.print(_held_out(result.validation))
    lines = [*result.alarms, *(f"note: {note}" for note in result.notes)]
    for line in lines:
        console.print(f"- {line}", markup=False, soft_wrap=wrap)
    checkpoints = sorted(entry.name for entry in result.folder.glob("step-*"))
    console.print(
        f"\ncheckpoints: {result.folder}/{{{','.join(checkpoints)}}}\n"
        f"records: {result.folder / 'metrics.csv'}, validation.csv\n"
        f"next: decaylab evaluate {result.folder}",
        markup=False,
        soft_wrap=True,
    )


def _steps(metrics: pd.DataFrame) -> Table:
    """Means over the first and the last steps, and what the step costs."""
    count = min(WINDOW, max(len(metrics) // 2, 1))
    title = f"Training rollouts: means over the first and the last {count} steps"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("", "first", "last"):
        table.add_column(name, justify="left" if not name else "right")
    parts = [
        metrics.head(count).mean(numeric_only=True),
        metrics.tail(count).mean(numeric_only=True),
    ]
    for name, column, form in NUMBERS:
        table.add_row(name, *(format(part[column], form) for part in parts))
    covered = [
        part["reverse_kl_inside"] / (part["reverse_kl_inside"] + part["reverse_kl_outside"])
        for part in parts
    ]
    table.add_row(
        "share of the KL where loss falls, %", *(f"{100 * share:.1f}" for share in covered)
    )
    for phase in PHASES:
        costs = [
            f"{part[f'{phase}_seconds']:.2f} / {part[f'{phase}_peak_gib']:.2f}" for part in parts
        ]
        table.add_row(f"{phase}, seconds / peak GiB", *costs)
    return table


def _held_out(validation: pd.DataFrame) -> Table:
    problems = int(validation["problems"].iloc[0])
    title = (
        f"{problems} held-out problems, one full rollout each (choose a checkpoint by these, "
        "never by a test)"
    )
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("step", "right, %", "reverse KL", "tokens", "ended by itself, %", "repetitive, %"):
        table.add_column(name, justify="right")
    for row in validation.to_dict("records"):
        shares = [
            f"{100 * row[name]:.1f}"
            for name in ("accuracy", "natural_stop_share", "repetition_share")
        ]
        numbers = [f"{row['reverse_kl']:.4f}", f"{row['response_tokens']:.1f}"]
        table.add_row(str(int(row["step"])), shares[0], *numbers, *shares[1:])
    return table
