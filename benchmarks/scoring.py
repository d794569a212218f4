"""Scoring against what one would write by hand: throughput, memory, and the losses of trl and
Liger.

    python benchmarks/scoring.py                                    # every part;
    helpers/prepare_smollm2.py makes the model python benchmarks/scoring.py --part throughput
    --dtype bfloat16     # on a GPU: a CPU without 16-bit instructions is slow python
    benchmarks/scoring.py --rollouts 2 --tokens 64 --repeats 1   # does it run at all?

    throughput   16 x 512 tokens, both roles, against two forward passes that give logits and
                 nothing else; in turns, in one process. The passes have the fastest of several
                 batch sizes; decaylab is as shipped.
    memory       8 x 1024 tokens: peak memory beyond two forward passes that give the last hidden
                 states, for decaylab and for the usual way (both logits in float32, two
                 log-softmaxes), which has yet to compute a divergence then
    losses       4 x 1024 tokens, from last hidden states to the reverse KL: decaylab (18 statistics
                 a token and both top 5), trl's generalized JSD loss (one number), Liger's (one
                 number, and its forward makes the gradients too)

Student and teacher are the same weights, loaded twice. Prompts are one token long, so that both
sides apply the head to every position that they read; longer prompts would be in decaylab's favour.
Tokens are random: no cost depends on them. Peaks and losses are of processes of their own. trl and
Liger are in benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.tokens.heads import HeadPrecision
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings

RESULTS = Path(__file__).resolve().parent / "results"
GIB = 2**30


@dataclass(frozen=True)
class Work:
    """What every side does. tokens: of each rollout, its prompt and its response; the last one is
    predicted, never read."""

    model: str = "models/smollm2-135m-instruct"
    dtype: str = "float32"
    rollouts: int = 16
    tokens: int = 512
    prompt: int = 1
    repeats: int = 3
    bare_rows: tuple[int, ...] = (1, 4, 16)
    memory_rows: tuple[int, ...] = (2, 4, 8)


SIZES = {"throughput": (16, 512), "memory": (8, 1024), "losses": (4, 1024)}


# What both benchmarks of scored tokens measure with


def reset_peak() -> None:
    """Peaks are counted from here on."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib() -> float:
    """Most memory that was in use: of the GPU's where there is one, else `resident_peak_gib`."""
    return (
        torch.cuda.max_memory_allocated() / GIB
        if torch.cuda.is_available()
        else resident_peak_gib()
    )


def resident_peak_gib() -> float:
    """Most memory that was resident. Not by getrusage, which begins at the peak of the process that
    started this one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / GIB


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes, with all that it started on a GPU."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - started


def surroundings() -> dict[str, Any]:
    """Where it ran. load: processes that wanted a core in the minute before."""
    cores = f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cores,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }


def in_own_process(script: str, job: dict[str, Any]) -> dict[str, Any]:
    """What a job, handed to a script as ``--job``, prints last; ``failed`` where it gets no
    further."""
    done = subprocess.run(
        [sys.executable, script, "--job", json.dumps(job)], capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {
            "side": job["side"],
            "failed": lines[-1] if lines else f"exit code {done.returncode}",
        }
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def keep(name: str, result: dict[str, Any]) -> None:
    """Writes a result; parts that an earlier run wrote into it and this one did not make stay."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    earlier = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**earlier, **result}, indent=1) + "\n")
    print(path)


# The sides


def pair(work: Work) -> tuple[Policy, Policy]:
    settings = LoadSettings(dtype=work.dtype)
    return loading.load(work.model, settings), loading.load(work.model, settings)


def rollouts_of(work: Work, policy: Policy) -> list[Rollout]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        len(policy.tokenizer), (work.rollouts, work.tokens), generator=generator
    ).tolist()
    prompts, responses = (
        [tuple(row[part]) for row in ids] for part in (slice(work.prompt), slice(work.prompt, None))
    )
    return [
        Rollout(str(i), *one) for i, one in enumerate(zip(prompts, prompts, responses, strict=True))
    ]


def batches_of(rollouts: Sequence[Rollout], policy: Policy, rows: int) -> list[Tensor]:
    """What a policy reads, [rows, time] each."""
    read = torch.tensor(
        [(one.student_prompt + one.response)[:-1] for one in rollouts], device=policy.weights.device
    )
    return list(read.split(rows))


@torch.inference_mode()
def run_bare(pair: Sequence[Policy], batches: Sequence[Tensor]) -> None:
    for ids in batches:
        for policy in pair:
            policy.weights(input_ids=ids, use_cache=False).logits  # noqa: B018


