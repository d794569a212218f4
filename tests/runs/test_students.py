"""How a student was trained is read off the table, its run's record or a sweep's folder name, in
this order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from made_runs import made, row

from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.students import Student, described, last_of_each, students


def of(label: str, *paths: str, **more: float | str) -> Student:
    run = made("position-kl", [row("x", 0.1, checkpoint=label, **more)], checkpoints=list(paths))
    (found,) = students(run)
    return found


def trained_in(folder: Path, **training: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"identity": {"training": training}}))
    return folder


@pytest.mark.parametrize(
    ("label", "selector", "length", "seed"),
    [
        ("prefix-20-seed-0", "prefix", 20, 0),
        ("prefix-20", "prefix", 20, math.nan),
        ("full-seed-2", "full", math.inf, 2),
        ("full", "full", math.inf, math.nan),
        ("prefix-mask-20-seed-1", "prefix-mask", math.inf, 1),
        ("prefix-20-of-40-seed-1", "prefix", 40, 1),
        (
            "top-reverse-kl-x-student-entropy-20-seed-0",
            "top-reverse-kl-x-student-entropy",
            math.inf,
            0,
        ),
        ("after-teacher-prefix-20-behind-60-seed-0", "after-teacher-prefix", 20, 0),
        ("prefix-20-seed-0/step-000050", "prefix", 20, 0),
    ],
)
def test_a_folder_that_a_sweep_named_says_how_it_was_trained(
    label: str, selector: str, length: float, seed: float
) -> None:
    found = of(label)
    assert found.selector == selector and found.rollout_length == length
    assert found.seed == seed or math.isnan(seed) and math.isnan(found.seed)


@pytest.mark.parametrize(
    "label",
    [
        "ckpt-50",
        "full-finetune",
        "prefixed",
        "my-prefix-20",
        "step-000050",
        "prefix-20-new",
        "firststep-5",
    ],
)
def test_of_other_names_nothing_is_guessed(label: str) -> None:
    found = of(label)
    assert math.isnan(found.step) or label == "step-000050"
    assert found.selector == "" and math.isnan(found.rollout_length) and math.isnan(found.seed)


def test_the_record_of_its_run_goes_before_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = trained_in(tmp_path / "full", selector="prefix", rollout_length="40", seed=7)
    found = of("full", str(folder))
    assert (found.selector, found.rollout_length, found.seed) == ("prefix", 40, 7)
    inside = of("step-000050", str(folder / "step-000050"))
    assert (inside.selector, inside.rollout_length, inside.step) == ("prefix", 40, 50)
    whole = trained_in(tmp_path / "whole", selector="full", rollout_length="full", seed=0)
    assert of("whole", str(whole)).rollout_length == math.inf


def test_the_table_goes_before_the_record(tmp_path: Path) -> None:
    folder = trained_in(tmp_path / "esr", selector="prefix", rollout_length="40", seed=7)
    found = of("esr", str(folder), selector="random", rollout_length=math.inf, training_seed=1.0)
    assert (found.selector, found.seed) == ("random", 1)


def test_a_folder_of_that_name_elsewhere_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_in(tmp_path / "esr", selector="prefix", rollout_length="40", seed=7)
    monkeypatch.chdir(tmp_path)
    assert of("esr").selector == ""
    assert of("esr", "esr").selector == "prefix", "named as the run named it"


def test_a_damaged_record_and_one_of_something_else_tell_nothing(tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged", tmp_path / "other"
    for folder, text in ((damaged, "{"), (other, '{"identity": {"diagnostic": "signals"}}')):
        folder.mkdir()
        (folder / "run.json").write_text(text)
        assert of(folder.name, str(folder)).selector == ""


def test_base_and_teacher_are_no_trained_students() -> None:
    rows = [row("x", 0.1, checkpoint=name) for name in ("base", "teacher", "", "full", "full")]
    assert [one.label for one in students(made("behaviour", rows))] == ["full"]


def test_of_each_training_the_last_checkpoint_counts() -> None:
    labels = (
        "full/step-000100",
        "full/step-000025",
        "prefix-20/step-000050",
        "mine",
        "prefix-20/step-000025",
    )
    found = students(made("evaluate", [row("x", 0.1, checkpoint=label) for label in labels]))
    assert [one.label for one in last_of_each(found)] == [
        "full/step-000100",
        "prefix-20/step-000050",
        "mine",
    ]


def test_of_two_names_in_a_path_the_inner_one_counts() -> None:
    assert of("step-000050", "runs/full/prefix-20-seed-0/step-000050").selector == "prefix"


def test_steps_of_one_run_belong_together_by_its_path() -> None:
    rows = [row("x", 0.1, checkpoint=f"step-{step:06}") for step in (25, 100, 50)]
    run = made(
        "position-kl",
        rows,
        checkpoints=[f"runs/full-seed-0/step-{step:06}" for step in (25, 100, 50)],
    )
    assert [one.label for one in last_of_each(students(run))] == ["step-000100"]
    assert {one.selector for one in students(run)} == {"full"}


def test_rows_are_told_how_their_student_was_trained_and_nothing_that_they_say_is_changed(
    tmp_path: Path,
) -> None:
    for name, training in (
        ("esr", {"selector": "prefix", "rollout_length": "20", "seed": 3}),
        ("theirs", {}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"identity": {"training": training}}))
    own = Measurement(
        "reverse_kl",
        "all",
        0.5,
        "nats",
        checkpoint="mine",
        selector="full",
        rollout_length=math.inf,
    )
    rows = [
        Measurement("reverse_kl", "all", 0.5, "nats", checkpoint=name)
        for name in ("base", "esr", "theirs")
    ]
    frame = to_frame([*rows, own])
    told = described(frame, [str(tmp_path / "esr"), str(tmp_path / "theirs"), "mine"]).set_index(
        "checkpoint"
    )
    assert tuple(told.loc["esr", ["selector", "rollout_length", "training_seed"]]) == (
        "prefix",
        20.0,
        3.0,
    )
    assert tuple(told.loc["mine", ["selector", "rollout_length"]]) == ("full", math.inf)
    untold = told.drop(index=["esr", "mine"])
    assert (untold["selector"] == "").all() and untold["rollout_length"].isna().all()
    rest = [
        name
        for name in frame.columns
        if name not in ("selector", "rollout_length", "training_seed")
    ]
    pd.testing.assert_frame_equal(told.reset_index()[rest], frame[rest])
