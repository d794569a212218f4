"""The options of the commands that diagnose a student: what is scored, binned and compared."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from decaylab.errors import UserError
from decaylab.options.declared import (
    NEVER,
    common,
    option,
)
from decaylab.options.kinds import (
    Below1,
    Bins,
    CheckpointRule,
    Count,
    CountOrOff,
    Paths,
    Rate,
    Share,
)
from decaylab.options.measuring import TOKEN_COMMANDS, PairOptions


@dataclass(frozen=True)
class ScoredFields:
    """Options of scoring that the planner needs to know too."""

    score_temperature: Rate = option(
        "Scoring",
        "Temperature for scoring; see --temperature for sampling.",
        1.0,
        only=TOKEN_COMMANDS,
    )
    head: Literal["model", "float32"] = option(
        "Scoring",
        "Precision of the output heads: model (the model's own) or float32.",
        "model",
        only=(*TOKEN_COMMANDS, "plan"),
    )
    floor_problems: CountOrOff = option(
        "Scoring",
        "Problems scored a second time, one by one and in a wider precision: the noise floor. 0 "
        "is off.",
        32,
        place=1,
        only=(*TOKEN_COMMANDS, "plan"),
    )


@dataclass(frozen=True)
class DiagnosticOptions(ScoredFields, PairOptions):
    """The options of all diagnostics; each command has those that it uses."""

    names_folder = (*PairOptions.names_folder, "checkpoints")

    checkpoints: Paths = common(
        "ahead of all panels",
        "Trained students: adapter, model or run folders. None: the base student alone.",
        (),
        argument=True,
    )
    bins: Bins | None = option(
        "The measurement",
        "Lower ends of the position bins, from 0; the last one is open: 0,50,100,200.",
        only=("position-kl", "category-kl", "signals", "served-kl"),
    )
    rollout_length: Count | None = common(
        "The measurement",
        "The paper's N: the cascade is measured behind it, and selectors get N tokens.",
        only=("position-kl", "signals"),
    )
    survivors: Count | None = option(
        "The measurement",
        "Also the curves of rollouts of at least N tokens, the same ones in every bin.",
        only=("position-kl",),
    )
    estimand: Literal["tokens", "problems"] = option(
        "The measurement",
        "tokens: mean over tokens. problems: mean of the problems' means.",
        "tokens",
        only=("position-kl", "category-kl", "served-kl"),
    )
    share: Share = option(
        "The measurement",
        "Share of the tokens, those with the highest KL, that is looked at.",
        0.1,
        only=("submode",),
    )
    second_mode: Below1 = option(
        "The measurement",
        "Teacher probability from which its second token counts as a mode.",
        0.1,
        only=("submode",),
    )
    cumulative_share: Share = option(
        "The measurement",
        "Share of the cumulative KL at which N is read off.",
        0.45,
        only=("signals",),
    )
    horizon: Count | None = option(
        "The measurement",
        "Tokens over which the KL is cumulated; by default as many as 10 % of the rollouts, and "
        "at least 10, have written.",
        only=("signals",),
    )
    categories: str | None = option(
        "The measurement",
        "A TOML file of token categories in place of the paper's six.",
        only=("category-kl",),
    )
    min_count: Count = option(
        "The measurement",
        "Fewest occurrences of a token in the list of highest-KL tokens.",
        50,
        only=("category-kl",),
    )
    advise: bool = common(
        "The measurement",
        "Say how to train this pair, by every run of it.",
        False,
        only=("signals",),
        identity=NEVER,
    )
    evidence: tuple[str, ...] = common(
        "The measurement",
        "Folders whose runs of this pair the advice reads, with commas; by default runs/.",
        (),
        only=("signals",),
        identity=NEVER,
    )
    checkpoint_rule: CheckpointRule | None = option(
        "The measurement",
        "Of a run's checkpoints every one, last, best (by the run's validation.csv), or "
        "last,best. By default every one in evaluate, the last one elsewhere.",
        without=("served-kl",),
        identity=NEVER,  # the checkpoints themselves are part of the identity
    )
    batch_tokens: Count = option(
        "Scoring",
        "Tokens of a batch that is scored, padding included.",
        4096,
        only=TOKEN_COMMANDS,
        identity=NEVER,
    )
    view_rollouts: CountOrOff = option(
        "Scoring",
        "Rollouts whose tokens' top 5 of both policies are kept.",
        50,
        place=1,
        only=TOKEN_COMMANDS,
        identity=NEVER,
    )
    cache: str = option(
        "Scoring",
        "Where rollouts and scored tokens are kept for the next command.",
        "runs/cache",
        place=1,
        identity=NEVER,
    )
    top_ids: Count = option(
        "Scoring",
        "Teacher log-probabilities requested per position.",
        64,
        place=1,
        only=("served-kl",),
        identity=NEVER,  # served-kl records it beside the options
    )

    scores: Literal["exact", "served", "none"] = "exact"
    """Of tokens, as the command wants them: exact; of a teacher that vLLM serves; or none."""
    said: frozenset[str] = frozenset()
    """Options that were given, even with their default: no checkpoint overrides these."""

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
            bins=self.bins or position_bins(chosen.embedded),
            rollout_length=self.rollout_length or (40 if chosen.embedded else 100),
        )
        chosen.check()
        return chosen

    def check(self) -> None:
        if self.evidence and not self.advise:
            raise UserError("--evidence is what --advise reads; add --advise")
        super().check()


def position_bins(embedded: bool) -> tuple[int, ...]:
    """Lower ends of position bins, for responses as long as those of the embedded pair or of models
    on the hub."""
    if embedded:
        return (0, 5, 10, 20, 40, 60, 80, 120, 160)
    return (0, 5, 20, 50, 100, 200, 300, 400, 500, 600)
