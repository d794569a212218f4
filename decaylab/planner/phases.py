"""The phases of prefix-decay, the diagnostics and train: what is loaded in each, what it works on,
and how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

from decaylab.options.measuring import DiagnosticOptions, Options, PairOptions
from decaylab.options.planning import Devices, PlanOptions
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.planner.memory import (
    PROCESS,
    Batch,
    Reading,
    Terms,
    TrainedState,
    allowance,
    sampling_terms,
    scoring_terms,
    training_terms,
    vllm_terms,
)
from decaylab.planner.models import (
    Outline,
    Source,
    TrainedOutline,
    dtype_of,
    outline,
    own_dtype,
    trained_outline,
)
from decaylab.planner.options import Asked
from decaylab.policies.loading import wider_than
from decaylab.rollouts.engine_spec import MEMORY_SHARE
from decaylab.trainer.machinery.engines import MEMORY_SHARE as TRAINING_SHARE

KEPT_COPIES = 2
"""The state to go on from is laid out as bytes tensor by tensor, and then as one file, before it is
written."""


@dataclass(frozen=True)
class Sources:
    """Where student and teacher are described, and the devices they are to be on."""

    student: Source
    teacher: Source
    devices: Devices

    @property
    def kind(self) -> str:
        return self.devices.kind

    @classmethod
    def of(cls, options: PlanOptions, devices: Devices) -> Sources:
        student, teacher = (
            Source.of(str(name), revision, options.trust_remote_code)
            for name, revision in (
                (options.student, options.student_revision),
                (options.teacher, options.teacher_revision),
            )
        )
        return cls(student, teacher, devices)

    def outlines(self, options: PairOptions, wide: bool = False) -> tuple[Outline, Outline]:
        """Both in the precision that a command loads them in; or in the next wider one."""
        dtypes = [dtype_of(one, options.dtype, self.kind) for one in (self.student, self.teacher)]
        if wide:
            dtypes = [wider_than(one) for one in dtypes]
        return outline(self.student, dtypes[0]), outline(self.teacher, dtypes[1])

    def trained(self, options: TrainOptions) -> TrainedOutline:
        return trained_outline(
            self.student,
            dtype_of(self.student, options.dtype, self.kind),
            full_finetune=options.full_finetune,
            lora_rank=options.lora_rank,
            lora_targets=options.lora_targets,
            autocast=options.autocast,
            gradient_checkpointing=options.gradient_checkpointing,
        )


@dataclass(frozen=True)
class Work:
    """Tokens that a phase writes or reads. rate: whose, as `probe.Rates` names them. sharers:
    processes that share it out."""

    tokens: int = 0
    rate: str = ""
    sharers: int = 1


@dataclass(frozen=True)
class Phase:
    """What one phase of a command holds at its fullest, and how much it does; counted when it is
    asked for.

    kind: sampling, scoring, training, or what else is done. there: what is loaded and kept; count:
    what comes on top of that, and whether vLLM's share has room for the longest sequence. rows: of
    sampling. copies: processes of one device that each hold as much; outside: bytes of another one
    that stands by there. ids: of both tokenizers. wide: whether weights are in more than 16 bits.
    """

    name: str
    kind: str
    there: Terms
    count: Callable[[], tuple[Terms, bool]]
    work: Work = Work()
    rows: int = 0
    copies: int = 1
    outside: int = 0
    command: str = ""
    device: str = "cpu"
    ids: int = 0
    wide: bool = False

    @cached_property
    def _counted(self) -> tuple[Terms, bool]:
        return self.count()

    @property
    def terms(self) -> Terms:
        """Bytes of one process, by what they are."""
        return {name: size for name, size in (self.there | self._counted[0]).items() if size}

    @property
    def allowance(self) -> int:
        """Bytes of one process beside the terms."""
        return allowance(self.terms, self.kind, self.device, self.ids) + (
            PROCESS if self.device == "cpu" else 0
        )

    @property
    def load(self) -> int:
        """Bytes of one device, of all that works there."""
        return self.copies * (sum(self.terms.values()) + self.allowance) + self.outside

    def fits(self, devices: Devices) -> bool:
        return self._counted[1] and self.load <= devices.memory


def phases(options: PlanOptions, sources: Sources, asked: Asked) -> list[Phase]:
    """Every phase of the planned commands, in their order.

    Raises:
        UserError: a model that cannot be built or trained as asked; and where a phase is counted,
        one that cannot be.
    """
    found = []
    for command in options.only:
        pair = sources.outlines(options.of(command))
        ids, wide = sum(one.head_width for one in pair), any(one.dtype.itemsize > 2 for one in pair)
        for one in _COMMANDS[command](options, sources, asked):
            found.append(replace(one, command=command, device=sources.kind, ids=ids, wide=wide))
    return found


def _always(count: Callable[[], Terms]) -> Callable[[], tuple[Terms, bool]]:
    return lambda: (count(), True)


@dataclass(frozen=True)
class _Writers:
    """The sampling phases of a command: what is where while an engine writes.

    held: what the command holds then. trains: of `decaylab train`, where all of that stays beside
    vLLM's student. In other commands vLLM, and workers, load a policy of their own, and what is
    held on a GPU waits in the host's memory.
    """

    options: PairOptions
    sources: Sources
    held: Terms
    trains: bool = False

    def draft(self, name: str, role: str, batch: Batch, tokens: int) -> Phase:
        options, kind = self.options, self.sources.kind
        policy = self.sources.outlines(options)[role == "teacher"]
        served = options.engine == "vllm" and (role == "student" or not self.trains)
        count = (
            self._served(policy, batch)
            if served
            else _always(partial(sampling_terms, policy, batch, options))
        )
        phase = Phase(name, "sampling", self.held, count, Work(tokens, role), batch.rows)
        if self.trains or not (served or options.has_workers):
            return phase
        there = {} if served else {f"{role} weights": policy.weight_bytes}
        if kind == "cuda":
            return replace(phase, there=there, work=replace(phase.work, sharers=options.workers))
        # Workers on a CPU are not taken to be faster than one process that has all of its cores.
        outside = sum(self.held.values()) + PROCESS * options.has_workers
        return replace(phase, there=there, copies=options.workers, outside=outside)

    def _served(self, policy: Outline, batch: Batch) -> Callable[[], tuple[Terms, bool]]:
        length = batch.prompt_tokens + batch.prefix_tokens + batch.new_tokens
        share = self.options.gpu_memory_share or (TRAINING_SHARE if self.trains else MEMORY_SHARE)
        devices = self.sources.devices
        reserved = int(share * devices.memory) if devices.kind == "cuda" else None
        return partial(vllm_terms, policy, batch.rows, length, self.options, reserved)


def _decay(options: PlanOptions, sources: Sources, asked: Asked) -> Iterator[Phase]:
    decay = options.decay()
    student, teacher = sources.outlines(decay)
    weights = weights_of(student, teacher)
    if decay.rollouts and not decay.needs_student:
        weights.pop("student weights")  # only its tokenizer is loaded
    elsewhere = not decay.needs_weights("teacher")
    if not elsewhere:
        yield from _loading(weights, sources, decay)
    writers = _Writers(decay, sources, {} if elsewhere else weights)
    sequences = asked.problems * decay.samples
    length = options.mean_tokens or int(decay.max_tokens or 1)
    behind = sequences * sum(
        max(length - prefix, 0) for prefix in (decay.prefix_lengths or (0,))[1:]
    )
    own = plain_batch(decay, asked.problems, asked.student_prompt)
    if not decay.rollouts:
        yield writers.draft("student writes", "student", own, sequences * length)
    theirs = replace(own, prompt_tokens=asked.teacher_prompt)
    yield writers.draft("teacher writes", "teacher", theirs, sequences * length)
    continued = continued_batch(decay, asked.problems, asked.teacher_prompt)
    times = 1 + ("own-prefix" in decay.controls) + ("swapped" in decay.controls)
    yield writers.draft("teacher continues", "teacher", continued, times * behind)
    if decay.needs_student:
        reverse = replace(continued, prompt_tokens=asked.student_prompt)
        yield writers.draft("student continues (reverse)", "student", reverse, behind)


def _diagnostics(options: PlanOptions, sources: Sources, asked: Asked) -> Iterator[Phase]:
    chosen, kind = options.diagnostics(), sources.kind
    student, teacher = sources.outlines(chosen)
    weights = weights_of(student, teacher)
    yield from _loading(weights, sources, chosen)
    if options.checkpoint_count > 1:  # the one before is there until the next one is loaded
        both = weights | {"checkpoint weights": 2 * student.weight_bytes}
        yield Phase("a checkpoint is loaded", "loading", both, _always(dict))
    if options.checkpoint_count:
        weights |= {"checkpoint weights": student.weight_bytes}
    length, sequences = int(chosen.max_tokens or 1), asked.problems * chosen.samples
    mean = options.mean_tokens or length
    writers = options.checkpoint_count + (not chosen.rollouts)
    if writers:
        batch = plain_batch(chosen, asked.problems, asked.student_prompt)
        tokens = writers * sequences * mean
        yield _Writers(chosen, sources, weights).draft("students write", "student", batch, tokens)
    read = Reading.of(chosen.batch_tokens, sequences, asked.prompts, length)
    heads = {}
    if chosen.head == "float32":
        narrow = [one for one in (student, teacher) if one.dtype.itemsize == 2]
        heads = {"float32 heads": sum(4 * one.head_width * one.width for one in narrow)}
    views = (
        1 + 2 * options.checkpoint_count
    )  # each checkpoint on its own rollouts and on those of base
    context = max(asked.prompts) + mean
    score = partial(scoring_terms, student, teacher, read, kind)
    work = Work(views * sequences * context, "scored")
    yield Phase("both score", "scoring", weights | heads, _always(score), work)
    if chosen.floor_problems:
        wide = sources.outlines(chosen, wide=True)
        widened = weights | {"teacher weights": wide[1].weight_bytes}
        widened |= {
            "checkpoint weights" if options.checkpoint_count else "student weights": wide[
                0
            ].weight_bytes
        }
        again = partial(scoring_terms, *wide, Reading.of(1, 1, asked.prompts, length), kind)
        twice = min(chosen.floor_problems, asked.problems) * chosen.samples
        work = Work(views * twice * context, "scored wider")
        yield Phase("both score, wider (floor)", "scoring", widened, _always(again), work)


def _train(options: PlanOptions, sources: Sources, asked: Asked) -> Iterator[Phase]:
    """Of one process: it takes its share of a step's problems."""
    chosen, kind, processes = options.training(), sources.kind, options.processes
    student, teacher = sources.outlines(chosen)
    plain = weights_of(student, teacher)
    copies = processes if kind == "cpu" else 1
    yield from (replace(one, copies=copies) for one in _loading(plain, sources, chosen))
    trained = sources.trained(chosen)
    of = trained.trained
    state = TrainedState.of(student.weight_bytes, of, processes if options.sharded else 1)
    weights = plain | {
        "student weights": state.weights,
        "adapters": state.adapters,
        "optimizer": state.optimizer,
    }
    share = -(-chosen.problems_per_step // processes)
    rollouts, ahead, stop = (
        share * chosen.rollouts_per_problem,
        chosen.teacher_prefix or 0,
        longest_stop(chosen),
    )
    steps, mean = int(chosen.steps or 1), min(stop, options.mean_tokens or stop)
    merged = of.merged + 2 * of.largest_merged if of.merged else 0
    whole = weights | {"merged copies": merged, "gathered layers": state.gathered_student}
    writers = _Writers(chosen, sources, whole, trains=True)
    rows = min(chosen.batch_rows, rollouts)
    batch = Batch(rows, -(-rows // chosen.rollouts_per_problem), asked.teacher_prompt, ahead)
    found = []
    if ahead:
        found.append(
            writers.draft("teacher writes ahead", "teacher", batch, steps * rollouts * ahead)
        )
    batch = replace(batch, prompt_tokens=asked.student_prompt, new_tokens=stop, prefix_tokens=ahead)
    batch = replace(batch, families=rows if ahead else 0)
    found.append(writers.draft("student writes", "student", batch, steps * rollouts * mean))
    prompts = asked.student_prompt + ahead, asked.teacher_prompt + ahead
    read = Reading.of(chosen.batch_tokens or BATCH_TOKENS[kind], rollouts, prompts, stop)
    known = weights | {"gradients": state.gradients, "gathered layers": state.gathered_layers}

    def passes(which: int) -> tuple[Terms, bool]:
        return training_terms(trained, teacher, read, kind, chosen.divergence)[which], True

    learnt = Work(steps * rollouts * (max(prompts) + mean), "trained")
    found.append(Phase("teacher scores", "training", known, partial(passes, 0)))
    found.append(Phase("student learns", "training", known, partial(passes, 1), learnt))
    # On a GPU AdamW takes all weights at once, with one temporary of each; on a CPU one after the
    # other, with two.
    update = state.gradients if kind == "cuda" else 2 * of.largest_weight
    added = (
        2 * state.gradients if processes > 1 else 0
    )  # gradients laid side by side, and their sum
    temporaries = {"temporaries": max(update, added)}
    found.append(
        Phase(
            "update",
            "update",
            weights | {"gradients": state.gradients},
            lambda: (temporaries, True),
        )
    )
    if chosen.validation_problems:
        found += _validation(options, sources, asked, writers)
    if kind == "cpu":
        file = {"file": KEPT_COPIES * 3 * of.weights}
        found.append(Phase("state is kept", "keeping", weights, lambda: (file, True)))
    yield from (replace(one, copies=copies) for one in found)


def _validation(
    options: PlanOptions, sources: Sources, asked: Asked, writers: _Writers
) -> list[Phase]:
    """Full rollouts to the held-out problems, whatever the length that is trained on; and scores of
    them."""
    chosen, kind = options.training(), sources.kind
    student, teacher = sources.outlines(chosen)
    held_out = -(-chosen.validation_problems // options.processes)
    rows, length = min(chosen.batch_rows, held_out), int(chosen.max_tokens or 1)
    mean = options.mean_tokens or length
    checks = 1 + -(-int(chosen.steps or 1) // int(chosen.checkpoint_every or 1))
    batch = Batch(rows, rows, asked.student_prompt, length)
    read = Reading.of(chosen.batch_tokens or BATCH_TOKENS[kind], held_out, asked.prompts, length)
    score = partial(scoring_terms, student, teacher, read, kind)
    work = Work(checks * held_out * (max(asked.prompts) + mean), "scored")
    return [
        writers.draft("validation writes", "student", batch, checks * held_out * mean),
        Phase("validation scores", "scoring", writers.held, _always(score), work),
    ]


_COMMANDS: dict[str, Callable[[PlanOptions, Sources, Asked], Iterator[Phase]]] = {
    "prefix-decay": _decay,
    "diagnostics": _diagnostics,
    "train": _train,
}


def _loading(weights: Terms, sources: Sources, options: PairOptions) -> Iterator[Phase]:
    """On a CPU: the pages of a file are resident while its weights are made, in another precision,
    from them."""
    if sources.kind != "cpu":
        return
    pages = 0
    for source, own in zip(
        (sources.student, sources.teacher), sources.outlines(options), strict=True
    ):
        if own_dtype(source) != own.dtype:
            pages = max(pages, own.parameters * own_dtype(source).itemsize)
    yield Phase("loading", "loading", weights, lambda: ({"file": pages}, True))


def weights_of(student: Outline, teacher: Outline) -> Terms:
    return {"student weights": student.weight_bytes, "teacher weights": teacher.weight_bytes}


def plain_batch(options: Options | DiagnosticOptions, problems: int, prompt: int) -> Batch:
    rows = min(options.batch_rows, problems * options.samples)
    return Batch(rows, -(-rows // options.samples), prompt, int(options.max_tokens or 1))


def continued_batch(options: Options, problems: int, prompt: int) -> Batch:
    """Rollouts are read once up to the longest prefix; every shorter one is cut from that. Together
    a row has the budget."""
    lengths = [one for one in options.prefix_lengths or () if one]
    rows = min(options.batch_rows, problems * options.samples * len(lengths))
    families = -(-rows // len(lengths))
    room = int(options.max_tokens or 1) - lengths[-1]
    return Batch(rows, -(-families // options.samples), prompt, room, families, lengths[-1])


def longest_stop(options: TrainOptions) -> int:
    """Tokens of the longest training rollout."""
    full = int(options.max_tokens or 1)
    stop = options.stop_at or full
    return min(full, -(-3 * stop // 2)) if options.selector == "progressive" else stop
