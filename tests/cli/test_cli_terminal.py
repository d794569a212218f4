"""What a user meets in the terminal: a line at once, a verdict first, versions, completion, Ctrl-C,
and runs shown again."""

from __future__ import annotations

import importlib.metadata
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import made_decay
import pytest
from command_line import ENVIRONMENT, decaylab, start

from decaylab.cli import registering
from decaylab.options.command_options import COMMANDS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished prefix-decay run, of made rows."""
    folder = tmp_path_factory.mktemp("shown") / "run"
    made_decay.folder(folder, made_decay.rollouts({20: 0.5, 40: 0.3}, seed=1))
    return folder


# The first second


@pytest.mark.parametrize("command", ["prefix-decay", "signals", "train", "sweep", "plan"])
def test_a_line_is_printed_before_torch_is_loaded(command: str) -> None:
    begun = (
        "import sys; from decaylab.cli import registering; "
        "registering.hushed = lambda quiet: sys.exit('torch' in sys.modules)"
    )
    words = ("--values", "5,full") if command == "sweep" else ()
    out, err = (process := start(command, *words, before=begun)).communicate()
    assert (process.returncode, out) == (0, ""), "torch is not loaded"
    (line,) = err.splitlines()
    assert line.startswith(f"decaylab {command}: loads torch")


def test_nothing_that_is_slow_is_loaded_before_the_first_line() -> None:
    heavy = "torch transformers pandas pyarrow scipy matplotlib vllm"
    code = f"import sys, decaylab.cli.main; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout == "[]\n"


def test_quiet_prints_no_first_line(run: Path) -> None:
    outcome = decaylab("compare", run, run, "--quiet")
    assert outcome.code == 2 and outcome.err.count("\n") == 1


def test_of_several_processes_one_prints_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert "reads the runs" not in decaylab("compare", run, run).err
    monkeypatch.setenv("RANK", "0")
    assert decaylab("compare", run, run).err.startswith("decaylab compare: reads the runs ...\n")


# Version and completion


def test_version_names_what_numbers_depend_on() -> None:
    outcome = decaylab("--version")
    names = ("decaylab", "torch", "transformers")
    assert outcome.code == 0 and outcome.out.splitlines() == [
        f"{name} {importlib.metadata.version(name)}" for name in names
    ]


def test_version_without_package_metadata_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    outcome = decaylab("--version")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == ("decaylab (version unknown: not installed as a package)")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("decaylab pre", {"prefix-decay", "preflight"}),
        ("decaylab signals --adv", {"--advise"}),
        ("decaylab train --verb", {"--verbose"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: set[str]) -> None:
    environment = {
        **ENVIRONMENT,
        "_DECAYLAB_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    code = "import sys; sys.argv[0] = 'decaylab'; from decaylab.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert set(done.stdout.split()) == offered, done.stderr


def test_help_offers_both() -> None:
    text = decaylab("--help").out
    for option in ("--version", "--install-completion", "--show-completion"):
        assert option in text


# The verdict, and the rest


def test_a_run_is_shown_again_by_its_verdict_and_in_full(run: Path) -> None:
    short, full = decaylab("show", run), decaylab("show", run, "--verbose")
    assert short.code == full.code == 0 and short.err == full.err == ""
    lines = short.out.splitlines()
    assert lines[:2] == ["", "Teacher decay"]
    assert lines[2].startswith("Alone, the teacher is ahead of the student by +")
    assert lines[3].startswith("Shown: the longer the student's prefix")
    assert lines[4].startswith("The control was not")
    assert "Carried forward" not in short.out and "Carried forward" in full.out
    assert f"more: decaylab show {run} --verbose" in short.out and "more:" not in full.out
    measured = json.loads(decaylab("show", run, "--json").out)
    assert measured["run"] == str(run) and len(measured["measurements"]) > 10


def test_every_command_with_tables_has_verbose() -> None:
    without = {"preflight", "rollouts"}
    for name in COMMANDS:
        assert ("--verbose" in decaylab(name, "--help-all").out) == (name not in without), name


def test_what_is_no_finished_run_is_one_line(tmp_path: Path) -> None:
    assert "holds no finished run" in decaylab("show", tmp_path / "none").complaint
    (tmp_path / "run.json").write_text('{"identity": {"training": {}}}')
    assert "the training is not finished" in decaylab("show", tmp_path).complaint
    (tmp_path / "run.json").write_text("[]")
    assert "is damaged" in decaylab("show", tmp_path).complaint


# Ctrl-C


def test_ctrl_c_while_models_are_loaded_is_one_line_with_the_command_that_resumes() -> None:
    wait = (
        "import time; from decaylab.cli import registering; "
        "registering.hushed = lambda quiet: (print('here', flush=True), time.sleep(60))"
    )
    process = start("prefix-decay", "--limit", "3", before=wait)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    first, last = err.splitlines()
    assert process.returncode == 130 and first.endswith("...")
    assert re.fullmatch(
        f"decaylab: interrupted; {registering.NOTHING_KEPT}. To resume: decaylab .*--limit 3", last
    )
