"""The options of a measurement, with their defaults, the choices that follow from others, and what
is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.option_values import (
    ABOVE_0,
    BETWEEN_0_AND_1,
    COUNT,
    JSON_TOO,
    NOT_NEGATIVE,
    ONE_BY_ONE,
    Must,
    Names,
    one_of,
)
from decaylab.problems import thoughts
from decaylab.problems.answers import ANSWER_RULES

CONTROLS = ("own-prefix", "correct-so-far", "reverse", "swapped")
EMBEDDED_TEACHER, EMBEDDED_STUDENT = "abacus-teacher", "abacus-student"
LONGEST_NAME = 120  # bytes of a folder's name; file systems end at 255
HUB_STUDENT = "Qwen/Qwen2.5-Math-1.5B"
NOT_OF_TEMPLATES = {
    *(
        "enable_thinking",
        "messages",
        "conversation",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
    ),
    *(
        "continue_final_message",
        "tokenize",
        "sanitize_control_tokens",
        "padding",
        "truncation",
        "max_length",
    ),
    *(
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "strftime_now",
    ),
}
"""Names that mean something else to a template, or to what renders it."""
MACHINERY = ("engine", "adapters", "tensor_parallel", "gpu_memory_share", "workers", "ray")
"""Options of how sampling is run. A record holds them apart from what is measured; see
`engines.engine_record`."""
COMPUTED_WITH = ("device", "batch_rows", "out", "overwrite", "paper", *MACHINERY)
"""What is no part of any run's identity: where and how fast it is computed, where results go and
how they are drawn. A device is told by the precision, which has its kind. Batches of another size
change rounding, as the engines say."""

Count = Annotated[int, COUNT]
CountOrOff = Annotated[int, NOT_NEGATIVE]
Share = Annotated[float, BETWEEN_0_AND_1]
Rate = Annotated[float, ABOVE_0]
UpTo1 = Annotated[float, Must("lie above 0 and not above 1", lambda value: 0 < value <= 1)]
Below1 = Annotated[float, Must("be at least 0 and below 1", lambda value: 0 <= value < 1)]
Temperature = Annotated[
    float, Must("be at least 0 (0 is greedy)", lambda value: 0 <= value < math.inf)
]
Seed = Annotated[int, Must("be at least 0 and below 2^63", lambda value: 0 <= value < 2**63)]
Paths = Annotated[tuple[str, ...], ONE_BY_ONE]
Lengths = Annotated[tuple[int, ...], Must("not be empty", bool)]
AnswerRule = Annotated[str, one_of(ANSWER_RULES)]
Bins = Annotated[
    tuple[int, ...],
    Must(
        "begin with 0 and increase",
        lambda bins: bins[:1] == (0,) and all(a < b for a, b in zip(bins, bins[1:])),
    ),
]
Controls = Annotated[
    tuple[str, ...],
    Names({"all": CONTROLS, "none": ()}),
    Must(f"be all, none or among {', '.join(CONTROLS)}", lambda names: set(names) <= set(CONTROLS)),
]
EVERY, LAST, BEST = "every", "last", "best"


def _is_rule(text: str) -> bool:
    rules = tuple(part.strip() for part in text.split(","))
    return rules == (EVERY,) or (set(rules) <= {LAST, BEST} and len(set(rules)) == len(rules))


CHECKPOINT_RULE = Must(f"be {EVERY}, {LAST}, {BEST}, or {LAST},{BEST}", _is_rule)
CheckpointRule = Annotated[str, CHECKPOINT_RULE]
Text = Annotated[str, Must("be text", lambda text: True)]  # may be empty
Variables = Annotated[
    dict[str, str], JSON_TOO, Must("be KEY=VALUE", lambda table: all(map(str.isidentifier, table)))
]
COLUMN_ROLES = (
    *(
        "question",
        "answer",
        "id",
        "prompt",
        "problem_id",
        "response",
        "stop",
        "truncated",
        "sample",
        "prompt_ids",
    ),
    *("response_ids", "response_mask", "reasoning", "grade"),
)
"""What a column can hold: the first three of problems, all of rollouts."""
Columns = Annotated[
    dict[str, str],
    Must(
        f"name {', '.join(COLUMN_ROLES)} as ROLE=NAME",
        lambda names: set(names) <= set(COLUMN_ROLES),
    ),
]


@dataclass(frozen=True)
class PairOptions:
    """What every command asks of a pair: the policies, the problems, the sampling, the run. None
    means: chosen later."""

    teacher: str | None = None
    student: str | None = None
    problems: str | None = None
    rollouts: str | None = None
    rollouts_format: str | None = None
    prompt_kind: Literal["auto", "question", "rendered"] = "auto"
    prompt_in_response: Literal["refuse", "cut", "keep"] = "refuse"
    no_stop_reason: Literal["unknown", "natural", "cut-off"] = "unknown"
    samples: Count = 4
    max_tokens: Count | None = None
    limit: Count | None = None
    split: str | None = None
    columns: Columns = field(default_factory=dict)
    revision: str | None = None
    teacher_revision: str | None = None
    student_revision: str | None = None
    temperature: Temperature = 0.7
    top_p: UpTo1 = 1.0
    top_k: CountOrOff = 0
    seed: Seed = 0
    teacher_prompt: Literal["own", "student"] = "own"
    prompt_format: Literal["chat", "plain"] = "chat"
    thinking: Literal["off", "on", "template"] = "off"
    system: Text | None = None
    teacher_system: Text | None = None
    instruction: Text | None = None
    template_kwargs: Variables = field(default_factory=dict)
    leave_out_long: bool = False
    answer_rule: AnswerRule | None = None
    thought_marks: Text | None = None
    level: Share = 0.95
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_rows: Count = 256
    engine: Literal["transformers", "vllm"] = "transformers"
    adapters: Literal["merged", "served"] = "merged"
    tensor_parallel: Count = 1
    gpu_memory_share: UpTo1 | None = None
    workers: Count = 1
    ray: str | None = None
    trust_remote_code: bool = False
    out: str | None = None
    overwrite: bool = False
    paper: bool = False

    def __post_init__(self) -> None:
        option_values.check(self)

    @property
    def embedded(self) -> bool:
        """Whether the pair is the one that ships with decaylab, by its teacher."""
        return self.teacher == EMBEDDED_TEACHER

    @property
    def of_embedded_pair(self) -> bool:
        """Whether both policies are those that ship with decaylab."""
        return (self.teacher, self.student) == (EMBEDDED_TEACHER, EMBEDDED_STUDENT)

    @property
    def has_workers(self) -> bool:
        """Whether Ray's workers sample, and not this process."""
        return self.workers > 1 or self.ray is not None

    @property
    def needs_vllm(self) -> bool:
        return self.engine == "vllm"

    def needs_weights(self, role: str) -> bool:
        """Whether the weights of student or teacher are needed in this process: an engine elsewhere
        loads its own."""
        return self.engine == "transformers" and not self.has_workers

    def with_budget(self, room: int) -> Self:
        """The same with a budget: as it was given, or the usual one as far as there is room behind
        the longest prompt."""
        if self.max_tokens is not None:
            return self
        usual = 320 if self.embedded else 2048
        return dataclasses.replace(self, max_tokens=min(usual, room) if room > 0 else usual)

    def with_pair(self) -> Self:
        """The same with both policies, the problems and the budget chosen."""
        teacher = self.teacher or EMBEDDED_TEACHER
        embedded = teacher == EMBEDDED_TEACHER
        return dataclasses.replace(
            self,
            teacher=teacher,
            student=self.student or (EMBEDDED_STUDENT if embedded else HUB_STUDENT),
            problems=self.problems
            or ("rollouts" if self.rollouts else "abacus" if embedded else "math500"),
            max_tokens=self.max_tokens
            if self.max_tokens is not None or self.rollouts
            else 320
            if embedded
            else 2048,
        )

    def check(self) -> None:
        """Raises UserError where options do not go together, or cannot be used here."""
        self._check_engine()
        thoughts.of_option(self.thought_marks)
        self._check_prompts()
        _check_device(self.device)

    def _check_prompts(self) -> None:
        """Raises UserError where what is said of prompts has no place in them."""
        if self.teacher_system is not None and self.teacher_prompt == "student":
            raise UserError(
                "--teacher-system has no place in --teacher-prompt student: leave one of them out"
            )
        if self.prompt_format == "plain":
            for name in ("system", "teacher_system", "template_kwargs"):
                if getattr(self, name):
                    raise UserError(
                        f"--{name.replace('_', '-')} is of chat templates, and --prompt-format "
                        "plain uses none: leave it out"
                    )
        if taken := sorted(NOT_OF_TEMPLATES & set(self.template_kwargs)):
            instead = (
                "--thinking sets it"
                if taken[0] == "enable_thinking"
                else "it is no variable of a template's own"
            )
            raise UserError(f"--template-kwargs {taken[0]}: {instead}; leave it out")

    def _check_engine(self) -> None:
        """Raises UserError where an option of an engine was given to another one."""
        if self.engine == "vllm":
            return
        for name, unset in (
            ("tensor_parallel", 1),
            ("gpu_memory_share", None),
            ("adapters", "merged"),
        ):
            if getattr(self, name) != unset:
                raise UserError(
                    f"{option_values.flag(name)} has no meaning for --engine transformers; say "
                    "--engine vllm"
                )

    def folder_name(self, command: str, *more: str) -> str:
        """COMMAND-TEACHER-STUDENT-PROBLEMS: the same command finds its run again."""
        names = (self.teacher or "", self.student or "", *more, self.problems or "")
        words = "-".join(
            [command, *(re.sub(r"[^\w.-]+", "-", Path(name).name or name) for name in names)]
        )
        if len(words.encode()) <= LONGEST_NAME:
            return words
        digest = hashlib.sha256(words.encode()).hexdigest()[:8]
        return f"{words.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


