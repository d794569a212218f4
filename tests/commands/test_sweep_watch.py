"""What a sweep says while it works: where each run is, how fast, how long it takes, which log; and
what is kept of one that is interrupted."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from decaylab.commands import children, sweep_runs
from decaylab.commands.sweep_runs import Job, SweepWatch
from decaylab.options.sweeping import SweepOptions
from decaylab.progress import Reporter

STEPS = 100
OPTIONS = SweepOptions(values="5,20,full", seeds=1, steps=STEPS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def trained_for(job: Job, steps: int) -> None:
    """Leaves the record of so many steps, as a training does."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "metrics.csv").write_text("step\n" + "".join(f"{n}\n" for n in range(steps)))


class Sweep:
    """A sweep whose runs are moved by hand, with what was said of it."""

    def __init__(self, folder: Path, done: int = 0) -> None:
        options = dataclasses.replace(OPTIONS, runs=str(folder / "runs"))
        self.options, self.jobs = options, sweep_runs.all_runs(options)
        self.reporter, self.text = Reporter(), io.StringIO()
        self.reporter.console = Console(file=self.text, width=200)
        with self.reporter.stage("sweep", 3, "runs") as progress:
            self.watch = SweepWatch(self.jobs, self.jobs[done:], self.reporter, progress)
        self.children = [
            children.Job(job.name, (("train",),), folder / f"{job.name}.log") for job in self.jobs
        ]

    def said(self) -> list[str]:
        lines = self.text.getvalue().splitlines()
        self.text.truncate(0)
        self.text.seek(0)
        return lines


def test_a_run_that_begins_names_its_log(tmp_path: Path, clock: list[float]) -> None:
    sweep = Sweep(tmp_path)
    sweep.watch.started(sweep.children[0])
    assert sweep.said() == [f"prefix-5-seed-0 begins; log: {tmp_path}/prefix-5-seed-0.log"]


def test_a_line_a_minute_says_where_each_run_is_and_how_long_it_takes(
    tmp_path: Path, clock: list[float]
) -> None:
    sweep = Sweep(tmp_path)
    trained_for(sweep.jobs[0], 30)
    trained_for(sweep.jobs[1], 20)
    clock[0] += 59
    sweep.watch.ticked(sweep.children[:2])
    assert sweep.said() == []
    clock[0] += 1
    sweep.watch.ticked(sweep.children[:2])
    # 50 of 303 steps (an evaluation counts as one) in 60 s: the other 253 take 304 s
    assert sweep.said() == [
        "0 of 3 runs; prefix-5-seed-0 step 30 of 100, prefix-20-seed-0 step 20 of 100; "
        "0.83 steps/s; about 5 min left"
    ]
    sweep.watch.ticked(sweep.children[:2])
    assert sweep.said() == []


def test_steps_of_an_earlier_process_count_neither_for_the_rate_nor_for_the_time_left(
    tmp_path: Path, clock: list[float]
) -> None:
    options = dataclasses.replace(OPTIONS, runs=str(tmp_path / "runs"))
    first, *_ = sweep_runs.all_runs(options)
    trained_for(first, 80)
    sweep = Sweep(tmp_path)
    trained_for(first, 90)
    clock[0] += 60
    sweep.watch.ticked(sweep.children[:1])
    # 10 of the 20 + 2 * 100 steps that were left, and three evaluations: 213 more at 6 s each
    assert sweep.said() == [
        "0 of 3 runs; prefix-5-seed-0 step 90 of 100; 0.17 steps/s; about 21 min left"
    ]


def test_a_run_that_ends_says_how_many_are_done_and_one_that_fails_its_log(
    tmp_path: Path, clock: list[float]
) -> None:
    sweep = Sweep(tmp_path, done=1)
    clock[0] += 100
    sweep.watch.ended(sweep.children[1], "", 100.0)
    sweep.watch.ended(sweep.children[2], "no memory", 3.0)
    assert sweep.said() == [
        "2 of 3 runs: prefix-20-seed-0 in 100 s; about 100 s left",
        f"3 of 3 runs: full-seed-0 failed: no memory (log: {tmp_path}/full-seed-0.log)",
    ]


def test_ctrl_c_says_which_steps_are_waited_for(tmp_path: Path, clock: list[float]) -> None:
    sweep = Sweep(tmp_path)
    sweep.watch.interrupted(sweep.children[:2])
    assert sweep.said() == [
        "Ctrl-C: waits for the step in flight of prefix-5-seed-0, prefix-20-seed-0; Ctrl-C again "
        "stops at once"
    ]


def test_what_is_kept_of_an_interrupted_sweep_is_counted(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, runs=str(tmp_path / "runs"))
    jobs = sweep_runs.all_runs(options)
    for job in jobs[:2]:
        trained_for(job, STEPS)
        (job.folder / "run.json").write_text(json.dumps({"finished": True}))
    jobs[0].evaluation.mkdir()
    (jobs[0].evaluation / "measurements.parquet").touch()
    trained_for(jobs[2], 7)
    assert sweep_runs.kept(jobs, options) == (
        f"1 of 3 runs are finished in {tmp_path}/runs, and begun prefix-20-seed-0 (100 steps), "
        "full-seed-0 (7 steps)"
    )
