"""The bytes of each token, in every family of tokenizers that the pairs meet."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from tokenizer_families import FAMILIES, adversarial_texts, family, policy_of, wordpiece
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from decaylab.errors import UserError
from decaylab.policies.token_bytes import TokenBytes

TEXTS = adversarial_texts()


def composed(form: Any) -> Callable[[str], bool]:
    return lambda text: unicodedata.normalize(form, text) == text


SURVIVES: dict[str, Callable[[str], bool]] = {
    "GPT-2": lambda text: True,
    "SmolLM": lambda text: True,
    "Qwen2": composed("NFC"),
    "NFKC": composed("NFKC"),
    "lower case": lambda text: text.lower() == text,
    "Llama-2": lambda text: "▁" not in text,
    "Gemma": lambda text: "▁" not in text,
}
"""Whether a text comes back from the tokenizer of a family unchanged."""


def reader(name: str) -> TokenBytes:
    return TokenBytes(policy_of(family(name)))


def drawn(known: TokenBytes, number: int) -> list[list[int]]:
    """Tokens at random: no text need have them, nor need they be text."""
    draw, ids = random.Random(7), sorted(known.table)
    return [draw.choices(ids, k=draw.randint(1, 9)) for _ in range(number)]


def test_there_are_200_texts_and_none_is_there_twice() -> None:
    assert len(TEXTS) == len(set(TEXTS)) == 200


@pytest.mark.parametrize("name", SURVIVES)
def test_a_text_is_encoded_exactly_where_the_tokenizer_keeps_it(name: str) -> None:
    known, keeps = reader(name), SURVIVES[name]
    for text in TEXTS:
        ids = known.encode(text)
        assert (ids is not None) == keeps(text), text
        if ids is not None:
            assert b"".join(known.of(ids)) == text.encode() and known.text(ids) == text


@pytest.mark.parametrize("name", FAMILIES)
def test_the_bytes_of_each_beginning_are_what_the_tokenizer_decodes(name: str) -> None:
    """Also of tokens that no text has; an incomplete character has no text."""
    known = reader(name)
    written = [ids for text in TEXTS if (ids := known.encode(text))]
    assert len(written) > 50
    for ids in [*written, *drawn(known, 100)]:
        pieces = list(accumulate(known.of(ids)))
        for count, piece in enumerate(pieces, start=1):
            try:
                text = piece.decode()
            except UnicodeDecodeError:
                continue
            assert known.text(ids[:count]) == text, ids[:count]


@pytest.mark.parametrize("name", FAMILIES)
def test_spelled_control_tokens_are_text_and_given_ones_are_tokens(name: str) -> None:
    known = reader(name)
    control = known.tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = "so <|im_end|>ends"
    spelled, given = known.encode(text), known.encode(text, [(3, 13)])
    if spelled is not None:  # a unigram model without bytes may not have the signs
        assert control not in spelled and known.text(spelled) == text
    if name in ("Llama-2", "T5"):  # these put a blank behind a control token
        assert given is None
    else:
        assert given is not None and given.count(control) == 1
        assert b"".join(known.of(given)) == text.encode()


def test_the_unknown_token_stands_for_no_text() -> None:
    """Nor for the text that is spelled as its name."""
    known = reader("Unigram, no blank")
    unknown = known.tokenizer.unk_token_id
    assert unknown in known.policy.encode("😀") and known.encode("😀") is None
    assert unknown in known.policy.encode("a<unk>")
    spelled, given = known.encode("a<unk>"), known.encode("a<unk>", [(1, 6)])
    assert spelled is None or unknown not in spelled
    assert given is not None and given[-1] == unknown


def test_bytes_are_those_of_the_fallback_only_where_the_tokenizer_has_one() -> None:
    known = reader("Llama-2")
    token = known.tokenizer.convert_tokens_to_ids("<0xE2>")
    assert known.of([token]) == [b"\xe2"]
    state = family("Unigram, no blank").backend_tokenizer.to_str()
    made = Tokenizer.from_str(state.replace('["A",', '["<0x41>",'))
    other = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
    other.chat_template = family("T5").chat_template
    known = TokenBytes(policy_of(other))
    token = other.convert_tokens_to_ids("<0x41>")
    assert known.of([token]) == [b"<0x41>"] and known.text([token]) == "<0x41>"


@pytest.mark.parametrize(
    "name, drops", [("Llama-2", True), ("Gemma", False), ("T5", True), ("GPT-2", False)]
)
def test_only_a_first_token_loses_its_blank(name: str, drops: bool) -> None:
    known = reader(name)
    assert known.drops_blank is drops
    token = next(index for index, text in known.table.items() if text.startswith(b" t"))
    first, second = known.of([token, token])
    assert second.startswith(b" t") and first == second.removeprefix(b" " * drops)


def test_an_id_without_a_token_has_no_bytes() -> None:
    assert reader("GPT-2").of([10**6, 0]) == [b"", reader("GPT-2").table[0]]


def test_a_tokenizer_whose_tokens_are_no_bytes_is_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match="^bert: its tokens cannot be read as bytes .*WordPiece"
    ) as found:
        TokenBytes(policy_of(wordpiece(), "bert"))
    assert "\n" not in str(found.value) and "use a teacher with the student's" in str(found.value)


def test_a_slow_tokenizer_is_refused_in_one_line() -> None:
    class Slow:
        is_fast = False

    policy = policy_of(family("GPT-2"), "slow")
    policy.tokenizer = Slow()
    with pytest.raises(UserError, match=r"^slow: .*\(it is not a fast tokenizer\)") as found:
        TokenBytes(policy)
    assert "\n" not in str(found.value)
