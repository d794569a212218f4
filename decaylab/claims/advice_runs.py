"""The runs of a pair that the advice reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decaylab.claims.verdicts import listed
from decaylab.runs.found_runs import FoundRun


@dataclass(frozen=True)
class Read:
    """The runs that count: every sweep and behaviour run, and of each other command the run with
    the most problems. notes: which runs were left out."""

    sweeps: tuple[FoundRun, ...]
    behaviour: tuple[FoundRun, ...]
    decay: FoundRun | None
    signals: FoundRun | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[FoundRun]) -> Read:
        decay, decay_note = most_problems(runs, "prefix-decay")
        signals, signals_note = most_problems(runs, "signals")
        return cls(
            tuple(run for run in runs if run.command.startswith("sweep ")),
            tuple(run for run in runs if run.command == "behaviour"),
            decay,
            signals,
            tuple(filter(None, (decay_note, signals_note))),
        )

    @property
    def all(self) -> tuple[FoundRun, ...]:
        single = [run for run in (self.decay, self.signals) if run]
        return (*self.sweeps, *single, *self.behaviour)


def most_problems(runs: Sequence[FoundRun], command: str) -> tuple[FoundRun | None, str]:
    """The run of a command with the most problems (the first of equals), and a sentence on the runs
    left out."""
    of_command = [run for run in runs if run.command == command]
    if not of_command:
        return None, ""
    taken = max(of_command, key=problems_of)
    others = [f"{run.name} ({problems_of(run):,})" for run in of_command if run is not taken]
    if not others:
        return taken, ""
    return taken, (
        f"Of {len(of_command)} {command} runs, {taken.name} is used, which has the most problems "
        f"({problems_of(taken):,}), instead of {listed(others)}."
    )


def problems_of(run: FoundRun) -> int:
    """The number of problems of a run: the most behind any of its numbers."""
    return int(run.measurements["problems"].max()) if len(run.measurements) else 0
