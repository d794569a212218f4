"""One law of text in two vocabularies, and two laws of text: every quantity against an enumeration
of all texts. Nothing is sampled, so nothing is near: the sums are exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from byte_markov import LETTERS, Ids, Loose, Texts, Writer, nearby, random_texts, writer
from numpy.typing import NDArray

from decaylab.maths.byte_laws import (
    END,
    STOP,
    TokensByBytes,
    span_sums,
    without_stop,
)
from decaylab.maths.byte_reference import ByteReference, summed_reverse_kl, text_logprob
from decaylab.maths.divergences import reverse_kl

Floats = NDArray[np.float64]
LONGEST = 5
PAIRS = [("letters", "pairs"), ("pairs", "merges"), ("jumps", "merges"), ("merges", "letters")]
TEXTS = random_texts(0, LONGEST)
OTHER_TEXTS = nearby(TEXTS, 0.5, 1)


def reference(policy: Writer) -> ByteReference:
    return ByteReference(policy.next_token, policy.pieces)


def shared(student: Writer, teacher: Writer, text: bytes) -> list[int]:
    return sorted({*student.stops(text)} & {*teacher.stops(text)})


def span_log_ratios(student: Writer, teacher: Writer, text: bytes) -> Floats:
    """By the library, from the log-probabilities of the tokens."""
    spans = shared(student, teacher, text)
    sides = []
    for policy in (student, teacher):
        places = [policy.stops(text).index(stop) + 1 for stop in spans]
        sides.append(span_sums(policy.token_logprobs(text), places))
    return sides[0] - sides[1]


def chance(policy: Writer, ids: Ids, event: Callable[[bytes], bool] = lambda text: True) -> float:
    """Probability that the tokens of a text begin with these and that the text has a property."""
    return math.fsum(
        probability
        for text, probability in policy.texts.all.items()
        if policy.all[text][: len(ids)] == ids and event(text)
    )


@cache
def begins(policy: Writer, ids: Ids) -> float:
    """Probability that the tokens of a text begin with these."""
    return chance(policy, ids)


def kl(first: list[float], second: list[float]) -> float:
    """Sum of p log(p / q), infinite where only q is 0."""
    both = [(p, q) for p, q in zip(first, second, strict=True) if p > 0]
    return math.fsum(p * math.log(p / q) if q > 0 else math.inf for p, q in both)


def next_events(policy: Writer, ids: Ids) -> list[float]:
    """Law of the next byte and of the end behind these tokens, from texts alone."""
    at = len(b"".join(piece or b"" for piece in map(policy.pieces.__getitem__, ids)))
    whole = begins(policy, ids)
    nexts = [
        chance(policy, ids, lambda text, byte=byte: text[at : at + 1] == bytes([byte]))
        for byte in LETTERS
    ]
    return [mass / whole for mass in (*nexts, chance(policy, ids, lambda text: len(text) == at))]


# The laws of the helper


@pytest.mark.parametrize("name", ["letters", "pairs", "jumps", "merges"])
def test_a_policy_that_has_learnt_a_text_writes_it_with_the_probability_of_the_text(
    name: str,
) -> None:
    policy = writer(TEXTS, name)
    for text in TEXTS.all:
        assert policy.token_logprobs(text).sum() == pytest.approx(TEXTS.logprob(text), abs=1e-12)


def test_the_chains_recursion_is_the_kl_of_the_laws_of_text() -> None:
    terms = (p * (TEXTS.logprob(x) - OTHER_TEXTS.logprob(x)) for x, p in TEXTS.all.items())
    assert TEXTS.reverse_kl(OTHER_TEXTS) == pytest.approx(math.fsum(terms), rel=1e-12)
    assert math.fsum(TEXTS.all.values()) == pytest.approx(1, rel=1e-12)


# One law of text


@pytest.mark.parametrize("pair", PAIRS)
def test_of_one_law_the_exact_kl_and_every_response_log_ratio_are_zero(
    pair: tuple[str, str],
) -> None:
    student, teacher = (writer(TEXTS, name) for name in pair)
    for text in TEXTS.all:
        assert abs(span_log_ratios(student, teacher, text).sum()) < 1e-12
    laws = reference(student), reference(teacher)
    assert all(abs(summed_reverse_kl(*laws, text)) < 1e-12 for text in [b"abcab", b"bcaab", b"ca"])


def test_of_one_law_mean_span_log_ratios_drift_from_zero_as_the_texts_alone_say() -> None:
    """The span's tokens are what was written, but that both cut there depends on what follows."""
    student, teacher = writer(TEXTS, "letters"), writer(TEXTS, "pairs")
    found, expected, mass = np.zeros(LONGEST + 1), np.zeros(LONGEST + 1), np.zeros(LONGEST + 1)
    for text, probability in TEXTS.all.items():
        ratios = span_log_ratios(student, teacher, text)
        place = slice(len(ratios))
        found[place] += probability * ratios
        mass[place] += probability
        stops = [0, *shared(student, teacher, text)]
        for number, (start, stop) in enumerate(pairwise(stops)):
            expected[number] += probability * (
                span_logprob(student, text, start, stop) - span_logprob(teacher, text, start, stop)
            )
    assert found == pytest.approx(expected, abs=1e-12)
    means = found / mass
    assert means[0] > 0.1
    assert means[1] < -0.1
    assert math.fsum(found) == pytest.approx(0, abs=1e-12)


