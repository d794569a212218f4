"""What one measurement of a probe returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from decaylab.probing import notes
from decaylab.runs.vocabulary import ALL, FRESH, FROZEN, select
from decaylab.trainer.alarms import Behaviour


@dataclass(frozen=True)
class Reading:
    """One measurement of the student.

    checkpoint: its name in the measurements, ``base`` or ``step-50``. measurements: its rows, with
    the columns of `decaylab.runs.measurements.Measurement`. behaviour: of its own rollouts; NaN if
    none were sampled. alarms: one sentence each.
    """

    step: int
    checkpoint: str
    measurements: pd.DataFrame
    behaviour: Behaviour
    alarms: tuple[str, ...]
    seconds: float

    @property
    def logs(self) -> dict[str, float]:
        """Numbers for a tracker, by name.

        ``decay/frozen/reverse_kl`` is the mean over all tokens in nats, and
        ``decay/frozen/reverse_kl_0-4`` that over response positions 0 to 4; the last bin has no
        upper end (``100+``). The same with ``fresh``. Bins without a token are left out.
        """
        found: dict[str, float] = {}
        for view in (FROZEN, FRESH):
            at = {"view": view, "condition": ALL}
            for _, row in select(self.measurements, what="mean_reverse_kl", **at).iterrows():
                found[f"decay/{view}/reverse_kl"] = row["value"]
            for _, row in select(self.measurements, what="reverse_kl", **at).iterrows():
                found[f"decay/{view}/reverse_kl_{_span(row)}"] = row["value"]
        for name in notes.BEHAVIOUR:
            found[f"decay/{name}"] = getattr(self.behaviour, name)
        known = {name: float(value) for name, value in found.items() if not math.isnan(value)}
        return {**known, "decay/alarms": float(len(self.alarms))}

    def __str__(self) -> str:
        shown = [f"step {self.step}"]
        for view, whose in ((FROZEN, "base's rollouts"), (FRESH, "own rollouts")):
            if (value := self.logs.get(f"decay/{view}/reverse_kl")) is not None:
                shown.append(f"reverse KL {value:.4f} nats per token on {whose}")
        if not math.isnan(self.behaviour.response_tokens):
            stops = f"{self.behaviour.natural_stop_share:.0%} stop naturally"
            shown += [f"{self.behaviour.response_tokens:.0f} tokens a rollout", stops]
        return ", ".join([*shown, *(f"alarm: {each}" for each in self.alarms)])


def _span(row: pd.Series) -> str:
    """A bin of positions, both ends included: ``0-4``, ``100+``."""
    low, high = row["position_low"], row["position_high"]
    return f"{low:.0f}+" if math.isinf(high) else f"{low:.0f}-{high - 1:.0f}"
