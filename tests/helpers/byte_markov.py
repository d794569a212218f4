"""Laws of text over a few bytes, with the exact law of tokens that each vocabulary gives to them.

A text is a Markov chain over letters that ends by chance, and at the latest after ``longest``
letters, so that every expectation is a finite sum over all texts. The law of tokens is that of a
policy which has learnt the text perfectly: it writes the tokens that its own tokenizer gives to a
text, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.maths.byte_laws import STOP, TokensByBytes
from decaylab.maths.bytes_so_far import BytesSoFar

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


class Loose:
    """A policy that leaves its own tokenization: at each token, with a probability, it draws one by
    its text alone, as likely as the text of the token is. Behind tokens that are not its own
    tokenization of any text it always does.

    texts: the law of text of the policy without such tokens; no text is longer than its longest.
    """

    def __init__(self, policy: Writer, share: float) -> None:
        self.policy, self.share, self.texts = policy, share, policy.texts
        self.pieces, self.end = policy.pieces, policy.end
        self.ids, self.by_bytes = policy.ids, policy.by_bytes
        self._known: dict[Hashable, Floats] = {}
        self._behind: dict[Ids, Tensor] = {}

    def text(self, ids: Ids) -> bytes:
        """The bytes of these tokens."""
        return b"".join(self.pieces[token] or b"" for token in ids)

    def state(self, ids: Ids) -> Hashable:
        """What the law depends on: all tokens while they are the policy's own, else the last byte
        and the length."""
        if self.policy.next_token(ids).any():
            return ids
        text = self.text(ids)
        return len(text), text[-1:]

    def next_token(self, ids: Ids) -> Floats:
        """Probabilities of the next token."""
        state = self.state(ids)
        if state not in self._known:
            own, drawn = self.policy.next_token(ids), self._drawn(self.text(ids))
            share = self.share if own.any() else 1.0
            self._known[state] = (1 - share) * own + share * drawn
        return self._known[state]

    def _drawn(self, text: bytes) -> Floats:
        """Probabilities by the text of each token, where it still fits."""
        room, last = self.texts.longest - len(text), text[-1:]
        if not room:
            return np.eye(len(self.pieces))[self.end]
        masses = np.array([self._mass(last, piece, room) for piece in self.pieces])
        return np.asarray(masses / masses.sum())

    def _mass(self, last: bytes, piece: bytes | None, room: int) -> float:
        state = LETTERS.index(last) + 1 if last else 0
        if piece is None:
            return float(self.texts.rows[state, -1])
        if len(piece) > room:
            return 0.0
        mass = 1.0
        for byte in piece:
            mass *= float(self.texts.rows[state, LETTERS.index(byte)])
            state = LETTERS.index(byte) + 1
        return mass

    def responses(self, ids: Ids = (), mass: float = 1.0) -> Iterator[tuple[Ids, float]]:
        """Everything that it can write, the end included, with its probability."""
        for token, probability in enumerate(self.next_token(ids)):
            if probability > 0 and token == self.end:
                yield (*ids, token), mass * float(probability)
            elif probability > 0:
                yield from self.responses((*ids, token), mass * float(probability))

    def token_logprobs(self, ids: Ids) -> Floats:
        """Log-probability of each token, the end included."""
        taken = [self.next_token(ids[:place])[token] for place, token in enumerate(ids)]
        return np.log(np.array(taken))

    def logprob(self, ids: Ids) -> float:
        """Log-probability of a whole response."""
        return float(self.token_logprobs(ids).sum())

    def stops(self, ids: Ids) -> list[int]:
        """Bytes up to the end of each token; the end of the turn is one."""
        return list(accumulate(len(self.pieces[token] or b"#") for token in ids))

    def places(self, ids: Ids) -> list[tuple[Ids, bytes]]:
        """Behind each byte of the text: the tokens up to the last boundary, and the bytes since."""
        found = list[tuple[Ids, bytes]]()
        for place, token in enumerate(ids):
            piece = self.pieces[token] or b"#"
            found += [(ids[:place], piece[:size]) for size in range(len(piece))]
        return found

    def laws(self, contexts: Sequence[Ids], since: Sequence[bytes]) -> Tensor:
        """Log-probabilities of what comes next at each place, [places, 259], in one pass."""
        rows = torch.from_numpy(np.array([self.next_token(ids) for ids in contexts])).log()
        found = rows.new_empty(len(rows), STOP + 1)
        for written in set(since):
            here = torch.tensor([each == written for each in since])
            found[here] = self.by_bytes.logprobs(rows[here], written)
        return found

    def given_bytes(self, contexts: Sequence[Ids]) -> Tensor:
        """Log-probabilities of what comes next at a boundary given the bytes so far, behind each
        of these tokens, [contexts, 258]."""
        return torch.stack([self._given_bytes(ids) for ids in contexts])

    def _given_bytes(self, ids: Ids) -> Tensor:
        if ids not in self._behind:
            self._behind[ids] = self._bytes_so_far(ids)
        return self._behind[ids]

    def _bytes_so_far(self, ids: Ids) -> Tensor:
        laws = np.array([self.next_token(ids[:place]) for place in range(len(ids) + 1)])
        pieces = [*(self.pieces[token] or b"" for token in ids), b""]
        taken = torch.tensor([*self.token_logprobs(ids), 0.0])
        law = BytesSoFar(self.by_bytes)
        law.response(pieces, [len(ids)])
        law.add(range(len(laws)), torch.from_numpy(laws).log())
        return law.logprobs(taken)[0]
