"""The options of ``decaylab compare``."""

from __future__ import annotations

from dataclasses import dataclass

from decaylab.options import option_values
from decaylab.options.declared import COMPARISON, NEVER, common, option
from decaylab.options.kinds import PathName, Paths, Seed, Share, StoredRule

OF_COMPARISONS = (COMPARISON,)


@dataclass(frozen=True)
class CompareOptions:
    """The options of a comparison. It loads no model, so the options of a pair are absent."""

    run_folders: Paths = common(
        "ahead of all panels",
        "Finished prefix-decay runs of one student with several teachers, or of one teacher with "
        "several students. Add their position-kl or signals runs to compare KL as well.",
        (),
        argument=True,
        metavar="RUN",
        identity=NEVER,  # run.json names the runs with their contents
    )
    reference: PathName | None = common(
        "The measurement",
        "The run that the others are compared with: its folder, or the name of its teacher (or "
        "student). Default: the first run.",
        metavar="RUN",
        identity=OF_COMPARISONS,
    )
    answer_rule: StoredRule | None = option(
        "The measurement",
        "An answer rule that all runs were graded by: last_boxed, first_boxed, anywhere, gsm8k or "
        "your own. Default: the rule that the runs report.",
        metavar="NAME",
        place=3,
        identity=OF_COMPARISONS,
    )
    level: Share = option(
        "The measurement", "Confidence level of intervals.", 0.95, place=3, identity=OF_COMPARISONS
    )
    seed: Seed = option(
        "The measurement", "Seed for the bootstrap.", 0, place=3, identity=OF_COMPARISONS
    )
    out: PathName | None = common(
        "The run",
        "Output folder. Default: a folder in runs/ named after the shared policy and the runs.",
        metavar="FOLDER",
        identity=NEVER,
    )
    overwrite: bool = common(
        "The run", "Discard the existing run in the output folder.", False, identity=NEVER
    )

    def __post_init__(self) -> None:
        option_values.check(self)