def span_logprob(policy: Writer, text: bytes, start: int, stop: int) -> float:
    """Log-probability of the tokens between two boundaries, given those before."""
    stops = [0, *policy.stops(text)]
    ids = policy.ids(text)
    before, behind = (begins(policy, ids[: stops.index(at)]) for at in (start, stop))
    return math.log(behind / before)


# At shared boundaries


@pytest.mark.parametrize("teacher_texts", [TEXTS, OTHER_TEXTS])
def test_the_kl_at_a_shared_boundary_is_that_of_all_texts_with_the_same_tokens(
    teacher_texts: Texts,
) -> None:
    student, teacher = writer(TEXTS, "jumps"), writer(teacher_texts, "merges")
    found, expected = [], []
    for text in (b"abbca", b"caacb", b"bcbab"):
        for at in [0, *shared(student, teacher, text)[:-1]]:
            both = [(policy, _before(policy, text, at)) for policy in (student, teacher)]
            laws = [
                policy.by_bytes.at_boundary.logprobs(policy.logprobs([i])) for policy, i in both
            ]
            found.append(float(reverse_kl(*laws)))
            expected.append(kl(*(next_events(*each) for each in both)))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert max(value for value in found if math.isfinite(value)) > 0.01


def _before(policy: Writer, text: bytes, at: int) -> Ids:
    return policy.ids(text)[: [0, *policy.stops(text)].index(at)]


def test_the_kl_at_a_shared_boundary_is_at_most_that_of_all_text_that_follows() -> None:
    student, teacher = writer(TEXTS, "letters"), writer(OTHER_TEXTS, "merges")
    swapped = writer(TEXTS, "merges"), writer(OTHER_TEXTS, "letters")
    below = 0
    for ours, theirs in ((student, teacher), swapped):
        for at, text in ((1, b"cacab"), (2, b"cacab"), (1, b"acbab"), (0, b"abc")):
            both = [(policy, _before(policy, text, at)) for policy in (ours, theirs)]
            whole = kl(*([_given(policy, ids, x) for x in TEXTS.all] for policy, ids in both))
            nexts = kl(*(next_events(*each) for each in both))
            assert nexts <= whole + 1e-12
            below += math.isfinite(whole) and nexts < whole
    assert below >= 4


@pytest.mark.parametrize("name", ["letters", "pairs", "jumps"])
def test_given_the_bytes_so_far_the_law_at_a_boundary_is_the_exact_one_for_longest_matches(
    name: str,
) -> None:
    policy = Loose(writer(TEXTS, name), 0.0)
    exact = reference(policy.policy)
    for text in (b"abcab", b"bcaab", b"aabca", b"ca", b""):
        ids = policy.ids(text)
        starts = [0, *policy.stops(ids)[:-1]]
        expected = torch.from_numpy(exact.next_bytes(text)[starts])
        found = policy.given_bytes([ids[:place] for place in range(len(ids))]).exp()
        assert torch.allclose(found[:, : END + 1], expected, rtol=0, atol=1e-12)
        assert float(found[:, END + 1 :].sum()) == 0


