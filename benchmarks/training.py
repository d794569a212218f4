"""A training step against TRL's `DistillationTrainer`, ESR against full rollouts, and the loss
against Liger's and others.

    python benchmarks/training.py           # every part; helpers/prepare_smollm2.py makes the model
    python benchmarks/training.py --part peers --pair abacus --tokens 100
    python benchmarks/training.py --part peers --pair smollm2 --tokens 100 --sides trl --steps 2
    python benchmarks/training.py --toy     # the embedded pair: does it run at all?

    peers     16 problems x 1 rollout of 100 and of 512 tokens (SmolLM2-135M, student and teacher
              the same weights loaded twice), of 100 and of 320 (the embedded pair): seconds a step,
              and peak memory
    lengths   decaylab alone: ESR at 100 tokens against full rollouts of 512, and on the embedded
              pair at 20 against whatever length they come to: seconds a step over those of full
              rollouts, beside the same ratio of generated tokens
    loss      2,048 positions at a vocabulary of 151,936, from hidden states to the gradient in
              them: decaylab's chunked loss, the naive one on whole logits, Liger's fused JSD, TRL's
              own chunked divergence; all are the reverse KL

In ``peers`` both sides ask the same prompts (abacus training problems through the student's
template), sample at temperature 1 from the whole distribution, write exactly so many tokens a
rollout (both are told that no token ends a turn), and train the same LoRA (r 32, alpha 64, all
linear layers) by the reverse KL with AdamW at the same rate, one update a step, decaylab in
micro-batches of its own size. TRL generates with transformers; its beta of 1 is the reverse KL.
Gradients are not checkpointed, unless --checkpointing asks it of both. Seconds are medians of the
steps behind the first one. Every side is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from timing import (
    keep,
    measured,
    parser,
    peak_gib,
    reset_peak,
    seconds,
    show,
    surroundings,
    synchronize,
)
from torch import Tensor

from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings
from decaylab.problems.sets import load_problems

PROBLEMS = "abacus-train"
PAIRS = {
    "smollm2": ("models/smollm2-135m-instruct", "models/smollm2-135m-instruct"),
    "abacus": ("abacus-student", "abacus-teacher"),
}
PEERS = {("smollm2", 100): 16, ("smollm2", 512): 4, ("abacus", 100): 16, ("abacus", 320): 16}
"""Pair and tokens a rollout -> rollouts of a micro-batch of TRL's; decaylab's are those that it
ships with."""
LENGTHS = {"smollm2": (100, 512, False), "abacus": (20, 320, True)}
"""Pair -> tokens of a rollout under ESR, of a full one, and whether both end where they end."""
SIDES = ("decaylab", "trl")
NO_TOKEN = -1


@dataclass(frozen=True)
class Work:
    """What a side does. micro_batch: rollouts of one; None is decaylab as shipped. natural:
    rollouts end where they end."""

    pair: str
    tokens: int
    rollouts: int = 16
    micro_batch: int | None = 16
    steps: int = 4
    dtype: str = "float32"
    learning_rate: float = 5e-5
    checkpointing: bool = False
    natural: bool = False


@dataclass(frozen=True)
class LossWork:
    """The head of Qwen2.5-0.5B."""

    positions: int = 2048
    vocab: int = 151_936
    width: int = 896
    repeats: int = 3


TOY = Work("abacus", tokens=6, rollouts=2, micro_batch=1, steps=2)
TOY_LOSS = LossWork(positions=16, vocab=64, width=8, repeats=1)


class Steps:
    """The clock of a side: seconds of each step, and the peak of those behind the first.

    core_seconds: those that the cores were at work for it, all threads together; other work beside
    it moves them less.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.core_seconds: list[float] = []
        self.begin()

    def begin(self) -> None:
        self.last = time.perf_counter(), time.process_time()

    def end(self) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self.last[0])
        self.core_seconds.append(time.process_time() - self.last[1])
        if len(self.seconds) == 1:
            reset_peak()
        self.begin()

    def result(self, **more: Any) -> dict[str, Any]:
        return {
            "seconds": [round(step, 3) for step in self.seconds],
            "core_seconds": [round(step, 3) for step in self.core_seconds],
            "seconds_a_step": round(statistics.median(self.seconds[1:]), 3),
            "peak_gib": round(peak_gib(), 3),
            **more,
        }


# decaylab


