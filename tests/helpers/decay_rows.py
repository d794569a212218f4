"""Runs of prefix-decay and signals with rows made by hand: half of the advantage is gone after 39
tokens, 45 % of the KL lies in the first 53."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from made_runs import made, row

from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

RULED = {"answer_rule": "last_boxed"}


def decay_rows(**more: Any) -> list[Measurement]:
    gap = row(
        "teacher_advantage", 0.449, 0.05, "student-prefix", view="all", prefix_tokens=0.0, **RULED
    )
    half = row(
        "half_decay_length", 39.1, 5.0, "student-prefix", view="open", unit="tokens", **RULED
    )
    falls = [
        row(
            "accuracy_difference",
            -0.01 * k,
            0.02,
            "student-prefix",
            view="open",
            prefix_tokens=float(k),
            **RULED,
        )
        for k in (10, 60)
    ]
    flat = [replace(one, condition="own-prefix", value=0.0, low=-0.02, high=0.02) for one in falls]
    return [replace(one, **more) for one in (gap, half, *falls, *flat)]


def decay_run(
    rows: list[Measurement] | None = None, name: str = "pair", **options: Any
) -> FoundRun:
    given = {
        "samples": 4,
        "temperature": 0.7,
        "max_tokens": 320,
        "seed": 0,
        "prefix_lengths": [0, 10, 60],
        **options,
    }
    problems = {"name": given.pop("problem_set", "abacus"), "version": "abacus-1", "asked": 300}
    record = {"identity": {"options": given, "problems": problems}, "notes": given.pop("notes", [])}
    return made("prefix-decay", decay_rows() if rows is None else rows, name, record)


def signal_rows(floor: float = 1e-6, under: bool = False) -> list[Measurement]:
    place = {"view": "fresh", "checkpoint": "base", "unit": "tokens"}
    position = row("cumulative_kl_position", 53.0, 3.0, "survivors", **place)
    stated = [
        row("cumulative_kl_horizon", 88.0, math.nan, "survivors", **place),
        row("cumulative_kl_threshold", 0.45, math.nan, "survivors", **place),
    ]
    bins = [
        row(
            what,
            0.5,
            0.1,
            "all",
            **{**place, "unit": "nats"},
            position_low=low,
            position_high=low + 10,
            tokens=9,
            noise_floor=floor,
            under_floor=under and low > 0,
        )
        for what in ("reverse_kl", "winsorised_reverse_kl")
        for low in (0.0, 10.0, 100.0)
    ]
    return [position, *stated, *bins]


def signals_run(rows: list[Measurement] | None = None, **options: Any) -> FoundRun:
    record = {"identity": {"options": options}}
    return made("signals", signal_rows() if rows is None else rows, "signals", record)
