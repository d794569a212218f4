"""The options of training: what is trained on what, where the loss falls, how long; and the presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.options import EMBEDDED_TEACHER, PairOptions, position_bins
from decaylab.selection import SELECTORS, Selector

FULL = "full"
NO_PROBLEMS = "none"
Divergence = Literal["reverse-kl", "forward-kl", "js", "policy-gradient"]
DIVERGENCES = ("reverse-kl", "forward-kl", "js", "policy-gradient")
CHOICES = {
    "divergence": DIVERGENCES,
    "normalise": ("tokens", "rollouts"),
    "schedule": ("constant", "linear", "cosine"),
    "autocast": ("off", "bfloat16"),
}
TRACKERS = ("tensorboard", "wandb", "trackio")
# What is chosen where nothing is said. Paper: arXiv 2605.27028, its protocol; what it does not state is ours (docs/train.md).
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
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # on a CPU what its caches hold: more costs memory and gains no speed
FULL_FINETUNE_RATE = 0.2
"""Learning rate of full fine-tuning as a share of that of LoRA, where none is given."""


@dataclass(frozen=True)
class TrainOptions(PairOptions):
    """Every option of ``decaylab train``; None means: chosen by `resolved` from the others.

    problems, limit, split, columns, revision: of the training problems. max_tokens: the budget of a full rollout.
    rollout_length: the paper's N, in tokens, or ``full``. budget: positions of a rollout that carry loss.
    teacher_prefix: tokens that the teacher writes ahead of the student, for ``after-teacher-prefix``.
    batch_tokens: rollouts x time of a micro-batch; gradients are accumulated over as many as a step needs. None: what
    suits the device (`BATCH_TOKENS`).
    validation_problems: held out of the training problems, to choose the best checkpoint by and to watch behaviour on.
    """

    test_problems: str | None = None
    test_limit: int | None = None
    validation_problems: int = 100
    steps: int | None = None
    problems_per_step: int = 16
    rollouts_per_problem: int = 1
    selector: str = "prefix"
    rollout_length: str | None = None
    budget: int | None = None
    teacher_prefix: int | None = None
    divergence: Divergence = "reverse-kl"
    normalise: Literal["tokens", "rollouts"] = "tokens"
    score_end: bool = True
    full_finetune: bool = False
    lora_rank: int = 32
    lora_alpha: int = 64
    lora_targets: str = "all-linear"
    learning_rate: float | None = None
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: float = 0.0
    clip: float = 1.0
    autocast: Literal["off", "bfloat16"] = "off"
    gradient_checkpointing: bool = False
    batch_tokens: int | None = None
    checkpoint_every: int | None = None
    bins: tuple[int, ...] | None = None
    track: str = ""

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
        return tuple(name.strip() for name in self.track.split(",") if name.strip())

    def resolved(self) -> TrainOptions:
        """The same with every open choice made.

        Raises:
            UserError: an option that cannot be used.
        """
        preset = EMBEDDED_PRESET if self.preset == "embedded pair" else PAPER_PRESET
        embedded = self.preset == "embedded pair"
        if self.problems is None and not embedded:
            raise UserError("--problems must name the training problems: a .jsonl or .parquet file, or a hub data set")
        rate = preset["learning_rate"] * (FULL_FINETUNE_RATE if self.full_finetune else 1)
        chosen = dataclasses.replace(
            self,
            problems=self.problems or "abacus-train",
            test_problems=self.test_problems or ("abacus" if embedded else "math500"),
            steps=self.steps if self.steps is not None else preset["steps"],
            checkpoint_every=self.checkpoint_every if self.checkpoint_every is not None else preset["checkpoint_every"],
            dtype="float32"
            if self.full_finetune and self.dtype == "auto"
            else self.dtype,  # 16 bits lose small updates
            batch_tokens=self.batch_tokens if self.batch_tokens is not None else preset["batch_tokens"],
            learning_rate=self.learning_rate if self.learning_rate is not None else rate,
        ).with_pair()
        chosen = dataclasses.replace(chosen, bins=chosen.bins or position_bins(chosen.embedded))
        if chosen.selector not in SELECTORS:
            raise UserError(f"--selector must be one of {', '.join(SELECTORS)}, got {chosen.selector}")
        chosen = chosen._with_lengths(preset)
        chosen.check()
        return chosen

    def _with_lengths(self, preset: dict[str, Any]) -> TrainOptions:
        """Where rollouts stop, and how many of their positions carry loss."""
        given, budget = self.rollout_length, self.budget
        _check_length(given)
        if budget is not None and budget < 1:
            raise UserError(f"--budget must be at least 1 token, got {budget}")
        stop = None if given in (None, FULL) else int(str(given))
        if budget is not None and stop is not None and budget > stop:
            raise UserError(f"--budget {budget} is above --rollout-length {stop}: no rollout has so many tokens")
        selector = self.chosen_selector
        if self.selector == "prefix" and given == FULL and budget is None:
            return dataclasses.replace(self, selector=FULL, rollout_length=FULL)  # ESR at no length at all
        if selector.whole:
            if budget is not None:
                raise UserError(f"--budget has no meaning for --selector {self.selector}: every token carries loss")
            return dataclasses.replace(self, rollout_length=given or FULL)
        if not selector.stops_at_budget:
            return dataclasses.replace(
                self, rollout_length=given or FULL, budget=budget or _smaller(stop, int(preset["rollout_length"]))
            )
        if given == FULL or (stop is not None and budget is not None and budget != stop):
            raise UserError(
                f"--selector {self.selector} stops the rollout at its budget, so --rollout-length {given} and --budget "
                f"{budget} are one number; prefix-mask trains on the first tokens of longer rollouts"
            )
        length = stop or budget or int(preset["rollout_length"])
        ahead = self.teacher_prefix
        if self.selector == "after-teacher-prefix" and ahead is None:
            ahead = int(preset["teacher_prefix"])
        return dataclasses.replace(self, rollout_length=str(length), budget=length, teacher_prefix=ahead)

    def check(self) -> None:
        super().check()
        if self.has_workers:
            raise UserError(
                "training has no workers of its own: several GPUs train by accelerate launch -m decaylab train"
            )
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{_flag(name)} must be one of {', '.join(allowed)}, got {getattr(self, name)}")
        for name in ("steps", "problems_per_step", "rollouts_per_problem", "lora_rank", "lora_alpha", "batch_tokens",
                     "checkpoint_every", "teacher_prefix", "test_limit"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{_flag(name)} must be at least 1, got {value}")
        for name in ("validation_problems", "warmup_steps"):
            if getattr(self, name) < 0:
                raise UserError(f"{_flag(name)} must be at least 0 (0 is off), got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{_flag(name)} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"--weight-decay must be at least 0, got {self.weight_decay}")
        if self.temperature == 0:
            raise UserError("--temperature 0 is greedy: training rollouts are sampled, so give one above 0")
        bins = self.bins or (0,)
        if bins[0] != 0 or any(a >= b for a, b in zip(bins, bins[1:])):
            raise UserError(f"--bins must begin with 0 and increase, got {','.join(map(str, bins))}")
        if unknown := [name for name in self.trackers if name not in TRACKERS]:
            raise UserError(f"--track must be among {', '.join(TRACKERS)}, got {', '.join(unknown)}")
        if self.teacher_prefix is not None and self.selector != "after-teacher-prefix":
            raise UserError(f"--teacher-prefix has no meaning for --selector {self.selector}")
        longest = (self.stop_at or 0) + (self.teacher_prefix or 0)
        if self.max_tokens is not None and longest > self.max_tokens:
            raise UserError(
                f"rollouts of {longest} tokens go beyond the budget of a full one, --max-tokens {self.max_tokens}"
            )
        if self.budget is not None and self.max_tokens is not None and self.budget > self.max_tokens:
            raise UserError(f"--budget {self.budget} is above the longest rollout, --max-tokens {self.max_tokens}")

    def arm(self) -> str:
        """Selector and lengths in short, as they name a run's folder: prefix-20, full, random-20."""
        length = "" if self.stop_at is None or self.budget == self.stop_at else f"-of-{self.stop_at}"
        ahead = f"-behind-{self.teacher_prefix}" if self.teacher_prefix else ""
        usual = (EMBEDDED_PRESET if self.preset == "embedded pair" else PAPER_PRESET)["teacher_prefix"]
        return (
            self.selector
            + (f"-{self.budget}" if self.budget else "")
            + length
            + (ahead if self.teacher_prefix != usual else "")
        )

    def default_folder(self) -> str:
        return f"runs/{self.folder_name('train', self.arm(), f'seed-{self.seed}')}"


def _check_length(given: str | None) -> None:
    if given in (None, FULL):
        return
    if not str(given).removeprefix("-").isdecimal():
        raise UserError(f"--rollout-length must be a number of tokens or {FULL}, got {given}")
    if int(str(given)) < 1:
        raise UserError(f"--rollout-length must be at least 1 token, got {given}")


def _smaller(stop: int | None, length: int) -> int:
    return length if stop is None else min(stop, length)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
