"""Handing a prefix over: ids where both mean the same by them, text where they do not."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from tiny_models import byte_tokenizer
from tokenizer_families import GPT2, adversarial_texts, byte_level, family, wordpiece

from decaylab.errors import UserError
from decaylab.policies.handover import MOST_SHIFTED, Handed, HandOver
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


# Cuts at boundaries of both

FAMILIES = ("GPT-2", "Qwen2", "Llama-2", "Gemma")


def families(student: str, teacher: str) -> HandOver:
    return pair(family(teacher), family(student))


def written(hand_over: HandOver, text: str) -> list[int]:
    """A finished response by the student."""
    ids = hand_over.bytes["student"].encode(text)
    assert ids is not None
    return [*ids, hand_over.policies["student"].end_id]


@pytest.mark.parametrize("student, teacher", [*permutations(FAMILIES, 2)])
def test_the_cut_is_the_nearest_where_the_readers_tokens_begin_those_of_the_whole(
    student: str, teacher: str
) -> None:
    """Against a search of every place, by the tokenizers themselves."""
    hand_over, shifts = families(student, teacher), list[int]()
    author, reader = hand_over.bytes["student"], hand_over.bytes["teacher"]
    texts = [text for text in adversarial_texts()[::4] if "<" not in text and "▁" not in text]
    for text in texts:
        ids, whole = author.encode(text), reader.encode(text)
        if ids is None or whole is None:
            continue
        for length in (1, 3, 6, len(ids)):
            if length > len(ids):
                continue
            fits = [
                cut
                for cut in range(1, length + 1)
                if (part := reader.policy.encode(author.text(ids[:cut])))
                and whole[: len(part)] == part
                and b"".join(author.of(ids[:cut])) == b"".join(reader.of(part))
            ]
            found = hand_over.beginning([*ids, author.policy.end_id], length, "student")
            assert (found is None) == (not fits or length - fits[-1] > MOST_SHIFTED)
            if found is not None:
                shifts.append(found.shift)
                assert found.shift == length - fits[-1]
                assert found.ids == reader.encode(author.text(ids[: fits[-1]]))
                assert found.ids == whole[: len(found.ids)]
    assert 0 in shifts and max(shifts) > 0


def test_a_token_that_the_reader_writes_as_one_is_not_split() -> None:
    """Digits are tokens of the student; the teacher has the number as one."""
    hand_over = pair(byte_level(GPT2, 900), family("SmolLM"))
    ids = written(hand_over, "so 125 it")
    assert hand_over.bytes["student"].of(ids[1:5]) == [b" ", b"1", b"2", b"5"]
    found = [hand_over.beginning(ids, length, "student") for length in range(1, 7)]
    teacher = hand_over.bytes["teacher"]
    assert [one and one.shift for one in found] == [0, 1, 2, 3, 0, 0]
    assert [teacher.text(one.ids) for one in found if one] == [*["so"] * 4, "so 125", "so 125 it"]


def test_a_cut_that_would_lie_too_far_back_is_none() -> None:
    hand_over = pair(runs_together(), byte_tokenizer())
    ids = written(hand_over, "a" + "=" * 12 + "b")
    found = [hand_over.beginning(ids, length, "student") for length in range(1, 15)]
    shifts = [one and one.shift for one in found]
    assert shifts == [*range(9), None, None, None, 0, 0] and MOST_SHIFTED == 8


def runs_together() -> Any:
    """One token of 12 signs beside the bytes."""
    tokenizer = byte_tokenizer(shift=3)
    tokenizer.add_tokens(["=" * 12])
    return tokenizer


def test_nothing_before_the_first_boundary_is_handed_over() -> None:
    hand_over = pair(runs_together(), byte_tokenizer())
    assert hand_over.beginning(written(hand_over, "=" * 12), 4, "student") is None


def test_the_end_of_a_response_that_was_cut_off_is_no_boundary() -> None:
    hand_over = pair(byte_tokenizer(shift=3))
    ids = written(hand_over, "abc")
    assert hand_over.beginning(ids, 3, "student") == Handed(ids_of(hand_over, "abc"))
    assert hand_over.beginning(ids[:-1], 3, "student") == Handed(ids_of(hand_over, "ab"), 1)


def ids_of(hand_over: HandOver, text: str) -> list[int]:
    return hand_over.bytes["teacher"].policy.encode(text)


def test_text_behind_the_cut_that_the_reader_changes_does_not_matter() -> None:
    hand_over = families("GPT-2", "Qwen2")  # which composes accents
    ids = written(hand_over, "so it is cafe\u0301")
    assert hand_over.bytes["teacher"].encode("so it is cafe\u0301") is None
    found = hand_over.beginning(ids, 4, "student")
    assert found is not None and hand_over.bytes["teacher"].text(found.ids).startswith("so it")
    stray = [*ids[:-1], ids[-3], ids[-1]]  # and bytes that are no text
    assert hand_over.beginning(stray, 4, "student") == found
    assert (
        hand_over.beginning(ids, len(ids) - 1, "student") is None
        or (hand_over.beginning(ids, len(ids) - 1, "student") or Handed([])).shift > 0
    )


def test_spelled_control_tokens_go_over_as_text_and_written_ones_as_tokens() -> None:
    hand_over = families("Qwen2", "Gemma")
    student, teacher = hand_over.bytes["student"], hand_over.bytes["teacher"]
    end = teacher.policy.end_id
    ids = written(hand_over, "say <|im_end|> now")
    found = hand_over.beginning(ids, len(ids) - 1, "student")
    assert found is not None and found.shift == 0 and end not in found.ids
    assert teacher.text(found.ids) == "say <|im_end|> now"
    think = student.tokenizer.convert_tokens_to_ids("<think>")
    found = hand_over.beginning([think, *ids], len(ids), "student")
    theirs = teacher.tokenizer.convert_tokens_to_ids("<think>")
    assert found is not None and found.ids[0] == theirs and found.ids.count(theirs) == 1


def test_a_control_token_that_the_reader_lacks_stops_what_can_be_handed_over() -> None:
    hand_over = families("Qwen2", "GPT-2")
    think = hand_over.bytes["student"].tokenizer.convert_tokens_to_ids("<think>")
    so = hand_over.bytes["student"].encode("so it is")
    assert so is not None
    ids = [*so, think, *so]
    assert hand_over.beginning(ids, len(so) - 1, "student") is not None
    for length in range(len(so) + 1 + MOST_SHIFTED, len(ids) + 1):
        assert hand_over.beginning(ids, length, "student") is None


def test_what_the_teacher_wrote_goes_back_as_it_follows_the_prefix() -> None:
    """In the student's tokens of the whole, behind those that it wrote."""
    hand_over = families("Qwen2", "Llama-2")
    student, teacher = hand_over.bytes["student"], hand_over.bytes["teacher"]
    prefix, handed = student.encode("The answer"), teacher.encode("The answer")
    whole = teacher.encode("The answer is 12 apples")
    assert prefix and handed and whole and whole[: len(handed)] == handed
    response = whole[len(handed) :]
    for count in range(len(response)):
        found = hand_over.behind(prefix, handed, response, count)
        kept = [*handed, *response[: count - (found.shift if found else 0)]]
        assert found is not None or count
        if found is not None:
            assert student.text([*prefix, *found.ids]) == teacher.text(kept)
            own = student.encode(teacher.text(whole))
            assert own is not None and [*prefix, *found.ids] == own[: len(prefix) + len(found.ids)]


