"""The options of prefix-decay and of rollouts that exist already."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from decaylab.errors import UserError
from decaylab.options.declared import DECAY, common
from decaylab.options.kinds import CONTROLS, Controls, Paths, TeacherTokens
from decaylab.options.kinds import Lengths as PrefixLengths
from decaylab.options.pair_options import PairOptions
from decaylab.problems.tasks import CALLS, CODE, EMBEDDED_LENGTHS, MATHEMATICS, Lengths


def _listed(lengths: Lengths) -> str:
    return ",".join(map(str, lengths.prefixes))


@dataclass(frozen=True)
class PrefixFields:
    """Options of prefixes and their controls."""

    prefix_lengths: PrefixLengths | None = common(
        "The measurement",
        "Prefix lengths in tokens, starting at 0 (the teacher alone). Default: "
        f"{_listed(EMBEDDED_LENGTHS)} with abacus-teacher; else {_listed(MATHEMATICS.lengths)}, "
        f"{_listed(CODE.lengths)} of code, {_listed(CALLS.lengths)} of function calls; with a "
        "larger --max-tokens than usual also 2, 4, ... times the last, up to half of it.",
        common=("prefix-decay", "preflight"),
    )
    controls: Controls = common(
        "The measurement",
        f"Control experiments: all, none, or some of {','.join(CONTROLS)}.",
        ("correct-so-far",),
        place=2,
        common=("prefix-decay", "preflight"),
    )
    hand_back: TeacherTokens | None = common(
        "The measurement",
        "Hand back: after each prefix the teacher writes so many tokens, such as 1,10,40, then the "
        "student finishes. Default: off.",
        place=2,
        common=("prefix-decay", "preflight"),
    )


@dataclass(frozen=True)
class Options(PrefixFields, PairOptions):
    """The options of ``decaylab prefix-decay``. None: `resolved` fills in the value."""

    unshared = "a prefix that contains one is left out and counted"
    """How ids outside the shared vocabulary are handled."""

    @property
    def needs_student(self) -> bool:
        """Whether the student's weights are needed even with existing rollouts."""
        return "reverse" in self.controls or self.hand_back is not None

    def resolved(self) -> Options:
        """These options with every unset value filled in.

        Raises:
            UserError: an invalid option.
        """
        chosen = self.with_pair()
        lengths = self.prefix_lengths or chosen.lengths.prefixes
        controls = tuple(sorted(set(self.controls), key=CONTROLS.index))
        chosen = dataclasses.replace(chosen, prefix_lengths=tuple(lengths), controls=controls)
        chosen.check()
        return chosen

    def check(self) -> None:
        lengths = self.prefix_lengths or (0,)
        given = f"got {','.join(map(str, lengths))}"
        if min(lengths) < 0:
            raise UserError(f"--prefix-lengths must not be negative, {given}")
        if any(a >= b for a, b in zip(lengths, lengths[1:])):
            raise UserError(f"--prefix-lengths must increase, {given}")
        if lengths[0] != 0 or len(lengths) < 2:
            raise UserError(
                "--prefix-lengths must begin with 0 (the teacher alone), followed by at least one "
                f"more length, {given}"
            )
        if self.max_tokens is not None and lengths[-1] >= self.max_tokens:
            raise UserError(
                f"--prefix-lengths reach {lengths[-1]}, beyond the budget --max-tokens "
                f"{self.max_tokens}"
            )
        self._check_hand_back(lengths)
        super().check()

    def _check_hand_back(self, lengths: tuple[int, ...]) -> None:
        """Raises UserError if every hand-back would leave the student nothing to write."""
        if self.hand_back is None or self.max_tokens is None:
            return
        shortest, fewest = lengths[1], self.hand_back[0]
        if shortest + fewest >= self.max_tokens:
            raise UserError(
                f"--hand-back {fewest} after a prefix of {shortest} tokens leaves the student "
                f"nothing of the budget, --max-tokens {self.max_tokens}; hand back fewer tokens"
            )

    def default_folder(self) -> Path:
        return Path("runs") / self.folder_name("prefix-decay", kinds=(DECAY,))


@dataclass(frozen=True)
class FileOptions(PairOptions):
    """The options of ``decaylab rollouts``."""

    files: Paths = common(
        "ahead of all panels", "Files or folders of rollouts.", (), argument=True, metavar="FILE"
    )

    needs_student = False
