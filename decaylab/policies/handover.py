"""Hands a prefix from one policy to the other: as ids if the vocabularies agree, else as text.

    hand_over = HandOver(student, teacher)
    hand_over.beginning(response_ids, 12, "student")    # Handed(ids=[...], shift=1)

With two tokenizers a prefix must end where both have a boundary: where the reader's tokens of the
prefix are the first of its tokens of the whole response. Else a token that the reader would write
as one is split, and it continues from where it never stands. The cut is the nearest such place at
or before the one asked for; `Handed.shift` tells by how many tokens it lies before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from decaylab.policies.policy import Policy
from decaylab.policies.token_bytes import TokenBytes
from decaylab.policies.vocabularies import compare_vocabularies

MOST_SHIFTED = 8
"""Tokens of the author by which a cut may lie before the place asked for."""
OTHER = {"student": "teacher", "teacher": "student"}


@dataclass(frozen=True)
class Handed:
    """Tokens of an author in the ids of a reader. shift: how many fewer they are than asked for, in
    tokens of the author."""

    ids: list[int]
    shift: int = 0


class HandOver:
    """Converts a prefix of one policy into the ids of the other, the reader.

    With one vocabulary the ids pass unchanged and are never re-encoded.

    Raises:
        UserError: the vocabularies differ, and the tokens of one of them cannot be read as bytes.
    """

    def __init__(self, student: Policy, teacher: Policy) -> None:
        self.policies: dict[str, Any] = {"student": student, "teacher": teacher}
        self.agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
        self.tokens = {
            role: set(policy.tokenizer.get_vocab().values())
            for role, policy in self.policies.items()
        }
        self.bytes = dict[str, TokenBytes]()
        if self.differs:
            self.bytes = {role: TokenBytes(policy) for role, policy in self.policies.items()}
        self._whole = lru_cache(maxsize=1)(self._read)  # a response is asked for at several cuts

    @property
    def differs(self) -> bool:
        """Whether prefixes go over as text."""
        return self.agreement.kind == "different"

    def __call__(self, ids: list[int], author: str) -> list[int] | None:
        """All of a text in the reader's ids; ``author`` is the role that wrote it.

        None if it contains an id that the reader does not have, or one outside the author's own
        vocabulary. With two vocabularies, an incomplete character at the end is left out.
        """
        agreement = self.agreement
        if not self.tokens[author].issuperset(ids):
            return None
        if self.differs:
            return self._as_text(ids, author)
        foreign = agreement.student_only if author == "student" else agreement.teacher_only
        return ids if {*agreement.conflicting, *foreign}.isdisjoint(ids) else None

    def beginning(self, response: Sequence[int], length: int, author: str) -> Handed | None:
        """The first ``length`` tokens of a response in the reader's ids, at least one.

        None if the reader does not have one of them, changes their text, or has no boundary at
        that place or up to `MOST_SHIFTED` tokens before it.
        """
        if not self.differs:
            ids = self(list(response[:length]), author)
            return None if ids is None else Handed(ids)
        whole = self._whole(tuple(response), author)
        found = self._nearest(whole, 0, length)
        if found is None:
            return None
        kept = length - found.shift
        shown = self.bytes[author].text(response[:kept])
        return found if shown.encode() == whole.text[: whole.stops[kept]] else None

    def behind(
        self, prefix: Sequence[int], handed: Sequence[int], response: Sequence[int], count: int
    ) -> Handed | None:
        """The first ``count`` tokens that the teacher wrote behind a prefix, in the student's ids.

        None where the student would write one token across the end of the prefix, or as for
        `beginning`. With two vocabularies at least one token is handed back, or none is asked for.

        Args:
            prefix: in the student's ids, as it wrote them.
            handed: the same in the teacher's ids.
            response: what the teacher wrote behind it.
        """
        if not count:
            return Handed([])
        if not self.differs:
            return self.beginning(response, count, "teacher")
        pieces, ended = self._pieces(response, "teacher", handed)
        ahead, _ = self._pieces(prefix, "student")
        whole = Reading(self.bytes["student"], [*ahead, *pieces], ended)
        start = whole.stops[len(prefix)] if len(prefix) < len(whole.stops) else -1
        first = whole.boundaries.get(start)
        found = None if first is None else self._nearest(whole, len(prefix), count)
        if found is None or not found.ids[first:]:
            return None
        return Handed(found.ids[first:], found.shift)

    def splits(self, prefix: Sequence[int], response: Sequence[int], role: str) -> bool | None:
        """Whether one tokenization of prefix and continuation would not part them there.

        So it is where the reader has one token across the cut, or where it decodes the whole to
        another beginning (bytes of a character that is never completed). None where prefixes go
        over as ids. ``role`` wrote the continuation.
        """
        if not self.differs:
            return None
        pieces, _ = self._pieces(response, role, prefix)
        ahead, _ = self._pieces(prefix, role)
        reader = self.bytes[role]
        whole = Reading(reader, [*ahead, *pieces], ended=True)
        if sum(len(piece.bytes) for piece in ahead) not in whole.boundaries:
            return True
        return not reader.text([*prefix, *response]).startswith(reader.text(prefix))

    def _read(self, response: tuple[int, ...], author: str) -> Reading:
        return Reading(self.bytes[OTHER[author]], *self._pieces(response, author))

    def _pieces(
        self, ids: Sequence[int], author: str, before: Sequence[int] = ()
    ) -> tuple[list[Piece], bool]:
        """The tokens of an author, up to an id that has none, and whether they end the turn, which
        is none of them. before: ids ahead of them."""
        known, policy = self.bytes[author], self.policies[author]
        ended = bool(ids) and ids[-1] in policy.end_ids
        body = ids[: len(ids) - ended]
        texts = known.of([*before, *body])[len(before) :]
        pieces = [
            Piece(text, token in policy.control.texts)
            for token, text in zip(body, texts, strict=True)
        ]
        kept = next((at for at, token in enumerate(body) if token not in known.table), len(body))
        return pieces[:kept], ended and kept == len(body)

    def _nearest(self, whole: Reading, start: int, length: int) -> Handed | None:
        """The reader's ids up to the cut nearest to ``length`` tokens behind ``start``."""
        for shift in range(min(MOST_SHIFTED + 1, length)):
            ids = whole.up_to(start + length - shift)
            if ids:
                return Handed(ids, shift)
        return None

    def _as_text(self, ids: Sequence[int], author: str) -> list[int] | None:
        pieces, _ = self._pieces(ids, author)
        whole = Reading(self.bytes[OTHER[author]], pieces, ended=True)
        if len(pieces) + 1 - len(whole.stops) > MOST_SHIFTED:
            return None
        return whole.encode(whole.stops[-1]) or None


