"""Workers change nothing but the time: the store of one process, byte for byte, also where workers
and runs are killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from command_line import DATA, ENVIRONMENT, decaylab, start

from decaylab.errors import UserError
from decaylab.options.measuring import Options
from decaylab.policies import loading
from decaylab.rollouts import workers
from decaylab.rollouts.engine_spec import EngineSpec, spec_of
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.workers import Crew, Interrupted, Placement, Worker

SETTINGS = SamplingSettings(0.7, seed=3)
WORK = (
    "--limit",
    "24",
    "--samples",
    "2",
    "--batch-rows",
    "16",
    "--prefix-lengths",
    "0,10,20",
    "--controls",
    "own-prefix",
)


@pytest.fixture(scope="module")
def student() -> loading.Policy:
    torch.set_num_threads(1)
    return loading.load("abacus-student", loading.LoadSettings(device="cpu"))


@pytest.fixture(scope="module")
def spec(student: loading.Policy) -> EngineSpec:
    return spec_of(student, Options(batch_rows=8, engine="transformers"), longest=200)


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"), Crew(2, None, device="cpu") as two:
        yield two


def requests(
    policy: loading.Policy, count: int, stage: str = "student", tokens: int = 60
) -> list[Request]:
    prompt = tuple(
        policy.encode("Question: Ann has 3 pens and buys 4 more. How many pens has she now?\n")
    )
    return [Request(prompt, (), tokens, stage, f"problem-{number}", 0) for number in range(count)]


def wait_for(path: Path, seconds: float = 180) -> None:
    """Until something stands in a folder."""
    end = time.monotonic() + seconds
    while not any(path.glob("[!.]*")):  # what is still being written begins with a point
        assert time.monotonic() < end, f"{path} is still empty"
        time.sleep(0.05)


def kill_worker(crew: Crew, place: int) -> None:
    pid = crew._ray.get(crew._workers[place].__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGKILL)


# What a worker does


def test_a_worker_gives_what_the_engine_gives_and_counts_it(
    student: loading.Policy, spec: EngineSpec
) -> None:
    asked = requests(student, 20)
    worker = Worker(1)
    responses, warned = worker.sample(spec, asked, SETTINGS)
    assert responses == TransformersEngine(student, batch_rows=8).sample(asked, SETTINGS)
    assert warned == ()
    assert worker.progress() == (sum(len(one.ids) for one in responses), 20)
    assert worker._engine(spec, []) is worker._engine(spec, []), "the policy is loaded once"


def test_a_worker_refuses_a_policy_of_other_contents(spec: EngineSpec) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="differs between this worker"):
        Worker(1).sample(replace(spec, policy="abacus-teacher"), [], SETTINGS)


# What a crew does


def test_two_workers_at_once_give_the_responses_of_one_process(
    crew: Crew, student: loading.Policy, spec: EngineSpec
) -> None:
    stages = [f"stage-{number}" for number in range(4)]
    told: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        tasks = [
            pool.submit(
                crew.sample,
                spec,
                requests(student, 20, stage),
                SETTINGS,
                lambda *one: told.append(one),
            )
            for stage in stages
        ]
        made = [task.result()[0] for task in tasks]
    engine = TransformersEngine(student, batch_rows=8)
    assert made == [engine.sample(requests(student, 20, stage), SETTINGS) for stage in stages]
    assert sum(tokens for tokens, _ in told) == sum(
        len(one.ids) for responses in made for one in responses
    )
    assert sum(finished for _, finished in told) == 80


def test_what_an_engine_refuses_in_a_worker_is_told_as_it_is_here(
    crew: Crew, spec: EngineSpec
) -> None:
    from dataclasses import replace

    with pytest.raises(UserError) as error:
        crew.sample(replace(spec, contents="of another model"), [], SETTINGS)
    assert str(error.value) == (
        "abacus-student differs between this worker and the machine that started the run; use the "
        "same model on both"
    )


def test_a_worker_killed_at_work_is_replaced_and_its_task_done_anew(
    crew: Crew, student: loading.Policy, spec: EngineSpec
) -> None:
    asked = requests(student, 200, "killed", tokens=120)
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(crew.sample, spec, asked, SETTINGS) for _ in range(2)]
        time.sleep(1)
        assert not any(task.done() for task in tasks), "both are at work"
        kill_worker(crew, 0)
        first, second = (task.result()[0] for task in tasks)
    assert first == second == TransformersEngine(student, batch_rows=8).sample(asked, SETTINGS)


def test_a_task_that_kills_its_worker_again_and_again_is_given_up(
    crew: Crew, spec: EngineSpec, student: loading.Policy
) -> None:
    dying = crew._ray.remote(max_restarts=1, max_task_retries=1, max_concurrency=2)(Dying).remote()
    with (
        mock.patch.object(crew, "_free", mock.Mock(get=lambda: dying)),
        pytest.raises(UserError) as error,
    ):
        crew.sample(spec, requests(student, 1), SETTINGS)
    assert "a worker sampling from abacus-student, or its machine, died" in str(error.value)
    assert "\n" not in str(error.value)


class Dying:
    def sample(self, *arguments: Any) -> None:
        os._exit(9)

    def progress(self) -> tuple[int, int]:
        return 0, 0


def test_a_crew_that_is_told_to_stop_lets_its_threads_go(
    crew: Crew, spec: EngineSpec, student: loading.Policy
) -> None:
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(
            crew.sample, spec, requests(student, 400, "stopped", tokens=200), SETTINGS
        )
        time.sleep(1)
        crew.stop()
        with pytest.raises(Interrupted):
            task.result(timeout=10)


# Where workers are placed


@pytest.mark.parametrize(
    ("there", "count", "device", "gpus_each", "found"),
    [
        ({"CPU": 8}, 4, "auto", 1, Placement("cpu", 0, 2)),
        ({"CPU": 8, "GPU": 8}, 8, "auto", 1, Placement("cuda", 1, 1)),
        ({"CPU": 64, "GPU": 8}, 2, "cuda", 4, Placement("cuda", 4, 32)),
        ({"CPU": 8, "GPU": 8}, 2, "cpu", 1, Placement("cpu", 0, 4)),
    ],
)
def test_a_worker_has_its_gpus_and_its_share_of_the_cores(
    there: dict[str, float],
    count: int,
    device: str,
    gpus_each: int,
    found: Placement,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert workers._placement(there, count, None, device, gpus_each) == found


def test_threads_that_the_environment_names_hold_in_workers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert workers._placement({"CPU": 64}, 2, None, "auto", 1).threads == 3


@pytest.mark.parametrize(
    ("there", "count", "device", "gpus_each", "told"),
    [
        (
            {"CPU": 2},
            3,
            "auto",
            1,
            "--workers 3 needs one core per worker, but in the cluster auto there are 2",
        ),
        (
            {"CPU": 8, "GPU": 4},
            5,
            "auto",
            1,
            "--workers 5 needs 5 GPUs, but in the cluster auto there are 4",
        ),
        (
            {"CPU": 8, "GPU": 4},
            3,
            "cuda",
            2,
            "--workers 3 of 2 GPUs (--tensor-parallel) needs 6 GPUs, but in the cluster auto there "
            "are 4",
        ),
        ({"CPU": 8}, 2, "cuda", 1, "--workers 2 needs 2 GPUs, but in the cluster auto there are 0"),
    ],
)
def test_too_few_gpus_or_cores_are_told_before_anything_is_loaded(
    there: dict[str, float], count: int, device: str, gpus_each: int, told: str
) -> None:
    with pytest.raises(UserError) as error:
        workers._placement(there, count, "auto", device, gpus_each)
    assert str(error.value) == told


# Bad input


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--workers", "0"), "--workers must be at least 1, got 0"),
        (("--workers", "-2"), "--workers must be at least 1, got -2"),
        (("--ray", "somewhere"), "--ray must be auto or HOST:PORT, got somewhere"),
        (("--ray", "ray://head:10001"), "--ray must be auto or HOST:PORT, got ray://head:10001"),
        (
            ("--tensor-parallel", "2"),
            "--tensor-parallel only applies to --engine vllm",
        ),
        (
            ("--gpu-memory-share", "1.5"),
            "--gpu-memory-share must lie above 0 and not above 1, got 1.5",
        ),
        (("--engine", "sglang"), "--engine must be one of auto, transformers, vllm, got sglang"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    assert decaylab("prefix-decay", *words, "--out", tmp_path / "run", "--quiet").complaint == told
    assert not (tmp_path / "run").exists()


def test_an_address_where_nothing_answers_is_told_at_once(tmp_path: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    started = time.monotonic()
    complaint = decaylab(
        "prefix-decay", "--ray", address, "--out", tmp_path / "run", "--quiet"
    ).complaint
    assert complaint.startswith(f"--ray {address}: no Ray cluster answers there")
    assert time.monotonic() - started < 2 * workers.CONNECT_SECONDS


def test_auto_without_a_cluster_or_with_one_that_is_gone_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = ("prefix-decay", "--ray", "auto", "--out", tmp_path / "run", "--quiet")
    assert (
        decaylab(*words).complaint
        == "--ray auto: this machine is in no Ray cluster; start one with ray start --head"
    )
    address = f"127.0.0.1:{closed_port()}"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(address)
    assert decaylab(*words).complaint.startswith(f"--ray {address}: no Ray cluster answers there")


def test_a_missing_ray_is_told_with_what_installs_it(tmp_path: Path) -> None:
    with mock.patch.dict(sys.modules, {"ray": None}):
        complaint = decaylab(
            "prefix-decay", "--workers", 2, "--out", tmp_path / "run", "--quiet"
        ).complaint
    assert complaint.startswith("--workers and --ray need Ray (")
    assert complaint.endswith('pip install "decaylab[ray]"')


@pytest.mark.parametrize("words", [("prefix-decay", "--engine", "vllm"), ("served-kl",)])
def test_a_missing_vllm_is_told_before_anything_is_sampled(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with mock.patch.dict(sys.modules, {"vllm": None}):
        complaint = decaylab(*words, "--limit", 2, "--out", tmp_path / "run", "--quiet").complaint
    assert complaint.startswith("the vllm engine needs vLLM (it is not installed): pip install")
    assert not (tmp_path / "run").exists()


def test_training_has_no_workers_of_its_own() -> None:
    from decaylab.options.training import TrainOptions

    with pytest.raises(UserError, match="for several GPUs run accelerate launch"):
        TrainOptions(workers=2).resolved()


# Whole runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves that one process made without Ray."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    words = ["prefix-decay", *WORK, "--out", str(folder), "--quiet"]
    code = "import sys\nsys.modules['ray'] = None\nfrom decaylab.cli import main as cli\ncli.main()"
    subprocess.run(
        [sys.executable, "-c", code, *words], check=True, env=ENVIRONMENT, cwd=DATA.parent.parent
    )
    return results(folder)


def results(folder: Path) -> dict[str, bytes]:
    """The tables of a finished run; run.json holds the command and differs."""
    return {
        name: (folder / name).read_bytes() for name in ("rollouts.parquet", "measurements.parquet")
    }


def ray_of(pid: int) -> list[str]:
    """Ray's processes that the process with this id has started: the session in their arguments
    ends with it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            found += [
                entry.parent.name
                for word in words
                if word.endswith(f"_{pid}".encode()) and b"session_" in word
            ]
    return found


