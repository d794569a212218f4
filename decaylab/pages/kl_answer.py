"""The answer to "Where is the KL, and does training reach it?"."""

from __future__ import annotations

import math

from decaylab.claims.advice_lengths import suggest
from decaylab.claims.advice_runs import most_problems
from decaylab.claims.one_run import whole_responses
from decaylab.claims.verdicts import pick, side
from decaylab.claims.wording import RATIO, Style
from decaylab.pages.asked import Asked, by_student, rows_by_student, untrained
from decaylab.printing import rounded
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import (
    ALL,
    BASE,
    FRESH,
    MASS,
    SURVIVORS,
    of_two_tokenizers,
    winsorised,
)

OF_BYTES = (
    "With two tokenizers only the next byte is compared, at boundaries of both: where its KL lies "
    "is not where the KL of the tokens lies."
)
NATS = Style(" nats", 3)


def kl(asked: Asked) -> list[str]:
    """Where the reverse KL lies, and how much of it is left after training."""
    signals, _ = most_problems(asked.runs, "signals")
    where = _gathered(signals) if signals else ""
    rows = (signals or asked.run).measurements
    if of_two_tokenizers(rows):
        measured, _ = most_problems(asked.runs, "position-kl")
        words = whole_responses(measured) if measured else ""
        return [OF_BYTES, words] if words else [OF_BYTES]
    answer = [*([where] if where else _highest(asked.run)), _reached(asked)]
    return answer


def _gathered(signals: FoundRun) -> str:
    """Whether the KL of the untrained student lies early or late, by both ways to count it; ""
    where that was not measured."""
    found = suggest(signals, None).found
    position = _cumulative(signals, "position", SURVIVORS)
    if not found or position is None:
        return " ".join(found)
    even = _even(signals)
    place = {1: "late", -1: "early"}.get(side(position, even))
    lead = f"By position, the KL lies {place}: " if place else ""
    words = (
        f"{lead}{found[0].removesuffix('.')}, where an even spread would have the first "
        f"{rounded(even)} (by the mean over the rollouts that reach a position)."
    )
    over_tokens = _cumulative(signals, "position", MASS)
    if over_tokens and not math.isnan(over_tokens.value):
        ends = "" if math.isnan(over_tokens.low) else f" {Style(places=0).interval(over_tokens)}"
        words += (
            " Summed over all tokens, of which early positions have more, it is the first "
            f"{rounded(over_tokens.value)}{ends}."
        )
    return words


def _even(signals: FoundRun) -> float:
    """Tokens that would hold the share of the KL, were it the same at each position."""
    share, horizon = (_cumulative(signals, what, SURVIVORS) for what in ("threshold", "horizon"))
    return share.value * horizon.value if share and horizon else math.nan


def _cumulative(signals: FoundRun, what: str, count: str) -> Measurement | None:
    at = {"checkpoint": BASE, "view": FRESH, "condition": count}
    return next(iter(pick(signals.measurements, f"cumulative_kl_{what}", **at)), None)


def _highest(run: FoundRun) -> list[str]:
    """Where the reverse KL of the untrained student is highest."""
    at = {"checkpoint": BASE, "view": FRESH, "condition": ALL, "category": ""}
    bins = pick(run.measurements, winsorised("reverse_kl"), **at)
    known = [row for row in bins if not math.isnan(row.value)]
    if not known:
        return []
    top = max(known, key=lambda row: row.value)
    end = "" if math.isinf(top.position_high) else f" to {top.position_high - 1:g}"
    return [
        "The reverse KL of the untrained student is highest from position "
        f"{top.position_low:g}{end}: {NATS.number(top)}."
    ]


def _reached(asked: Asked) -> str:
    """By how much the KL fell behind the trained positions.

    Merged runs may begin at different positions: only students measured from the first one count.
    """
    at = {"condition": ALL, "view": FRESH}
    rows = rows_by_student(asked, "cascade_ratio", **at)
    if not rows:
        return untrained("position-kl", "whether training reaches it")
    start = rows[0].position_low
    ratios = by_student(asked, "cascade_ratio", RATIO, position_low=start, **at)
    return (
        f"From position {start:g} on, the reverse KL after training is this share of that before, "
        f"each student on its own rollouts: {ratios}."
    )
