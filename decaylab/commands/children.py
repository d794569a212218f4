"""Commands of decaylab in processes of their own, several jobs at a time, that end when this
process does.

    failed = run(jobs, workers=2, on_end=lambda job, told, seconds: print(job.name, told or "done"))

The first Ctrl-C is handed on once, so that a training keeps the step in flight; a second one ends
everything at once. Where this process is killed with SIGKILL, Linux ends its children too; on other
systems they work their command to its end.
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

from decaylab.runs import store

PROGRAM: tuple[str, ...] = (sys.executable, "-m", "decaylab")
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
# Linux alone has it. Found before any fork: a child of a fork should not load libraries.
_PRCTL: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass(frozen=True)
class Job:
    """Commands, each without the program, one after the other until one fails. log: where what they
    say is kept."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path


OnEnd = Callable[[Job, str, float], None]
"""Told of each job that ends: what it said where it failed, else nothing; and the seconds it
took."""


@dataclass
class _Running:
    """A job at work. slot: which of the workers it is."""

    job: Job
    slot: int
    environment: Mapping[str, str]
    started: float
    place: int = -1
    process: subprocess.Popen[bytes] | None = None

    def next(self) -> bool:
        """Starts the next command; False where there is none."""
        self.place += 1
        if self.place == len(self.job.commands):
            return False
        self.process = _start(self.job, self.place, self.environment)
        return True

    @property
    def code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()


def run(
    jobs: Sequence[Job], *, workers: int, on_end: OnEnd, devices: Sequence[str] = ()
) -> dict[str, str]:
    """Runs every job, so many at a time; one that fails stops no other. Returns what each that
    failed said last, by name.

    devices: of CUDA, handed out to the workers in turn; none: all see what this process sees.

    Raises:
        UserError: a log cannot be written.
        KeyboardInterrupt: after the children have ended.
    """
    waiting, running, failed = list(jobs), list[_Running](), dict[str, str]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                slot = min(set(range(workers)) - {one.slot for one in running})
                started = _Running(
                    waiting.pop(0), slot, _environment(workers, slot, devices), time.monotonic()
                )
                started.next()
                running.append(started)
            for one in [one for one in running if one.code is not None]:
                told = _said(one.job, one.code or 0)
                if not told and one.next():
                    continue
                running.remove(one)
                if told:
                    failed[one.job.name] = told
                on_end(one.job, told, time.monotonic() - one.started)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        _interrupt(running)
        raise
    finally:
        _kill(running)
    return failed


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices(workers: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The CUDA devices among which several workers are spread; none where there is one worker or
    one device."""
    if workers == 1:
        return ()
    if "CUDA_VISIBLE_DEVICES" in environment:
        found = [
            name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()
        ]
    else:
        import torch

        found = [str(place) for place in range(torch.cuda.device_count())]
    return tuple(found) if len(found) > 1 else ()


def _environment(workers: int, slot: int, devices: Sequence[str]) -> dict[str, str]:
    """Each worker has its share of the cores, unless the user has said how many threads there are,
    and its device."""
    own = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}
    return {"OMP_NUM_THREADS": str(max(1, cores() // workers)), **os.environ, **own}


def _start(job: Job, place: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    words = job.commands[place]
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab" if place else "wb") as log:
            log.write(f"$ decaylab {shlex.join(words)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [*PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_follower(os.getpid()),
            )
    except OSError as error:
        raise store.unwritable(job.log, error) from error


def _follower(parent: int) -> Callable[[], None] | None:
    """What a child does first on Linux: ask to be ended with its parent."""
    if _PRCTL is None:
        return None

    def follow() -> None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return follow


def _said(job: Job, code: int) -> str:
    """The last line of the log where the command failed, else nothing."""
    if code == 0:
        return ""
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("decaylab: ")
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}" if last.startswith("$ ") else last


def _interrupt(running: Sequence[_Running]) -> None:
    """Hands Ctrl-C on, and waits."""
    for one in running:
        if one.process is not None and one.code is None:
            one.process.send_signal(signal.SIGINT)
    for one in running:
        if one.process is not None:
            one.process.wait()


def _kill(running: Sequence[_Running]) -> None:
    """Ends what still runs, and what that has started."""
    for one in running:
        if one.process is not None and one.code is None:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
