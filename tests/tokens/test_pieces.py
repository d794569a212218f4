"""The text of each token, for every family of tokenizers, against the definition taken
literally."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from os.path import commonprefix
from typing import Any

import numpy as np
import pytest
from tiny_models import SPECIAL, byte_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from decaylab.policies.loading import load_tokenizer_only
from decaylab.tokens.pieces import READ_EACH, token_bytes, token_pieces, token_text, visible

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
EURO = [f"<0x{byte:02X}>" for byte in "€".encode()]
TEXTS = (
    "To find x, we note that 3 + 4 = 7.\n\nTherefore \\(x = 7\\).",
    " leading and trailing ",
    "naïve 12 €, 3 × 4 ≤ 20 → 数学の問題 🙂👩‍🏫 done",
    "a\ufffdb",
    "\n\n\t",
    "",
)


def fast(tokenizer: Tokenizer, unknown: str | None = None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)


def merging() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which a token may hold a space and the first byte of a character, or one's
    end and a letter."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "â"), ("¬", "a"), ("T", "o"), ("Ġ", "To"), ("Ĥ", "¬a")]
    vocab = {
        token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return fast(tokenizer)


def unigram(decoder: Any) -> PreTrainedTokenizerFast:
    """As sentencepiece makes them: words with their leading space, letters, and a byte each for the
    rest."""
    words = ["▁To", "▁find", "▁x", "▁", "▁we", "▁12", "to", *"abcdefghijklmnopqrstuvwxyzT,.=+\\()"]
    vocab = [
        ("<unk>", 0.0),
        *((byte, -20.0) for byte in BYTES),
        *((word, -float(10 - len(word))) for word in words),
    ]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoder
    return fast(tokenizer, "<unk>")


def metaspace() -> PreTrainedTokenizerFast:
    return unigram(decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]))


def stripping() -> PreTrainedTokenizerFast:
    """The decoder of Llama 2 and Gemma."""
    parts = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    return unigram(decoders.Sequence(parts))


def word_pieces() -> PreTrainedTokenizerFast:
    vocab = {
        word: index
        for index, word in enumerate(["[UNK]", "a", "To", "find", "##ing", ",", "x", "€"])
    }
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return fast(tokenizer, "[UNK]")


def embedded() -> Any:
    return load_tokenizer_only("abacus-student").tokenizer


FAMILIES = [byte_tokenizer, merging, metaspace, stripping, word_pieces, embedded]


def whole(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


def by_definition(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Decodes every beginning of the response: what agrees with the whole text is settled, and
    stays so."""
    text = whole(tokenizer, ids)
    agreed = [
        len(commonprefix([whole(tokenizer, ids[:stop]), text])) for stop in range(1, len(ids) + 1)
    ]
    ends = [*list(accumulate(agreed, max))[:-1], len(text)] if len(ids) else []
    return [text[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


def ids_of(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_whole_text_and_follow_the_definition(family: Any, text: str) -> None:
    tokenizer = family()
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = token_pieces(tokenizer, ids)
    assert "".join(pieces) == whole(tokenizer, ids) and len(pieces) == len(ids)
    assert pieces == by_definition(tokenizer, ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_of_tokens_in_any_order_follow_the_definition(family: Any) -> None:
    """What a bad model writes: broken characters, bytes that begin none, special tokens in
    between."""
    tokenizer, rng = family(), np.random.default_rng(0)
    for length in (1, 2, 3, 5, 12, 30):
        for _ in range(40):
            ids = rng.integers(0, len(tokenizer), length).tolist()
            assert token_pieces(tokenizer, ids) == by_definition(tokenizer, ids)


def test_the_token_that_completes_a_character_gets_it() -> None:
    """The euro sign has three bytes, the smiling face four."""
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("a€🙂b", add_special_tokens=False)
    assert token_pieces(tokenizer, ids) == ["a", "", "", "€", "", "", "", "🙂", "b"]


def test_a_token_gets_the_whole_characters_it_holds_beside_half_of_one() -> None:
    tokenizer = merging()
    ids = ids_of(tokenizer, ["ĠTo", "Ġâ", "Ĥ", "¬a", "x"])
    assert token_pieces(tokenizer, ids) == [" To", " ", "", "€a", "x"]


@pytest.mark.parametrize("family", [metaspace, stripping])
def test_only_the_first_token_of_a_sentencepiece_response_loses_its_space(family: Any) -> None:
    tokenizer = family()
    ids = ids_of(tokenizer, ["▁To", "▁To", *EURO, "▁x"])
    assert token_pieces(tokenizer, ids) == ["To", " To", "", "", "€", " x"]
    assert [whole(tokenizer, [token]) for token in ids[:2]] == [
        "To",
        "To",
    ]  # alone they would not make up the text


def test_bytes_that_are_no_character_read_u_fffd_each_at_its_own_token() -> None:
    """80 begins no character. E2 82 is the beginning of one that does not come: one U+FFFD, at its
    first byte."""
    tokenizer = byte_tokenizer()
    character = {
        byte: chr(256 + index) for index, byte in enumerate([*range(33), *range(127, 161), 173])
    }
    ids = ids_of(tokenizer, ["a", character[0x80], character[0x80], "b", "â", character[0x82], "c"])
    assert token_pieces(tokenizer, ids) == ["a", "\ufffd", "\ufffd", "b", "\ufffd", "", "c"]


def test_special_tokens_are_text() -> None:
    tokenizer = byte_tokenizer()
    ids = [
        *tokenizer.encode("hé", add_special_tokens=False),
        tokenizer.convert_tokens_to_ids(SPECIAL[1]),
    ]
    assert token_pieces(tokenizer, ids) == ["h", "", "é", "<|end|>"]


class Counting:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.decoded = tokenizer, 0

    def encode(self, text: str, **options: Any) -> list[int]:
        return list(self.tokenizer.encode(text, **options))

    def decode(self, ids: list[int], **options: Any) -> str:
        self.decoded += len(ids)
        return str(self.tokenizer.decode(ids, **options))


@pytest.mark.parametrize("broken", ["<0xFF>", "<0xE2>"])
def test_a_response_of_broken_bytes_is_read_in_linear_time(broken: str) -> None:
    """Every beginning of it would be 2 million tokens. The text behind it comes out right again."""
    tokenizer = Counting(metaspace())
    ids = ids_of(tokenizer.tokenizer, ["▁To", *[broken] * 2000, *["▁x", "▁we", *EURO] * 1000])
    pieces = token_pieces(tokenizer, ids)
    assert "".join(pieces) == whole(tokenizer.tokenizer, ids)
    assert pieces[1 : READ_EACH + 1] == ["\ufffd"] * READ_EACH
    assert pieces[-5:] == [" x", " we", "", "", "€"]
    assert tokenizer.decoded < 8 * len(ids)


def test_what_was_decoded_once_is_not_decoded_again() -> None:
    """After the first response only the whole text is decoded, and its first token."""
    tokenizer = Counting(byte_tokenizer())
    ids = tokenizer.encode("To find x, we note that")
    token_pieces(tokenizer, ids)
    tokenizer.decoded = 0
    token_pieces(tokenizer, ids)
    assert tokenizer.decoded == len(ids) + 1


def test_white_space_is_visible_and_no_two_pieces_look_alike() -> None:
    """The sign for a space may itself be a piece."""
    pieces = [
        " First",
        "First",
        "\n",
        "\n\n",
        "\t",
        "\r",
        " ",
        "",
        "\u2423",
        "\u21b5",
        "\\n",
        "\\(",
    ]
    shown = [visible(piece) for piece in pieces]
    assert shown[:4] == ["\u2423First", "First", "\u21b5", "\u21b5\u21b5"] and shown[-1] == "\\("
    assert len(set(shown)) == len(pieces) and not any(
        one != one.strip() or not one for one in shown
    )


@pytest.mark.parametrize("make", [merging, metaspace, byte_tokenizer])
def test_the_bytes_of_a_token_that_holds_part_of_a_character_are_told(make: Any) -> None:
    tokenizer = make()
    ids = tokenizer.encode("€", add_special_tokens=False)
    partial = [token for token in ids if token_bytes(tokenizer, token)]
    told = "".join(token_bytes(tokenizer, token) for token in partial).replace(" ", "")
    assert told in "20" + "€".encode().hex().upper()  # a token may hold a space and the first byte
    assert told.endswith("€".encode().hex().upper())
    for token in partial:
        written = token_text(tokenizer, token)
        assert written == "".join(f"<0x{byte}>" for byte in token_bytes(tokenizer, token).split())


@pytest.mark.parametrize("make", [merging, metaspace, byte_tokenizer])
def test_a_token_of_whole_characters_reads_as_its_text_and_has_no_bytes_to_tell(make: Any) -> None:
    tokenizer = make()
    token = tokenizer.encode("ax", add_special_tokens=False)[-1]
    assert token_text(tokenizer, token) == "x"
    assert token_bytes(tokenizer, token) == ""


def test_every_byte_has_its_character_in_byte_level_vocabularies() -> None:
    from decaylab.policies.token_bytes import byte_level

    assert sorted(byte_level().values()) == list(range(256))
    assert set(byte_level()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert byte_level()["Ġ"] == ord(" ")
