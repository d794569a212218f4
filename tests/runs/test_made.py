"""What made a run stands in run.json and is no part of its identity; resumed runs add up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decaylab.errors import UserError
from decaylab.runs import made, records, store

IDENTITY = {"options": {"limit": 3}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def work(
    path: Path, clock: list[float], seconds: float, *, finish: bool = False, overwrite: bool = False
) -> dict[str, object]:
    """A process that works in a folder for so long; returns what then stands in run.json."""
    folder = store.RunFolder(path)
    clock[0] += 2  # models are loaded before the folder is locked
    with folder.lock():
        folder.open(records.run_record("decaylab x", IDENTITY), overwrite=overwrite)
        clock[0] += seconds
        if finish:
            (path / "measurements.parquet").touch()
    clock[0] += 50  # afterwards: of no run
    return dict(json.loads((path / "run.json").read_text())["made"])


def test_a_resumed_run_adds_up_its_seconds_and_keeps_its_date(
    tmp_path: Path, clock: list[float]
) -> None:
    first = work(tmp_path / "run", clock, 10)
    assert first["seconds"] == 12
    second = work(tmp_path / "run", clock, 5, finish=True)
    assert second["seconds"] == 12 + 7
    assert second["date"] == first["date"]
    assert "resumed" not in second, "the same machine and source"


def test_a_finished_run_that_is_read_again_keeps_its_seconds_and_overwrite_begins_anew(
    tmp_path: Path, clock: list[float]
) -> None:
    first = work(tmp_path / "run", clock, 10, finish=True)
    assert work(tmp_path / "run", clock, 30, finish=True) == first
    assert work(tmp_path / "run", clock, 3, finish=True, overwrite=True)["seconds"] == 5


def test_what_was_worked_up_to_a_change_of_the_record_survives_a_kill(
    tmp_path: Path, clock: list[float]
) -> None:
    folder = store.RunFolder(tmp_path / "run")
    folder.open(records.run_record("decaylab x", IDENTITY))
    clock[0] += 20
    folder.update({"sampled": {}})
    clock[0] += 20  # killed before the next change
    assert work(tmp_path / "run", clock, 5)["seconds"] == 20 + 7


def test_an_error_or_ctrl_c_counts_too(tmp_path: Path, clock: list[float]) -> None:
    folder = store.RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), folder.lock():
        folder.open(records.run_record("decaylab x", IDENTITY))
        clock[0] += 4
        raise KeyboardInterrupt
    assert (folder.record or {})["made"]["seconds"] == 4


def test_runs_that_differ_in_what_made_them_alone_are_one_run(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(tmp_path / "run", clock, 10)
    monkeypatch.setattr(made, "commit", lambda: "f" * 40)
    monkeypatch.setattr(made, "hardware", lambda: "another")
    second = work(tmp_path / "run", clock, 10)
    (other,) = second["resumed"]  # type: ignore[misc]
    assert (other["commit"], other["hardware"]) == ("f" * 40, "another")
    assert len(work(tmp_path / "run", clock, 10)["resumed"]) == 1  # type: ignore[arg-type]
    changed = records.run_record("decaylab x", {"options": {"limit": 4}})
    with pytest.raises(UserError, match="--limit 3 there, 4 now"):
        store.RunFolder(tmp_path / "run").open(changed)


def test_a_run_may_resume_with_another_engine_and_says_both(
    tmp_path: Path, clock: list[float]
) -> None:
    engines = {"name": "transformers", "seeding": "by position"}, {"name": "vllm"}
    folder = store.RunFolder(tmp_path / "run")
    for engine in (*engines, engines[1]):
        with folder.lock():
            folder.open(records.run_record("decaylab x", IDENTITY, engine=engine))
            clock[0] += 5
    record = json.loads((tmp_path / "run" / "run.json").read_text())["made"]
    assert record["engine"] == engines[0]
    assert [each["engine"] for each in record["resumed"]] == [engines[1]]
    first, second = made.words(record).split("; resumed ")
    assert ", engine transformers" in first and ", engine vllm" in second


def test_the_line_names_machine_time_and_commit() -> None:
    record = {
        "date": "2026-11-30T02:10:05Z",
        "seconds": 812.4,
        "hardware": "NVIDIA H200 (140 GiB), AMD EPYC, 2 cores, 31.3 GiB",
        "commit": "6d665ef0" * 5 + "-dirty",
    }
    line = "2026-11-30, 14 min on NVIDIA H200 (140 GiB), AMD EPYC, 2 cores, 31.3 GiB, commit "
    assert made.words(record) == f"{line}6d665ef-dirty"
    plain = {**record, "seconds": 5, "commit": None, "hardware": "AMD EPYC, 1 core"}
    assert made.words(plain) == "2026-11-30, 5 s on AMD EPYC, 1 core"
    assert made.words(None) == ""


def test_hardware_is_this_machine() -> None:
    *_, cpu, cores, memory = made.hardware().split(", ")
    assert cpu and cores.split()[0] == str(len(os.sched_getaffinity(0)))
    kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert float(memory.removesuffix(" GiB")) == pytest.approx(kib / 2**20, abs=0.1)


def test_hardware_is_one_line_with_gpus_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_gpus", lambda: ["NVIDIA H200 (140 GiB)"])
    monkeypatch.setattr(made, "_cpu", lambda: "AMD EPYC")
    monkeypatch.setattr(made, "_memory", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert made.hardware.__wrapped__() == "NVIDIA H200 (140 GiB), AMD EPYC, 1 core"


def test_gpus_are_those_that_the_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "0, GPU-a, NVIDIA H200, 143771\n1, GPU-b, NVIDIA L4, 23034\nbroken\n"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    both = ["NVIDIA H200 (140 GiB)", "NVIDIA L4 (22 GiB)"]
    for visible, seen in ((None, both), ("1", both[1:]), ("GPU-a,1", both), ("", [])):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert made._gpus() == seen


# The commit of the source, in checkouts made for it


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with decaylab's source in it, and another file; nothing committed yet."""
    if shutil.which("git") is None:
        raise AssertionError("git is needed to work on decaylab")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    source = tmp_path / "decaylab"
    source.mkdir()
    (source / "__init__.py").write_text("one")
    (tmp_path / "other.txt").write_text("other")
    git(tmp_path, "init", "--quiet")
    monkeypatch.setattr(made, "SOURCE", source)
    made.commit.cache_clear()
    yield tmp_path
    made.commit.cache_clear()


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def fresh_commit() -> str | None:
    made.commit.cache_clear()
    return made.commit()


def test_a_checkout_gives_its_commit_and_whether_it_was_changed(checkout: Path) -> None:
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "first")
    head = git(checkout, "rev-parse", "HEAD")
    assert fresh_commit() == head
    (checkout / "untracked.txt").write_text("results of a run")
    assert fresh_commit() == head
    (checkout / "decaylab" / "__init__.py").write_text("two")
    assert fresh_commit() == f"{head}-dirty"


def test_an_installed_package_inside_another_repository_has_no_commit(checkout: Path) -> None:
    git(checkout, "add", "other.txt")
    git(checkout, "commit", "--quiet", "-m", "of another project")
    assert fresh_commit() is None
