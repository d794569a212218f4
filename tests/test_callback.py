"""`DecayCallback` in real trainers: its numbers against float64 over model logits, and training
that does not notice it."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tiny_models import byte_tokenizer, tiny_llama
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from trl import DistillationConfig, DistillationTrainer

from decaylab.callback import NO_TOKENS, DecayCallback, sample_probe
from decaylab.errors import UserError
from decaylab.maths import token_means
from decaylab.maths.statistics import ONE_PROBLEM
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.problems.sets import Problem, ProblemSet
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.tokens.scoring import Rollout

VOCAB, TIME = 261, 12
BINS = (0, 2, 5, 30)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
TEXTS = ("one and two", "three", "what is 4 + 5 * 6?", "say it", "count the hats")


def policy(seed: int = 1, name: str = "teacher", **changes: Any) -> Policy:
    model = tiny_llama(seed, **{"vocab_size": VOCAB, **changes})
    return Policy(name, model, byte_tokenizer(), PolicyIdentity(name, "folder", "", name))


def probe(seed: int = 0) -> list[Rollout]:
    """Rollouts of 1 to 9 tokens behind 4 prompts, of which the first has two; the teacher reads
    other prompts."""
    rng = np.random.default_rng(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(5, VOCAB, count).tolist())

    prompts = [ids(length) for length in (3, 7, 4, 6)]
    return [
        Rollout(f"r{number}", prompts[problem], ids(4 + problem), ids(length))
        for number, (problem, length) in enumerate([(0, 9), (0, 1), (1, 6), (2, 3), (3, 8)])
    ]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    chosen = {
        "max_steps": 5,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        **changes,
    }
    return TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{"save_strategy": "no", **chosen},
    )


def rows(count: int = 16) -> list[dict[str, list[int]]]:
    ids = np.random.default_rng(3).integers(5, VOCAB, (count, TIME)).tolist()
    return [{"input_ids": row, "attention_mask": [1] * TIME, "labels": row} for row in ids]


def trainer_of(
    folder: Path, model: Any = None, callbacks: Sequence[TrainerCallback] = (), **changes: Any
) -> Trainer:
    return Trainer(
        model=model if model is not None else tiny_llama(0, vocab_size=VOCAB),
        args=arguments(folder, **changes),
        train_dataset=rows(),
        eval_dataset=rows(4),
        data_collator=default_data_collator,
        processing_class=byte_tokenizer(),
        callbacks=list(callbacks),
    )


class Snapshots(TrainerCallback):
    """The student in float64 after each step, and before the first."""

    def __init__(self) -> None:
        self.models: dict[int, Any] = {}

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.models[state.global_step] = _wide(model)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        self.models[state.global_step] = _wide(model)


def _wide(model: Any) -> Any:
    """A copy whose forward is that of its class, in float64."""
    cast = model.__dict__.pop("forward", None)
    found = copy.deepcopy(model)
    if cast is not None:
        model.forward = cast
    for module in found.modules():
        module._forward_hooks.clear()
    return found.double().eval()


@torch.no_grad()
def naive_kl(student: Any, teacher: Any, rollouts: Sequence[Rollout]) -> list[np.ndarray]:
    """KL(student, teacher) of each response token, rollout by rollout, from the models' own
    logits."""
    found = []
    for one in rollouts:
        logprobs = []
        for model, prompt in ((student, one.student_prompt), (teacher, one.teacher_prompt)):
            logits = model(input_ids=torch.tensor([prompt + one.response])).logits[0]
            logprobs.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
        student_logprobs, teacher_logprobs = logprobs
        found.append(
            (student_logprobs.exp() * (student_logprobs - teacher_logprobs)).sum(-1).numpy()
        )
    return found


def expected(student: Any, teacher: Policy, rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What must be logged: plain means over the tokens that lie in each bin."""
    kl = naive_kl(student, copy.deepcopy(teacher.weights).double(), rollouts)
    named = {"decay/reverse_kl": [value for one in kl for value in one]}
    for start, end in pairwise((*BINS, 10**9)):
        label = f"{start}-{end - 1}" if end < 10**9 else f"{start}+"
        named[f"decay/reverse_kl_{label}"] = [
            value for one in kl for place, value in enumerate(one) if start <= place < end
        ]
    return {name: float(np.mean(values)) for name, values in named.items() if values}


