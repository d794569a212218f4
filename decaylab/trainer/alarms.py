"""Alarms for rollouts that grow in length, repeat themselves, or no longer stop.

Full rollouts are compared with full rollouts before training. Training rollouts that stop early
cannot show this, so held-out problems are used (or the training rollouts if they are full).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from decaylab.analyses.behaviour import repetition_3gram

REPETITIVE = 0.5
"""A rollout is repetitive if more than this share of its 3-grams occurred before in it."""


@dataclass(frozen=True)
class Behaviour:
    """Mean length in tokens, natural-stop share and repetitive share of full rollouts."""

    response_tokens: float
    natural_stop_share: float
    repetition_share: float


def is_repetitive(written: Sequence[int]) -> bool:
    """Whether more than half of a rollout's 3-grams occurred before in it."""
    return bool(repetition_3gram(written) > REPETITIVE)


def counted(written: Sequence[Sequence[int]], ended: Sequence[bool]) -> dict[str, float]:
    """Sums over rollouts: tokens ``written``, how many ``ended`` naturally and are ``repetitive``.

    written: the ids of each rollout, without the end-of-turn token. ended: whether the policy
    ended its turn, for each rollout.
    """
    return {
        "written": float(sum(len(ids) for ids in written)),
        "ended": float(sum(ended)),
        "repetitive": float(sum(map(is_repetitive, written))),
    }


def behaviour_of(sums: dict[str, float], rollouts: float) -> Behaviour:
    """The behaviour of this number of rollouts from their sums; NaN for no rollout."""
    names = ("written", "ended", "repetitive")
    return Behaviour(*(sums[name] / rollouts if rollouts else math.nan for name in names))


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the alarms.

    length: ratio to the length before training. repetition: increase of the repetitive share.
    natural_stops: decrease of the natural-stop share.
    """

    length: float = 1.5
    repetition: float = 0.1
    natural_stops: float = 0.1


def alarms(before: Behaviour, now: Behaviour, thresholds: Thresholds = Thresholds()) -> list[str]:
    """One sentence per alarm; none for unknown values (NaN)."""
    sentences = []
    if now.response_tokens > thresholds.length * before.response_tokens:
        sentences.append(
            f"responses have grown to {now.response_tokens:.0f} tokens, from "
            f"{before.response_tokens:.0f} before training "
            f"(alarm above {thresholds.length:g} times)"
        )
    if now.repetition_share > before.repetition_share + thresholds.repetition:
        sentences.append(
            f"{now.repetition_share:.0%} of responses repeat themselves, against "
            f"{before.repetition_share:.0%} before training "
            f"(alarm at {100 * thresholds.repetition:.0f} points more)"
        )
    if now.natural_stop_share < before.natural_stop_share - thresholds.natural_stops:
        sentences.append(
            f"only {now.natural_stop_share:.0%} of responses stop naturally, against "
            f"{before.natural_stop_share:.0%} before training (alarm at a drop of more than "
            f"{100 * thresholds.natural_stops:.0f} points)"
        )
    return sentences
