"""Token categories: the kind of text of a token, independent of the tokenizer.

    categories = task_categories.load("code", None)
    codes = categories.classify(table["token"], table.lengths, ends)
    categories.names[codes[0]]

Each kind of text has a module that finds the category of each character: the rules of a file
(`category_rules`), Python code (`code_categories`) and function calls (`call_categories`). From
characters to tokens the way is the same for all, and here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decaylab.maths.clusters import Ints

END_OF_TURN = "end_of_turn"
TOKENS_AT_A_TIME = 1 << 18
LAST_SPACE = 0x3000
# Whether each character is white space: an entry up to the last one, and one for all others.
SPACES = np.array([chr(code).isspace() for code in range(LAST_SPACE + 2)])
Codes = NDArray[np.int8]
Span = tuple[int, int, int]  # first character, the one behind the last, code of the category


@dataclass(frozen=True)
class Categories(ABC):
    """Categories of text.

    names: the categories in their order, then ``end_of_turn``. rest: code (place in names) of the
    category of a token without any character of its own.
    """

    names: tuple[str, ...]
    rest: int

    @abstractmethod
    def of_characters(self, texts: Sequence[str]) -> Codes:
        """Category of each character of concatenated texts, [characters]."""

    def classify(
        self,
        pieces: Sequence[str] | NDArray[Any],
        lengths: Ints,
        ends: NDArray[np.bool_] | None = None,
    ) -> Codes:
        """Category of each token, [tokens], as its place in ``names``.

        A token takes the category of its first character that is not white space; without such a
        character, that of its first character. A token that is only part of a character takes the
        category of the next character.

        Args:
            pieces: text of each token [tokens]; a rollout's pieces concatenate to its text.
            lengths: tokens of each rollout, [rollouts]; matches do not cross rollouts.
            ends: true for end-of-turn tokens [tokens], whatever their text.
        """
        codes = np.empty(len(pieces), dtype=np.int8)
        until = np.cumsum(lengths[lengths > 0])
        for first, last in _chunks(until):
            start, stop = until[first - 1] if first else 0, until[last - 1]
            codes[start:stop] = self._of_tokens(list(pieces[start:stop]), until[first:last] - start)
        if ends is not None:
            codes[ends] = len(self.names) - 1
        return codes

    def _of_tokens(self, pieces: list[str], until: Ints) -> Codes:
        """until: where the tokens of each rollout end."""
        texts = ["".join(pieces[start:stop]) for start, stop in pairwise([0, *until])]
        stops = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)))
        starts = np.append(0, stops[:-1])
        visible = np.append(np.flatnonzero(~is_space("".join(texts))), stops[-1])
        first_visible = visible[np.searchsorted(visible, starts)]
        at = np.where(first_visible < stops, first_visible, starts)
        text_ends = np.repeat(stops[until - 1], np.diff(until, prepend=0))
        codes = np.append(self.of_characters(texts), np.int8(self.rest))
        return np.where(at < text_ends, codes[at], self.rest).astype(np.int8)


class Scanned(Categories):
    """Categories that a scanner finds, text by text."""

    @abstractmethod
    def spans(self, text: str) -> Iterator[Span]:
        """Stretches of a text with their category; what none covers is the rest."""

    def of_characters(self, texts: Sequence[str]) -> Codes:
        return np.concatenate([self._of_text(text) for text in texts])

    def classify(
        self,
        pieces: Sequence[str] | NDArray[Any],
        lengths: Ints,
        ends: NDArray[np.bool_] | None = None,
    ) -> Codes:
        if ends is not None:  # a scanner would take "```<|im_end|>" for no fence
            pieces = np.where(ends, "", np.asarray(pieces, dtype=object))
        return super().classify(pieces, lengths, ends)

    def _of_text(self, text: str) -> Codes:
        codes = np.full(len(text), self.rest, dtype=np.int8)
        for start, stop, code in self.spans(text):
            codes[start:stop] = code
        return codes


def _chunks(until: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of rollouts of about `TOKENS_AT_A_TIME` tokens. until: where each rollout ends."""
    first = 0
    while first < until.size:
        done = until[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(until, done + TOKENS_AT_A_TIME, side="right")))
        yield first, last
        first = last


def is_space(text: str) -> NDArray[np.bool_]:
    """Whether each character is white space by `str.isspace`, [characters]."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.asarray(SPACES[np.minimum(points, LAST_SPACE + 1)])
