"""Which engine samples where the user names none."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from decaylab.options import engine_choice
from decaylab.options.measuring import Options
from decaylab.options.planning import PlanOptions
from decaylab.options.training import TrainOptions


def machine(monkeypatch: pytest.MonkeyPatch, *, vllm: bool, gpu: bool) -> None:
    """A machine that has vLLM and a GPU, or lacks one of them."""
    known = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        if name == "vllm":
            return SimpleNamespace() if vllm else None
        return known(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)


@pytest.mark.parametrize(
    ("vllm", "gpu", "device", "chosen"),
    [
        (True, True, "auto", "vllm"),
        (True, True, "cuda:1", "vllm"),
        (True, True, "cpu", "transformers"),
        (True, False, "auto", "transformers"),
        (False, True, "auto", "transformers"),
    ],
)
def test_it_is_vllm_where_it_is_installed_and_there_is_a_gpu_for_it(
    monkeypatch: pytest.MonkeyPatch, vllm: bool, gpu: bool, device: str, chosen: str
) -> None:
    machine(monkeypatch, vllm=vllm, gpu=gpu)
    assert engine_choice.usual(device) == chosen


def test_options_are_resolved_to_it_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, vllm=True, gpu=True)
    assert Options().resolved().engine == "vllm"
    assert Options(engine="transformers").resolved().engine == "transformers"
    machine(monkeypatch, vllm=False, gpu=True)
    assert Options().resolved().engine == "transformers"


def test_the_engine_is_in_no_folder_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, vllm=True, gpu=True)
    names = {
        TrainOptions(engine=engine).resolved().default_folder()
        for engine in ("auto", "vllm", "transformers")
    }
    assert len(names) == 1


def test_what_vllm_cannot_do_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, vllm=True, gpu=True)
    assert TrainOptions().resolved().engine == "vllm"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert TrainOptions().resolved().engine == "transformers"
    assert PlanOptions(probe=True, only=("train",)).resolved().engine == "transformers"
