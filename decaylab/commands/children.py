"""Commands of decaylab in processes of their own, several jobs at a time, that end with this one.

    failed = run(jobs, workers=2, watch=Watch())

The first Ctrl-C is passed on once, so that a training keeps the step in flight; a second one kills
everything at once. Where this process is killed with SIGKILL, Linux kills its children too; on
other systems they finish their command.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab import disk
from decaylab.options.option_values import words

PROGRAM: tuple[str, ...] = (sys.executable, "-m", "decaylab")
POLL_SECONDS, TICK_SECONDS = 0.05, 1.0
PR_SET_PDEATHSIG = 1
# Linux alone has it. Found before any fork: a child of a fork should not load libraries.
_PRCTL: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass(frozen=True)
class Job:
    """Commands, each without the program, run in turn until one fails. log: keeps their output."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path


class Watch:
    """What hears of the jobs while they run; a subclass shows it to somebody."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def ticked(self, running: Sequence[Job]) -> None:
        """About once a second: the jobs at work."""

    def ended(self, job: Job, failure: str, seconds: float) -> None:
        """A job ends. failure: its last line where it failed, else nothing."""

    def interrupted(self, running: Sequence[Job]) -> None:
        """Ctrl-C was pressed: these jobs are waited for."""


@dataclass
class _Running:
    """A job at work. slot: which of the workers it is. place: which of its commands runs."""

    job: Job
    slot: int
    environment: Mapping[str, str]
    started: float
    process: subprocess.Popen[bytes]
    place: int = 0


def run(
    jobs: Sequence[Job],
    *,
    workers: int,
    watch: Watch = Watch(),
    devices: Sequence[str] = (),
) -> dict[str, str]:
    """Runs every job, several at a time; one that fails stops no other.

    devices: of CUDA, assigned to the workers in turn; none: all see what this process sees.

    Returns:
        The last line of output of each job that failed, by name.

    Raises:
        UserError: a log cannot be written.
        KeyboardInterrupt: after the children have ended.
    """
    waiting, running, failed = list(jobs), list[_Running](), dict[str, str]()
    ticked = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                slot = min(set(range(workers)) - {task.slot for task in running})
                job, environment = waiting.pop(0), _environment(workers, slot, devices)
                started = time.monotonic()
                process = _start(job, 0, environment)
                running.append(_Running(job, slot, environment, started, process))
                watch.started(job)
            for task in list(running):
                code = task.process.poll()
                if code is None:
                    continue
                failure = _failure(task.job, code)
                task.place += 1
                if not failure and task.place < len(task.job.commands):
                    task.process = _start(task.job, task.place, task.environment)
                    continue
                running.remove(task)
                if failure:
                    failed[task.job.name] = failure
                watch.ended(task.job, failure, time.monotonic() - task.started)
            if time.monotonic() - ticked >= TICK_SECONDS:
                ticked = time.monotonic()
                watch.ticked([task.job for task in running])
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        watch.interrupted([task.job for task in running])
        _interrupt(running)
        raise
    finally:
        _kill(running)
    return failed


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices(workers: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The CUDA devices for several workers; none where there is one worker or one device."""
    if workers == 1:
        return ()
    if "CUDA_VISIBLE_DEVICES" in environment:
        devices = words(environment["CUDA_VISIBLE_DEVICES"])
    else:
        import torch

        devices = tuple(map(str, range(torch.cuda.device_count())))
    return devices if len(devices) > 1 else ()


def _environment(workers: int, slot: int, devices: Sequence[str]) -> dict[str, str]:
    """A worker's share of the cores, unless the user sets the number of threads; its device."""
    environment = {"OMP_NUM_THREADS": str(max(1, cores() // workers)), **os.environ}
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def _start(job: Job, place: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = job.commands[place]
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab" if place else "wb") as log:
            log.write(f"$ decaylab {shlex.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [*PROGRAM, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_follower(os.getpid()),
            )
    except OSError as error:
        raise disk.unwritable(job.log, error) from error


def _follower(parent: int) -> Callable[[], None] | None:
    """What a child does first on Linux: ask to be killed with its parent."""
    if _PRCTL is None:
        return None

    def follow() -> None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return follow


def _failure(job: Job, code: int) -> str:
    """The last line of the log where the command failed, else nothing."""
    if code == 0:
        return ""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("decaylab: ")
    return f"exit code {code}" if last.startswith("$ ") else last


def _interrupt(running: Sequence[_Running]) -> None:
    """Passes Ctrl-C on, and waits."""
    for task in running:
        if task.process.poll() is None:
            task.process.send_signal(signal.SIGINT)
    for task in running:
        task.process.wait()


def _kill(running: Sequence[_Running]) -> None:
    """Kills what still runs, and what that has started."""
    for task in running:
        if task.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(task.process.pid, signal.SIGKILL)
            task.process.wait()
