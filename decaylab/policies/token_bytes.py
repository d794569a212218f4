"""The bytes of each token, so that two tokenizations of one text can be laid over each other.

    reader = TokenBytes(policy)
    reader.of(ids)                      # [b"It", b" is", b" 5", b"."]
    reader.encode("It is 5.")           # ids; None where the tokenizer changes the text

A tokenizer is read by its decoder: byte-level BPE, or SentencePiece (a sign for a blank, byte
fallback) with or without a blank that the first token of a text loses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

from decaylab.errors import UserError
from decaylab.policies.policy import Policy

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BLANK = "\u2581"  # SentencePiece's sign
FIRST = {"Strip", "Metaspace"}
"""Decoders that may take the blank from the first token of a text."""


class TokenBytes:
    """The tokens of a policy as bytes.

    Raises:
        UserError: the tokenizer has no decoder that maps each token to bytes.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.tokenizer = policy, policy.tokenizer
        if not self.tokenizer.is_fast:
            raise self._unreadable("it is not a fast tokenizer")
        decoder = json.loads(self.tokenizer.backend_tokenizer.to_str())["decoder"] or {}
        self.steps: list[dict[str, Any]] = decoder.get("decoders") or [decoder]
        kinds = {step.get("type") for step in self.steps}
        self.byte_level, self.has_fallback = "ByteLevel" in kinds, "ByteFallback" in kinds
        self.drops_all_blanks = "Metaspace" in kinds
        if not (self.byte_level or kinds & {"ByteFallback", "Metaspace", "Replace"}):
            raise self._unreadable(f"its decoder is {decoder.get('type', 'missing')}")
        if kinds & {"WordPiece", "BPEDecoder", "CTC"}:
            raise self._unreadable(f"its decoder is {decoder['type']}")

    def _unreadable(self, reason: str) -> UserError:
        return UserError(
            f"{self.policy.name}: its tokens cannot be read as bytes ({reason}), so the pair needs "
            "one tokenizer; use a teacher with the student's tokenizer"
        )

    @cached_property
    def added(self) -> dict[int, str]:
        """Text of the added tokens, by id."""
        tokens = self.tokenizer.added_tokens_decoder
        return {int(index): str(token.content) for index, token in tokens.items()}

    @cached_property
    def table(self) -> dict[int, bytes]:
        """The bytes of every token inside a text, by id."""
        vocabulary = self.tokenizer.get_vocab()
        return {index: self._bytes(token, index) for token, index in vocabulary.items()}

    @cached_property
    def drops_blank(self) -> bool:
        """Whether the first token of a text loses its blank."""
        if self.byte_level or not FIRST & {step.get("type") for step in self.steps}:
            return False
        blank = next((index for index, text in self.table.items() if text == b" a"), None)
        if blank is None:
            blank = next((i for i, text in self.table.items() if text[:1] == b" "), None)
        return blank is not None and not self.text([blank]).startswith(" ")

    def of(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token of a response; ids without a token have none."""
        pieces = [self.table.get(token, b"") for token in ids]
        if pieces:
            pieces[0] = self.first(ids[0])
        return pieces

    def first(self, token: int) -> bytes:
        """The bytes of a token at the beginning of a response."""
        piece = self.table.get(token, b"")
        if not self.drops_blank or token in self.added:
            return piece
        return piece.lstrip(b" ") if self.drops_all_blanks else piece.removeprefix(b" ")

    def text(self, ids: Sequence[int]) -> str:
        """The text of the tokens of a response, control tokens included."""
        plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(ids), **plain))

    def encode(self, text: str, controls: Sequence[tuple[int, int]] = ()) -> list[int] | None:
        """Ids of a text as the policy would write it; None where they are not the same bytes, or
        have control tokens elsewhere.

        controls: where the text has control tokens, as first and last character + 1. All others
        that it spells are encoded as text.
        """
        places = [len(text[:start].encode()) for start, _ in controls]
        ids = self.policy.encode(text)
        if not self._is(ids, text, places):
            ids = self._hiding(text, controls)
        return ids if self._is(ids, text, places) else None

    def _hiding(self, text: str, controls: Sequence[tuple[int, int]]) -> list[int]:
        """Ids of a text of which only the given parts may be control tokens; none where it spells
        no other."""
        marks, hidden = self.policy.control, dict[str, str]()
        shown, done = "", 0
        for start, stop in controls:
            shown += marks.hide(text[done:start], hidden) + text[start:stop]
            done = stop
        shown += marks.hide(text[done:], hidden)
        try:
            return self.policy.embedded(marks.encode(shown, hidden)) if hidden else []
        except UserError:  # a control token that cannot be encoded as text
            return []

    def _is(self, ids: Sequence[int], text: str, places: Sequence[int]) -> bool:
        """Whether ids are the bytes of a text, with control tokens at the given ones alone."""
        pieces = self.of(ids)
        return b"".join(pieces) == text.encode() and self._controls(ids, pieces) == places

    def _controls(self, ids: Sequence[int], pieces: Sequence[bytes]) -> list[int]:
        """Bytes of the text ahead of each control token; the unknown token is one."""
        known = {*self.policy.control.texts, self.tokenizer.unk_token_id}
        starts = accumulate(map(len, pieces), initial=0)
        # One more than there are tokens: the end.
        return [start for token, start in zip(ids, starts, strict=False) if token in known]

    def _bytes(self, token: str, index: int) -> bytes:
        if index in self.added:
            return self.added[index].encode()
        if self.byte_level:
            known = byte_level()
            if all(character in known for character in token):
                return bytes(known[character] for character in token)
            return token.encode()
        if self.has_fallback and (match := BYTE.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace(BLANK, " ").encode()


@lru_cache(maxsize=1)
def byte_level() -> dict[str, int]:
    """The byte behind each character in byte-level tokenizers."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in shown]
    substitutes = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in shown} | substitutes
