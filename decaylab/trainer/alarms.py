"""Alarms in words: rollouts that run away in length, repeat themselves, or no longer end.

What is compared is the behaviour of full rollouts now and before training. Rollouts that training
stops early say nothing of it, so it is measured on held-out problems (or on the training rollouts
where those are full ones).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Behaviour:
    """Of full rollouts: mean length in tokens, share that end by themselves, share that are
    repetitive."""

    response_tokens: float
    natural_stop_share: float
    repetition_share: float


@dataclass(frozen=True)
class Thresholds:
    """Where an alarm begins. length: times the length before training. repetition: more of the
    rollouts than before.

    natural_stops: fewer of the rollouts than before.
    """

    length: float = 1.5
    repetition: float = 0.1
    natural_stops: float = 0.1


def alarms(before: Behaviour, now: Behaviour, thresholds: Thresholds = Thresholds()) -> list[str]:
    """A sentence for each thing that runs away; none where all is well or nothing is known
    (NaN)."""
    found = []
    if now.response_tokens > thresholds.length * before.response_tokens:
        found.append(
            f"responses run away in length: {now.response_tokens:.0f} tokens, "
            f"{before.response_tokens:.0f} before training "
            f"(alarm above {thresholds.length:g} times)"
        )
    if now.repetition_share > before.repetition_share + thresholds.repetition:
        found.append(
            f"responses repeat themselves: {now.repetition_share:.0%} of them, "
            f"{before.repetition_share:.0%} before training "
            f"(alarm above {thresholds.repetition:.0%} more)"
        )
    if now.natural_stop_share < before.natural_stop_share - thresholds.natural_stops:
        found.append(
            f"the end-of-turn token is being lost: {now.natural_stop_share:.0%} of the responses "
            "end by themselves, "
            f"{before.natural_stop_share:.0%} before training (alarm at more than "
            f"{100 * thresholds.natural_stops:.0f} points fewer)"
        )
    return found
