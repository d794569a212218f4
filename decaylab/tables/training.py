"""What ``decaylab train`` prints: what was trained, held-out problems at each checkpoint, where KL
and time went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from decaylab.printing import percent, rounded, significant
from decaylab.tables import terminal
from decaylab.tables.model import Number, Row, Table
from decaylab.tables.source import columns

if TYPE_CHECKING:
    from decaylab.trainer.loop import TrainResult

WINDOW = 10
# name, column of metrics.csv, decimals; None: three significant digits
MEANS = (
    ("loss", "loss", 4),
    ("reverse KL, nats per token", "reverse_kl", 4),
    ("tokens with loss, a step", "tokens_selected", 0),
    ("their mean position", "mean_selected_position", 1),
    ("tokens written, a rollout", "response_tokens", 1),
    ("gradient norm", "gradient_norm", None),
)
PHASES = ("generation", "scoring", "training")


def print_training(result: TrainResult) -> None:
    """The run in a sentence, its tables, and where its files are."""
    trained = result.record["identity"]["training"]
    stop = trained["rollout_length"]
    where = f"rollouts of {stop} tokens"
    if stop == "full":
        where = f"full rollouts (at most {trained['max_tokens']} tokens)"
    if trained["budget"] and str(trained["budget"]) != stop:
        where += f", {trained['budget']} tokens of each"
    curves = ", training.png" if (result.folder / "training.png").exists() else ""
    checkpoints = ",".join(sorted(entry.name for entry in result.folder.glob("step-*")))
    terminal.print_page(
        "Training",
        f"{trained['student']} by {trained['teacher']} ({result.record['preset']} preset); "
        f"selector {trained['selector']}, {where}; {len(result.metrics)} steps of "
        f"{trained['problems_per_step']} problems x {trained['rollouts_per_problem']}, "
        f"seed {trained['seed']}",
        _tables(result.metrics, result.validation),
        [*result.alarms, *(f"note: {note}" for note in result.notes)],
        [
            f"checkpoints: {result.folder}/{{{checkpoints}}}",
            f"records: {result.folder / 'metrics.csv'}, validation.csv{curves}",
            f"next: decaylab evaluate {result.folder}",
        ],
    )


def _tables(metrics: pd.DataFrame, validation: pd.DataFrame) -> Iterator[Table]:
    if len(metrics):
        count = min(WINDOW, max(len(metrics) // 2, 1))
        title = f"Training rollouts: means over the first and the last {count} steps"
        yield Table.of(title, _steps(metrics.head(count), metrics.tail(count)))
    if len(validation):
        title = (
            f"{validation['problems'].iloc[0]} held-out problems, one full rollout each "
            "(choose a checkpoint by these, never by a test)"
        )
        yield Table.of(title, _held_out(validation))


def _steps(first: pd.DataFrame, last: pd.DataFrame) -> list[Row]:
    """Means over the first and the last steps, and what a step costs."""
    before, after = _means(first), _means(last)
    lines = zip(before, before.values(), after.values(), strict=True)
    return [dict(zip(columns("steps"), line, strict=True)) for line in lines]


def _means(steps: pd.DataFrame) -> dict[str, str]:
    """Means of these steps as text, by what they are of."""
    means = steps.mean(numeric_only=True)
    texts = {}
    for name, column, places in MEANS:
        value = means[column]
        texts[name] = significant(value) if places is None else rounded(value, places)
    inside, outside = means["reverse_kl_inside"], means["reverse_kl_outside"]
    share = percent(inside / (inside + outside))
    texts["share of the KL where loss falls, %"] = rounded(share, 1)
    for phase in PHASES:
        seconds, memory = means[f"{phase}_seconds"], means[f"{phase}_peak_gib"]
        texts[f"{phase}, seconds / peak GiB"] = f"{rounded(seconds, 2)} / {rounded(memory, 2)}"
    return texts


def _held_out(validation: pd.DataFrame) -> Iterator[Row]:
    for step in validation.to_dict("records"):
        row: Row = {}
        for column in columns("held-out"):
            value = step[column.of]
            row[column] = Number(percent(value) if column.name.endswith("%") else value)
            if column.of == "reverse_kl":
                row[column] = rounded(value, 4)
        yield row
