"""Laws of the next byte from laws of the next token, against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from decaylab.maths import byte_laws
from decaylab.maths.byte_laws import (
    END,
    EVENTS,
    OTHER,
    STOP,
    ByteEvents,
    TokensByBytes,
    among,
    span_sums,
    without_stop,
    written_by_both,
)
from decaylab.maths.divergences import forward_kl, js, reverse_kl

CUT = -1e30


def slow_events(logprobs: Tensor, events: list[int]) -> list[list[float]]:
    """Probability of each event, by adding up those of its ids with math.fsum."""
    rows = []
    for row in logprobs.double().tolist():
        terms: dict[int, list[float]] = {event: [] for event in range(EVENTS)}
        for value, event in zip(row, events, strict=True):
            terms[event].append(math.exp(value))
        rows.append([math.fsum(terms[event]) for event in range(EVENTS)])
    return rows


def test_the_mass_of_a_first_byte_is_that_of_the_tokens_that_begin_with_it() -> None:
    # a, b, ab, end, control token: a is .5 + .125
    law = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625]]).double().log()
    found = ByteEvents(torch.tensor([97, 98, 97, END, OTHER])).logprobs(law).exp()[0]
    assert found[[97, 98, END, OTHER]].tolist() == pytest.approx([0.625, 0.25, 0.0625, 0.0625])
    assert float(found.sum()) == pytest.approx(1)


def test_events_of_150000_ids_are_exact_in_float32_with_masses_of_a_trillionth() -> None:
    generator = torch.Generator().manual_seed(0)
    events = torch.randint(0, EVENTS, (150_000,), generator=generator)
    events[:90_000] = 32  # most tokens begin with a blank
    logits = 3 * torch.randn(2, 150_000, generator=generator)
    logits[0] -= 28.0 * (events == 65) + 60.0 * (events == 66) + 200.0 * (events == 67)
    law = logits - logits.logsumexp(-1, keepdim=True)
    found = ByteEvents(events).logprobs(law)
    assert found.dtype == torch.float32
    expected = torch.tensor(slow_events(law, events.tolist()), dtype=torch.float64).log()
    assert float(found[0, 65].exp()) < 1e-12
    assert float(found[0, 67]) < -170  # far below the smallest float32
    assert torch.allclose(found.double(), expected, rtol=2e-7, atol=3e-6)


def test_an_event_that_neither_can_write_adds_nothing_to_a_divergence() -> None:
    student = ByteEvents(torch.tensor([97, 98, 99])).logprobs(
        torch.tensor([[math.log(0.25), math.log(0.75), CUT]])
    )
    teacher = ByteEvents(torch.tensor([97, 98])).logprobs(torch.tensor([[0.5, 0.5]]).log())
    assert student[0, 99] == teacher[0, 99] == student[0, END] == -math.inf
    assert float(reverse_kl(student, teacher)) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )
    assert float(forward_kl(student, teacher)) == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    )
    assert math.isfinite(float(js(student, teacher)))


@pytest.mark.parametrize("never", [CUT, -math.inf])
def test_a_byte_that_only_the_student_writes_makes_the_reverse_kl_infinite(never: float) -> None:
    student = ByteEvents(torch.tensor([97, 98])).logprobs(torch.tensor([[0.5, 0.5]]).log())
    teacher = ByteEvents(torch.tensor([97, 98])).logprobs(torch.tensor([[0.0, never]]))
    assert float(reverse_kl(student, teacher)) == math.inf
    assert float(forward_kl(student, teacher)) == pytest.approx(math.log(2))


def test_only_text_and_ends_that_both_can_write_are_compared() -> None:
    student = ByteEvents(torch.tensor([97, 98, OTHER, END]))
    kept = written_by_both(student, ByteEvents(torch.tensor([97, 99, OTHER, END])))
    assert kept.nonzero()[:, 0].tolist() == [97, END]
    law, removed = among(student.logprobs(torch.tensor([[0.4, 0.3, 0.1, 0.2]]).log()), kept)
    for code, mass in ((97, 2 / 3), (98, 0.0), (OTHER, 0.0), (END, 1 / 3)):
        assert float(law[0, code].exp()) == pytest.approx(mass)
    assert float(removed) == pytest.approx(0.4)


def test_a_teacher_without_control_tokens_has_a_finite_kl() -> None:
    student, teacher = (
        ByteEvents(torch.tensor([97, OTHER, END])),
        ByteEvents(torch.tensor([97, END])),
    )
    kept = written_by_both(student, teacher)
    first, _ = among(student.logprobs(torch.tensor([[0.5, 0.25, 0.25]]).log()), kept)
    second, _ = among(teacher.logprobs(torch.tensor([[0.5, 0.5]]).log()), kept)
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert float(reverse_kl(first, second)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("code", [-1, EVENTS])
def test_a_code_that_is_no_event_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match="codes from 0 to 257"):
        ByteEvents(torch.tensor([0, code]))


# Inside a token

PIECES = [b"a", b"ab", b"abc", b"abd", b"b", b"", b""]  # a control token, and the end of the turn
LAW = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.12, 0.08]], dtype=torch.float64).log()


def test_inside_a_token_the_law_is_that_of_the_tokens_that_begin_with_the_bytes_since() -> None:
    found = TokensByBytes(PIECES, {6}).logprobs(LAW, b"a").exp()[0]
    assert found[STOP] == pytest.approx(0.1 / 0.75)
    assert found[ord("b")] == pytest.approx(0.65 / 0.75)
    found = TokensByBytes(PIECES, {6}).logprobs(LAW, b"ab").exp()[0]
    assert found[[STOP, ord("c"), ord("d")]].tolist() == pytest.approx(
        [0.2 / 0.65, 0.3 / 0.65, 0.15 / 0.65]
    )
    assert float(found.sum()) == pytest.approx(1)


def test_at_a_boundary_no_token_can_end_and_the_turn_can() -> None:
    found = TokensByBytes(PIECES, {6}).logprobs(LAW, b"").exp()[0]
    assert found[[ord("a"), ord("b"), END, OTHER]].tolist() == pytest.approx(
        [0.75, 0.05, 0.08, 0.12]
    )
    assert found[STOP] == 0


def test_the_text_of_the_end_of_the_turn_is_not_text_of_the_response() -> None:
    pieces = [*PIECES[:6], b"ac"]
    found = TokensByBytes(pieces, {6}).logprobs(LAW, b"a").exp()[0]
    assert float(found[ord("c")]) == 0
    assert float(found[STOP]) == pytest.approx(0.1 / 0.75)


def test_bytes_that_are_no_token_themselves_cannot_end_one() -> None:
    tokens = TokensByBytes([b"abc", b"abd", b"b"])
    laws = torch.tensor([[0.3, 0.1, 0.6], [0.2, 0.2, 0.6]]).log()
    for since in (b"", b"a", b"ab"):
        found = tokens.logprobs(laws, since).exp()
        assert found.shape == (2, STOP + 1)
        assert found.sum(1).tolist() == pytest.approx([1, 1])
        assert found[:, STOP].tolist() == [0, 0]
    assert found[:, ord("c")].tolist() == pytest.approx([0.75, 0.5])
    assert without_stop(tokens.logprobs(laws, b"ab"))[:, ord("c")].exp().tolist() == pytest.approx(
        [0.75, 0.5]
    )


@pytest.mark.parametrize(
    ("since", "more"), [(b"a", True), (b"ab", True), (b"abc", False), (b"b", False), (b"zz", False)]
)
def test_a_token_extends_bytes_if_it_begins_with_them_and_has_more(
    since: bytes, more: bool
) -> None:
    assert TokensByBytes(PIECES, {6}).extends(since) is more


def test_bytes_that_no_token_begins_with_have_no_law() -> None:
    tokens = TokensByBytes(PIECES, {6})
    assert bool(tokens.logprobs(LAW, b"ac").isnan().all())
    assert bool(without_stop(tokens.logprobs(LAW, b"abc")).isnan().all())  # it ends for certain


def test_without_the_mass_of_ends_the_rest_adds_up_to_one() -> None:
    found = without_stop(TokensByBytes(PIECES, {6}).logprobs(LAW, b"ab")).exp()[0]
    assert len(found) == EVENTS
    assert found[[ord("c"), ord("d")]].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_inside_a_token_of_a_trillionth_the_law_is_exact_in_float32() -> None:
    """A difference of cumulative sums of float32, or of float64 near 1, would lose it."""
    pieces = [b"x" + number.to_bytes(3, "big") for number in range(150_000)]
    pieces += [b"ab", b"ac", b"acd", b"a"]
    masses = torch.full((1, 150_004), 1 / 150_000)
    masses[0, -4:] = torch.tensor([1e-12, 3e-12, 5e-13, 1e-25])
    found = TokensByBytes(pieces).logprobs(masses.log(), b"a")[0].exp()
    total = 4.5e-12
    assert found[[ord("b"), ord("c")]].tolist() == pytest.approx(
        [1e-12 / total, 3.5e-12 / total], rel=5e-6
    )
    assert float(found[STOP]) == pytest.approx(1e-25 / total, rel=5e-6)


def test_sums_over_spans_tile_the_response() -> None:
    assert span_sums([1.0, 2.0, 4.0, 8.0], [1, 3, 4]).tolist() == [1.0, 6.0, 8.0]
    assert span_sums([1.0, 2.0, 4.0, 8.0], [2]).tolist() == [3.0]  # an open span is left out


# Given the bytes so far


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_and_many_ids_are_grouped_alike(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, EVENTS, (1500,), generator=generator)
    laws = (20 * torch.randn(7, 1500, generator=generator, dtype=torch.float64)).log_softmax(1)
    laws[:, ::5], laws[2, codes == 97] = -1e30, -torch.inf
    at_once = ByteEvents(codes).logprobs(laws.to(dtype))
    monkeypatch.setattr(byte_laws, "FEW", 0)
    one_by_one = ByteEvents(codes).logprobs(laws.to(dtype))
    assert at_once.dtype == dtype and not at_once.isnan().any()
    assert torch.equal(at_once == -torch.inf, one_by_one == -torch.inf)
    assert torch.allclose(at_once, one_by_one, rtol=1e-6, atol=1e-6)
