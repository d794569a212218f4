"""The phases of prefix-decay, the diagnostics and train: memory and tokens of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from decaylab.options.planning import Devices, PlanOptions
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.planner.asked import Asked
from decaylab.planner.memory import (
    LACKING,
    PROCESS,
    Batch,
    Reading,
    Terms,
    allowance,
    learning_terms,
    sampling_terms,
    scoring_terms,
    teacher_terms,
    vllm_terms,
)
from decaylab.planner.models import Outline, Source, dtype_of, outline, trained_outline
from decaylab.policies.policy import wider_than
from decaylab.rollouts.engine_spec import MEMORY_SHARE
from decaylab.trainer.machinery.engines import MEMORY_SHARE as TRAINING_SHARE


@dataclass(frozen=True)
class Phase:
    """Peak memory and token count of one phase of a command.

    kind: sampling, scoring, training, or another word. held: loaded and kept during the phase, in
    bytes. count: computes what is added to that at the peak. tokens: sampled or scored. rate: name
    of their rate in `probe.Rates`. sharers: processes that share the tokens. rows: batch rows when
    sampling. copies: processes per device with the same memory. outside: bytes of an idle process
    on the device.
    """

    case: Case
    name: str
    kind: str
    held: Terms
    count: Callable[[], Terms] = dict
    tokens: int = 0
    rate: str = ""
    sharers: int = 1
    rows: int = 0
    copies: int = 1
    outside: int = 0

    @property
    def command(self) -> str:
        return self.case.command

    @cached_property
    def terms(self) -> Terms:
        """Bytes of one process, by kind."""
        return {name: size for name, size in (self.held | self.count()).items() if size}

    @property
    def allowance(self) -> int:
        """Bytes of one process that are not in the terms."""
        ids = self.case.student.head_width + self.case.teacher.head_width
        return allowance(self.terms, self.kind, self.case.devices.kind, ids)

    @property
    def load(self) -> int:
        """Bytes on one device, over all its processes."""
        return self.copies * (sum(self.terms.values()) + self.allowance) + self.outside

    @property
    def fits(self) -> bool:
        return LACKING not in self.terms and self.load <= self.case.devices.memory


@dataclass(frozen=True)
class Case:
    """A planned command: its resolved options, both models, the devices, problems and prompts."""

    plan: PlanOptions
    command: str
    options: Any
    sources: tuple[Source, Source]
    devices: Devices
    asked: Asked

    @property
    def kind(self) -> str:
        return self.devices.kind

    @cached_property
    def pair(self) -> tuple[Outline, Outline]:
        """Student and teacher in the precision of the command."""
        student, teacher = self._dtypes
        return outline(self.sources[0], student), outline(self.sources[1], teacher)

    @cached_property
    def wider(self) -> tuple[Outline, Outline]:
        """Both in the next wider precision."""
        student, teacher = (wider_than(dtype) for dtype in self._dtypes)
        return outline(self.sources[0], student), outline(self.sources[1], teacher)

    @property
    def _dtypes(self) -> list[Any]:
        return [dtype_of(source, self.options.dtype, self.kind) for source in self.sources]

    @property
    def student(self) -> Outline:
        return self.pair[0]

    @property
    def teacher(self) -> Outline:
        return self.pair[1]

    @property
    def weights(self) -> Terms:
        return {
            "student weights": self.student.weight_bytes,
            "teacher weights": self.teacher.weight_bytes,
        }

    @property
    def budget(self) -> int:
        return int(self.options.max_tokens or 1)

    @property
    def sequences(self) -> int:
        """Number of rollouts of one policy over all problems."""
        return self.asked.problems * int(self.options.samples)

    def mean(self, most: int) -> int:
        """Assumed mean length of a response of at most ``most`` tokens."""
        return min(most, self.plan.mean_tokens or most)

    def plain_batch(self) -> Batch:
        """A full batch of student rollouts."""
        rows = min(self.options.batch_rows, self.sequences)
        prompts = -(-rows // self.options.samples)
        return Batch(rows, prompts, self.asked.student_prompt, self.budget)

    def phases(self) -> Iterator[Phase]:
        """The phases of the command, in order."""
        if self.command == "prefix-decay":
            return self._decay()
        return self._diagnostics() if self.command == "diagnostics" else self._train()

    def writes(self, name: str, role: str, batch: Batch, tokens: int, held: Terms) -> Phase:
        """A sampling phase.

        vLLM and workers load their own copy of the policy, while the models of this process move to
        host memory. In training they stay on the GPU beside vLLM's student.
        """
        options, trains = self.options, self.command == "train"
        policy = self.pair[role == "teacher"]
        served = options.engine == "vllm" and (role == "student" or not trains)
        count = partial(sampling_terms, policy, batch, options)
        if served:
            length = batch.prompt_tokens + batch.prefix_tokens + batch.new_tokens
            share = options.gpu_memory_share or (TRAINING_SHARE if trains else MEMORY_SHARE)
            reserved = int(share * self.devices.memory) if self.kind == "cuda" else None
            count = partial(vllm_terms, policy, batch.rows, length, options, reserved)
        phase = Phase(self, name, "sampling", held, count, tokens, role, rows=batch.rows)
        if trains or not (served or options.has_workers):
            return phase
        phase = replace(phase, held={} if served else {f"{role} weights": policy.weight_bytes})
        if self.kind == "cuda":
            return replace(phase, sharers=options.workers)
        # Workers on a CPU are assumed to be no faster than one process with all of its cores.
        outside = sum(held.values()) + PROCESS * options.has_workers
        return replace(phase, copies=options.workers, outside=outside)

    def scores(self, name: str, held: Terms, batch: Reading, tokens: int, wide: bool) -> Phase:
        """A scoring phase of both models, in their own precision or a wider one."""
        pair = self.wider if wide else self.pair
        count = partial(scoring_terms, *pair, batch, self.kind)
        rate = "scored wider" if wide else "scored"
        return Phase(self, name, "scoring", held, count, tokens, rate)

    def _decay(self) -> Iterator[Phase]:
        options, weights = self.options, self.weights
        if options.rollouts and not options.needs_student:
            weights.pop("student weights")  # only the tokenizer is loaded
        if not options.needs_weights("teacher"):
            weights = {}
        length = self.mean(self.budget)
        lengths = options.prefix_lengths[1:]  # the first is 0, the teacher alone
        behind = self.sequences * sum(max(length - prefix, 0) for prefix in lengths)
        batch, plain = self.plain_batch(), self.sequences * length
        if not options.rollouts:
            yield self.writes("student writes", "student", batch, plain, weights)
        batch = replace(batch, prompt_tokens=self.asked.teacher_prompt)
        yield self.writes("teacher writes", "teacher", batch, plain, weights)
        # Rollouts are encoded once up to the longest prefix; shorter ones are cut from it.
        rows = min(options.batch_rows, self.sequences * len(lengths))
        families = -(-rows // len(lengths))
        prompts = -(-families // options.samples)
        room, longest = self.budget - lengths[-1], lengths[-1]
        batch = Batch(rows, prompts, self.asked.teacher_prompt, room, families, longest)
        times = 1 + ("own-prefix" in options.controls) + ("swapped" in options.controls)
        yield self.writes("teacher continues", "teacher", batch, times * behind, weights)
        if "reverse" in options.controls:
            reverse = replace(batch, prompt_tokens=self.asked.student_prompt)
            yield self.writes("student continues (reverse)", "student", reverse, behind, weights)
        if options.hand_back:
            name = "teacher writes to hand back"
            yield self.writes(name, "teacher", batch, behind, weights)
            yield self._hand_back(length, weights)

    def _hand_back(self, length: int, held: Terms) -> Phase:
        """The student finishes behind each prefix and each number of teacher tokens.

        length: assumed mean length of a response.
        """
        options, counts = self.options, (0, *self.options.hand_back)
        lengths = options.prefix_lengths[1:]
        both = [(prefix, count) for prefix in lengths for count in counts]
        tokens = sum(max(length - prefix - count, 0) for prefix, count in both)
        longest = max(sum(pair) for pair in both if sum(pair) < self.budget)
        # The tokens of one prefix are cut from its longest hand-back, which is encoded once.
        rows = min(options.batch_rows, self.sequences * len(both))
        families = -(-rows // len(counts))
        prompts = -(-families // (len(lengths) * options.samples))
        sizes = (self.asked.student_prompt, self.budget - longest, families, longest)
        batch = Batch(rows, prompts, *sizes)
        name = "student finishes (hand-back)"
        return self.writes(name, "student", batch, self.sequences * tokens, held)

    def _diagnostics(self) -> Iterator[Phase]:
        options, weights, checkpoints = self.options, self.weights, self.plan.checkpoint_count
        student = "student weights"
        if checkpoints > 1:  # the previous one stays until the next one is loaded
            both = weights | {"checkpoint weights": 2 * self.student.weight_bytes}
            yield Phase(self, "checkpoint loads", "loading", both)
        if checkpoints:
            student = "checkpoint weights"
            weights |= {student: self.student.weight_bytes}
        mean, writers = self.mean(self.budget), checkpoints + (not options.rollouts)
        if writers:
            tokens = writers * self.sequences * mean
            yield self.writes("students write", "student", self.plain_batch(), tokens, weights)
        prompts = self.asked.prompts
        batch = Reading.of(options.batch_tokens, self.sequences, prompts, self.budget)
        heads = 0
        for policy in self.pair:
            if options.head == "float32" and policy.dtype.itemsize == 2:
                heads += 4 * policy.head_width * policy.width
        # The base, and each checkpoint on its own rollouts and on the base's.
        context = (1 + 2 * checkpoints) * (max(prompts) + mean)
        held = weights | {"float32 heads": heads}
        yield self.scores("both score", held, batch, self.sequences * context, wide=False)
        if options.floor_problems:
            wide = {"teacher weights": self.wider[1].weight_bytes}
            held = weights | wide | {student: self.wider[0].weight_bytes}
            batch = Reading.of(1, 1, prompts, self.budget)
            again = min(options.floor_problems, self.asked.problems) * options.samples
            name = "both score, wider"
            yield self.scores(name, held, batch, again * context, wide=True)

    def _train(self) -> Iterator[Phase]:
        """The phases of one process, which trains on its share of a step's problems."""
        copies = self.plan.processes if self.kind == "cpu" else 1
        for phase in self._train_once():
            yield replace(phase, copies=copies)

    def _train_once(self) -> Iterator[Phase]:
        options, processes = self.options, self.plan.processes
        trained = trained_outline(
            self.sources[0],
            self.student.dtype,
            full_finetune=options.full_finetune,
            lora_rank=options.lora_rank,
            lora_targets=options.lora_targets,
            autocast=options.autocast,
            gradient_checkpointing=options.gradient_checkpointing,
        )
        state = trained.state(processes if self.plan.sharded else 1)
        kept = self.weights | {
            "student weights": state.weights,
            "adapters": state.adapters,
            "optimizer": state.optimizer,
        }
        # With full fine-tuning there are no adapters to merge.
        whole = kept | {"merged copies": state.merged, "gathered layers": state.gathered_student}
        stop, ahead = longest_stop(options), options.teacher_prefix or 0
        rollouts = -(-options.problems_per_step // processes) * options.rollouts_per_problem
        steps, mean = int(options.steps), self.mean(stop)
        rows = min(options.batch_rows, rollouts)
        prompts = -(-rows // options.rollouts_per_problem)
        if ahead:
            batch = Batch(rows, prompts, self.asked.teacher_prompt, ahead)
            tokens = steps * rollouts * ahead
            yield self.writes("teacher writes ahead", "teacher", batch, tokens, whole)
        families = rows if ahead else 0
        batch = Batch(rows, prompts, self.asked.student_prompt, stop, families, ahead)
        yield self.writes("student writes", "student", batch, steps * rollouts * mean, whole)
        longest = self.asked.student_prompt + ahead, self.asked.teacher_prompt + ahead
        size = options.batch_tokens or BATCH_TOKENS[self.kind]
        read = Reading.of(size, rollouts, longest, stop)
        held = kept | {"gradients": state.gradients, "gathered layers": state.gathered_layers}
        teacher = partial(teacher_terms, self.teacher, read)
        yield Phase(self, "teacher scores", "training", held, teacher)
        learn = partial(learning_terms, trained, self.teacher, read, self.kind, options.divergence)
        tokens = steps * rollouts * (max(longest) + mean)
        yield Phase(self, "student learns", "training", held, learn, tokens, "trained")
        # On a GPU AdamW updates all weights at once, with one temporary per weight; on a CPU one
        # weight at a time, with two. Summing gradients over processes needs flat copies of them.
        temporaries = state.gradients if self.kind == "cuda" else 2 * state.largest
        if processes > 1:
            temporaries = max(temporaries, 2 * state.gradients)
        held = kept | {"gradients": state.gradients, "temporaries": temporaries}
        yield Phase(self, "update", "update", held)
        if options.validation_problems:
            yield from self._validation(whole, size)

    def _validation(self, held: Terms, size: int) -> Iterator[Phase]:
        """Sampling and scoring of full rollouts on the held-out problems."""
        options = self.options
        problems = -(-options.validation_problems // self.plan.processes)
        rows, mean = min(options.batch_rows, problems), self.mean(self.budget)
        checks = 1 + -(-int(options.steps) // int(options.checkpoint_every))
        rollouts = checks * problems
        batch = Batch(rows, rows, self.asked.student_prompt, self.budget)
        yield self.writes("validation writes", "student", batch, rollouts * mean, held)
        read = Reading.of(size, problems, self.asked.prompts, self.budget)
        tokens = rollouts * (max(self.asked.prompts) + mean)
        yield self.scores("validation scores", held, read, tokens, wide=False)


def phases(options: PlanOptions, devices: Devices, asked: Asked) -> list[Phase]:
    """The phases of the planned commands, in order.

    Raises:
        UserError: a model that cannot be built, trained this way, or counted.
    """
    return [phase for case in cases(options, devices, asked) for phase in case.phases()]


def cases(options: PlanOptions, devices: Devices, asked: Asked) -> list[Case]:
    """The planned commands.

    Raises:
        UserError: an unknown policy name.
    """
    trust = options.trust_remote_code
    sources = (
        Source.of(str(options.student), options.student_revision, trust),
        Source.of(str(options.teacher), options.teacher_revision, trust),
    )
    return [
        Case(options, command, options.of(command), sources, devices, asked)
        for command in options.only
    ]


def longest_stop(options: TrainOptions) -> int:
    """Length of the longest training rollout, in tokens."""
    full = int(options.max_tokens or 1)
    stop = options.stop_at or full
    return min(full, -(-3 * stop // 2)) if options.selector == "progressive" else stop
