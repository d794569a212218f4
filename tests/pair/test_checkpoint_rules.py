"""Which checkpoints of a run are measured, and which one stands for it: by step, by validation,
never by the test problems."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from training_runs import steps, training_run

from decaylab.errors import UserError
from decaylab.pair import targets
from decaylab.pair.checkpoint_rules import Checkpoint, Plan, not_measured, plan
from decaylab.policies import loading
from decaylab.policies.checkpoint_folders import last_model, step_of

VALIDATED = {0: 0.9, 10: 0.5, 20: 0.7, 100: 0.6}


def chosen(found: Plan) -> dict[str, list[str]]:
    return {rule: [Path(name).name for name in names] for rule, names in found.chosen.items()}


def test_a_run_means_all_its_checkpoints_by_number_and_both_rules_are_told(tmp_path: Path) -> None:
    """Step 100 comes behind 20, whose validation is the best; that of step 0 is not a
    checkpoint's."""
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
    assert steps(found) == [20] and chosen(found) == {
        "last": ["step-000020"],
        "best": ["step-000020"],
    }


def test_of_equal_accuracies_the_earliest_is_the_best(tmp_path: Path) -> None:
    found = plan([training_run(tmp_path, 5, 10, 20, validation={20: 0.7, 10: 0.7, 5: 0.6})])
    assert chosen(found)["best"] == ["step-000010"]


def test_only_checkpoints_that_are_there_and_validated_can_be_the_best(tmp_path: Path) -> None:
    """Step 30 has no folder, step 20 no accuracy, step 10 was validated twice: the later number
    holds."""
    path = training_run(tmp_path, 5, 10, 20, validation={30: 0.9, 20: "", 10: 0.8, 5: 0.4})
    with (tmp_path / "validation.csv").open("a") as file:
        file.write("10,100,0.3,0.1\n")
    found = plan([path])
    assert chosen(found)["best"] == ["step-000005"]
    (note,) = found.notes
    assert (
        note
        == f"1 of 3 checkpoints have no accuracy in {tmp_path / 'validation.csv'} and cannot be "
        "the best one"
    )


def test_without_a_validation_the_last_stands_alone_and_a_note_says_why(tmp_path: Path) -> None:
    found = plan([training_run(tmp_path, 10, 20)])
    assert chosen(found) == {"last": ["step-000020"]} and steps(found) == [10, 20]
    assert found.notes == (f"{tmp_path} has no validation.csv to choose the best checkpoint from",)
    assert plan([str(tmp_path)], "last").notes == ()


def test_best_without_a_validation_is_one_line(tmp_path: Path) -> None:
    path = training_run(tmp_path / "run", 10)
    for rule in ("best", "last,best"):
        with pytest.raises(
            UserError,
            match=f"--checkpoint-rule {rule}: .*run has no validation.csv .*; use --check",
        ):
            plan([path], rule)
    path = training_run(tmp_path / "other", 10, validation={0: 0.5})
    with pytest.raises(
        UserError, match="other/validation.csv has no accuracy for any existing checkpoint"
    ):
        plan([path], "best")
    assert chosen(plan([path])) == {"last": ["step-000010"]}


@pytest.mark.parametrize(
    "text",
    [
        "step;accuracy\n1;2\n",
        "step,accuracy\nten,0.5\n",
        "step,accuracy\n10,good\n",
        "accuracy\n0.5",
    ],
)
def test_a_damaged_validation_is_one_line(text: str, tmp_path: Path) -> None:
    path = training_run(tmp_path, 10)
    (tmp_path / "validation.csv").write_text(text)
    with pytest.raises(
        UserError, match="validation.csv is damaged: each row needs a step and an accuracy"
    ) as error:
        plan([path])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["newest", "", "every,last", "last,last", "last best", "Last"])
def test_an_unknown_rule_is_one_line_with_those_there_are(rule: str) -> None:
    with pytest.raises(
        UserError, match="--checkpoint-rule must be every, last, best, or last,best, got"
    ):
        plan([], rule)


def test_single_checkpoints_are_measured_whatever_the_rule_and_no_rule_takes_them(
    tmp_path: Path,
) -> None:
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
    assert len(found.notes) == 1 and "/b has no validation.csv" in found.notes[0]


