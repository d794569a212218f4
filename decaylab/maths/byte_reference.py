"""The law of the next byte given the bytes so far, by enumeration: a slow exact reference.

    law = ByteReference(next_token, pieces)     # small vocabularies, short texts
    law.next_bytes(b"abca")                     # [5, 257]: probabilities behind 0 to 4 bytes
    summed_reverse_kl(student, teacher, b"abca")

A policy writes the same bytes in many ways: other tokens, and tokens that reach beyond the bytes so
far. The exact law adds up all of them. The sum of its KLs over the bytes of a text that the student
wrote, its end included, is unbiased for the KL of the two laws of text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from decaylab.maths.byte_laws import END

Floats = NDArray[np.float64]
Ids = tuple[int, ...]


class ByteReference:
    """A law of tokens as a law of bytes.

    Args:
        next_token: probabilities of the next token given the ids so far, [tokens].
        pieces: bytes of each token; None ends the turn.
        state: responses of the same bytes and the same state have the same law from there on. They
            are added up, which keeps their number small. The default takes each for itself.

    Raises:
        ValueError: a token has no bytes; a text could then be written in endlessly many ways.
    """

    def __init__(
        self,
        next_token: Callable[[Ids], Sequence[float]],
        pieces: Sequence[bytes | None],
        state: Callable[[Ids], Hashable] = lambda ids: ids,
    ) -> None:
        if b"" in pieces:
            raise ValueError("every token but the end needs bytes")
        self.next_token, self.pieces, self.state = next_token, tuple(pieces), state

    def next_bytes(self, text: bytes) -> Floats:
        """Probability of each next byte (0 to 255) and of the end behind the first n bytes.

        [bytes + 1, 257]; NaN behind bytes that cannot be written.
        """
        joint = np.zeros((len(text) + 1, END + 1))
        covers: list[dict[Hashable, tuple[Ids, float]]] = [{} for _ in range(len(text) + 1)]
        covers[0][self.state(())] = (), 1.0
        for start, cover in enumerate(covers):
            for ids, mass in cover.values():
                for token, probability in enumerate(self.next_token(ids)):
                    if probability > 0:
                        self._add(joint, covers, text, start, (*ids, token), mass * probability)
        with np.errstate(invalid="ignore"):
            return np.asarray(joint / joint.sum(axis=1, keepdims=True))

    def _add(
        self,
        joint: Floats,
        covers: list[dict[Hashable, tuple[Ids, float]]],
        text: bytes,
        start: int,
        ids: Ids,
        mass: float,
    ) -> None:
        """Adds the mass of a response whose last token begins behind ``start`` bytes."""
        piece = self.pieces[ids[-1]]
        if piece is None:
            joint[start, END] += mass
            return
        for place, byte in enumerate(piece, start):
            joint[place, byte] += mass
            if place == len(text) or text[place] != byte:
                return
        stop, key = start + len(piece), self.state(ids)
        covers[stop][key] = ids, mass + covers[stop].get(key, (ids, 0.0))[1]


def summed_reverse_kl(student: ByteReference, teacher: ByteReference, text: bytes) -> float:
    """Sum of KL(student || teacher) of exact laws over the bytes of a text and its end, in nats.

    Unbiased for the KL of the two laws of text if the student wrote the text. Infinite where the
    teacher cannot write what the student can.
    """
    ours, theirs = student.next_bytes(text), teacher.next_bytes(text)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(ours > 0, ours * np.log(ours / theirs), 0.0)
    return float(terms.sum())


def text_logprob(law: ByteReference, text: bytes) -> float:
    """Log-probability that a policy writes a text and ends there, over all its tokenizations."""
    events = [*text, END]
    with np.errstate(divide="ignore"):
        return float(np.log(law.next_bytes(text)[np.arange(len(events)), events]).sum())
