"""The files of ``data/paper`` as they stand, and a published number as a row of measurements.
`publication` loads them."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pandas as pd

from decaylab.runs.measurements import Measurement

SOURCE = "arXiv 2605.27028"
PERCENT = 100.0
PROBLEMS, SAMPLES = 500, 4  # MATH-500, avg@4
PAIR = "Qwen2.5-Math-1.5B and Qwen3-1.7B, single seed"
NO_INTERVAL = "published, no interval"


def published(name: str, dtype: type | None = None) -> pd.DataFrame:
    """A published table as it stands, such as ``prefix_curve`` or ``main_results``: per cent and
    nats as printed.

    dtype: of every column; by default what each looks like.

    Raises:
        ValueError: no table of that name.
    """
    folder = resources.files("decaylab.data.paper")
    file = folder / f"{name}.csv"
    if not file.is_file():
        known = sorted(
            entry.name.removesuffix(".csv")
            for entry in folder.iterdir()
            if entry.name.endswith(".csv")
        )
        raise ValueError(f"no published table {name!r}; there are {', '.join(known)}")
    with file.open("rb") as handle:
        return pd.read_csv(handle, dtype=dtype)


def row(
    what: str, condition: str, value: float, unit: str, place: str, *, pair: str = "", **more: Any
) -> Measurement:
    """A published number; ``place`` is where in the paper it stands. Counts that were not published
    stay 0.

    pair: "student under teacher" of a table that holds several pairs; it stands in ``run`` too,
    which tells them apart.
    """
    note = f"{SOURCE}, {place}; {f'{pair}, single seed' if pair else PAIR}"
    run = f"{SOURCE}: {pair}" if pair else SOURCE
    return Measurement(
        what, condition, float(value), unit, method=NO_INTERVAL, run=run, note=note, **more
    )
