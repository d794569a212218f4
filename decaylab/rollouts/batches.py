"""Work in batches that shrink if memory runs out, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from decaylab.policies.memory import out_of_memory
from decaylab.rollouts.sampling import OnProgress

Result = TypeVar("Result")


def in_batches(
    order: Sequence[int],
    next_batch: Callable[[Sequence[int]], Sequence[int]],
    make: Callable[[Sequence[int]], list[Result]],
    shrink: Callable[[Sequence[int]], None],
) -> Iterator[tuple[Sequence[int], list[Result]]]:
    """Works through places in order, batch by batch; yields each batch with its results.

    Args:
        next_batch: chooses the first of the remaining places.
        shrink: called with a batch that ran out of memory, which is then cut and run again. For a
            batch of one place the error is raised.
    """
    while order:
        batch = next_batch(order)
        results = _made_or_none(make, batch)
        if results is None:
            shrink(batch)
            # The failed batch's memory is free, but not yet returned to the driver.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield batch, results
        order = order[len(batch) :]


def _made_or_none(
    make: Callable[[Sequence[int]], list[Result]], batch: Sequence[int]
) -> list[Result] | None:
    """The results, or None if memory ran out. On return, no frame of a failed batch is alive."""
    try:
        return make(batch)
    except RuntimeError as error:
        if not out_of_memory(error) or len(batch) == 1:
            raise
        return None


class Counted:
    """Forwards progress and keeps its total."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.on_progress, self.tokens, self.finished = on_progress, 0, 0

    def add(self, tokens: int, finished: int) -> None:
        self.tokens, self.finished = self.tokens + tokens, self.finished + finished
        if self.on_progress and (tokens or finished):
            self.on_progress(tokens, finished)

    def catch_up(self, tokens: int, finished: int) -> None:
        """Forwards the difference to a new total, which is lower if work was restarted."""
        self.add(tokens - self.tokens, finished - self.finished)
