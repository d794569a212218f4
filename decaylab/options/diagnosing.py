"""The options of the diagnostic commands: scoring, position bins, comparison."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from decaylab.errors import UserError
from decaylab.maths.selection import COMPARED, SELECTORS
from decaylab.options import option_values
from decaylab.options.declared import (
    NEVER,
    common,
    option,
)
from decaylab.options.kinds import (
    CHECKPOINT_RULES,
    Below1,
    Bins,
    CheckpointRule,
    Count,
    CountOrOff,
    PathName,
    Paths,
    Rate,
    SelectorName,
    Share,
)
from decaylab.options.option_values import PATH
from decaylab.options.pair_options import SCORING, TOKEN_COMMANDS, PairOptions
from decaylab.plugins import origins


@dataclass(frozen=True)
class ScoredFields:
    """Scoring options that the planner uses too."""

    score_temperature: Rate = option(
        "Scoring",
        "Temperature for scoring; see --temperature for sampling.",
        1.0,
        only=SCORING,
    )
    head: Literal["model", "float32"] = option(
        "Scoring",
        "Precision of the output heads: the model's own, or float32.",
        "model",
        only=(*SCORING, "plan"),
    )
    floor_problems: CountOrOff = option(
        "Scoring",
        "Problems scored a second time, one by one and in higher precision, for the noise floor. "
        "0 turns it off.",
        32,
        place=1,
        only=(*TOKEN_COMMANDS, "plan"),
    )


@dataclass(frozen=True)
class DiagnosticOptions(ScoredFields, PairOptions):
    """The options of all diagnostics. Each command accepts those it uses."""

    names_folder = (*PairOptions.names_folder, "checkpoints")

    checkpoints: Paths = common(
        "ahead of all panels",
        "Trained students: adapter, model or run folders. Without any, only the base student is "
        "measured.",
        (),
        argument=True,
        without=("interventions", "values", "arm-gains"),
        metavar="CHECKPOINT",
    )
    bins: Bins | None = option(
        "The measurement",
        "Lower ends of the position bins, starting at 0, such as 0,50,100,200. The last bin has no "
        "upper end.",
        only=("position-kl", "category-kl", "signals", "served-kl", "token-truth"),
        common=("position-kl", "token-truth"),
    )
    rollout_length: Count | None = common(
        "The measurement",
        "The paper's N, in tokens: the cascade is measured after position N, and each selector may "
        "select N tokens. Default: 40 with abacus-teacher; else 100, 20 of function calls.",
        only=("position-kl", "signals"),
    )
    survivors: Count | None = option(
        "The measurement",
        "Also draw the curves over rollouts of at least N tokens, the same rollouts in every bin.",
        only=("position-kl",),
    )
    bytes: bool = option(
        "The measurement",
        "Also measure by bytes what a pair of two tokenizers is measured by: the next-byte KL and "
        "the log-ratio of whole responses. Every token is scored once more.",
        False,
        only=("position-kl",),
    )
    estimand: Literal["tokens", "problems"] = option(
        "The measurement",
        "tokens: mean over tokens. problems: mean of the per-problem means.",
        "tokens",
        only=("position-kl", "category-kl", "served-kl"),
    )
    share: Share = option(
        "The measurement",
        "Share of tokens to analyse, those with the highest KL.",
        0.1,
        only=("submode",),
        common=("submode",),
    )
    second_mode: Below1 = option(
        "The measurement",
        "Smallest teacher probability at which its second token counts as a mode.",
        0.1,
        only=("submode",),
        common=("submode",),
    )
    cumulative_share: Share = option(
        "The measurement",
        "Share of the cumulative KL that the first N tokens must reach.",
        0.45,
        only=("signals",),
    )
    horizon: Count | None = option(
        "The measurement",
        "Tokens over which KL is accumulated. Default: the length that 10 % of the rollouts, and "
        "at least 10 of them, reach.",
        only=("signals",),
    )
    add_selectors: tuple[str, ...] = option(
        "The measurement",
        "Selectors to compare beside the paper's, comma-separated: {selectors}.",
        (),
        only=("signals",),
    )
    categories: PathName | None = option(
        "The measurement",
        "A TOML file of token categories, in place of the task's own.",
        only=("category-kl",),
        common=("category-kl",),
        metavar="FILE",
    )
    min_count: Count = option(
        "The measurement",
        "Minimum occurrences of a token in the list of highest-KL tokens.",
        50,
        only=("category-kl",),
        common=("category-kl",),
    )
    advise: bool = common(
        "The measurement",
        "Advise how to train this pair, using all of its runs under runs/ (or --evidence).",
        False,
        only=("signals",),
        identity=NEVER,
    )
    evidence: Annotated[tuple[str, ...], PATH] = option(
        "The measurement",
        "Folders searched for runs of this pair, comma-separated, for --advise. Default: runs/.",
        (),
        metavar="FOLDER,...",
        only=("signals",),
        identity=NEVER,
    )
    checkpoint_rule: CheckpointRule | None = option(
        "The measurement",
        "Which checkpoints of a training run are measured; best is by the run's validation.csv. "
        "Default: every in evaluate, last elsewhere.",
        without=("served-kl", "interventions", "values", "arm-gains"),
        common=("evaluate",),
        metavar=CHECKPOINT_RULES,
        identity=NEVER,  # the checkpoints themselves are part of the identity
    )
    batch_tokens: Count = option(
        "Scoring",
        "Tokens per scoring batch, padding included.",
        4096,
        only=SCORING,
        identity=NEVER,
    )
    view_rollouts: CountOrOff = option(
        "Scoring",
        "Rollouts for which the top 5 tokens of both policies are stored at each position.",
        50,
        place=1,
        only=TOKEN_COMMANDS,
        identity=NEVER,
    )
    cache: PathName = option(
        "Scoring",
        "Folder of cached rollouts and token scores, reused by later commands.",
        "runs/cache",
        metavar="FOLDER",
        place=1,
        identity=NEVER,
    )
    top_ids: Count = option(
        "Scoring",
        "Teacher log-probabilities requested per position.",
        64,
        place=1,
        only=("served-kl",),
        common=("served-kl",),
        identity=NEVER,  # served-kl records it beside the options
    )

    scores: Literal["exact", "served", "none"] = "exact"
    """The token scores that the command needs: exact, from a teacher served by vLLM, or none."""
    said: frozenset[str] = frozenset()
    """Options that the user gave, even with the default value. No checkpoint overrides them."""

    needs_student = True
    unshared = "a rollout that contains one is scored up to that token and counted"

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
        """These options with the pair and every other unset value filled in.

        Raises:
            UserError: an invalid option.
        """
        chosen = self.with_pair()
        chosen = dataclasses.replace(
            chosen,
            bins=self.bins or chosen.lengths.bins,
            rollout_length=self.rollout_length or chosen.lengths.rollout,
        )
        chosen.check()
        return chosen

    def own_parts(self) -> list[origins.Named]:
        return [*super().own_parts(), *((origins.SELECTOR, name) for name in self.add_selectors)]

    def check(self) -> None:
        for name in self.add_selectors:
            option_values.checked("each of --add-selectors", SelectorName, name)
            if self.add_selectors.count(name) > 1 or name in COMPARED:
                raise UserError(f"--add-selectors {name}: it is compared already, leave it out")
            if SELECTORS[name].whole:
                raise UserError(
                    f"--add-selectors {name} weights every token, so there is no choice to compare"
                )
        if self.evidence and not self.advise:
            raise UserError("--evidence only applies with --advise; add --advise")
        super().check()
