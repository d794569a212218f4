"""Runs as `decaylab.runs.found_runs` finds them, with rows made by hand instead of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from decaylab.runs.found_runs import FoundRun, Pair
from decaylab.runs.measurements import Measurement, to_frame

PAIR = Pair("small", "large")
ONE_RUN, THESE, SEEDS = (
    "one training run",
    "mean over rollouts, over these seeds",
    "mean over training seeds",
)


def made(
    command: str,
    rows: Iterable[Measurement],
    name: str = "made",
    record: dict[str, Any] | None = None,
    **options: Any,
) -> FoundRun:
    """A run with these rows. options: stand in its record as those that make it what it is."""
    record = {"identity": {"options": options}} if record is None else record
    run = FoundRun(Path("runs") / name, name, command, record, PAIR)
    run.__dict__["measurements"] = to_frame(rows)  # where the cached property keeps what it read
    return run


def row(
    what: str, value: float, reach: float = 0.01, condition: str = "", **more: Any
) -> Measurement:
    """A number with an interval of so much to either side, over 300 problems and 1,200 rollouts."""
    given: dict[str, Any] = {
        "low": value - reach,
        "high": value + reach,
        "problems": 300,
        "rollouts": 1200,
    }
    return Measurement(what, condition, value, more.pop("unit", "fraction"), **{**given, **more})


def arm(
    name: str,
    difference: float,
    reach: float = 0.01,
    *,
    seeds: int = 3,
    over_seeds: float | None = None,
    ending: str = "_minus_full",
    share: float | None = None,
    rollout_length: float | None = None,
    p: float = 0.001,
    seconds: float | None = None,
    **more: Any,
) -> list[Measurement]:
    """An arm of a sweep: accuracy, its difference over problems and over seeds, its share of the
    tokens, its seconds.

    over_seeds: how far the interval over the seeds reaches; NaN where all seeds are alike. Full
    rollouts take a second.
    """
    selector, _, number = name.rpartition("-")
    if not number.isdigit():
        selector, number = name, "inf"
    length = rollout_length or float(number if selector == "prefix" else "inf")
    place = {"checkpoint": name, "selector": selector, "rollout_length": length}
    said = {"condition": "last_boxed", "answer_rule": "last_boxed", "view": "last", **place, **more}
    rows = [row("avg_at_1", 0.5 + difference, reach, estimand=THESE, **said)]
    rows += [row(f"avg_at_1{ending}", difference, reach, estimand=THESE, p_value_holm=p, **said)]
    wide = reach if over_seeds is None else over_seeds
    rows += [
        row(
            f"avg_at_1{ending}",
            difference + offset,
            reach,
            estimand=ONE_RUN,
            training_seed=float(seed),
            **said,
        )
        for seed, offset in enumerate(spread(seeds, wide if selector != "prefix" else -wide))
    ]  # seeds of the prefix go the other way, so that its difference to another arm varies too
    wide = float("nan") if seeds < 3 else wide
    rows += [row(f"avg_at_1{ending}", difference, wide, estimand=SEEDS, p_value_holm=p, **said)]
    cost = {"view": "training", "estimand": SEEDS if seeds > 1 else ONE_RUN, "problems": 0, **place}
    if share is not None:
        rows += [row("tokens_ratio", share, 0.01, "generation", unit="ratio", **cost)]
    if seconds is not None:
        rows += [row("seconds_ratio", seconds, 0.05, "total", unit="ratio", **cost)]
        for seed, offset in enumerate(spread(seeds, 0.05)):
            timed = {**cost, "estimand": ONE_RUN, "training_seed": float(seed), "unit": "seconds"}
            rows += [row("seconds_per_step", seconds + offset, 0.0, "total", **timed)]
            rows += [
                row(
                    "seconds_per_step",
                    1.0,
                    0.0,
                    "total",
                    **{**timed, "checkpoint": "full", "selector": "full"},
                )
            ]
    return rows


def spread(seeds: int, reach: float) -> list[float]:
    """What seeds differ from their mean, so that Student's interval reaches so far; nothing for one
    seed or NaN."""
    places = np.arange(seeds) - (seeds - 1) / 2
    if seeds < 2 or np.isnan(reach):
        return [0.0] * seeds
    unit = stats.t.ppf(0.975, seeds - 1) * places.std(ddof=1) / np.sqrt(seeds)
    return [float(place) for place in places * reach / unit]
