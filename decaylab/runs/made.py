"""What made a run: when, for how long, on which hardware, by which source code.

    run.json: "made": {"date": "2026-11-30T02:10:05Z", "seconds": 812.4,
                       "hardware": "AMD EPYC, 2 cores, 31.3 GiB", "commit": "6d665ef...-dirty",
                       "engine": {"name": "transformers", ...}}

It is never part of a run's identity: two runs that differ in it alone are the same run. `store`
adds up the seconds of a run that was resumed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from decaylab import printing
from decaylab.printing import GIB

MADE, ENGINE = "made", "engine"
PATIENCE = 10  # seconds for git or nvidia-smi
SOURCE = Path(__file__).parents[1]
DIRTY = "-dirty"


def begun(engine: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Of a run that begins now: the date in UTC, no seconds yet, this machine, this source, and
    what samples, if anything does."""
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = {"date": date, "seconds": 0.0, "hardware": hardware(), "commit": commit()}
    return {**made, ENGINE: dict(engine)} if engine else made


def resumed(made: dict[str, Any], engine: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Of a run that another process resumes now: the same, with machine, commit and engine beside
    the first ones where one of them is another."""
    now = {name: value for name, value in begun(engine).items() if name != "seconds"}
    parts = [made, *made.get("resumed", [])]
    names = ("hardware", "commit", *([ENGINE] if engine else []))
    if any(now[name] != parts[-1].get(name) for name in names):
        return {**made, "resumed": [*parts[1:], now]}
    return made


def words(made: Mapping[str, Any] | None) -> str:
    """All of it in a line: ``2026-11-30, 14 min on AMD EPYC, 2 cores, 31.3 GiB, commit 6d665ef``.

    "" where there is none, as in a run of an earlier version.
    """
    if not made:
        return ""
    took = f"{made['date'][:10]}, {printing.seconds(made['seconds'])} on {_source(made)}"
    others = [f"resumed {each['date'][:10]} on {_source(each)}" for each in made.get("resumed", [])]
    return "; ".join([took, *others])


def _source(made: Mapping[str, Any]) -> str:
    """Machine, engine and commit."""
    parts = [str(made["hardware"])]
    if ENGINE in made:
        parts.append(f"engine {made[ENGINE]['name']}")
    if made["commit"]:
        dirty = DIRTY if made["commit"].endswith(DIRTY) else ""
        parts.append(f"commit {made['commit'][:7]}{dirty}")
    return ", ".join(parts)


@cache
def hardware() -> str:
    """This machine: each GPU that the process sees with its memory, processor, the cores that it
    may use, memory.

    ``NVIDIA H200 (140 GiB), AMD EPYC, 16 cores, 128 GiB``
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory()
    parts = [*_gpus(), _cpu(), f"{cores} core{'s' * (cores != 1)}"]
    return ", ".join([*parts, *([f"{memory:g} GiB"] if memory else [])])


@cache
def commit() -> str | None:
    """The git commit of decaylab's source, with ``-dirty`` where tracked files were changed.

    None where the source is not in a checkout of its own, as in an installed package.
    """
    # An environment inside somebody else's repository is in a work tree, and not tracked by it.
    if not _output("git", "-C", str(SOURCE), "ls-files", "--", "__init__.py"):
        return None
    head = _output("git", "-C", str(SOURCE), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(SOURCE), "status", "--porcelain", "--untracked-files=no")
    return f"{head}{DIRTY * bool(changed)}" if head else None


def _cpu() -> str:
    """The name of the processor as the system has it, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """GiB of this machine's memory; None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[str]:
    """The GPUs as nvidia-smi lists them: asking torch would claim memory on each."""
    query = "--query-gpu=index,uuid,name,memory.total"
    lines = _output("nvidia-smi", query, "--format=csv,noheader,nounits").splitlines()
    rows = [[part.strip() for part in line.split(",")] for line in lines]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = []
    for row in rows:
        if len(row) != 4 or not row[3].isdigit():
            continue
        index, identifier, name, mebibytes = row
        if visible is None or {index, identifier} & set(visible.replace(" ", "").split(",")):
            names.append(f"{name} ({round(int(mebibytes) / 1024)} GiB)")
    return names


def _output(*command: str) -> str:
    """What a program prints; "" where it is missing, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return ""
    # git in a hook is told of another repository by these
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""
