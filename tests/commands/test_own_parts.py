"""Selectors, answer rules and problem sets of the user's own in whole runs: by file, by module and
by entry point; resumed, changed, and read where they are not installed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import HELPERS, decaylab, start
from own_parts import PLUGIN, forgotten, write_plugin

import decaylab as dl
from decaylab.commands import children, comparable, drawing
from decaylab.errors import UserError
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import outcomes, store

TRAIN: dict[str, Any] = {
    "selector": "last-half-weights",
    "budget": 4,
    "max_tokens": 12,
    "steps": 2,
    "problems_per_step": 2,
    "limit": 20,
    "validation_problems": 2,
    "checkpoint_every": 1,
    "test_problems": "none",
    "quiet": True,
}


@pytest.fixture(scope="module", autouse=True)
def registries() -> Iterator[None]:
    with forgotten():
        yield


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def trained(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the selector, with a rule of the user's own for held-out answers."""
    out = tmp_path_factory.mktemp("trained") / "mine"
    dl.train(**TRAIN, plugin=str(plugin), answer_rule="odd_length", out=out)
    return out


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def test_a_training_selects_by_the_function_and_records_it(trained: Path, plugin: Path) -> None:
    metrics = pd.read_csv(trained / "metrics.csv")
    assert (metrics["tokens_selected"] == 8).all(), "2 rollouts, 4 tokens of each"
    plugins = record(trained)["identity"]["plugins"]
    assert set(plugins) == {"selector last-half-weights", "answer rule odd_length"}
    assert {one["file"] for one in plugins.values()} == {"my_parts.py"}
    assert (trained / "step-000002" / "adapter_config.json").exists()


def test_a_changed_file_is_another_run_and_is_named(trained: Path, plugin: Path) -> None:
    write_plugin(plugin.parent, PLUGIN.replace("= 0.5", "= 0.25"))
    try:
        with pytest.raises(UserError) as refused:
            dl.train(**TRAIN, plugin=str(plugin), answer_rule="odd_length", out=trained)
    finally:
        write_plugin(plugin.parent)
    words = str(refused.value)
    assert "contains a run with different settings" in words and "choose another --out" in words
    assert "selector last-half-weights (my_parts.py) has changed: SHA-256 " in words
    assert not dl.train(**TRAIN, plugin=str(plugin), answer_rule="odd_length", out=trained).alarms


