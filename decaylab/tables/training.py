"""What ``decaylab train`` prints: what was trained, held-out problems at each checkpoint, where KL
and time went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from decaylab.printing import percent, rounded, significant
from decaylab.runs import made
from decaylab.runs.train_results import TrainResult
from decaylab.runs.vocabulary import RESPONSE_LOG_RATIO
from decaylab.tables.model import Number, Row, Table
from decaylab.tables.page import Page, print_page
from decaylab.tables.source import columns

WINDOW = 10
# name, column of metrics.csv, decimals; None: three significant digits
MEANS = (
    ("loss", "loss", 4),
    ("reverse KL, nats per token", "reverse_kl", 4),
    ("log-ratio, nats per student token", "log_ratio", 4),
    ("tokens in open spans, a step", "tokens_open", 1),
    ("rollouts that cannot be aligned, a step", "unaligned", 1),
    ("tokens with loss, a step", "tokens_selected", 0),
    ("their mean position", "mean_selected_position", 1),
    ("tokens written, a rollout", "response_tokens", 1),
    ("gradient norm", "gradient_norm", None),
)
PLACES = {"reverse_kl": 4, RESPONSE_LOG_RATIO: 2, "log_ratio": 4}
"""Decimals of what the held-out table prints with more than its form."""
PHASES = ("generation", "scoring", "training")


def print_training(result: TrainResult, *, verbose: bool = False) -> None:
    """What training did to held-out problems; with verbose also what its steps were like."""
    print_page(page(result), result.folder, verbose=verbose)


def page(result: TrainResult) -> Page:
    """The run in a sentence, its tables, and where its files are."""
    trained = result.record["identity"]["training"]
    stop = trained["rollout_length"]
    where = f"rollouts of {stop} tokens"
    if stop == "full":
        where = f"full rollouts (at most {trained['max_tokens']} tokens)"
    if trained["budget"] and str(trained["budget"]) != stop:
        where += f", {trained['budget']} tokens of each"
    curves = ", training.png" if (result.folder / "training.png").exists() else ""
    made_by = made.words(result.record.get(made.MADE))
    checkpoints = ",".join(sorted(entry.name for entry in result.folder.glob("step-*")))
    return Page(
        "Training",
        f"{trained['student']} by {trained['teacher']} ({result.record['preset']} preset); "
        f"selector {trained['selector']}, {where}; {len(result.metrics)} steps of "
        f"{trained['problems_per_step']} problems x {trained['rollouts_per_problem']}, "
        f"seed {trained['seed']}",
        [*verdict(result.validation), *result.alarms[-1:]],
        [*_tables(result.metrics, result.validation)],
        notes=[*result.alarms, *result.notes],
        paths=[
            f"checkpoints: {result.folder}/{{{checkpoints}}}",
            f"records: {result.folder / 'metrics.csv'}, validation.csv{curves}",
            f"next: decaylab evaluate {result.folder}",
        ],
        more_paths=[f"made: {made_by}"] * bool(made_by),
    )


def verdict(validation: pd.DataFrame) -> Iterator[str]:
    """What became of accuracy and KL, and of length and natural stops, on the held-out problems."""
    if len(validation) < 2:
        yield "No held-out problems: `decaylab evaluate` measures the checkpoints on a test."
        return
    before, after = validation.iloc[0], validation.iloc[-1]
    graded = validation.dropna(subset="accuracy")
    best = after if graded.empty else graded.iloc[int(graded["accuracy"].argmax())]
    accuracy = [f"{rounded(percent(row['accuracy']), 1)} %" for row in (before, after, best)]
    at_best = ""
    if best["accuracy"] > after["accuracy"]:
        at_best = f" (best: {accuracy[2]} at step {best['step']:g})"
    yield (
        f"Over {after['problems']:g} held-out problems accuracy goes from {accuracy[0]} to "
        f"{accuracy[1]}{at_best}, {_distance(dict(before), dict(after))}."
    )
    length = [rounded(row["response_tokens"]) for row in (before, after)]
    stops = [rounded(percent(row["natural_stop_share"]), 1) for row in (before, after)]
    yield (
        f"Responses go from {length[0]} to {length[1]} tokens, natural stops from {stops[0]} to "
        f"{stops[1]} %."
    )


def _distance(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """How far the student is from its teacher, before and after."""
    if RESPONSE_LOG_RATIO not in before:
        values = [rounded(row["reverse_kl"], 3) for row in (before, after)]
        return f"the reverse KL from {values[0]} to {values[1]} nats per token"
    values = [
        f"{rounded(row[RESPONSE_LOG_RATIO], 2)} nats ({row['finished']:g} finished)"
        for row in (before, after)
    ]
    return f"the log-ratio of a response up to the budget from {values[0]} to {values[1]}"


def _tables(metrics: pd.DataFrame, validation: pd.DataFrame) -> Iterator[Table]:
    if len(validation):
        title = (
            f"{validation['problems'].iloc[0]} held-out problems, one full rollout each "
            "(choose a checkpoint by these, never by a test)"
        )
        yield Table.of(title, _held_out(validation))
    if len(metrics):
        count = min(WINDOW, max(len(metrics) // 2, 1))
        title = f"Training rollouts: means over the first and the last {count} steps"
        yield Table.of(title, _steps(metrics.head(count), metrics.tail(count)))


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
        if column not in means or (column == "reverse_kl" and "log_ratio" in means):
            continue
        value = means[column]
        texts[name] = significant(value) if places is None else rounded(value, places)
    if "log_ratio" not in means:
        inside, outside = means["reverse_kl_inside"], means["reverse_kl_outside"]
        share = percent(inside / (inside + outside))
        texts["share of the KL where loss falls, %"] = rounded(share, 1)
    for phase in PHASES:
        seconds, memory = means[f"{phase}_seconds"], means[f"{phase}_peak_gib"]
        texts[f"{phase}, seconds / peak GiB"] = f"{rounded(seconds, 2)} / {rounded(memory, 2)}"
    return texts


def _held_out(validation: pd.DataFrame) -> Iterator[Row]:
    table = "held-out-spans" if RESPONSE_LOG_RATIO in validation else "held-out"
    for step in validation.to_dict("records"):
        row: Row = {}
        for column in columns(table):
            value = step[column.of]
            row[column] = Number(percent(value) if column.name.endswith("%") else value)
            if column.of in PLACES:
                row[column] = rounded(value, PLACES[column.of])
        yield row