@torch.inference_mode()
def run_hidden(pair: Sequence[Policy], batches: Sequence[Tensor]) -> None:
    for ids in batches:
        [
            policy.weights.base_model(input_ids=ids, use_cache=False).last_hidden_state
            for policy in pair
        ]


@torch.inference_mode()
def run_usual(pair: Sequence[Policy], batches: Sequence[Tensor]) -> None:
    for ids in batches:
        logits = [policy.weights(input_ids=ids, use_cache=False).logits.float() for policy in pair]
        [one.log_softmax(-1) for one in logits]


def throughput(work: Work) -> dict[str, Any]:
    """Seconds of each side, run in turns; ratio: tokens per second of decaylab over those of the
    bare passes."""
    both = pair(work)
    rollouts = rollouts_of(work, both[0])
    choices = {
        rows: batches_of(rollouts, both[0], rows)
        for rows in work.bare_rows
        if rows <= work.rollouts
    }
    run_bare(both, choices[min(choices)][:1])
    rates = {
        rows: seconds(partial(run_bare, both[:1], batches)) for rows, batches in choices.items()
    }
    rows = min(rates, key=rates.__getitem__)
    heads: tuple[HeadPrecision, ...] = (
        ("model",) if work.dtype == "float32" else ("model", "float32")
    )
    scorers = {
        f"decaylab, head {head}": Scorer(*both, ScoringSettings(head=head)) for head in heads
    }
    sides: dict[str, Callable[[], Any]] = {"bare": partial(run_bare, both, choices[rows])}
    sides |= {name: partial(scorer.score, rollouts) for name, scorer in scorers.items()}
    for scorer in scorers.values():
        scorer.score(rollouts[:1])
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(work.repeats):
        for name, run in sides.items():
            times[name].append(seconds(run))
    median = {name: statistics.median(found) for name, found in times.items()}
    positions = work.rollouts * (work.tokens - 1)
    return {
        "bare_batch": rows,
        "bare_batch_tried": {str(tried): round(found, 3) for tried, found in rates.items()},
        "seconds": {name: [round(one, 3) for one in found] for name, found in times.items()},
        "tokens_per_second": {name: round(positions / found, 1) for name, found in median.items()},
        "ratio": {name: round(median["bare"] / median[name], 3) for name in scorers},
    }


def memory(work: Work, side: str, rows: int) -> dict[str, Any]:
    """Peak of one side in this process, at so many rollouts a batch."""
    both = pair(work)
    rollouts = rollouts_of(work, both[0])
    batches = batches_of(rollouts, both[0], rows)
    scorer = Scorer(*both, ScoringSettings(batch_tokens=rows * work.tokens))
    runs: dict[str, Callable[[], Any]] = {
        "hidden": partial(run_hidden, both, batches),
        "usual": partial(run_usual, both, batches),
        "decaylab": partial(scorer.score, rollouts),
    }
    reset_peak()
    runs[side]()
    return {"side": side, "batch": rows, "peak_gib": round(peak_gib(), 3)}


@torch.no_grad()
def losses(work: Work, side: str) -> dict[str, Any]:
    """Time and peak of one side in this process, from the same hidden states."""
    both = pair(work)
    rollouts = rollouts_of(work, both[0])
    (ids,) = batches_of(rollouts, both[0], work.rollouts)
    found = both[0].weights.base_model(input_ids=ids, use_cache=False).last_hidden_state
    student = found[:, work.prompt - 1 :].flatten(0, 1).clone()
    states = (
        student,
        student * 1.1,
    )  # a teacher that differs, so that sides which agree have computed something
    try:
        run = LOSSES[side](both, states, rollouts, work)
    except ImportError as error:
        return {"side": side, "skipped": str(error)}
    del found
    reset_peak()
    before = peak_gib()
    value = float(run())  # outside the clock: whatever is prepared once is prepared now
    times = [seconds(run) for _ in range(work.repeats)]
    return {
        "side": side,
        "seconds": [round(one, 3) for one in times],
        "median_seconds": round(statistics.median(times), 3),
        "extra_peak_gib": round(peak_gib() - before, 3),
        "mean_reverse_kl": value,
    }


Run = Callable[[], Any]
States = tuple[Tensor, Tensor]


def decaylab_loss(
    both: tuple[Policy, Policy], states: States, rollouts: list[Rollout], work: Work
) -> Run:
    scorer = Scorer(*both, ScoringSettings(batch_tokens=work.rollouts * work.tokens))
    for head, own in zip(scorer.heads, states, strict=True):
        head.states = lambda *_, own=own: own

    def run() -> float:
        scored = scorer.score(rollouts)
        return statistics.fmean(float(one.columns["reverse_kl"].mean()) for one in scored)

    return run


