"""The options of ``decaylab plan``: those of the planned commands, and the machine."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from decaylab.errors import UserError
from decaylab.options import engine_choice
from decaylab.options.declared import (
    common,
    option,
)
from decaylab.options.diagnosing import DiagnosticOptions, ScoredFields
from decaylab.options.kinds import Count, CountOrOff
from decaylab.options.measuring import Options, PrefixFields
from decaylab.options.option_values import Must
from decaylab.options.pair_options import EMBEDDED_TEACHER, PairOptions
from decaylab.options.training import NO_PROBLEMS, RolloutLength, TrainFields, TrainOptions
from decaylab.printing import GIB

PLANNED = ("prefix-decay", "diagnostics", "train")
Planned = Annotated[
    tuple[str, ...],
    Must("name the planned commands, comma-separated: " + ",".join(PLANNED), bool),
    Must(f"be among {', '.join(PLANNED)}", lambda names: set(names) <= set(PLANNED)),
]
Rates = Annotated[
    tuple[float, ...],
    Must(
        "be one to three numbers above 0, for sampling, scoring and training",
        lambda rates: 1 <= len(rates) <= 3 and all(0 < rate < math.inf for rate in rates),
    ),
]
# Vendors write GB for GiB: an 80GB card has about 80 GiB.
UNITS = {"gib": GIB, "gb": GIB, "mib": 2**20, "mb": 2**20}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
Chosen = TypeVar("Chosen", bound=PairOptions)


@dataclass(frozen=True)
class Devices:
    """Devices of one kind, by torch's name. memory: bytes per device."""

    kind: Literal["cuda", "cpu"]
    count: int
    memory: int

    @property
    def words(self) -> str:
        size = f"{self.memory / GIB:.4g} GiB"
        return f"{self.count} x GPU of {size}" if self.kind == "cuda" else f"CPU, {size}"


@dataclass(frozen=True)
class PlanOptions(TrainFields, ScoredFields, PrefixFields, PairOptions):
    """The options of ``decaylab plan``. None: use the planned command's default."""

    batch_tokens: Count | None = option(
        "Scoring",
        "Tokens per batch in scoring and training. Default: each command's own.",
    )
    rollout_length: RolloutLength | None = option(
        "Where the loss falls",
        "train: tokens at which rollouts stop, or full. Default: that of train.",
        among="The measurement",
        metavar="N|full",
    )
    checkpoint_count: CountOrOff = option(
        "The measurement", "Trained students that diagnostics measure beside base.", 0, place=4
    )
    only: Planned = common(
        "The run", f"Commands to plan, comma-separated: {','.join(PLANNED)}.", PLANNED, place=9
    )
    gpus: str | None = common(
        "The machine",
        "Number of GPUs and memory of each: 1x48GB, 8x80GB. Default: those of this machine.",
        metavar="NxSIZE",
    )
    memory: str | None = common(
        "The machine", "Plan for a CPU with this much memory: 24GB.", metavar="SIZE"
    )
    processes: Count = common(
        "The machine",
        "Processes per training run (accelerate's --num_processes). Each loads the teacher.",
        1,
    )
    sharded: bool = common(
        "The machine",
        "Shard the student over the processes (FSDP); otherwise each holds all of it (DDP).",
        False,
    )
    mean_tokens: Count | None = option(
        "Lengths and rates",
        "Expected mean response length in tokens, for the estimates of tokens and hours. Default: "
        "the whole budget.",
    )
    prompt_tokens: Count | None = option(
        "Lengths and rates",
        "Length of the longest prompt in tokens. Default: computed from local problems and "
        "tokenizers.",
    )
    tokens_per_second: Rates | None = option(
        "Lengths and rates",
        "Known rates of sampling, scoring and training, comma-separated.",
    )
    probe: bool = common(
        "Lengths and rates", "Load both models and measure rates with a short probe.", False
    )

    @property
    def usual_engine(self) -> engine_choice.Engine:
        only_transformers = self.probe or self.trainers > 1
        return "transformers" if only_transformers else super().usual_engine

    def resolved(self) -> PlanOptions:
        """These options with pair, problems and budget filled in.

        Raises:
            UserError: an option that is invalid for the plan or for a planned command.
        """
        chosen = self.with_pair()
        # A plan does not read existing rollouts, so they are planned with the default budget.
        chosen = dataclasses.replace(chosen, max_tokens=chosen.max_tokens or chosen.lengths.budget)
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
            raise UserError(
                "--probe measures the rates that --tokens-per-second sets; give only one of them"
            )
        if self.probe and self.engine == "vllm":
            raise UserError(
                "--probe only measures the transformers engine; with --engine vllm give "
                "--tokens-per-second"
            )
        self._check_devices()
        for name in self.only:
            self.of(name)

    def _check_devices(self) -> None:
        """Raises UserError if device options conflict or the plan uses more GPUs than given."""
        if self.gpus and self.memory:
            raise UserError("--memory plans for a CPU and --gpus for GPUs; give only one of them")
        if self.sharded and self.processes == 1:
            raise UserError("--sharded needs several processes; give their number with --processes")
        if self.engine == "vllm" and self.trainers > 1:
            raise UserError(
                "--engine vllm trains in one process: remove --processes, or leave train out of "
                "--only"
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
                    f"{flag} needs {wanted} GPUs, but --gpus {self.gpus} has only {stated.count}"
                )

    @property
    def trainers(self) -> int:
        """Devices that train; 1 if no training is planned."""
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
        without: tuple[str, ...] = ("workers", "ray")
        if self.task.temperature == 0:  # of measuring: training samples
            without += ("temperature",)
        chosen = self._as(TrainOptions, without=without, test_problems=NO_PROBLEMS)
        if self.teacher == EMBEDDED_TEACHER and self.problems == "abacus":
            chosen = dataclasses.replace(chosen, problems=None)
        return chosen.resolved()

    def _as(self, kind: type[Chosen], without: tuple[str, ...] = (), **more: Any) -> Chosen:
        """Options of another class, from the shared fields that are set here."""
        shared = {field.name for field in dataclasses.fields(kind)} - set(without)
        given: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name in shared:
                given[field.name] = value
        return kind(**given | more)

    def stated_devices(self) -> Devices | None:
        """The devices of --gpus or --memory; None if neither was given."""
        if self.gpus is not None:
            return parse_gpus(self.gpus)
        if self.memory is not None:
            return Devices("cpu", 1, parse_bytes("--memory", self.memory))
        return None


def parse_gpus(text: str) -> Devices:
    """Count and memory of each GPU, from text such as ``8x80GB``.

    Raises:
        UserError: count, memory or unit is missing or zero.
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
    """Bytes in a size such as ``48GB`` or ``79.6GiB``.

    Raises:
        UserError: not a size above 0 with a unit; the message names the flag.
    """
    parts = SIZE.fullmatch(text.strip())
    if not parts or parts[2].lower() not in UNITS:
        raise UserError(
            f"{flag} must give memory with a unit (GB, GiB, MB or MiB), such as 48GB, got {text!r}"
        )
    size = int(float(parts[1]) * UNITS[parts[2].lower()])
    if size < 1:
        raise UserError(f"{flag} must be more than 0 bytes, got {text!r}")
    return size
