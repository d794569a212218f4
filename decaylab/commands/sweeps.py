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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analyses import efficiency, stability, token_selection
from decaylab.analyses import sweep as analysis
from decaylab.commands import children
from decaylab.commands.drawing import drawn
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.command_options import COMMANDS
from decaylab.options.measuring import BEST, LAST, DiagnosticOptions, PairOptions
from decaylab.options.sweeping import LENGTHS, SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import checkpoint_rules
from decaylab.paper import publication
from decaylab.policies.checkpoint_folders import step_of
from decaylab.policies.identity import versions
from decaylab.problems.answers import ANSWER_RULES
from decaylab.progress import Reporter
from decaylab.rollouts.engine_spec import engine_record
from decaylab.runs import measurements, outcomes, store
from decaylab.runs.growing_csv import Table
from decaylab.runs.trained import TrainedRun

# What is not handed on to a training, nor to its evaluation: it has its own, or none.
OWN = ("out", "overwrite", "seed", "workers")
# These are of the training problems; an evaluation knows the problems of the test from the run.
TRAINING_PROBLEMS = ("problems", "limit", "split", "columns", "revision")
FIGURES = {LENGTHS: "n_sweep"}
NEEDED = {
    "stability": "peak_accuracy"
}  # what a figure cannot be drawn without: runs of one checkpoint have none
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
        """What is told of the runs that failed, in one line; nothing where none did."""
        named = "; ".join(f"{name} ({told})" for name, told in [*self.failed.items()][:NAMED])
        more = f" and {len(self.failed) - NAMED} more" if len(self.failed) > NAMED else ""
        several = len(self.failed) > 1
        again = f"the same command tries {'them' if several else 'it'} again"
        return (
            f"{len(self.failed)} run{'s' * several} failed: {named}{more}; {again}"
            if self.failed
            else ""
        )


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
        _check(job, options)
    folder = store.RunFolder(options.folder())
    with store.RunFolder(options.folder_of_runs()).lock(), folder.lock():
        folder.open(_record(options, jobs, command), overwrite=options.overwrite)
        failed = _work(jobs, options, reporter)
        finished = [job for job in jobs if job.name not in failed]
        if not finished:
            raise UserError(SweepResult(folder.path, {}, pd.DataFrame(), (), failed).complaint)
        frame = _measure(finished, options, folder.path.name)
        notes = _notes(jobs, finished, options)
        changed = {
            "command": command,
            "versions": versions(),
            "notes": list(notes),
            "pair": _pair(finished[0]),
        }
        record = folder.update(changed)
        measurements.write(frame, folder.path / "measurements.parquet")
        if told := drawn(lambda: _draw(frame, options, folder.path), folder.path):
            notes += told
            record = folder.update({"notes": list(notes)})
    return SweepResult(folder.path, record, frame, notes, failed)


def _jobs(options: SweepOptions) -> list[Job]:
    """Every arm with its first seed before any second one: what is there early compares all
    arms."""
    arms, root = options.arms(), options.folder_of_runs()
    found = [options.of_seed(arm, place) for place in range(options.seeds) for arm in arms]
    return [Job(one, root / f"{one.arm()}-seed-{one.seed}") for one in found]


def _check(job: Job, options: SweepOptions) -> None:
    """Raises UserError where a run's folder holds another training, or an evaluation of something
    else."""
    there = _held(job.folder, "training")
    if there is not None:
        mine = {**dataclasses.asdict(job.options), ENGINE: engine_record(job.options)}
        here = json.loads(
            json.dumps({name: value for name, value in mine.items() if name in there})
        )
        if differences := store.differing(there, here):
            raise UserError(
                f"{job.folder} holds a run of another configuration "
                f"({'; '.join(differences[:3])}); choose another --runs"
            )
    asked = _held(job.folder / "evaluate", "options")
    if asked is not None and not options.overwrite:
        wanted = {
            "samples": options.samples,
            "limit": options.test_limit,
            ENGINE: engine_record(options),
        }
        wanted = {name: value for name, value in wanted.items() if name in asked}
        if differences := store.differing({name: asked[name] for name in wanted}, wanted):
            raise UserError(
                f"{job.folder / 'evaluate'} holds another evaluation ({'; '.join(differences)}); "
                "choose another --runs, or "
                "--overwrite to evaluate again"
            )


