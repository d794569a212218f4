"""Two tokenizations of one response, laid over each other byte by byte.

    alignment = Aligner(student, teacher).align(response_ids)
    alignment.spans[0]      # Span(student=slice(0, 2), teacher=slice(0, 1), stop=3)

The teacher's tokens are those that its tokenizer gives to the text of the response. A boundary is
shared if both tokenizations have cut there; a span lies between two shared boundaries that follow
each other. The end of the turn is part of the response: it counts as one byte behind the text, so
a finished response ends with a span of one token on both sides.

The text of a response that was cut off is not finished: its last characters would be tokenized
differently with what would have followed. Its last span is therefore open, and left out of `spans`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decaylab.policies.policy import Policy
from decaylab.policies.token_bytes import TokenBytes

Ints = NDArray[np.int64]
Reason = Literal["no_token", "not_text", "control", "changed"]
REASONS: dict[Reason, str] = {
    "no_token": "hold an id that has no token",
    "not_text": "hold bytes that are not text",
    "control": "hold a control token that the teacher lacks",
    "changed": "are not the same text in the teacher's tokens",
}


@dataclass(frozen=True)
class Span:
    """Tokens of both between two shared boundaries.

    student, teacher: places in the two lists of ids. stop: bytes of the response up to its end.
    """

    student: slice
    teacher: slice
    stop: int

    @property
    def tokens(self) -> int:
        """Tokens of the side that has more."""
        sides = self.student, self.teacher
        return max(int(side.stop) - int(side.start) for side in sides)


NOTHING = Span(slice(0, 0), slice(0, 0), 0)


@dataclass(frozen=True)
class Alignment:
    """A response in the ids of both.

    student_ends, teacher_ends: bytes up to the end of each token, ascending. ended: the last token
    of both ends the turn. canonical: the student wrote the tokens that its own tokenizer gives to
    the text.
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    student_ends: Ints
    teacher_ends: Ints
    ended: bool
    canonical: bool

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The closed spans, in order. A token of no bytes belongs to the span behind it."""
        shared: Ints = np.intersect1d(self.student_ends, self.teacher_ends)
        shared = shared[shared > 0]
        if not self.ended:
            shared = shared[:-1]
        student = [0, *(np.searchsorted(self.student_ends, shared) + 1).tolist()]
        teacher = [0, *(np.searchsorted(self.teacher_ends, shared) + 1).tolist()]
        both = zip(pairwise(student), pairwise(teacher), shared.tolist(), strict=True)
        return tuple(Span(slice(*ours), slice(*theirs), stop) for ours, theirs, stop in both)

    @cached_property
    def boundaries(self) -> tuple[Ints, Ints]:
        """Places of the student's and the teacher's tokens that begin at a shared boundary.

        The first token of both does. Behind the last closed span of a response that was cut off
        stands one more.
        """
        places = [(span.student.start, span.teacher.start) for span in self.spans]
        if not self.ended:
            last = self.spans[-1] if self.spans else NOTHING
            places.append((last.student.stop, last.teacher.stop))
        student, teacher = zip(*places, strict=True)
        return np.array(student, dtype=np.int64), np.array(teacher, dtype=np.int64)

    @property
    def bytes(self) -> int:
        """Bytes of the response; the end of the turn is one."""
        return int(self.student_ends[-1])


class Aligner:
    """Aligns responses of the student with the teacher's tokens.

    Raises:
        UserError: the tokens of one of them cannot be read as bytes.
    """

    def __init__(self, student: Policy, teacher: Policy) -> None:
        self.student, self.teacher = TokenBytes(student), TokenBytes(teacher)

    def align(self, ids: Sequence[int]) -> Alignment | Reason:
        """The response in both tokenizations, or why there is none.

        ids: of the student, the end of the turn included. A cut-off response loses the tokens of
        a character that is not complete.

        Raises:
            ValueError: there are no ids.
        """
        if not ids:
            raise ValueError("a response without tokens cannot be aligned")
        ended = ids[-1] in self.student.policy.end_ids
        body = list(ids[:-1] if ended else ids)
        if not self.student.table.keys() >= set(body):
            return "no_token"
        pieces = self.student.of(body)
        text, body, pieces = _readable(body, pieces, ended)
        if text is None or self.student.text(body) != text:
            return "not_text"
        places = self._controls(body, pieces)
        if places is None:
            return "control"
        theirs = self.teacher.encode(text, places)
        if theirs is None:
            return "changed"
        own = self.student.encode(text, places)
        ends = _ends(pieces, ended), _ends(self.teacher.of(theirs), ended)
        if ended:
            body, theirs = [*body, ids[-1]], [*theirs, self.teacher.policy.end_id]
        if not body or not theirs:
            return "not_text"
        canonical = own == (body[:-1] if ended else body)
        return Alignment(tuple(body), tuple(theirs), *ends, ended, canonical)

    def _controls(
        self, ids: Sequence[int], pieces: Sequence[bytes]
    ) -> list[tuple[int, int]] | None:
        """Where the student wrote control tokens, in characters; None if the teacher lacks one."""
        known = set(self.teacher.policy.control.texts.values())
        places, at = [], 0
        for token, piece in zip(ids, pieces, strict=True):
            # Bytes that begin a character stand for it.
            size = sum(byte & 0xC0 != 0x80 for byte in piece)
            if token in self.student.policy.control.texts:
                if self.student.policy.control.texts[token] not in known:
                    return None
                places.append((at, at + size))
            at += size
        return places


def _readable(
    ids: list[int], pieces: list[bytes], ended: bool
) -> tuple[str | None, list[int], list[bytes]]:
    """The text of the tokens, without an incomplete character at the end of a cut-off response."""
    whole = b"".join(pieces)
    try:
        return whole.decode(), ids, pieces
    except UnicodeDecodeError as error:
        if ended or error.end < len(whole) or error.reason != "unexpected end of data":
            return None, ids, pieces
        stops = list(accumulate(len(piece) for piece in pieces))
        kept = sum(stop <= error.start for stop in stops)
    return _readable(ids[:kept], pieces[:kept], ended)


def _ends(pieces: Sequence[bytes], ended: bool) -> Ints:
    stops = list(accumulate(len(piece) for piece in pieces))
    if ended:
        stops.append((stops[-1] if stops else 0) + 1)
    return np.array(stops, dtype=np.int64)


LIMITS = (1, 2, 4, 8)
"""Tokens of a span, for its coverage."""


class Coverage(NamedTuple):
    """Share of the bytes and of the student's tokens; NaN of no response."""

    bytes: float
    student_tokens: float


def coverage(alignments: Iterable[Alignment]) -> dict[int, Coverage]:
    """Share of responses in closed spans of up to 1, 2, 4 and 8 tokens of the side that has more.

    The ends of turns count, as one byte each. The open span of a response that was cut off is in no
    share, but in the whole.
    """
    known = list(alignments)
    spans = [sizes for alignment in known for sizes in _sizes(alignment)]
    whole = sum(one.bytes for one in known), sum(len(one.student) for one in known)
    found = {}
    for limit in LIMITS:
        kept = [sizes for sizes in spans if sizes[0] <= limit]
        within = sum(size for _, size, _ in kept), sum(size for *_, size in kept)
        found[limit] = Coverage(*map(_share, within, whole))
    return found


def _sizes(alignment: Alignment) -> Iterator[tuple[int, int, int]]:
    """Of each closed span: tokens of the side that has more, bytes, tokens of the student."""
    start = 0
    for span in alignment.spans:
        yield span.tokens, span.stop - start, int(span.student.stop) - int(span.student.start)
        start = span.stop


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
