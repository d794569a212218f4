"""Token statistics for analyses: one entry per response token, columns read on demand.

Rows are ordered by rollout, then by position from 0, so the lengths assign rows to rollouts. With
two tokenizers a table has the tokens at which both policies can be compared, and ``whole`` all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WORDS = pa.dictionary(pa.int32(), pa.string())
REAL, WHOLE = pa.float32(), pa.int32()
COLUMN_TYPES: dict[str, pa.DataType] = {
    "token_id": WHOLE,
    "token": WORDS,  # its text; a rollout's texts concatenate to its response
    "student_logprob": REAL,  # of the token, nats
    "teacher_logprob": REAL,
    "student_entropy": REAL,  # nats
    "teacher_entropy": REAL,
    "student_top1_probability": REAL,
    "student_top2_probability": REAL,
    "teacher_top1_probability": REAL,
    "teacher_top2_probability": REAL,
    "reverse_kl": REAL,  # nats
    "forward_kl": REAL,
    "js": REAL,  # nats, at most ln 2
    "token_rank": WHOLE,  # of the token under the teacher, from 1
    "student_top1_rank": WHOLE,  # rank under the teacher of the student's top token, from 1
    "top16_overlap": pa.int8(),  # number of ids among the top 16 of both
    "student_overlap_mass": REAL,  # the student's probability of those ids
    "teacher_overlap_mass": REAL,
    "student_removed_mass": REAL,  # on ids that only the student has, before their removal
    "teacher_removed_mass": REAL,
}
COLUMNS = tuple(COLUMN_TYPES)
SCHEMA = pa.schema({"rollout_id": WORDS, "position": WHOLE, **COLUMN_TYPES})

SPAN_COLUMNS: dict[str, pa.DataType] = {
    "at_shared_boundary": pa.bool_(),  # both tokenizations have cut before this token
    "as_own_tokenizer": pa.bool_(),  # the response is what the student's tokenizer writes
    "student_other_mass": REAL,  # on control tokens and bytes that only one can write next
    "teacher_other_mass": REAL,
    "span_log_ratio": REAL,  # log s - log t of the closed span that begins here, nats; else NaN
    "student_span_entropy": REAL,  # summed over the span's tokens, nats; else NaN
    "teacher_span_entropy": REAL,
    "span_bytes": WHOLE,  # of the closed span that begins here, the end of the turn is one; else 0
    "span_student_tokens": WHOLE,
    "span_teacher_tokens": WHOLE,
}
ALIGNED_SCHEMA = pa.schema([*SCHEMA, *pa.schema(SPAN_COLUMNS)])


@dataclass(frozen=True)
class Kind:
    """A kind of tokens table: the name of its schema, and its columns."""

    name: str
    schema: pa.Schema


ONE_TOKENIZER = Kind("decaylab.tokens/1", SCHEMA)
TWO_TOKENIZERS = Kind("decaylab.tokens.aligned/1", ALIGNED_SCHEMA)
"""See `decaylab.tokens.aligned_scoring`."""
KINDS = {kind.name: kind for kind in (ONE_TOKENIZER, TWO_TOKENIZERS)}


class Columns(Protocol):
    """Columns by name, each [tokens]."""

    def __getitem__(self, name: str, /) -> NDArray[np.generic]: ...


class TokenTable:
    """Statistics of student and teacher over the tokens of some rollouts.

    lengths: tokens of each rollout, [rollouts]. problems: the problem of each rollout as an integer
    code below ``problem_count``, [rollouts]; compared tables share the codes. Columns: see
    `COLUMN_TYPES`, each [tokens].
    """

    whole: TokenTable
    """The table of all tokens of the responses, of which this one has some; itself otherwise."""
    kept: NDArray[np.bool_] | None = None
    """True at the tokens of ``whole`` that this table has, [tokens of whole]; None: all."""

    def __init__(self, lengths: Ints, problems: Ints, problem_count: int, columns: Columns) -> None:
        self.whole = self
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.problems = np.asarray(problems, dtype=np.int64)
        if self.lengths.shape != self.problems.shape:
            raise ValueError(
                f"problems and lengths need one entry per rollout, got {self.problems.shape} and "
                f"{self.lengths.shape}"
            )
        self.problem_count, self._columns = problem_count, columns

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def __getitem__(self, column: str) -> NDArray[np.generic]:
        """A column, [tokens], read from the file at each access."""
        return self._columns[column]

    @property
    def starts(self) -> Ints:
        """Index of the first token of each rollout, [rollouts]."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def positions(self) -> Ints:
        """Position of each token in its response, from 0, [tokens]."""
        if self.kept is not None:
            return np.asarray(self.whole.positions[self.kept])
        return np.arange(len(self)) - np.repeat(self.starts, self.lengths)

    @property
    def reach(self) -> Ints:
        """Tokens of each response, with those that this table has not, [rollouts]."""
        return self.whole.lengths

    def bins(self, edges: Sequence[int]) -> Ints:
        """Bin of each token by its position, [tokens].

        Bin i begins at position edges[i]; the last one has no upper end.
        """
        of_position = np.searchsorted(edges, np.arange(self.reach.max(initial=0)), side="right") - 1
        return np.asarray(of_position[self.positions])

    @property
    def token_problems(self) -> Ints:
        """Problem code of each token, [tokens]."""
        return np.repeat(self.problems, self.lengths)

    def only(self, rollouts: NDArray[np.bool_]) -> TokenTable:
        """The table of some of its rollouts. rollouts: true where kept, [rollouts]."""
        if rollouts.all():
            return self
        if self.kept is not None:
            rows = np.repeat(rollouts, self.reach)
            return self.whole.only(rollouts).at(self.kept[rows])
        kept = _Chosen(self._columns, np.repeat(rollouts, self.lengths))
        return TokenTable(self.lengths[rollouts], self.problems[rollouts], self.problem_count, kept)

    def at(self, tokens: NDArray[np.bool_]) -> TokenTable:
        """The table of some of its tokens, at the positions that they have in the whole response.

        tokens: true where kept, [tokens].
        """
        assert self.kept is None, "a table of some tokens cannot be cut again"
        rollouts = np.repeat(np.arange(self.lengths.size), self.lengths)
        lengths = np.bincount(rollouts[tokens], minlength=self.lengths.size)
        columns = _Chosen(self._columns, tokens)
        table = TokenTable(lengths, self.problems, self.problem_count, columns)
        table.whole, table.kept = self, tokens
        return table

    def own(self, masks: Sequence[NDArray[np.bool_] | None]) -> TokenTable:
        """The table without tokens of tools and users.

        masks: per rollout, true at the author's own tokens; None: all.
        """
        if all(mask is None for mask in masks):
            return self
        kept = []
        for mask, length in zip(masks, self.lengths, strict=True):
            kept.append(np.ones(length, bool) if mask is None else mask[:length])
        lengths = np.array([int(mask.sum()) for mask in kept], dtype=np.int64)
        columns = _Chosen(self._columns, np.concatenate(kept))
        return TokenTable(lengths, self.problems, self.problem_count, columns)


@dataclass(frozen=True)
class _Chosen:
    """Columns restricted to the kept rows."""

    columns: Columns
    kept: NDArray[np.bool_]

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self.columns[name][self.kept]


def check_edges(edges: Sequence[int]) -> None:
    """Raises ValueError unless position bins begin at these edges: ascending from 0."""
    if tuple(edges[:1]) != (0,) or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(
            f"edges must ascend from 0, got {tuple(edges)}; name the first position of each bin"
        )


@dataclass(frozen=True)
class Scored:
    """One checkpoint and the teacher on one set of rollouts.

    checkpoint: ``base`` or the checkpoint's name. view: ``fresh`` (the checkpoint's own rollouts)
    or ``frozen`` (the base student's rollouts); base has both. floor_rollouts: true for rollouts
    also in ``rescored``, which has their tokens scored by a second route, [rollouts].
    """

    checkpoint: str
    view: str
    tokens: TokenTable
    floor_rollouts: NDArray[np.bool_] | None = None
    rescored: TokenTable | None = None
