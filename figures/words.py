"""What captions and notes say of rows of the measurements table: counts, levels, methods, seeds,
noise floor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from decaylab.printing import percent, rounded
from decaylab.runs.vocabulary import ALL, BASE, measure_name, select

from .colours import looks

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Fields that every template may have
TEXTS = {
    "published": """Grey, in a panel of its own: published, arXiv 2605.27028, another pair and other
        problems, without intervals.""",
    "dots": """Dots: plain means over tokens, in which a few problems may weigh so much that no
        interval of them holds.""",
    "arrowhead": "an arrowhead: the interval extends beyond the frame",
}
FLOOR = """Grey band: twice the noise floor (floor at most {sizes}, often too small to be seen);
    {under}."""


def filled(
    template: str,
    rows: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    **fields: str,
) -> str:
    """A template with its fields filled in, as one paragraph; a field may be empty.

    rows: what ``{level}``, ``{methods}``, ``{estimand}`` and ``{floor}`` are taken from. published:
    where there are none, ``{published}`` is empty.
    """
    known = dict(TEXTS)
    if published is None:
        known["published"] = ""
    if rows is not None and len(rows):
        known |= {
            "level": levels(rows),
            "methods": methods(rows),
            "estimand": str(rows.estimand.iloc[0]),
            "floor": floor_text(rows),
        }
    return " ".join(template.format_map(known | fields).split())


def of_published(template: str, published: pd.DataFrame | None, **fields: Any) -> str:
    """A template on published rows, with ``{run}``; empty where there are none."""
    if published is None:
        return ""
    return filled(template, run=str(published.run.iloc[0]), **fields)


def number(row: pd.Series[Any], places: int = 2, scale: float = 1.0) -> str:
    """A value with its interval."""
    if math.isnan(row.value):
        return "undefined"
    value, low, high = (rounded(row[name] * scale, places) for name in ("value", "low", "high"))
    if math.isnan(row.low) or math.isnan(row.high):
        return value
    return f"{value} [{low}, {high}]"


def named(checkpoint: str) -> str:
    """A student's name in a sentence."""
    return "the base student" if checkpoint == BASE else checkpoint


def counts(frame: pd.DataFrame, view: str) -> dict[str, str]:
    """How many problems, rollouts and tokens stand behind the curves of each student."""
    texts = {}
    for name in looks(frame):
        rows = select(frame, what="reverse_kl", view=view, checkpoint=name, condition=ALL)
        if len(rows):
            # the bins together hold every token once
            tokens = rows.tokens.sum()
            texts[name] = (
                f"{rows.problems.max():,} problems, {rows.rollouts.max():,} rollouts, "
                f"{tokens:,} tokens"
            )
    return texts


def counts_text(frame: pd.DataFrame, view: str) -> str:
    return "; ".join(f"{name} {text}" for name, text in counts(frame, view).items())


def first_counts(frame: pd.DataFrame, view: str) -> str:
    """The counts of the first student."""
    name, text = next(iter(counts(frame, view).items()))
    return f"{text} of {named(name)}"


def floor_text(rows: pd.DataFrame) -> str:
    """The size of the noise floor of these rows, and how many of them lie within twice of it."""
    known = rows[rows.noise_floor.notna()]
    if not len(known):
        return "Noise floor: not measured."
    count = int(known.under_floor.sum())
    under = f"{count} of {len(known)} values lie under it" if count else "no value lies under it"
    largest = known.groupby("unit", sort=False).noise_floor.max()
    sizes = ", ".join(f"{size:.1e} {unit}" for unit, size in largest.items())
    return filled(FLOOR, sizes=sizes, under=under)


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


def printed(what: str, rule: str = "") -> str:
    """A quantity as people write it: ``avg@4``, or the name that it has under an answer rule."""
    if rule and what.startswith("avg_at_"):
        return measure_name(rule, samples(what))
    return what.replace("_at_", "@")


def samples(what: str) -> int:
    """The k of ``avg_at_k``."""
    return int(what.rpartition("_")[2])
