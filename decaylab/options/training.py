"""The options of training, with their presets."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options import engine_choice
from decaylab.options.declared import (
    NEVER,
    TRAINED,
    common,
    option,
)
from decaylab.options.kinds import (
    AnswerRule,
    Bins,
    Count,
    CountOrOff,
    Rate,
    Seed,
    SelectorName,
)
from decaylab.options.option_values import NUMBER_TOO, Must, among, words
from decaylab.options.pair_options import EMBEDDED_TEACHER, PairOptions
from decaylab.plugins import origins
from decaylab.problems.tasks import MATHEMATICS

FULL = "full"
NO_PROBLEMS = "none"
Divergence = Literal["reverse-kl", "forward-kl", "js", "policy-gradient"]
DIVERGENCES: tuple[str, ...] = get_args(Divergence)
TRACKERS = ("tensorboard", "wandb", "trackio")
# Defaults. Paper: the protocol of arXiv 2605.27028; docs/train.md lists what it leaves open.
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
    "learning_rate": 1e-3,
    "teacher_prefix": 80,
    "checkpoint_every": 25,
    "batch_tokens": 4096,
}
# On a CPU, larger batches cost memory and are no faster.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}
FULL_FINETUNE_RATE = 0.2
"""Default learning rate of full fine-tuning, as a share of the LoRA rate."""
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


@dataclass(frozen=True)
class TrainFields:
    """Options of training: test problems, where the loss falls, optimisation."""

    test_problems: str | None = option(
        "The problems",
        "Problems that trained students will be tested on. Training problems that also occur there "
        f"are dropped; {NO_PROBLEMS} skips this check. Of several, separated by commas, the first "
        "is evaluated. Default: abacus with the embedded pair, else math500, or those of the task.",
        only=TRAINS,
        metavar="SET",
    )
    test_limit: Count | None = option(
        "The problems", "Use only the first N test problems.", only=TRAINS, identity=NEVER
    )
    validation_problems: CountOrOff = option(
        "The problems",
        "Held-out problems for choosing the best checkpoint and tracking behaviour. 0 turns "
        "validation off.",
        100,
    )

    selector: SelectorName = common(
        "Where the loss falls",
        "Which positions carry loss: {selectors}.",
        "prefix",
        common=("train",),
        metavar="NAME",
    )
    budget: Budget | None = common(
        "Where the loss falls",
        "Positions per rollout that carry loss. Default: the N of ESR.",
        common=TRAINS,
    )
    teacher_prefix: Count | None = option(
        "Where the loss falls",
        "after-teacher-prefix: tokens that the teacher writes before the student continues.",
    )
    divergence: Divergence = common(
        "Where the loss falls",
        f"What is minimised: {', '.join(DIVERGENCES)}. All but the last are exact, over the whole "
        "vocabulary.",
        "reverse-kl",
        common=("train",),
        metavar="NAME",
    )
    normalise: Literal["tokens", "rollouts"] = option(
        "Where the loss falls",
        "tokens: mean over the selected tokens of a step. rollouts: mean of the per-rollout means.",
        "tokens",
        only=TRAINS,
    )
    score_end: bool = option(
        "Where the loss falls", "Loss on the end-of-turn token too.", True, only=TRAINS
    )

    steps: Count | None = common(
        "The training",
        "Optimiser updates. Default: 100 with the embedded pair, else 200, and 400 of code.",
        common=TRAINS,
    )
    problems_per_step: Count = common(
        "The training", "Problems per step, summed over processes.", 16, common=("train",)
    )
    rollouts_per_problem: Count = option("The training", "Rollouts per problem in a step.", 1)
    full_finetune: bool = common(
        "The training", "Train all weights instead of LoRA.", False, common=("train",)
    )
    lora_rank: Count = option("The training", "Rank of the adapters.", 32)
    lora_alpha: Count = option("The training", "LoRA scale is alpha / rank.", 64, only=TRAINS)
    lora_targets: str = option(
        "The training",
        "Layers that get adapters: all-linear, or comma-separated names such as q_proj,v_proj.",
        "all-linear",
        metavar="NAME,...",
    )
    learning_rate: Rate | None = common(
        "The training",
        "Learning rate of AdamW. Default: 1e-3 with the embedded pair, 5e-5 with any other; a "
        "fifth of that with --full-finetune.",
        only=TRAINS,
    )
    warmup_steps: CountOrOff = option("The training", "Steps of linear warm-up.", 0, only=TRAINS)
    schedule: Literal["constant", "linear", "cosine"] = option(
        "The training",
        "Learning-rate schedule; linear and cosine decay to 0.",
        "constant",
        only=TRAINS,
    )
    weight_decay: WeightDecay = option("The training", "Weight decay of AdamW.", 0.0, only=TRAINS)
    clip: Rate = option("The training", "Clip the gradient norm to this value.", 1.0, only=TRAINS)
    autocast: Literal["off", "bfloat16"] = option(
        "The training", "bfloat16: 16-bit passes over 32-bit weights.", "off"
    )
    gradient_checkpointing: bool = option(
        "The training",
        "Recompute activations in the backward pass instead of storing them.",
        False,
        identity=NEVER,
    )
    checkpoint_every: Count | None = option(
        "The training",
        "Steps between checkpoints. Default: 25 with the embedded pair, 50 with any other. The "
        "last step is always saved.",
    )


@dataclass(frozen=True)
class TrainOptions(TrainFields, PairOptions):
    """The options of ``decaylab train``. None: `resolved` fills in the value."""

    names_folder = ("teacher", "student", "problems") + (
        *("selector", "rollout_length", "budget", "teacher_prefix", "seed"),
    )

    # These differ from the options of the same name in measurements.
    problems: str | None = common(
        "The problems",
        "The training problems, named as for measurements. They need no answers. Default: "
        "abacus-train with the embedded pair.",
        metavar="SET",
    )
    limit: Count | None = option("The problems", "Use only the first N training problems.")
    split: str | None = option(
        "The problems", "Split of a hub data set. Default: train.", metavar="NAME"
    )
    answer_rule: AnswerRule | None = option(
        "The problems",
        "The answer rule for grading held-out answers: {answer_rules}.",
        metavar="NAME",
        among="The measurement",
        place=3,
    )
    max_tokens: Count | None = option(
        "Sampling", "Maximum tokens of a full rollout.", among="The measurement", place=1
    )
    seed: Seed = common(
        "Sampling",
        "Seed for the order of problems, sampling, and the adapters' initial weights.",
        0,
        common=("train",),
    )

    bins: Bins | None = option(
        "Where the loss falls",
        "Lower ends of the position bins for the KL in metrics.csv, starting at 0: 0,50,100,200.",
        among="The measurement",
    )
    rollout_length: RolloutLength | None = common(
        "Where the loss falls",
        f"The paper's N: tokens at which rollouts stop, or {FULL}. Default: 100 (40 with the "
        "embedded pair) if the selector stops rollouts, full otherwise.",
        place=-1,
        common=("train",),
        metavar="N|full",
    )
    track: Trackers = option(
        "The training",
        f"Trackers to log to, comma-separated: {', '.join(TRACKERS)}.",
        "",
        only=("train",),
        metavar="NAME,...",
        identity=NEVER,
    )
    batch_tokens: Count | None = option(
        "The training",
        "Tokens per micro-batch, padding included; gradients are accumulated over a step. Default: "
        "4,096 with the embedded pair, otherwise 1,024 on a CPU and 16,384 on a GPU.",
        among="Scoring",
        identity=NEVER,  # micro-batches change only the rounding of sums
    )

    unshared = "a rollout that contains one is scored up to that token and counted"
    needs_student = True

    def needs_weights(self, role: str) -> bool:
        return True

    @property
    def usual_engine(self) -> engine_choice.Engine:
        # vLLM samples for one process; accelerate says how many it has launched.
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        return "transformers" if several else super().usual_engine

    @property
    def preset(self) -> str:
        """The set of defaults in use."""
        return "embedded pair" if self.teacher in (None, EMBEDDED_TEACHER) else "paper"

    @property
    def _preset(self) -> dict[str, Any]:
        if self.preset == "embedded pair":
            return EMBEDDED_PRESET
        return {**PAPER_PRESET, "steps": self.task.steps}

    @property
    def usual_temperature(self) -> float:
        """Default temperature of sampling; greedy rollouts would be the same at every step."""
        return MATHEMATICS.temperature

    @property
    def stop_at(self) -> int | None:
        """Tokens at which rollouts stop; None for full rollouts."""
        return None if self.rollout_length in (None, FULL) else int(str(self.rollout_length))

    @property
    def trackers(self) -> tuple[str, ...]:
        return words(self.track)

    def resolved(self) -> TrainOptions:
        """These options with every unset value filled in.

        Raises:
            UserError: an invalid option.
        """
        embedded = self.preset == "embedded pair"
        if self.problems is None and not embedded:
            raise UserError(
                "--problems is missing: name the training problems, a .jsonl or .parquet file or a "
                "hub data set"
            )
        chosen = dataclasses.replace(
            self,
            problems=self.problems or "abacus-train",
            test_problems=self.test_problems or ("abacus" if embedded else self.task.test_problems),
        ).with_pair()
        for name in ("steps", "checkpoint_every", "batch_tokens", "learning_rate"):
            if getattr(self, name) is None:
                chosen = dataclasses.replace(chosen, **{name: self._preset[name]})
        if self.full_finetune:
            chosen = self._whole(chosen)
        chosen = dataclasses.replace(chosen, bins=chosen.bins or chosen.lengths.bins)
        chosen = chosen._with_lengths()
        chosen.check()
        return chosen

    def _whole(self, chosen: TrainOptions) -> TrainOptions:
        """Defaults of full fine-tuning. Weights are float32, since 16 bits lose small updates."""
        if self.learning_rate is None:
            rate = FULL_FINETUNE_RATE * float(chosen.learning_rate or 0)
            chosen = dataclasses.replace(chosen, learning_rate=rate)
        return dataclasses.replace(chosen, dtype="float32") if self.dtype == "auto" else chosen

    def _with_lengths(self) -> TrainOptions:
        """Fills in where rollouts stop and how many of their positions carry loss."""
        given, budget = self.rollout_length, self.budget
        stop = self.stop_at
        if budget is not None and stop is not None and budget > stop:
            raise UserError(
                f"--budget {budget} exceeds --rollout-length {stop}: rollouts have fewer tokens; "
                "lower --budget"
            )
        selector = SELECTORS[self.selector]
        if self.selector == "prefix" and given == FULL and budget is None:
            # ESR without a stop is full distillation.
            return dataclasses.replace(self, selector=FULL, rollout_length=FULL)
        if selector.whole:
            if budget is not None:
                raise UserError(
                    f"--budget does not apply to --selector {self.selector}, which trains on every "
                    "token: remove it"
                )
            return dataclasses.replace(self, rollout_length=given or FULL)
        usual = int(self._preset["rollout_length"])
        if not selector.stops_at_budget:
            budget = budget or min(stop or usual, usual)
            return dataclasses.replace(self, rollout_length=given or FULL, budget=budget)
        if given == FULL or (stop is not None and budget is not None and budget != stop):
            raise UserError(
                f"--selector {self.selector} stops rollouts at its budget, so --rollout-length "
                f"{given} and --budget {budget} must be equal; to train on the first tokens of "
                "longer rollouts, use --selector prefix-mask"
            )
        length = stop or budget or usual
        ahead = self.teacher_prefix
        if self.selector == "after-teacher-prefix" and ahead is None:
            ahead = int(self._preset["teacher_prefix"])
        return dataclasses.replace(
            self, rollout_length=str(length), budget=length, teacher_prefix=ahead
        )

    def own_parts(self) -> list[origins.Named]:
        tested = [(origins.PROBLEM_SET, name) for name in words(self.test_problems or "")]
        return [(origins.SELECTOR, self.selector), *tested, *super().own_parts()]

    def check(self) -> None:
        super().check()
        if self.has_workers:
            raise UserError(
                "--workers and --ray do not apply to training; for several GPUs run accelerate "
                "launch -m decaylab train"
            )
        if self.temperature == 0:
            raise UserError(
                "--temperature 0 is greedy, but training samples its rollouts: give a value above 0"
            )
        if self.teacher_prefix is not None and self.selector != "after-teacher-prefix":
            raise UserError(
                f"--teacher-prefix does not apply to --selector {self.selector}: remove it, or use "
                "--selector after-teacher-prefix"
            )
        most = self.max_tokens or math.inf
        longest = (self.stop_at or 0) + (self.teacher_prefix or 0)
        if longest > most:
            raise UserError(
                f"rollouts of {longest} tokens exceed --max-tokens {self.max_tokens}; raise "
                "--max-tokens"
            )
        if (self.budget or 0) > most:
            raise UserError(
                f"--budget {self.budget} exceeds the longest rollout, --max-tokens "
                f"{self.max_tokens}"
            )

    def arm(self) -> str:
        """The arm's short name, as in its run's folder: prefix-20, full, random-20."""
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
