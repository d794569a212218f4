"""The plan's benchmark at toy size: what it measures stands beside what the plan says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKS: dict[str, dict[str, Any]] = {
    "sample": {"rows": 8, "tokens": 12},
    "continue": {"rows": 8, "tokens": 8, "prefix": 4},
    "score": {"rows": 8, "tokens": 8, "batch_tokens": 256},
    "floor": {"rows": 2, "tokens": 8},
    "train": {"rows": 8, "tokens": 8, "batch_tokens": 256},
}


@pytest.mark.parametrize("phase", WORKS)
def test_every_work_is_measured_and_planned(phase: str) -> None:
    job = json.dumps({"pair": "abacus", "phase": phase, **WORKS[phase]})
    done = subprocess.run(
        [sys.executable, "benchmarks/plan.py", "--job", job],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured"].keys() == found["planned"].keys()
    for name, planned in found["planned"].items():
        assert found["measured"][name] >= 0 < planned["bytes"] and planned["terms"]