NODE_LOST = """
import os, threading, time
from ray.cluster_utils import Cluster
from decaylab.policies import loading as policies
from decaylab.rollouts.engine_spec import spec_of
from decaylab.options.measuring import Options
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.workers import Crew
from test_workers import SETTINGS, requests

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
student = policies.load("abacus-student", policies.LoadSettings(device="cpu"))
spec, asked = spec_of(student, Options(batch_rows=8, engine="transformers"), 200), requests(student, 100, tokens=120)
made = [None, None]
with Crew(2, cluster.address, device="cpu") as crew:
    homes = crew._ray.get([
        worker.__ray_call__.remote(lambda self: __import__("ray").get_runtime_context().get_node_id())
        for worker in crew._workers
    ])
    assert len(set(homes)) == 2, "one worker a machine"
    cluster.add_node(num_cpus=1)  # where the lost one's worker can go

    def work(place):
        made[place] = crew.sample(spec, asked, SETTINGS)[0]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    [one.start() for one in threads]
    time.sleep(2)
    assert made == [None, None], "both are at work"
    cluster.remove_node(other, allow_graceful=False)
    [one.join() for one in threads]
assert made[0] == made[1] == TransformersEngine(student, batch_rows=8).sample(asked, SETTINGS)
cluster.shutdown()
print("the same")
"""  # noqa: E501