def decaylab_steps(work: Work) -> dict[str, Any]:
    """Steps of `decaylab train`, without its validation and checkpoints."""
    from decaylab.problems.grading import Grader
    from decaylab.progress import Reporter
    from decaylab.runs.store import RunFolder
    from decaylab.trainer.loop import Run
    from decaylab.trainer.machinery.adapters import Trainable
    from decaylab.trainer.machinery.engines import training_engines
    from decaylab.trainer.machinery.processes import Processes
    from decaylab.trainer.machinery.setup import prepare_training

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        grader = stack.enter_context(Grader(workers=1))
        reporter = Reporter(quiet=True)
        options = train_options(work, folder)
        processes = Processes(options)
        setup = prepare_training(options, grader)
        prompts = list(setup.pair.prompts["student"].values())
        if not work.natural:
            setup.student.end_ids = frozenset({NO_TOKEN})
        trained = Trainable(setup.student, options)
        engines = training_engines(setup, trained, processes, reporter, stack)
        place = RunFolder(Path(folder))
        run = Run(setup, trained, engines, place, processes, grader, reporter)
        run.meter._reset_peak = lambda: None  # the peak is that of whole steps here
        clock, rows = Steps(), []
        for step in range(1, work.steps + 1):
            clock.begin()
            rows.append(run.step(step)[0])
            clock.end()
    if not work.natural:
        _check_tokens([row["tokens_sampled"] for row in rows], work)
    phases = {
        phase: round(statistics.median([row[f"{phase}_seconds"] for row in rows[1:]]), 3)
        for phase in ("generation", "scoring", "training")
    }
    return clock.result(
        phases=phases,
        tokens_a_step=statistics.median([row["tokens_sampled"] for row in rows[1:]]),
        loss=[row["loss"] for row in rows],
        **_of_prompts(prompts),
    )


def train_options(work: Work, folder: str) -> Any:
    from decaylab.options.training import TrainOptions

    student, teacher = PAIRS[work.pair]
    options = TrainOptions(
        student=student,
        teacher=teacher,
        problems=PROBLEMS,
        limit=work.rollouts,
        test_problems="none",
        validation_problems=0,
        steps=work.steps,
        problems_per_step=work.rollouts,
        rollout_length=str(work.tokens),
        max_tokens=work.tokens,
        temperature=1.0,
        dtype=work.dtype,
        learning_rate=work.learning_rate,
        gradient_checkpointing=work.checkpointing,
        out=folder,
    )
    if work.micro_batch is not None:
        longest = max(len(ids) for ids in prompt_ids(work)) + work.tokens
        options = replace(options, batch_tokens=work.micro_batch * longest)
    return options.resolved()


def prompt_ids(work: Work) -> list[list[int]]:
    policy = loading.load_tokenizer_only(str(loading.resolve(PAIRS[work.pair][0])))
    asked = load_problems(PROBLEMS, limit=work.rollouts)
    return [policy.prompt_ids(problem, asked.instruction) for problem in asked.problems]


def _check_tokens(written: Sequence[float], work: Work) -> None:
    wanted = work.rollouts * work.tokens
    if any(tokens != wanted for tokens in written):
        raise SystemExit(f"{wanted} tokens a step were asked for, and {list(written)} written")


