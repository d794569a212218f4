"""What the benchmarks share: clocks, peaks of memory, processes of their own, files of results.

Every benchmark has ``--toy``: sizes so small that it runs in seconds, in one process. A toy run
says whether the benchmark works, not how fast anything is, and is not kept. A side that fails fails
the benchmark, before anything is written; a side that is not installed is named in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
GIB = 2**30
Row = dict[str, Any]


def parser(description: str | None, toy: str) -> argparse.ArgumentParser:
    """The options that every benchmark has.

    toy: the sizes of a toy run, in words.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--toy", action="store_true", help=f"does it run at all? {toy}; not kept")
    # the work of one process, which `in_own_process` hands over
    made.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return made


# Time and memory


def synchronize() -> None:
    """Waits for all that was started on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes, with all that it starts on a GPU."""
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - started


def reset_peak() -> None:
    """Peaks are counted from here on."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib() -> float:
    """Most memory that was in use: of the GPU's where there is one, else `resident_peak_gib`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return resident_peak_gib()


def resident_peak_gib() -> float:
    """Most memory that was resident. Not by getrusage, which begins at the peak of the process that
    started this one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / GIB


def surroundings() -> Row:
    """Where it ran. load: processes that wanted a core in the minute before."""
    device = f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }


# Sides


def measured(script: str, job: Row, run_job: Callable[[Row], Row], *, toy: bool) -> Row:
    """What one job measures: in a process of its own, whose peak of memory is its own; of a toy run
    in this one."""
    return run_job(job) if toy else in_own_process(script, job)


def in_own_process(script: str, job: Row) -> Row:
    """What a job, handed to a script as ``--job``, prints last.

    Raises:
        SystemExit: the job failed; its errors are shown.
    """
    words = [sys.executable, script, "--job", json.dumps(job)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{Path(script).name}: {job} failed with exit code {done.returncode}")
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return row


# Results


def show(name: str, result: Any) -> None:
    """Prints a result as soon as it is there."""
    print(name, json.dumps(result, indent=1), flush=True)


def keep(name: str, result: Row) -> None:
    """Writes a result; parts that an earlier run wrote into it and this one did not make stay."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    earlier = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**earlier, **result}, indent=1) + "\n")
    print(path)