def logged(trainer: Trainer) -> dict[int, dict[str, float]]:
    """What the callback logged, by step."""
    entries = [entry for entry in trainer.state.log_history if "decay/reverse_kl" in entry]
    found = {
        entry["step"]: {name: value for name, value in entry.items() if name.startswith("decay/")}
        for entry in entries
    }
    assert len(found) == len(entries), "a step was logged twice"
    return found


def check_values(
    trainer: Trainer, snapshots: Snapshots, teacher: Policy, rollouts: Sequence[Rollout]
) -> None:
    for step, found in logged(trainer).items():
        wanted = expected(snapshots.models[step], teacher, rollouts)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(
                found[name], value, **CLOSE, err_msg=f"{name} at step {step}"
            )


def test_logged_means_are_those_of_a_naive_computation_in_float64_at_every_step(
    tmp_path: Path,
) -> None:
    seen, teacher, rollouts = Snapshots(), policy(), probe()
    trainer = trainer_of(tmp_path, callbacks=[seen])
    trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=2, bins=BINS))
    trainer.train()
    assert list(logged(trainer)) == [0, 2, 4, 5]  # the beginning and the end too
    assert list(logged(trainer)[0]) == [
        "decay/reverse_kl",
        "decay/reverse_kl_0-1",
        "decay/reverse_kl_2-4",
        "decay/reverse_kl_5-29",  # none of 30+: no rollout goes so far
    ]
    check_values(trainer, seen, teacher, rollouts)
    moved = [one["decay/reverse_kl"] for one in logged(trainer).values()]
    assert (
        len({round(value, 3) for value in moved}) == 4
    )  # the student of each step, not that of the first


def test_training_is_the_same_bit_for_bit_with_and_without_the_callback(tmp_path: Path) -> None:
    """With dropout and checkpointed gradients, so that a mode or a random number out of place would
    show."""
    teacher = policy()

    def run(name: str) -> tuple[Any, list[dict[str, Any]], dict[str, bool], torch.Tensor]:
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.3)
        model = get_peft_model(tiny_llama(0, vocab_size=VOCAB, attention_dropout=0.2), config)
        trainer = trainer_of(tmp_path / name, model, gradient_checkpointing=True)
        if name == "watched":
            trainer.add_callback(DecayCallback(trainer, probe(), teacher, every=1, bins=BINS))
        trainer.train()
        assert len(logged(trainer)) == (6 if name == "watched" else 0)
        own = [
            {
                key: value
                for key, value in entry.items()
                if not key.endswith(("runtime", "per_second"))
            }
            for entry in trainer.state.log_history
            if "decay/reverse_kl" not in entry
        ]
        modes = {key: module.training for key, module in model.named_modules()}
        return model.state_dict(), own, modes, torch.get_rng_state()

    plain, watched = run("plain"), run("watched")
    assert all(torch.equal(plain[0][name], value) for name, value in watched[0].items())
    assert plain[1] == watched[1]  # losses and gradient norms: the entry of each step is there
    assert plain[2] == watched[2]
    assert torch.equal(plain[3], watched[3])


