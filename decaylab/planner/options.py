"""What is planned: the options of the commands, the machine, and problems and prompts as far as
they can be known here."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from decaylab.errors import UserError
from decaylab.options.measuring import (
    EMBEDDED_TEACHER,
    Controls,
    Count,
    CountOrOff,
    DiagnosticOptions,
    Lengths,
    Options,
    PairOptions,
)
from decaylab.options.option_values import Must
from decaylab.options.training import (
    NO_PROBLEMS,
    Budget,
    Divergence,
    RolloutLength,
    SelectorName,
    TrainOptions,
)
from decaylab.policies import loading
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.problems.sets import Problem, ProblemSet, instruction_of, load_problems

COMMANDS = ("prefix-decay", "diagnostics", "train")
Planned = Annotated[
    tuple[str, ...],
    Must("name what is planned, with commas: " + ",".join(COMMANDS), bool),
    Must(f"be among {', '.join(COMMANDS)}", lambda names: set(names) <= set(COMMANDS)),
]
Rates = Annotated[
    tuple[float, ...],
    Must(
        "be one to three numbers above 0, of sampling, scoring and training",
        lambda rates: 1 <= len(rates) <= 3 and all(0 < one < math.inf for one in rates),
    ),
]
UNITS = {"gib": 2**30, "gb": 2**30, "mib": 2**20, "mb": 2**20}
"""Bytes of a unit. GB is what the maker of a card writes: an 80GB card has 80 GiB, or nearly so."""
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
KNOWN_SIZES = {"math500": 500, "gsm8k": 1319}
"""Problems of the sets on the hub that have a name here: they are not fetched to be counted."""
PROMPT_TOKENS = 256
"""Of the longest prompt, where it can't be read off and nothing was said."""
Chosen = TypeVar("Chosen", bound=PairOptions)


@dataclass(frozen=True)
class Devices:
    """So many devices of so many bytes each. kind: as torch calls it."""

    kind: Literal["cuda", "cpu"]
    count: int
    memory: int

    @property
    def words(self) -> str:
        gib = f"{self.memory / 2**30:.4g} GiB"
        return f"{self.count} x GPU of {gib}" if self.kind == "cuda" else f"CPU, {gib}"


UNBOUNDED = 10**9


@dataclass(frozen=True)
class PlanOptions(PairOptions):
    """Every option of ``decaylab plan``; None means: chosen as the planned command would.

    only: the commands that are planned. checkpoint_count: trained students that the diagnostics
    measure beside the base.
    batch_tokens: of scoring and of micro-batches. processes: of one training run under accelerate;
    sharded: by FSDP.
    gpus: ``8x80GB``; memory: of a CPU, ``24GB``. Neither: this machine.
    mean_tokens: of a response, as far as known; the budget is the most. prompt_tokens: of the
    longest prompt.
    tokens_per_second: of sampling, and if known of scoring and training. probe: measure rates and
    peaks here.
    """

    only: Planned = COMMANDS
    prefix_lengths: Lengths | None = None
    controls: Controls = ("correct-so-far",)
    checkpoint_count: CountOrOff = 0
    floor_problems: CountOrOff = 32
    head: Literal["model", "float32"] = "model"
    batch_tokens: Count | None = None
    steps: Count | None = None
    problems_per_step: Count = 16
    rollouts_per_problem: Count = 1
    selector: SelectorName = "prefix"
    rollout_length: RolloutLength | None = None
    budget: Budget | None = None
    teacher_prefix: Count | None = None
    divergence: Divergence = "reverse-kl"
    full_finetune: bool = False
    lora_rank: Count = 32
    lora_targets: str = "all-linear"
    autocast: Literal["off", "bfloat16"] = "off"
    gradient_checkpointing: bool = False
    checkpoint_every: Count | None = None
    validation_problems: CountOrOff = 100
    gpus: str | None = None
    memory: str | None = None
    processes: Count = 1
    sharded: bool = False
    mean_tokens: Count | None = None
    prompt_tokens: Count | None = None
    tokens_per_second: Rates | None = None
    probe: bool = False

    def resolved(self) -> PlanOptions:
        """The same with pair, problems and budget chosen.

        Raises:
            UserError: an option that cannot be used, by the plan or by a command that is planned.
        """
        chosen = self.with_pair().with_budget(UNBOUNDED)
        chosen.check()
        return chosen

    def check(self) -> None:
        super().check()
        if self.mean_tokens and self.max_tokens and self.mean_tokens > self.max_tokens:
            raise UserError(
                f"--mean-tokens {self.mean_tokens} is above the budget, --max-tokens "
                f"{self.max_tokens}"
            )
        self._check_rates()
        self._check_devices()
        for name in self.only:
            self.of(name)

    def _check_rates(self) -> None:
        if self.probe and self.tokens_per_second is not None:
            raise UserError("--probe measures what --tokens-per-second gives; say one of the two")
        if self.probe and self.engine == "vllm":
            raise UserError(
                "--probe measures the transformers engine; with --engine vllm say "
                "--tokens-per-second"
            )

    def _check_devices(self) -> None:
        """Raises UserError where there are fewer GPUs than are asked for."""
        if self.gpus and self.memory:
            raise UserError("--memory is that of a CPU and --gpus that of GPUs; say one of the two")
        if self.sharded and self.processes == 1:
            raise UserError(
                "--sharded shares the student out over processes: say --processes, how many"
            )
        if "train" in self.only and self.engine == "vllm" and self.processes > 1:
            raise UserError(
                "--engine vllm trains in one process: leave out --processes, or train (--only)"
            )
        there = self.stated_devices()
        if there is None or there.kind == "cpu":
            return
        for flag, wanted in (
            ("--processes", self.processes if "train" in self.only else 1),
            (
                "--workers" if self.tensor_parallel == 1 else "--workers x --tensor-parallel",
                self.workers * self.tensor_parallel,
            ),
        ):
            if wanted > there.count:
                raise UserError(
                    f"{flag} needs {wanted} GPUs, one each, and --gpus {self.gpus} has "
                    f"{there.count}"
                )

    def of(self, command: str) -> Options | DiagnosticOptions | TrainOptions:
        """The options of a planned command, resolved as the command would."""
        if command == "prefix-decay":
            return self.decay()
        return self.diagnostics() if command == "diagnostics" else self.training()

    def decay(self) -> Options:
        return self._as(Options).resolved()

    def diagnostics(self) -> DiagnosticOptions:
        return self._as(DiagnosticOptions, without=("rollout_length",)).resolved()

    def training(self) -> TrainOptions:
        chosen = self._as(TrainOptions, without=("workers", "ray"), test_problems=NO_PROBLEMS)
        if self.teacher == EMBEDDED_TEACHER and self.problems == "abacus":
            chosen = dataclasses.replace(chosen, problems=None)
        return chosen.resolved()

    def _as(self, kind: type[Chosen], without: tuple[str, ...] = (), **more: Any) -> Chosen:
        """The fields that both have; one that is None here is left to the command."""
        names = {field.name for field in dataclasses.fields(kind)} & {
            field.name for field in dataclasses.fields(self)
        }
        given = {name: getattr(self, name) for name in sorted(names - set(without))}
        return kind(**{name: value for name, value in given.items() if value is not None}, **more)

    def stated_devices(self) -> Devices | None:
        """What --gpus or --memory say; None where neither was given."""
        if self.gpus is not None:
            return parse_gpus(self.gpus)
        return (
            Devices("cpu", 1, parse_bytes("--memory", self.memory))
            if self.memory is not None
            else None
        )


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
    found = SIZE.fullmatch(text.strip())
    if not found or found[2].lower() not in UNITS:
        raise UserError(
            f"{flag} must state memory with its unit (GB, GiB, MB or MiB), such as 48GB, got "
            f"{text!r}"
        )
    size = int(float(found[1]) * UNITS[found[2].lower()])
    if size < 1:
        raise UserError(f"{flag} must state more than no memory, got {text!r}")
    return size


