"""Words that captions and notes share: levels, methods, seeds."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from decaylab.printing import percent

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def levels(rows: pd.DataFrame) -> str:
    """The levels of the intervals: ``95 %``."""
    return " / ".join(f"{percent(level):g} %" for level in sorted(set(rows.level)))


def methods(rows: pd.DataFrame) -> str:
    """How the intervals of the rows were made."""
    return "; ".join(sorted(set(rows.method) - {""}))


def span(numbers: Iterable[float]) -> str:
    """The least and the largest of some counts: ``3`` or ``2 to 3``."""
    low, high = int(min(numbers)), int(max(numbers))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def per_arm(rows: pd.DataFrame, noun: str) -> str:
    """How many training seeds the arms have: ``3 seeds per arm``."""
    single = rows[rows.training_seed.notna()]
    counts = single.groupby("checkpoint").training_seed.nunique()
    return f"{span(counts)} {plural(noun, int(counts.max()))} per arm"


def plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def printed(what: str) -> str:
    """A quantity as people write it: ``avg@4``."""
    return what.replace("_at_", "@")


def samples(what: str) -> int:
    """The k of ``avg_at_k``."""
    return int(what.rpartition("_")[2])
