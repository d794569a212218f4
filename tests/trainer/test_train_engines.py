"""Training through vLLM: its rollouts are those of the student as it is now, and a killed run ends
as an undisturbed one."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import tiny_models as tiny
import torch
from command_line import contents, start

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.problems.grading import Grader
from decaylab.problems.sets import load_problems
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.trainer import loop
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.engines import VllmStudent, training_engines
from decaylab.trainer.machinery.setup import TrainSetup, prepare_training

GREEDY = SamplingSettings(temperature=0)
SHORT: dict[str, Any] = {
    "steps": 4,
    "problems_per_step": 4,
    "checkpoint_every": 2,
    "validation_problems": 4,
}


def engine_test(function: Any) -> Any:
    missing = importlib.util.find_spec("vllm") is None
    skipped = pytest.mark.skipif(missing, reason="needs engine: vllm is not installed")
    return pytest.mark.engine(skipped(function))


def setup_of(**options: Any) -> TrainSetup:
    with Grader(workers=1) as grader:
        return prepare_training(
            TrainOptions(engine="vllm", **{**SHORT, **options}).resolved(), grader
        )


def asked(setup: TrainSetup, count: int) -> list[Request]:
    problem_set = load_problems("abacus", limit=count)
    prompts = [
        tuple(setup.student.prompt_ids(one, problem_set.instruction))
        for one in problem_set.problems
    ]
    return [Request(ids, (), 60, "greedy", str(place), 0) for place, ids in enumerate(prompts)]


def moved(trained: Trainable, seed: int) -> None:
    """Other weights in the place of what is trained, far enough from the old ones to write other
    tokens."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in trained.parameters.items():
            if trained.adapter is None:
                weight += 0.3 * weight.std() * torch.randn_like(weight)
            elif "lora_B" in name:
                weight.copy_(0.1 * torch.randn_like(weight))


@engine_test
@pytest.mark.parametrize("full_finetune", [False, True])
def test_vllm_writes_with_the_weights_of_now(full_finetune: bool) -> None:
    setup = setup_of(full_finetune=full_finetune)
    trained = Trainable(setup.student, setup.options)
    requests, written = asked(setup, 12), []
    student = VllmStudent(trained, setup)
    try:
        for seed in (0, 1, 2):
            if seed:
                moved(trained, seed)
            made = student.sample(requests, GREEDY)
            with trained.merged():
                expected = TransformersEngine(setup.student).sample(requests, GREEDY)
                same = tiny.equal_up_to_near_ties(
                    setup.student.weights, requests, made, expected, GREEDY
                )
            assert same >= 10
            written.append([one.ids for one in made])
    finally:
        student.engine.close()
    assert sum(one == other for one, other in zip(written[0], written[1], strict=True)) < 10
    assert sum(one == other for one, other in zip(written[1], written[2], strict=True)) < 10


@engine_test
def test_an_engine_that_was_made_for_none_takes_no_adapter(tmp_path: Path) -> None:
    setup = setup_of(full_finetune=True)
    student = VllmStudent(Trainable(setup.student, setup.options), setup)
    with student.engine, pytest.raises(ValueError, match="room_for_rank"):
        student.engine.take_adapter(tmp_path)


@engine_test
def test_a_rank_beyond_the_engines_is_refused_in_one_line() -> None:
    setup = setup_of(lora_rank=1024)
    trained = Trainable(setup.student, setup.options)
    with pytest.raises(UserError, match=r"rank 1024, more than max_lora_rank 512") as error:
        VllmStudent(trained, setup)
    assert "\n" not in str(error.value)


@engine_test
@pytest.mark.slow
def test_a_run_through_vllm_learns_and_ends_alike_after_a_kill(tmp_path: Path) -> None:
    longer = {**SHORT, "steps": 20, "checkpoint_every": 10, "validation_problems": 64}
    words = ["train", "--engine", "vllm", "--quiet"]
    for name, value in longer.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    whole = start(*words, "--out", tmp_path / "whole")
    assert whole.wait() == 0, whole.communicate()
    killed = start(*words, "--out", tmp_path / "killed")
    while not (tmp_path / "killed" / "step-000010").exists():
        assert killed.poll() is None, killed.communicate()
    killed.kill()
    killed.communicate()
    assert len(pd.read_csv(tmp_path / "killed" / "metrics.csv")) < 20
    again = start(*words, "--out", tmp_path / "killed")
    assert again.wait() == 0, again.communicate()
    runs = [contents(tmp_path / name / "step-000020") for name in ("whole", "killed")]
    assert runs[0].keys() == runs[1].keys()
    assert runs[0]["adapter_model.safetensors"] == runs[1]["adapter_model.safetensors"]
    validation = pd.read_csv(tmp_path / "whole" / "validation.csv")
    assert validation["reverse_kl"].iloc[-1] < 0.95 * validation["reverse_kl"].iloc[0]


def test_vllm_trains_in_one_process() -> None:
    two: Any = SimpleNamespace(count=2)
    setup = setup_of()
    trained = Trainable(setup.student, setup.options)
    with (
        ExitStack() as stack,
        pytest.raises(UserError, match="--engine vllm trains in one process, and this run has 2"),
    ):
        training_engines(setup, trained, two, Reporter(quiet=True), stack)


def test_a_missing_vllm_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="the vllm engine needs vLLM"):
        loop.train(TrainOptions(engine="vllm", out=str(tmp_path / "run"), **SHORT))
    assert not (tmp_path / "run").exists()
