"""Whether the reference solutions of code pass their own tests; remembered between commands.

    broken([problem.answer for problem in problems], sandboxed=True, workers=2)   # {17: "failed: "}

A result depends on the problem, the code that judges it and the version of Python. Those that
passed are remembered in the user's cache folder, so that a set is checked once on a machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from decaylab.disk import write_atomically
from decaylab.problems.judges import files_of
from decaylab.progress import Reporter

KEPT = "references.json"
PATIENT_SECONDS = 60.0
"""Time-out of a reference solution that missed the usual one."""


def broken(
    golds: Sequence[str], *, sandboxed: bool, workers: int, reporter: Reporter | None
) -> dict[int, str]:
    """Indices of the problems whose reference solution does not pass, and its outcome.

    Raises:
        UserError: no sandbox can be had.
    """
    from decaylab.code import grading, sandbox

    if sandboxed:
        sandbox.require()  # also where every result is remembered
    passed = _remembered()
    keys = [_key(gold) for gold in golds]
    new = [index for index, key in enumerate(keys) if key not in passed]
    if not new:
        return {}
    reporter = reporter or Reporter(quiet=True)
    with reporter.stage("reference solutions", len(new), "programs") as bar:
        found = grading.check_references(
            [golds[index] for index in new],
            sandboxed=sandboxed,
            workers=workers,
            on_done=lambda: bar.advance(0, 1),
        )
        late = [place for place, one in found.items() if one.verdict == "timed_out"]
        again = grading.check_references(  # one after another, on a machine that may be busy
            [golds[new[place]] for place in late],
            sandboxed=sandboxed,
            workers=1,
            timeout_seconds=PATIENT_SECONDS,
        )
    for index, place in enumerate(late):
        if index not in again:
            del found[place]
    failed = {new[place]: f"{one.verdict}: {one.message}" for place, one in found.items()}
    _remember(passed | {keys[index] for index in new if index not in failed})
    return failed


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "decaylab"


def _key(gold: str) -> str:
    """A hash of all that the result depends on."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}\n{gold}".encode())
    for file in files_of(("last_block",)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _remembered() -> set[str]:
    try:
        return set(json.loads((_folder() / KEPT).read_text()))
    except (OSError, ValueError):
        return set()


def _remember(passed: set[str]) -> None:
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        write_atomically(_folder() / KEPT, json.dumps(sorted(passed)).encode())
    except OSError:
        pass  # a machine without a cache folder checks again
