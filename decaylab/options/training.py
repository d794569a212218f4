"""The options of training: what is trained on what, where the loss falls, how long; and the
presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS, Selector
from decaylab.options.measuring import (
    COMPUTED_WITH,
    EMBEDDED_TEACHER,
    Bins,
    Count,
    CountOrOff,
    PairOptions,
    Rate,
    position_bins,
)
from decaylab.options.option_values import NUMBER_TOO, Must, among, one_of, words

FULL = "full"
NO_PROBLEMS = "none"
Divergence = Literal["reverse-kl", "forward-kl", "js", "policy-gradient"]
DIVERGENCES: tuple[str, ...] = get_args(Divergence)
TRACKERS = ("tensorboard", "wandb", "trackio")
# What is chosen where nothing is said. Paper: arXiv 2605.27028, its protocol; what it does not
# state is ours (docs/train.md).
PAPER_PRESET: dict[str, Any] = {
    "rollout_length": "100",
    "steps": 200,
    "learning_rate": 5e-5,
    "teacher_prefix": 200,
    "checkpoint_every": 50,
    "batch_tokens": None,
}
EMBEDDED_PRESET: dict[str, Any] = {
    "rollout_length": "20",
    "steps": 100,
    "learning_rate": 3e-4,
    "teacher_prefix": 40,
    "checkpoint_every": 25,
    "batch_tokens": 4096,
}
BATCH_TOKENS = {
    "cpu": 1024,
    "cuda": 16384,
}  # on a CPU what its caches hold: more costs memory and gains no speed
FULL_FINETUNE_RATE = 0.2
"""Learning rate of full fine-tuning as a share of that of LoRA, where none is given."""
NOT_IDENTITY = (
    *(
        "track",
        "level",
        "samples",
        "rollouts",
        "test_limit",
        "batch_tokens",
        "gradient_checkpointing",
    ),
    *COMPUTED_WITH,
)
"""Options that a training goes on with whatever they are. Micro-batches, like processes, change the
rounding of sums alone."""

RolloutLength = Annotated[
    str,
    NUMBER_TOO,
    Must(
        f"be a number of tokens or {FULL}",
        lambda text: text == FULL or text.removeprefix("-").isdecimal(),
    ),
    Must("be at least 1 token", lambda text: text == FULL or int(text) >= 1),
]
Budget = Annotated[int, Must("be at least 1 token", lambda value: value >= 1)]
WeightDecay = Annotated[float, Must("be at least 0", lambda value: 0 <= value < math.inf)]
Trackers = Annotated[str, among(TRACKERS)]
SelectorName = Annotated[str, one_of(SELECTORS)]


@dataclass(frozen=True)
class TrainOptions(PairOptions):
    """Every option of ``decaylab train``; None means: chosen by `resolved` from the others.

    problems, limit, split, columns, revision: of the training problems. max_tokens: the budget of a
    full rollout.
    rollout_length: the paper's N, in tokens, or ``full``. budget: positions of a rollout that carry
    loss.
    teacher_prefix: tokens that the teacher writes ahead of the student, for
    ``after-teacher-prefix``.
    batch_tokens: rollouts x time of a micro-batch; gradients are accumulated over as many as a step
    needs. None: what suits the device (`BATCH_TOKENS`).
    validation_problems: held out of the training problems, to choose the best checkpoint by and to
    watch behaviour on.
    """

    test_problems: str | None = None
    test_limit: Count | None = None
    validation_problems: CountOrOff = 100
    steps: Count | None = None
    problems_per_step: Count = 16
    rollouts_per_problem: Count = 1
    selector: SelectorName = "prefix"
    rollout_length: RolloutLength | None = None
    budget: Budget | None = None
    teacher_prefix: Count | None = None
    divergence: Divergence = "reverse-kl"
    normalise: Literal["tokens", "rollouts"] = "tokens"
    score_end: bool = True
    full_finetune: bool = False
    lora_rank: Count = 32
    lora_alpha: Count = 64
    lora_targets: str = "all-linear"
    learning_rate: Rate | None = None
    warmup_steps: CountOrOff = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: WeightDecay = 0.0
    clip: Rate = 1.0
    autocast: Literal["off", "bfloat16"] = "off"
    gradient_checkpointing: bool = False
    batch_tokens: Count | None = None
    checkpoint_every: Count | None = None
    bins: Bins | None = None
    track: Trackers = ""

    unshared = "a rollout that holds one is scored up to it and counted"
    needs_student = True

    def needs_weights(self, role: str) -> bool:
        return True

    @property
    def preset(self) -> str:
        """Which defaults hold."""
        return "embedded pair" if self.teacher in (None, EMBEDDED_TEACHER) else "paper"

    @property
    def chosen_selector(self) -> Selector:
        return SELECTORS[self.selector]

    @property
    def stop_at(self) -> int | None:
        """Tokens at which rollouts stop; None is a full rollout."""
        return None if self.rollout_length in (None, FULL) else int(str(self.rollout_length))

    @property
    def trackers(self) -> tuple[str, ...]:
        return words(self.track)

    def resolved(self) -> TrainOptions:
        """The same with every open choice made.

        Raises:
            UserError: an option that cannot be used.
        """
        preset = EMBEDDED_PRESET if self.preset == "embedded pair" else PAPER_PRESET
        embedded = self.preset == "embedded pair"
        if self.problems is None and not embedded:
            raise UserError(
                "--problems must name the training problems: a .jsonl or .parquet file, or a hub "
                "data set"
            )
        rate = preset["learning_rate"] * (FULL_FINETUNE_RATE if self.full_finetune else 1)
        chosen = dataclasses.replace(
            self,
            problems=self.problems or "abacus-train",
            test_problems=self.test_problems or ("abacus" if embedded else "math500"),
            steps=self.steps if self.steps is not None else preset["steps"],
            checkpoint_every=self.checkpoint_every
            if self.checkpoint_every is not None
            else preset["checkpoint_every"],
            dtype="float32"
            if self.full_finetune and self.dtype == "auto"
            else self.dtype,  # 16 bits lose small updates
            batch_tokens=self.batch_tokens
            if self.batch_tokens is not None
            else preset["batch_tokens"],
            learning_rate=self.learning_rate if self.learning_rate is not None else rate,
        ).with_pair()
        chosen = dataclasses.replace(chosen, bins=chosen.bins or position_bins(chosen.embedded))
        chosen = chosen._with_lengths(preset)
        chosen.check()
        return chosen

    def _with_lengths(self, preset: dict[str, Any]) -> TrainOptions:
        """Where rollouts stop, and how many of their positions carry loss."""
        given, budget = self.rollout_length, self.budget
        stop = None if given in (None, FULL) else int(str(given))
        if budget is not None and stop is not None and budget > stop:
            raise UserError(
                f"--budget {budget} is above --rollout-length {stop}: no rollout has so many tokens"
            )
        selector = self.chosen_selector
        if self.selector == "prefix" and given == FULL and budget is None:
            return dataclasses.replace(
                self, selector=FULL, rollout_length=FULL
            )  # ESR at no length at all
        if selector.whole:
            if budget is not None:
                raise UserError(
                    f"--budget has no meaning for --selector {self.selector}: every token carries "
                    "loss"
                )
            return dataclasses.replace(self, rollout_length=given or FULL)
        if not selector.stops_at_budget:
            return dataclasses.replace(
                self,
                rollout_length=given or FULL,
                budget=budget or _smaller(stop, int(preset["rollout_length"])),
            )
        if given == FULL or (stop is not None and budget is not None and budget != stop):
            raise UserError(
                f"--selector {self.selector} stops the rollout at its budget, so --rollout-length "
                f"{given} and --budget "
                f"{budget} are one number; prefix-mask trains on the first tokens of longer "
                "rollouts"
            )
        length = stop or budget or int(preset["rollout_length"])
        ahead = self.teacher_prefix
        if self.selector == "after-teacher-prefix" and ahead is None:
            ahead = int(preset["teacher_prefix"])
        return dataclasses.replace(
            self, rollout_length=str(length), budget=length, teacher_prefix=ahead
        )

    def check(self) -> None:
        super().check()
        if self.has_workers:
            raise UserError(
                "training has no workers of its own: several GPUs train by accelerate launch -m "
                "decaylab train"
            )
        if self.temperature == 0:
            raise UserError(
                "--temperature 0 is greedy: training rollouts are sampled, so give one above 0"
            )
        if self.teacher_prefix is not None and self.selector != "after-teacher-prefix":
            raise UserError(f"--teacher-prefix has no meaning for --selector {self.selector}")
        longest = (self.stop_at or 0) + (self.teacher_prefix or 0)
        if self.max_tokens is not None and longest > self.max_tokens:
            raise UserError(
                f"rollouts of {longest} tokens go beyond the budget of a full one, --max-tokens "
                f"{self.max_tokens}"
            )
        if (
            self.budget is not None
            and self.max_tokens is not None
            and self.budget > self.max_tokens
        ):
            raise UserError(
                f"--budget {self.budget} is above the longest rollout, --max-tokens "
                f"{self.max_tokens}"
            )

    def arm(self) -> str:
        """Selector and lengths in short, as they name a run's folder: prefix-20, full,
        random-20."""
        length = (
            "" if self.stop_at is None or self.budget == self.stop_at else f"-of-{self.stop_at}"
        )
        ahead = f"-behind-{self.teacher_prefix}" if self.teacher_prefix else ""
        usual = (EMBEDDED_PRESET if self.preset == "embedded pair" else PAPER_PRESET)[
            "teacher_prefix"
        ]
        return (
            self.selector
            + (f"-{self.budget}" if self.budget else "")
            + length
            + (ahead if self.teacher_prefix != usual else "")
        )

    def default_folder(self) -> str:
        return f"runs/{self.folder_name('train', self.arm(), f'seed-{self.seed}')}"


def _smaller(stop: int | None, length: int) -> int:
    return length if stop is None else min(stop, length)
