"""The commands in Python on models and problems in memory.

The numbers are those of the same models and problems by name, and a result belongs to the weights
and rows that it was made of.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command_line import _SharedGrader, write_lines
from peft import LoraConfig, get_peft_model
from tiny_models import byte_tokenizer, save_folder, tiny_llama

import decaylab as dl
from decaylab.commands import diagnose, drawing, in_memory, prefix_decay
from decaylab.errors import UserError
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.scoring import Scorer
from decaylab.tokens.token_table import COLUMN_TYPES
from decaylab.trainer import loop

ROWS = [{"question": f"{n} + 3?", "answer": str(n + 3), "id": f"sum-{n}"} for n in range(3)]
SMALL: dict[str, Any] = {"samples": 1, "max_tokens": 8, "quiet": True}
KL: dict[str, Any] = {**SMALL, "bins": [0, 4], "floor_problems": 0, "view_rollouts": 1}
SEEDS = {"student": 0, "teacher": 1}
Pair = tuple[Any, Any]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No figures, one pool of grading workers, and runs in a folder of their own."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)
    for module in (diagnose, prefix_decay, loop):
        monkeypatch.setattr(module, "Grader", _SharedGrader)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((TransformersEngine, "sample"), (Scorer, "score")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("a model was run"))


def tiny(seed: int) -> Pair:
    tokenizer = byte_tokenizer()
    return tiny_llama(seed, vocab_size=len(tokenizer)), tokenizer


def further(pair: Pair) -> Pair:
    """A copy of a model, one training step later."""
    model = copy.deepcopy(pair[0]).train()
    ids = torch.tensor([[5, 17, 40, 9]])
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    return model.eval(), pair[1]


def numbers(run: Any) -> pd.DataFrame:
    return run.measurements.drop(columns="run")


def test_position_kl_of_two_loaded_models_is_that_of_their_folders(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    student, teacher = tiny(0), tiny(1)
    twice = {**KL, "floor_problems": 1}  # a second route, in wider precision
    loaded = dl.position_kl(student=student, teacher=teacher, problems=ROWS, **twice)

    folders = {role: str(save_folder(tmp_path / role, seed=seed)) for role, seed in SEEDS.items()}
    named = dl.position_kl(**folders, problems=ROWS, cache=tmp_path / "other", **twice)
    pd.testing.assert_frame_equal(numbers(loaded), numbers(named))
    assert loaded.folder != named.folder and named.measurements["noise_floor"].notna().any()
    record = json.loads((loaded.folder / "run.json").read_text())["identity"]
    assert record["student"]["source"] == "loaded" and len(record["student"]["content_hash"]) == 64
    assert record["options"]["teacher"] == record["teacher"]["name"]
    assert record["problems"]["version"] == "given in Python"

    columns = list(COLUMN_TYPES)
    scored = dl.score(student, teacher, loaded.rollouts, quiet=True)
    own = loaded.tokens.query("view == 'fresh'")[columns].astype({"token": str})
    pd.testing.assert_frame_equal(scored[columns], own.reset_index(drop=True), rtol=0, atol=1e-6)

    trained = dl.position_kl(student=further(student), teacher=teacher, problems=ROWS, **twice)
    assert trained.folder != loaded.folder and not numbers(trained).equals(numbers(loaded))
    request.getfixturevalue("no_model")  # the same weights resume
    again = dl.position_kl(student=copy.deepcopy(student), teacher=teacher, problems=ROWS, **twice)
    assert again.folder == loaded.folder
    pd.testing.assert_frame_equal(again.measurements, loaded.measurements)


def test_decay_from_a_list_of_dicts_is_that_of_a_file(tmp_path: Path) -> None:
    pair = {"student": tiny(0), "teacher": tiny(1), "prefix_lengths": [0, 2, 4], **SMALL}
    listed = dl.prefix_decay(**pair, problems=ROWS)

    filed = dl.prefix_decay(**pair, problems=write_lines(tmp_path / "mine.jsonl", *ROWS))
    framed = dl.prefix_decay(**pair, problems=pd.DataFrame(ROWS))
    pd.testing.assert_frame_equal(numbers(listed), numbers(filed))
    assert framed.folder == listed.folder != filed.folder
    hashes = [
        json.loads((run.folder / "run.json").read_text())["identity"]["problems"]["content_hash"]
        for run in (listed, filed)
    ]
    assert hashes[0] == hashes[1]
    fewer = dl.prefix_decay(**pair, problems=ROWS[:2])
    assert fewer.folder not in (listed.folder, filed.folder)


def test_loaded_checkpoints_stand_under_their_names_beside_their_base() -> None:
    base, teacher = tiny(0), tiny(1)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(base[0]), config), base[1]
    trained, same = (dl.loaded(*pair, name="step 1") for pair in (further(base), base))
    run = dl.position_kl(trained, adapted, same, student=base, teacher=teacher, problems=ROWS, **KL)
    means = run.measurements.query("what == 'mean_reverse_kl' and view == 'frozen'")
    means = means.set_index("checkpoint")["value"]
    named, peft, twin = means.index.drop("base")
    assert named.startswith("step-1-") and twin.startswith("step-1-") and named != twin
    assert peft.startswith("LlamaForCausalLM-")
    assert means[twin] == means["base"] and means.drop(twin).nunique() == 3


def test_rollouts_of_a_loaded_model_need_that_model_again() -> None:
    pair = {"student": tiny(0), "teacher": tiny(1)}
    decay = dl.prefix_decay(**pair, problems=ROWS, prefix_lengths=[0, 4], **SMALL)
    with pytest.raises(UserError, match="^loaded:.* was a model in the memory of a Python process"):
        dl.position_kl(decay.folder, **KL)
    run = dl.position_kl(decay.folder, **pair, problems=ROWS, **KL)
    assert run.folder.parent == decay.folder
    with pytest.raises(UserError, match="were written by loaded:"):
        dl.position_kl(decay.folder, **{**pair, "student": tiny(2)}, problems=ROWS, **KL)


def test_a_student_is_trained_from_a_loaded_teacher(tmp_path: Path) -> None:
    folder, teacher = save_folder(tmp_path / "student"), tiny(1)
    before = {name: weight.clone() for name, weight in teacher[0].state_dict().items()}
    result = dl.train(
        student=str(folder),
        teacher=teacher,
        problems=ROWS,
        test_problems=[{"question": "0 + 3?", "answer": "3"}],
        steps=1,
        problems_per_step=1,
        rollouts_per_problem=1,
        validation_problems=0,
        max_tokens=8,
        rollout_length="full",
        out=tmp_path / "run",
        quiet=True,
    )
    assert len(result.metrics) == 1 and any("1 of 3 training problems" in n for n in result.notes)
    assert all(torch.equal(before[name], now) for name, now in teacher[0].state_dict().items())
    assert all(weight.grad is None for weight in teacher[0].parameters())


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("position-kl", {"engine": "vllm"}, "engine 'vllm' cannot run a loaded model: use engine="),
        ("position-kl", {"workers": 2}, "workers are other processes, which a loaded model cannot"),
        ("prefix-decay", {"ray": "auto"}, "workers are other processes"),
        ("prefix-decay", {"student_revision": "v1"}, "student_revision has no meaning"),
        ("signals", {"dtype": "bfloat16"}, "dtype has no effect: loaded models are used as they"),
        ("signals", {"device": "cuda"}, "device has no effect"),
        ("train", {}, "train would change the loaded student itself: save it and give its folder"),
        ("sweep", {"student": None}, "sweep takes no loaded model: save it and give its folder"),
        ("served-kl", {}, "served-kl takes no loaded model"),
    ],
)
def test_what_cannot_work_with_a_loaded_model_is_refused_first(
    command: str, options: dict[str, Any], message: str
) -> None:
    pair = {"student": tiny(0), "teacher": tiny(1)}
    with (
        pytest.raises(UserError, match=message) as refused,
        in_memory.named(command, {**pair, **options}),
    ):
        pass
    assert "\n" not in str(refused.value)


def test_a_base_that_peft_has_changed_is_not_taken_for_the_base() -> None:
    model, tokenizer = tiny(0)
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    message = "two of the loaded policies are one and the same model with adapters in it"
    pair = {"student": (model, tokenizer), "teacher": tiny(1)}
    with pytest.raises(UserError, match=message):
        dl.position_kl((peft, tokenizer), **pair, problems=ROWS, **KL)
    with pytest.raises(UserError, match=message):
        dl.score((peft, tokenizer), (model, tokenizer), [("a", "b")])
    once = dl.score(tiny(1), tiny(1), [("a", "b")], quiet=True)
    assert once["reverse_kl"].abs().max() < 1e-6


def test_problems_in_memory_do_not_reach_other_processes() -> None:
    with pytest.raises(UserError, match="sweep does not read problems from memory: write them"):
        dl.sweep("selector", ["prefix", "full"], problems=ROWS, quiet=True)


def test_options_that_are_not_models_or_problems_pass_unchanged() -> None:
    options = {"student": "abacus-student", "problems": Path("mine.jsonl"), "limit": 3}
    for given in (options, {**options, "checkpoints": ("runs/a",)}):
        with in_memory.named("position-kl", given) as texts:
            assert texts == given
