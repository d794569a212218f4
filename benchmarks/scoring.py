"""Scoring against what one would write by hand: throughput, memory, and the losses of trl and
Liger.

    python benchmarks/scoring.py                 # every part; helpers/prepare_smollm2.py makes the
                                                 # model
    python benchmarks/scoring.py --part throughput --dtype bfloat16     # on a GPU: a CPU without
                                                 # 16-bit instructions is slow
    python benchmarks/scoring.py --toy           # the embedded pair: does it run at all?

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

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from timing import keep, measured, parser, peak_gib, reset_peak, seconds, show, surroundings
from torch import Tensor

from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.tokens.heads import HeadPrecision
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings


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
TOY = Work(model="abacus-student", rollouts=2, tokens=16, repeats=1)


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
        Rollout(str(i), *texts)
        for i, texts in enumerate(zip(prompts, prompts, responses, strict=True))
    ]


def batches_of(rollouts: Sequence[Rollout], policy: Policy, rows: int) -> list[Tensor]:
    """What a policy reads, [rows, time] each."""
    read = torch.tensor(
        [(rollout.student_prompt + rollout.response)[:-1] for rollout in rollouts],
        device=policy.weights.device,
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
        # both are held at once, as both sides that are compared hold them
        states = [policy.weights.base_model(input_ids=ids, use_cache=False) for policy in pair]
        del states


@torch.inference_mode()
def run_usual(pair: Sequence[Policy], batches: Sequence[Tensor]) -> None:
    for ids in batches:
        logits = [policy.weights(input_ids=ids, use_cache=False).logits.float() for policy in pair]
        logprobs = [column.log_softmax(-1) for column in logits]
        del logprobs


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
    median = {name: statistics.median(taken) for name, taken in times.items()}
    positions = work.rollouts * (work.tokens - 1)
    return {
        "bare_batch": rows,
        "bare_batch_tried": {str(tried): round(taken, 3) for tried, taken in rates.items()},
        "seconds": {name: [round(each, 3) for each in taken] for name, taken in times.items()},
        "tokens_per_second": {name: round(positions / taken, 1) for name, taken in median.items()},
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
    hidden = both[0].weights.base_model(input_ids=ids, use_cache=False).last_hidden_state
    student = hidden[:, work.prompt - 1 :].flatten(0, 1).clone()
    states = (
        student,
        student * 1.1,
    )  # a teacher that differs, so that sides which agree have computed something
    try:
        run = LOSSES[side](both, states, rollouts, work)
    except ImportError as error:
        return {"side": side, "skipped": str(error)}
    del hidden
    reset_peak()
    before = peak_gib()
    value = float(run())  # outside the clock: whatever is prepared once is prepared now
    times = [seconds(run) for _ in range(work.repeats)]
    return {
        "side": side,
        "seconds": [round(each, 3) for each in times],
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
    for head, state in zip(scorer.heads, states, strict=True):
        head.states = lambda *_, state=state: state

    def run() -> float:
        scored = scorer.score(rollouts)
        return statistics.fmean(float(rollout.columns["reverse_kl"].mean()) for rollout in scored)

    return run


def trl_loss(
    both: tuple[Policy, Policy], states: States, rollouts: list[Rollout], work: Work
) -> Run:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gkd import GKDTrainer

    heads = [policy.weights.get_output_embeddings() for policy in both]

    def run() -> Tensor:
        student, teacher = (head(state) for head, state in zip(heads, states, strict=True))
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


def measure_throughput(work: Work, toy: bool) -> dict[str, Any]:
    return measured(__file__, _job("throughput", "all", work), run_job, toy=toy)


def measure_memory(work: Work, toy: bool) -> dict[str, Any]:
    """extra: peak beyond that of the hidden states at the same batch, in GiB; ratio: of decaylab's
    over the usual way's."""
    sizes = [rows for rows in work.memory_rows if rows < work.rollouts] + [work.rollouts]
    largest = sizes[-1]
    jobs = [_job("memory", "usual", work, rows=largest)]
    for rows in sizes:
        jobs += [_job("memory", side, work, rows=rows) for side in ("hidden", "decaylab")]
    measured_rows = [measured(__file__, job, run_job, toy=toy) for job in jobs]
    peaks = {(row["side"], row["batch"]): row["peak_gib"] for row in measured_rows}
    extra = {rows: peaks["decaylab", rows] - peaks["hidden", rows] for rows in sizes}
    usual = peaks["usual", largest] - peaks["hidden", largest]
    by_batch = {f"decaylab, batch {rows}": round(gib, 3) for rows, gib in extra.items()}
    result = {"rows": measured_rows, "extra_gib": {"usual": round(usual, 3), **by_batch}}
    if not toy:  # peaks of one process say nothing of its sides
        result["ratio"] = round(extra[largest] / usual, 3)
    return result


def measure_losses(work: Work, toy: bool) -> dict[str, Any]:
    jobs = [_job("losses", side, work) for side in LOSSES]
    measured_rows = [measured(__file__, job, run_job, toy=toy) for job in jobs]
    values = [row["mean_reverse_kl"] for row in measured_rows if "mean_reverse_kl" in row]
    spread = max(values) / min(values) - 1
    if spread > (1e-3 if work.dtype == "float32" else 0.1):
        raise SystemExit(f"the sides do not agree on the mean reverse KL: {values}")
    return {"rows": measured_rows, "spread_of_mean_reverse_kl": spread}


MEASURES = {"throughput": measure_throughput, "memory": measure_memory, "losses": measure_losses}


def _job(part: str, side: str, work: Work, **more: Any) -> dict[str, Any]:
    return {"part": part, "side": side, "work": asdict(work), **more}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    work = Work(**job["work"])
    if job["part"] == "throughput":
        return throughput(work)
    if job["part"] == "memory":
        return memory(work, job["side"], job["rows"])
    return losses(work, job["side"])


def main(words: Sequence[str] | None = None) -> None:
    made = parser(
        __doc__, f"{TOY.rollouts} rollouts of {TOY.tokens} tokens of the embedded student"
    )
    made.add_argument("--part", choices=sorted(MEASURES), help="only this part")
    made.add_argument("--model", default=Work.model)
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default=Work.dtype)
    made.add_argument("--rollouts", type=int, help="of every part")
    made.add_argument("--tokens", type=int, help="of each rollout, in every part")
    made.add_argument("--prompt", type=int, default=Work.prompt, help="how many of those")
    made.add_argument("--repeats", type=int, default=Work.repeats)
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    shipped = Work(arguments.model, arguments.dtype, repeats=arguments.repeats)
    sized = replace(shipped, prompt=arguments.prompt)
    result = {}
    for part in (arguments.part,) if arguments.part else MEASURES:
        rollouts, tokens = SIZES[part]
        work = replace(
            sized, rollouts=arguments.rollouts or rollouts, tokens=arguments.tokens or tokens
        )
        if arguments.toy:
            work = TOY
        measurement = MEASURES[part](work, arguments.toy)
        result[part] = {"work": asdict(work), **surroundings(), **measurement}
        show(part, result[part])
    changed = (arguments.rollouts, arguments.tokens) != (None, None)
    changed = changed or arguments.model != Work.model or sized != shipped
    if not arguments.toy and not changed:  # results are of the sizes above alone
        device = "cuda" if torch.cuda.is_available() else "cpu"
        keep(f"scoring-{device}-{arguments.dtype}", result)


if __name__ == "__main__":
    main()
