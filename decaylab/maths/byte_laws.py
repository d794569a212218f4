"""Laws of the next byte, from laws of the next token, so that two vocabularies can be compared.

    events = ByteEvents(first_bytes)              # an event for each id
    student = events.logprobs(token_logprobs)     # [positions, 258]
    reverse_kl(student, teacher)                  # nats, of maths.divergences

An event is what comes next: a byte (0 to 255), the end of the turn, or a token without text. Inside
a token there is one more: the token ends here. Log-probabilities are natural logs; -inf is a
probability of 0, for which the divergences are defined. docs/two-tokenizers.md says what the
quantities are, and what they are not; `byte_reference` has the slow exact law.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Floats = NDArray[np.float64]
END, OTHER, EVENTS = 256, 257, 258
"""Codes of the end of the turn and of tokens without text; number of events at a boundary."""
STOP = 258
"""Code of "the token ends here", inside a token."""
FEW = 2048
"""Ids whose groups are summed at once, in float64."""
NEVER = -1e20
"""Log-probabilities below it are a probability of 0, as where a logit was cut at -1e30."""


class ByteEvents:
    """The events of a vocabulary at a boundary of its tokens.

    Args:
        events: code of what each id begins with, [width]: its first byte, `END` or `OTHER`.

    Raises:
        ValueError: a code is not an event.
    """

    def __init__(self, events: Tensor) -> None:
        codes = events.to("cpu", torch.int64)
        if bool(((codes < 0) | (codes >= EVENTS)).any()):
            raise ValueError(f"events are codes from 0 to {EVENTS - 1}")
        self.codes = codes
        self.ids = codes.argsort(stable=True)
        self.counts: list[int] = codes.bincount(minlength=EVENTS).tolist()

    def logprobs(self, token_logprobs: Tensor) -> Tensor:
        """Log-probability of each event, [positions, 258]; -inf where no id has it.

        Args:
            token_logprobs: [positions, width], in float32 or wider.
        """
        return _grouped(token_logprobs, self.ids, self.counts)


def written_by_both(student: ByteEvents, teacher: ByteEvents) -> Tensor:
    """The events of text and its end that both can write, [258].

    Where the teacher can never write an event, the reverse KL is infinite, however rarely the
    student writes it. Tokens without text, such as control tokens, are none of them: one of the
    student is none of the teacher.
    """
    both = [ours > 0 and theirs > 0 for ours, theirs in zip(student.counts, teacher.counts)]
    both[OTHER] = False
    return torch.tensor(both)


def among(logprobs: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The law given that one of the kept events comes next, [boundaries, 258], and the probability
    of all others before that, [boundaries].

    kept: [258].
    """
    inside = logprobs.masked_fill(~kept, -torch.inf)
    mass = inside.logsumexp(-1)
    removed = (-torch.expm1(mass)).clamp(min=0.0) + 0.0  # not -0
    return inside - mass[:, None], removed