class DrawsInItsForward(torch.nn.Module):
    """An attention-like module of somebody's own that draws numbers whether it is trained or
    not."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 0 * torch.rand_like(hidden)


def test_each_modules_own_mode_and_random_numbers_that_a_forward_pass_draws_are_put_back(
    tmp_path: Path,
) -> None:
    model, teacher = tiny_llama(0, vocab_size=VOCAB).train(), policy()
    model.model.norm = torch.nn.Sequential(model.model.norm, DrawsInItsForward().eval())
    modes = [module.training for module in model.modules()]
    trainer = trainer_of(tmp_path, model)
    callback = DecayCallback(trainer, probe(), teacher, bins=BINS)
    before = torch.get_rng_state()
    callback._scored()
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2


def test_lora_is_scored_with_its_adapters_and_no_weight_of_it_moves(tmp_path: Path) -> None:
    seen, teacher, rollouts = Snapshots(), policy(), probe()
    config = LoraConfig(
        r=4, target_modules="all-linear", lora_dropout=0.3
    )  # which is not for scoring
    model = get_peft_model(tiny_llama(0, vocab_size=VOCAB), config)
    trainer = trainer_of(tmp_path, model, [seen], max_steps=2, learning_rate=0.1)
    trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=1, bins=BINS))
    trainer.train()
    check_values(trainer, seen, teacher, rollouts)
    first, *_, last = (one["decay/reverse_kl"] for one in logged(trainer).values())
    assert abs(first - last) > 0.01  # the base model alone would not have moved


def test_under_mixed_precision_the_weights_are_scored_as_they_are_and_autocast_comes_back(
    tmp_path: Path,
) -> None:
    seen, teacher, rollouts = Snapshots(), policy(), probe()
    trainer = trainer_of(tmp_path, callbacks=[seen], max_steps=2, bf16=True)
    trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=1, bins=BINS))
    trainer.train()
    check_values(trainer, seen, teacher, rollouts)  # a pass in bfloat16 is off by far more
    ids = torch.tensor([rollouts[0].response])
    with torch.no_grad():
        cast, plain = (
            trainer.model(input_ids=ids).logits,
            type(trainer.model).forward(trainer.model, input_ids=ids).logits,
        )
    assert 1e-4 < float((cast - plain).abs().max()) < 1


def test_every_tracker_hears_of_it_and_the_log_of_the_step_is_not_lost(tmp_path: Path) -> None:
    class Tracker(TrainerCallback):
        heard: list[tuple[int, str]] = []

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            self.heard += [(state.global_step, name) for name in logs]

    trainer = trainer_of(tmp_path, callbacks=[Tracker()], max_steps=4, logging_steps=2)
    trainer.add_callback(DecayCallback(trainer, probe(), policy(), every=2, bins=BINS))
    trainer.train()
    heard = set(Tracker.heard)
    assert {(step, "decay/reverse_kl_2-4") for step in (0, 2, 4)} < heard
    assert {step for step, name in heard if name == "loss"} == {2, 4}


def test_a_run_that_is_stopped_early_is_scored_where_it_stops_and_not_on_the_best_weights(
    tmp_path: Path,
) -> None:
    seen, teacher, rollouts = Snapshots(), policy(), probe()
    often = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    stopping = {
        "load_best_model_at_end": True,
        "learning_rate": 1.0,
    }  # the first step is the best: all others diverge
    trainer = trainer_of(tmp_path, None, [seen, EarlyStoppingCallback(1)], **often, **stopping)
    trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=100, bins=BINS))
    trainer.train()
    assert trainer.state.best_global_step == 1 and list(logged(trainer)) == [0, 2]
    check_values(trainer, seen, teacher, rollouts)


def test_the_last_checkpoint_knows_the_numbers_of_its_step(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_steps=3, save_strategy="steps", save_steps=3)
    trainer.add_callback(DecayCallback(trainer, probe(), policy(), every=100, bins=BINS))
    trainer.train()
    history = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())[
        "log_history"
    ]
    assert [entry["step"] for entry in history if "decay/reverse_kl" in entry] == [0, 3]


def test_the_file_opens_in_pandas_and_holds_counts_and_intervals_by_problem(tmp_path: Path) -> None:
    teacher, rollouts = policy(), probe()
    trainer = trainer_of(tmp_path)
    student = _wide(trainer.model)
    trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=5, bins=BINS))
    trainer.train()
    frame = pd.read_csv(tmp_path / "decay.csv")
    assert list(frame["step"].unique()) == [0, 5] and len(frame) == 2 * 5
    assert frame["probe"].nunique() == 1
    start = frame[frame["step"] == 0].set_index("bin")
    assert list(start.index) == ["all", "0-1", "2-4", "5-29", "30+"]
    assert list(start["tokens"]) == [27, 9, 10, 8, 0]  # of 9, 1, 6, 3 and 8
    assert list(start["rollouts"]) == [5, 5, 4, 3, 0]
    assert list(start["problems"]) == [4, 4, 4, 3, 0]  # the first two rollouts are of one
    assert list(start["position_high"]) == [np.inf, 2, 5, 30, np.inf]
    assert np.isnan(start.loc["30+", "reverse_kl"]) and start.loc["30+", "note"] == NO_TOKENS
    kl = naive_kl(student, copy.deepcopy(teacher.weights).double(), rollouts)
    by_problem = [np.concatenate(kl[:2]), kl[2], kl[3], kl[4]]
    found = token_means.means(
        np.array([[one.sum()] for one in by_problem]),
        np.array([[float(len(one))] for one in by_problem]),
    )
    low, high = token_means.interval(found)
    np.testing.assert_allclose(
        start.loc["all", ["low", "high"]].astype(float), [low[0], high[0]], rtol=1e-4
    )


def test_one_problem_gives_no_interval_and_says_so(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_steps=1)
    trainer.add_callback(DecayCallback(trainer, probe()[:2], policy(), bins=BINS))
    trainer.train()
    frame = pd.read_csv(tmp_path / "decay.csv")
    whole = frame[frame["bin"] == "all"]
    assert whole["low"].isna().all() and set(whole["note"]) == {ONE_PROBLEM}


def test_a_resumed_run_goes_on_with_its_file(tmp_path: Path) -> None:
    def watched(rollouts: list[Rollout]) -> Trainer:
        trainer = trainer_of(tmp_path, max_steps=6, save_strategy="steps", save_steps=3)
        trainer.add_callback(DecayCallback(trainer, rollouts, teacher, every=1, bins=BINS))
        return trainer

    teacher = policy()
    watched(probe()).train()
    whole = (tmp_path / "decay.csv").read_text()
    (tmp_path / "decay.csv").write_text(
        whole[: whole.index("\n5,all")] + "\n5,all,0,in"
    )  # killed as it wrote
    watched(probe()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    resumed = pd.read_csv(tmp_path / "decay.csv")
    pd.testing.assert_frame_equal(resumed, pd.read_csv(io.StringIO(whole)), rtol=1e-12)

    lines = whole.splitlines(keepends=True)
    (tmp_path / "decay.csv").write_text(
        "".join(lines[: 1 + 3 * 5 + 2])
    )  # two of the rows of step 3
    watched(probe()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert list(pd.read_csv(tmp_path / "decay.csv")["step"]) == [
        step for step in range(7) for _ in range(5)
    ]
    with pytest.raises(UserError, match="was written with another probe or other bins"):
        watched(probe(seed=1)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    with pytest.raises(
        UserError, match="already exists, from an earlier run; give DecayCallback another path"
    ):
        watched(probe()).train()


def distillation(
    folder: Path, callbacks: Sequence[TrainerCallback] = (), **changes: Any
) -> DistillationTrainer:
    """TRL's trainer on a tiny pair, with its own defaults but for precision: gradients
    checkpointed, LoRA."""
    chosen = {
        "max_completion_length": 6,
        "learning_rate": 0.05,
        "logging_steps": 2,
        "max_steps": 4,
        **changes,
    }
    config = DistillationConfig(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        bf16=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        **chosen,
    )
    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    return DistillationTrainer(
        model=tiny_llama(0, vocab_size=VOCAB),
        teacher_model=tiny_llama(1, vocab_size=VOCAB),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": list(TEXTS) * 2}),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        peft_config=LoraConfig(r=4, target_modules="all-linear"),
    )


@pytest.mark.parametrize(
    "given", [True, False], ids=["a teacher of its own", "the trainer's teacher"]
)
def test_trls_distillation_trainer_logs_it_and_trains_as_without_it(
    tmp_path: Path, given: bool
) -> None:
    seen, rollouts, teacher = Snapshots(), probe(), policy()
    plain = distillation(tmp_path / "plain")
    plain.train()
    trainer = distillation(tmp_path / "watched", [seen])
    callback = DecayCallback(trainer, rollouts, teacher if given else None, every=1, bins=BINS)
    trainer.add_callback(callback)
    trainer.train()
    assert list(logged(trainer)) == [0, 1, 2, 3, 4]
    check_values(trainer, seen, teacher, rollouts)
    ours = trainer.model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in plain.model.state_dict().items())
    timed = ("runtime", "per_second", "step_time")
    histories = [
        [
            {key: value for key, value in entry.items() if not key.endswith(timed)}
            for entry in one.state.log_history
            if "decay/reverse_kl" not in entry
        ]
        for one in (plain, trainer)
    ]
    assert histories[0] == histories[1]  # TRL's running means too: they are not cut up by ours
    assert not any(
        "entropy" in entry for entry in trainer.state.log_history if "decay/reverse_kl" in entry
    )


@pytest.mark.slow
def test_only_the_main_of_two_processes_scores_and_logs(tmp_path: Path) -> None:
    code = (
        "import sys, json, torch, test_callback as t\n"
        "from pathlib import Path\n"
        "from decaylab.callback import DecayCallback\n"
        "folder, seen, teacher = Path(sys.argv[1]), t.Snapshots(), t.policy()\n"
        "trainer = t.trainer_of(folder, callbacks=[seen], max_steps=2, "
        "per_device_train_batch_size=2, ddp_backend='gloo')\n"
        "callback = DecayCallback(trainer, t.probe(), teacher, every=1, bins=t.BINS)\n"
        "trainer.add_callback(callback)\n"
        "trainer.train()\n"
        "assert trainer.args.world_size == 2 and trainer.model_wrapped is not trainer.model\n"
        "t.check_values(trainer, seen, teacher, t.probe())\n"
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
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
    ]
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "0.json").read_text()) == [0, 1, 2]
    assert json.loads((tmp_path / "1.json").read_text()) == []
    assert len(pd.read_csv(tmp_path / "decay.csv")) == 3 * 5


def test_what_cannot_be_scored_is_refused_in_one_line(tmp_path: Path) -> None:
    trainer, teacher = trainer_of(tmp_path), policy()
    with pytest.raises(UserError, match="Trainer has no teacher; give DecayCallback one"):
        DecayCallback(trainer, probe())
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        DecayCallback(trainer, probe(), teacher, every=0)
    with pytest.raises(ValueError, match="probe is empty"):
        DecayCallback(trainer, [], teacher)
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        DecayCallback(trainer, probe(), teacher, bins=(1, 5))
    other = Policy("other", teacher.model, byte_tokenizer(shift=1), teacher.identity)
    with pytest.raises(UserError, match="the vocabularies disagree"):
        DecayCallback(trainer, probe(), other)
    trainer.is_fsdp_enabled = True
    with pytest.raises(
        UserError, match="its weights are sharded .*train with DDP, or score the checkpoints"
    ):
        DecayCallback(trainer, probe(), teacher)
    trainer.is_fsdp_enabled, trainer.processing_class = False, None
    with pytest.raises(UserError, match="the trainer has no tokenizer"):
        DecayCallback(trainer, probe(), teacher)
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(UserError, match="prefix and prompt tuning adapters"):
        DecayCallback(
            trainer_of(tmp_path, get_peft_model(tiny_llama(0, vocab_size=VOCAB), prompts)),
            probe(),
            teacher,
        )


def test_a_probe_is_what_the_student_writes_up_to_what_the_teacher_can_read() -> None:
    student, teacher = policy(0, "student"), policy(1, "teacher")
    problems = ProblemSet(
        "set",
        "1",
        "",
        "Answer.",
        "last_boxed",
        tuple(Problem(str(i), text, "1") for i, text in enumerate(TEXTS)),
    )
    settings = SamplingSettings(temperature=1.0, seed=3)
    found = sample_probe(student, teacher, problems, samples=2, max_tokens=20, sampling=settings)
    again = sample_probe(student, teacher, problems, samples=2, max_tokens=20, sampling=settings)
    assert found == again
    assert [one.rollout_id for one in found] == [
        f"probe/{i}/{sample}" for i in range(len(TEXTS)) for sample in range(2)
    ]
    assert len({one.student_prompt for one in found}) == len(TEXTS) and len(
        {one.response for one in found}
    ) == len(found)
    assert "three\nAnswer." in student.decode(list(found[2].student_prompt))
    token = found[0].response[5]
    few = byte_tokenizer()
    known = {text: index for text, index in few.get_vocab().items() if index != token}
    few.get_vocab = lambda: known
    blind = Policy("blind", teacher.model, few, teacher.identity)
    cut = sample_probe(student, blind, problems, samples=2, max_tokens=20, sampling=settings)
    for one in cut:
        whole = next(other for other in found if other.rollout_id == one.rollout_id)
        assert one.response == whole.response[: len(one.response)] and token not in one.response
    assert len(cut[0].response) <= 5
