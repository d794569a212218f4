"""What folders that are named know: the pair, the problems, the sampling; and which of them cannot
stand side by side."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import DATA
from peft import LoraConfig, get_peft_model
from tiny_models import byte_tokenizer, save_folder
from transformers import AutoModelForCausalLM

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.pair import targets
from decaylab.pair.targets import Target, check_same_base, resolve
from decaylab.policies import loading

Make = Callable[..., Path]


def write_adapter(path: Path, base: Path, *, named: str | None = None, scale: float = 0.02) -> Path:
    """A LoRA of random weights on a base. named: what its configuration calls the base."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale, generator=generator)
    model.save_pretrained(path)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": named or str(base)})
    )
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """first, second, deep: bases. on-first, on-second: adapters. student: the embedded student,
    copied, with an adapter."""
    root = tmp_path_factory.mktemp("folders")
    save_folder(root / "first", seed=0)
    save_folder(root / "second", seed=1)
    save_folder(root / "deep", num_hidden_layers=2)
    save_folder(root / "other-tokens", tokenizer=byte_tokenizer(shift=1))
    write_adapter(root / "on-first", root / "first")
    write_adapter(root / "on-second", root / "second")
    write_adapter(root / "on-embedded", DATA / "student")
    return root


def run_folder(path: Path, *, rollouts: bool = False, **options: Any) -> Path:
    """What a command leaves: run.json with the options it ran with."""
    path.mkdir(parents=True)
    recorded = asdict(Options(**{"temperature": 0.7, "samples": 4} | options))
    (path / "run.json").write_text(json.dumps({"identity": {"options": recorded}}))
    if rollouts:
        (path / "rollouts.parquet").write_bytes(b"")
    return path


def named(*checkpoints: Path | str, **options: Any) -> targets.Targets:
    return resolve(DiagnosticOptions(checkpoints=tuple(map(str, checkpoints)), **options))


# What is known


def test_nothing_named_is_the_base_student_alone() -> None:
    found = named(seed=3)
    assert (found.checkpoints, found.run, found.rollouts) == ((), None, None)
    assert found.options == DiagnosticOptions(seed=3)
    assert found.options.resolved().student == "abacus-student"


def test_an_adapter_knows_the_student_it_was_trained_from(folders: Path) -> None:
    found = named(folders / "on-first", teacher="mine")
    assert found.checkpoints == (Target("on-first", str(folders / "on-first")),)
    assert (found.options.student, found.options.teacher) == (str(folders / "first"), "mine")


def test_an_adapter_on_the_embedded_student_knows_its_teacher_too(folders: Path) -> None:
    """By the path at which it was trained; the options then are those of the embedded pair."""
    found = named(folders / "on-embedded").options.resolved()
    assert (found.student, found.teacher, found.problems) == (
        "abacus-student",
        "abacus-teacher",
        "abacus",
    )
    assert found.max_tokens == 320


def test_what_is_said_goes_before_what_an_adapter_knows(folders: Path) -> None:
    found = named(folders / "on-embedded", student=str(folders / "first"), teacher="mine").options
    assert (found.student, found.teacher) == (str(folders / "first"), "mine")


def test_an_adapter_without_a_teacher_asks_for_the_teacher_alone(folders: Path) -> None:
    with pytest.raises(UserError, match=r"on-first does not record its teacher: give --teacher$"):
        named(folders / "on-first")


def test_a_folder_of_adapters_knows_what_its_last_one_knows(tmp_path: Path, folders: Path) -> None:
    shutil.copytree(folders / "on-second", tmp_path / "train" / "checkpoint-9")
    shutil.copytree(folders / "on-first", tmp_path / "train" / "checkpoint-10")
    assert named(tmp_path / "train", teacher="mine").options.student == str(folders / "first")


def test_a_model_folder_asks_for_student_and_teacher(folders: Path) -> None:
    with pytest.raises(
        UserError,
        match="second does not record the student .* give --student and --teacher",
    ):
        named(folders / "second")
    with pytest.raises(UserError, match="give --teacher$"):
        named(folders / "second", student=str(folders / "first"))
    with pytest.raises(UserError, match="give --student$"):
        named(folders / "second", teacher=str(folders / "first"))
    found = named(folders / "second", student=str(folders / "first"), teacher="mine")
    assert found.checkpoints == (Target("second", str(folders / "second")),)


