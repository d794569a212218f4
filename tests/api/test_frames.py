"""Frames of runs made by hand: whose tokens, which positions, unique ids, and what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import made_decay
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_outcomes import outcomes as made_outcomes

import decaylab as dl
from decaylab.api.columns import every_column
from decaylab.errors import UserError
from decaylab.problems.answers import ANSWER_RULES
from decaylab.runs import measurements, outcomes, sources, store
from decaylab.runs.measurements import Measurement
from decaylab.runs.outcomes import schema as outcome_schema
from decaylab.tokens import served_scores
from decaylab.tokens.token_table import ONE_TOKENIZER, SCHEMA

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "docs" / "measurements"
MASK = {"student/p/1/0": [1, 0, 0, 1, 1]}
"""The second and third token of one rollout are those of a tool."""


def rollouts(folder: Path, author: str, grades: list[str], masked: bool = False) -> Path:
    """Two rollouts of 5 and 3 tokens, named as every student names them."""
    rows = []
    for problem, (length, grade) in enumerate(zip((3, 5), grades, strict=True)):
        name = f"{author}/p/{problem}/0"
        rows.append(
            {
                "rollout_id": name,
                "condition": author,
                "problem_id": f"p/{problem}",
                "sample": 0,
                "response_ids": list(range(length)),
                "response_mask": MASK.get(name) if masked else None,
                "text": "x" * length,
                "stop_reason": "eos",
                **{f"grade_{rule}": grade for rule in ANSWER_RULES},
            }
        )
    table = pa.Table.from_pylist(rows, schema=store.rollout_schema(ANSWER_RULES))
    store.write_table(table, folder / "rollouts.parquet", store.ROLLOUTS)
    return folder


def scored(folder: Path, first: float, schema: pa.Schema = SCHEMA) -> Path:
    """Scores of those rollouts; each column counts up from a number."""
    count = 8
    columns: dict[str, Any] = {
        "rollout_id": ["student/p/0/0"] * 3 + ["student/p/1/0"] * 5,
        "position": [0, 1, 2, 0, 1, 2, 3, 4],
        "token": [f"t{number}" for number in range(count)],
        "route": ["the teacher's ids"] * count,
    }
    arrays = [
        pa.array(columns.get(field.name, first + np.arange(count))).cast(field.type, safe=False)
        for field in schema
    ]
    is_served = schema is served_scores.SCHEMA
    name = served_scores.TOKENS if is_served else ONE_TOKENIZER.name
    store.write_table(pa.Table.from_arrays(arrays, schema=schema), folder / "tokens.parquet", name)
    return folder


def run(folder: Path, command: str, **record: Any) -> Path:
    """A finished run of one number."""
    identity: dict[str, Any] = {
        "diagnostic": command,
        "options": {},
        "student": made_decay.policy("small"),
        "teacher": made_decay.policy("large"),
        **record.pop("identity", {}),
    }
    folder.mkdir(parents=True)
    text = {"command": f"decaylab {command}", "identity": identity, "notes": [], **record}
    (folder / "run.json").write_text(json.dumps(text))
    frame = measurements.to_frame([Measurement("reverse_kl", "all", 0.5, "nats")])
    measurements.write(frame, folder / "measurements.parquet")
    return folder


@pytest.fixture
def kl(tmp_path: Path) -> Path:
    """A position-kl of base, whose rollouts used a tool, and of one checkpoint."""
    cache = tmp_path / "runs" / "cache"
    tokens = [
        sources.Scored("base", "fresh", scored(cache / "tokens-a", 0)),
        sources.Scored("step-9", "fresh", scored(cache / "tokens-b", 100)),
        sources.Scored("step-9", "frozen", scored(cache / "tokens-c", 200)),
    ]
    written = {
        "step-9": rollouts(cache / "rollouts-b", "student", ["wrong", "correct"]),
        "base": rollouts(cache / "rollouts-a", "student", ["correct", "wrong"], masked=True),
    }
    record = sources.record(tokens, written)
    return run(tmp_path / "runs" / "kl", "position-kl", sources=record)


def test_tokens_of_every_checkpoint_join_with_the_grades_of_who_wrote_them(kl: Path) -> None:
    opened = dl.open_run(kl)
    joined = opened.tokens.merge(opened.rollouts)  # on all columns that both have
    assert opened.rollouts["rollout_id"].is_unique and len(joined) == len(opened.tokens)
    writers = opened.tokens.groupby(["checkpoint", "view"])["writer"].unique().map(list).to_dict()
    assert writers == {
        ("base", "fresh"): ["base"],
        ("step-9", "fresh"): ["step-9"],
        ("step-9", "frozen"): ["base"],
    }
    grades = joined.set_index(["checkpoint", "view", "problem_id"])["grade_last_boxed"].to_dict()
    # Frozen tokens are those of base, whose grades differ from the checkpoint's own.
    assert grades == {
        ("base", "fresh", "p/0"): "correct",
        ("base", "fresh", "p/1"): "wrong",
        ("step-9", "fresh", "p/0"): "wrong",
        ("step-9", "fresh", "p/1"): "correct",
        ("step-9", "frozen", "p/0"): "correct",
        ("step-9", "frozen", "p/1"): "wrong",
    }


def test_tokens_of_tools_are_left_out_and_positions_count_own_tokens(kl: Path) -> None:
    tokens = dl.open_run(kl).tokens.set_index(["checkpoint", "view", "problem_id"])
    base = tokens.loc["base", "fresh", "p/1"]
    assert list(base["position"]) == [0, 1, 2] and list(base["token"]) == ["t3", "t6", "t7"]
    assert list(base["reverse_kl"]) == [3, 6, 7]
    frozen = tokens.loc["step-9", "frozen", "p/1"]
    assert list(frozen["reverse_kl"]) == [203, 206, 207]
    fresh = tokens.loc["step-9", "fresh", "p/1"]  # no tool in the checkpoint's own
    assert list(fresh["position"]) == [0, 1, 2, 3, 4]
    assert list(fresh["reverse_kl"]) == [103, 104, 105, 106, 107]


def test_a_tree_that_was_moved_is_found_and_a_cache_that_is_gone_is_told(
    kl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((kl / "run.json").read_text())
    text = json.dumps(record).replace(f"{tmp_path}/", "")
    (kl / "run.json").write_text(text)  # relative paths, as of the default cache
    before = dl.open_run(kl).tokens
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere" / "runs")
    moved = tmp_path / "elsewhere" / "runs" / "kl"
    pd.testing.assert_frame_equal(dl.open_run(moved).tokens, before)
    shutil.rmtree(moved.parent / "cache")
    with pytest.raises(UserError, match="is gone, .*`decaylab position-kl` makes them again"):
        _ = dl.open_run(moved).tokens


def test_a_run_of_an_earlier_version_says_how_to_get_its_tokens(tmp_path: Path) -> None:
    opened = dl.open_run(run(tmp_path / "kl", "position-kl"))
    with pytest.raises(UserError, match="an earlier version measured it. `decaylab position-kl`"):
        _ = opened.tokens


def test_tokens_of_a_served_teacher_have_its_bound(tmp_path: Path) -> None:
    folder = scored(tmp_path / "served-a", 0, served_scores.SCHEMA)
    written = {"base": rollouts(tmp_path / "rollouts-a", "student", ["correct", "wrong"])}
    record = sources.record([sources.Scored("base", "fresh", folder)], written)
    tokens = dl.open_run(run(tmp_path / "kl", "served-kl", sources=record)).tokens
    assert list(tokens["reverse_kl_bound"]) == list(range(8))
    assert set(tokens["route"]) == {"the teacher's ids"}
    assert_documented("tokens", tokens)


def test_rollouts_of_a_sweep_are_the_outcomes_of_its_evaluations(tmp_path: Path) -> None:
    names = ["prefix-5-seed-0", "full-seed-0"]
    for number, name in enumerate(names):
        frame = made_outcomes({"base": {"a": [0, 1]}, f"step-{number}": {"a": [0, 0]}})
        whole = frame.reindex(columns=outcome_schema(ANSWER_RULES).names)
        outcomes.write(whole, tmp_path / "runs" / name / "evaluate" / "outcomes.parquet")
    folder = run(
        tmp_path / "sweep",
        "",
        runs=str(tmp_path / "runs"),
        identity={"options": {"over": "selector"}, "runs": {name: {} for name in names}},
    )
    opened = dl.open_run(folder)
    assert opened.command == "sweep selector"
    accuracy = opened.rollouts.assign(correct=opened.rollouts["grade_last_boxed"] == "correct")
    assert accuracy.groupby(["run", "writer"])["correct"].mean().to_dict() == {
        ("prefix-5-seed-0", "base"): 0.5,
        ("prefix-5-seed-0", "step-0"): 1,
        ("full-seed-0", "base"): 0.5,
        ("full-seed-0", "step-1"): 1,
    }
    with pytest.raises(UserError, match=r"dl.position_kl\(CHECKPOINT\).tokens"):
        _ = opened.tokens
    assert_documented("rollouts", opened.rollouts)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "esr"
    folder.mkdir()
    record = {"identity": {"training": {"selector": "prefix"}}, "finished": True, "notes": ["one"]}
    (folder / "run.json").write_text(
        json.dumps(record | {"alarms": [{"step": 2, "alarm": "long"}]})
    )
    (folder / "metrics.csv").write_text("step,loss,tokens_0,tokens_40\n1,0.5,12,0\n2,0.25,10,0\n")
    (folder / "validation.csv").write_text(
        "step,problems,tokens,accuracy,reverse_kl,response_tokens,natural_stop_share,"
        "repetition_share\n0,4,80,0.25,0.5,20,1,0\n2,4,80,0.5,0.4,20,1,0\n"
    )
    return folder


def test_a_training_run_has_metrics_and_validation(trained: Path) -> None:
    run = dl.open_run(str(trained))
    assert repr(run) == f"<Run train: {trained}>" and run.notes == ("one",)
    assert list(run.metrics) == ["step", "loss", "tokens_0"]  # no rollout reached position 40
    assert list(run.metrics["loss"]) == [0.5, 0.25]
    assert list(run.validation["accuracy"]) == [0.25, 0.5]
    assert run.alarms == ("alarm at step 2: long",) and "25.0 %" in " ".join(run.verdict)
    assert "<table" in run._repr_html_()
    for ask in (lambda: run.measurements, lambda: run.rollouts, run.figure):
        with pytest.raises(UserError, match=r"training run.*dl.evaluate\("):
            ask()


def test_a_folder_without_a_finished_run_is_refused(trained: Path, tmp_path: Path) -> None:
    (trained / "run.json").write_text('{"identity": {"training": {}}}')
    with pytest.raises(UserError, match="the training is not finished"):
        dl.open_run(trained)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no finished run"):
            dl.open_run(folder)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PUBLISHED.glob("*/run.json")))
def test_every_published_run_opens(name: str) -> None:
    opened = dl.open_run(PUBLISHED / name)
    assert opened.verdict and "\n" not in repr(opened)
    assert not opened.measurements.empty
    assert_documented("measurements", opened.measurements)


def test_a_comparison_has_a_verdict_and_shows_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {0: 0.9, 20: 0.8, 40: 0.7}
    for seed, teacher in enumerate(("large", "medium")):
        made_decay.folder(
            tmp_path / teacher, made_decay.rollouts(kept, seed=seed, problems=12), teacher=teacher
        )
    compared = dl.compare(
        tmp_path / "large", tmp_path / "medium", out=tmp_path / "both", quiet=True
    )
    assert capsys.readouterr() == ("", "")
    assert compared.command == "compare" and compared.verdict
    dl.show(compared)
    assert compared.verdict[0].split(";")[0] in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="compares other runs and has no rollouts"):
        _ = compared.rollouts
    record = json.loads((compared.folder / "run.json").read_text())
    assert record["command"].startswith("dl.compare('")
    assert f"medium', out='{tmp_path}/both')" in record["command"]
    assert_documented("rollouts", dl.open_run(tmp_path / "large").rollouts)


def assert_documented(frame: str, found: pd.DataFrame) -> None:
    assert set(found) <= set(dl.columns(frame)["column"]), set(found)


def test_every_column_is_documented_once() -> None:
    table = every_column()
    assert not table.duplicated(["frame", "column"]).any() and (table["meaning"] != "").all()
    listed = {frame: set(rows["column"]) for frame, rows in table.groupby("frame")}
    assert listed["measurements"] == set(measurements.COLUMNS)
    stored = {*SCHEMA.names, *served_scores.SCHEMA.names, "checkpoint", "view"}
    assert listed["tokens"] == stored | {"writer", "problem_id", "sample"}
    written = {*store.rollout_schema(ANSWER_RULES).names, *outcome_schema(ANSWER_RULES).names}
    assert listed["rollouts"] == written - {"checkpoint"} | {"run", "writer"}
    with pytest.raises(UserError, match="frame must be one of measurements, tokens, rollouts"):
        dl.columns("token")
