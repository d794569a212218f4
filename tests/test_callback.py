"""`DecayCallback` in real trainers: its numbers against float64 over model logits, and training
that does not notice it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import trackers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from probed import PROBLEMS, SMALL, TEXTS, TIME, VOCAB, check, expected, student, teacher, wide
from tiny_models import byte_tokenizer
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer

import decaylab as dl
from decaylab.callback import DecayCallback
from decaylab.errors import UserError
from decaylab.policies.policy import Policy
from decaylab.runs.vocabulary import BASE

LORA = {"r": 4, "target_modules": "all-linear"}
FROZEN_KL = "decay/frozen/reverse_kl"


def rows(count: int = 16) -> list[dict[str, list[int]]]:
    ids = np.random.default_rng(3).integers(5, VOCAB, (count, TIME)).tolist()
    return [{"input_ids": row, "attention_mask": [1] * TIME, "labels": row} for row in ids]


def trainer_of(
    folder: Path, model: Any = None, callbacks: Sequence[TrainerCallback] = (), **changes: Any
) -> Trainer:
    chosen = {
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "save_strategy": "no",
        "report_to": [],
        **changes,
    }
    return Trainer(
        model=model if model is not None else student(),
        args=TrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **chosen),
        train_dataset=rows(),
        eval_dataset=rows(4),
        data_collator=default_data_collator,
        processing_class=byte_tokenizer(),
        callbacks=list(callbacks),
    )


def watched(trainer: Trainer, of: Policy | None = None, **changes: Any) -> DecayCallback:
    """Adds a small probe to a trainer."""
    found = DecayCallback(trainer, PROBLEMS, of, **{**SMALL, **changes})
    trainer.add_callback(found)
    return found


class Snapshots(TrainerCallback):
    """The student in float64 after each step, and before the first."""

    def __init__(self) -> None:
        self.models: dict[int, Any] = {}

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.models[state.global_step] = wide(model)

    on_step_end = on_train_begin


def logged(trainer: Trainer) -> dict[int, dict[str, float]]:
    """What the callback logged, by step."""
    entries = [entry for entry in trainer.state.log_history if FROZEN_KL in entry or _fresh(entry)]
    found = {
        entry["step"]: {name: value for name, value in entry.items() if name.startswith("decay/")}
        for entry in entries
    }
    assert len(found) == len(entries), "a step was logged twice"
    return found


def _fresh(entry: dict[str, Any]) -> bool:
    return "decay/fresh/reverse_kl" in entry


def own(trainer: Trainer) -> list[dict[str, Any]]:
    """The trainer's own log, without times."""
    timed = ("runtime", "per_second", "step_time")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in trainer.state.log_history
        if not any(name.startswith("decay/") for name in entry)
    ]


def check_values(trainer: Trainer, seen: Snapshots, of: Policy, folder: Path | None = None) -> None:
    out = folder or Path(str(trainer.args.output_dir)) / "decay"
    for step, found in logged(trainer).items():
        check(found, expected(out, step, seen.models[step], of))


def test_the_beginning_regular_steps_and_the_end_are_logged_as_a_naive_computation_has_them(
    tmp_path: Path,
) -> None:
    seen, of = Snapshots(), teacher()
    trainer = trainer_of(tmp_path, callbacks=[seen])
    watched(trainer, of, every=2)
    trainer.train()
    assert list(logged(trainer)) == [0, 2, 3]
    check_values(trainer, seen, of)
    run = dl.open_run(tmp_path / "decay")
    assert list(run.measurements["checkpoint"].unique()) == [BASE, "step-2", "step-3"]
    assert "rollout_length" not in run.measurements  # nobody said where rollouts stop


def test_training_is_the_same_bit_for_bit_with_and_without_the_callback(tmp_path: Path) -> None:
    """With dropout and checkpointed gradients, so that a mode or a random number out of place would
    show."""

    def run(name: str) -> tuple[Any, list[dict[str, Any]], dict[str, bool], torch.Tensor]:
        torch.manual_seed(0)
        config = LoraConfig(**LORA, lora_dropout=0.3)
        model = get_peft_model(student(attention_dropout=0.2), config)
        trainer = trainer_of(tmp_path / name, model, gradient_checkpointing=True, max_steps=2)
        if name == "watched":
            watched(trainer, of, every=1)
        trainer.train()
        assert len(logged(trainer)) == (3 if name == "watched" else 0)
        modes = {key: module.training for key, module in model.named_modules()}
        return model.state_dict(), own(trainer), modes, torch.get_rng_state()

    of = teacher()
    without, with_it = run("plain"), run("watched")
    assert all(torch.equal(without[0][name], value) for name, value in with_it[0].items())
    assert without[1] == with_it[1]  # losses and gradient norms: the entry of each step is there
    assert without[2] == with_it[2]
    assert torch.equal(without[3], with_it[3])


