"""A sweep: training arms, each with several seeds, trained and evaluated in processes of their own,
then compared.

Every run is what ``decaylab train`` and ``decaylab evaluate`` make, in a folder named after arm and
seed. What is finished is not done again, so that a sweep goes on where it was with the same
command, and two sweeps share the runs they have in common.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab import printing
from decaylab.analyses import efficiency, stability, token_selection
from decaylab.analyses import sweep as analysis
from decaylab.commands import children
from decaylab.commands.diagnose import reported_first
from decaylab.commands.drawing import drawn
from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.command_options import COMMANDS
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import PairOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import checkpoint_rules
from decaylab.policies.checkpoint_folders import step_of
from decaylab.policies.identity import versions
from decaylab.progress import Reporter
from decaylab.rollouts.engine_spec import engine_record
from decaylab.runs import measurements, outcomes, store
from decaylab.runs.growing_csv import Table
from decaylab.runs.trained import TrainedRun
from decaylab.runs.vocabulary import BEST, LAST

# What is not handed on to a training, nor to its evaluation: it has its own, or none.
OWN = ("out", "overwrite", "seed", "workers")
# These are of the training problems; an evaluation knows the problems of the test from the run.
TRAINING_PROBLEMS = ("problems", "limit", "split", "columns", "revision")
NAMED = 3  # runs that failed and are named in one line
ENGINE = "sampling engine"  # beside the options of a run, of which none is called so
TIMED = "timed.json"  # in the folder of runs: beside how many others each was trained


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its training and where it stands."""

    options: TrainOptions
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluate"

    @property
    def trained(self) -> bool:
        return bool((store.RunFolder(self.folder).record or {}).get("finished", False))

    @property
    def evaluated(self) -> bool:
        return store.RunFolder(self.evaluation).finished


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
    jobs = _jobs(options)
    for job in jobs:
        _check_training(job)
        _check_evaluation(job, options)
    folder = store.RunFolder(options.folder())
    with store.RunFolder(options.folder_of_runs()).lock(), folder.lock():
        folder.open(_record(options, jobs, command), overwrite=options.overwrite)
        failed = _work(jobs, options, reporter)
        finished = [job for job in jobs if job.name not in failed]
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


def _jobs(options: SweepOptions) -> list[Job]:
    """Every arm with its first seed before any second one: what is there early compares all
    arms."""
    arms, root = options.arms(), options.folder_of_runs()
    jobs = []
    for place in range(options.seeds):
        for arm in arms:
            training = dataclasses.replace(arm, seed=options.seed + place)
            jobs.append(Job(training, root / f"{training.arm()}-seed-{training.seed}"))
    return jobs


def _check_training(job: Job) -> None:
    """Raises UserError where a run's folder holds another training."""
    there = _held(job.folder, "training")
    if there is None:
        return
    wanted = {**dataclasses.asdict(job.options), ENGINE: engine_record(job.options)}
    here = {name: value for name, value in wanted.items() if name in there}
    # a record holds what JSON makes of a value, such as a list of a tuple
    if differences := store.differing(there, json.loads(json.dumps(here))):
        raise UserError(
            f"{job.folder} contains a run with different settings "
            f"({'; '.join(differences[:3])}); choose another --runs"
        )


def _check_evaluation(job: Job, options: SweepOptions) -> None:
    """Raises UserError where a run's folder holds an evaluation of something else."""
    there = _held(job.evaluation, "options")
    if there is None or options.overwrite:
        return
    wanted = {
        "samples": options.samples,
        "limit": options.test_limit,
        ENGINE: engine_record(options),
    }
    here = {name: value for name, value in wanted.items() if name in there}
    if differences := store.differing({name: there[name] for name in here}, here):
        raise UserError(
            f"{job.evaluation} holds another evaluation ({'; '.join(differences)}); "
            "choose another --runs, or --overwrite to evaluate again"
        )


def _held(folder: Path, key: str) -> dict[str, Any] | None:
    """Options that a run's record holds, and its engine; None where there is no record."""
    identity = (store.RunFolder(folder).record or {}).get("identity", {})
    if key not in identity:
        return None
    held = dict(identity[key])
    if "engine" in identity:
        held[ENGINE] = identity["engine"]
    return held


# Work


def _work(jobs: Sequence[Job], options: SweepOptions, reporter: Reporter) -> dict[str, str]:
    """Trains and evaluates what is not there, several runs at a time; returns the last words of
    each run that failed."""
    left = [job for job in jobs if not _done(job, options)]
    done_before = len(jobs) - len(left)
    started = time.monotonic()
    with reporter.stage(f"sweep {options.over}", len(jobs), "runs") as progress:
        progress.skip(done_before)
        ended = 0

        def on_end(job: children.Job, failure: str, seconds: float) -> None:
            nonlocal ended
            ended += 1
            progress.advance(0, 0 if failure else 1)
            outcome = f"failed: {failure}" if failure else f"in {printing.seconds(seconds)}"
            rest = (time.monotonic() - started) / ended * (len(left) - ended)
            if rest:
                outcome += f"; about {printing.seconds(rest)} left"
            count = f"{done_before + ended} of {len(jobs)} runs"
            reporter.note(f"{count}: {job.name} {outcome}")

        devices = children.cuda_devices(options.workers) if options.device == "auto" else ()
        work = [_commands(job, options) for job in left]
        _remember(options, [job.name for job in left if not job.trained])
        return children.run(work, workers=options.workers, on_end=on_end, devices=devices)


