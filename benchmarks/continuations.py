"""Continuations at several prefix lengths: decaylab's engine against the plain loop of
`model.generate`, in one run.

    python benchmarks/continuations.py --pair abacus      # 100 problems x 4 samples x 4 lengths,
    float32 python benchmarks/continuations.py --pair smollm2     # 32 x 4 x 3, bfloat16;
    helpers/prepare_smollm2.py makes the model

The plain loop calls `generate` once for each prefix length and batch, with left padding and
explicit sampling settings, at the fastest of several batch sizes (chosen on one length, outside the
clock) and with either cache. Both sides continue the same student rollouts from the same policy at
the same temperature. Sampled lengths differ a little between the two, so the ratio is that of
seconds per token. Each side runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Work:
    """What both sides do."""

    teacher: str
    student: str
    problems: str
    limit: int
    samples: int
    lengths: tuple[int, ...]
    max_tokens: int
    dtype: str
    batch_sizes: tuple[int, ...]


WORK = {
    "abacus": Work(
        "abacus-teacher",
        "abacus-student",
        "abacus",
        100,
        4,
        (0, 20, 40, 60),
        320,
        "float32",
        (50, 100, 200, 400),
    ),
    "smollm2": Work(
        "models/smollm2-135m-instruct",
        "models/smollm2-135m-instruct",
        "gsm8k:{gsm8k}",
        32,
        4,
        (0, 50, 100),
        256,
        "bfloat16",
        (32, 64, 128),
    ),
}


def requests_of(work: Work, problems_spec: str, folder: Path) -> list[Request]:
    """The continuations, from student rollouts that are made once and kept beside the results."""
    problem_set = load_problems(problems_spec, limit=work.limit)
    settings = LoadSettings(dtype=work.dtype)
    student = loading.load(work.student, settings)
    prompts = {
        p.problem_id: tuple(student.prompt_ids(p, problem_set.instruction))
        for p in problem_set.problems
    }
    plain = [
        Request(prompts[p.problem_id], (), max(work.lengths) + 1, "student", p.problem_id, sample)
        for p in problem_set.problems
        for sample in range(work.samples)
    ]
    cache = folder / "student.json"
    if cache.exists():
        written = json.loads(cache.read_text())
    else:
        written = [
            list(r.ids) for r in TransformersEngine(student).sample(plain, SamplingSettings())
        ]
        cache.write_text(json.dumps(written))
    content = [ids[:-1] if ids[-1] in student.end_ids else ids for ids in written]
    return [
        Request(
            one.prompt_ids,
            tuple(ids[:k]),
            work.max_tokens - k,
            f"student-prefix/{k}",
            one.problem_id,
            one.sample,
        )
        for one, ids in zip(plain, content, strict=True)
        for k in work.lengths
        if len(ids) >= k
    ]


def run_decaylab(policy: Policy, requests: list[Request], batch: int) -> int:
    engine = TransformersEngine(policy, batch_rows=batch)
    return sum(len(response.ids) for response in engine.sample(requests, SamplingSettings()))


def run_plain(policy: Policy, requests: list[Request], batch: int, cache: str | None) -> int:
    """One `generate` for each prefix length and batch; returns the tokens that a reader would
    keep."""
    tokenizer, model, tokens = policy.tokenizer, policy.model, 0
    tokenizer.padding_side = "left"
    for length in sorted({len(request.prefix_ids) for request in requests}):
        group = [request for request in requests if len(request.prefix_ids) == length]
        for start in range(0, len(group), batch):
            part = group[start : start + batch]
            encoded = tokenizer.pad(
                {"input_ids": [list(r.prompt_ids + r.prefix_ids) for r in part]},
                return_tensors="pt",
            )
            made = model.generate(
                **encoded,
                do_sample=True,
                temperature=0.7,
                top_k=0,
                top_p=1.0,
                max_new_tokens=part[0].max_new_tokens,
                eos_token_id=sorted(policy.end_ids),
                pad_token_id=policy.pad_id,
                **({"cache_implementation": cache} if cache else {}),
            )
            ends = torch.isin(
                made[:, encoded["input_ids"].shape[1] :], torch.tensor(sorted(policy.end_ids))
            )
            first = torch.where(ends.any(1), ends.float().argmax(1) + 1, ends.shape[1])
            tokens += int(first.sum())
    return tokens


def one_side(side: str, work: Work, spec: str, folder: Path) -> dict[str, float | int | str]:
    """Measures one side in this process: picks its batch size on one length, then times the whole
    once."""
    requests = requests_of(work, spec, folder)
    policy = loading.load(work.teacher, LoadSettings(dtype=work.dtype))
    torch.manual_seed(0)

    def run(some: list[Request], batch: int) -> int:
        if side == "decaylab":
            return run_decaylab(policy, some, batch)
        return run_plain(policy, some, batch, "static" if side == "plain-static" else None)

    middle = [request for request in requests if len(request.prefix_ids) == work.lengths[1]]
    rates = {}
    for batch in work.batch_sizes if len(work.batch_sizes) > 1 else ():
        started = time.perf_counter()
        rates[batch] = run(middle[: max(work.batch_sizes)], batch) / (time.perf_counter() - started)
    if side == "decaylab" and rates:  # its batches mix lengths, so that larger ones stay full
        started = time.perf_counter()
        larger = 2 * max(work.batch_sizes)
        rates[larger] = run(requests[:larger], larger) / (time.perf_counter() - started)
    best = max(rates, key=rates.__getitem__) if rates else work.batch_sizes[0]
    started = time.perf_counter()
    tokens = run(requests, best)
    seconds = time.perf_counter() - started
    return {
        "side": side,
        "batch": best,
        "sequences": len(requests),
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens / seconds, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", choices=sorted(WORK), default="abacus")
    parser.add_argument(
        "--gsm8k", default="gsm8k_test.jsonl", help="a local copy of GSM8K's test problems"
    )
    parser.add_argument(
        "--sides",
        default="decaylab,plain,plain-static",
        help="with commas; decaylab must be among them",
    )
    parser.add_argument(
        "--batches", help="batch sizes to choose from, with commas; one size skips the choice"
    )
    parser.add_argument("--limit", type=int, help="fewer problems than the work as it is defined")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument(
        "--dtype", help="another precision: 16 bits are slow on a CPU without their instructions"
    )
    parser.add_argument(
        "--decaylab-batch", type=int, help="with one size in --batches: decaylab's own"
    )
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench"),
        help="where the student rollouts are kept",
    )
    arguments = parser.parse_args()
    work = WORK[arguments.pair]
    if arguments.batches:
        work = replace(work, batch_sizes=tuple(int(size) for size in arguments.batches.split(",")))
    changed = {
        name: getattr(arguments, name) for name in ("limit", "samples", "max_tokens", "dtype")
    }
    changed = {name: value for name, value in changed.items() if value is not None}
    work = replace(work, **changed)
    spec = work.problems.format(gsm8k=arguments.gsm8k)
    folder = arguments.folder / arguments.pair
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.side:
        print(json.dumps(one_side(arguments.side, work, spec, folder)))
        return
    requests_of(work, spec, folder)
    rows = []
    for side in arguments.sides.split(","):
        command = [
            sys.executable,
            __file__,
            "--pair",
            arguments.pair,
            "--gsm8k",
            arguments.gsm8k,
            "--side",
            side,
        ]
        own = side == "decaylab" and arguments.decaylab_batch
        sizes = (arguments.decaylab_batch,) if own else work.batch_sizes
        command += ["--batches", ",".join(map(str, sizes)), "--folder", str(arguments.folder)]
        command += [
            word
            for name, value in changed.items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{side}: failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(rows[-1], flush=True)
    plain = {row["side"]: row for row in rows}
    ratios = {
        side: {
            "seconds_per_token": round(
                plain[side]["tokens_per_second"] / plain["decaylab"]["tokens_per_second"], 3
            ),
            "peak_memory": round(
                plain["decaylab"]["peak_memory_gib"] / plain[side]["peak_memory_gib"], 3
            ),
        }
        for side in plain
        if side != "decaylab"
    }
    result = {
        "pair": arguments.pair,
        "device": f"CPU, {os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
        "transformers": __import__("transformers").__version__,
        "work": {**asdict(work), "batch_sizes": None},
        "rows": rows,
        "decaylab_over": ratios,
    }
    path = ROOT / "results" / f"continuations-{arguments.pair}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios), path)


if __name__ == "__main__":
    main()
