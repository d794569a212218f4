"""The options of arm-gains: sweeps, and how many tokens are looked at."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from decaylab.errors import UserError
from decaylab.options.declared import common
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.kinds import Count, Paths


@dataclass(frozen=True)
class ArmGainOptions(DiagnosticOptions):
    """The options of ``decaylab arm-gains``."""

    sweeps: Paths = common(
        "ahead of all panels",
        "Folders of sweeps, whose arms are looked at.",
        (),
        argument=True,
        metavar="SWEEP",
    )
    tokens_per_arm: Count = common(
        "The measurement",
        "Tokens drawn from those that an arm trains on; at each the student finishes twice.",
        400,
    )

    def resolved(self) -> ArmGainOptions:
        """These options with every unset value filled in.

        Raises:
            UserError: an invalid option.
        """
        # What is not shown is not stored: no second scoring, no tokens to look at.
        chosen = dataclasses.replace(self, floor_problems=0, view_rollouts=0)
        resolved = DiagnosticOptions.resolved(chosen)
        assert isinstance(resolved, ArmGainOptions)
        return resolved

    def check(self) -> None:
        if not self.sweeps:
            raise UserError("arm-gains needs a sweep: `decaylab arm-gains runs/MY-SWEEP`")
        if self.temperature == 0:
            raise UserError(
                "--temperature 0: the student would finish alike each time, and one token would "
                "be worth all or nothing; give a temperature above 0"
            )
        super().check()
