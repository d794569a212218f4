"""Laws of the next byte, from laws of the next token, so that two vocabularies can be compared.

    events = ByteEvents(first_bytes)              # an event for each id
    student = events.logprobs(token_logprobs)     # [positions, 258]
    reverse_kl(student, teacher)                  # nats, of maths.divergences

An event is what comes next: a byte (0 to 255), the end of the turn, or a token without text.
Log-probabilities are natural logs; -inf is a probability of 0, for which the divergences are
defined. docs/two-tokenizers.md says what the quantities are, and what they are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

END, OTHER, EVENTS = 256, 257, 258
"""Codes of the end of the turn and of tokens without text; number of events."""
NEVER = -1e20
"""Log-probabilities below it are a probability of 0, as where a logit was cut at -1e30."""


class ByteEvents:
    """The events of a vocabulary.

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
        self.counts = codes.bincount(minlength=EVENTS)

    def logprobs(self, token_logprobs: Tensor) -> Tensor:
        """Log-probability of each event, [positions, 258]; -inf where no id has it.

        Each event has its own largest term, so no mass is lost beside a much larger one; on a CPU
        this is also faster than one scattered sum, which is off by 1e-5 nats in float32.

        Args:
            token_logprobs: [positions, width], in float32 or wider.
        """
        ids = self.ids.to(token_logprobs.device)
        found = token_logprobs.new_full((len(token_logprobs), EVENTS), -torch.inf)
        for event, its in enumerate(ids.split(self.counts.tolist())):
            if len(its):
                found[:, event] = token_logprobs.index_select(1, its).logsumexp(1)
        return found.masked_fill(found < NEVER, -torch.inf)


def written_by_both(student: ByteEvents, teacher: ByteEvents) -> tuple[ByteEvents, ByteEvents]:
    """The same events, where those that only one of the two can write are `OTHER` on both sides.

    A byte that no token of the teacher begins with makes the reverse KL infinite, however rarely
    the student writes it. Events taken together can only lower a KL.
    """
    both = (student.counts > 0) & (teacher.counts > 0)
    codes = torch.arange(EVENTS).where(both, torch.tensor(OTHER))
    return ByteEvents(codes[student.codes]), ByteEvents(codes[teacher.codes])
