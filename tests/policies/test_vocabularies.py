"""The vocabulary that two policies share: which ids are in it, what is cut, and log-probabilities
over what is left."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import byte_tokenizer
from torch import Tensor

from decaylab.errors import UserError
from decaylab.maths.divergences import divergences
from decaylab.policies.vocabularies import SharedVocabulary, share_vocabulary


class Words:
    """A tokenizer by its words alone. added: those of them that are special."""

    def __init__(self, words: dict[int, str] | str, added: str = "#") -> None:
        self.words = dict(enumerate(words)) if isinstance(words, str) else words
        self.added = added

    def get_vocab(self) -> dict[str, int]:
        return {word: index for index, word in self.words.items()}

    def get_added_vocab(self) -> dict[str, int]:
        return {word: index for index, word in self.words.items() if word in self.added}


def policy(words: Any, width: int, name: str = "tiny", added: str = "#") -> Any:
    tokenizer = Words(words, added) if isinstance(words, str | dict) else words
    return SimpleNamespace(name=name, tokenizer=tokenizer, head_width=width)


def logits(width: int, positions: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(positions, width, generator=generator, dtype=torch.float64) * 3


def slow_logprobs(row: list[float], shared: list[int]) -> tuple[dict[int, float], float]:
    """Log-probabilities over the shared ids, and the probability that all the others had."""
    weight = {index: math.exp(row[index]) for index in shared}
    kept, whole = sum(weight.values()), sum(math.exp(one) for one in row)
    return {index: math.log(one / kept) for index, one in weight.items()}, 1 - kept / whole


# --- which ids are shared
# ---------------------------------------------------------------------------


def test_heads_of_different_width_are_cut_to_what_the_tokenizers_hold() -> None:
    """Qwen2.5: 151,936 logits in the small models, 152,064 in the large ones, 151,665 ids."""
    shared = share_vocabulary(policy("#abcde", 8), policy("#abcde", 11))
    assert (shared.size, shared.holes) == (6, frozenset())
    assert [shared.holds(index) for index in (-1, 0, 5, 6, 10)] == [False, True, True, False, False]


def test_a_tokenizer_with_more_ids_than_the_head_has_logits_is_cut_to_the_head() -> None:
    shared = share_vocabulary(policy("#abcde", 6), policy("#abcde", 5))
    assert (shared.size, shared.holes) == (5, frozenset())


def test_special_ids_with_two_meanings_are_holes() -> None:
    shared = share_vocabulary(policy("#ab$cd", 6, added="#$"), policy("#ab%cd", 6, added="#%"))
    assert (shared.size, shared.holes) == (6, {3})
    assert not shared.holds(3) and shared.holds(4)


def test_a_conflict_at_the_end_shortens_the_vocabulary_instead() -> None:
    shared = share_vocabulary(policy("#abcd$", 8, added="#$"), policy("#abcd%", 8, added="#%"))
    assert (shared.size, shared.holes) == (5, frozenset())


def test_ids_that_only_one_has_are_not_shared() -> None:
    student = {0: "#", 1: "a", 2: "b", 4: "d"}
    teacher = {0: "#", 1: "a", 3: "c", 4: "d", 5: "e"}
    for pair in ((student, teacher), (teacher, student)):
        shared = share_vocabulary(policy(pair[0], 6), policy(pair[1], 6))
        assert (shared.size, shared.holes) == (5, {2, 3})


def test_real_tokenizers_with_another_end_token_and_one_more_special() -> None:
    teacher = byte_tokenizer(
        special=("<|pad|>", "<|stop|>", "<|user|>", "<|assistant|>", "<|bos|>")
    )
    teacher.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    shared = share_vocabulary(policy(byte_tokenizer(), 320), policy(teacher, 320))
    assert (shared.size, shared.holes) == (261, {1})


def test_an_ordinary_id_with_two_meanings_is_refused_by_the_first_one_and_both_its_strings() -> (
    None
):
    """Id 1 is special to the teacher, so it is the cut's affair; 3 and 4 are not."""
    student, teacher = policy("#abxy", 5, "small"), policy("#$byx", 5, "large", added="#$")
    with pytest.raises(UserError) as told:
        share_vocabulary(student, teacher)
    message = str(told.value)
    assert "id 3 is 'x' in small and 'y' in large" in message and "\n" not in message
    assert "use a teacher with the student's tokenizer" in message
    with pytest.raises(UserError, match="id 3 is 'y' in large and 'x' in small"):
        share_vocabulary(teacher, student)