def test_a_run_gives_its_rollouts_and_its_options(tmp_path: Path) -> None:
    run = run_folder(
        tmp_path / "decay",
        rollouts=True,
        teacher="abacus-teacher",
        student="abacus-student",
        limit=5,
        samples=2,
        temperature=0.3,
        max_tokens=40,
        seed=9,
        thinking="on",
        columns={"question": "q"},
        # How and where it ran is not a measurement's business.
        out="elsewhere",
        overwrite=True,
        paper=True,
        level=0.5,
        answer_rule="anywhere",
        dtype="bfloat16",
        device="cuda:7",
        batch_rows=3,
        trust_remote_code=True,
    )
    found = named(run)
    assert (found.run, found.rollouts, found.checkpoints) == (run, run, ())
    taken = {
        "teacher": "abacus-teacher",
        "student": "abacus-student",
        "limit": 5,
        "samples": 2,
        "temperature": 0.3,
        "max_tokens": 40,
        "seed": 9,
        "thinking": "on",
        "columns": {"question": "q"},
    }
    assert asdict(found.options) == asdict(DiagnosticOptions(checkpoints=(str(run),), **taken))


def test_what_is_said_goes_before_what_a_run_knows(tmp_path: Path) -> None:
    run = run_folder(
        tmp_path / "train", teacher="theirs", student="abacus-student", limit=5, samples=2, seed=9
    )
    shutil.copytree(DATA / "student", run / "checkpoint-1")
    found = named(run / "checkpoint-1", limit=3, seed=1).options
    assert (found.limit, found.seed, found.samples, found.teacher) == (3, 1, 2, "theirs")


def test_what_is_said_goes_before_what_a_run_knows_where_it_is_the_default_too(
    tmp_path: Path,
) -> None:
    run = run_folder(tmp_path / "decay", rollouts=True, samples=2, limit=5)
    assert named(run, top_k=0).options.samples == 2
    with pytest.raises(UserError, match="--samples 4: the rollouts of the run were sampled with 2"):
        named(run, samples=4)
    with pytest.raises(UserError, match="--top-k 0: the rollouts of the run were sampled with 3"):
        run = run_folder(tmp_path / "other", rollouts=True, top_k=3)
        named(run, top_k=0, said=frozenset({"top_k"}))


def test_checkpoints_in_a_run_know_what_the_run_knows(tmp_path: Path) -> None:
    run = run_folder(
        tmp_path / "train", teacher="abacus-teacher", student=str(DATA / "student"), limit=7
    )
    for step in (2, 10):
        shutil.copytree(DATA / "student", run / f"checkpoint-{step}")
    found = named(run / "checkpoint-2", run / "checkpoint-10")
    assert (found.run, found.rollouts) == (run, None)
    assert [target.label for target in found.checkpoints] == [
        "train/checkpoint-2",
        "train/checkpoint-10",
    ]
    assert (found.options.student, found.options.limit) == ("abacus-student", 7)
    whole = named(run)  # the folder itself means its last checkpoint, by number
    (target,) = whole.checkpoints
    assert loading.resolve(target.name) == run / "checkpoint-10"


def test_a_run_with_rollouts_and_a_checkpoint_of_its_pair_stand_together(
    tmp_path: Path, folders: Path
) -> None:
    run = run_folder(
        tmp_path / "decay",
        rollouts=True,
        teacher="abacus-teacher",
        student="abacus-student",
        limit=4,
    )
    for order in ((run, folders / "on-embedded"), (folders / "on-embedded", run)):
        found = named(*order)
        assert found.rollouts == run and found.options.limit == 4
        assert [target.label for target in found.checkpoints] == ["on-embedded"]


# Labels


def test_each_label_is_as_short_as_tells_the_checkpoints_apart(tmp_path: Path) -> None:
    paths = [tmp_path / run / step for run in ("a", "b") for step in ("step-1", "step-2")]
    for path in paths:
        shutil.copytree(DATA / "student", path)
    pair = {"student": "abacus-student", "teacher": "abacus-teacher"}
    assert [one.label for one in named(*paths[:2], **pair).checkpoints] == ["a/step-1", "a/step-2"]
    labels = ["a/step-1", "a/step-2", "b/step-1", "b/step-2"]
    assert [one.label for one in named(*paths, **pair).checkpoints] == labels


def test_a_step_keeps_the_name_of_its_run_and_another_folder_its_own() -> None:
    names = ["runs/a/step-1", "runs/b/step-2", "runs/c/final"]
    labels = [one.label for one in targets.labelled(names)]
    assert labels == ["a/step-1", "b/step-2", "final"]
    labels = [one.label for one in targets.labelled(names, parts=2)]
    assert labels == ["a/step-1", "b/step-2", "c/final"]


@pytest.mark.parametrize("name", ["base", "teacher"])
def test_a_checkpoint_is_not_taken_for_the_base_student_or_the_teacher_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(DATA / "student", tmp_path / "mine" / name))
    pair = {"student": "abacus-student", "teacher": "abacus-teacher"}
    assert [one.label for one in named(path, **pair).checkpoints] == [f"mine/{name}"]
    monkeypatch.chdir(tmp_path / "mine")
    assert [one.label for one in named(name, **pair).checkpoints] == [f"mine/{name}"]