def _of_prompts(prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    lengths = [len(ids) for ids in prompts]
    digest = hashlib.sha256(json.dumps(sorted(list(ids) for ids in prompts)).encode()).hexdigest()[
        :12
    ]
    return {
        "prompt_tokens": [min(lengths), round(statistics.fmean(lengths), 1), max(lengths)],
        "prompts": digest,
    }


# TRL


def trl_steps(work: Work) -> dict[str, Any]:
    """Steps of TRL's DistillationTrainer, and where their seconds go."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DistillationConfig, DistillationTrainer

    student, teacher = (
        loading.load(name, LoadSettings(dtype=work.dtype)) for name in PAIRS[work.pair]
    )
    student.tokenizer.padding_side = "left"
    asked = load_problems(PROBLEMS, limit=work.rollouts)
    texts = [
        f"{problem.question}\n{asked.instruction}" if asked.instruction else problem.question
        for problem in asked.problems
    ]
    prompts = [[{"role": "user", "content": text}] for text in texts]
    micro_batch = work.micro_batch or work.rollouts
    clock, phases = Steps(), Phases()

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()
            phases.next_step()

    with tempfile.TemporaryDirectory() as folder:
        config = DistillationConfig(
            output_dir=folder,
            beta=1.0,
            temperature=1.0,
            max_completion_length=work.tokens,
            generation_kwargs={"eos_token_id": NO_TOKEN},
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=work.rollouts // micro_batch,
            max_steps=work.steps,
            learning_rate=work.learning_rate,
            lr_scheduler_type="constant",
            gradient_checkpointing=work.checkpointing,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = DistillationTrainer(
            model=student.weights,
            teacher_model=teacher.weights,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=student.tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=32,
                lora_alpha=64,
                target_modules="all-linear",
                lora_dropout=0.0,
            ),
            callbacks=[Clock()],
        )
        trainer.eos_token_ids = [NO_TOKEN]
        phases.watch(trainer)
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "completions/mean_length" in entry]
    lengths = [
        entry[f"completions/{which}_length"] for entry in history for which in ("min", "max")
    ]
    _check_tokens([length * work.rollouts for length in lengths], work)
    return clock.result(
        phases=phases.medians(),
        tokens_a_step=work.rollouts * work.tokens,
        loss=[entry["loss"] for entry in history],
        **_of_prompts(trainer._tokenize_prompts(prompts)[0]),
    )


class Phases:
    """Seconds that calls of some of a trainer's methods take, by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = [{}]

    def watch(self, trainer: Any) -> None:
        teacher = trainer.accelerator.unwrap_model(trainer.teacher_model)

        def which(model: Any, *_: Any, **__: Any) -> str:
            return "teacher forward" if model is teacher else "student forward"

        self._time(trainer, "_generate_and_score_completions", lambda *_, **__: "generation")
        self._time(trainer, "_get_last_hidden_state", which)
        self._time(trainer, "compute_loss", lambda *_, **__: "both forwards and the loss")
        self._time(trainer.accelerator, "backward", lambda *_, **__: "backward")

    def next_step(self) -> None:
        self.steps.append({})

    def medians(self) -> dict[str, float]:
        behind = [step for step in self.steps[1:] if step]
        return {
            name: round(statistics.median([step[name] for step in behind]), 3) for name in behind[0]
        }

    def _time(self, owner: Any, name: str, phase: Callable[..., str]) -> None:
        plain = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = plain(*given, **named)
            synchronize()
            step, key = self.steps[-1], phase(*given, **named)
            step[key] = step.get(key, 0.0) + time.perf_counter() - started
            return result

        setattr(owner, name, timed)


# The loss

Run = Callable[[], tuple[Tensor, Tensor]]
"""Mean reverse KL, and its gradient in the student's states."""


def loss(work: LossWork, side: str) -> dict[str, Any]:
    """Time and peak of one side in this process. The head is frozen, as it is under LoRA."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, scale: float) -> Tensor:
        return (torch.randn(rows, work.width, generator=generator) * scale).to(device)

    weights = normal(work.vocab, 0.05), normal(work.vocab, 0.05)
    states = normal(work.positions, 1.0), normal(work.positions, 1.0)
    tokens = torch.randint(work.vocab, (work.positions,), generator=generator).to(device)
    try:
        run = LOSSES[side](states, weights, tokens, work)
    except ImportError as error:
        return {"side": side, "skipped": str(error)}
    value, gradient = run()  # outside the clock: whatever is prepared once is prepared now
    numbers = {"mean_reverse_kl": float(value), "gradient_norm": float(gradient.norm())}
    del gradient
    reset_peak()
    before = peak_gib()
    times = [seconds(run) for _ in range(work.repeats)]
    return {
        "side": side,
        "seconds": [round(each, 3) for each in times],
        "median_seconds": round(statistics.median(times), 3),
        "extra_peak_gib": round(peak_gib() - before, 3),
        **numbers,
    }


Pair = tuple[Tensor, Tensor]


def decaylab_loss(states: Pair, weights: Pair, tokens: Tensor, work: LossWork) -> Run:
    from decaylab.policies.vocabularies import SharedVocabulary
    from decaylab.trainer.loss import chunked_loss

    heads: Any = tuple(PlainHead(weight) for weight in weights)
    vocabulary = SharedVocabulary(work.vocab, frozenset())
    each = torch.full((work.positions,), 1 / work.positions, device=tokens.device)

    def run() -> tuple[Tensor, Tensor]:
        losses, gradient = chunked_loss(heads, states, tokens, vocabulary, each)
        assert gradient is not None
        return losses.loss.mean(), gradient

    return run


class PlainHead:
    """What the loss uses of a `Head`: a matrix of its own in the place of a model."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.shell = weight, True
        self.model = SimpleNamespace(get_output_embeddings=lambda: SimpleNamespace(weight=weight))

    def logits(self, states: Tensor) -> Tensor:
        return torch.nn.functional.linear(states, self.weight)


def naive_loss(states: Pair, weights: Pair, tokens: Tensor, work: LossWork) -> Run:
    def run() -> tuple[Tensor, Tensor]:
        state = states[0].detach().requires_grad_()
        student = torch.nn.functional.linear(state, weights[0]).log_softmax(-1)
        with torch.no_grad():
            teacher = torch.nn.functional.linear(states[1], weights[1]).log_softmax(-1)
        value = (student.exp() * (student - teacher)).sum(-1).mean()
        (gradient,) = torch.autograd.grad(value, state)
        return value.detach(), gradient

    return run


def liger_loss(states: Pair, weights: Pair, tokens: Tensor, work: LossWork) -> Run:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    # compiled is Liger's default, and needs Triton
    fused = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=1.0, compiled=torch.cuda.is_available()
    )

    def run() -> tuple[Tensor, Tensor]:
        state = states[0].detach().requires_grad_()
        value = fused(state, weights[0], states[1], weights[1], tokens)
        (gradient,) = torch.autograd.grad(value, state)
        return value.detach(), gradient

    return run


