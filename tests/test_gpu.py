"""What only a GPU can show. Every test here is marked gpu and skipped, with that reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_models import equal_up_to_near_ties

from decaylab import policies
from decaylab.options import Options
from decaylab.policies import LoadSettings
from decaylab.problems import load_problems
from decaylab.run import prefix_decay
from decaylab.sampling import Request, SamplingSettings
from decaylab.transformers_engine import TransformersEngine

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_gpu_writes_what_the_cpu_writes_up_to_near_ties(temperature: float) -> None:
    host = policies.load("abacus-teacher", LoadSettings("float32", "cpu"))
    device = policies.load("abacus-teacher", LoadSettings("float32", "cuda"))
    asked = load_problems("abacus", limit=20).problems
    requests = [Request(tuple(host.prompt_ids(p, "")), (), 120, "gpu", p.problem_id, 0) for p in asked]
    settings = SamplingSettings(temperature)
    there, here = (TransformersEngine(policy).sample(requests, settings) for policy in (device, host))
    assert equal_up_to_near_ties(host.weights, requests, here, there, settings) >= 15


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    policy = policies.load("abacus-teacher", LoadSettings("float32", "cuda"))
    asked = load_problems("abacus", limit=256).problems
    requests = [Request(tuple(policy.prompt_ids(p, "")), (), 200, "gpu", p.problem_id, 0) for p in asked]
    said: list[str] = []
    torch.cuda.set_per_process_memory_fraction(0.2 * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    try:
        responses = TransformersEngine(policy, on_warning=said.append).sample(requests, SamplingSettings())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(responses) == 256
    assert said and all("out of memory" in line for line in said)


def test_prefix_decay_runs_on_the_gpu(tmp_path: Path) -> None:
    result = prefix_decay(
        Options(device="cuda", limit=10, samples=2, prefix_lengths=(0, 20), out=str(tmp_path / "run"))
    )
    assert result.record["identity"]["precision"]["teacher"].endswith("on cuda")
    assert {"student", "teacher", "student-prefix"} <= set(pd.read_csv(tmp_path / "run" / "measurements.csv").condition)
