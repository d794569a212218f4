"""Which checkpoints of a run are measured, and which one stands for it: by step, by validation, never by the test problems."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from decaylab.checkpoint_rules import Checkpoint, Plan, plan
from decaylab.errors import UserError

VALIDATED = {0: 0.9, 10: 0.5, 20: 0.7, 100: 0.6}


def training_run(path: Path, *steps: int, validation: dict[int, Any] | None = None, **training: Any) -> str:
    """A run's folder: checkpoints of no content, run.json, and a validation.csv where accuracies are given."""
    for step in steps:
        (path / f"step-{step:06}").mkdir(parents=True)
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps({"identity": {"options": {}, "training": training}}))
    if validation is not None:
        rows = [f"{step},100,{accuracy},0.1" for step, accuracy in validation.items()]
        (path / "validation.csv").write_text("\n".join(["step,problems,accuracy,reverse_kl", *rows]) + "\n")
    return str(path)


def steps(found: Plan) -> list[float]:
    return [one.step for one in found.checkpoints]


def chosen(found: Plan) -> dict[str, list[str]]:
    return {rule: [Path(name).name for name in names] for rule, names in found.chosen.items()}


def test_a_run_means_all_its_checkpoints_by_number_and_both_rules_are_told(tmp_path: Path) -> None:
    """Step 100 comes behind 20, whose validation is the best; that of step 0 is not a checkpoint's."""
    found = plan([training_run(tmp_path / "esr", 100, 10, 20, validation=VALIDATED)])
    assert steps(found) == [10, 20, 100]
    assert found.loaded[0] == str(tmp_path / "esr" / "step-000010")
    assert chosen(found) == {"last": ["step-000100"], "best": ["step-000020"]}
    assert found.notes == ()


@pytest.mark.parametrize(
    ("rule", "measured", "taken"),
    [
        ("last", [100], {"last": ["step-000100"]}),
        ("best", [20], {"best": ["step-000020"]}),
        ("last,best", [20, 100], {"last": ["step-000100"], "best": ["step-000020"]}),
        ("best, last", [20, 100], {"last": ["step-000100"], "best": ["step-000020"]}),
    ],
)
def test_a_rule_takes_one_checkpoint_of_a_run(
    rule: str, measured: list[int], taken: dict[str, list[str]], tmp_path: Path
) -> None:
    found = plan([training_run(tmp_path, 10, 20, 100, validation=VALIDATED)], rule)
    assert steps(found) == measured and chosen(found) == taken


def test_a_checkpoint_that_is_last_and_best_is_measured_once(tmp_path: Path) -> None:
    found = plan([training_run(tmp_path, 10, 20, validation={10: 0.1, 20: 0.2})], "last,best")
    assert steps(found) == [20] and chosen(found) == {"last": ["step-000020"], "best": ["step-000020"]}


def test_of_equal_accuracies_the_earliest_is_the_best(tmp_path: Path) -> None:
    found = plan([training_run(tmp_path, 5, 10, 20, validation={20: 0.7, 10: 0.7, 5: 0.6})])
    assert chosen(found)["best"] == ["step-000010"]


def test_only_checkpoints_that_are_there_and_validated_can_be_the_best(tmp_path: Path) -> None:
    """Step 30 has no folder, step 20 no accuracy, step 10 was validated twice: the later number holds."""
    path = training_run(tmp_path, 5, 10, 20, validation={30: 0.9, 20: "", 10: 0.8, 5: 0.4})
    with (tmp_path / "validation.csv").open("a") as file:
        file.write("10,100,0.3,0.1\n")
    found = plan([path])
    assert chosen(found)["best"] == ["step-000005"]
    (note,) = found.notes
    assert (
        note
        == f"1 of 3 checkpoints have no accuracy in {tmp_path / 'validation.csv'}: none of them can be the best one"
    )


def test_without_a_validation_the_last_stands_alone_and_a_note_says_why(tmp_path: Path) -> None:
    found = plan([training_run(tmp_path, 10, 20)])
    assert chosen(found) == {"last": ["step-000020"]} and steps(found) == [10, 20]
    assert found.notes == (f"{tmp_path} holds no validation.csv, by which the best checkpoint would be chosen",)
    assert plan([str(tmp_path)], "last").notes == ()


