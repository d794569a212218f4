"""The runs of a pair that the advice reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decaylab.claims.on_decay import machinery
from decaylab.claims.verdicts import CONTRADICTED
from decaylab.claims.wording import listed
from decaylab.runs.found_runs import FoundRun


@dataclass(frozen=True)
class Read:
    """The runs that count: every sweep and behaviour run, and of each other command the run with
    the most problems. notes: which runs were left out."""

    sweeps: tuple[FoundRun, ...]
    behaviour: tuple[FoundRun, ...]
    decay: FoundRun | None
    signals: FoundRun | None
    values: FoundRun | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[FoundRun]) -> Read:
        decay, decay_note = most_problems(runs, "prefix-decay")
        signals, signals_note = most_problems(runs, "signals")
        values, values_note = most_problems(runs, "values")
        return cls(
            tuple(run for run in runs if run.command.startswith("sweep ")),
            tuple(run for run in runs if run.command == "behaviour"),
            decay,
            signals,
            values,
            tuple(filter(None, (decay_note, signals_note, values_note))),
        )

    @property
    def all(self) -> tuple[FoundRun, ...]:
        single = [run for run in (self.decay, self.signals, self.values) if run]
        return (*self.sweeps, *single, *self.behaviour)


def most_problems(runs: Sequence[FoundRun], command: str) -> tuple[FoundRun | None, str]:
    """The run of a command with the most problems (the first of equals), of decay runs first those
    with the control; and a sentence on the runs left out."""
    of_command = [run for run in runs if run.command == command]
    if not of_command:
        return None, ""
    controls = {run.name: machinery(run) for run in of_command}
    taken = max(of_command, key=lambda run: (controls[run.name] is not None, problems_of(run)))
    others = [run for run in of_command if run is not taken]
    if not others:
        return taken, ""
    most = max(map(problems_of, others))
    reason = "which has the most problems"
    if most > problems_of(taken):
        reason = "which has the control"
    elif most == problems_of(taken):
        reason = "the first of those with the most problems"
    failed = [
        run.name
        for run in others
        if (control := controls[run.name]) and control.verdict == CONTRADICTED
    ]
    note = (
        f"Of {len(of_command)} {command} runs, {taken.name} is used, {reason} "
        f"({problems_of(taken):,}), instead of {listed(_beside(run, taken) for run in others)}."
    )
    if failed:
        note += f" The control of {listed(failed)} fails."
    return taken, note


def _beside(other: FoundRun, taken: FoundRun) -> str:
    """A run that is not used: its name, problems, and the settings that differ."""
    parts = [f"{problems_of(other):,}"]
    for name in ("temperature", "max_tokens", "answer_rule"):
        value = other.options.get(name)
        if value != taken.options.get(name):
            parts.append(f"{name.replace('_', ' ')} {value}")
    return f"{other.name} ({', '.join(parts)})"


def problems_of(run: FoundRun) -> int:
    """The number of problems of a run: the most behind any of its numbers."""
    return int(run.measurements["problems"].max()) if len(run.measurements) else 0
