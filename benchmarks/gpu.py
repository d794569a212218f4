"""Throughput and memory of the whole commands on one GPU, by each engine that is installed; `make
bench-gpu` runs all of it.

    python benchmarks/gpu.py                                      # the embedded pair
    python benchmarks/gpu.py --student FOLDER --teacher FOLDER --problems math500:FILE \\
        --train-problems FILE.jsonl
    python benchmarks/gpu.py --device cpu --limit 40 --steps 5    # the same without a GPU
    python benchmarks/gpu.py --toy                                # on the CPU: does it run at all?

Each command runs in a process of its own. Tokens a second are those that were written over the
seconds of the whole command, loading and grading included. Memory is the most that was in use on
the GPU (all that the driver counts; vLLM's cache takes what --gpu-memory-share gives it); on a CPU,
what was resident. decaylab's part of vLLM's time: benchmarks/vllm_overhead.py.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, measured, parser

POLL_SECONDS = 0.05
TOY = {"device": "cpu", "dtype": "float32", "limit": 2, "steps": 2}


@contextmanager
def peak_gib(on_gpu: bool) -> Iterator[dict[str, float]]:
    """The most memory that was in use while the block ran, under ``gib``, filled in when it
    ends."""
    peak: dict[str, float] = {"gib": 0.0}
    if not on_gpu:
        yield peak
        peak["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            free, whole = torch.cuda.mem_get_info()
            peak["gib"] = max(peak["gib"], (whole - free) / 2**30)
            time.sleep(POLL_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def decay(asked: dict[str, Any], engine: str, on_gpu: bool) -> dict[str, Any]:
    """`decaylab prefix-decay`, whole."""
    from decaylab.commands.prefix_decay import prefix_decay
    from decaylab.options.measuring import Options
    from decaylab.runs import store

    pair = {
        name: asked[name] for name in ("teacher", "student", "problems", "device", "dtype", "limit")
    }
    with tempfile.TemporaryDirectory() as folder, peak_gib(on_gpu) as peak:
        started = time.perf_counter()
        result = prefix_decay(Options(engine=engine, out=f"{folder}/run", **pair))
        seconds = time.perf_counter() - started
        rollouts = store.RunFolder(result.folder).read_rollouts()
    written = sum(map(len, rollouts["response_ids"].to_pylist()))
    curve = result.measurements.query(
        "what == 'accuracy' and condition in ('teacher', 'student-prefix')"
    )
    return {
        "seconds": round(seconds, 2),
        "tokens": written,
        "tokens_per_second": round(written / seconds, 1),
        "peak_gib": round(peak["gib"], 3),
        "accuracy": curve[["condition", "prefix_tokens", "value", "low", "high"]]
        .drop_duplicates()
        .round(4)
        .to_dict("records"),
    }


def training(asked: dict[str, Any], engine: str, on_gpu: bool) -> dict[str, Any]:
    """`decaylab train`, ESR: medians over the steps behind the first."""
    from decaylab.options.training import TrainOptions
    from decaylab.trainer.loop import train

    pair = {name: asked[name] for name in ("teacher", "student", "device", "dtype", "steps")}
    problems = (
        {"problems": asked["train_problems"], "test_problems": "none"}
        if asked["train_problems"]
        else {}
    )
    with tempfile.TemporaryDirectory() as folder, peak_gib(on_gpu) as peak:
        result = train(
            TrainOptions(
                engine=engine, out=f"{folder}/run", validation_problems=0, **pair, **problems
            )
        )
    steps = result.metrics.iloc[1:]
    seconds = {name: round(float(steps[name].median()), 4) for name in steps if "seconds" in name}
    sampled = float(steps["tokens_sampled"].median())
    return {
        "steps": len(steps),
        **seconds,
        "tokens_sampled": sampled,
        "peak_gib": round(peak["gib"], 3),
    }


PARTS = {"decay": decay, "training": training}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """One command in this process."""
    asked = job["asked"]
    return PARTS[job["part"]](asked, job["engine"], asked["device"].startswith("cuda"))


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY['limit']} problems, {TOY['steps']} steps, on the CPU")
    for name in ("teacher", "student", "problems", "train-problems"):
        made.add_argument(f"--{name}")
    made.add_argument("--device", default="cuda")
    made.add_argument("--dtype", default="auto")
    made.add_argument("--limit", type=int)
    made.add_argument("--steps", type=int, default=20)
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    asked = {name: value for name, value in vars(arguments).items() if name not in ("job", "toy")}
    if arguments.toy:
        asked |= TOY
    on_gpu = asked["device"].startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        made.error("no CUDA device is here; --device cpu runs the same on the CPU")
    device = torch.cuda.get_device_name(0) if on_gpu else "CPU"
    engines = ["transformers"]
    if importlib.util.find_spec("vllm") and not arguments.toy:
        engines.append("vllm")
    result: dict[str, Any] = {"device": device, "torch": torch.__version__, "asked": asked}
    for part in PARTS:
        result[part] = {}
        for engine in engines:
            job = {"asked": asked, "part": part, "engine": engine}
            row = measured(__file__, job, run_job, toy=arguments.toy)
            result[part][engine] = row
            print(part, engine, {k: v for k, v in row.items() if k != "accuracy"}, flush=True)
    if arguments.toy:
        return
    name = Path(str(arguments.student or "abacus")).name
    path = RESULTS / f"commands-{device.lower().replace(' ', '-')}-{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