def test_given_the_bytes_so_far_one_law_has_no_kl_at_shared_boundaries_where_tokens_give_one() -> (
    None
):
    """Behind "a", the next byte is not "b" for a policy that would have written "ab"."""
    both = [Loose(writer(TEXTS, name), 0.0) for name in ("letters", "pairs")]
    behind = [(policy.ids(b"a")[0],) for policy in both]
    given_tokens = [policy.laws([ids], [b""]) for policy, ids in zip(both, behind, strict=True)]
    given_bytes = [policy.given_bytes([ids]) for policy, ids in zip(both, behind, strict=True)]
    assert float(reverse_kl(*given_tokens)) == math.inf
    assert abs(float(reverse_kl(*given_bytes))) < 1e-12


def _given(policy: Writer, ids: Ids, text: bytes) -> float:
    """Probability of a whole text given its first tokens."""
    if policy.all[text][: len(ids)] != ids:
        return 0.0
    return policy.texts.all[text] / begins(policy, ids)


# Two laws of text


@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_laws_the_expected_response_log_ratio_is_the_kl_of_the_texts(
    pair: tuple[str, str],
) -> None:
    student, teacher = writer(TEXTS, pair[0]), writer(OTHER_TEXTS, pair[1])
    terms = (p * span_log_ratios(student, teacher, x).sum() for x, p in TEXTS.all.items())
    assert math.fsum(terms) == pytest.approx(TEXTS.reverse_kl(OTHER_TEXTS), rel=1e-10)


def test_of_loose_tokens_the_response_log_ratio_lacks_the_entropy_of_how_a_text_is_cut() -> None:
    """KL of the texts, less the student's entropy of the tokens given the text, plus what the
    teacher puts on other tokens; k3 is right only if t counts as 0 behind tokens that are not the
    student's own."""
    student = Loose(writer(random_texts(0, 4), "pairs"), 0.2)
    teacher = Loose(writer(nearby(random_texts(0, 4), 0.5, 1), "letters"), 0.2)
    written, taught = dict[bytes, float](), dict[bytes, float]()
    for policy, masses in ((student, written), (teacher, taught)):
        for ids, mass in policy.responses():
            masses[policy.text(ids)] = masses.get(policy.text(ids), 0.0) + mass
    ratio = entropy = others = k3 = k3_of_own = 0.0
    for ids, mass in student.responses():
        text = student.text(ids)
        theirs = teacher.logprob(teacher.ids(text))
        gap = student.logprob(ids) - theirs
        ratio += mass * gap
        entropy -= mass * math.log(mass / written[text])
        others -= mass * (theirs - math.log(taught[text]))
        k3 += mass * (math.expm1(-gap) + gap)
        k3_of_own += mass * ((ids == student.ids(text)) * math.exp(-gap) - 1 + gap)
    truth = kl([*written.values()], [taught[text] for text in written])
    assert ratio == pytest.approx(truth - entropy + others, rel=1e-9)
    assert entropy > 0.1
    assert k3_of_own == pytest.approx(ratio, abs=1e-9)  # "letters" has one way to cut a text
    assert k3 > ratio + 0.1


def test_of_two_laws_the_exact_kl_summed_over_a_text_is_unbiased_for_that_of_the_texts() -> None:
    texts, others = random_texts(0, 4), nearby(random_texts(0, 4), 0.5, 1)
    laws = reference(writer(texts, "pairs")), reference(writer(others, "merges"))
    terms = (p * summed_reverse_kl(*laws, x) for x, p in texts.all.items())
    assert math.fsum(terms) == pytest.approx(texts.reverse_kl(others), rel=1e-10)