@pytest.mark.parametrize("again", ["{}", "{}/", "{}/../on-first/."])
def test_a_checkpoint_that_is_named_twice_is_refused(again: str, folders: Path) -> None:
    path = folders / "on-first"
    with pytest.raises(UserError, match="the same checkpoint is given twice"):
        named(path, again.format(path), teacher="mine")


# What cannot be measured


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    with pytest.raises(
        UserError,
        match="photographs is not a model folder",
    ):
        named(tmp_path / "photographs")
    with pytest.raises(UserError, match="no model 'nowhere'"):
        named("nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file"):
        named(tmp_path / "file")


def test_a_run_without_rollouts_or_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stopped is a run folder without rollouts or checkpoints"):
        named(run_folder(tmp_path / "stopped"))


@pytest.mark.parametrize("file", ["run.json", "adapter_config.json"])
def test_a_damaged_record_is_named(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text('{"identity": ')
    (tmp_path / "rollouts.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=f"{file} is damaged"):
        named(tmp_path)


@pytest.mark.parametrize("content", ["[1]", '{"base_model_name_or_path": 5}'])
def test_an_adapter_configuration_of_another_shape_is_one_line(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(UserError, match="adapter_config.json is damaged"):
        named(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "null", '"x"'])
def test_a_record_that_is_no_object_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    (tmp_path / "rollouts.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="run.json is damaged"):
        named(tmp_path)


def test_a_run_that_came_from_a_file_is_measured_on_that_file_while_it_holds_the_same(
    tmp_path: Path,
) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text("{}")
    run = run_folder(tmp_path / "decay", rollouts=True, **{"teacher": "t", "student": "s"})
    record = json.loads((run / "run.json").read_text())
    record["identity"]["options"]["rollouts"] = str(file)
    record["identity"]["rollouts_hash"] = hashlib.sha256(b"{}").hexdigest()
    (run / "run.json").write_text(json.dumps(record))
    found = named(run)
    assert (found.options.rollouts, found.rollouts) == (str(file), None)
    file.write_text("{ }")
    with pytest.raises(
        UserError, match="was made from .*theirs.jsonl, which is missing or has changed"
    ):
        named(run)
    with pytest.raises(
        UserError, match="two sources of rollouts, mine.jsonl and .*decay: give only one"
    ):
        named(run, rollouts="mine.jsonl")


def test_adapters_of_two_bases_are_refused(folders: Path) -> None:
    with pytest.raises(
        UserError,
        match="belong to two pairs: the student of .*on-second is .*second, that of the others",
    ):
        named(folders / "on-first", folders / "on-second", teacher="mine")


def test_runs_of_two_teachers_are_refused(tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path / name, teacher=name, student="abacus-student")
        for name in ("one", "two")
    ]
    for run in runs:
        shutil.copytree(DATA / "student", run / "checkpoint-1")
    with pytest.raises(
        UserError,
        match="belong to two pairs: the teacher of .*two/checkpoint-1 is two, that of the .* one",
    ):
        named(*(run / "checkpoint-1" for run in runs))


def test_two_runs_with_rollouts_are_refused(tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path / name, rollouts=True, teacher="t", student="s")
        for name in ("one", "two")
    ]
    with pytest.raises(UserError, match="two sources of rollouts, .*one and .*two: give only one"):
        named(*runs)


@pytest.mark.parametrize(
    ("key", "value"), [("temperature", 0.1), ("top_p", 0.9), ("top_k", 5), ("max_tokens", 30)]
)
def test_checkpoints_are_sampled_as_the_rollouts_beside_them_were(
    key: str, value: float, tmp_path: Path
) -> None:
    run = run_folder(tmp_path / "decay", rollouts=True, max_tokens=40, temperature=0.7)
    with pytest.raises(
        UserError,
        match=f"--{key.replace('_', '-')} {value}: the rollouts of the run were sampled with",
    ):
        named(run, **{key: value})
    assert (
        getattr(named(run).options, key)
        == {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_tokens": 40}[key]
    )


def test_a_checkpoint_of_a_run_sampled_otherwise_does_not_stand_beside_rollouts(
    tmp_path: Path,
) -> None:
    pair = {"teacher": "abacus-teacher", "student": "abacus-student"}
    decay = run_folder(tmp_path / "decay", rollouts=True, temperature=0.7, **pair)
    train = run_folder(tmp_path / "train", temperature=1.0, **pair)
    shutil.copytree(DATA / "student", train / "checkpoint-1")
    with pytest.raises(
        UserError, match="--temperature 1.0: the rollouts of the run were sampled with 0.7; use"
    ):
        named(train / "checkpoint-1", decay)
    assert named(decay, train / "checkpoint-1").options.temperature == 0.7


# What a checkpoint was trained from, once it is loaded


def load(path: Path) -> loading.Policy:
    return loading.load(str(path), loading.LoadSettings(device="cpu"))


def test_an_adapter_on_the_student_and_a_model_of_its_shape_can_have_come_from_it(
    folders: Path,
) -> None:
    student = load(folders / "first")
    check_same_base(load(folders / "on-first"), student)
    check_same_base(load(folders / "second"), student)
    check_same_base(student, student)


def test_an_adapter_on_another_student_of_the_same_shape_did_not(folders: Path) -> None:
    with pytest.raises(
        UserError, match="on-second was trained from .*second, not from --student .*first"
    ) as told:
        check_same_base(load(folders / "on-second"), load(folders / "first"))
    assert "\n" not in str(told.value)


def test_a_model_of_another_shape_or_tokenizer_did_not(folders: Path) -> None:
    student = load(folders / "first")
    with pytest.raises(
        UserError,
        match="deep was not trained from --student .*first: its num_hidden_layers is 2, not 3",
    ):
        check_same_base(load(folders / "deep"), student)
    with pytest.raises(
        UserError, match="other-tokens was not trained .*: its tokenizer is different$"
    ):
        check_same_base(load(folders / "other-tokens"), student)


def test_a_checkpoint_with_new_tokens_asks_for_a_student_that_has_them(
    folders: Path, tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|think|>"]})
    save_folder(tmp_path / "grown", tokenizer=tokenizer)
    message = (
        r"different, with 1 more tokens, such as '<\|think\|>'; give as --student the "
        r"model it was trained from"
    )
    with pytest.raises(UserError, match=message):
        check_same_base(load(tmp_path / "grown"), load(folders / "first"))
    save_folder(tmp_path / "start", tokenizer=tokenizer, seed=3)
    assert check_same_base(load(tmp_path / "grown"), load(tmp_path / "start")) == ""


# Adapters on adapters


def test_a_checkpoint_belongs_to_the_adapter_it_was_trained_on_and_to_what_that_was_trained_on(
    folders: Path, tmp_path: Path
) -> None:
    second = write_adapter(tmp_path / "again", folders / "first", named=str(folders / "on-first"))
    third = write_adapter(tmp_path / "thrice", folders / "first", named=str(second))
    found = named(third, teacher="mine")
    assert found.options.student == str(second)  # what stands directly below
    assert check_same_base(load(third), load(second)) == ""
    for below in (folders / "on-first", folders / "first"):
        told = check_same_base(load(third), load(below))
        assert told.startswith(
            f"{third} was trained on {second}, which is itself an adapter on --student {below}: "
            "the measurements show"
        )
    with pytest.raises(
        UserError, match="thrice was trained from .*first, not from --student .*second"
    ):
        check_same_base(load(third), load(folders / "second"))


def test_an_adapter_that_was_trained_on_stands_beside_the_one_before(
    folders: Path, tmp_path: Path
) -> None:
    """Both name the plain model as their base."""
    later = write_adapter(tmp_path / "later", folders / "first", scale=0.3)
    told = check_same_base(load(later), load(folders / "on-first"))
    assert told.endswith(
        f"which is not --student {folders / 'on-first'}: both are adapters on the same model"
    )


def test_checkpoints_of_two_steps_of_a_chain_stand_side_by_side_where_the_student_is_given(
    folders: Path, tmp_path: Path
) -> None:
    second = write_adapter(tmp_path / "again", folders / "first", named=str(folders / "on-first"))
    with pytest.raises(UserError, match="belong to two pairs: the student of"):
        named(folders / "on-first", second, teacher="mine")
    found = named(folders / "on-first", second, student=str(folders / "first"), teacher="mine")
    assert [target.name for target in found.checkpoints] == [str(folders / "on-first"), str(second)]


def test_one_base_by_two_paths_is_one_base(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    write_adapter(tmp_path / "relative", folders / "first", named="./first")
    assert named(
        folders / "on-first", tmp_path / "relative", teacher="mine"
    ).options.student == str(folders / "first")


def test_the_contents_of_a_checkpoint_change_with_the_adapter_below_it(
    folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / "on-first", tmp_path / "below")
    above = write_adapter(tmp_path / "above", folders / "first", named=str(tmp_path / "below"))
    before = Target("above", str(above)).contents
    write_adapter(tmp_path / "below", folders / "first", scale=0.5)
    assert Target("above", str(above)).contents != before