def test_a_response_is_readable_up_to_the_first_token_that_one_policy_lacks() -> None:
    shared = share_vocabulary(policy("#ab$cd", 9, added="#$"), policy("#ab%cd", 7, added="#%"))
    assert shared.readable((1, 2, 4, 5, 0)) == 5
    assert shared.readable((1, 2, 3, 4)) == 2  # a hole
    assert shared.readable((1, 6, 2)) == 1  # within both heads, beyond the tokenizers
    assert shared.readable((3,)) == shared.readable(()) == 0


# --- log-probabilities over them
# ---------------------------------------------------------------------------

VOCABULARIES = {
    "whole": (SharedVocabulary(9, frozenset()), 9),
    "wide head": (SharedVocabulary(9, frozenset()), 14),
    "holes": (SharedVocabulary(9, frozenset({0, 4, 5})), 9),
    "holes in a wide head": (SharedVocabulary(9, frozenset({2})), 12),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_logprobs_are_renormalised_over_the_shared_ids_and_the_removed_mass_is_told(
    name: str,
) -> None:
    vocabulary, width = VOCABULARIES[name]
    shared = [index for index in range(vocabulary.size) if vocabulary.holds(index)]
    raw = logits(width)
    found, removed = vocabulary.logprobs(raw)
    assert found.shape == (5, vocabulary.size)
    for row in range(5):
        expected, mass = slow_logprobs(raw[row].tolist(), shared)
        assert {index: float(found[row, index]) for index in shared} == pytest.approx(expected)
        assert float(removed[row]) == pytest.approx(mass, abs=1e-14)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["wide head", "holes", "holes in a wide head"])
def test_probabilities_over_all_ids_would_not_do(name: str) -> None:
    vocabulary, width = VOCABULARIES[name]
    shared = [index for index in range(vocabulary.size) if vocabulary.holds(index)]
    raw = logits(width)
    found, removed = vocabulary.logprobs(raw)
    over_all = raw.log_softmax(-1)[:, shared]
    assert (found[:, shared] - over_all).abs().min() > 1e-3
    torch.testing.assert_close(found[:, shared] + (-removed).log1p()[:, None], over_all)


def test_an_id_in_a_hole_counts_for_nothing_whatever_either_policy_thought_of_it() -> None:
    vocabulary, left = SharedVocabulary(6, frozenset({1, 4})), [0, 2, 3, 5]
    student, teacher = logits(6), logits(6, seed=1)
    student[:, 1], teacher[:, 1], student[:, 4], teacher[:, 4] = 90.0, -math.inf, -math.inf, 40.0
    found = divergences(vocabulary.logprobs(student)[0], vocabulary.logprobs(teacher)[0])
    expected = divergences(student[:, left].log_softmax(-1), teacher[:, left].log_softmax(-1))
    for name, values, wanted in zip(found._fields, found, expected, strict=True):
        torch.testing.assert_close(values, wanted, msg=name)


def test_mass_removed_by_hand() -> None:
    """Weights 1, 2, 3 | 4 with id 1 a hole: kept 1/4 and 3/4, removed 6/10."""
    raw = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64).log()
    found, removed = SharedVocabulary(3, frozenset({1})).logprobs(raw)
    assert found.exp()[0].tolist() == pytest.approx([0.25, 0.0, 0.75])
    assert float(removed) == pytest.approx(0.6)


def test_nothing_is_removed_where_every_id_is_shared() -> None:
    _, removed = SharedVocabulary(9, frozenset()).logprobs(logits(9).float())
    assert removed.tolist() == [0.0] * 5


def test_float32_keeps_the_digits_of_logprobs_and_of_a_removed_mass_that_matters() -> None:
    vocabulary = SharedVocabulary(30_000, frozenset({7, 11}))
    raw = logits(30_100, seed=3) + 20
    exact, mass = vocabulary.logprobs(raw.float().double())
    found, removed = vocabulary.logprobs(raw.float())
    kept = [index for index in range(30_000) if vocabulary.holds(index)]
    torch.testing.assert_close(found[:, kept].double(), exact[:, kept], rtol=0, atol=1e-5)
    torch.testing.assert_close(removed.double(), mass, rtol=0, atol=5e-6)
    assert bool((mass > 1e-4).all())


@pytest.mark.parametrize(
    "vocabulary",
    [SharedVocabulary(2**18, frozenset()), SharedVocabulary(2**18 - 3, frozenset({5}))],
)
def test_float32_is_normalised_to_a_millionth_over_the_largest_vocabularies(
    vocabulary: SharedVocabulary,
) -> None:
    raw = logits(2**18, positions=2, seed=4).float() + 12
    found, exact = vocabulary.logprobs(raw)[0].double(), vocabulary.logprobs(raw.double())[0]
    assert float((found - exact)[:, 6:].mean(1).abs().max()) < 3e-6