def test_lora_is_scored_with_its_adapters_and_no_weight_of_it_moves(tmp_path: Path) -> None:
    seen, of = Snapshots(), teacher()
    model = get_peft_model(student(), LoraConfig(**LORA, lora_dropout=0.3))  # not for scoring
    trainer = trainer_of(tmp_path, model, [seen], max_steps=2, learning_rate=0.1)
    watched(trainer, of, every=1)
    trainer.train()
    check_values(trainer, seen, of)
    first, *_, last = (one["decay/fresh/reverse_kl"] for one in logged(trainer).values())
    assert abs(first - last) > 0.01  # the base model alone would not have moved


def test_under_mixed_precision_the_weights_are_scored_as_they_are_and_autocast_comes_back(
    tmp_path: Path,
) -> None:
    seen, of = Snapshots(), teacher()
    trainer = trainer_of(tmp_path, callbacks=[seen], max_steps=1, bf16=True)
    watched(trainer, of, every=1)
    trainer.train()
    check_values(trainer, seen, of)  # a pass in bfloat16 is off by far more
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.no_grad():
        cast = trainer.model(input_ids=ids).logits
        plain = type(trainer.model).forward(trainer.model, input_ids=ids).logits
    assert 1e-4 < float((cast - plain).abs().max()) < 1


