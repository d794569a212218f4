"""The benchmark of rollout files, at toy size: what it writes is read, and what it prints adds
up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "rollout-files.json"


@pytest.mark.slow
def test_a_toy_run_prints_speed_and_memory_and_keeps_nothing() -> None:
    before = RESULT.read_bytes() if RESULT.exists() else None
    done = subprocess.run(
        [sys.executable, "benchmarks/rollout_files.py", "--rollouts", "8000"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    result = json.loads(done.stdout[done.stdout.index("\n{\n") :])
    alone, texts, ids = result["rows"]
    assert (texts["rollouts"], ids["rollouts"]) == (8000, 4000)
    assert texts["kept"] == 4000 == ids["kept"]  # 8 to each of 500 problems
    for row in (texts, ids):
        assert 1_900 < row["bytes"] / 8000 < 2_200  # 2 kB a rollout, and 4 kB with ids
        speed = row["bytes"] / 1e6 / row["seconds"]
        assert abs(row["mb_per_second"] / speed - 1) < 0.1
        assert row["peak_mib_beyond_the_tokenizer"] == round(row["peak_mib"] - alone["peak_mib"], 1)
    assert (RESULT.read_bytes() if RESULT.exists() else None) == before


def test_the_kept_result_is_of_two_gigabytes() -> None:
    _, texts, ids = json.loads(RESULT.read_text())["rows"]
    assert texts["rollouts"] == 1_000_000 and texts["bytes"] > 1.9e9 and ids["bytes"] > 1.9e9
    assert texts["mb_per_second"] > 1 and texts["kept"] == 4000
