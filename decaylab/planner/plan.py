"""The plan of a pair before anything starts: memory phase by phase against what there is, tokens,
hours, and what would help.

    found = make_plan(PlanOptions(teacher="./teacher", student="./student", problems="math500",
    gpus="1x48GB")) found.fits, found.phases, found.remedies

Configurations are read; no weights are, unless a probe is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from decaylab.commands.pair_checks import host_memory
from decaylab.options.planning import Devices, PlanOptions
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.planner.memory import LASTING, holes
from decaylab.planner.models import Outline, is_quantised
from decaylab.planner.options import Asked, asked
from decaylab.planner.phases import Phase, Sources, longest_stop, phases
from decaylab.planner.probe import Rates, probe

WORTH = 0.01
"""A change that saves less than this share of a device's load is not named."""


@dataclass(frozen=True)
class Remedy:
    """What a flag makes of a phase that does not fit. load: bytes of a device then."""

    command: str
    phase: str
    flag: str
    load: int
    fits: bool


@dataclass(frozen=True)
class Plan:
    """Everything that `decaylab plan` says. rates: None where none is known."""

    options: PlanOptions
    sources: Sources
    asked: Asked
    phases: tuple[Phase, ...]
    remedies: tuple[Remedy, ...]
    rates: Rates | None
    notes: tuple[str, ...]

    @property
    def devices(self) -> Devices:
        return self.sources.devices

    @property
    def fits(self) -> bool:
        return all(one.fits(self.devices) for one in self.phases)

    @property
    def pair(self) -> dict[str, Outline]:
        """Both as the first of the planned commands loads them."""
        student, teacher = self.sources.outlines(self.options.of(self.options.only[0]))
        return {"student": student, "teacher": teacher}

    def seconds(self, phase: Phase) -> float | None:
        """None where no rate is known."""
        return self.rates.seconds(phase) if self.rates else None

    def record(self) -> dict[str, Any]:
        """All of it for machines: sizes in bytes, times in seconds; what is unknown is null."""
        return {
            "fits": self.fits,
            "device": asdict(self.devices),
            "problems": self.asked.problems,
            "prompt_tokens": {
                "student": self.asked.student_prompt,
                "teacher": self.asked.teacher_prompt,
            },
            "models": {role: _told(one) for role, one in self.pair.items()},
            "phases": [
                {
                    **{
                        "command": one.command,
                        "phase": one.name,
                        "bytes": one.load,
                        "terms": one.terms,
                    },
                    **{"allowance": one.allowance, "copies": one.copies, "outside": one.outside},
                    **{
                        "fits": one.fits(self.devices),
                        "tokens": one.work.tokens,
                        "seconds": self.seconds(one),
                    },
                }
                for one in self.phases
            ],
            "remedies": [asdict(one) for one in self.remedies],
            "rates": asdict(self.rates) if self.rates else None,
            "notes": list(self.notes),
        }


def make_plan(options: PlanOptions) -> Plan:
    """The plan of what the options say.

    Raises:
        UserError: an option that cannot be used, a model that cannot be described, a problem set
        that cannot be counted.
    """
    options = options.resolved()
    sources = Sources.of(options, options.stated_devices() or this_machine())
    known = asked(options)
    found = phases(options, sources, known)
    rates = probe(options, found) if options.probe else None
    if options.tokens_per_second:
        rates = Rates.stated(options.tokens_per_second)
    return Plan(
        options=options,
        sources=sources,
        asked=known,
        phases=tuple(found),
        remedies=tuple(_remedies(found, options, sources, known)),
        rates=rates,
        notes=tuple(_notes(options, sources, known)),
    )


def this_machine() -> Devices:
    """The GPUs that are here; without one, the memory of the host that is free."""
    if torch.cuda.is_available():
        return Devices(
            "cuda", torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory
        )
    return Devices("cpu", 1, host_memory())


def _told(one: Outline) -> dict[str, Any]:
    return {
        **{
            "name": one.name,
            "parameters": one.parameters,
            "dtype": str(one.dtype).removeprefix("torch."),
        },
        **{"weight_bytes": one.weight_bytes, "cache_bytes_per_token": one.cache_per_token},
    }


def _notes(options: PlanOptions, sources: Sources, known: Asked) -> Iterator[str]:
    """What a reader must know of the numbers."""
    yield from known.notes
    pairs = {name: sources.outlines(options.of(name)) for name in options.only}
    for place, source in enumerate((sources.student, sources.teacher)):
        if is_quantised(source):
            yield (
                f"{source.name} is quantised; its weights are counted as they are in the "
                "precision named"
            )
        context = next(iter(pairs.values()))[place].context_length
        needed = known.prompts[place] + int(options.max_tokens or 0)
        if needed > context:
            yield (
                f"a prompt and --max-tokens are {needed} tokens, beyond the context of "
                f"{source.name}, {context}: refused"
            )
    if sources.kind == "cuda":
        largest = max(one.weight_bytes for pair in pairs.values() for one in pair)
        yield (
            f"a model goes through the host's memory while it is loaded: {largest / 2**30:.1f} "
            "GiB there"
        )
        yield "GPU figures were never held against a GPU; a CPU's were (docs/plan.md)"
    used = max(
        options.workers * options.tensor_parallel,
        options.processes if "train" in options.only else 1,
    )
    if sources.devices.count > used:
        yield (
            f"{used} of the {sources.devices.count} GPUs are used: --processes, --workers and "
            "--tensor-parallel use more"
        )


# What would help


