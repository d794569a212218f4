"""The options of ``decaylab compare``: which runs, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass

from decaylab.options import option_values
from decaylab.options.declared import COMPARISON, NEVER, common, option
from decaylab.options.kinds import AnswerRule, Paths, Seed, Share

OF_COMPARISONS = (COMPARISON,)


@dataclass(frozen=True)
class CompareOptions:
    """The options of a comparison. No model is loaded, so it has none of a pair."""

    run_folders: Paths = common(
        "ahead of all panels",
        "Finished prefix-decay runs of one student and several teachers, or of one teacher and "
        "several students; for the KL also their position-kl or signals runs.",
        (),
        argument=True,
        identity=NEVER,  # run.json names the runs with their contents
    )
    reference: str | None = common(
        "The measurement",
        "The run that differences are taken from: its folder, or what its teacher (or student) "
        "is called. By default the first run.",
        identity=OF_COMPARISONS,
    )
    answer_rule: AnswerRule | None = option(
        "The measurement",
        "last_boxed, first_boxed, anywhere or gsm8k; by default the rule that the runs report.",
        place=3,
        identity=OF_COMPARISONS,
    )
    level: Share = option(
        "The measurement", "Level of intervals.", 0.95, place=3, identity=OF_COMPARISONS
    )
    seed: Seed = option(
        "The measurement", "Seed for the bootstrap.", 0, place=3, identity=OF_COMPARISONS
    )
    out: str | None = common(
        "The run",
        "The folder of results; by default under runs/, named after the shared policy and the "
        "runs.",
        identity=NEVER,
    )
    overwrite: bool = common(
        "The run", "Throw away what the folder's run holds.", False, identity=NEVER
    )

    def __post_init__(self) -> None:
        option_values.check(self)