def _held(folder: Path, key: str) -> dict[str, Any] | None:
    """Options that a run's record holds, and its engine; None where there is no record."""
    identity = (store.RunFolder(folder).record or {}).get("identity", {})
    if key not in identity:
        return None
    return {**identity[key], **({ENGINE: identity["engine"]} if "engine" in identity else {})}


# Work


def _work(jobs: Sequence[Job], options: SweepOptions, reporter: Reporter) -> dict[str, str]:
    """Trains and evaluates what is not there, several runs at a time; returns what each run that
    failed said last."""
    left = [job for job in jobs if not _done(job, options)]
    started = time.monotonic()
    failed: dict[str, str] = {}
    with reporter.stage(f"sweep {options.over}", len(jobs), "runs") as progress:
        progress.skip(len(jobs) - len(left))
        ended = 0

        def on_end(one: children.Job, told: str, seconds: float) -> None:
            nonlocal ended
            ended += 1
            progress.advance(0, 0 if told else 1)
            rest = (time.monotonic() - started) / ended * (len(left) - ended)
            more = f"; about {spoken_seconds(rest)} left" if rest else ""
            what = f"failed: {told}" if told else f"in {spoken_seconds(seconds)}"
            reporter.note(
                f"{len(jobs) - len(left) + ended} of {len(jobs)} runs: {one.name} {what}{more}"
            )

        devices = children.cuda_devices(options.workers) if options.device == "auto" else ()
        work = [_commands(job, options) for job in left]
        if untrained := [job.name for job in left if not _trained(job)]:
            _remember(options.folder_of_runs() / TIMED, dict.fromkeys(untrained, options.workers))
        failed = children.run(work, workers=options.workers, on_end=on_end, devices=devices)
    return failed


def _remember(path: Path, workers: Mapping[str, int]) -> None:
    """Of how many at a time each run was one, the most that there were, for whoever compares
    seconds later."""
    before = _timed(path)
    most = {name: max(count, before.get(name, 0)) for name, count in workers.items()}
    store.write_atomically(
        path, (json.dumps(before | most, indent=1, sort_keys=True) + "\n").encode()
    )


def _timed(path: Path) -> dict[str, int]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _trained(job: Job) -> bool:
    return bool((store.RunFolder(job.folder).record or {}).get("finished", False))


def _done(job: Job, options: SweepOptions) -> bool:
    """Whether the run is trained, and the checkpoints that are asked for are evaluated."""
    if not _trained(job) or not (job.folder / "evaluate" / "measurements.parquet").exists():
        return False
    if options.overwrite:
        return False
    plan = checkpoint_rules.plan([str(job.folder)], options.checkpoint_rule)
    evaluated = set(outcomes.read(job.folder / "evaluate" / "outcomes.parquet")["step"])
    return {one.step for one in plan.checkpoints} <= evaluated


def _commands(job: Job, options: SweepOptions) -> children.Job:
    """What a run still needs: training, and evaluation. One of other checkpoints gives way; its
    rollouts are in the cache."""
    train = ("train", *_words(job.options), "--out", str(job.folder), "--quiet")
    there = (job.folder / "evaluate" / "measurements.parquet").exists()
    rule = options.checkpoint_rule
    if there and not options.overwrite and rule in (LAST, BEST):
        rule = f"{LAST},{BEST}"  # the other one is there, and stays
    words = _evaluation(options, rule)
    evaluate = ("evaluate", str(job.folder), *words, *(["--overwrite"] if there else []))
    log = options.folder_of_runs() / "logs" / f"{job.name}.log"
    return children.Job(job.name, (evaluate,) if _trained(job) else (train, evaluate), log)


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
    return [one.name for one in dataclasses.fields(kind)]


# Results


