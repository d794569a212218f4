"""Handing a prefix over: ids where both mean the same by them, text where they do not."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import byte_tokenizer

from decaylab.policies.handover import HandOver
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy

TEXT = "a = 3 × 4 — né 😀😀 ok 中文"
TWO_ENDS = ("<|pad|>", "<|stop|>", "<|user|>", "<|assistant|>", "<|bos|>")


def policy(name: str, tokenizer: Any) -> Policy:
    return Policy(name, None, tokenizer, PolicyIdentity(name, "folder", "", ""), LoadSettings())


def pair(teacher: Any, student: Any = None) -> HandOver:
    return HandOver(policy("student", student or byte_tokenizer()), policy("teacher", teacher))


def test_ids_of_one_vocabulary_pass_unchanged_even_where_text_would_not() -> None:
    hand_over = pair(byte_tokenizer())
    ids = hand_over.policies["student"].encode(TEXT)
    for cut in range(len(ids) + 1):  # also inside characters
        assert hand_over(ids[:cut], "student") == ids[:cut]
        assert hand_over(ids[:cut], "teacher") == ids[:cut]


@pytest.mark.parametrize("author", ["student", "teacher"])
def test_an_id_that_means_something_else_to_the_reader_is_not_handed_over(author: str) -> None:
    hand_over = pair(byte_tokenizer(special=TWO_ENDS))
    assert hand_over.agreement.kind == "compatible"
    ids = hand_over.policies[author].encode("3 + 4")
    assert hand_over(ids, author) == ids
    assert hand_over([*ids, 1], author) is None
    assert hand_over([1, *ids], author) is None


def test_an_id_that_the_reader_lacks_is_not_handed_over_but_the_other_way_it_may_be() -> None:
    student = byte_tokenizer()
    student.add_tokens(["<|tool|>"])
    hand_over = pair(byte_tokenizer(), student)
    tool = student.convert_tokens_to_ids("<|tool|>")
    assert hand_over([50, tool], "student") is None
    assert hand_over([50, 51], "student") == [50, 51]
    assert hand_over([50, 51], "teacher") == [50, 51]


@pytest.mark.parametrize("author, reader", [("student", "teacher"), ("teacher", "student")])
def test_between_vocabularies_a_prefix_goes_back_to_the_last_whole_character(
    author: str, reader: str
) -> None:
    hand_over = pair(byte_tokenizer(shift=100))
    assert hand_over.agreement.kind == "different"
    ids = hand_over.policies[author].encode(TEXT)
    assert len(ids) == len(TEXT.encode())  # one id a byte
    for cut in range(1, len(ids) + 1):
        whole = TEXT.encode()[:cut].decode(
            errors="ignore"
        )  # an independent way back to the boundary
        handed = hand_over(ids[:cut], author)
        assert handed is not None and handed != ids[:cut]
        assert hand_over.policies[reader].decode(handed) == whole


def test_a_prefix_inside_its_first_character_leaves_nothing_to_hand_over() -> None:
    hand_over = pair(byte_tokenizer(shift=100))
    ids = hand_over.policies["student"].encode("😀")
    assert [hand_over(ids[:cut], "student") is None for cut in range(5)] == [
        True,
        True,
        True,
        True,
        False,
    ]


def test_stray_bytes_at_the_end_are_never_handed_over_as_replacement_characters() -> None:
    hand_over = pair(byte_tokenizer(shift=100))
    writer = hand_over.policies["student"]
    stray = writer.encode("é")[1]
    ids = [*writer.encode("ok"), *[stray] * 7]
    handed = hand_over(ids, "student")
    assert handed and hand_over.policies["teacher"].decode(handed) == "ok"
    assert hand_over([*ids, stray, stray], "student") is None, "too far back"
    assert hand_over([stray] * 7, "student") is None


def test_text_goes_over_whole_and_comes_back() -> None:
    hand_over = pair(byte_tokenizer(shift=100, adds_bos=True))
    ids = hand_over.policies["student"].encode(TEXT)
    handed = hand_over(ids, "student")
    assert handed is not None and hand_over(handed, "teacher") == ids  # and no BOS on the way
