"""Alarms: rollouts that run away in length, repeat themselves, or no longer end.

Full rollouts now are compared with full rollouts before training. Rollouts that training stops
early show nothing of this, so it is measured on held-out problems (or on the training rollouts if
those are full).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Behaviour:
    """Of full rollouts: mean length in tokens, share with a natural stop, repetitive share."""

    response_tokens: float
    natural_stop_share: float
    repetition_share: float


@dataclass(frozen=True)
class Thresholds:
    """Where an alarm begins.

    length: times the length before training. repetition: additional share of the rollouts.
    natural_stops: lost share of the rollouts.
    """

    length: float = 1.5
    repetition: float = 0.1
    natural_stops: float = 0.1


def alarms(before: Behaviour, now: Behaviour, thresholds: Thresholds = Thresholds()) -> list[str]:
    """A sentence for each thing that runs away; none if all is well or nothing is known (NaN)."""
    sentences = []
    if now.response_tokens > thresholds.length * before.response_tokens:
        sentences.append(
            f"responses run away in length: {now.response_tokens:.0f} tokens, "
            f"{before.response_tokens:.0f} before training "
            f"(alarm above {thresholds.length:g} times)"
        )
    if now.repetition_share > before.repetition_share + thresholds.repetition:
        sentences.append(
            f"responses repeat themselves: {now.repetition_share:.0%} of them, "
            f"{before.repetition_share:.0%} before training "
            f"(alarm at {100 * thresholds.repetition:.0f} points more)"
        )
    if now.natural_stop_share < before.natural_stop_share - thresholds.natural_stops:
        sentences.append(
            f"the end-of-turn token is being lost: {now.natural_stop_share:.0%} of the responses "
            f"stop naturally, {before.natural_stop_share:.0%} before training (alarm at more "
            f"than {100 * thresholds.natural_stops:.0f} points fewer)"
        )
    return sentences