def _run(job: Job, options: SweepOptions) -> TrainedRun:
    """A finished run as analyses see it."""
    chosen = checkpoint_rules.plan([str(job.folder)], options.checkpoint_rule).chosen
    validation = job.folder / "validation.csv"
    return TrainedRun(
        job.options.arm(),
        job.options.seed,
        job.options.selector,
        float(job.options.stop_at or math.inf),
        outcomes.read(job.folder / "evaluate" / "outcomes.parquet"),
        Table(job.folder / "metrics.csv").read(),
        Table(validation).read()
        if validation.exists()
        else pd.DataFrame(columns=["step", "problems", "accuracy"]),
        {rule: float(step_of(Path(names[0])) or 0) for rule, names in chosen.items()},
    )


def _measure(jobs: Sequence[Job], options: SweepOptions, name: str) -> pd.DataFrame:
    runs = [_run(job, options) for job in jobs]
    reported = measurements.read(jobs[0].folder / "evaluate" / "measurements.parquet")[
        "answer_rule"
    ]
    rule = options.answer_rule or str(reported.iloc[0])
    common: dict[str, Any] = {"level": options.level, "run": name}
    rules = (rule, *(other for other in ANSWER_RULES if other != rule))
    frames: list[pd.DataFrame] = [
        analysis.measure(runs, analysis.Settings(rules, **common)),
        token_selection.measure(runs, token_selection.Settings(**common)),
        stability.measure(runs, stability.Settings(rule, **common)),
        efficiency.measure(runs, efficiency.Settings(note=_beside(jobs, options), **common)),
    ]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def _beside(jobs: Sequence[Job], options: SweepOptions) -> str:
    """Beside how many other runs any of these were timed; nothing where each had the machine to
    itself."""
    timed = _timed(options.folder_of_runs() / TIMED)
    others = max(timed.get(job.name, options.workers) for job in jobs) - 1
    return f"timed beside up to {others} other run{'s' * (others > 1)}" if others else ""


def _notes(jobs: Sequence[Job], finished: Sequence[Job], options: SweepOptions) -> tuple[str, ...]:
    told = _beside(finished, options)
    notes = (
        [
            f"seconds and memory: {told}; a comparison of costs wants --workers 1 and a machine "
            "of its own"
        ]
        if told
        else []
    )
    notes += _of_prompts(finished)
    if len(finished) < len(jobs):
        notes.append(f"{len(jobs) - len(finished)} of {len(jobs)} runs failed, left out")
    return tuple(notes)


def _of_prompts(jobs: Sequence[Job]) -> list[str]:
    """What the runs and their evaluations say of their prompts, each sentence once."""
    folders = [folder for job in jobs for folder in (job.folder, job.folder / "evaluate")]
    records = [store.RunFolder(folder).record or {} for folder in folders]
    return list(
        dict.fromkeys(note for record in records for note in record.get("prompt_notes", []))
    )


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


def _draw(frame: pd.DataFrame, options: SweepOptions, folder: Path) -> None:
    from decaylab.figures import efficiency as costs
    from decaylab.figures import n_sweep, style
    from decaylab.figures import stability as checkpoints
    from decaylab.figures import token_selection as selectors

    published: Mapping[str, Callable[[], pd.DataFrame]] = {
        "n_sweep": publication.n_sweep,
        "token_selection": publication.token_selection,
        "stability": publication.per_step,
        "efficiency": publication.efficiency,
    }
    compared: Any = n_sweep if options.over == LENGTHS else selectors
    name = FIGURES.get(options.over, "token_selection")
    chosen = [(name, compared), ("stability", checkpoints), ("efficiency", costs)]
    for which, figure in chosen:
        if NEEDED.get(which, "") not in ("", *frame["what"]):
            continue
        theirs = published[which]() if options.paper else None
        file = folder / which.replace("_", "-")
        style.save(figure.draw(frame, published=theirs), file)
        store.write_atomically(
            file.with_suffix(".txt"), (figure.caption(frame, theirs) + "\n").encode()
        )


def spoken_seconds(seconds: float) -> str:
    """A span of time in the unit that fits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
