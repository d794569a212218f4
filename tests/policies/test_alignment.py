"""Two tokenizations of one response, byte by byte: whatever the text, the ranges tile it, or it is
left out for a reason that is true."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from tiny_models import byte_tokenizer
from tokenizer_families import FAMILIES, GPT2, adversarial_texts, byte_level, family, policy_of

from decaylab.policies.alignment import Aligner, Alignment, Span, coverage
from decaylab.policies.token_bytes import TokenBytes

TEXTS = adversarial_texts()
KEPT = ("GPT-2", "Qwen2", "SmolLM", "Llama-2", "Gemma", "NFKC")
"""Families that say what they change."""


class Remembering(TokenBytes):
    """Reads each text once, since every pair meets it again."""

    def __init__(self, name: str) -> None:
        super().__init__(policy_of(family(name), name))
        self.known: dict[Any, list[int] | None] = {}

    def encode(self, text: str, controls: Sequence[tuple[int, int]] = ()) -> list[int] | None:
        asked = text, tuple(controls)
        if asked not in self.known:
            self.known[asked] = super().encode(*asked)
        return self.known[asked]


remembering = cache(Remembering)


def aligner(student: str, teacher: str) -> Aligner:
    both = Aligner(policy_of(family(student)), policy_of(family(teacher)))
    both.student, both.teacher = remembering(student), remembering(teacher)
    return both


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def require_tiling(both: Aligner, found: Alignment, text: str) -> None:
    """The tokens of each side are the bytes of the text, and so are the spans."""
    assert found.bytes == len(text.encode()) + found.ended or not found.ended
    sides = (
        (both.student, found.student, found.student_ends),
        (both.teacher, found.teacher, found.teacher_ends),
    )
    for known, ids, ends in sides:
        body = ids[: len(ids) - found.ended]
        whole = b"".join(known.of(body))
        assert whole == text.encode()[: len(whole)] and len(ids) == len(ends)
        assert ends[-1] == len(whole) + found.ended
        assert known.text(body).encode() == whole
        if found.ended:
            assert ids[-1] in known.policy.end_ids and len(whole) == len(text.encode())
        lengths = [int(stop - start) for start, stop in pairwise([0, *ends])]
        assert lengths == [*map(len, known.of(body)), *[1] * found.ended]
    require_spans(found)


def require_spans(found: Alignment) -> None:
    spans = found.spans
    for before, behind in pairwise([Span(slice(0, 0), slice(0, 0), 0), *spans]):
        assert before.student.stop == behind.student.start
        assert before.teacher.stop == behind.teacher.start
        assert before.stop < behind.stop and behind.tokens > 0
        assert found.student_ends[behind.student.stop - 1] == behind.stop
        assert found.teacher_ends[behind.teacher.stop - 1] == behind.stop
    stops = {span.stop for span in spans}
    shared = {*found.student_ends.tolist()} & {*found.teacher_ends.tolist()} - {0}
    assert stops == (shared if found.ended else shared - {max(shared, default=0)})
    if found.ended:
        assert spans[-1].student.stop == len(found.student)
        assert spans[-1].teacher.stop == len(found.teacher) and spans[-1].tokens == 1
    starts = [(span.student.start, span.teacher.start) for span in spans]
    places = list(zip(*(side.tolist() for side in found.boundaries), strict=True))
    assert places[: len(starts)] == starts and len(places) == len(starts) + (not found.ended)


def reads(name: str, text: str) -> bool:
    """Whether a family keeps a text, by what is known of its normaliser."""
    if name in ("Llama-2", "Gemma"):
        return "▁" not in text
    forms: dict[str, Any] = {"Qwen2": "NFC", "NFKC": "NFKC"}
    return name not in forms or unicodedata.normalize(forms[name], text) == text


@pytest.mark.parametrize("student", FAMILIES)
def test_every_text_is_tiled_or_left_out(student: str) -> None:
    """200 texts, by every pair of families, finished and cut off in turn."""
    for teacher in FAMILIES:
        both = aligner(student, teacher)
        for number, text in enumerate(TEXTS):
            ids = both.student.encode(text)
            if ids is None:  # the student cannot write it
                continue
            ended = number % 2 == 0
            found = both.align([*ids, both.student.policy.end_id] if ended else ids)
            if {student, teacher} <= {*KEPT}:
                assert (found == "changed") == (not reads(teacher, text)), text
            if not isinstance(found, str):
                assert found.canonical and found.ended == ended
                require_tiling(both, found, text)
            else:
                assert found == "changed"


@pytest.mark.parametrize("student, teacher", [*product(("GPT-2", "Llama-2", "T5"), KEPT)])
def test_tokens_at_random_are_tiled_or_left_out_for_a_true_reason(
    student: str, teacher: str
) -> None:
    """A student may write any tokens, of which most are not its own tokenization of a text."""
    both, draw = aligner(student, teacher), random.Random(3)
    known = sorted(both.student.table.keys() - both.student.policy.end_ids)
    aligned = 0
    for number in range(150):
        ids, ended = draw.choices(known, k=draw.randint(1, 12)), number % 2 == 0
        found = both.align([*ids, both.student.policy.end_id] if ended else ids)
        aligned += isinstance(found, Alignment)
        text, whole = both.student.text(ids), b"".join(both.student.of(ids))
        controls = [both.student.policy.control.texts.get(token, "") for token in ids]
        lacked = {*filter(None, controls)} - {*both.teacher.policy.control.texts.values()}
        if not isinstance(found, str):
            require_tiling(both, found, whole.decode(errors="ignore"))
        elif found == "not_text":
            assert "\ufffd" in text
        elif found == "control":
            assert lacked
        else:
            assert not reads(teacher, text) or any(controls)
    assert aligned > 20


@pytest.mark.parametrize("name", FAMILIES)
def test_one_tokenizer_on_both_sides_has_spans_of_one_token(name: str) -> None:
    both = aligner(name, name)
    ids = both.student.encode("the answer is 125 and so it was")
    assert ids is not None
    found = both.align([*ids, both.student.policy.end_id])
    assert isinstance(found, Alignment) and found.student == found.teacher
    if not found.student_ends[0]:  # the blank ahead of a text is a token of its own
        assert found.spans[0].tokens == 2
    assert all(span.tokens == 1 for span in found.spans[1:])


def test_a_response_that_only_ends_is_one_span() -> None:
    both = aligner("Qwen2", "Llama-2")
    found = both.align([both.student.policy.end_id])
    assert isinstance(found, Alignment)
    assert found.spans == (Span(slice(0, 1), slice(0, 1), 1),) and found.canonical
    assert found.teacher == (both.teacher.policy.end_id,) and found.bytes == 1


def test_a_response_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        aligner("Qwen2", "Llama-2").align([])


def test_a_control_token_of_both_is_a_token_and_one_that_is_spelled_is_text() -> None:
    both = aligner("Qwen2", "Gemma")
    think = both.student.tokenizer.convert_tokens_to_ids("<think>")
    theirs = both.teacher.tokenizer.convert_tokens_to_ids("<think>")
    written = both.student.encode("so it is <think>")
    assert written is not None and think not in written
    found = both.align([think, *written, think, both.student.policy.end_id])
    assert isinstance(found, Alignment)
    assert found.teacher[0] == theirs and found.teacher[-2] == theirs
    assert found.teacher.count(theirs) == 2 and found.canonical


def test_a_control_token_that_the_teacher_lacks_is_left_out_but_not_its_spelling() -> None:
    both = aligner("Qwen2", "GPT-2")
    think = both.student.tokenizer.convert_tokens_to_ids("<think>")
    written = both.student.encode("<think>")
    assert written is not None and both.align([think, *written]) == "control"
    assert isinstance(both.align([*written, both.student.policy.end_id]), Alignment)


def test_a_blank_that_the_teacher_adds_behind_a_control_token_is_left_out() -> None:
    both = aligner("Qwen2", "Llama-2")
    think = both.student.tokenizer.convert_tokens_to_ids("<think>")
    written = both.student.encode("so")
    assert written is not None
    assert both.align([think, *written, both.student.policy.end_id]) == "changed"


def test_an_id_without_a_token_is_left_out() -> None:
    both = aligner("Qwen2", "Gemma")
    written = both.student.encode("so")
    assert written is not None and both.align([*written, 10**6]) == "no_token"


@pytest.mark.parametrize("student", ["GPT-2", "Llama-2"])
def test_a_cut_inside_a_character_goes_back_to_the_last_whole_one(student: str) -> None:
    both = aligner(student, "Gemma")
    ids = both.student.encode("is 🤿")  # bytes in all of them
    assert ids is not None and len(both.student.of(ids)[-1]) == 1
    for lost in range(1, 4):
        found = both.align(ids[:-lost])
        assert isinstance(found, Alignment) and not found.ended
        assert found.bytes == len("is ") and both.teacher.text(found.teacher) == "is "
        assert found.student == tuple(ids[: len(ids) - 4])
        assert both.align([*ids[:-lost], both.student.policy.end_id]) == "not_text"
    assert both.align(ids[-2:]) == "not_text"  # continues no character
    assert both.align(ids[-4:-2]) == "not_text"  # nothing is left


def test_the_last_span_of_a_cut_off_response_is_open() -> None:
    both = Aligner(policy_of(byte_tokenizer(), "s"), policy_of(byte_tokenizer(shift=9), "t"))
    ids = both.student.encode("abc")
    assert ids is not None
    cut, whole = both.align(ids), both.align([*ids, both.student.policy.end_id])
    assert isinstance(cut, Alignment) and isinstance(whole, Alignment)
    assert [span.stop for span in cut.spans] == [1, 2]
    assert [span.stop for span in whole.spans] == [1, 2, 3, 4]
    assert cut.boundaries[0].tolist() == [0, 1, 2] and whole.boundaries[0].tolist() == [0, 1, 2, 3]


def test_tokens_that_the_student_did_not_choose_as_its_tokenizer_does_are_not_canonical() -> None:
    both = aligner("GPT-2", "Gemma")
    ids = both.student.encode("A the answer")
    assert ids is not None and both.student.of(ids) == [b"A", b" the", b" answer"]
    end = both.student.policy.end_id
    letters = [both.student.tokenizer.convert_tokens_to_ids(letter) for letter in "Ġthe"]
    found, own = both.align([ids[0], *letters, ids[2], end]), both.align([*ids, end])
    assert isinstance(found, Alignment) and isinstance(own, Alignment)
    assert own.canonical and not found.canonical and own.teacher == found.teacher
    assert [span.tokens for span in found.spans] == [1, 4, 1, 1]
    assert [span.stop for span in found.spans] == [1, 5, 12, 13]


def test_a_token_of_no_bytes_belongs_to_the_span_behind_it() -> None:
    """By hand: where the blank that decoding takes away is a token of its own."""
    found = Alignment(
        student=(5, 6, 7, 8, 9),
        teacher=(1, 2, 3, 4),
        student_ends=ints(0, 2, 2, 4, 5),
        teacher_ends=ints(0, 2, 4, 5),
        ended=True,
        canonical=True,
    )
    assert found.spans == (
        Span(slice(0, 2), slice(0, 2), 2),
        Span(slice(2, 4), slice(2, 3), 4),
        Span(slice(4, 5), slice(3, 4), 5),
    )
    require_spans(found)
    cut = Alignment(*[(5, 6, 7), (1, 2)], ints(2, 4, 4), ints(2, 4), False, True)
    assert cut.spans == (Span(slice(0, 1), slice(0, 1), 2),)
    assert cut.boundaries[0].tolist() == [0, 1] and cut.boundaries[1].tolist() == [0, 1]


def test_coverage_by_hand() -> None:
    """Two responses of 9 and 4 bytes: spans of 1, 3 and 1 tokens (2, 6 and 1 bytes), and a span of
    1 token (1 byte) before one that is open (3 bytes)."""
    first = Alignment((1, 2, 3), (1, 2, 3, 4, 5), ints(2, 8, 9), ints(2, 3, 5, 8, 9), True, True)
    second = Alignment((1, 2, 3), (1, 2), ints(1, 2, 4), ints(1, 4), False, True)
    assert [span.tokens for span in first.spans] == [1, 3, 1]
    found = coverage([first, second])
    assert found[1] == found[2] == pytest.approx((4 / 13, 3 / 6))
    assert found[4] == found[8] == pytest.approx((10 / 13, 4 / 6))
    assert all(share != share for share in coverage([])[1])  # NaN


def test_digits_apart_and_together_make_one_span() -> None:
    apart = policy_of(family("SmolLM"), "apart")
    together = policy_of(byte_level(GPT2, 900), "together")
    both = Aligner(apart, together)
    ids = both.student.encode(" 125")
    assert ids is not None and len(ids) == 4
    found = both.align([*ids, apart.end_id])
    assert isinstance(found, Alignment) and [span.tokens for span in found.spans] == [4, 1]
    assert len(found.teacher) == 2
