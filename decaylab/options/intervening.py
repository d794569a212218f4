"""The options of interventions, beside those of the diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from decaylab.errors import UserError
from decaylab.options.declared import NEVER, common
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.kinds import PathName
from decaylab.options.option_values import Must

ChainSteps = Annotated[
    tuple[int, ...],
    Must(
        "be at least 1 and increase",
        lambda steps: bool(steps) and steps == tuple(sorted({*steps})) and steps[0] >= 1,
    ),
]


@dataclass(frozen=True)
class InterventionOptions(DiagnosticOptions):
    """The options of interventions."""

    chain_steps: ChainSteps = common(
        "The measurement",
        "Steps of a made prefix, comma-separated: the chain is written so far, correct or wrong, "
        "in the student's or the teacher's style.",
        (1, 2, 3),
    )
    edits: PathName | None = common(
        "The measurement",
        "Prefixes of your own in place of made ones, for any problem set: a .csv or .jsonl file "
        "with problem, prefix and label.",
        metavar="FILE",
    )
    reference: str | None = common(
        "The measurement",
        "The label of --edits that the others are compared with. Default: the first one.",
        metavar="LABEL",
        identity=NEVER,  # the same continuations, compared otherwise
    )

    def check(self) -> None:
        if self.reference and not self.edits:
            raise UserError("--reference only applies with --edits; add --edits FILE")
        if self.edits and self.rollouts:
            raise UserError(
                "--edits brings prefixes of its own, so --rollouts would not be read; leave one out"
            )
        super().check()