def test_what_is_no_folder_of_checkpoints_is_left_to_be_resolved(tmp_path: Path) -> None:
    """A model without checkpoints is a model, a run of rollouts a run, an empty run none of
    either."""
    model, decay, empty = (
        Path(training_run(tmp_path / name, *at)) for name, at in (("m", []), ("d", [5]), ("e", []))
    )
    (model / "config.json").write_text("{}")
    (decay / "rollouts.parquet").write_bytes(b"")
    names = tuple(map(str, (model, decay, empty, tmp_path / "nowhere")))
    assert plan(names).loaded == names and plan(names).chosen == {}


def test_checkpoints_of_other_trainers_are_found_too(tmp_path: Path) -> None:
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert steps(plan([str(tmp_path)])) == [500, 1000]
    first = Checkpoint(str(tmp_path / "checkpoint-500"), 500.0, run=tmp_path)
    assert plan([str(tmp_path)]).checkpoints[0] == first


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


# The folders of other trainers


def model(folder: Path, weights: str = "w", *, adapter: bool = False) -> Path:
    """A folder that looks like a model, or like an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("adapter_config.json" if adapter else "config.json")).write_text("{}")
    (folder / ("adapter_model.safetensors" if adapter else "model.safetensors")).write_text(weights)
    return folder


def test_the_final_model_in_a_runs_folder_is_measured_behind_its_checkpoints_and_said(
    tmp_path: Path,
) -> None:
    """What TRL leaves: by number, 100 behind 20, and the root last."""
    run = model(tmp_path / "trl", "final", adapter=True)
    for step in (100, 20):
        model(run / f"checkpoint-{step}", f"step {step}", adapter=True)
    found = plan([str(run)])
    assert found.loaded == (str(run / "checkpoint-20"), str(run / "checkpoint-100"), str(run))
    assert steps(found)[:2] == [20, 100] and math.isnan(steps(found)[2])
    assert found.chosen == {"last": (str(run),)}
    assert found.notes[0] == (
        f"{run}: checkpoint-20, checkpoint-100, final are measured; the last one is the "
        "model in the folder itself"
    )
    (run / "trainer_state.json").write_text('{"global_step": 120}')
    assert steps(plan([str(run)])) == [20, 100, 120]
    assert plan([str(run)], "last").loaded == (str(run),)
    assert plan([f"{run}/"]).loaded[:1] == found.loaded[:1]


def test_a_final_model_that_is_the_last_checkpoint_is_measured_once_and_said(
    tmp_path: Path,
) -> None:
    run = model(tmp_path / "trl", "same")
    model(run / "checkpoint-9", "other")
    model(run / "checkpoint-10", "same")
    found = plan([str(run)])
    assert steps(found) == [9, 10] and found.chosen == {"last": (str(run / "checkpoint-10"),)}
    assert (
        found.notes[0]
        == f"{run}: the model in the folder itself is identical to checkpoint-10, measured once"
    )
    (run / "config.json").write_text('{"rope_theta": 1}')
    assert len(plan([str(run)]).loaded) == 3, (
        "the same weights under another configuration are another model"
    )


@pytest.mark.parametrize(
    ("step", "inside"),
    [
        ("global_step_{}", "actor/huggingface"),
        ("global_step_{}", "actor/lora_adapter"),
        ("global_step_{}", "huggingface"),
        ("step_{}", "policy/hf"),
        ("step_{}", "policy/weights/model/consolidated"),
        ("iter_{:07}", "hf"),
        ("iter_{:07}", ""),
        ("global_step{}", ""),
        ("checkpoint-{}", ""),
    ],
)
def test_models_inside_the_steps_of_other_trainers_are_found_by_number(
    step: str, inside: str, tmp_path: Path
) -> None:
    for number in (100, 20, 3):
        place = model(
            tmp_path / step.format(number) / inside, str(number), adapter="lora" in inside
        )
        assert step_of(place) == number and last_model(tmp_path / step.format(number)) == place
        model(
            tmp_path / step.format(number) / "critic" / "huggingface", "of the critic"
        ) if inside else None
    found = plan([str(tmp_path)])
    assert steps(found) == [3, 20, 100]
    assert found.loaded == tuple(
        str(tmp_path / step.format(number) / inside).rstrip("/") for number in (3, 20, 100)
    )
    assert loading.resolve(str(tmp_path)) == tmp_path / step.format(100) / inside
    labels = [one.label for one in targets.labelled(found.loaded)]
    assert labels == [step.format(number) for number in (3, 20, 100)]


SHARDS = {
    "actor/model_world_size_2_rank_0.pt": "verl.model_merger merge --backend fsdp",
    "actor/dist_ckpt/.metadata": "verl.model_merger merge --backend megatron",
    "policy/weights/model/.metadata": "convert_dcp_to_hf.py",
    "policy/weights/iter_0000000/common.pt": "convert_megatron_to_hf.py",
    "__0_0.distcp": "convert_torch_dist_to_hf.py",
    "model/.metadata": "convert_fsdp_to_hf.py",
    "mp_rank_00/model_optim_rng.pt": "Megatron-LM",
}


@pytest.mark.parametrize("shard", SHARDS)
def test_weights_in_shards_are_one_line_with_what_converts_them(shard: str, tmp_path: Path) -> None:
    for number in (9, 10):
        path = tmp_path / f"step_{number}" / shard
        path.parent.mkdir(parents=True)
        path.touch()
    config = (
        tmp_path / "step_10" / "actor" / "huggingface"
    )  # verl puts configuration and tokenizer there, always
    config.mkdir(parents=True)
    (config / "config.json").write_text("{}")
    for read in (plan, lambda names: loading.resolve(names[0])):
        with pytest.raises(
            UserError, match="has sharded weights and no Hugging Face folder; convert it with"
        ) as error:
            read([str(tmp_path)])
        assert (
            SHARDS[shard] in str(error.value)
            and "step_10" in str(error.value)
            and "\n" not in str(error.value)
        )
    model(tmp_path / "step_9-hf", "converted")
    found = plan([str(tmp_path)])
    assert steps(found) == [9] and found.loaded == (str(tmp_path / "step_9-hf"),)
    assert found.notes[0].startswith(
        f"{tmp_path}: 1 of 2 checkpoints are left out: {tmp_path / 'step_10'} has sharded"
    )


def test_two_models_in_one_step_are_not_guessed_between(tmp_path: Path) -> None:
    model(tmp_path / "global_step_5" / "actor" / "huggingface")
    model(tmp_path / "global_step_5" / "actor" / "lora_adapter", adapter=True)
    with pytest.raises(
        UserError,
        match=r"contains 2 models \(actor/huggingface, actor/lora_adapter\): give the folder",
    ):
        plan([str(tmp_path)])


def test_a_folder_that_only_looks_like_a_step_further_up_has_no_step(tmp_path: Path) -> None:
    assert step_of(model(tmp_path / "step_2" / "mine")) is None
    assert (
        step_of(tmp_path / "checkpoint-best") is None and step_of(tmp_path / "steps" / "7") is None
    )
    assert step_of(Path("runs/step_100/policy/weights/iter_0000000")) == 100


def test_other_commands_say_which_checkpoints_they_do_not_measure(tmp_path: Path) -> None:
    run = model(tmp_path / "trl", "final")
    model(run / "checkpoint-10", "ten")
    assert not_measured([str(run), str(run / "checkpoint-10"), "abacus-student"])[-1] == (
        f"{run}: only the last of its 2 checkpoints (checkpoint-10, final) is measured; "
        "use --checkpoint-rule every to measure all"
    )
    assert loading.resolve(str(run)) == run


def test_a_checkpoint_with_the_states_of_deepspeed_in_it_is_one_and_a_stage_named_like_a_step_is_a_run(  # noqa: E501
    tmp_path: Path,
) -> None:
    one = model(tmp_path / "run" / "checkpoint-10")
    (one / "global_step10").mkdir()
    assert plan([str(one)]).loaded == plan([str(tmp_path / "run")]).loaded == (str(one),)
    for step in (5, 40):
        model(tmp_path / "step_2" / f"checkpoint-{step}", str(step))
    assert steps(plan([str(tmp_path / "step_2")])) == [5, 40]
    assert loading.resolve(str(tmp_path / "step_2")) == tmp_path / "step_2" / "checkpoint-40"
