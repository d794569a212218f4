"""Which options each command has: of its kind of options all but those that mean nothing to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from decaylab.options.measuring import (
    MACHINERY,
    DiagnosticOptions,
    FileOptions,
    Options,
    PairOptions,
)
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions

INTERNAL = ("said", "scores")
"""What no user sets: decaylab does."""
POSITIONS = ("bins", "survivors", "estimand", "rollout_length")
TOKENS = ("score_temperature", "head", "batch_tokens", "floor_problems", "view_rollouts")
SPECIAL = (
    *(
        "share",
        "second_mode",
        "cumulative_share",
        "horizon",
        "categories",
        "min_count",
        "advise",
        "decay",
    ),
    "top_ids",
)
READING = ("rollouts", "rollouts_format", "prompt_kind", "prompt_in_response", "no_stop_reason")
"""Of rollouts that exist already."""
NOT_OF_FILES = (
    *(
        "rollouts",
        "samples",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "answer_rule",
        "thought_marks",
    ),
    *(
        "level",
        "dtype",
        "device",
        "batch_rows",
        "leave_out_long",
        "out",
        "overwrite",
        "paper",
        *MACHINERY,
    ),
)
"""What ``decaylab rollouts`` does not have: it samples and measures nothing."""
NOT_PREFLIGHT = (
    *READING,
    *(
        "answer_rule",
        "thought_marks",
        "level",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "out",
        "overwrite",
        "paper",
    ),
    *MACHINERY,
)


@dataclass(frozen=True)
class CommandOptions:
    """The options of a command. without: those of its kind that it does not have."""

    kind: type[PairOptions]
    without: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of its options, as fields of their kind."""
        hidden = {*self.without, *INTERNAL}
        return tuple(
            field.name for field in dataclasses.fields(self.kind) if field.name not in hidden
        )


def _but(*own: str) -> tuple[str, ...]:
    """The options of diagnostics that a command does not have, all but its own."""
    return tuple(name for name in (*POSITIONS, *TOKENS, *SPECIAL, "answer_rule") if name not in own)


COMMANDS: dict[str, CommandOptions] = {
    "rollouts": CommandOptions(FileOptions, NOT_OF_FILES),
    "prefix-decay": CommandOptions(Options),
    "preflight": CommandOptions(Options, NOT_PREFLIGHT),
    "position-kl": CommandOptions(DiagnosticOptions, _but(*POSITIONS, *TOKENS)),
    "category-kl": CommandOptions(
        DiagnosticOptions, _but("bins", "estimand", "categories", "min_count", *TOKENS)
    ),
    "submode": CommandOptions(DiagnosticOptions, _but("share", "second_mode", *TOKENS)),
    "signals": CommandOptions(
        DiagnosticOptions,
        _but("bins", "rollout_length", "cumulative_share", "horizon", "advise", "decay", *TOKENS),
    ),
    "served-kl": CommandOptions(
        DiagnosticOptions, (*_but("bins", "estimand", "top_ids"), "checkpoint_rule", "paper")
    ),
    "behaviour": CommandOptions(DiagnosticOptions, _but()),
    "evaluate": CommandOptions(DiagnosticOptions, (*_but("answer_rule"), *READING, "paper")),
    "train": CommandOptions(
        TrainOptions, (*READING, "samples", "level", "paper", "workers", "ray", "adapters")
    ),
    "sweep": CommandOptions(SweepOptions, (*READING, "track", "ray", "adapters")),
}
