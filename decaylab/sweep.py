"""A sweep: training arms, each with several seeds, trained and evaluated in processes of their own, then compared.

Every run is what ``decaylab train`` and ``decaylab evaluate`` make, in a folder named after arm and seed. What is finished is
not done again, so that a sweep goes on where it was with the same command, and two sweeps share the runs they have in common.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab import checkpoint_rules, measurements, outcomes, paper, policies, store
from decaylab.analyses import efficiency, stability, token_selection
from decaylab.analyses import sweep as analysis
from decaylab.errors import UserError
from decaylab.identity import versions
from decaylab.options import ANSWER_RULES
from decaylab.progress import Reporter, StageProgress
from decaylab.sweep_options import LENGTHS, SweepOptions
from decaylab.train.records import Table
from decaylab.trained import TrainedRun
from decaylab.training_options import TrainOptions

# What is not handed on to a run: it has its own, or none.
NOT_TRAINING = ("out", "overwrite", "paper", "level", "samples", "rollouts", "test_limit", "seed")
FIGURES = {LENGTHS: "n_sweep"}
DECAYLAB = (sys.executable, "-m", "decaylab")
PR_SET_PDEATHSIG = 1


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
    """A finished sweep: its folder, record, measurements and what must be known."""

    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]


def sweep(options: SweepOptions, *, command: str = "", reporter: Reporter | None = None) -> SweepResult:
    """Trains and evaluates what is not there yet, compares, draws; returns the results.

    Raises:
        UserError: an option that cannot be used, a run of another configuration, or runs that failed (by name; all others
            are finished first and kept).
    """
    reporter = reporter or Reporter(quiet=True)
    jobs = _jobs(options)
    for job in jobs:
        _check(job, options)
    folder = store.RunFolder(options.folder())
    with folder.lock():
        folder.open(_record(options, jobs, command), overwrite=options.overwrite)
        _work(jobs, options, reporter)
        runs = [_trained(job, options) for job in jobs]
        frame = _measure(runs, options, folder.path.name)
        notes = _notes(options)
        record = folder.update({"command": command, "versions": versions(), "notes": list(notes)})
        measurements.write(frame, folder.path / "measurements.parquet")
        _draw(frame, options, folder.path)
    return SweepResult(folder.path, record, frame, notes)


def _jobs(options: SweepOptions) -> list[Job]:
    """Every arm with its first seed before any second one: what is there early compares all arms."""
    arms, root = options.arms(), options.folder_of_runs()
    found = [options.of_seed(arm, place) for place in range(options.seeds) for arm in arms]
    return [Job(one, root / f"{one.arm()}-seed-{one.seed}") for one in found]


def _check(job: Job, options: SweepOptions) -> None:
    """Raises UserError where a run's folder holds another training, or an evaluation of something else."""
    there = (store.RunFolder(job.folder).record or {}).get("identity", {}).get("training")
    if there is not None:
        here = json.loads(
            json.dumps({name: value for name, value in dataclasses.asdict(job.options).items() if name in there})
        )
        if differences := store.differing(there, here):
            raise UserError(
                f"{job.folder} holds a run of another configuration ({'; '.join(differences[:3])}); choose another --runs"
            )
    asked = (store.RunFolder(job.folder / "evaluate").record or {}).get("identity", {}).get("options")
    if asked is not None:
        wanted = {"samples": options.samples, "limit": options.test_limit}
        if differences := store.differing({name: asked.get(name) for name in wanted}, wanted):
            raise UserError(
                f"{job.folder / 'evaluate'} holds another evaluation ({'; '.join(differences)}); choose another --runs"
            )


# Work


def _work(jobs: Sequence[Job], options: SweepOptions, reporter: Reporter) -> None:
    """Trains and evaluates, several runs at a time; goes on past a run that fails, and names those at the end."""
    failed: dict[str, str] = {}
    with (
        reporter.stage(f"sweep {options.over}", len(jobs), "runs") as progress,
        ThreadPoolExecutor(options.workers) as pool,
    ):
        open_jobs = [job for job in jobs if not _done(job)]
        progress.skip(len(jobs) - len(open_jobs))
        try:
            for name, told in pool.map(lambda job: _run(job, options, progress), open_jobs):
                if told:
                    failed[name] = told
                    reporter.note(f"{name} failed: {told}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)  # the children were interrupted with this process
            raise
    if failed:
        name, told = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(jobs)} runs failed, {name} among them: {told}")


def _done(job: Job) -> bool:
    finished = (store.RunFolder(job.folder).record or {}).get("finished", False)
    return bool(finished) and (job.folder / "evaluate" / "measurements.parquet").exists()


