"""Token statistics as analyses see them: one entry a response token, columns read when they are
asked for.

Rows stand rollout by rollout, positions ascending from 0, so that lengths say which row belongs
where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
COLUMNS = (
    "token_id",
    "token",  # its text; the texts of a rollout's tokens make up the text of its response
    "student_logprob",  # of the token, nats
    "teacher_logprob",
    "student_entropy",  # nats
    "teacher_entropy",
    "student_top1_probability",
    "student_top2_probability",
    "teacher_top1_probability",
    "teacher_top2_probability",
    "reverse_kl",  # nats
    "forward_kl",
    "js",  # nats, at most ln 2
    "token_rank",  # of the token under the teacher, from 1
    "student_top1_rank",  # of the student's most likely token under the teacher, from 1
    "top16_overlap",  # ids that stand among the 16 most likely of both
    "student_overlap_mass",  # the student's probability of those
    "teacher_overlap_mass",
    "student_removed_mass",  # on ids that only the student has, before they were cut
    "teacher_removed_mass",
)


class TokenTable:
    """Statistics of student and teacher over the tokens of some rollouts.

    lengths: tokens of each rollout, [rollouts]. problems: the problem of each rollout as an integer
    code below ``problem_count`` [rollouts]; tables that are compared share the codes. Columns: see
    `COLUMNS`, each [tokens].
    """

    def __init__(
        self,
        lengths: Ints,
        problems: Ints,
        problem_count: int,
        columns: Mapping[str, NDArray[np.generic]],
    ) -> None:
        self.lengths, self.problems = (
            np.asarray(lengths, dtype=np.int64),
            np.asarray(problems, dtype=np.int64),
        )
        if self.lengths.shape != self.problems.shape:
            raise ValueError(
                f"one problem a rollout: {self.problems.shape} problems, {self.lengths.shape} "
                "rollouts"
            )
        self.problem_count, self._columns = problem_count, columns

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def __getitem__(self, column: str) -> NDArray[np.generic]:
        """A column, [tokens]. Read anew each time: keep it while it is used, and no longer."""
        return self._columns[column]

    @property
    def starts(self) -> Ints:
        """Where the tokens of each rollout begin, [rollouts]."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def positions(self) -> Ints:
        """Position of each token in its response, from 0, [tokens]."""
        return np.arange(len(self)) - np.repeat(self.starts, self.lengths)

    def bins(self, edges: Sequence[int]) -> Ints:
        """Bin of each token by its position, [tokens]: bin i begins at position edges[i], and the
        last one is open."""
        of_position = (
            np.searchsorted(edges, np.arange(self.lengths.max(initial=0)), side="right") - 1
        )
        return np.asarray(of_position[self.positions])

    @property
    def token_problems(self) -> Ints:
        """Problem code of each token, [tokens]."""
        return np.repeat(self.problems, self.lengths)

    def only(self, rollouts: NDArray[np.bool_]) -> TokenTable:
        """The same table of some of its rollouts, [rollouts] true where kept."""
        if rollouts.all():
            return self
        kept = np.repeat(rollouts, self.lengths)
        return TokenTable(
            self.lengths[rollouts],
            self.problems[rollouts],
            self.problem_count,
            _Chosen(self._columns, kept),
        )

    def own(self, masks: Sequence[NDArray[np.bool_] | None]) -> TokenTable:
        """The same table without the tokens that others wrote. masks: true at the author's own, of
        each rollout; None: all."""
        if all(mask is None for mask in masks):
            return self
        kept = [
            np.ones(n, bool) if mask is None else mask[:n]
            for mask, n in zip(masks, self.lengths, strict=True)
        ]
        lengths = np.array([int(one.sum()) for one in kept], dtype=np.int64)
        return TokenTable(
            lengths, self.problems, self.problem_count, _Chosen(self._columns, np.concatenate(kept))
        )


class _Chosen(Mapping[str, NDArray[np.generic]]):
    """Columns of which some rows are left."""

    def __init__(self, columns: Mapping[str, NDArray[np.generic]], kept: NDArray[np.bool_]) -> None:
        self.columns, self.kept = columns, kept

    def __getitem__(self, column: str) -> NDArray[np.generic]:
        return self.columns[column][self.kept]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def check_edges(edges: Sequence[int]) -> None:
    """Raises ValueError unless position bins begin at these edges: ascending from 0."""
    if tuple(edges[:1]) != (0,) or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(
            f"edges must ascend from 0, got {tuple(edges)}; name the first position of each bin"
        )


@dataclass(frozen=True)
class Scored:
    """One checkpoint beside the teacher over one set of rollouts.

    checkpoint: ``base`` or the checkpoint's name. view: ``fresh`` (the checkpoint's own rollouts)
    or ``frozen`` (those of the base student); base stands in both. floor_rollouts: true where a
    rollout is also in ``rescored``, the same tokens scored by a second route [rollouts].
    """

    checkpoint: str
    view: str
    tokens: TokenTable
    floor_rollouts: NDArray[np.bool_] | None = None
    rescored: TokenTable | None = None