@dataclass(frozen=True)
class Asked:
    """The problems, and the longest prompt of each policy in tokens. notes: what was assumed."""

    problems: int
    student_prompt: int
    teacher_prompt: int
    notes: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[int, int]:
        return self.student_prompt, self.teacher_prompt


def asked(options: PlanOptions) -> Asked:
    """Problems that are here are read, and rendered by tokenizers that are here; nothing is
    fetched.

    Raises:
        UserError: a set that cannot be used, or one on the hub whose size nobody said.
    """
    problems, instruction = _problems(options)
    count = len(problems) if problems else _hub_size(options)
    if options.prompt_tokens is not None:
        return Asked(count, options.prompt_tokens, options.prompt_tokens)
    found = []
    told: list[str] = []
    for role in ("student", "teacher"):
        policy = _tokenizer(role, options) if problems else None
        found.append(
            max(len(policy.prompt_ids(one, instruction)) for one in problems) if policy else None
        )
        told += policy.template.notes() if policy and policy.template else []
    guess = (
        f"the longest prompt is taken to have {PROMPT_TOKENS} tokens, which nobody said "
        "(--prompt-tokens)"
    )
    notes = (*dict.fromkeys(told), *([guess] if None in found else []))
    student, teacher = (PROMPT_TOKENS if one is None else one for one in found)
    return Asked(count, student, student if options.teacher_prompt == "student" else teacher, notes)


def _problems(options: PlanOptions) -> tuple[tuple[Problem, ...], str]:
    """Those that are here with their instruction; none where they are on the hub, or rollouts that
    hold no questions."""
    spec = str(options.problems)
    if spec == "rollouts":
        from decaylab.rollout_files import asked as rollouts_asked  # which imports torch

        student = _tokenizer("student", options)
        theirs = rollouts_asked.read(options, student, None).problems if student else ()
        return theirs, instruction_of(
            options.instruction, ProblemSet("", "", "", "", "last_boxed", theirs, own=True)
        )
    on_hub = (
        spec.count("/") == 1
        and not Path(spec).exists()
        and not spec.endswith((".jsonl", ".json", ".parquet"))
    )
    if spec in KNOWN_SIZES or on_hub:
        return (), ""
    found = load_problems(
        spec, limit=options.limit, columns=options.columns or None, seed=options.seed
    )
    return found.problems, instruction_of(options.instruction, found)


def _hub_size(options: PlanOptions) -> int:
    spec = str(options.problems)
    if spec == "rollouts":
        raise UserError(
            f"the problems of {options.rollouts} cannot be counted: it holds no questions, or the "
            "student's tokenizer is not "
            "here; say --problems"
        )
    if spec in KNOWN_SIZES:
        return min(KNOWN_SIZES[spec], options.limit or KNOWN_SIZES[spec])
    if options.limit is None:
        raise UserError(
            f"--problems {spec} is not fetched to be counted; say --limit, how many of its problems"
        )
    return options.limit


def _tokenizer(role: Role, options: PlanOptions) -> Policy | None:
    """The policy's tokenizer, where it is in a folder here."""
    name = str(getattr(options, role))
    own = Path(name).expanduser()
    path = own if (own / "tokenizer_config.json").exists() else loading.resolve(name)
    if not isinstance(path, Path) or not any(
        (path / file).exists() for file in loading.TOKENIZER_FILES
    ):
        return None
    return loading.load_tokenizer_only(name, load_settings(options, role))
