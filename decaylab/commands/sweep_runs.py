"""The runs of a sweep: what each trains and evaluates, in processes of their own, and how far they
are.

Every run is what ``decaylab train`` and ``decaylab evaluate`` make, in a folder named after arm and
seed. What is finished is not done again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab import printing
from decaylab.commands import children
from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.command_options import COMMANDS
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import checkpoint_rules
from decaylab.plugins import origins
from decaylab.progress import Reporter, StageProgress
from decaylab.runs import differences, outcomes, store
from decaylab.runs.vocabulary import BEST, LAST

# What is not handed on to a training, nor to its evaluation: it has its own, or none.
OWN = ("out", "overwrite", "seed", "workers")
# These are of the training problems; an evaluation knows the problems of the test from the run.
TRAINING_PROBLEMS = ("problems", "limit", "split", "columns", "revision")
TIMED = "timed.json"  # in the folder of runs: beside how many others each was trained
LINE_SECONDS = 60  # between two lines on how far the runs are, where there is no bar


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

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return int(self.options.steps or 1)

    @property
    def steps_done(self) -> int:
        """Training steps that metrics.csv holds."""
        try:
            lines = (self.folder / "metrics.csv").read_bytes().count(b"\n")
        except OSError:
            return 0
        return max(0, min(lines - 1, self.steps))


def all_runs(options: SweepOptions) -> list[Job]:
    """Every arm with its first seed before any second one: what is there early compares all
    arms."""
    arms, root = options.arms(), options.folder_of_runs()
    jobs = []
    for place in range(options.seeds):
        for arm in arms:
            training = dataclasses.replace(arm, seed=options.seed + place)
            jobs.append(Job(training, root / f"{training.arm()}-seed-{training.seed}"))
    return jobs


def check_training(job: Job) -> None:
    """Raises UserError where a run's folder holds another training."""
    there = _held(job.folder, "training")
    if there is None:
        return
    # a record holds what JSON makes of a value, such as a list of a tuple
    wanted = json.loads(json.dumps(dataclasses.asdict(job.options)))
    own = origins.differences(there.plugins, _plugins(job.options))
    if differing := [*_differing(there, wanted, job.options), *own]:
        raise UserError(
            f"{job.folder} contains a run with different settings "
            f"({'; '.join(differing[:3])}); choose another --runs"
        )


def check_evaluation(job: Job, options: SweepOptions) -> None:
    """Raises UserError where a run's folder holds an evaluation of something else."""
    there = _held(job.evaluation, "options")
    if there is None or options.overwrite:
        return
    wanted = {"samples": options.samples, "limit": options.test_limit}
    own = origins.differences(there.plugins, _plugins(job.options))
    if differing := [*_differing(there, wanted, options), *own]:
        raise UserError(
            f"{job.evaluation} holds another evaluation ({_of_test('; '.join(differing))}); "
            "choose another --runs, or --overwrite to evaluate again"
        )


def _of_test(words: str) -> str:
    """The options of an evaluation as a sweep calls them."""
    return words.replace("--limit", "--test-limit")


@dataclass(frozen=True)
class _Held:
    """What a run's record holds: options, and functions of the user's own."""

    options: Mapping[str, Any]
    plugins: Mapping[str, Any]


def _held(folder: Path, key: str) -> _Held | None:
    """What a run's record holds under this key; None where there is no such record."""
    identity = (store.RunFolder(folder).record or {}).get("identity", {})
    if key not in identity:
        return None
    return _Held(identity[key], identity.get(origins.PLUGINS, {}))


def _plugins(options: TrainOptions) -> Mapping[str, Any]:
    """The functions of the user's own that a training uses, as run.json holds them."""
    found: Mapping[str, Any] = origins.identity(options.own_parts()).get(origins.PLUGINS, {})
    return found