def _run(job: Job, options: SweepOptions, progress: StageProgress) -> tuple[str, str]:
    """One run, trained and evaluated; what it said where it failed, else nothing."""
    overwrite = ["--overwrite"] if options.overwrite else []
    told = _call(["train", *_words(job.options), "--out", str(job.folder), "--quiet", *overwrite], options.workers)
    if not told:
        told = _call(["evaluate", str(job.folder), *_evaluation(options), *overwrite], options.workers)
    if not told:
        progress.advance(0, 1)
    return job.name, told


def _evaluation(options: SweepOptions) -> list[str]:
    words = ["--checkpoint-rule", options.checkpoint_rule, "--samples", str(options.samples), "--cache", options.cache]
    words += ["--limit", str(options.test_limit)] if options.test_limit else []
    words += ["--batch-rows", str(options.batch_rows), "--dtype", options.dtype, "--device", options.device]
    return [*words, *(["--trust-remote-code"] if options.trust_remote_code else []), "--quiet"]


def _words(options: TrainOptions) -> list[str]:
    """A training's options as the command line takes them; those that have their default are left out."""
    words = ["--seed", str(options.seed)]
    for one in dataclasses.fields(TrainOptions):
        value, flag = getattr(options, one.name), f"--{one.name.replace('_', '-')}"
        if one.name in NOT_TRAINING or value == one.default or value is None:
            continue
        if one.name == "columns":
            words += [word for role, name in value.items() for word in ("--column", f"{role}={name}")]
        elif one.name == "score_end":
            words.append("--no-score-end")
        elif value is True:
            words.append(flag)
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words


def _call(words: Sequence[str], workers: int) -> str:
    """Runs a command of decaylab; the last line that it said where it failed, else nothing."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {"OMP_NUM_THREADS": threads} | dict(os.environ)
    process = subprocess.Popen(
        [*DECAYLAB, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment, preexec_fn=_end_with_parent,
    )  # fmt: skip
    try:
        _, said = process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode == 0:
        return ""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("decaylab: ") if lines else f"exit code {process.returncode}"


def _end_with_parent() -> None:
    """In a child on Linux: it is told to end when the sweep does, even by SIGKILL."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# Results


def _trained(job: Job, options: SweepOptions) -> TrainedRun:
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
        Table(validation).read() if validation.exists() else pd.DataFrame(columns=["step", "problems", "accuracy"]),
        {rule: float(policies.step_of(Path(names[0])) or 0) for rule, names in chosen.items()},
    )


def _measure(runs: Sequence[TrainedRun], options: SweepOptions, name: str) -> pd.DataFrame:
    rule = options.answer_rule or "last_boxed"
    common: dict[str, Any] = {"level": options.level, "run": name}
    rules = (rule, *(other for other in ANSWER_RULES if other != rule))
    frames: list[pd.DataFrame] = [
        analysis.measure(runs, analysis.Settings(rules, **common)),
        token_selection.measure(runs, token_selection.Settings(**common)),
        stability.measure(runs, stability.Settings(rule, **common)),
        efficiency.measure(runs, efficiency.Settings(note=_timed(options), **common)),
    ]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def _timed(options: SweepOptions) -> str:
    return f"timed beside up to {options.workers - 1} other runs" if options.workers > 1 else ""


def _notes(options: SweepOptions) -> tuple[str, ...]:
    told = _timed(options)
    return (
        (f"seconds and memory: {told}; a comparison of costs wants --workers 1 and a machine of its own",)
        if told
        else ()
    )


def _record(options: SweepOptions, jobs: Sequence[Job], command: str) -> dict[str, Any]:
    """run.json: what is compared is its identity; what runs are made of stands in theirs."""
    kept = ("over", "samples", "test_limit", "checkpoint_rule", "seeds", "seed")
    return {
        "command": command,
        "identity": {
            "options": {name: getattr(options, name) for name in kept},
            "runs": {job.name: {"selector": job.options.selector, "training": _words(job.options)} for job in jobs},
        },
        "runs": str(options.folder_of_runs()),
        "versions": versions(),
        "notes": [],
    }


def _draw(frame: pd.DataFrame, options: SweepOptions, folder: Path) -> None:
    from decaylab.figures import efficiency as costs
    from decaylab.figures import n_sweep, style
    from decaylab.figures import stability as checkpoints
    from decaylab.figures import token_selection as selectors

    published: Mapping[str, Callable[[], pd.DataFrame]] = {
        "n_sweep": paper.n_sweep,
        "token_selection": paper.token_selection,
        "stability": paper.per_step,
        "efficiency": paper.efficiency,
    }
    compared: Any = n_sweep if options.over == LENGTHS else selectors
    name = FIGURES.get(options.over, "token_selection")
    for which, figure in ((name, compared), ("stability", checkpoints), ("efficiency", costs)):
        theirs = published[which]() if options.paper else None
        file = folder / which.replace("_", "-")
        style.save(figure.draw(frame, published=theirs), file)
        store.write_atomically(file.with_suffix(".txt"), (figure.caption(frame, theirs) + "\n").encode())