@dataclass(frozen=True)
class Options(PairOptions):
    """Every option of ``decaylab prefix-decay``; None means: chosen by `resolved` from the
    others."""

    prefix_lengths: Lengths | None = None
    controls: Controls = ("correct-so-far",)

    unshared = "a prefix that holds one is left out and counted"
    """What becomes of ids that the two vocabularies do not share."""

    @property
    def needs_student(self) -> bool:
        """Whether the student's weights are needed although its rollouts are there already."""
        return "reverse" in self.controls

    def resolved(self) -> Options:
        """The same with every open choice made.

        Raises:
            UserError: an option that cannot be used.
        """
        chosen = self.with_pair()
        lengths = self.prefix_lengths or (
            (0, 10, 20, 40, 60) if chosen.embedded else (0, 100, 200, 300)
        )
        controls = tuple(sorted(set(self.controls), key=CONTROLS.index))
        chosen = dataclasses.replace(chosen, prefix_lengths=tuple(lengths), controls=controls)
        chosen.check()
        return chosen

    def check(self) -> None:
        lengths = self.prefix_lengths or (0,)
        if any(length < 0 for length in lengths):
            raise UserError(
                f"--prefix-lengths must not be negative, got {','.join(map(str, lengths))}"
            )
        if any(a >= b for a, b in zip(lengths, lengths[1:])):
            raise UserError(
                f"--prefix-lengths must ascend without repeats, got {','.join(map(str, lengths))}"
            )
        if lengths[0] != 0 or len(lengths) < 2:
            raise UserError(
                "--prefix-lengths must begin with 0 (the teacher alone) and go on, got "
                f"{','.join(map(str, lengths))}"
            )
        if self.max_tokens is not None and lengths[-1] >= self.max_tokens:
            raise UserError(
                f"--prefix-lengths reach {lengths[-1]}, beyond the budget --max-tokens "
                f"{self.max_tokens}"
            )
        super().check()

    def default_folder(self) -> Path:
        return Path("runs") / self.folder_name("prefix-decay")


