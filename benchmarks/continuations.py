"""Continuations at several prefix lengths: decaylab's engine against the plain loop of
`model.generate`, in one run.

    python benchmarks/continuations.py --pair abacus      # 100 problems x 4 samples x 4 lengths,
                                                          # float32
    python benchmarks/continuations.py --pair smollm2     # 32 x 4 x 3, bfloat16;
                                                          # helpers/prepare_smollm2.py makes it
    python benchmarks/continuations.py --toy              # does it run at all?

The plain loop calls `generate` once for each prefix length and batch, with left padding and
explicit sampling settings, at the fastest of several batch sizes (chosen on one length, outside the
clock) and with either cache. Both sides continue the same student rollouts from the same policy at
the same temperature. Sampled lengths differ a little between the two, so the ratio is that of
seconds per token. Each side runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from timing import RESULTS, measured, parser, seconds

from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

SIDES = ("decaylab", "plain", "plain-static")


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


TOY = replace(WORK["abacus"], limit=2, samples=1, lengths=(0, 4), max_tokens=12, batch_sizes=(1, 2))


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
    requests = []
    for request, ids in zip(plain, content, strict=True):
        for k in work.lengths:
            if len(ids) >= k:
                stage = f"student-prefix/{k}"
                prefix, room = tuple(ids[:k]), work.max_tokens - k
                requests.append(
                    Request(
                        request.prompt_ids, prefix, room, stage, request.problem_id, request.sample
                    )
                )
    return requests


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


def one_side(side: str, work: Work, spec: str, folder: Path) -> dict[str, Any]:
    """Measures one side in this process: picks its batch size on one length, then times the whole
    once."""
    requests = requests_of(work, spec, folder)
    policy = loading.load(work.teacher, LoadSettings(dtype=work.dtype))
    torch.manual_seed(0)
    tokens = 0

    def run(some: list[Request], batch: int) -> None:
        nonlocal tokens
        if side == "decaylab":
            tokens = run_decaylab(policy, some, batch)
        else:
            cache = "static" if side == "plain-static" else None
            tokens = run_plain(policy, some, batch, cache)

    def rate(some: list[Request], batch: int) -> float:
        taken = seconds(partial(run, some, batch))
        return tokens / taken

    largest = max(work.batch_sizes)
    middle = [request for request in requests if len(request.prefix_ids) == work.lengths[1]]
    rates = {}
    if len(work.batch_sizes) > 1:
        rates = {batch: rate(middle[:largest], batch) for batch in work.batch_sizes}
        if side == "decaylab":  # its batches mix lengths, so that larger ones stay full
            rates[2 * largest] = rate(requests[: 2 * largest], 2 * largest)
    best = max(rates, key=rates.__getitem__) if rates else largest
    taken = seconds(partial(run, requests, best))
    return {
        "side": side,
        "batch": best,
        "sequences": len(requests),
        "tokens": tokens,
        "seconds": round(taken, 2),
        "tokens_per_second": round(tokens / taken, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    given = job["work"]
    for name in ("lengths", "batch_sizes"):
        given[name] = tuple(given[name])
    return one_side(job["side"], Work(**given), job["spec"], Path(job["folder"]))


def measure(
    work: Work, sides: Sequence[str], own_batch: int | None, spec: str, folder: Path, toy: bool
) -> dict[str, Any]:
    """Every side; ratios: decaylab over each of the others. own_batch: decaylab's only size."""
    folder.mkdir(parents=True, exist_ok=True)
    requests_of(work, spec, folder)  # the student's rollouts are written once, for all sides
    rows = []
    for side in sides:
        given = asdict(work)
        if side == "decaylab" and own_batch:
            given["batch_sizes"] = (own_batch,)
        job = {"side": side, "work": given, "spec": spec, "folder": str(folder)}
        rows.append(measured(__file__, job, run_job, toy=toy))
        print(rows[-1], flush=True)
    by_side = {row["side"]: row for row in rows}
    mine = by_side.pop("decaylab")
    ratios = {}
    for side, row in by_side.items():
        rates = row["tokens_per_second"] / mine["tokens_per_second"]
        peaks = mine["peak_memory_gib"] / row["peak_memory_gib"]
        ratios[side] = {"seconds_per_token": round(rates, 3), "peak_memory": round(peaks, 3)}
    return {
        "device": f"CPU, {os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "work": {**asdict(work), "batch_sizes": None},
        "rows": rows,
        "decaylab_over": ratios,
    }


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY.limit} problems of the embedded pair, {TOY.max_tokens} tokens")
    made.add_argument("--pair", choices=sorted(WORK), default="abacus")
    made.add_argument(
        "--gsm8k", default="gsm8k_test.jsonl", help="a local copy of GSM8K's test problems"
    )
    made.add_argument(
        "--sides", default=",".join(SIDES), help="with commas; decaylab must be among them"
    )
    made.add_argument(
        "--batches", help="batch sizes to choose from, with commas; one size skips the choice"
    )
    made.add_argument("--limit", type=int, help="fewer problems than the work as it is defined")
    made.add_argument("--samples", type=int)
    made.add_argument("--max-tokens", type=int)
    made.add_argument(
        "--dtype", help="another precision: 16 bits are slow on a CPU without their instructions"
    )
    made.add_argument(
        "--decaylab-batch", type=int, help="with one size in --batches: decaylab's own"
    )
    made.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench"),
        help="where the student rollouts are kept",
    )
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    sides = arguments.sides.split(",")
    if "decaylab" not in sides:
        made.error("--sides: decaylab must be among them")
    work, given = WORK[arguments.pair], vars(arguments)
    for name in ("limit", "samples", "max_tokens", "dtype"):
        if given[name] is not None:
            work = replace(work, **{name: given[name]})
    if arguments.batches:
        work = replace(work, batch_sizes=tuple(map(int, arguments.batches.split(","))))
    spec = work.problems.format(gsm8k=arguments.gsm8k)
    if arguments.toy:
        with tempfile.TemporaryDirectory() as folder:
            measure(TOY, sides, None, TOY.problems, Path(folder), True)
        return
    folder = arguments.folder / arguments.pair
    result = measure(work, sides, arguments.decaylab_batch, spec, folder, False)
    path = RESULTS / f"continuations-{arguments.pair}.json"
    path.write_text(json.dumps({"pair": arguments.pair, **result}, indent=1) + "\n")
    print(json.dumps(result["decaylab_over"]), path)


if __name__ == "__main__":
    main()