def loose(pieces: tuple[bytes, ...], seed: int) -> Callable[[Ids], Floats]:
    """A law that writes a text in any tokens: four at most, depending on the last and the place."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(len(pieces) + 1), (5, len(pieces) + 1))
    rows[4] = np.eye(len(pieces) + 1)[-1]
    return lambda ids: rows[len(ids), ids[-1] if ids else -1]


def sequences(
    law: Callable[[Ids], Floats], pieces: tuple[bytes | None, ...], ids: Ids = ()
) -> Iterator[tuple[bytes, float]]:
    """Text and probability of everything that a law can write."""
    for token, probability in enumerate(law(ids)):
        piece = pieces[token]
        if piece is None:
            yield b"", float(probability)
        elif probability > 0:
            for rest, chance_of_rest in sequences(law, pieces, (*ids, token)):
                yield piece + rest, float(probability) * chance_of_rest


def test_the_exact_law_adds_up_all_tokenizations_of_the_same_bytes() -> None:
    vocabulary = (b"a", b"b", b"ab", b"ba")
    laws, texts = [], []
    for seed in (0, 1):
        law = loose(vocabulary, seed)
        pieces = (*vocabulary, None)
        masses: dict[bytes, float] = {}
        for text, probability in sequences(law, pieces):
            masses[text] = masses.get(text, 0.0) + probability
        laws.append(
            ByteReference(law, pieces, lambda ids: (len(ids), ids[-1:]))
            if seed
            else ByteReference(law, pieces)
        )
        texts.append(masses)
    for law_of_text, masses in zip(laws, texts, strict=True):
        for text in (b"", b"ab", b"abab", b"bbab"):
            assert text_logprob(law_of_text, text) == pytest.approx(math.log(masses[text]))
    terms = (p * summed_reverse_kl(laws[0], laws[1], x) for x, p in texts[0].items())
    keys = list(texts[0])
    truth = kl(*([masses[text] for text in keys] for masses in texts))
    assert math.fsum(terms) == pytest.approx(truth, rel=1e-9)


def test_bytes_that_cannot_be_written_have_no_law_and_tokens_without_bytes_are_refused() -> None:
    law = ByteReference(lambda ids: [0.5, 0.0, 0.5], [b"a", b"b", None])
    found = law.next_bytes(b"ab")
    assert found.shape == (3, END + 1)
    assert found[1, [ord("a"), ord("b"), END]].tolist() == [0.5, 0.0, 0.5]
    assert bool(np.isnan(found[2]).all())
    with pytest.raises(ValueError, match="needs bytes"):
        ByteReference(lambda ids: [1.0], [b""])


# One tokenizer on both sides


def test_with_one_tokenizer_span_log_ratios_are_token_log_ratios() -> None:
    student, teacher = writer(TEXTS, "merges"), writer(OTHER_TEXTS, "merges")
    for text in (b"abcab", b"bcaab"):
        assert span_log_ratios(student, teacher, text) == pytest.approx(
            student.token_logprobs(text) - teacher.token_logprobs(text), abs=1e-12
        )


def test_with_one_tokenizer_one_pass_without_ends_is_the_token_kl_less_what_ends_carry() -> None:
    """Mean over the next token of the sum over its bytes; ends: at each string that tokens begin
    with, its mass times the KL of whether the token ends there."""
    pieces = [b"a", b"ab", b"abc", b"abd", b"b", b"ba", b"c", b""]
    rng = np.random.default_rng(0)
    student, teacher = rng.dirichlet(np.ones(len(pieces)), 2)
    both = [torch.from_numpy(law)[None].log() for law in (student, teacher)]
    vocabulary = TokensByBytes(pieces, {7})
    total = with_ends = 0.0
    for piece, mass in zip(pieces, student, strict=True):
        for size in range(max(len(piece), 1)):
            laws = [vocabulary.logprobs(law, piece[:size]) for law in both]
            total += mass * float(reverse_kl(*map(without_stop, laws)))
            with_ends += mass * float(reverse_kl(*laws))
    carried = 0.0
    for since in {piece[:size] for piece in pieces for size in range(1, len(piece) + 1)}:
        inside = [piece.startswith(since) for piece in pieces]
        place = pieces.index(since)
        ours, theirs = (float(law[place] / law[inside].sum()) for law in (student, teacher))
        carried += student[inside].sum() * kl([ours, 1 - ours], [theirs, 1 - theirs])
    of_tokens = kl(list(student), list(teacher))
    assert carried > 0.05
    assert total == pytest.approx(of_tokens - carried, rel=1e-9)
    assert with_ends != pytest.approx(of_tokens, rel=0.01)  # a token's own last end is not visited


def test_one_pass_is_not_zero_for_one_law_and_equals_the_share_of_texts() -> None:
    """Behind the letter a, "letters" knows nothing of what follows; "pairs" may have ended."""
    policy = writer(TEXTS, "pairs")
    found = policy.by_bytes.logprobs(policy.logprobs([()]), b"a").exp()[0]
    mass_of = {
        piece: chance(policy, (policy.pieces.index(piece),)) for piece in (b"a", b"ab", b"abc")
    }
    whole = math.fsum(mass_of.values())
    assert float(found[STOP]) == pytest.approx(mass_of[b"a"] / whole)
    assert float(found[ord("b")]) == pytest.approx((mass_of[b"ab"] + mass_of[b"abc"]) / whole)
    other = writer(TEXTS, "letters")
    plain = other.by_bytes.logprobs(other.logprobs([(0,)]), b"")
    assert float(reverse_kl(plain, found.log()[None])) == math.inf