@dataclass(frozen=True)
class FileOptions(PairOptions):
    """Every option of ``decaylab rollouts``. files: of rollouts."""

    files: Paths = ()

    needs_student = False


@dataclass(frozen=True)
class DiagnosticOptions(PairOptions):
    """Every option of the diagnostics on token statistics; each command has those that it uses.

    checkpoints: trained students beside the base student, as policies are named.
    bins: lower ends of position bins, from 0; the last one is open. rollout_length: the paper's N,
    where training stopped.
    score_temperature: of the distributions that are compared. floor_problems: problems scored a
    second time.
    share: of the tokens that count as highest-KL. cumulative_share: of the KL, where N is read off.
    checkpoint_rule: of a run's checkpoints those that are measured: every, last, best or last,best;
    None: every one by evaluate, the last one by the others.
    scores: of tokens, as the command wants them: exact; of a teacher that an engine serves; or
    none. top_ids: of the second.
    said: options that were given, though they may say what is the default: no checkpoint knows
    better.
    """

    checkpoints: Paths = ()
    bins: Bins | None = None
    rollout_length: Count | None = None
    survivors: Count | None = None
    estimand: Literal["tokens", "problems"] = "tokens"
    score_temperature: Rate = 1.0
    head: Literal["model", "float32"] = "model"
    batch_tokens: Count = 4096
    floor_problems: CountOrOff = 32
    view_rollouts: CountOrOff = 50
    share: Share = 0.1
    second_mode: Below1 = 0.1
    cumulative_share: Share = 0.45
    horizon: Count | None = None
    categories: str | None = None
    min_count: Count = 50
    advise: bool = False
    decay: str | None = None
    checkpoint_rule: CheckpointRule | None = None
    cache: str = "runs/cache"
    scores: Literal["exact", "served", "none"] = "exact"
    top_ids: Count = 64
    said: frozenset[str] = frozenset()

    needs_student = True
    unshared = "a rollout that holds one is scored up to it and counted"

    @property
    def needs_vllm(self) -> bool:
        return self.engine == "vllm" or self.scores == "served"

    def needs_weights(self, role: str) -> bool:
        return (
            self.scores == "exact"
            or (self.scores == "served" and role == "student")
            or super().needs_weights(role)
        )

    def resolved(self) -> DiagnosticOptions:
        """The same with every open choice made, the pair known.

        Raises:
            UserError: an option that cannot be used.
        """
        chosen = self.with_pair()
        chosen = dataclasses.replace(
            chosen,
            bins=tuple(self.bins or position_bins(chosen.embedded)),
            rollout_length=self.rollout_length
            if self.rollout_length is not None
            else 20
            if chosen.embedded
            else 100,
        )
        chosen.check()
        return chosen

    def check(self) -> None:
        if self.decay and not self.advise:
            raise UserError(
                "--decay is what --advise reads, which was not asked for; say --advise too"
            )
        super().check()


def position_bins(embedded: bool) -> tuple[int, ...]:
    """Lower ends of position bins, for responses as long as those of the embedded pair or of models
    on the hub."""
    return (
        (0, 5, 10, 20, 30, 40, 60, 80, 100)
        if embedded
        else (0, 5, 20, 50, 100, 200, 300, 400, 500, 600)
    )


def _check_device(name: str) -> None:
    if name == "auto":
        return
    import torch

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"--device {name} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