@dataclass(frozen=True)
class Piece:
    """A token: its bytes, and whether it is a control token."""

    bytes: bytes
    is_control: bool


class Reading:
    """A text in the tokens of its author and of a reader.

    stops: bytes up to the end of each token of the author, from 0; up to where they stop being
    text, or hold a control token that the reader lacks. ids: the reader's tokens of that text.
    boundaries: bytes up to the end of each of them -> their number, from 0, where they are the
    bytes of the text.
    """

    def __init__(self, reader: TokenBytes, pieces: Sequence[Piece], ended: bool) -> None:
        """ended: nothing follows the text."""
        self.reader = reader
        known = {text.encode() for text in reader.policy.control.texts.values()}
        kept = next(
            (at for at, one in enumerate(pieces) if one.is_control and one.bytes not in known),
            len(pieces),
        )
        whole = b"".join(piece.bytes for piece in pieces[:kept])
        self.text = _valid(whole).encode()
        stops = [*accumulate((len(piece.bytes) for piece in pieces[:kept]), initial=0)]
        self.stops = [stop for stop in stops if stop <= len(self.text)]
        self.controls = [
            (stop - len(piece.bytes), stop)
            for piece, stop in zip(pieces, self.stops[1:], strict=False)
            if piece.is_control
        ]
        self.is_whole = ended and len(self.stops) == len(pieces) + 1
        text = self.text.decode()
        ids = self.encode(len(self.text))
        self.ids = reader.policy.encode(text) if ids is None else ids
        self.boundaries = self._boundaries()

    def _boundaries(self) -> dict[int, int]:
        found, at = {0: 0}, 0
        for count, piece in enumerate(self.reader.of(self.ids), start=1):
            if not self.text.startswith(piece, at):
                break
            at += len(piece)
            found.setdefault(at, count)
        return found

    def up_to(self, place: int) -> list[int] | None:
        """The reader's ids of the author's first ``place`` tokens.

        None if they are not the first of its ids of the whole.
        """
        if place >= len(self.stops) or self.stops[place] not in self.boundaries:
            return None
        stop = self.stops[place]
        if stop == len(self.text) and not self.is_whole:
            return None  # what follows could be one token with it
        ids = self.encode(stop)
        return ids if ids is not None and self.ids[: len(ids)] == ids else None

    def encode(self, stop: int) -> list[int] | None:
        """The reader's ids of the first bytes; None where it changes them, or they are no text."""
        text = _valid(self.text[:stop])
        if len(text.encode()) < stop:
            return None
        places = [
            (len(self.text[:first].decode()), len(self.text[:last].decode()))
            for first, last in self.controls
            if last <= stop
        ]
        return self.reader.encode(text, places)


def _valid(whole: bytes) -> str:
    """The text of bytes up to the first that is none."""
    try:
        return whole.decode()
    except UnicodeDecodeError as error:
        return whole[: error.start].decode()