def test_a_killed_training_resumes_with_the_plugin_and_ends_the_same(
    trained: Path, plugin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    words = ["train", "--plugin", plugin, "--answer-rule", "odd_length", "--out", out, "--quiet"]
    for name, value in TRAIN.items():
        if name != "quiet":
            words += [f"--{name.replace('_', '-')}", str(value)]
    kill = (
        "import os, signal\n"
        "from decaylab.trainer.machinery import resume\n"
        "write = resume.ResumeState.write\n"
        "def once(self, step, *more):\n"
        "    write(self, step, *more)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "resume.ResumeState.write = once\n"
    )
    process = start(*words, before=kill)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not record(out).get("finished")
    assert decaylab(*words).code == 0
    for file in ("step-000002/adapter_model.safetensors", "step-000001/adapter_model.safetensors"):
        assert (out / file).read_bytes() == (trained / file).read_bytes(), file
    assert record(out)["identity"]["plugins"] == record(trained)["identity"]["plugins"]


MEASURED = ("--limit", "3", "--samples", "1", "--max-tokens", "12", "--quiet", "--json")


@pytest.fixture(scope="module")
def evaluated(trained: Path, plugin: Path) -> Path:
    """The last checkpoint, evaluated by a rule of the user's own."""
    rule = ("--plugin", plugin, "--answer-rule", "odd_length", "--checkpoint-rule", "last")
    cache = trained.parent / "cache"
    outcome = decaylab(
        "evaluate", trained, "--problems", "abacus", *rule, *MEASURED, "--cache", cache
    )
    return Path(json.loads(outcome.out)["run"])


def test_an_evaluation_reports_the_rule_first_and_keeps_its_grades(evaluated: Path) -> None:
    run = dl.open_run(evaluated)
    assert run.measurements["answer_rule"].iloc[0] == "odd_length"
    graded = outcomes.read(evaluated / "outcomes.parquet")
    rollouts = [
        store.read_table(path, store.ROLLOUTS).to_pandas()
        for path in (evaluated.parents[1] / "cache").glob("rollouts-*/rollouts.parquet")
    ]
    texts = pd.concat(rollouts)
    odd = np.where(texts["text"].str.len() % 2 == 1, "correct", "wrong")
    assert (texts["grade_odd_length"] == odd).all() and len(texts) == len(graded)
    alone = run.measurements.query("what == 'avg_at_1' and condition == 'odd_length'")
    for checkpoint, value in zip(alone["checkpoint"], alone["value"], strict=True):
        rows = graded[graded["checkpoint"] == checkpoint]
        assert value == (rows["grade_odd_length"] == "correct").mean()
    majority = run.measurements.query("what == 'maj_at_1' and condition == 'odd_length'")
    assert majority["value"].isna().all() and "no majority" in majority["note"].iloc[0]


@pytest.fixture(scope="module")
def decay(plugin: Path) -> Path:
    """Problems of the user's own, whose gold answers only the set's own rule reads."""
    out = plugin.parent / "decay"
    words = ("--problems", "little-sums", "--prefix-lengths", "0,4", "--controls", "none")
    outcome = decaylab("prefix-decay", "--plugin", plugin, *words, *MEASURED, "--out", out)
    assert outcome.code == 0, outcome.err
    return out


def test_a_problem_set_of_ones_own_is_measured_by_its_own_rule(decay: Path) -> None:
    found = record(decay)
    assert found["answer_rule"] == "odd_length"
    assert set(found["identity"]["plugins"]) == {
        "problem set little-sums",
        "answer rule odd_length",
    }
    assert "3 of 3 gold answers can be read by odd_length alone" in " ".join(found["notes"])
    rollouts = pd.read_parquet(decay / "rollouts.parquet")
    assert set(rollouts["grade_last_boxed"]) == {"not_applicable"}
    assert set(rollouts["grade_odd_length"]) <= {"correct", "wrong"}
    questions = pd.read_parquet(decay / "problems.parquet")["question"]
    assert questions.iloc[0] == "1 beads and 1 more"


def test_another_rule_grades_the_stored_rollouts_and_a_changed_one_is_refused(
    decay: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersEngine, "sample", lambda *_, **__: pytest.fail("sampled"))
    words = ("--problems", "little-sums", "--prefix-lengths", "0,4", "--controls", "none")
    again = ("prefix-decay", "--plugin", plugin, *words, *MEASURED, "--out", decay)
    assert decaylab(*again, "--answer-rule", "last_word").code == 0
    rollouts = pd.read_parquet(decay / "rollouts.parquet")
    assert "grade_last_word" in rollouts and record(decay)["answer_rule"] == "last_word"
    assert "answer rule last_word" in record(decay)["identity"]["plugins"]
    write_plugin(plugin.parent, PLUGIN.replace("% 2 == 1", "% 2 == 0"))
    try:
        words = decaylab(*again, "--answer-rule", "last_word").complaint
    finally:
        write_plugin(plugin.parent)
    assert "answer rule last_word (my_parts.py) has changed: SHA-256 " in words


def test_runs_that_were_not_graded_by_a_rule_cannot_be_compared_by_it(decay: Path) -> None:
    run = comparable.ComparedRun(decay, record(decay))
    assert run.own_rule("odd_length") and run.own_rule("last_boxed") is None
    with pytest.raises(UserError, match="was not graded by absent, but by last_boxed, .*odd_leng"):
        comparable.check([run, run], "absent")


def test_runs_are_read_where_the_plugin_is_not_installed(
    trained: Path, evaluated: Path, decay: Path, tmp_path: Path
) -> None:
    with forgotten(at_once=True):
        page = dl.report(trained.parent, out=tmp_path / "report.html").read_text()
        assert "odd_length" in page
        for folder in (evaluated, decay, trained):
            shown = decaylab("show", folder, "--verbose")
            assert shown.code == 0, shown.err
        assert "odd_length" in decaylab("show", evaluated).out
        assert "selector last-half-weights" in decaylab("show", trained).out


# A training of a sweep as it is, without its figure; its evaluation by the stub.
CHILD = """
import sys
if sys.argv[1] == "evaluate":
    import stub_decaylab
    sys.exit(stub_decaylab.evaluate(sys.argv[2:]))
from decaylab.cli.main import main
from decaylab.commands import drawing
drawing.draw_training = lambda *more, **others: None
main()
"""
SCRIPT = """
import decaylab as dl
import my_parts
run = dl.sweep("selector", ["last-half-weights"], seeds=1, test_limit=3, runs=RUNS, **SMALL)
rows = run.measurements.query("what == 'avg_at_1'")
"""


def test_five_lines_sweep_a_selector_of_ones_own(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is registered by an import, and the processes of the sweep import its file too."""
    monkeypatch.syspath_prepend(str(plugin.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", HELPERS)
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-c", CHILD))
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)
    small = {
        name: value for name, value in TRAIN.items() if name not in ("selector", "test_problems")
    }
    given = {"RUNS": tmp_path / "runs", "SMALL": small | {"cache": tmp_path / "cache"}}
    with forgotten(at_once=True):
        exec(SCRIPT, given)
    rows = given["rows"]
    assert "last-half-weights" in set(rows["selector"]) and rows["value"].notna().all()
    job = record(tmp_path / "runs" / "last-half-weights-4-seed-0")
    swept = record(given["run"].folder)["identity"]["plugins"]
    assert job["identity"]["plugins"] == swept
    assert f"--plugin {plugin}" in job["command"]