def test_best_without_a_validation_is_one_line(tmp_path: Path) -> None:
    path = training_run(tmp_path / "run", 10)
    for rule in ("best", "last,best"):
        with pytest.raises(
            UserError, match=f"--checkpoint-rule {rule}: .*run holds no validation.csv, .*; say --check"
        ):
            plan([path], rule)
    path = training_run(tmp_path / "other", 10, validation={0: 0.5})
    with pytest.raises(UserError, match="other/validation.csv holds no accuracy of a checkpoint that is there"):
        plan([path], "best")
    assert chosen(plan([path])) == {"last": ["step-000010"]}


@pytest.mark.parametrize(
    "text", ["step;accuracy\n1;2\n", "step,accuracy\nten,0.5\n", "step,accuracy\n10,good\n", "accuracy\n0.5"]
)
def test_a_damaged_validation_is_one_line(text: str, tmp_path: Path) -> None:
    path = training_run(tmp_path, 10)
    (tmp_path / "validation.csv").write_text(text)
    with pytest.raises(UserError, match="validation.csv is damaged: each row needs a step and an accuracy") as error:
        plan([path])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["newest", "", "every,last", "last,last", "last best", "Last"])
def test_an_unknown_rule_is_one_line_with_those_there_are(rule: str) -> None:
    with pytest.raises(UserError, match="--checkpoint-rule must be every, last, best, or last,best, got"):
        plan([], rule)


def test_single_checkpoints_are_measured_whatever_the_rule_and_no_rule_takes_them(tmp_path: Path) -> None:
    run = Path(training_run(tmp_path / "esr", 10, 20, validation=VALIDATED, selector="prefix"))
    names = [str(run / "step-000010"), "owner/model", "abacus-student"]
    found = plan(names, "last")
    assert found.loaded == tuple(names) and found.chosen == {}
    assert steps(found)[0] == 10 and all(map(math.isnan, steps(found)[1:]))
    assert found.checkpoints[0].training["selector"] == "prefix"


def test_of_several_runs_each_has_its_own(tmp_path: Path) -> None:
    runs = [
        training_run(tmp_path / "a", 10, 20, validation={10: 0.9, 20: 0.1}),
        training_run(tmp_path / "b", 30),
    ]
    found = plan(runs)
    assert steps(found) == [10, 20, 30]
    assert chosen(found) == {"last": ["step-000020", "step-000030"], "best": ["step-000010"]}
    assert len(found.notes) == 1 and "/b holds no validation.csv" in found.notes[0]


def test_what_is_no_folder_of_checkpoints_is_left_to_be_resolved(tmp_path: Path) -> None:
    """A model with checkpoints of its making in it is a model, a run of rollouts a run, an empty run none of either."""
    model, decay, empty = (Path(training_run(tmp_path / name, *at)) for name, at in (("m", [5]), ("d", [5]), ("e", [])))
    (model / "config.json").write_text("{}")
    (decay / "rollouts.parquet").write_bytes(b"")
    names = tuple(map(str, (model, decay, empty, tmp_path / "nowhere")))
    assert plan(names).loaded == names and plan(names).chosen == {}


def test_checkpoints_of_other_trainers_are_found_too(tmp_path: Path) -> None:
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert steps(plan([str(tmp_path)])) == [500, 1000]
    assert plan([str(tmp_path)]).checkpoints[0] == Checkpoint(str(tmp_path / "checkpoint-500"), 500.0)


@pytest.mark.parametrize(
    ("training", "columns"),
    [
        ({"selector": "prefix", "rollout_length": "20", "seed": 3}, ("prefix", 20.0, 3.0)),
        ({"selector": "full", "rollout_length": "full", "seed": 0}, ("full", math.inf, 0.0)),
        ({"selector": "full", "rollout_length": None, "seed": 0}, ("full", math.inf, 0.0)),
    ],
)
def test_how_a_run_was_trained_is_read_from_its_record(
    training: dict[str, Any], columns: tuple[str, float, float], tmp_path: Path
) -> None:
    found = plan([training_run(tmp_path, 10, **training)]).checkpoints[0].training
    assert tuple(found.values()) == columns
    assert list(found) == ["selector", "rollout_length", "training_seed"]


def test_a_run_that_does_not_say_how_it_was_trained_tells_nothing(tmp_path: Path) -> None:
    assert plan([training_run(tmp_path, 10)]).checkpoints[0].training == {}
