"""The text of each token of a response, such that the pieces concatenate to the whole text.

Decoding tokens one by one fails at this: half of a character decodes to U+FFFD, and a sentencepiece
token loses its leading space. So the response is decoded as a whole, and each token gets the text
that it adds to the settled part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from os.path import commonprefix
from typing import Any

from decaylab.policies.token_bytes import byte_level

NOT_A_CHARACTER = "\ufffd"  # decoded from bytes that are not UTF-8
# A run without a whole character is decoded at each of its first tokens, then whenever its length
# has doubled.
READ_EACH = 32
REMEMBERED = 4  # runs up to this long are decoded once
PART_OF_A_CHARACTER = "(part of a character)"
SIGNS = {" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d"}
# Such a sign in the text itself is shown as its code, so that no two texts look alike.
VISIBLE = str.maketrans({**SIGNS, **{sign: f"\\u{ord(sign):04x}" for sign in SIGNS.values()}})


def token_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token; joined, they equal ``tokenizer.decode(ids)`` with special tokens.

    Decoding does no clean-up. A character belongs to the token that completes it: the first one
    after which the decoded text agrees with the whole text up to there. A token with only part of a
    character gets "". Bytes that are not valid UTF-8 decode to U+FFFD and follow the same rule.
    Linear in the number of tokens: in a run of more than 32 tokens without a whole character,
    tokens may get "" and a later token their text.
    """
    if not len(ids):
        return []
    reader = _reader(tokenizer)
    text = reader.decode(ids)
    pieces = [reader.decode(ids[:1]), *(reader.inside((token,)) for token in ids[1:])]
    if "".join(pieces) == text:
        return pieces
    return [text[start:stop] for start, stop in pairwise([0, *_settled(reader, ids, text)])]


def token_text(tokenizer: Any, token: int) -> str:
    """The text of one token after other tokens; part of a character is shown as <0xE2><0x82>."""
    raw = token_bytes(tokenizer, token)
    if raw:
        return "".join(f"<0x{byte}>" for byte in raw.split())
    return _reader(tokenizer).inside((token,))


def token_bytes(tokenizer: Any, token: int) -> str:
    """The bytes of a token that is part of a character, such as ``E2 82``; "" for any other."""
    if NOT_A_CHARACTER not in _reader(tokenizer).inside((token,)):
        return ""
    entry = str(tokenizer.convert_ids_to_tokens(token))
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", entry):
        return entry[3:5].upper()
    known = byte_level()
    if all(character in known for character in entry):
        return " ".join(f"{known[character]:02X}" for character in entry)
    return ""


def visible(piece: str) -> str:
    """A piece for display in a table.

    A space is \u2423, a newline \u21b5, a tab \u21e5; unprintable characters are escaped.
    """
    shown = ""
    for sign in piece.translate(VISIBLE):
        shown += sign if sign.isprintable() else sign.encode("unicode_escape").decode()
    return shown or PART_OF_A_CHARACTER


def _settled(reader: _Reader, ids: Sequence[int], text: str) -> list[int]:
    """Number of settled characters after each token.

    A run of tokens that begins at a whole character is decoded separately.
    """
    settled, first, at, reached = [], 0, 0, 0
    for stop in range(1, len(ids) + 1):
        size = stop - first
        if size <= READ_EACH or size & (size - 1) == 0:
            read = reader.inside(tuple(ids[first:stop])) if first else reader.decode(ids[:stop])
            shared = len(commonprefix([read, text[at : at + len(read)]]))
            reached = max(reached, at + shared)
            if shared == len(read) and not read.endswith(NOT_A_CHARACTER):
                first, at = stop, reached
        settled.append(reached)
    return [*settled[:-1], len(text)]


class _Reader:
    """Decodes with one tokenizer and caches short runs."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.before = tokenizer.encode("a", add_special_tokens=False)
        self.skipped = len(self.decode(self.before))
        self.known: dict[tuple[int, ...], str] = {}

    def decode(self, ids: Sequence[int]) -> str:
        plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(ids), **plain))

    def inside(self, ids: tuple[int, ...]) -> str:
        """The text of tokens after other tokens."""
        text = self.known.get(ids)
        if text is None:
            text = self.decode([*self.before, *ids])[self.skipped :]
            if len(ids) <= REMEMBERED:
                self.known[ids] = text
        return text


@lru_cache(maxsize=4)
def _reader(tokenizer: Any) -> _Reader:
    return _Reader(tokenizer)