def trl_loss(states: Pair, weights: Pair, tokens: Tensor, work: LossWork) -> Run:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def run() -> tuple[Tensor, Tensor]:
        state = states[0].detach().requires_grad_()
        losses, _ = ChunkedDivergenceFunction.apply(
            state, weights[0], None, states[1], weights[1], None, 1.0
        )
        value = losses.mean()
        (gradient,) = torch.autograd.grad(value, state)
        return value.detach(), gradient

    return run


LOSSES = {"decaylab": decaylab_loss, "naive": naive_loss, "liger": liger_loss, "trl": trl_loss}


# All of it


def measure_peers(works: Sequence[Work], sides: Sequence[str], toy: bool) -> list[dict[str, Any]]:
    """A row for each work, with what each side took; ratios: decaylab over TRL."""
    rows = []
    for work in works:
        taken = {}
        for side in sides:
            # decaylab accumulates over micro-batches of its own size
            shipped = side == SIDES[0] and not toy
            given = replace(work, micro_batch=None) if shipped else work
            taken[side] = measured(__file__, _job("steps", side, given), run_job, toy=toy)
        row: dict[str, Any] = {"work": asdict(work), **surroundings(), "sides": taken}
        if all("seconds_a_step" in taken.get(side, {}) for side in SIDES):
            mine, theirs = (taken[side] for side in SIDES)
            if mine["prompts"] != theirs["prompts"]:
                raise SystemExit(
                    f"the sides asked different prompts: {mine['prompt_tokens']}, "
                    f"{theirs['prompt_tokens']}"
                )
            row["ratio"] = {
                name: round(mine[name] / theirs[name], 3) for name in ("seconds_a_step", "peak_gib")
            }
        rows.append(row)
        show("peers", row)
    return rows


def measure_lengths(works: Sequence[tuple[Work, int]], toy: bool) -> list[dict[str, Any]]:
    """ESR against full rollouts, as shipped. over_tokens: the ratio of seconds over the ratio of
    generated tokens.

    works: the work on full rollouts, and the tokens of a rollout under ESR.
    """
    rows = []
    for full, tokens in works:
        taken = {}
        for name, work in (("esr", replace(full, tokens=tokens)), ("full", full)):
            job = _job("steps", "decaylab", work)
            taken[name] = measured(__file__, job, run_job, toy=toy)
        written, times = (
            taken["esr"][name] / taken["full"][name] for name in ("tokens_a_step", "seconds_a_step")
        )
        row = {
            "pair": full.pair,
            "work": asdict(full),
            **surroundings(),
            "runs": taken,
            "ratio_of_tokens": round(written, 3),
            "ratio_of_seconds": round(times, 3),
            "over_tokens": round(times / written, 3),
        }
        rows.append(row)
        show("lengths", row)
    return rows