def trl_loss(
    both: tuple[Policy, Policy], states: States, rollouts: list[Rollout], work: Work
) -> Run:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gkd import GKDTrainer

    heads = [policy.weights.get_output_embeddings() for policy in both]

    def run() -> Tensor:
        student, teacher = (head(own) for head, own in zip(heads, states, strict=True))
        return GKDTrainer.generalized_jsd_loss(student, teacher, beta=1.0)

    return run


def liger_loss(
    both: tuple[Policy, Policy], states: States, rollouts: list[Rollout], work: Work
) -> Run:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    # compiled is Liger's default, and needs Triton
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=1.0, compiled=torch.cuda.is_available()
    )
    weights = [policy.weights.get_output_embeddings().weight for policy in both]
    labels = torch.zeros(len(states[0]), dtype=torch.long, device=states[0].device)
    return lambda: loss(states[0], weights[0], states[1], weights[1], labels)


LOSSES = {"decaylab": decaylab_loss, "trl": trl_loss, "liger": liger_loss}


# All of it


def measure_throughput(work: Work) -> dict[str, Any]:
    return in_own_process(__file__, {"part": "throughput", "side": "all", "work": asdict(work)})


def measure_memory(work: Work) -> dict[str, Any]:
    """extra: peak beyond that of the hidden states at the same batch, in GiB; ratio: of decaylab's
    over the usual way's."""
    sizes = [rows for rows in work.memory_rows if rows < work.rollouts] + [work.rollouts]
    asked = [
        ("usual", sizes[-1]),
        *((side, rows) for rows in sizes for side in ("hidden", "decaylab")),
    ]
    found = [
        in_own_process(__file__, {"part": "memory", "side": s, "rows": r, "work": asdict(work)})
        for s, r in asked
    ]
    if any("failed" in one for one in found):
        return {"rows": found}
    peaks = {(one["side"], one["batch"]): one["peak_gib"] for one in found}
    extra = {rows: peaks["decaylab", rows] - peaks["hidden", rows] for rows in sizes}
    usual = peaks["usual", sizes[-1]] - peaks["hidden", sizes[-1]]
    return {
        "rows": found,
        "extra_gib": {
            "usual": round(usual, 3),
            **{f"decaylab, batch {r}": round(x, 3) for r, x in extra.items()},
        },
        "ratio": round(extra[sizes[-1]] / usual, 3),
    }


def measure_losses(work: Work) -> dict[str, Any]:
    found = [
        in_own_process(__file__, {"part": "losses", "side": side, "work": asdict(work)})
        for side in LOSSES
    ]
    values = [one["mean_reverse_kl"] for one in found if "mean_reverse_kl" in one]
    spread = max(values) / min(values) - 1 if values else float("nan")
    if spread > (1e-3 if work.dtype == "float32" else 0.1):
        raise SystemExit(f"the sides do not agree on the mean reverse KL: {values}")
    return {"rows": found, "spread_of_mean_reverse_kl": spread}


MEASURES = {"throughput": measure_throughput, "memory": measure_memory, "losses": measure_losses}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    work = Work(**job["work"])
    if job["part"] == "throughput":
        return throughput(work)
    return (
        memory(work, job["side"], job["rows"])
        if job["part"] == "memory"
        else losses(work, job["side"])
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=sorted(MEASURES), help="one of them alone")
    parser.add_argument("--model", default=Work.model)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=Work.dtype)
    parser.add_argument("--rollouts", type=int, help="of every part")
    parser.add_argument("--tokens", type=int, help="of each rollout, in every part")
    parser.add_argument("--prompt", type=int, help="how many of those are the prompt")
    parser.add_argument("--repeats", type=int, default=Work.repeats)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    changed = any(
        (arguments.rollouts, arguments.tokens, arguments.prompt, arguments.model != Work.model)
    )
    prompt = arguments.prompt or Work.prompt
    work = Work(arguments.model, arguments.dtype, prompt=prompt, repeats=arguments.repeats)
    result = {}
    for part in (arguments.part,) if arguments.part else MEASURES:
        rollouts, tokens = SIZES[part]
        one = replace(
            work, rollouts=arguments.rollouts or rollouts, tokens=arguments.tokens or tokens
        )
        result[part] = {"work": asdict(one), **surroundings(), **MEASURES[part](one)}
        print(part, json.dumps(result[part], indent=1), flush=True)
    if not changed:  # results are of the sizes above alone
        device = "cuda" if torch.cuda.is_available() else "cpu"
        keep(f"scoring-{device}-{arguments.dtype}", result)


if __name__ == "__main__":
    main()
