"""The options of ``decaylab plan``: those of the commands that are planned, and the machine."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from decaylab.errors import UserError
from decaylab.options.declared import (
    common,
    option,
)
from decaylab.options.diagnosing import DiagnosticOptions, ScoredFields
from decaylab.options.kinds import Count, CountOrOff
from decaylab.options.measuring import EMBEDDED_TEACHER, Options, PairOptions, PrefixFields
from decaylab.options.option_values import Must
from decaylab.options.training import NO_PROBLEMS, RolloutLength, TrainFields, TrainOptions
from decaylab.printing import GIB

PLANNED = ("prefix-decay", "diagnostics", "train")
Planned = Annotated[
    tuple[str, ...],
    Must("name what is planned, with commas: " + ",".join(PLANNED), bool),
    Must(f"be among {', '.join(PLANNED)}", lambda names: set(names) <= set(PLANNED)),
]
Rates = Annotated[
    tuple[float, ...],
    Must(
        "be one to three numbers above 0, of sampling, scoring and training",
        lambda rates: 1 <= len(rates) <= 3 and all(0 < rate < math.inf for rate in rates),
    ),
]
# GB is what the maker of a card writes: an 80GB card has 80 GiB, or nearly so.
UNITS = {"gib": GIB, "gb": GIB, "mib": 2**20, "mb": 2**20}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
Chosen = TypeVar("Chosen", bound=PairOptions)


@dataclass(frozen=True)
class Devices:
    """Devices of one kind, as torch calls it; memory: bytes of each."""

    kind: Literal["cuda", "cpu"]
    count: int
    memory: int

    @property
    def words(self) -> str:
        size = f"{self.memory / GIB:.4g} GiB"
        return f"{self.count} x GPU of {size}" if self.kind == "cuda" else f"CPU, {size}"


@dataclass(frozen=True)
class PlanOptions(TrainFields, ScoredFields, PrefixFields, PairOptions):
    """The options of ``decaylab plan``; None means: chosen as the planned command would."""

    batch_tokens: Count | None = option(
        "Scoring",
        "Tokens of a batch that is scored or trained on. By default each command's own.",
    )
    rollout_length: RolloutLength | None = option(
        "Where the loss falls",
        "train: tokens at which rollouts stop, or full. By default as train has it.",
        among="The measurement",
    )
    checkpoint_count: CountOrOff = option(
        "The measurement", "Trained students that the diagnostics measure beside base.", 0, place=4
    )
    only: Planned = common(
        "The run", f"What is planned, with commas: {','.join(PLANNED)}.", PLANNED, place=9
    )
    gpus: str | None = common(
        "The machine",
        "How many GPUs, and what each one holds: 1x48GB, 8x80GB. By default this machine's.",
    )
    memory: str | None = common("The machine", "No GPU, but this much memory: 24GB.")
    processes: Count = option(
        "The machine",
        "Processes of one training run (accelerate's --num_processes), each with the teacher.",
        1,
    )
    sharded: bool = option(
        "The machine",
        "These share the student's layers by FSDP; otherwise each has all of them (DDP).",
        False,
    )
    mean_tokens: Count | None = option(
        "Lengths and rates",
        "Mean tokens of a response, as far as you know, for tokens and hours; by default the "
        "whole budget.",
    )
    prompt_tokens: Count | None = option(
        "Lengths and rates",
        "Tokens of the longest prompt; by default computed from local problems and tokenizers.",
    )
    tokens_per_second: Rates | None = option(
        "Lengths and rates",
        "Rates that you know, with commas: of sampling, of scoring, of training.",
    )
    probe: bool = common(
        "Lengths and rates", "Load both models here, and measure rates by a short probe.", False
    )

    def resolved(self) -> PlanOptions:
        """The same with pair, problems and budget chosen.

        Raises:
            UserError: an option that cannot be used, by the plan or by a command that is planned.
        """
        chosen = self.with_pair()
        # Rollouts that exist already are planned with the usual budget: they are not read for it.
        chosen = dataclasses.replace(chosen, max_tokens=chosen.max_tokens or chosen.usual_budget)
        chosen.check()
        return chosen

    def check(self) -> None:
        super().check()
        if self.mean_tokens and self.max_tokens and self.mean_tokens > self.max_tokens:
            raise UserError(
                f"--mean-tokens {self.mean_tokens} is above the budget, --max-tokens "
                f"{self.max_tokens}"
            )
        if self.probe and self.tokens_per_second is not None:
            raise UserError("--probe measures what --tokens-per-second gives; say one of the two")
        if self.probe and self.engine == "vllm":
            raise UserError(
                "--probe measures the transformers engine; with --engine vllm say "
                "--tokens-per-second"
            )
        self._check_devices()
        for name in self.only:
            self.of(name)

    def _check_devices(self) -> None:
        """Raises UserError where there are fewer GPUs than the plan uses."""
        if self.gpus and self.memory:
            raise UserError("--memory is that of a CPU and --gpus that of GPUs; say one of the two")
        if self.sharded and self.processes == 1:
            raise UserError(
                "--sharded shares the student over processes: say --processes, how many"
            )
        if self.engine == "vllm" and self.trainers > 1:
            raise UserError(
                "--engine vllm trains in one process: leave out --processes, or train (--only)"
            )
        stated = self.stated_devices()
        if stated is None or stated.kind == "cpu":
            return
        writers = "--workers"
        if self.tensor_parallel > 1:
            writers = "--workers x --tensor-parallel"
        for flag, wanted in (("--processes", self.trainers), (writers, self.writers)):
            if wanted > stated.count:
                raise UserError(
                    f"{flag} needs {wanted} GPUs, one each, and --gpus {self.gpus} has "
                    f"{stated.count}"
                )

    @property
    def trainers(self) -> int:
        """Devices that train; 1 where no training is planned."""
        return self.processes if "train" in self.only else 1

    @property
    def writers(self) -> int:
        """Devices that sample."""
        return self.workers * self.tensor_parallel

    def of(self, command: str) -> Options | DiagnosticOptions | TrainOptions:
        """The options of a planned command, resolved as the command would."""
        if command == "prefix-decay":
            return self._as(Options).resolved()
        if command == "diagnostics":
            return self._as(DiagnosticOptions, without=("rollout_length",)).resolved()
        return self.training()

    def training(self) -> TrainOptions:
        chosen = self._as(TrainOptions, without=("workers", "ray"), test_problems=NO_PROBLEMS)
        if self.teacher == EMBEDDED_TEACHER and self.problems == "abacus":
            chosen = dataclasses.replace(chosen, problems=None)
        return chosen.resolved()

    def _as(self, kind: type[Chosen], without: tuple[str, ...] = (), **more: Any) -> Chosen:
        """The fields that both have; one that is None here is left to the command."""
        shared = {field.name for field in dataclasses.fields(kind)} - set(without)
        given: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name in shared:
                given[field.name] = value
        return kind(**given | more)

    def stated_devices(self) -> Devices | None:
        """What --gpus or --memory say; None where neither was given."""
        if self.gpus is not None:
            return parse_gpus(self.gpus)
        if self.memory is not None:
            return Devices("cpu", 1, parse_bytes("--memory", self.memory))
        return None


def parse_gpus(text: str) -> Devices:
    """``8x80GB``: how many, and what each one holds.

    Raises:
        UserError: no count, no memory, no unit, or nothing of either.
    """
    count, separator, size = text.partition("x")
    if not separator or not count.strip().isdecimal() or not size.strip():
        raise UserError(
            "--gpus must be a count, x and the memory of one, such as 1x48GB or 8x80GB, got "
            f"{text!r}"
        )
    if int(count) < 1:
        raise UserError(f"--gpus must name at least one GPU, such as 1x48GB, got {text!r}")
    return Devices("cuda", int(count), parse_bytes("--gpus", size))


def parse_bytes(flag: str, text: str) -> int:
    """Bytes of ``48GB`` or ``79.6GiB``; a flag that names the memory of something.

    Raises:
        UserError: not a size above 0 with a unit.
    """
    parts = SIZE.fullmatch(text.strip())
    if not parts or parts[2].lower() not in UNITS:
        raise UserError(
            f"{flag} must state memory with its unit (GB, GiB, MB or MiB), such as 48GB, got "
            f"{text!r}"
        )
    size = int(float(parts[1]) * UNITS[parts[2].lower()])
    if size < 1:
        raise UserError(f"{flag} must state more than no memory, got {text!r}")
    return size