def _differing(there: _Held, wanted: Mapping[str, Any], options: TrainOptions) -> list[str]:
    """How a run differs from the wanted one, in words, by what both have."""
    names = there.options.keys() & wanted.keys()
    held: dict[str, Any] = {"options": {name: there.options[name] for name in names}}
    here: dict[str, Any] = {"options": {name: wanted[name] for name in names}}
    return differences.found(held, here)


# Work


def work(jobs: Sequence[Job], options: SweepOptions, reporter: Reporter) -> dict[str, str]:
    """Trains and evaluates what is not there, several runs at a time; returns the last words of
    each run that failed."""
    left = [job for job in jobs if not done(job, options)]
    with reporter.stage(f"sweep {options.over}", len(jobs), "runs") as progress:
        progress.skip(len(jobs) - len(left))
        devices = children.cuda_devices(options.workers) if options.device == "auto" else ()
        _remember(options, [job.name for job in left if not job.trained])
        watch = SweepWatch(jobs, left, reporter, progress)
        commands = [_commands(job, options) for job in left]
        return children.run(commands, workers=options.workers, watch=watch, devices=devices)


def kept(jobs: Sequence[Job], options: SweepOptions) -> str:
    """What stays of an interrupted sweep."""
    finished = sum(job.trained and job.evaluated for job in jobs)
    words = f"{finished} of {len(jobs)} runs are finished in {options.folder_of_runs()}"
    begun = [f"{job.name} ({job.steps_done} steps)" for job in jobs if _begun(job)]
    if begun:
        words += f", and begun {', '.join(begun)}"
    return words


def _begun(job: Job) -> bool:
    return bool(job.steps_done) and not (job.trained and job.evaluated)


class SweepWatch(children.Watch):
    """Shows how far the runs of a sweep are: on a bar, or in a line a minute."""

    def __init__(
        self, jobs: Sequence[Job], left: Sequence[Job], reporter: Reporter, progress: StageProgress
    ) -> None:
        self.reporter, self.progress, self.total = reporter, progress, len(jobs)
        self.all_left, self.waiting = left, {job.name: job for job in left}  # or at work
        self.evaluated_only = {job.name for job in left if job.trained}
        self.begun_before = {job.name: _share(job) for job in left}
        self.steps_before = {job.name: job.steps_done for job in left}
        self.began = self.last_line = time.monotonic()

    def started(self, job: children.Job) -> None:
        self.reporter.note(f"{job.name} begins; log: {job.log}")

    def ticked(self, running: Sequence[children.Job]) -> None:
        at_work = [self.waiting[job.name] for job in running]
        words = self._places(at_work)
        self.progress.place(self.total - len(self.waiting) + self._begun(at_work), words)
        if not self.reporter.live and time.monotonic() - self.last_line >= LINE_SECONDS:
            self.last_line = time.monotonic()
            self.reporter.note(f"{self._count}; {words}{self._rest(at_work)}")

    def ended(self, job: children.Job, failure: str, seconds: float) -> None:
        del self.waiting[job.name]
        self.progress.advance(0, 0 if failure else 1)
        outcome = f"in {printing.seconds(seconds)}"
        if failure:
            outcome = f"failed: {failure} (log: {job.log})"
        self.reporter.note(f"{self._count}: {job.name} {outcome}{self._rest([])}")

    def interrupted(self, running: Sequence[children.Job]) -> None:
        names = ", ".join(job.name for job in running)
        self.reporter.note(
            f"Ctrl-C: waits for the step in flight of {names}; Ctrl-C again stops at once"
        )

    @property
    def _count(self) -> str:
        return f"{self.total - len(self.waiting)} of {self.total} runs"

    def _places(self, at_work: Sequence[Job]) -> str:
        """Where each run is, and the steps that all of them make in a second."""
        places = []
        for job in at_work:
            at = "evaluates" if job.trained else f"step {job.steps_done} of {job.steps}"
            places.append(f"{job.name} {at}")
        steps = sum(job.steps_done - self.steps_before[job.name] for job in self.all_left)
        rate = printing.significant(steps / max(self._seconds, 1e-9), 2)
        return f"{', '.join(places)}; {rate} steps/s"

    def _rest(self, at_work: Sequence[Job]) -> str:
        """How long what is left takes at the pace so far; "" where that is not known."""
        left = sum(1 - self._before(job) for job in self.waiting.values()) - self._begun(at_work)
        every = sum(1 - self._before(job) for job in self.all_left)
        if every <= left or left <= 0:
            return ""
        return f"; about {printing.seconds(self._seconds * left / (every - left))} left"

    def _begun(self, at_work: Sequence[Job]) -> float:
        """How much of the runs at work this process has done, in runs."""
        known = [job for job in at_work if job.name not in self.evaluated_only]
        return sum(_share(job) - self._before(job) for job in known)

    def _before(self, job: Job) -> float:
        """How much of a run was done before; of one that is only evaluated, nothing."""
        return 0.0 if job.name in self.evaluated_only else self.begun_before[job.name]

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.began


