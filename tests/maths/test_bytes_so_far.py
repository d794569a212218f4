"""The law of the next byte given the bytes so far, against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from decaylab.maths.byte_laws import END, EVENTS, OTHER, ByteEvents, TokensByBytes
from decaylab.maths.bytes_so_far import BytesSoFar

PIECES = [b"a", b"ab", b"abc", b"abd", b"b", b"", b""]  # a control token, and the end of the turn
LAW = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.12, 0.08]], dtype=torch.float64).log()
TAKEN = torch.tensor([0.1, 0.2, 0.3]).double().log()


def three_laws() -> Tensor:
    """Laws of the next token at three boundaries, over a, ab, abc, abd, b, control, end."""
    return torch.tensor(
        [
            [0.1, 0.2, 0.3, 0.15, 0.05, 0.12, 0.08],
            [0.3, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1],
            [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3],
        ],
        dtype=torch.float64,
    ).log()


def test_tokens_that_reach_beyond_a_boundary_are_added_behind_the_tokens_as_written() -> None:
    """Written: a, b, end. Behind "ab": .1 x .2 of the tokens as written, and abc and abd."""
    vocabulary = TokensByBytes(PIECES, {6})
    law = BytesSoFar(vocabulary)
    law.response([b"a", b"b", b""], [0, 1, 2])
    law.add([0, 1, 2], three_laws())
    found = law.logprobs(TAKEN).exp()
    assert found.shape == (3, EVENTS)
    behind_a = {"a": 0.1 * 0.6, "b": 0.1 * 0.2 + 0.2 + 0.3 + 0.15, END: 0.1 * 0.1, OTHER: 0.1 * 0.1}
    behind_ab = {"a": 0.02 * 0.5, "b": 0.02 * 0.1, "c": 0.3, "d": 0.15, END: 0.02 * 0.3}
    for row, masses in ((1, behind_a), (2, behind_ab | {OTHER: 0.02 * 0.1})):
        whole = math.fsum(masses.values())
        for event, mass in masses.items():
            code = ord(event) if isinstance(event, str) else event
            assert float(found[row, code]) == pytest.approx(mass / whole)
        assert float(found[row].sum()) == pytest.approx(1)


def test_laws_may_come_in_chunks_and_for_some_boundaries_only() -> None:
    whole, parts = BytesSoFar(TokensByBytes(PIECES, {6})), BytesSoFar(TokensByBytes(PIECES, {6}))
    whole.response([b"a", b"b", b""], [0, 1, 2])
    whole.add([0, 1, 2], three_laws())
    parts.response([b"a", b"b", b""], [2])
    parts.add([1], three_laws()[1:2])
    parts.add([2, 0], three_laws()[[2, 0]])
    assert torch.allclose(parts.logprobs(TAKEN)[0], whole.logprobs(TAKEN)[2])


def test_a_token_does_not_reach_into_another_response() -> None:
    alone, both = BytesSoFar(TokensByBytes(PIECES, {6})), BytesSoFar(TokensByBytes(PIECES, {6}))
    alone.response([b"a", b"b"], [0, 1])
    alone.add([0, 1], three_laws()[:2])
    both.response([b"a"], [0])
    both.response([b"a", b"b"], [0, 1])
    both.add([0, 1, 2], three_laws()[[2, 0, 1]])
    found = both.logprobs(torch.cat([TAKEN[2:], TAKEN[:2]]))
    assert torch.allclose(found[1:], alone.logprobs(TAKEN[:2]))


def test_the_first_token_of_a_response_has_a_vocabulary_of_its_own() -> None:
    """There "ab" stands for "b", as where a tokenizer drops the blank of " b"."""
    stripped = [piece.removeprefix(b"a") for piece in PIECES]
    law = BytesSoFar(TokensByBytes(PIECES, {6}), TokensByBytes(stripped, {6}))
    law.response([b"b", b"a"], [0, 1])
    law.add([0, 1], three_laws()[:2])
    found = law.logprobs(TAKEN[:2]).exp()
    first = torch.zeros(EVENTS, dtype=torch.float64)
    for piece, mass in zip(stripped, three_laws()[0].exp().tolist(), strict=True):
        first[piece[0] if piece else OTHER] += mass
    first[END], first[OTHER] = 0.08, first[OTHER] - 0.08
    assert torch.allclose(found[0], first)


def test_no_token_reaches_beyond_one_without_text() -> None:
    """Written: a control token, a, end."""
    vocabulary, taken = TokensByBytes(PIECES, {6}), torch.tensor([0.12, 0.3, 0.3]).double().log()
    law = BytesSoFar(vocabulary)
    law.response([b"", b"a", b""], [0, 1, 2])
    law.add([0, 1, 2], three_laws())
    first = ByteEvents(vocabulary.at_boundary.codes).logprobs(three_laws())
    assert torch.allclose(law.logprobs(taken)[1], first[1])
    assert float(law.logprobs(taken)[2, ord("c")]) == -math.inf
    assert float(law.logprobs(taken)[2, ord("b")].exp()) == pytest.approx((0.3 * 0.1 + 0.3) / 0.6)


def test_the_law_at_the_beginning_goes_through_a_blank_that_is_not_written() -> None:
    """Written: a blank of no bytes, 5, the end. Without it, only " 5" would begin a "5"."""
    pieces = [b" ", b"5", b" 5", b"7", b"", b""]  # a control token, and the end of the turn
    at_first = [piece.removeprefix(b" ") for piece in pieces]
    first, behind = [0.4, 0.1, 0.3, 0.05, 0.1, 0.05], [0.05, 0.6, 0.05, 0.2, 0.05, 0.05]
    law = BytesSoFar(TokensByBytes(pieces, {5}), TokensByBytes(at_first, {5}))
    law.response([b"", b"5", b""], [0, 2], blank=True)
    law.add([0, 1, 2], torch.tensor([first, behind, behind], dtype=torch.float64).log())
    found = law.logprobs(torch.tensor([0.4, 0.6, 0.05]).double().log()).exp()[0]
    masses = {
        "5": 0.1 + 0.3 + 0.4 * 0.6,
        "7": 0.05 + 0.4 * 0.2,
        " ": 0.4 * (0.05 + 0.05),
        END: 0.05 + 0.4 * 0.05,
        OTHER: 0.1 + 0.4 * 0.05,
    }
    for event, mass in masses.items():
        code = ord(event) if isinstance(event, str) else event
        assert float(found[code]) == pytest.approx(mass, rel=1e-6), event
    assert float(found.sum()) == pytest.approx(1)
