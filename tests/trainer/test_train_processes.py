"""Several processes train as one: the same trace and weights, whole (DDP) or sharded (FSDP);
killed, broken, gone on with.

Launched as a script, this file is what each of the processes runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import DATA, ENVIRONMENT, _SharedGrader
from safetensors.torch import load_file
from tiny_models import save_folder
from torch.distributed.fsdp import FSDPModule
from training_by_hand import trace, train

from decaylab.cli import main
from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.trainer import loop, step
from decaylab.trainer.machinery import processes, sharding
from decaylab.trainer.machinery.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
SHORT: dict[str, Any] = {
    "device": "cpu",
    "steps": 3,
    "checkpoint_every": 3,
    "problems_per_step": 5,  # 3 and 2 in two processes
    "validation_problems": 3,
    "selector": "full",
    "max_tokens": 40,
    "batch_tokens": 200,  # several micro-batches, and not as many in each process
}
TINY: dict[str, Any] = {
    "problems": "abacus-train",
    "test_problems": "none",
    "limit": 40,
    "full_finetune": True,
}
CASES: dict[str, dict[str, Any]] = {
    "lora": {"normalise": "rollouts"},
    "full": {
        **TINY,
        "selector": "top-reverse-kl",
        "budget": 10,
        "learning_rate": 1e-3,
        "clip": 0.2,
    },
    # The second process has neither a rollout nor a held-out problem.
    "nothing": {
        "problems_per_step": 1,
        "validation_problems": 1,
        "full_finetune": True,
        "gradient_checkpointing": True,
    },
    # Rounding grows with the steps that the weights take.
    "bfloat16": {"dtype": "bfloat16", "validation_problems": 0, "learning_rate": 3e-4},
}
WORDS = (
    *(
        "train",
        "--device",
        "cpu",
        "--steps",
        "4",
        "--checkpoint-every",
        "2",
        "--problems-per-step",
        "3",
    ),
    *(
        "--validation-problems",
        "3",
        "--selector",
        "full",
        "--max-tokens",
        "40",
        "--full-finetune",
        "--quiet",
    ),
)
FSDP = ("--config_file", str(ROOT / "docs" / "fsdp.yaml"))
DDP = ("--multi_gpu",)  # on CPUs too, by --device cpu


def options(folder: Path, case: str) -> dict[str, Any]:
    pair = (
        {"teacher": str(folder / "teacher"), "student": str(folder / "student")}
        if case == "full"
        else {}
    )
    return {**SHORT, **pair, **CASES[case]}


def launch(*words: object, how: tuple[str, ...] = FSDP) -> subprocess.CompletedProcess[str]:
    """Two processes, as a user launches them; what they say."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "--num_processes", "2"]
    command += ["--main_process_port", "0", *(str(one) for one in words)]
    return subprocess.run(
        command,
        env=ENVIRONMENT,
        cwd=DATA.parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def alone(*words: object) -> None:
    """The command in this process."""
    with mock.patch.object(loop, "Grader", _SharedGrader), pytest.raises(SystemExit) as end:
        main.main([str(one) for one in words])
    assert not end.value.code


def rows(run: Path) -> pd.DataFrame:
    held_out = trace(run, "validation.csv") if (run / "validation.csv").exists() else pd.DataFrame()
    return pd.concat([trace(run), held_out.add_prefix("validation/")], axis=1)


def changes(run: Path, base: Path, last: int) -> dict[str, np.ndarray]:
    """What training has added to each tensor: adapters as they are, whose first values are the same
    in all runs."""
    folder = run / f"step-{last:06d}"
    if (folder / "adapter_model.safetensors").exists():
        found = load_file(folder / "adapter_model.safetensors")
        return {name: one.float().numpy() for name, one in found.items() if "lora_B" in name}
    before = load_file(base / "model.safetensors")
    return {
        name: (one - before[name]).numpy()
        for name, one in load_file(folder / "model.safetensors").items()
    }


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Norm of the difference over the norm of the first, of all tensors together."""
    assert one.keys() == other.keys()
    difference, size = (
        sum(float((values[name] ** 2).sum()) for name in one)
        for values in ({name: one[name] - other[name] for name in one}, one)
    )
    return (difference / size) ** 0.5


# Sums of float32 in another order: some 1e-7 each, 4e-6 at most where all of this was written. An
# update of AdamW makes more of it where a gradient is nearly 0, and less than 1e-5 of all that the
# weights have moved. Half of a gradient is 2e-3.
TRACE, MOVED = 5e-5, 1e-4


def same(run: Path, other: Path, base: Path, last: int = 3) -> None:
    """Every column of the steps and of the validation, and what the weights have moved from the
    base."""
    pd.testing.assert_frame_equal(rows(run), rows(other), rtol=TRACE)
    assert apart(changes(other, base, last), changes(run, base, last)) < MOVED


# --- what is launched
# ---------------------------------------------------------------------------


def cases(folder: Path, name: str) -> None:
    """All of the cases, one after the other; sharded, also those that only such processes have."""
    for case in CASES:
        train(folder / name / case, **options(folder, case))
    gradients(folder / name / "gradients.json")
    if name != "fsdp":
        return
    with mock.patch.dict(os.environ, FSDP_RESHARD_AFTER_FORWARD="false"):
        train(folder / name / "kept", **options(folder, "full"))
    with mock.patch.object(
        FSDPModule, "set_gradient_divide_factor", lambda self, factor: None
    ):  # torch's own: a mean
        train(folder / name / "mean", **options(folder, "full"))
    train(folder / "begun-alone", **{**options(folder, "full"), "checkpoint_every": 2})


def gradients(file: Path) -> None:
    """What three gradients are after summing: both processes have the first, the second one the
    second, none the third."""
    one = Processes(TrainOptions(device="cpu").resolved())
    weights: list[torch.Tensor] = [torch.nn.Parameter(torch.zeros(count)) for count in (2, 3, 1)]
    weights[0].grad = torch.tensor([1.0, 10.0]) * (one.rank + 1)
    weights[1].grad = torch.ones(3) if one.rank else None
    one.add_gradients(weights)
    found = [None if weight.grad is None else weight.grad.tolist() for weight in weights]
    if one.is_main:
        file.write_text(json.dumps(found))


def killed(*words: str) -> None:
    """The second process dies in step 3."""
    made = loop.Run.step

    def dying(self: Any, number: int, *more: Any) -> Any:
        if number == 3 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return made(self, number, *more)

    loop.Run.step = dying
    main.main(list(words))


def broken(*words: str) -> None:
    """The second process finds a loss that is no number, in its second micro-batch."""
    real, calls = step.chunked_loss, []

    def spoilt(*arguments: Any) -> Any:
        found, gradient = real(*arguments)
        calls.append(1)
        if len(calls) == 2 and os.environ["RANK"] == "1":
            found.loss[1] = torch.nan
        return found, gradient

    step.chunked_loss = spoilt
    main.main(list(words))


# --- that they train as one
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every case by one process, and by two, whole and sharded."""
    folder = tmp_path_factory.mktemp("processes")
    # Of 45 rows two processes cannot take as many each.
    for name, seed in (("teacher", 1), ("student", 0)):
        save_folder(folder / name, seed=seed, intermediate_size=45, max_position_embeddings=512)
    for case in CASES:
        train(folder / "one" / case, **options(folder, case))
    made = loop.Run.step

    def interrupted(self: Any, number: int, *more: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return made(self, number, *more)

    with mock.patch.object(loop.Run, "step", interrupted), pytest.raises(KeyboardInterrupt):
        train(folder / "begun-alone", **{**options(folder, "full"), "checkpoint_every": 2})
    for name, how in (("fsdp", FSDP), ("ddp", DDP)):
        done = launch(__file__, "cases", folder, name, how=how)
        assert done.returncode == 0, done.stderr[-3000:]
    yield folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_train_as_one(folder: Path, name: str, case: str) -> None:
    run, one = folder / name / case, folder / "one" / case
    told = json.loads((run / "run.json").read_text())
    assert told["launches"] == [{"from_step": 1, "processes": 2, "sharded": name == "fsdp"}]
    same(run, one, folder / "student" if case == "full" else DATA / "student")


@pytest.mark.slow
def test_layers_that_stay_whole_between_the_passes_change_nothing(folder: Path) -> None:
    same(folder / "fsdp" / "kept", folder / "fsdp" / "full", folder / "student")


@pytest.mark.slow
def test_a_mean_over_processes_would_be_seen(folder: Path) -> None:
    """The near miss. An update of AdamW is much the same for half of every gradient; their norm,
    and so clipping, is not."""
    sums, means = (folder / "fsdp" / case for case in ("full", "mean"))
    assert (rows(means)["gradient_norm"] < 0.9 * rows(sums)["gradient_norm"]).all()
    assert apart(*(changes(run, folder / "student", 3) for run in (sums, means))) > 10 * MOVED


@pytest.mark.slow
def test_a_gradient_is_a_sum_and_one_that_no_process_has_stays_absent(folder: Path) -> None:
    assert json.loads((folder / "ddp" / "gradients.json").read_text()) == [
        [3.0, 30.0],
        [1.0, 1.0, 1.0],
        None,
    ]


# --- that they go on
# ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_begun_by_one_process_goes_on_sharded_over_two(folder: Path) -> None:
    run, whole = folder / "begun-alone", folder / "one" / "full"
    told = json.loads((run / "run.json").read_text())
    assert [(one["from_step"], one["processes"], one["sharded"]) for one in told["launches"]] == [
        (1, 1, False),
        (3, 2, True),
    ]
    assert told["finished"] and told["processes"] == 2
    pd.testing.assert_frame_equal(
        trace(run), trace(whole), rtol=TRACE
    )  # it was validated once more, behind step 2
    assert apart(*(changes(one, folder / "student", 3) for one in (whole, run))) < MOVED


@pytest.mark.slow
def test_a_sharded_run_of_which_a_process_was_killed_goes_on_with_any_number_of_them(
    tmp_path: Path,
) -> None:
    alone(*WORDS, "--out", tmp_path / "whole")
    done = launch(__file__, "killed", *WORDS, "--out", tmp_path / "two")
    assert done.returncode != 0
    assert len(trace(tmp_path / "two")) == 2 and (tmp_path / "two" / "resume").exists()
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    done = launch("-m", "decaylab", *WORDS, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("\nTraining\n") == 1  # one of them speaks
    alone(*WORDS, "--out", tmp_path / "one")
    for count in ("one", "two"):
        told = json.loads((tmp_path / count / "run.json").read_text())
        first, second = told["launches"]
        assert (
            first == {"from_step": 1, "processes": 2, "sharded": True} and second["from_step"] == 3
        )
        assert second["processes"] == (2 if count == "two" else 1)
        same(tmp_path / count, tmp_path / "whole", DATA / "student", 4)


# --- that they end together
# ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_ends_all_with_one_line(tmp_path: Path) -> None:
    done = launch(__file__, "broken", *WORDS, "--batch-tokens", "60", "--out", tmp_path / "run")
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("decaylab: ")]
    assert re.search(
        "step [12]: the loss is not finite at response position 1 of rollout train-", line
    )
    assert done.returncode != 0 and re.search(
        r"exitcode *: 2 ", done.stderr
    )  # as the launcher tells of the main one
    assert (tmp_path / "run" / "not-finite.json").exists()


def test_an_error_of_another_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Processes(TrainOptions(device="cpu").resolved())
    monkeypatch.setattr(one, "_of_all", lambda own: [own, "theirs"])
    one.count = 2
    with pytest.raises(UserError, match="theirs"), one.agreeing():
        pass
    with pytest.raises(UserError, match="ours"), one.agreeing():
        raise UserError("ours")


def test_the_main_process_alone_tells_what_all_of_them_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "LAST_WORD_SECONDS", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for said, code in ((UserError("this"), 2), (KeyboardInterrupt(), 130)):
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(type(said)), processes.one_speaks():
            raise said
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(SystemExit) as end, processes.one_speaks():
            raise said
        assert end.value.code == code


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "DeepSpeed is not supported: write distributed_type: MULTI_GPU, or FSDP with",
        ),
        (
            {"ACCELERATE_USE_MEGATRON_LM": "true"},
            "Megatron-LM is not supported: write distributed_type: MULTI_GPU",
        ),
        (
            {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"},
            "parallelism_config is not supported: write distributed_type",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "bf16"},
            "mixed_precision of the launcher is not supported: write mixed_precision: 'no'",
        ),
        (
            {"FSDP_VERSION": "1"},
            "only FSDP version 2 is supported: write fsdp_version: 2 under fsdp_config",
        ),
        (
            {"FSDP_OFFLOAD_PARAMS": "true"},
            "CPU offloading is not supported: write fsdp_offload_params: false",
        ),
        (
            {"FSDP_RESHARD_AFTER_FORWARD": "full_shard"},
            "write fsdp_reshard_after_forward: true or false",
        ),
        (
            {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
            "every process reads the weights itself: write fsdp_cpu_ram",
        ),
        (
            {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "write fsdp_activation_checkpointing: false under fsdp_config, and use",
        ),
        ({"FSDP_IGNORED_MODULES": "lm_head"}, "remove fsdp_ignored_modules from fsdp_config"),
        (
            {"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"},
            "only layers are sharded: write fsdp_auto_wrap_policy: TRANSFORMER",
        ),
    ],
)
def test_what_a_launchers_file_asks_in_vain_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        **variables,
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        sharding.asked_for()
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "told"), [("", "none declared"), ("NoSuchLayer", "NoSuchLayer")]
)
def test_a_student_without_the_layers_that_are_named_is_not_sharded(
    monkeypatch: pytest.MonkeyPatch, variable: str, told: str
) -> None:
    monkeypatch.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", variable)
    bare: Any = SimpleNamespace(base_model=torch.nn.Linear(1, 1), _no_split_modules=None)
    with pytest.raises(
        UserError, match=rf"^tiny has no layers to shard \({told}\); train it without FSDP$"
    ):
        sharding.Shards(bare, "tiny", cast(Any, None), adapted=False)


def test_a_single_process_is_not_sharded_whatever_the_file_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert not sharding.asked_for()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sharding.asked_for()


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *words = sys.argv[1:]
    if what == "cases":
        cases(Path(words[0]), words[1])
    else:
        {"killed": killed, "broken": broken}[what](*words)
