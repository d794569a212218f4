"""Laws of text over a few bytes, with the exact law of tokens that each vocabulary gives to them.

A text is a Markov chain over letters that ends by chance, and at the latest after ``longest``
letters, so that every expectation is a finite sum over all texts. The law of tokens is that of a
policy which has learnt the text perfectly: it writes the tokens that its own tokenizer gives to a
text, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.maths.byte_laws import TokensByBytes

Floats = NDArray[np.float64]
Ids = tuple[int, ...]
Tokenize = Callable[[bytes], list[bytes]]
LETTERS = b"abc"


def longest_match(pieces: Sequence[bytes]) -> Tokenize:
    """Takes the longest token that fits, from left to right."""
    by_size = sorted(pieces, key=len, reverse=True)

    def tokenize(text: bytes) -> list[bytes]:
        found, at = list[bytes](), 0
        while at < len(text):
            found.append(next(piece for piece in by_size if text.startswith(piece, at)))
            at += len(found[-1])
        return found

    return tokenize


def byte_pairs(merges: Sequence[tuple[bytes, bytes]]) -> Tokenize:
    """Joins pairs in the order in which they were learnt, as BPE does."""

    def tokenize(text: bytes) -> list[bytes]:
        found = [bytes([byte]) for byte in text]
        for left, right in merges:
            at = 0
            while at + 1 < len(found):
                if found[at] == left and found[at + 1] == right:
                    found[at : at + 2] = [left + right]
                at += 1
        return found

    return tokenize


@dataclass(frozen=True)
class Texts:
    """A law of text. rows: [1 + letters, letters + 1], probabilities of the next letter, the end
    last, at the start and behind each letter."""

    rows: Floats
    longest: int

    def logprob(self, text: bytes) -> float:
        """Log-probability of a whole text."""
        return sum(float(np.log(self.rows[state, event])) for state, event in self._steps(text))

    def _steps(self, text: bytes) -> Iterator[tuple[int, int]]:
        state = 0
        for byte in text:
            letter = LETTERS.index(byte)
            yield state, letter
            state = letter + 1
        if len(text) < self.longest:
            yield state, len(LETTERS)

    @cached_property
    def all(self) -> dict[bytes, float]:
        """Probability of every text that there is."""
        texts = (
            bytes(letters)
            for size in range(self.longest + 1)
            for letters in product(LETTERS, repeat=size)
        )
        return {text: float(np.exp(self.logprob(text))) for text in texts}

    def reverse_kl(self, teacher: Texts) -> float:
        """KL(self || teacher) of the laws of text, in nats, by the chain's own recursion."""
        here = np.zeros(len(self.rows))
        here[0], total = 1.0, 0.0
        step = (self.rows * np.log(self.rows / teacher.rows)).sum(axis=1)
        for _ in range(self.longest):
            total += float(here @ step)
            here = np.concatenate([[0.0], here @ self.rows[:, :-1]])
        return total


def random_texts(seed: int, longest: int, end: float = 0.15) -> Texts:
    """Rows drawn from a flat Dirichlet; each ends with a probability around ``end``."""
    rng = np.random.default_rng(seed)
    letters = rng.dirichlet(np.ones(len(LETTERS)), len(LETTERS) + 1)
    ends = end * rng.uniform(0.5, 1.5, (len(letters), 1))
    return Texts(np.hstack([letters * (1 - ends), ends]), longest)


def nearby(texts: Texts, distance: float, seed: int) -> Texts:
    """Another law: normal noise of this standard deviation on every log-probability."""
    noise = np.random.default_rng(seed).standard_normal(texts.rows.shape)
    rows = texts.rows * np.exp(distance * noise)
    return Texts(rows / rows.sum(axis=1, keepdims=True), texts.longest)


class Writer:
    """A policy: a law of text, written in the tokens of one tokenizer; the last one is the end."""

    def __init__(self, texts: Texts, pieces: Sequence[bytes], tokenize: Tokenize) -> None:
        self.texts, self.tokenize = texts, tokenize
        self.pieces: tuple[bytes | None, ...] = (*pieces, None)
        self.end = len(pieces)
        self.all = {text: self.ids(text) for text in texts.all}
        self._mass: dict[Ids, Floats] = {}
        for text, probability in texts.all.items():
            ids = self.all[text]
            for place, token in enumerate(ids):
                row = self._mass.setdefault(ids[:place], np.zeros(len(self.pieces)))
                row[token] += probability

    def ids(self, text: bytes) -> Ids:
        """The tokens of a text, its end included."""
        return (*(self.pieces.index(piece) for piece in self.tokenize(text)), self.end)

    def stops(self, text: bytes) -> list[int]:
        """Bytes up to the end of each token; the end of the turn is one."""
        return [*accumulate(len(piece) for piece in self.tokenize(text)), len(text) + 1]

    def next_token(self, ids: Ids) -> Floats:
        """Probabilities of the next token; none behind tokens that no text has."""
        mass = self._mass.get(ids, np.zeros(len(self.pieces)))
        return mass / max(float(mass.sum()), 1e-300)

    def logprobs(self, ids: Sequence[Ids]) -> Tensor:
        """Log-probabilities of the next token behind each of these, [positions, tokens]."""
        return torch.from_numpy(np.array([self.next_token(each) for each in ids])).log()

    def token_logprobs(self, text: bytes) -> Floats:
        """Log-probability of each token of a text, its end included."""
        ids = self.ids(text)
        taken = [self.next_token(ids[:place])[token] for place, token in enumerate(ids)]
        return np.log(np.array(taken))

    @cached_property
    def by_bytes(self) -> TokensByBytes:
        """Its vocabulary, sorted by bytes."""
        return TokensByBytes([piece or b"" for piece in self.pieces], {self.end})


TWO_WAYS: dict[str, tuple[tuple[bytes, ...], Tokenize]] = {
    "letters": ((b"a", b"b", b"c"), longest_match((b"a", b"b", b"c"))),
    "pairs": (
        (b"a", b"b", b"c", b"ab", b"bc", b"abc"),
        longest_match((b"a", b"b", b"c", b"ab", b"bc", b"abc")),
    ),
    "jumps": ((b"a", b"b", b"c", b"abc", b"ca"), longest_match((b"a", b"b", b"c", b"abc", b"ca"))),
    "merges": (
        (b"a", b"b", b"c", b"bc", b"ab", b"aa", b"bca"),
        byte_pairs([(b"b", b"c"), (b"a", b"b"), (b"a", b"a"), (b"bc", b"a")]),
    ),
}
"""Vocabularies with their tokenizers."""


def writer(texts: Texts, name: str) -> Writer:
    """A policy of this law of text with one of the vocabularies."""
    return Writer(texts, *TWO_WAYS[name])
