"""Laws of the next byte at the boundaries of responses, given the bytes so far.

    laws = BytesSoFar(vocabulary)
    laws.response([b"It", b" is", b""], wanted=[0, 1, 2])  # bytes of each token; of the end none
    for rows, logprobs in chunks:                          # laws of the next token, in any order
        laws.add(rows, logprobs)
    laws.logprobs(taken)                                   # [boundaries, 258]

That the tokens end at a boundary says something about the next byte: behind "walk", not "s", if
" walks" is a token. So the tokens that reach beyond the boundary are added, each behind the tokens
as written: every way to cover the bytes so far that leaves those tokens only with its last one.
Other ways are left out; without any, this is the exact law (`byte_reference`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from decaylab.maths.byte_laws import OTHER, STOP, TokensByBytes

Reach = tuple[bytes, bool, int]
"""Bytes from where a token begins to a boundary that it passes; whether it begins the response;
the boundary."""


class BytesSoFar:
    """The boundaries of some responses, and what is known of their laws.

    Args:
        vocabulary: of the policy.
        beginning: the vocabulary at the first token of a response, where it differs.
    """

    def __init__(self, vocabulary: TokensByBytes, beginning: TokensByBytes | None = None) -> None:
        self.vocabulary, self.beginning = vocabulary, beginning or vocabulary
        self.tokens = 0
        self.boundaries: dict[int, int] = {}
        self.firsts: set[int] = set()
        self.reaches: dict[int, list[Reach]] = defaultdict(list)
        self.blanks: dict[int, int] = {}
        self.behind_blank: dict[int, Tensor] = {}
        self.own: dict[int, Tensor] = {}
        self.beyond: list[tuple[list[int], list[int], Tensor]] = []

    def response(
        self, pieces: Sequence[bytes], wanted: Sequence[int], *, blank: bool = False
    ) -> None:
        """Adds a response.

        Args:
            pieces: bytes of each of its tokens; none for the end and for tokens without text.
            wanted: boundaries whose law is asked for, as the number of tokens before them.
            blank: the first token is a blank that is not written, as some tokenizers put before a
                digit: what may follow it can also begin the response.
        """
        start = self.tokens
        self.tokens += len(pieces)
        self.firsts.add(start)
        for place in wanted:
            self.boundaries[start + place] = len(self.boundaries)
        if blank and start in self.boundaries and len(pieces) > 1:
            self.blanks[start + 1] = self.boundaries[start]
        for place in range(len(pieces)):
            vocabulary, since = self._vocabulary(start + place), b""
            for later in range(place + 1, len(pieces)):
                since += pieces[later - 1]
                if blank and later == 1:
                    continue
                if not pieces[later - 1] or not vocabulary.extends(since):
                    break
                if start + later in self.boundaries:
                    reach = since, place == 0, self.boundaries[start + later]
                    self.reaches[start + place].append(reach)

    def _vocabulary(self, row: int) -> TokensByBytes:
        return self.beginning if row in self.firsts else self.vocabulary

    def add(self, rows: Sequence[int], token_logprobs: Tensor) -> None:
        """Takes laws of the next token.

        Args:
            rows: number of tokens before each, over all responses. token_logprobs: [rows, width].
        """
        own: dict[bool, list[int]] = defaultdict(list)
        passed: dict[tuple[bytes, bool], list[tuple[int, int]]] = defaultdict(list)
        for place, row in enumerate(rows):
            if row in self.boundaries:
                own[row in self.firsts].append(place)
            if row in self.blanks:
                law = self.vocabulary.at_boundary.logprobs(token_logprobs[[place]])[0]
                self.behind_blank[self.blanks[row]] = law.double().cpu()
            for since, begins, boundary in self.reaches.get(row, ()):
                passed[since, begins].append((place, boundary))
        for places in own.values():
            laws = self._vocabulary(rows[places[0]]).at_boundary.logprobs(token_logprobs[places])
            for place, law in zip(places, laws.double().cpu(), strict=True):
                self.own[self.boundaries[rows[place]]] = law
        for (since, _), found in passed.items():
            places, boundaries = [place for place, _ in found], [at for _, at in found]
            vocabulary = self._vocabulary(rows[places[0]])
            masses = vocabulary.inside(token_logprobs[places], since)[:, :STOP]
            self.beyond.append(
                ([rows[place] for place in places], boundaries, masses.double().cpu())
            )

    def logprobs(self, taken: Tensor) -> Tensor:
        """Log-probabilities of the events at each boundary, [boundaries, 258], in float64.

        taken: log-probability of each token of the responses, [tokens].
        """
        behind = torch.nn.functional.pad(taken.double().cumsum(0), (1, 0)).cpu()
        found = torch.stack([self.own[number] for number in range(len(self.boundaries))])
        at_row = torch.tensor(list(self.boundaries))
        for boundary, law in self.behind_blank.items():
            blank = taken[at_row[boundary]].double().cpu()
            others = (found[boundary, OTHER].exp() - blank.exp()).clamp(min=0)
            found[boundary, OTHER] = others.log()
            found[boundary] = torch.logaddexp(found[boundary], law + blank)
        for rows, boundaries, masses in self.beyond:
            written = behind[at_row[boundaries]] - behind[rows]
            found[boundaries] = torch.logaddexp(found[boundaries], masses - written[:, None])
        return found - found.logsumexp(-1, keepdim=True)