def _remember(options: SweepOptions, untrained: Sequence[str]) -> None:
    """Of how many at a time each run was one, the most that there were, for whoever compares
    seconds later."""
    if not untrained:
        return
    most = _timed(options)
    for name in untrained:
        most[name] = max(options.workers, most.get(name, 0))
    text = json.dumps(most, indent=1, sort_keys=True) + "\n"
    write_atomically(options.folder_of_runs() / TIMED, text.encode())


def _timed(options: SweepOptions) -> dict[str, int]:
    path = options.folder_of_runs() / TIMED
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _done(job: Job, options: SweepOptions) -> bool:
    """Whether the run is trained, and the checkpoints that are asked for are evaluated."""
    if options.overwrite or not job.trained or not job.evaluated:
        return False
    plan = checkpoint_rules.plan([str(job.folder)], options.checkpoint_rule)
    evaluated = set(outcomes.read(job.evaluation / "outcomes.parquet")["step"])
    return {checkpoint.step for checkpoint in plan.checkpoints} <= evaluated


def _commands(job: Job, options: SweepOptions) -> children.Job:
    """What a run still needs: training, and evaluation. One of other checkpoints gives way; its
    rollouts are in the cache."""
    train = ("train", *_words(job.options), "--out", str(job.folder), "--quiet")
    rule = options.checkpoint_rule
    if job.evaluated and not options.overwrite and rule in (LAST, BEST):
        rule = f"{LAST},{BEST}"  # the other one is there, and stays
    evaluate = ("evaluate", str(job.folder), *_evaluation(options, rule))
    if job.evaluated:
        evaluate += ("--overwrite",)
    log = options.folder_of_runs() / "logs" / f"{job.name}.log"
    return children.Job(job.name, (evaluate,) if job.trained else (train, evaluate), log)


def _evaluation(options: SweepOptions, rule: str) -> list[str]:
    """The options of an evaluation: all that it shares with the sweep, and what the sweep has for
    it alone."""
    shared = set(COMMANDS["evaluate"].names) - {
        *OWN,
        *TRAINING_PROBLEMS,
        "checkpoint_rule",
        "samples",
    }
    given = {name: getattr(options, name) for name in fields_of(SweepOptions) if name in shared}
    words = ["--checkpoint-rule", rule, "--samples", str(options.samples)]
    given["limit"] = options.test_limit
    return [*words, *declared.as_words(DiagnosticOptions, given), "--quiet"]


def _words(options: TrainOptions) -> list[str]:
    """A training's options as the command line takes them; those that have their default are left
    out."""
    names = [name for name in COMMANDS["train"].names if name not in OWN]
    given = {name: getattr(options, name) for name in names}
    return ["--seed", str(options.seed), *declared.as_words(TrainOptions, given)]


def fields_of(kind: type[PairOptions]) -> list[str]:
    return [each.name for each in dataclasses.fields(kind)]


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
    frames: list[pd.DataFrame] = [
        analysis.measure(runs, analysis.Settings(reported_first(rule), **common)),
        token_selection.measure(runs, token_selection.Settings(**common)),
        stability.measure(runs, stability.Settings(rule, **common)),
        efficiency.measure(runs, efficiency.Settings(note=_beside(jobs, options), **common)),
    ]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def _beside(jobs: Sequence[Job], options: SweepOptions) -> str:
    """Beside how many other runs any of these were timed; nothing where each had the machine to
    itself."""
    timed = _timed(options)
    others = max(timed.get(job.name, options.workers) for job in jobs) - 1
    if not others:
        return ""
    return f"timed beside up to {others} other run{'s' * (others > 1)}"


def _notes(jobs: Sequence[Job], finished: Sequence[Job], options: SweepOptions) -> list[str]:
    notes = []
    if beside := _beside(finished, options):
        notes.append(
            f"seconds and memory: {beside}; a comparison of costs wants --workers 1 and a machine "
            "of its own"
        )
    # every run and every evaluation repeats the sentences on its prompts
    for job in finished:
        for folder in (job.folder, job.evaluation):
            record = store.RunFolder(folder).record or {}
            notes += record.get("prompt_notes", [])
    if len(finished) < len(jobs):
        notes.append(f"{len(jobs) - len(finished)} of {len(jobs)} runs failed, left out")
    return list(dict.fromkeys(notes))


def _record(options: SweepOptions, jobs: Sequence[Job], command: str) -> dict[str, Any]:
    """run.json: what is compared is its identity; what runs are made of stands in theirs."""
    return {
        "command": command,
        "identity": {
            "options": declared.identity(options, declared.SWEEP),
            "runs": {
                job.name: {"selector": job.options.selector, "training": _training(job.options)}
                for job in jobs
            },
            "engine": engine_record(options),
        },
        "runs": str(options.folder_of_runs()),
        "versions": versions(),
        "notes": [],
    }


def _training(options: TrainOptions) -> dict[str, Any]:
    """The options that make a training what it is, but those that have their default."""
    usual = TrainOptions()
    given = declared.identity(options, declared.TRAINED)
    return {name: value for name, value in given.items() if value != getattr(usual, name)}


def _pair(job: Job) -> dict[str, Any]:
    """Student and teacher, the same for every run, as its run.json identifies them."""
    identity = (store.RunFolder(job.folder).record or {}).get("identity", {})
    return {role: identity[role] for role in ("student", "teacher")}