@dataclass(frozen=True)
class Change:
    """A flag with the fields that it changes. number: of a flag that is a number, the one that
    holds now; least: the smallest that makes a difference."""

    flag: str
    fields: dict[str, Any]
    number: int | None = None
    least: int = 1

    def to(self, number: int) -> Change:
        (name,) = self.fields
        number = max(number, self.least)
        value: Any = str(number) if name == "rollout_length" else number
        return Change(f"--{name.replace('_', '-')} {number}", {name: value}, number, self.least)


def _remedies(
    found: list[Phase], options: PlanOptions, sources: Sources, known: Asked
) -> Iterator[Remedy]:
    """For each phase that does not fit: the flags that are enough, what leaves least first; or all
    that help, together."""
    for phase in found:
        if not phase.fits(sources.devices):
            yield from _of_phase(phase, replace(options, only=(phase.command,)), sources, known)


def _of_phase(phase: Phase, options: PlanOptions, sources: Sources, known: Asked) -> list[Remedy]:
    def after(fields: dict[str, Any]) -> Remedy:
        """The phase then; it takes nothing where it is left out."""
        again = [
            one
            for one in phases(replace(options, **fields), sources, known)
            if one.name == phase.name
        ]
        fits = all(one.fits(sources.devices) for one in again)
        return Remedy(
            phase.command, phase.name, "", max((one.load for one in again), default=0), fits
        )

    found = []
    for change in _changes(phase, options, known, sources):
        if change.number is not None:
            change = _enough(change, phase, sources.devices, lambda one: after(one.fields).fits)
        then = after(change.fields)
        if then.fits or phase.load - then.load >= WORTH * phase.load:
            found.append((change, replace(then, flag=change.flag)))
    enough = sorted((remedy for _, remedy in found if remedy.fits), key=lambda one: one.load)
    if enough or not found:
        return enough
    found.sort(
        key=lambda one: one[1].load
    )  # where two changes are of one field, what leaves less counts
    fields = {name: value for change, _ in reversed(found) for name, value in change.fields.items()}
    return [replace(after(fields), flag=", ".join(change.flag for change, _ in found))]


def _enough(
    change: Change, phase: Phase, devices: Devices, fits: Callable[[Change], bool]
) -> Change:
    """A number that is seen to do: as large as what comes and goes with it would allow, and then
    ever less."""
    working = sum(size for name, size in phase.terms.items() if name not in LASTING) * (
        1 + holes(phase.kind, devices.kind)
    )
    share = 1 - (phase.load - devices.memory) / max(working, 1)
    tried = change.to(int(int(change.number or 1) * max(share, 0)))
    while not fits(tried) and int(tried.number or 1) > change.least:
        tried = change.to(int(tried.number or 1) * 3 // 4)
    return tried


def _changes(
    phase: Phase, options: PlanOptions, known: Asked, sources: Sources
) -> Iterator[Change]:
    """Flags that bear on a phase. Where the flag is a number, it is the one that holds now."""
    own, gpus = options.of(phase.command), sources.devices.count
    if phase.kind == "sampling":
        yield from _sampling_changes(phase, options, own.batch_rows, gpus)
    if isinstance(own, TrainOptions):
        yield from _training_changes(phase, options, own, gpus)
    if phase.kind in ("scoring", "training"):
        now = (
            options.batch_tokens or getattr(own, "batch_tokens", None) or BATCH_TOKENS[sources.kind]
        )
        yield Change("", {"batch_tokens": 0}, now, _one_rollout(own, known))
    if phase.kind == "scoring" and options.head == "float32":
        yield Change("--head model", {"head": "model"})
    if "floor" in phase.name:
        yield Change("--floor-problems 0", {"floor_problems": 0})
    if phase.command == "diagnostics" and options.checkpoint_count > 1:
        yield Change("--checkpoint-count 1, one after the other", {"checkpoint_count": 1})
    if phase.wide and options.dtype in ("auto", "float32"):
        yield Change("--dtype bfloat16", {"dtype": "bfloat16"})


def _sampling_changes(phase: Phase, options: PlanOptions, rows: int, gpus: int) -> Iterator[Change]:
    yield Change("", {"batch_rows": 0}, min(rows, phase.rows))
    if "validation" in phase.name:
        yield Change("--validation-problems 0", {"validation_problems": 0})
    if phase.command == "train":
        return
    if options.engine == "transformers":
        yield Change("--engine vllm (one policy at a time)", {"engine": "vllm"})
    if gpus > options.tensor_parallel:
        flag = f"--tensor-parallel {gpus}"
        served = options.engine == "vllm"
        fields = {"engine": "vllm", "tensor_parallel": gpus, "workers": 1}
        yield Change(flag if served else f"--engine vllm {flag}", fields)


def _training_changes(
    phase: Phase, options: PlanOptions, own: TrainOptions, gpus: int
) -> Iterator[Change]:
    if phase.kind == "training" and not options.gradient_checkpointing:
        yield Change("--gradient-checkpointing", {"gradient_checkpointing": True})
    if options.full_finetune:
        yield Change("LoRA in place of --full-finetune", {"full_finetune": False})
    elif options.lora_rank > 1:
        yield Change(f"--lora-rank {options.lora_rank // 2}", {"lora_rank": options.lora_rank // 2})
    stop = longest_stop(own)
    if "validation" not in phase.name and phase.kind in ("sampling", "training") and stop > 1:
        yield Change("", {"rollout_length": ""}, stop)
    if gpus > 1 and not options.sharded and own.engine == "transformers":
        yield Change(f"FSDP over {gpus} GPUs (accelerate)", {"processes": gpus, "sharded": True})


def _one_rollout(own: Any, known: Asked) -> int:
    """Tokens of a batch of one rollout: a smaller batch holds no less."""
    if not isinstance(own, TrainOptions):
        return max(known.prompts) + int(own.max_tokens or 1)
    return max(known.prompts) + (own.teacher_prefix or 0) + longest_stop(own)