class TokensByBytes:
    """A vocabulary sorted by bytes: what comes next inside a token, from one law of the next token.

    The law at the last boundary is restricted to the tokens that begin with the bytes since, and
    "the token ends here" has a mass of its own. The other ways to cut the same bytes into tokens
    are left out, so this is neither the law of the next byte given the bytes so far nor a bound.

    Args:
        pieces: bytes of each id, [width]; empty for tokens without text.
        ends: ids that end the turn.
    """

    def __init__(self, pieces: Sequence[bytes], ends: Collection[int] = ()) -> None:
        kinds = enumerate(pieces)
        texts = sorted((piece, token) for token, piece in kinds if piece and token not in ends)
        self.pieces = [piece for piece, _ in texts]
        self.ids = torch.tensor([token for _, token in texts], dtype=torch.int64)
        firsts = torch.tensor([piece[0] if piece else OTHER for piece in pieces])
        firsts[torch.tensor(sorted(ends), dtype=torch.int64)] = END
        self.at_boundary = ByteEvents(firsts)
        self._groups: dict[bytes, tuple[Tensor, list[int]]] = {}

    def logprobs(self, token_logprobs: Tensor, since: bytes) -> Tensor:
        """Log-probability of each event after the bytes since the last boundary, [positions, 259].

        NaN where no token that begins with those bytes has any mass.

        Args:
            token_logprobs: law of the next token at the last boundary, [positions, width].
            since: bytes of the text behind that boundary; none at the boundary itself, where the
                law is that of `ByteEvents` and no token can end.
        """
        if not since:
            found = self.at_boundary.logprobs(token_logprobs)
            return torch.nn.functional.pad(found, (0, 1), value=-torch.inf)
        found = self.inside(token_logprobs, since)
        return found - found.logsumexp(1, keepdim=True)

    def inside(self, token_logprobs: Tensor, since: bytes) -> Tensor:
        """`logprobs` inside a token before they are restricted: they add up to the mass of the
        tokens that begin with the bytes since, [positions, 259]."""
        if since not in self._groups:
            self._groups[since] = self._grouped_ids(since)
        return _grouped(token_logprobs, *self._groups[since])

    def extends(self, since: bytes) -> bool:
        """Whether a token begins with these bytes and has more."""
        low, high = self._places(since)
        return high > low and self.pieces[high - 1] != since

    def _grouped_ids(self, since: bytes) -> tuple[Tensor, list[int]]:
        """Ids of the tokens that begin with these bytes, by what comes next, and how many each."""
        low, high = self._places(since)
        nexts = [piece[len(since)] if piece != since else STOP for piece in self.pieces[low:high]]
        codes = torch.tensor(nexts, dtype=torch.int64)
        ids = self.ids[low:high][codes.argsort(stable=True)]
        return ids, codes.bincount(minlength=STOP + 1).tolist()

    def _places(self, since: bytes) -> tuple[int, int]:
        """First place and last place + 1 of the sorted tokens that begin with these bytes."""
        low = bisect_left(self.pieces, since)
        high = bisect_right(self.pieces, since, low, key=lambda piece: piece[: len(since)])
        return low, high


def without_stop(logprobs: Tensor) -> Tensor:
    """Law of the next byte given that the token does not end here, [positions, 258].

    NaN where it ends for certain.

    Args:
        logprobs: of `TokensByBytes`, [positions, 259].
    """
    nexts = logprobs[:, :STOP]
    return nexts - nexts.logsumexp(1, keepdim=True)


def span_sums(values: ArrayLike, stops: ArrayLike) -> Floats:
    """Sum of a quantity over the tokens of each span, [spans]; the spans tile the response.

    The difference of the student's and the teacher's sums of log-probabilities is the span
    log-ratio.

    Args:
        values: of each token, [tokens]. stops: place of each span's last token + 1, [spans].
    """
    totals = np.cumsum(np.asarray(values, dtype=np.float64))
    return np.diff(totals[np.asarray(stops, dtype=np.int64) - 1], prepend=0.0)


def _grouped(token_logprobs: Tensor, ids: Tensor, counts: Sequence[int]) -> Tensor:
    """Log of the summed probability of each group of ids, [positions, groups]; -inf without any.

    Each group of many ids has its own largest term, so no mass is lost beside a much larger one. On
    a CPU this is also faster than a scattered sum, which in float32 is off by 8e-5 nats at 150,000
    ids.

    Args:
        token_logprobs: [positions, width]. ids: sorted by group. counts: ids of each group.
    """
    if 0 < len(ids) <= FEW:
        return _scattered(token_logprobs, ids, counts)
    found = token_logprobs.new_full((len(token_logprobs), len(counts)), -torch.inf)
    groups = [group for group, count in enumerate(counts) if count]
    parts = torch.split(ids.to(token_logprobs.device), [counts[group] for group in groups])
    for group, members in zip(groups, parts, strict=True):
        found[:, group] = token_logprobs.index_select(1, members).logsumexp(1)
    return found.masked_fill(found < NEVER, -torch.inf)


def _scattered(token_logprobs: Tensor, ids: Tensor, counts: Sequence[int]) -> Tensor:
    """`_grouped` of a few ids, for which a pass over each group takes longer than the sums.

    In float64: a group is lost if it is more than 700 nats below the largest term of its position.
    """
    rows = token_logprobs.index_select(1, ids.to(token_logprobs.device)).double()
    top = rows.amax(1, keepdim=True).clamp(min=2 * NEVER)
    groups = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    sums = rows.new_zeros(len(rows), len(counts))
    sums.index_add_(1, groups.to(rows.device), (rows - top).exp())
    found = sums.log() + top
    return found.masked_fill(found < NEVER, -torch.inf).to(token_logprobs.dtype)