def measure_loss(work: LossWork, toy: bool) -> dict[str, Any]:
    measured_rows = [
        measured(__file__, _job("loss", side, work), run_job, toy=toy) for side in LOSSES
    ]
    for name in ("mean_reverse_kl", "gradient_norm"):
        values = [row[name] for row in measured_rows if name in row]
        if max(values) / min(values) - 1 > 1e-3:
            raise SystemExit(f"the sides do not agree on {name}: {values}")
    mine, *others = measured_rows
    result = {"work": asdict(work), **surroundings(), "rows": measured_rows, "ratio": {}}
    for other in others:
        if toy or "median_seconds" not in other:
            continue
        result["ratio"][other["side"]] = {
            "seconds": round(mine["median_seconds"] / other["median_seconds"], 3),
            "extra_peak": round(mine["extra_peak_gib"] / other["extra_peak_gib"], 3),
        }
    show("loss", result)
    return result


def _job(part: str, side: str, work: Work | LossWork) -> dict[str, Any]:
    return {"part": part, "side": side, "work": asdict(work)}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    if job["part"] == "loss":
        return loss(LossWork(**job["work"]), job["side"])
    run = {"decaylab": decaylab_steps, "trl": trl_steps}[job["side"]]
    try:
        return {"side": job["side"], **run(Work(**job["work"]))}
    except ModuleNotFoundError as error:
        if error.name not in ("trl", "datasets"):
            raise
        return {"side": job["side"], "skipped": str(error)}


def works_of_peers(pairs: Sequence[str], arguments: argparse.Namespace) -> list[Work]:
    """The sizes of `PEERS` that are asked for, or one of any other number of tokens."""
    sizes = {
        (pair, tokens): rows
        for (pair, tokens), rows in PEERS.items()
        if pair in pairs and arguments.tokens in (None, tokens)
    } or {(pair, arguments.tokens): 16 for pair in pairs}
    works = []
    for (pair, tokens), rows in sizes.items():
        if arguments.micro_batch is not None:
            rows = arguments.micro_batch
        works.append(
            Work(
                pair,
                tokens,
                micro_batch=rows or None,
                steps=arguments.steps,
                dtype=arguments.dtype,
                checkpointing=arguments.checkpointing,
            )
        )
    return works


def works_of_lengths(pairs: Sequence[str], steps: int, dtype: str) -> list[tuple[Work, int]]:
    works = []
    for pair in pairs:
        tokens, whole, natural = LENGTHS[pair]
        full = Work(pair, whole, micro_batch=None, steps=steps, dtype=dtype, natural=natural)
        works.append((full, tokens))
    return works


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY.steps} steps of {TOY.rollouts} rollouts of {TOY.tokens} tokens")
    made.add_argument("--part", choices=("peers", "lengths", "loss"), help="only this part")
    made.add_argument("--pair", choices=sorted(PAIRS), help="only this pair")
    made.add_argument("--tokens", type=int, help="only rollouts of this many tokens")
    made.add_argument("--sides", default=",".join(SIDES), help="with commas")
    made.add_argument("--steps", type=int, default=Work.steps, help="the first one is not counted")
    made.add_argument(
        "--micro-batch", type=int, help="rollouts of one; 0: TRL all at once, decaylab as shipped"
    )
    made.add_argument(
        "--checkpointing", action="store_true", help="gradients are checkpointed on both sides"
    )
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default=Work.dtype)
    made.add_argument("--positions", type=int, default=LossWork.positions, help="of the loss")
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    pairs, toy = [pair for pair in PAIRS if arguments.pair in (None, pair)], arguments.toy
    peers, loss_work = works_of_peers(pairs, arguments), LossWork(positions=arguments.positions)
    lengths = works_of_lengths(pairs, arguments.steps, arguments.dtype)
    if toy:
        peers, loss_work, lengths = [TOY], TOY_LOSS, [(TOY, TOY.tokens // 2)]
    result: dict[str, Any] = {}
    if arguments.part in (None, "peers"):
        result["peers"] = measure_peers(peers, arguments.sides.split(","), toy)
    if arguments.part in (None, "lengths"):
        result["lengths"] = measure_lengths(lengths, toy)
    if arguments.part in (None, "loss"):
        result["loss"] = measure_loss(loss_work, toy)
    # results are of the sizes above alone
    free = {"part", "dtype"}
    changed = [n for n, v in vars(arguments).items() if n not in free and v != made.get_default(n)]
    if not changed:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        keep(f"training-{device}-{arguments.dtype}", result)


if __name__ == "__main__":
    main()
