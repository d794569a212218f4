"""Runs as `decaylab.found_runs` finds them, with rows made by hand instead of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from decaylab.found_runs import FoundRun, Pair
from decaylab.measurements import Measurement, to_frame

PAIR = Pair("small", "large")
ONE_RUN, THESE, SEEDS = "one training run", "mean over rollouts, over these seeds", "mean over training seeds"


def made(
    command: str, rows: Iterable[Measurement], name: str = "made", record: dict[str, Any] | None = None, **options: Any
) -> FoundRun:
    """A run with these rows. options: stand in its record as those that make it what it is."""
    record = {"identity": {"options": options}} if record is None else record
    run = FoundRun(Path("runs") / name, name, command, record, PAIR)
    run.__dict__["measurements"] = to_frame(rows)  # where the cached property keeps what it read
    return run


def row(what: str, value: float, reach: float = 0.01, condition: str = "", **more: Any) -> Measurement:
    """A number with an interval of so much to either side, over 300 problems and 1,200 rollouts."""
    given: dict[str, Any] = {"low": value - reach, "high": value + reach, "problems": 300, "rollouts": 1200}
    return Measurement(what, condition, value, more.pop("unit", "fraction"), **{**given, **more})


def arm(
    name: str, difference: float, reach: float = 0.01, *, seeds: int = 3, over_seeds: float | None = None,
    ending: str = "_minus_full", share: float | None = None, rollout_length: float | None = None, p: float = 0.001,
    seconds: float | None = None, **more: Any,
) -> list[Measurement]:  # fmt: skip
    """An arm of a sweep: accuracy, its difference over problems and over seeds, its share of the tokens, its seconds.

    over_seeds: how far the interval over the seeds reaches; NaN where there is none.
    """
    selector, _, number = name.rpartition("-")
    if not number.isdigit():
        selector, number = name, "inf"
    length = rollout_length or float(number if selector == "prefix" else "inf")
    place = {"checkpoint": name, "selector": selector, "rollout_length": length}
    said = {"condition": "last_boxed", "answer_rule": "last_boxed", "view": "last", **place, **more}
    rows = [row("avg_at_1", 0.5 + difference, reach, estimand=THESE, **said)]
    rows += [row(f"avg_at_1{ending}", difference, reach, estimand=THESE, p_value_holm=p, **said)]
    rows += [
        row(f"avg_at_1{ending}", difference, reach, estimand=ONE_RUN, training_seed=float(seed), **said)
        for seed in range(seeds)
    ]
    wide = float("nan") if seeds < 2 else reach if over_seeds is None else over_seeds
    rows += [row(f"avg_at_1{ending}", difference, wide, estimand=SEEDS, p_value_holm=p, **said)]
    cost = {"view": "training", "estimand": SEEDS if seeds > 1 else ONE_RUN, "problems": 0, **place}
    if share is not None:
        rows += [row("tokens_ratio", share, 0.01, "generation", unit="ratio", **cost)]
    if seconds is not None:
        rows += [row("seconds_ratio", seconds, 0.05, "total", unit="ratio", **cost)]
    return rows
