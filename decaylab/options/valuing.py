"""The options of values: positions, draws, and the rate of false turning points."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from decaylab.errors import UserError
from decaylab.options.declared import common
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.kinds import Lengths, Share
from decaylab.options.option_values import Must
from decaylab.problems.tasks import CALLS, CODE, EMBEDDED_LENGTHS, MATHEMATICS

Draws = Annotated[
    int,
    Must("be at least 2 (one half chooses, the other half measures)", lambda value: value >= 2),
]


def _listed(lengths: tuple[int, ...]) -> str:
    return ",".join(map(str, lengths))


@dataclass(frozen=True)
class ValuesOptions(DiagnosticOptions):
    """The options of ``decaylab values``. None: `resolved` fills in the value."""

    grid: Lengths | None = common(
        "The measurement",
        "Token positions at which values are drawn, starting at 0. Default: the prefix lengths of "
        f"prefix-decay: {_listed(EMBEDDED_LENGTHS.prefixes)} with abacus-teacher; else "
        f"{_listed(MATHEMATICS.lengths.prefixes)}, {_listed(CODE.lengths.prefixes)} of code, "
        f"{_listed(CALLS.lengths.prefixes)} of function calls.",
    )
    draws: Draws = common(
        "The measurement",
        "Fresh continuations of each prefix, by each of the two policies.",
        8,
    )
    fdr: Share = common(
        "The measurement",
        "False-discovery rate of turning points: the expected share of false ones among them.",
        0.1,
    )

    @property
    def usual_temperature(self) -> float:
        """Default temperature of sampling; greedy continuations of a prefix would be all the
        same."""
        return MATHEMATICS.temperature

    def resolved(self) -> ValuesOptions:
        """These options with the grid and every other unset value filled in.

        Raises:
            UserError: an invalid option.
        """
        grid = self.grid or self.with_pair().lengths.prefixes
        # What is not shown is not stored: no second scoring, no tokens to look at.
        chosen = dataclasses.replace(self, grid=grid, floor_problems=0, view_rollouts=0)
        resolved = DiagnosticOptions.resolved(chosen)
        assert isinstance(resolved, ValuesOptions)
        return resolved

    def check(self) -> None:
        grid = self.grid or (0,)
        given = f"got {_listed(grid)}"
        if any(low >= high for low, high in zip(grid, grid[1:])):
            raise UserError(f"--grid must increase, {given}; sort the positions, each once")
        if grid[0] != 0 or len(grid) < 2:
            raise UserError(
                "--grid must begin with 0 (nothing written yet), followed by at least one more "
                f"position, {given}"
            )
        if self.max_tokens is not None and grid[-1] >= self.max_tokens:
            raise UserError(
                f"--grid reaches {grid[-1]}, beyond the budget --max-tokens {self.max_tokens}; "
                "leave out the positions from there on, or raise the budget"
            )
        if self.temperature == 0:
            raise UserError(
                "--temperature 0 has no values to draw: all continuations of a prefix would be the "
                "same; give a temperature above 0"
            )
        super().check()
