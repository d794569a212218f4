"""A sweep: training arms, each with several seeds, trained and evaluated in processes of their own,
then compared.

Every run is what ``decaylab train`` and ``decaylab evaluate`` make, in a folder named after arm and
seed. What is finished is not done again, so that a sweep goes on where it was with the same
command, and two sweeps share the runs they have in common.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analyses import efficiency, stability, token_selection
from decaylab.analyses import sweep as analysis
from decaylab.commands import sweep_runs
from decaylab.commands.drawing import drawn
from decaylab.commands.sweep_runs import Job
from decaylab.errors import UserError, keeping
from decaylab.options import declared
from decaylab.options.option_values import words
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import checkpoint_rules
from decaylab.plugins import loading, origins
from decaylab.policies.checkpoint_folders import step_of
from decaylab.policies.identity import versions
from decaylab.problems import tasks
from decaylab.progress import Reporter
from decaylab.runs import measurements, outcomes, records, store
from decaylab.runs.growing_csv import Table
from decaylab.runs.trained import TrainedRun

NAMED = 3  # runs that failed and are named in one line


@dataclass(frozen=True)
class SweepResult:
    """A sweep: its folder, record, measurements and what must be known. failed: runs that are not
    in it, and why."""

    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def complaint(self) -> str:
        """The runs that failed, in one line; "" where none did."""
        if not self.failed:
            return ""
        count = len(self.failed)
        named = "; ".join(f"{name} ({why})" for name, why in [*self.failed.items()][:NAMED])
        if count > NAMED:
            named += f" and {count - NAMED} more"
        runs, them = ("runs", "them") if count > 1 else ("run", "it")
        return f"{count} {runs} failed: {named}; the same command tries {them} again"


def sweep(
    options: SweepOptions, *, command: str = "", reporter: Reporter | None = None
) -> SweepResult:
    """Trains and evaluates what is not there yet, compares, draws; returns the results.

    A run that fails stops no other; the result names it and holds all others.

    Raises:
        UserError: an option that cannot be used, a run of another configuration, or no run that did
            not fail.
    """
    reporter = reporter or Reporter(quiet=True)
    options = with_sources(options)
    folder = store.RunFolder(options.folder())
    jobs = sweep_runs.all_runs(options)
    for job in jobs:
        sweep_runs.check_training(job)
        sweep_runs.check_evaluation(job, options)
    with (
        keeping(lambda: sweep_runs.kept(jobs, options)),
        store.RunFolder(options.folder_of_runs()).lock(),
        folder.lock(),
    ):
        complete = folder.finished and all(sweep_runs.done(job, options) for job in jobs)
        record = _record(options, jobs, command)
        folder.open(record, overwrite=options.overwrite, complete=complete)
        failed = sweep_runs.work(jobs, options, reporter)
        finished = [job for job in jobs if job.name not in failed]
        for job in finished:  # a plugin's file may have changed meanwhile
            sweep_runs.check_training(job)
        if not finished:
            raise UserError(SweepResult(folder.path, {}, pd.DataFrame(), (), failed).complaint)
        frame = _measure(finished, options, folder.path.name)
        changed = {
            "command": command,
            "versions": versions(),
            "notes": _notes(jobs, finished, options),
            "pair": _pair(finished[0]),
        }
        folder.update(changed)
        measurements.write(frame, folder.path / "measurements.parquet")
    record = drawn(folder, f"sweep {options.over}", published=options.paper)
    return SweepResult(folder.path, record, frame, tuple(record["notes"]), failed)


def with_sources(options: SweepOptions) -> SweepOptions:
    """The options with the plugins by which its processes know the user's own functions that were
    registered in this one."""
    named = [one for arm in options.arms() for one in arm.own_parts()]
    return dataclasses.replace(options, plugin=loading.sources(named, options.plugin))


# Results


def _run(job: Job, options: SweepOptions) -> TrainedRun:
    """A finished run as analyses see it."""
    chosen = checkpoint_rules.plan([str(job.folder)], options.checkpoint_rule).chosen
    path = job.folder / "validation.csv"
    validation = pd.DataFrame(columns=["step", "problems", "accuracy"])
    if path.exists():
        validation = Table(path).read()
    return TrainedRun(
        job.options.arm(),
        job.options.seed,
        job.options.selector,
        float(job.options.stop_at or math.inf),
        outcomes.read(job.evaluation / "outcomes.parquet"),
        Table(job.folder / "metrics.csv").read(),
        validation,
        {rule: float(step_of(Path(names[0])) or 0) for rule, names in chosen.items()},
    )


def _measure(jobs: Sequence[Job], options: SweepOptions, name: str) -> pd.DataFrame:
    runs = [_run(job, options) for job in jobs]
    evaluated = measurements.read(jobs[0].evaluation / "measurements.parquet")
    rule = options.answer_rule or str(evaluated["answer_rule"].iloc[0])
    common: dict[str, Any] = {"level": options.level, "run": name}
    tested = words(str(jobs[0].options.test_problems))[0]
    reported = tasks.of_set(tested).reported_first(rule)
    frames: list[pd.DataFrame] = [
        analysis.measure(runs, analysis.Settings(reported, **common)),
        token_selection.measure(runs, token_selection.Settings(**common)),
        stability.measure(runs, stability.Settings(rule, **common)),
        efficiency.measure(runs, efficiency.Settings(note=_beside(jobs, options), **common)),
    ]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def _beside(jobs: Sequence[Job], options: SweepOptions) -> str:
    """Beside how many other runs any of these were timed; nothing where each had the machine to
    itself."""
    timed = sweep_runs.timed(options)
    others = max(timed.get(job.name, options.workers) for job in jobs) - 1
    if not others:
        return ""
    return f"timed beside up to {others} other run{'s' * (others > 1)}"


def _notes(jobs: Sequence[Job], finished: Sequence[Job], options: SweepOptions) -> list[str]:
    notes = []
    if beside := _beside(finished, options):
        notes.append(
            f"seconds and memory: {beside}; to compare costs, use --workers 1 and a machine "
            "of its own"
        )
    # every run and every evaluation repeats the sentences on its prompts
    for job in finished:
        for folder in (job.folder, job.evaluation):
            record = store.RunFolder(folder).record or {}
            notes += record.get("prompt_notes", [])
    if len(finished) < len(jobs):
        notes.append(
            f"{len(jobs) - len(finished)} of {len(jobs)} runs failed, left out; the same command "
            "tries them again"
        )
    return list(dict.fromkeys(notes))


def _record(options: SweepOptions, jobs: Sequence[Job], command: str) -> dict[str, Any]:
    """run.json: what is compared is its identity; what runs are made of stands in theirs."""
    identity = {
        "options": declared.identity(options, declared.SWEEP),
        "runs": {
            job.name: {"selector": job.options.selector, "training": _training(job.options)}
            for job in jobs
        },
        **origins.identity(one for job in jobs for one in job.options.own_parts()),
    }
    return records.run_record(command, identity, runs=str(options.folder_of_runs()))


def _training(options: TrainOptions) -> dict[str, Any]:
    """The options that make a training what it is, but those that have their default."""
    usual = TrainOptions()
    given = declared.identity(options, declared.TRAINED)
    return {name: value for name, value in given.items() if value != getattr(usual, name)}


def _pair(job: Job) -> dict[str, Any]:
    """Student and teacher, the same for every run, as its run.json identifies them."""
    identity = (store.RunFolder(job.folder).record or {}).get("identity", {})
    return {role: identity[role] for role in ("student", "teacher")}