def _share(job: Job) -> float:
    """How much of a run is done, by its steps; the evaluation counts as one of them."""
    return job.steps_done / (job.steps + 1)


def _remember(options: SweepOptions, untrained: Sequence[str]) -> None:
    """Of how many at a time each run was one, the most that there were, for whoever compares
    seconds later."""
    if not untrained:
        return
    most = timed(options)
    for name in untrained:
        most[name] = max(options.workers, most.get(name, 0))
    text = json.dumps(most, indent=1, sort_keys=True) + "\n"
    write_atomically(options.folder_of_runs() / TIMED, text.encode())


def timed(options: SweepOptions) -> dict[str, int]:
    path = options.folder_of_runs() / TIMED
    return dict(json.loads(path.read_text())) if path.exists() else {}


def done(job: Job, options: SweepOptions) -> bool:
    """Whether the run is trained, and the checkpoints that are asked for are evaluated."""
    if options.overwrite or not job.trained or not job.evaluated:
        return False
    plan = checkpoint_rules.plan([str(job.folder)], options.checkpoint_rule)
    evaluated = set(outcomes.read(job.evaluation / "outcomes.parquet")["step"])
    return {checkpoint.step for checkpoint in plan.checkpoints} <= evaluated


def _commands(job: Job, options: SweepOptions) -> children.Job:
    """What a run still needs: training, and evaluation. One of other checkpoints gives way; its
    rollouts are in the cache."""
    train = ("train", *train_words(job.options), "--out", str(job.folder))
    rule = options.checkpoint_rule
    if job.evaluated and not options.overwrite and rule in (LAST, BEST):
        rule = f"{LAST},{BEST}"  # the other one is there, and stays
    out = ("--out", str(job.evaluation))
    evaluate = ("evaluate", str(job.folder), *evaluation_words(options, rule), *out)
    if job.evaluated:
        evaluate += ("--overwrite",)
    log = options.folder_of_runs() / "logs" / f"{job.name}.log"
    return children.Job(job.name, (evaluate,) if job.trained else (train, evaluate), log)


def evaluation_words(options: SweepOptions, rule: str) -> list[str]:
    """The options of an evaluation: all that it shares with the sweep, and what the sweep has for
    it alone."""
    shared = set(COMMANDS["evaluate"].names) - {
        *OWN,
        *TRAINING_PROBLEMS,
        "checkpoint_rule",
        "samples",
    }
    fields = [field.name for field in dataclasses.fields(options)]
    given = {name: getattr(options, name) for name in fields if name in shared}
    words = ["--checkpoint-rule", rule, "--samples", str(options.samples)]
    given["limit"] = options.test_limit
    return [*words, *declared.as_words(DiagnosticOptions, given)]


def train_words(options: TrainOptions) -> list[str]:
    """A training's options as the command line takes them; those that have their default are left
    out."""
    names = [name for name in COMMANDS["train"].names if name not in OWN]
    given = {name: getattr(options, name) for name in names}
    return ["--seed", str(options.seed), *declared.as_words(TrainOptions, given)]