@pytest.mark.slow
@pytest.mark.cluster
def test_a_machine_lost_from_the_cluster_changes_nothing() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{NODE_LOST}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=240
    )
    assert done.stdout.endswith("the same\n"), done.stderr


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_of_two_workers_killed_halfway_ends_as_one_of_one_process(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    running = start("prefix-decay", *WORK, "--out", folder, "--workers", 2)
    wait_for(folder / "parts")
    running.kill()
    running.communicate()
    assert not (folder / "measurements.parquet").exists()
    again = start("prefix-decay", *WORK, "--out", folder, "--workers", 2)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert "sequences were there already" in said
    assert results(folder) == alone


@pytest.mark.slow
@pytest.mark.cluster
def test_ctrl_c_ends_workers_and_run_in_one_line(alone: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = start("prefix-decay", *WORK, "--out", folder, "--workers", 2, "--quiet")
    wait_for(folder / "parts")
    assert ray_of(running.pid)
    running.send_signal(signal.SIGINT)
    out, said = running.communicate(timeout=90)
    assert (running.returncode, out) == (130, "")
    (line,) = said.splitlines()
    assert re.fullmatch(
        r"decaylab: interrupted; \d+ rollouts are kept in .*/run\. To resume: .*", line
    )
    assert not folder.joinpath("measurements.parquet").exists()
    end = time.monotonic() + 20
    while ray_of(running.pid) and time.monotonic() < end:
        time.sleep(0.2)
    assert not ray_of(running.pid)
    finished = start(
        "prefix-decay", *WORK, "--out", folder, "--quiet"
    )  # one process goes on with what two have left
    assert finished.communicate()[1] == ""
    assert results(folder) == alone


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="needs engine: vllm is not installed"
)
def test_two_workers_with_vllm_give_the_rows_of_one(tmp_path: Path) -> None:
    """The same rows in the same order; batches differ, so that a near-tie may turn and with it what
    follows."""
    tables = []
    for name, more in (("one", ()), ("two", ("--workers", 2))):
        made = start(
            "prefix-decay", *WORK, "--engine", "vllm", *more, "--out", tmp_path / name, "--quiet"
        )
        assert made.wait() == 0, made.communicate()
        tables.append(pq.read_table(tmp_path / name / "rollouts.parquet"))
    one, two = tables
    assert one.schema == two.schema
    first = one.filter(pc.equal(one["condition"], "student"))
    second = two.filter(pc.equal(two["condition"], "student"))
    assert first["rollout_id"].to_pylist() == second["rollout_id"].to_pylist()
    pairs = zip(first["response_ids"].to_pylist(), second["response_ids"].to_pylist(), strict=True)
    assert sum(a == b for a, b in pairs) >= 0.95 * len(first)
    curves = [pd.read_csv(tmp_path / name / "measurements.csv") for name in ("one", "two")]
    here, there = (
        frame[(frame.what == "accuracy") & (frame.condition == "student-prefix")]
        for frame in curves
    )
    assert list(here.prefix_tokens) == list(there.prefix_tokens)
    assert (np.maximum(here.low, there.low) <= np.minimum(here.high, there.high)).all(), (
        "the intervals meet"
    )
