"""Running the command line in this process, with models and grading workers kept from one run to
the next, or in its own."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from decaylab.cli import main
from decaylab.commands import diagnose, prefix_decay
from decaylab.figures import style
from decaylab.policies import loading
from decaylab.policies.adapter_loading import tuner_layers
from decaylab.problems.grading import Grader

DATA = Path(__file__).parents[2] / "data" / "abacus"
SMALL = ("--limit", "3", "--samples", "2", "--prefix-lengths", "0,4,8", "--max-tokens", "24")
HELPERS = str(Path(__file__).parent)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": HELPERS}

_load, _save = loading.load, style.save
_loaded: dict[Any, Any] = {}


def _cached_load(name: str, settings: Any) -> Any:
    """A policy, loaded once; anew where a command has left adapters beside its weights."""
    policy = _loaded.get((name, settings))
    if policy is None or _changed(policy):
        policy = _loaded[name, settings] = _load(name, settings)
    return policy


def _changed(policy: Any) -> bool:
    return policy.model is not None and bool(tuner_layers(policy.model))


class _SharedGrader:
    """One pool of workers for every run; it ends with the test process."""

    pool: Grader | None = None

    def __init__(self, **settings: Any) -> None:
        if _SharedGrader.pool is None:
            _SharedGrader.pool = Grader(workers=1)

    def __enter__(self) -> Grader:
        assert self.pool is not None
        return self.pool

    def __exit__(self, *error: object) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of an error, which is all that stands on standard error; nothing on standard
        output."""
        assert self.code == 2, (self.code, self.err)
        assert self.out == ""
        # A line may come before it, that of a command that has begun.
        line = [line for line in self.err.splitlines() if not line.endswith(" ...")][0]
        assert line == self.err.splitlines()[-1]
        assert line.startswith("decaylab: ")
        return line.removeprefix("decaylab: ")


@contextlib.contextmanager
def shared_parts() -> Iterator[None]:
    """Commands keep models and grading workers for the next one, and draw coarsely."""
    torch.set_num_threads(1)
    with (
        mock.patch.object(loading, "load", _cached_load),
        mock.patch.object(prefix_decay, "Grader", _SharedGrader),
        mock.patch.object(diagnose, "Grader", _SharedGrader),
        mock.patch.object(style, "save", functools.partial(_save, dots_per_inch=40)),
    ):
        yield


def decaylab(*arguments: object) -> Outcome:
    """What the command prints and how it ends. An exception that a user would see as a traceback
    comes through."""
    words = [str(one) for one in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        shared_parts(),
        mock.patch.object(sys, "argv", ["decaylab", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main.main(words)
        except SystemExit as end:
            return Outcome(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command did not exit")


def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own; ``before`` is run first in it."""
    code = f"{before}\nfrom decaylab.cli import main as cli\ncli.main()"
    words = [sys.executable, "-c", code, *(str(one) for one in arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=DATA.parent.parent
    )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in a run's folder until it is killed."""
    lock = "import fcntl, sys; handle = open(sys.argv[1], 'w'); fcntl.flock(handle, fcntl.LOCK_EX)"
    code = f"{lock}; print('held', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    words = [sys.executable, "-S", "-c", code, str(folder / ".lock")]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        yield other
        other.kill()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but the lock; records without when and how fast they were made."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): _without_times(path) for path in files}


def _without_times(path: Path) -> bytes:
    if path.name != "run.json":
        return path.read_bytes()
    record = json.loads(path.read_text())
    timed = {name: value for name, value in record.items() if name not in ("made", "sampled")}
    return json.dumps(timed).encode()


def write_lines(path: Path, *rows: object) -> Path:
    """A JSONL file; text goes in as it stands."""
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return path
