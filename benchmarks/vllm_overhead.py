"""What decaylab adds to vLLM: the same continuations through `VllmEngine.sample` and through vLLM's
own `generate`, in one run.

    python benchmarks/vllm_overhead.py                    # the embedded pair: 100 problems x 4
                                                          # lengths, float32
    python benchmarks/vllm_overhead.py --pair smollm2     # 16 x 3, bfloat16;
                                                          # helpers/prepare_smollm2.py makes it
    python benchmarks/vllm_overhead.py --toy              # does it run at all?

Both sides use one engine and the same arguments, prompts, sampling parameters and per-request
seeds; raw vLLM is handed the requests in the order in which they were made, decaylab sorts them by
prompt and prefix as it always does. Each repetition runs the sides in turn, in changing order and
with an empty prefix cache. The ratio is that of the medians of seconds, and the tokens of both
sides are compared. transformers writes the same requests once more (--with-transformers), for
scale.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from timing import keep, parser

from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine, request_seed
from decaylab.rollouts.vllm_setup import PARAMETERS, VllmSettings

SETTINGS = SamplingSettings(0.7)
PAIRS: dict[str, dict[str, Any]] = {
    "abacus": {
        "teacher": "abacus-teacher",
        "student": "abacus-student",
        "problems": 100,
        "lengths": (0, 20, 40, 60),
        "max_tokens": 320,
        "dtype": "float32",
    },
    "smollm2": {
        "teacher": "models/smollm2-135m-instruct",
        "student": "models/smollm2-135m-instruct",
        "problems": 16,
        "lengths": (0, 32, 64),
        "max_tokens": 128,
        "dtype": "bfloat16",
    },
}
TOY = {**PAIRS["abacus"], "problems": 2, "lengths": (0, 4), "max_tokens": 12}


def requests_of(work: dict[str, Any], student: Policy) -> list[Request]:
    """Continuations behind the student's own rollouts; those that ended before a length are left
    out there."""
    problem_set = load_problems("abacus", limit=work["problems"])
    plain = [
        Request(
            tuple(student.prompt_ids(problem, problem_set.instruction)),
            (),
            max(work["lengths"]) + 1,
            "student",
            problem.problem_id,
            0,
        )
        for problem in problem_set.problems
    ]
    written = [
        response.ids[:-1] if response.stop_reason == "eos" else response.ids
        for response in TransformersEngine(student).sample(plain, SETTINGS)
    ]
    requests = []
    for length in work["lengths"]:
        room, stage = work["max_tokens"] - length, f"prefix/{length}"
        for request, ids in zip(plain, written, strict=True):
            if len(ids) >= length:
                prompt, prefix = request.prompt_ids, ids[:length]
                requests.append(Request(prompt, prefix, room, stage, request.problem_id, 0))
    return requests


def raw(engine: VllmEngine, requests: list[Request]) -> list[tuple[int, ...]]:
    """What somebody would write who has only vLLM."""
    from vllm import SamplingParams

    ends = sorted(engine.policy.end_ids)
    parameters = [
        SamplingParams(
            **{
                **PARAMETERS,
                "temperature": SETTINGS.temperature,
                "stop_token_ids": ends,
                "max_tokens": request.max_new_tokens,
                "seed": request_seed(SETTINGS.seed, request),
            }
        )
        for request in requests
    ]
    prompts = [
        {"prompt_token_ids": list(request.prompt_ids + request.prefix_ids)} for request in requests
    ]
    return [
        tuple(output.outputs[0].token_ids)
        for output in engine._llm.generate(prompts, parameters, use_tqdm=False)
    ]


def ours(engine: VllmEngine, requests: list[Request]) -> list[tuple[int, ...]]:
    progress: list[int] = []
    return [
        one.ids
        for one in engine.sample(
            requests, SETTINGS, lambda tokens, finished: progress.append(tokens)
        )
    ]


def measure(
    work: dict[str, Any], repetitions: int, with_transformers: bool, device: str
) -> dict[str, Any]:
    host = LoadSettings(dtype=work["dtype"], device=device)
    requests = requests_of(work, loading.load(work["student"], host))
    sides = {"decaylab": ours, "vllm": raw}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    tokens: dict[str, list[tuple[int, ...]]] = {}
    settings = VllmSettings(cache_gib=1, max_model_len=512)
    with VllmEngine(served_policies.serve(work["teacher"], host), settings) as engine:
        ours(engine, requests[:16])  # what is slow only once
        for repetition in range(repetitions):
            for name in sorted(sides, reverse=bool(repetition % 2)):
                engine._llm.reset_prefix_cache()
                started = time.perf_counter()
                tokens[name] = sides[name](engine, requests)
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    written = {name: sum(map(len, ids)) for name, ids in tokens.items()}
    result = {
        "work": {**work, "sequences": len(requests), "repetitions": repetitions},
        "seconds": {name: [round(each, 3) for each in values] for name, values in seconds.items()},
        "tokens": written,
        "tokens_per_second": {name: round(written[name] / medians[name], 1) for name in sides},
        "identical_responses": sum(a == b for a, b in zip(*tokens.values(), strict=True)),
        "decaylab_over_vllm": round(medians["decaylab"] / medians["vllm"], 3),
    }
    if with_transformers:
        policy = loading.load(work["teacher"], host)
        started = time.perf_counter()
        made = sum(
            len(response.ids) for response in TransformersEngine(policy).sample(requests, SETTINGS)
        )
        rate = made / (time.perf_counter() - started)
        result["tokens_per_second"]["transformers engine"] = round(rate, 1)
    return result


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, "2 problems of the embedded pair")
    made.add_argument("--pair", choices=sorted(PAIRS), default="abacus")
    made.add_argument("--repetitions", type=int, default=5)
    made.add_argument("--with-transformers", action="store_true")
    made.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = made.parse_args(words)
    import vllm

    work, repetitions = PAIRS[arguments.pair], arguments.repetitions
    if arguments.toy:
        work, repetitions = TOY, 1
    result = measure(work, repetitions, arguments.with_transformers, arguments.device)
    print(f"{'side':22} {'seconds, median':>16} {'tokens/s':>10}")
    for name, rate in result["tokens_per_second"].items():
        times = result["seconds"].get(name)
        median = statistics.median(times) if times else float("nan")
        print(f"{name:22} {median:16.2f} {rate:10.0f}")
    print(f"decaylab over vLLM: {result['decaylab_over_vllm']} of the seconds")
    if arguments.toy:
        return
    device = f"CPU, {os.cpu_count()} cores"
    if arguments.device == "cuda":
        device = torch.cuda.get_device_name(0)
    around = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "device": device,
        "load": round(os.getloadavg()[0], 2),
    }
    keep(f"vllm-{arguments.device}", {arguments.pair: {**around, **result}})


if __name__ == "__main__":
    main()
