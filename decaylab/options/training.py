"""The options of training: what is trained on what, where the loss falls, how long; presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options.declared import (
    NEVER,
    TRAINED,
    common,
    option,
)
from decaylab.options.diagnosing import position_bins
from decaylab.options.kinds import AnswerRule, Bins, Count, CountOrOff, Rate, Seed
from decaylab.options.measuring import EMBEDDED_TEACHER, PairOptions
from decaylab.options.option_values import NUMBER_TOO, Must, among, one_of, words

FULL = "full"
NO_PROBLEMS = "none"
Divergence = Literal["reverse-kl", "forward-kl", "js", "policy-gradient"]
DIVERGENCES: tuple[str, ...] = get_args(Divergence)
TRACKERS = ("tensorboard", "wandb", "trackio")
# Defaults. Paper: arXiv 2605.27028, its protocol; what it does not state is ours (docs/train.md).
PAPER_PRESET: dict[str, Any] = {
    "rollout_length": "100",
    "steps": 200,
    "learning_rate": 5e-5,
    "teacher_prefix": 200,
    "checkpoint_every": 50,
    "batch_tokens": None,
}
EMBEDDED_PRESET: dict[str, Any] = {
    "rollout_length": "40",
    "steps": 100,
    "learning_rate": 3e-4,
    "teacher_prefix": 80,
    "checkpoint_every": 25,
    "batch_tokens": 4096,
}
# On a CPU what its caches hold: more costs memory and gains no speed.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
FULL_FINETUNE_RATE = 0.2
"""Learning rate of full fine-tuning as a share of that of LoRA, where none is given."""
TRAINS = ("train", "sweep")

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
class TrainFields:
    """Options of a training: what it is tested on, where the loss falls, how it optimises."""

    test_problems: str | None = option(
        "The problems",
        "What trained students will be tested on: training problems that also stand there are "
        f"dropped. {NO_PROBLEMS}: look for none. By default abacus with the embedded pair, math500 "
        "with any other.",
        only=TRAINS,
    )
    test_limit: Count | None = option(
        "The problems", "Test on the first N problems by default.", only=TRAINS, identity=NEVER
    )
    validation_problems: CountOrOff = option(
        "The problems",
        "Problems held out to choose the best checkpoint by and to watch behaviour on; 0 is off.",
        100,
    )

    selector: SelectorName = common(
        "Where the loss falls", f"Which positions carry loss: {', '.join(SELECTORS)}.", "prefix"
    )
    budget: Budget | None = common(
        "Where the loss falls",
        "How many positions of a rollout carry loss; by default as many as ESR's N.",
    )
    teacher_prefix: Count | None = option(
        "Where the loss falls",
        "after-teacher-prefix: tokens that the teacher writes ahead of the student.",
    )
    divergence: Divergence = common(
        "Where the loss falls",
        f"{', '.join(DIVERGENCES)}; exact over the whole vocabulary but the last.",
        "reverse-kl",
    )
    normalise: Literal["tokens", "rollouts"] = option(
        "Where the loss falls",
        "tokens: mean over the step's selected tokens. rollouts: mean over its rollouts of their "
        "own means.",
        "tokens",
        only=TRAINS,
    )
    score_end: bool = option(
        "Where the loss falls", "Whether the end-of-turn token carries loss.", True, only=TRAINS
    )

    steps: Count | None = common(
        "The training", "Updates; 100 with the embedded pair, 200 with any other."
    )
    problems_per_step: Count = common("The training", "Problems per step, over all processes.", 16)
    rollouts_per_problem: Count = option("The training", "Rollouts per problem of a step.", 1)
    full_finetune: bool = common("The training", "Train every weight instead of LoRA.", False)
    lora_rank: Count = option("The training", "Rank of the adapters.", 32)
    lora_alpha: Count = option("The training", "LoRA scale is alpha / rank.", 64, only=TRAINS)
    lora_targets: str = option(
        "The training", "all-linear, or names of layers with commas: q_proj,v_proj.", "all-linear"
    )
    learning_rate: Rate | None = common(
        "The training",
        "Of AdamW; by default 3e-4 with the embedded pair, 5e-5 with any other, a fifth with "
        "--full-finetune.",
        only=TRAINS,
    )
    warmup_steps: CountOrOff = option("The training", "Steps of a linear warm-up.", 0, only=TRAINS)
    schedule: Literal["constant", "linear", "cosine"] = option(
        "The training",
        "Of the learning rate: constant, or linear or cosine down to 0.",
        "constant",
        only=TRAINS,
    )
    weight_decay: WeightDecay = option("The training", "Of AdamW.", 0.0, only=TRAINS)
    clip: Rate = option("The training", "Clip the gradient norm to this value.", 1.0, only=TRAINS)
    autocast: Literal["off", "bfloat16"] = option(
        "The training", "off, or bfloat16: passes in 16 bits over weights of 32.", "off"
    )
    gradient_checkpointing: bool = option(
        "The training", "Compute activations twice instead of keeping them.", False, identity=NEVER
    )
    checkpoint_every: Count | None = option(
        "The training",
        "Steps between checkpoints; 25 with the embedded pair, 50 with any other. The last step "
        "always makes one.",
    )


@dataclass(frozen=True)
class TrainOptions(TrainFields, PairOptions):
    """The options of ``decaylab train``; None means that `resolved` chooses."""

    names_folder = ("teacher", "student", "problems") + (
        *("selector", "rollout_length", "budget", "teacher_prefix", "seed"),
    )

    # These mean something else to a training than to a measurement.
    problems: str | None = common(
        "The problems",
        "The training problems, by the same names; abacus-train with the embedded pair. They "
        "need no answers.",
    )
    limit: Count | None = common("The problems", "Use only the first N training problems.")
    split: str | None = option("The problems", "Hub split; train by default.")
    answer_rule: AnswerRule | None = option(
        "The problems",
        "The rule that held-out answers are graded by.",
        among="The measurement",
        place=3,
    )
    max_tokens: Count | None = common(
        "Sampling", "Budget of a full rollout.", among="The measurement", place=1
    )
    seed: Seed = common(
        "Sampling",
        "Seed for the order of problems, sampling, and the adapters' initial weights.",
        0,
    )

    bins: Bins | None = option(
        "Where the loss falls",
        "Lower ends of the position bins of the KL in metrics.csv, from 0: 0,50,100,200.",
        among="The measurement",
    )
    rollout_length: RolloutLength | None = common(
        "Where the loss falls",
        f"The paper's N: tokens at which rollouts stop, or {FULL}. By default 100 (40 with the "
        "embedded pair) where the selector stops rollouts, and full where it does not.",
        among="The measurement",
    )
    track: Trackers = option(
        "The training",
        f"Trackers to log to as well, with commas: {', '.join(TRACKERS)}.",
        "",
        only=("train",),
        identity=NEVER,
    )
    batch_tokens: Count | None = option(
        "The training",
        "Tokens of a micro-batch, padding included; gradients are accumulated over a step. By "
        "default 4,096 with the embedded pair, else 1,024 on a CPU and 16,384 on a GPU.",
        among="Scoring",
        identity=NEVER,  # like processes, micro-batches change the rounding of sums alone
    )

    unshared = "a rollout that holds one is scored up to it and counted"
    needs_student = True

    def needs_weights(self, role: str) -> bool:
        return True

    @property
    def preset(self) -> str:
        """Which defaults hold."""
        return "embedded pair" if self.teacher in (None, EMBEDDED_TEACHER) else "paper"

    @property
    def _preset(self) -> dict[str, Any]:
        return EMBEDDED_PRESET if self.preset == "embedded pair" else PAPER_PRESET

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
        embedded = self.preset == "embedded pair"
        if self.problems is None and not embedded:
            raise UserError(
                "--problems must name the training problems: a .jsonl or .parquet file, or a hub "
                "data set"
            )
        chosen = dataclasses.replace(
            self,
            problems=self.problems or "abacus-train",
            test_problems=self.test_problems or ("abacus" if embedded else "math500"),
        ).with_pair()
        for name in ("steps", "checkpoint_every", "batch_tokens", "learning_rate"):
            if getattr(self, name) is None:
                chosen = dataclasses.replace(chosen, **{name: self._preset[name]})
        if self.full_finetune:
            chosen = self._whole(chosen)
        chosen = dataclasses.replace(chosen, bins=chosen.bins or position_bins(chosen.embedded))
        chosen = chosen._with_lengths()
        chosen.check()
        return chosen

    def _whole(self, chosen: TrainOptions) -> TrainOptions:
        """Full fine-tuning where nothing else is given: 16 bits lose small updates."""
        if self.learning_rate is None:
            rate = FULL_FINETUNE_RATE * float(chosen.learning_rate or 0)
            chosen = dataclasses.replace(chosen, learning_rate=rate)
        return dataclasses.replace(chosen, dtype="float32") if self.dtype == "auto" else chosen

    def _with_lengths(self) -> TrainOptions:
        """Where rollouts stop, and how many of their positions carry loss."""
        given, budget = self.rollout_length, self.budget
        stop = self.stop_at
        if budget is not None and stop is not None and budget > stop:
            raise UserError(
                f"--budget {budget} is above --rollout-length {stop}: no rollout has so many tokens"
            )
        selector = SELECTORS[self.selector]
        if self.selector == "prefix" and given == FULL and budget is None:
            # ESR that never stops is full distillation.
            return dataclasses.replace(self, selector=FULL, rollout_length=FULL)
        if selector.whole:
            if budget is not None:
                raise UserError(
                    f"--budget has no meaning for --selector {self.selector}: every token carries "
                    "loss"
                )
            return dataclasses.replace(self, rollout_length=given or FULL)
        usual = int(self._preset["rollout_length"])
        if not selector.stops_at_budget:
            budget = budget or min(stop or usual, usual)
            return dataclasses.replace(self, rollout_length=given or FULL, budget=budget)
        if given == FULL or (stop is not None and budget is not None and budget != stop):
            raise UserError(
                f"--selector {self.selector} stops the rollout at its budget, so --rollout-length "
                f"{given} and --budget {budget} are one number; prefix-mask trains on the first "
                "tokens of longer rollouts"
            )
        length = stop or budget or usual
        ahead = self.teacher_prefix
        if self.selector == "after-teacher-prefix" and ahead is None:
            ahead = int(self._preset["teacher_prefix"])
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
        most = self.max_tokens or math.inf
        longest = (self.stop_at or 0) + (self.teacher_prefix or 0)
        if longest > most:
            raise UserError(
                f"rollouts of {longest} tokens go beyond the budget of a full one, --max-tokens "
                f"{self.max_tokens}"
            )
        if (self.budget or 0) > most:
            raise UserError(
                f"--budget {self.budget} is above the longest rollout, --max-tokens "
                f"{self.max_tokens}"
            )

    def arm(self) -> str:
        """Selector and lengths in short, as in a run's folder: prefix-20, full, random-20."""
        name: str = self.selector
        if self.budget:
            name += f"-{self.budget}"
        if self.stop_at is not None and self.budget != self.stop_at:
            name += f"-of-{self.stop_at}"
        if self.teacher_prefix and self.teacher_prefix != self._preset["teacher_prefix"]:
            name += f"-behind-{self.teacher_prefix}"
        return name

    def default_folder(self) -> str:
        arm = (self.arm(), f"seed-{self.seed}")
        return f"runs/{self.folder_name('train', *arm, kinds=(TRAINED,))}"
