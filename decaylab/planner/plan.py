"""The plan of a pair: memory by phase against the machine's, tokens, hours, and remedies.

    plan = make_plan(PlanOptions(teacher="./teacher", student="./student", gpus="1x48GB"))
    plan.fits, plan.phases, plan.remedies

Only configurations are read, and weights if a probe is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from decaylab.errors import UserError
from decaylab.options.measuring import Options
from decaylab.options.option_values import flag
from decaylab.options.planning import Devices, PlanOptions
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.pair.prepare import Setup
from decaylab.planner.asked import Asked, asked
from decaylab.planner.memory import KERNELS
from decaylab.planner.models import Outline
from decaylab.planner.phases import Case, Phase, cases, longest_stop, phases
from decaylab.planner.probe import Rates, load, probe
from decaylab.printing import gib
from decaylab.problems.grading import Grader


@dataclass(frozen=True)
class Remedy:
    """The effect of a flag on a phase that does not fit. load: bytes on one device with it."""

    command: str
    phase: str
    flag: str
    load: int
    fits: bool


@dataclass(frozen=True)
class Plan:
    """Everything that `decaylab plan` prints. rates: None if unknown."""

    options: PlanOptions
    devices: Devices
    asked: Asked
    cases: tuple[Case, ...]
    phases: tuple[Phase, ...]
    remedies: tuple[Remedy, ...]
    rates: Rates | None

    @property
    def fits(self) -> bool:
        return all(phase.fits for phase in self.phases)

    @property
    def pair(self) -> dict[str, Outline]:
        """Both models as the first planned command loads them."""
        student, teacher = self.cases[0].pair
        return {"student": student, "teacher": teacher}

    @property
    def fullest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.load)

    def seconds(self, phase: Phase) -> float | None:
        """Duration of a phase in seconds; None if no rate is known."""
        return self.rates.seconds(phase) if self.rates else None

    def record(self) -> dict[str, Any]:
        """The plan as JSON values: sizes in bytes, times in seconds, null where unknown."""
        models = {
            role: {
                "name": model.name,
                "parameters": model.parameters,
                "dtype": precision(model),
                "weight_bytes": model.weight_bytes,
                "cache_bytes_per_token": model.cache_per_token,
            }
            for role, model in self.pair.items()
        }
        phases = [
            {
                "command": phase.command,
                "phase": phase.name,
                "bytes": phase.load,
                "terms": phase.terms,
                "allowance": phase.allowance,
                "copies": phase.copies,
                "outside": phase.outside,
                "fits": phase.fits,
                "tokens": phase.tokens,
                "seconds": self.seconds(phase),
            }
            for phase in self.phases
        ]
        student, teacher = self.asked.prompts
        return {
            "fits": self.fits,
            "device": asdict(self.devices),
            "problems": self.asked.problems,
            "prompt_tokens": {"student": student, "teacher": teacher},
            "models": models,
            "phases": phases,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "rates": asdict(self.rates) if self.rates else None,
            "notes": list(notes(self)),
        }


def make_plan(options: PlanOptions) -> Plan:
    """Makes the plan for the options.

    Raises:
        UserError: an unusable option, a model without a readable configuration, a problem set that
            cannot be counted.
    """
    options = options.resolved()
    devices = options.stated_devices() or this_machine(options.device)
    if not options.probe:
        return plan_of(options, devices, asked(options))
    with Grader(workers=1) as grader:
        return plan_of(options, devices, asked(options), load(options, grader))


def plan_of(
    options: PlanOptions,
    devices: Devices,
    known: Asked,
    setup: Setup[Options] | None = None,
    rows: int = 0,
) -> Plan:
    """Makes the plan for resolved options.

    Args:
        options: resolved options.
        devices: the machine.
        known: problems and prompts.
        setup: the loaded pair, probed for its rates; None uses the rates in the options.
        rows: rows of the probe's batches; 0 uses those of each phase.
    """
    planned = phases(options, devices, known)  # their terms are counted on first access
    rates = None
    if setup is not None:
        rates = probe(setup, options, planned, rows)
    elif options.tokens_per_second:
        rates = Rates.stated(options.tokens_per_second)
    failing = [phase for phase in planned if not phase.fits]
    return Plan(
        options=options,
        devices=devices,
        asked=known,
        cases=tuple(cases(options, devices, known)),
        phases=tuple(planned),
        remedies=tuple(remedy for phase in failing for remedy in remedies(phase)),
        rates=rates,
    )


def this_machine(device: str) -> Devices:
    """The GPUs of this machine; without one, or if the CPU is selected, the free host memory."""
    chosen = torch.device("cuda" if device == "auto" else device)
    if chosen.type != "cuda" or not torch.cuda.is_available():
        return Devices("cpu", 1, host_memory())
    # Memory of other processes is not available; this one's CUDA context is part of the plan.
    free, total = torch.cuda.mem_get_info(chosen)
    return Devices("cuda", torch.cuda.device_count(), min(total, free + KERNELS["cuda"]))


def host_memory() -> int:
    """Available host memory in bytes, including file caches that can be freed."""
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024


def precision(model: Outline) -> str:
    return str(model.dtype).removeprefix("torch.")


def notes(plan: Plan) -> Iterator[str]:
    """What a reader must know about the numbers."""
    yield from plan.asked.notes
    for model, prompt in zip(plan.pair.values(), plan.asked.prompts, strict=True):
        if getattr(model.config, "quantization_config", None) is not None:
            yield f"{model.name} is quantised; its weights are counted in the precision shown"
        needed = prompt + int(plan.options.max_tokens or 0)
        if needed > model.context_length:
            yield (
                f"a prompt plus --max-tokens is {needed} tokens, beyond the context of "
                f"{model.name}, {model.context_length}; the command will refuse it"
            )
    if plan.devices.kind == "cuda":
        largest = max(model.weight_bytes for case in plan.cases for model in case.pair)
        yield f"loading a model also needs {gib(largest)} GiB of host memory"
        yield "the estimates were checked on a CPU, not on a GPU (docs/plan.md)"
    used = max(plan.options.writers, plan.options.trainers)
    if plan.devices.count > used:
        yield (
            f"only {used} of the {plan.devices.count} GPUs are used; use more with --processes, "
            "--workers or --tensor-parallel"
        )


# Remedies

Change = dict[str, Any]
"""Changed fields of the plan's options."""
CHANGES: tuple[Change, ...] = (
    {"engine": "vllm"},
    {"gradient_checkpointing": True},
    {"full_finetune": False},
    {"validation_problems": 0},
    {"head": "model"},
    {"floor_problems": 0},
    {"checkpoint_count": 1},
    {"dtype": "bfloat16"},
)
WORTH = 0.99
"""A change is listed only if it cuts a phase's load below this share."""