TRACKERS = {
    "tensorboard": trackers.tensorboard,
    "wandb": trackers.wandb,
    "trackio": trackers.trackio,
}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Trainer]]:
    """A run that every installed tracker followed, and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("tracked")
    installed = [name for name in TRACKERS if find_spec(name)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        trackers.offline(folder, monkeypatch)
        trainer = trainer_of(
            folder / "run", max_steps=2, logging_steps=2, report_to=installed, project="decay"
        )
        watched(trainer, teacher(), every=1)
        trainer.train()
        if "wandb" in installed:
            import wandb

            wandb.finish()
        yield folder, trainer


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_holds_every_number_at_its_step_beside_the_trainers_own(
    tracked: tuple[Path, Trainer], name: str
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"needs extra: {name}")
    found, wanted = TRACKERS[name](tracked[0]), logged(tracked[1])
    assert set(wanted) == {0, 1, 2} and "train/loss" in found[2] and "train/loss" not in found[1]
    for step, values in wanted.items():
        for quantity, value in values.items():
            assert found[step][f"train/{quantity}"] == pytest.approx(value, rel=1e-6)


def test_a_tracker_that_is_not_there_is_named_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not supported, only .*tensorboard"):
        trainer_of(tmp_path, report_to=["nowhere"])


def test_a_run_that_is_stopped_early_is_scored_where_it_stops_and_not_on_the_best_weights(
    tmp_path: Path,
) -> None:
    seen, of = Snapshots(), teacher()
    often = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    # the first step is the best: all others diverge
    stopping = {"load_best_model_at_end": True, "learning_rate": 1.0, "max_steps": 5}
    trainer = trainer_of(tmp_path, None, [seen, EarlyStoppingCallback(1)], **often, **stopping)
    watched(trainer, of, every=100)
    trainer.train()
    assert trainer.state.best_global_step == 1 and list(logged(trainer)) == [0, 2]
    check_values(trainer, seen, of)


def test_a_resumed_run_neither_loses_nor_doubles_a_row(tmp_path: Path) -> None:
    def run(resumed: bool, **changes: Any) -> Trainer:
        trainer = trainer_of(tmp_path, max_steps=4, save_strategy="steps", save_steps=3)
        watched(trainer, of, every=2, **changes)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3") if resumed else None)
        return trainer

    of = teacher()
    run(False)
    history = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in history["log_history"] if _fresh(entry)] == [0, 2]
    whole = pd.read_csv(tmp_path / "decay/measurements.csv")
    assert list(whole["step"].unique()) == [0, 2, 4]
    # killed as it wrote step 4
    (tmp_path / "decay/measurements.csv").unlink()
    steps = (tmp_path / "decay/steps.csv").read_text()
    (tmp_path / "decay/steps.csv").write_text(steps[:-4])
    assert list(logged(run(True))) == [0, 2, 4]
    resumed = pd.read_csv(tmp_path / "decay/measurements.csv")
    pd.testing.assert_frame_equal(resumed, whole, rtol=1e-6)
    with pytest.raises(UserError, match="a probe with other settings .--max-tokens 9 there, 8 now"):
        run(True, max_tokens=8)
    with pytest.raises(UserError, match="already holds the probe of a training run, up to step 4"):
        run(False)
    with pytest.raises(UserError, match="elsewhere holds no measurement from before training"):
        run(True, out=tmp_path / "elsewhere")


def of_trl(kind: Any, config: Any, folder: Path, data: Any, **changes: Any) -> Trainer:
    """A trainer of TRL on a tiny pair, with its own defaults but for precision."""
    chosen = {"learning_rate": 0.05, "logging_steps": 2, "max_steps": 2, **changes}
    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    return kind(
        model=student(),
        teacher_model=student(1),
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=2,
            bf16=False,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            **chosen,
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA),
    )


def distillation(folder: Path, **changes: Any) -> Trainer:
    prompts = [{"prompt": text} for text in TEXTS] * 2
    changes = {"max_completion_length": 6, **changes}
    return of_trl(DistillationTrainer, DistillationConfig, folder, prompts, **changes)


def gkd(folder: Path, **changes: Any) -> Trainer:
    answered = [
        {
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": "seven"},
            ]
        }
        for text in TEXTS
    ] * 2
    changes = {"max_new_tokens": 6, "max_length": 64, **changes}
    return of_trl(GKDTrainer, GKDConfig, folder, answered, **changes)


@pytest.mark.parametrize(
    ("make", "changes"), [(distillation, {}), (gkd, {"lmbda": 1.0})], ids=["Distillation", "GKD"]
)
def test_trls_trainers_log_it_with_their_own_teacher_and_train_as_without_it(
    tmp_path: Path, make: Callable[..., Trainer], changes: dict[str, Any]
) -> None:
    seen, trainer = Snapshots(), make(tmp_path / "watched", **changes)
    trainer.add_callback(seen)
    callback = watched(trainer, every=1)
    trainer.train()
    assert list(logged(trainer)) == [0, 1, 2]
    check_values(trainer, seen, teacher())
    assert callback.probe.options.rollout_length == 6
    plain = make(tmp_path / "plain", **changes)
    plain.train()
    ours = trainer.model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in plain.model.state_dict().items())
    assert own(plain) == own(trainer)  # TRL's running means too: they are not cut up by ours


def test_the_limit_of_rollouts_is_not_that_of_training_where_other_texts_are_trained_on(
    tmp_path: Path,
) -> None:
    callback = watched(gkd(tmp_path, lmbda=0.5))
    assert callback.probe.options.rollout_length is None


@pytest.mark.slow
def test_only_the_main_of_two_processes_scores_and_logs(tmp_path: Path) -> None:
    code = (
        "import sys, json, test_callback as t\n"
        "from pathlib import Path\n"
        "folder, seen, of = Path(sys.argv[1]), t.Snapshots(), t.teacher()\n"
        "trainer = t.trainer_of(folder, callbacks=[seen], max_steps=2, "
        "per_device_train_batch_size=2, ddp_backend='gloo')\n"
        "t.watched(trainer, of, every=1)\n"
        "trainer.train()\n"
        "assert trainer.args.world_size == 2 and trainer.model_wrapped is not trainer.model\n"
        "t.check_values(trainer, seen, of)\n"
        "(folder / "
        "f'{trainer.args.process_index}.json').write_text(json.dumps(sorted(t.logged(trainer))))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent / 'helpers'}",
        "CUDA_VISIBLE_DEVICES": "",
    }
    two = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *two, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "0.json").read_text()) == [0, 1, 2]
    assert json.loads((tmp_path / "1.json").read_text()) == []
    assert list(pd.read_csv(tmp_path / "decay/steps.csv")["step"]) == [0, 1, 2]


def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path) -> None:
    trainer, of = trainer_of(tmp_path), teacher()
    with pytest.raises(UserError, match="Trainer has no teacher_model; give DecayCallback a teach"):
        DecayCallback(trainer, PROBLEMS)
    with pytest.raises(UserError, match="needs a trainer of transformers or TRL, got NoneType"):
        DecayCallback(None, "abacus")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="every must be at least 1 step, got 0"):
        watched(trainer, of, every=0)
    with pytest.raises(UserError, match="--bins must begin with 0"):
        watched(trainer, of, bins=(1, 5))
    other = Policy("other", of.model, byte_tokenizer(shift=1), of.identity)
    with pytest.raises(UserError, match="the vocabularies differ"):
        watched(trainer, other)
    trainer.teacher_model, trainer.args.teacher_tokenizer_name_or_path = of.model, "theirs"
    with pytest.raises(UserError, match="has a tokenizer of its own; give DecayCallback the teach"):
        watched(trainer)
    trainer.is_fsdp_enabled = True
    with pytest.raises(UserError, match="weights of LlamaForCausalLM are sharded .*: train with"):
        watched(trainer, of)
    trainer.is_fsdp_enabled, trainer.processing_class = False, None
    with pytest.raises(UserError, match="the trainer has no tokenizer"):
        watched(trainer, of)
    assert not (tmp_path / "decay").exists()
