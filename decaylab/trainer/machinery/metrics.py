"""The record of a step: sums over tokens and rollouts, and the row of metrics.csv from them.

Sums are added over micro-batches and processes; means are computed once, from the total sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from decaylab.options.training import TrainOptions
from decaylab.trainer import alarms
from decaylab.trainer.draw import TrainingRollout

Floats = NDArray[np.float64]


@dataclass
class Sums:
    """Sums over the tokens and rollouts of this process, by name."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + float(value)

    def add_batch(
        self,
        batch: Sequence[TrainingRollout],
        losses: dict[str, Floats],
        weights: Floats,
        shares: Floats,
        bins: Sequence[int],
    ) -> None:
        """Adds a micro-batch. losses, weights, shares: [positions], as in `Gradient`."""
        responses = [np.arange(len(rollout.scored.response)) + rollout.offset for rollout in batch]
        # Positions are those of the whole response, a teacher's prefix included.
        positions = np.concatenate(responses)
        chosen, kl = weights != 0, losses["reverse_kl"]
        self.add(
            loss=(weights / shares * losses["loss"]).sum(),
            selected=chosen.sum(),
            selecting=sum(bool(chosen[rows].any()) for _, rows in rows_of(batch)),
            weight=weights.sum(),
            weighted_position=(weights * positions).sum(),
            scored=len(weights),
            reverse_kl=kl.sum(),
            inside=kl[chosen].sum(),
            student_entropy=losses["student_entropy"].sum(),
            teacher_entropy=losses["teacher_entropy"].sum(),
            rollouts=len(batch),
            **alarms.counted(
                [rollout.written for rollout in batch], [rollout.ended for rollout in batch]
            ),
        )
        cells = np.searchsorted(np.asarray(bins), positions, side="right") - 1
        for code, low in enumerate(bins):
            here = cells == code
            self.add(**{f"tokens_{low}": here.sum(), f"reverse_kl_{low}": kl[here].sum()})


def denominator(sums: dict[str, float], normalise: str) -> float:
    """The divisor of the step's summed loss and gradient: the number of selected tokens, or of
    rollouts with a selected token."""
    return sums.get("selected" if normalise == "tokens" else "selecting", 0.0)


def record(sums: dict[str, float], options: TrainOptions) -> dict[str, float]:
    """A row of the metrics file from the sums over all processes; means without terms are NaN."""

    def total(name: str) -> float:
        return sums.get(name, 0.0)

    def mean(name: str, over: str) -> float:
        return total(name) / sums[over] if sums.get(over) else math.nan

    bins = options.bins or ()
    return {
        "loss": mean("loss", "selected" if options.normalise == "tokens" else "selecting"),
        "reverse_kl": mean("reverse_kl", "scored"),
        **{f"reverse_kl_{low}": mean(f"reverse_kl_{low}", f"tokens_{low}") for low in bins},
        **{f"tokens_{low}": total(f"tokens_{low}") for low in bins},
        "reverse_kl_inside": total("inside"),
        "reverse_kl_outside": total("reverse_kl") - total("inside"),
        "student_entropy": mean("student_entropy", "scored"),
        "teacher_entropy": mean("teacher_entropy", "scored"),
        "tokens_sampled": total("sampled"),
        "tokens_scored": total("scored"),
        "tokens_selected": total("selected"),
        "mean_selected_position": mean("weighted_position", "weight"),
        "response_tokens": mean("written", "rollouts"),
        "natural_stop_share": mean("ended", "rollouts"),
        "repetition_share": mean("repetitive", "rollouts"),
        "rollouts": total("rollouts"),
        "left_out": total("left_out"),
    }


def rows_of(batch: Sequence[TrainingRollout]) -> Iterator[tuple[TrainingRollout, slice]]:
    """Each rollout with its positions in the batch."""
    start = 0
    for rollout in batch:
        end = start + len(rollout.scored.response)
        yield rollout, slice(start, end)
        start = end