def test_what_would_join_the_last_token_of_the_prefix_is_not_handed_back() -> None:
    hand_over = pair(byte_tokenizer(), byte_level(GPT2, 900))
    student, teacher = hand_over.bytes["student"], hand_over.bytes["teacher"]
    prefix, handed = student.encode("so 12"), teacher.encode("so 12")
    behind = teacher.encode("5 apples, and")
    assert prefix and handed and behind
    assert hand_over.behind(prefix, handed, behind, 4) is None
    assert hand_over.behind(prefix, handed, behind, 0) == Handed([])
    # Of the prefix itself nothing is changed, also where it is not what the tokenizer writes.
    bytes_alone = [student.tokenizer.convert_tokens_to_ids(one) for one in "soĠ12"]
    other = teacher.encode(", and so it")
    found = other and hand_over.behind(bytes_alone, handed, other, 4)
    assert found and student.text([*bytes_alone, *found.ids]) == "so 12, an"[: 5 + 4 - found.shift]


def test_a_seam_inside_a_token_of_the_whole_is_told() -> None:
    hand_over = pair(byte_level(GPT2, 900), byte_tokenizer())
    teacher = hand_over.bytes["teacher"]
    prefix, joins, parts = (teacher.encode(text) for text in ("so 12", "5 apples", ", and"))
    assert prefix and joins and parts
    assert hand_over.splits(prefix, joins, "teacher") is True
    assert hand_over.splits(prefix, parts, "teacher") is False
    assert hand_over.splits(prefix, [teacher.policy.end_id], "teacher") is False
    assert pair(byte_tokenizer()).splits([9], [10], "teacher") is None


def test_bytes_that_undo_the_last_character_of_the_prefix_are_told() -> None:
    """A run of byte tokens is decoded as a whole, or as none."""
    hand_over = families("Qwen2", "Llama-2")
    teacher = hand_over.bytes["teacher"]
    prefix = teacher.encode("so 🤿")
    assert prefix and hand_over.splits(prefix, teacher.encode("so") or [], "teacher") is False
    assert teacher.text([*prefix, prefix[-1]]).startswith("so \ufffd")
    assert hand_over.splits(prefix, [prefix[-1]], "teacher") is True


def test_with_one_vocabulary_no_cut_is_moved() -> None:
    hand_over = pair(byte_tokenizer())
    ids = hand_over.policies["student"].encode(TEXT)
    for cut in range(1, len(ids)):
        assert hand_over.beginning(ids, cut, "student") == Handed(ids[:cut])
        assert hand_over.behind([5], [5], ids, cut) == Handed(ids[:cut])


def test_tokens_that_are_no_bytes_are_refused_where_the_vocabularies_differ() -> None:
    with pytest.raises(UserError, match="^teacher: its tokens cannot be read as bytes"):
        pair(wordpiece())
    other = policy("student", wordpiece())
    assert not HandOver(other, other).differs
