"""The arms of sweeps: which tokens each trained on, and what training gave it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.runs import vocabulary
from decaylab.runs.found_runs import SWEEPS, FoundRun
from decaylab.runs.vocabulary import BASE, FULL, LAST, OVER_SEEDS, THESE_SEEDS, minus

NOT_OF_THE_STUDENT = {
    "after-teacher-prefix": "its tokens stand behind the teacher's own prefix",
    "progressive": "its budget changes from step to step",
}
"""Selectors whose tokens are not a choice among those of the student's rollouts, and why."""
_SEED = re.compile(r"-seed-\d+$")


@dataclass(frozen=True)
class TrainedArm:
    """An arm of a sweep.

    budget: tokens of a rollout that it trains on, at most; None: all. gain: accuracy of the
    trained student minus that of the untrained one, a fraction, with its interval over seeds, or
    over problems where there is one seed. sweep: the run's name.
    """

    name: str
    selector: str
    budget: int | None
    gain: float
    low: float
    high: float
    estimand: str
    sweep: str

    @property
    def identity(self) -> list[Any]:
        """What the choice of tokens depends on."""
        return [self.name, self.selector, self.budget]


def of_sweeps(runs: Sequence[FoundRun]) -> tuple[list[TrainedArm], list[str]]:
    """The arms of these sweeps, each once, and notes on those that are left out.

    Raises:
        UserError: a run that is no sweep, or of an earlier version, or no arm with an accuracy.
    """
    arms: dict[str, TrainedArm] = {}
    notes: list[str] = []
    for run in runs:
        if run.command not in SWEEPS.values():
            raise UserError(f"{run.folder} is a run of {run.command}, not a sweep; leave it out")
        for arm in _arms(run):
            if arm.selector in NOT_OF_THE_STUDENT:
                notes.append(f"{arm.name}: left out, since {NOT_OF_THE_STUDENT[arm.selector]}")
            else:
                arms.setdefault(arm.name, arm)
    if not arms:
        raise UserError(
            f"no arm of {', '.join(str(run.folder) for run in runs)} has an accuracy to compare "
            "with; finish the sweep"
        )
    return list(arms.values()), list(dict.fromkeys(notes))


def _arms(run: FoundRun) -> Iterator[TrainedArm]:
    runs: Mapping[str, Any] = run.record["identity"].get("runs") or {}
    if not all(isinstance(each.get("training"), dict) for each in runs.values()):
        raise UserError(
            f"{run.folder} was written by an earlier version, and does not say what its arms "
            "trained on; run the sweep again"
        )
    trained = {_SEED.sub("", name): each for name, each in runs.items()}
    gains = _gains(run.measurements)
    for name, each in trained.items():
        found = gains[gains["checkpoint"] == name]
        over_seeds = found[(found["estimand"] == OVER_SEEDS) & found["low"].notna()]
        rows = over_seeds if len(over_seeds) else found[found["estimand"] == THESE_SEEDS]
        if len(rows):
            row = rows.iloc[0]
            budget, numbers = _budget(each), (row["value"], row["low"], row["high"])
            selector = str(each["selector"])
            yield TrainedArm(name, selector, budget, *numbers, row["estimand"], run.name)


def _gains(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy minus that of base, by the reported rule, of the last checkpoints."""
    names = [what for what in frame["what"].unique() if re.fullmatch(r"avg_at_\d+", what)]
    rows = vocabulary.select(frame, what=[minus(name, BASE) for name in names], view=LAST)
    return rows[rows["condition"] == rows["condition"].iloc[0]] if len(rows) else rows


def _budget(trained: Mapping[str, Any]) -> int | None:
    """Tokens that a run trained on, at most."""
    options = trained["training"]
    if SELECTORS[trained["selector"]].whole:
        return None
    given = options.get("budget")
    if given is None:
        given = options.get("rollout_length")
    if given in (None, FULL) or math.isinf(float(given)):
        return None
    return int(given)
