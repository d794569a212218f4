"""What only a GPU can show. Every test here is marked gpu and skipped, with that reason, where
there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import equal_up_to_near_ties

from decaylab.commands import diagnose
from decaylab.commands.prefix_decay import prefix_decay
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_gpu_writes_what_the_cpu_writes_up_to_near_ties(temperature: float) -> None:
    host = loading.load("abacus-teacher", LoadSettings("float32", "cpu"))
    device = loading.load("abacus-teacher", LoadSettings("float32", "cuda"))
    asked = load_problems("abacus", limit=20).problems
    requests = [
        Request(tuple(host.prompt_ids(p, "")), (), 120, "gpu", p.problem_id, 0) for p in asked
    ]
    settings = SamplingSettings(temperature)
    there, here = (
        TransformersEngine(policy).sample(requests, settings) for policy in (device, host)
    )
    assert equal_up_to_near_ties(host.weights, requests, here, there, settings) >= 15


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    policy = loading.load("abacus-teacher", LoadSettings("float32", "cuda"))
    asked = load_problems("abacus", limit=256).problems
    requests = [
        Request(tuple(policy.prompt_ids(p, "")), (), 200, "gpu", p.problem_id, 0) for p in asked
    ]
    said: list[str] = []
    torch.cuda.set_per_process_memory_fraction(
        0.2 * 2**30 / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        responses = TransformersEngine(policy, on_warning=said.append).sample(
            requests, SamplingSettings()
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(responses) == 256
    assert said and all("out of memory" in line for line in said)


def test_prefix_decay_runs_on_the_gpu(tmp_path: Path) -> None:
    result = prefix_decay(
        Options(
            device="cuda", limit=10, samples=2, prefix_lengths=(0, 20), out=str(tmp_path / "run")
        )
    )
    assert result.record["identity"]["precision"]["teacher"].endswith("on cuda")
    assert {"student", "teacher", "student-prefix"} <= set(
        pd.read_csv(tmp_path / "run" / "measurements.csv").condition
    )


def rollouts(count: int) -> list[Rollout]:
    policy = loading.load("abacus-student", LoadSettings("float32", "cuda"))
    asked = load_problems("abacus", limit=count).problems
    prompts = [tuple(policy.prompt_ids(problem, "")) for problem in asked]
    requests = [
        Request(prompt, (), 120, "gpu", p.problem_id, 0)
        for prompt, p in zip(prompts, asked, strict=True)
    ]
    written = TransformersEngine(policy).sample(requests, SamplingSettings(0.7))
    return [
        Rollout(r.problem_id, r.prompt_ids, r.prompt_ids, one.ids)
        for r, one in zip(requests, written, strict=True)
    ]


def scored(
    device: str, dtype: str, chosen: list[Rollout], head: str = "model"
) -> dict[str, np.ndarray]:
    pair = [
        loading.load(f"abacus-{role}", LoadSettings(dtype, device))
        for role in ("student", "teacher")
    ]
    found = Scorer(*pair, ScoringSettings(head=head)).score(chosen)
    return {name: np.concatenate([one.columns[name] for one in found]) for name in found[0].columns}


def test_scores_of_the_gpu_are_those_of_the_cpu() -> None:
    chosen = rollouts(40)
    here, there = scored("cpu", "float32", chosen), scored("cuda", "float32", chosen)
    for name in (
        "reverse_kl",
        "forward_kl",
        "js",
        "student_entropy",
        "teacher_entropy",
        "student_logprob",
    ):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert (there["student_top1_rank"] == here["student_top1_rank"]).mean() > 0.999


@pytest.mark.parametrize("head", ["model", "float32"])
def test_16_bits_on_the_gpu_stay_near_float32(head: str) -> None:
    chosen = rollouts(40)
    exact, coarse = scored("cuda", "float32", chosen), scored("cuda", "bfloat16", chosen, head)
    assert abs(coarse["reverse_kl"].mean() - exact["reverse_kl"].mean()) < 0.02
    assert np.abs(coarse["reverse_kl"] - exact["reverse_kl"]).mean() < 0.05


def test_a_diagnostic_runs_on_the_gpu_with_its_noise_floor(tmp_path: Path) -> None:
    options = DiagnosticOptions(
        device="cuda",
        dtype="bfloat16",
        limit=10,
        samples=1,
        floor_problems=5,
        cache=str(tmp_path / "cache"),
        out=str(tmp_path / "run"),
    )
    frame = diagnose.diagnose("position-kl", options).measurements
    floor = frame[frame.what == "mean_reverse_kl"].noise_floor.iloc[0]
    assert 1e-7 < floor < 0.1


def test_a_step_of_training_on_the_gpu_takes_the_gradient_of_the_cpu(tmp_path: Path) -> None:
    from decaylab.options.training import TrainOptions
    from decaylab.trainer.loop import train

    runs = [
        train(
            TrainOptions(
                steps=1,
                validation_problems=0,
                device=device,
                dtype="float32",
                out=str(tmp_path / device),
            )
        )
        for device in ("cpu", "cuda")
    ]
    (cpu, gpu) = (one.metrics.iloc[0] for one in runs)
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=1e-2)  # near-ties may sample other tokens
    assert gpu["gradient_norm"] == pytest.approx(cpu["gradient_norm"], rel=5e-2)
    assert gpu["training_peak_gib"] < 2


def test_training_in_16_bits_lowers_the_reverse_kl(tmp_path: Path) -> None:
    from decaylab.options.training import TrainOptions
    from decaylab.trainer.loop import train

    found = train(
        TrainOptions(
            steps=30,
            checkpoint_every=30,
            device="cuda",
            dtype="bfloat16",
            out=str(tmp_path / "run"),
        )
    ).validation
    assert found["reverse_kl"].iloc[1] < 0.95 * found["reverse_kl"].iloc[0]


@pytest.mark.parametrize(
    "tuned", [(), ("--full-finetune", "--gradient-checkpointing")], ids=["lora", "full"]
)
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_gpus_train_as_one(tmp_path: Path, how: str, tuned: tuple[str, ...]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs GPU: two of them")
    words = ["train", "--steps", "3", "--checkpoint-every", "3", "--validation-problems", "6"]
    words += ["--dtype", "float32", *tuned]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
    ]
    launch += ["--multi_gpu"] if how == "ddp" else ["--config_file", "docs/fsdp.yaml"]
    for command, out in (([sys.executable], "one"), (launch, "two")):
        subprocess.run(
            [*command, "-m", "decaylab", *words, "--device", "cuda", "--out", str(tmp_path / out)],
            check=True,
            cwd=Path(__file__).resolve().parents[1],
            timeout=300,
        )
    one, two = (pd.read_csv(tmp_path / out / "metrics.csv") for out in ("one", "two"))
    np.testing.assert_allclose(
        two["loss"], one["loss"], rtol=1e-2
    )  # near-ties may sample other tokens
    np.testing.assert_allclose(two["gradient_norm"], one["gradient_norm"], rtol=5e-2)