def remedies(phase: Phase) -> list[Remedy]:
    """The flags that each make a phase fit; if none does, all that help, combined."""
    helpful: list[tuple[Change, Remedy]] = []
    for steps in _changes(phase):
        tried: list[tuple[Change, Remedy]] = []
        for change in steps:
            with suppress(UserError):  # the change contradicts the command's options
                tried.append((change, _after(phase, change)))
                if tried[-1][1].fits:
                    break
        helpful += [pair for pair in tried if pair[1].load < WORTH * phase.load][-1:]
    helpful.sort(key=lambda pair: pair[1].load)
    enough = [after for _, after in helpful if after.fits]
    if enough or not helpful:
        return enough
    together: Change = {}
    for change, _ in reversed(helpful):  # for one field, the value with the smaller load wins
        together |= change
    flags = ", ".join(after.flag for _, after in helpful)
    return [replace(_after(phase, together), flag=flags)]


def _changes(phase: Phase) -> Iterator[list[Change]]:
    """The changes to try; a number is halved repeatedly."""
    case, options = phase.case, phase.case.options
    gpus = case.devices.count
    yield from ([change] for change in CHANGES)
    if gpus > 1:
        yield [{"engine": "vllm", "tensor_parallel": gpus, "workers": 1}]
        yield [{"processes": gpus, "sharded": True}]
    yield _halves("batch_rows", phase.rows)
    if phase.kind in ("scoring", "training"):
        one_rollout = max(case.asked.prompts) + case.budget
        tokens = options.batch_tokens or BATCH_TOKENS[case.kind]
        yield _halves("batch_tokens", tokens, least=one_rollout)
    if isinstance(options, TrainOptions):
        yield _halves("rollout_length", longest_stop(options))


def _halves(name: str, number: int, least: int = 1) -> list[Change]:
    """An option's value halved repeatedly, down to ``least``."""
    steps: list[Change] = []
    while number > least:
        number = max(number // 2, least)
        # rollout_length is text, since it may be "full".
        steps.append({name: str(number) if name == "rollout_length" else number})
    return steps


def _after(phase: Phase, change: Change) -> Remedy:
    """The effect of a change on a phase; its load is 0 if the change removes the phase."""
    options = replace(phase.case.plan, only=(phase.command,), **change)
    load, fits = 0, True
    for again in phases(options, phase.case.devices, phase.case.asked):
        if again.name == phase.name:
            load, fits = again.load, again.fits
    return Remedy(phase.command, phase.name, _flags(change), load, fits)


def _flags(change: Change) -> str:
    """A change as command-line flags."""
    words = []
    for name, value in change.items():
        shown = {True: flag(name), False: f"without {flag(name)}"}
        words.append(shown[value] if isinstance(value, bool) else f"{flag(name)} {value}")
    return " ".join(words)
