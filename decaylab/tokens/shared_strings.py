"""The strings that are one token in both of two tokenizers.

At a place where both policies have a boundary, each has a law of the next token. Ranks, overlaps
and modes compare the two over the strings that are one token in both; the mass outside is reported.
The end of the turn is one of the strings. The next byte needs no such cut: each token has one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.maths.byte_laws import TokensByBytes
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.policies.token_bytes import BYTE, TokenBytes

NONE = -1


class SharedStrings:
    """Both vocabularies at a boundary of both.

    begins: the boundary is the beginning of the response, where some tokenizers drop a blank.
    """

    def __init__(self, student: TokenBytes, teacher: TokenBytes, *, begins: bool = False) -> None:
        self.student, self.teacher, self.begins = student, teacher, begins
        ours, theirs = _strings(student, begins), _strings(teacher, begins)
        common = sorted(ours.keys() & theirs.keys())
        self.ids = (
            torch.tensor([*(ours[string] for string in common), student.policy.end_id]),
            torch.tensor([*(theirs[string] for string in common), teacher.policy.end_id]),
        )
        """Ids of the strings on both sides, and of the end of the turn behind them."""
        self.end = len(common)
        """The place of the end of the turn, behind the strings."""
        known = {ours[string]: place for place, string in enumerate(common)}
        width = max(ours.values(), default=0) + 1
        self.places = torch.full((width,), NONE)
        for token, place in known.items():
            self.places[token] = place

    def over_strings(
        self, logprobs: Tensor, own: OwnVocabulary, side: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities over the shared strings and the end, [positions, strings + 1],
        renormalised; and the probability of all other ids before that, [positions].

        Args:
            logprobs: of one policy over its own ids, [positions, width].
            side: 0 for the student, 1 for the teacher.
        """
        kept = logprobs.index_select(1, self.ids[side].to(logprobs.device))
        kept[:, self.end] = own.ending(logprobs)
        mass = kept.logsumexp(1)
        removed = (-torch.expm1(mass)).clamp(min=0.0) + 0.0  # not -0
        return kept.sub_(mass[:, None]), removed

    def place(self, tokens: Tensor, own: OwnVocabulary) -> Tensor:
        """Place of each token of the student among the strings; `NONE` where it is not shared."""
        inside = self.places.to(tokens.device)
        known = torch.where(tokens < len(inside), inside[tokens.clamp(max=len(inside) - 1)], NONE)
        is_end = torch.isin(tokens, own.ends.to(tokens.device))
        return torch.where(is_end, self.end, known)

    def student_ids(self, places: Tensor) -> Tensor:
        """The student's ids of strings, by their places."""
        return self.ids[0].to(places.device)[places]


def _strings(reader: TokenBytes, begins: bool) -> dict[bytes, int]:
    """The id of each string of bytes that is one ordinary token.

    Of two tokens of the same bytes, one is the fallback for that byte, which is not written where
    the other can be.
    """
    found: dict[bytes, int] = {}
    vocabulary = reader.tokenizer.get_vocab()
    fallback_last = sorted(
        vocabulary.items(), key=lambda entry: (bool(BYTE.fullmatch(entry[0])), entry[1])
    )
    for _, token in fallback_last:
        string = _text(reader, token, begins)
        if string and token not in reader.policy.end_ids and token < reader.policy.rows:
            found.setdefault(string, token)
    return found


def _text(reader: TokenBytes, token: int, begins: bool) -> bytes:
    """The bytes of a token; at the beginning of a response, of a tokenizer that drops a blank
    there, only tokens with a blank are written."""
    string = reader.table[token]
    if not (begins and reader.drops_blank) or token in reader.added:
        return string
    return reader.first(token) if string.startswith(b" ") else b""


def by_bytes(reader: TokenBytes, *, begins: bool = False) -> TokensByBytes:
    """The ids of a head, sorted by the bytes that they write.

    begins: at the beginning of a response.
    """
    policy = reader.policy
    pieces = [b""] * policy.head_width
    for token, string in reader.table.items():
        if token < len(pieces) and token not in policy.control.texts:
            pieces[token] = reader.first(token) if begins else string
    return TokensByBytes(pieces, [token for token in policy.end_ids if token < len(pieces)])
