"""Work in batches that become smaller where memory runs out, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from decaylab.rollouts.sampling import OnProgress

Result = TypeVar("Result")

# torch's message on the CPU, and cuBLAS's without room for its workspace; neither is an
# OutOfMemoryError.
OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that, on any device."""
    signs = [sign in str(error) for sign in OUT_OF_MEMORY]
    return isinstance(error, torch.OutOfMemoryError) or any(signs)


def in_batches(
    order: Sequence[int],
    next_batch: Callable[[Sequence[int]], Sequence[int]],
    make: Callable[[Sequence[int]], list[Result]],
    shrink: Callable[[Sequence[int]], None],
) -> Iterator[tuple[Sequence[int], list[Result]]]:
    """Works through places in order, batch by batch; yields each batch with its results.

    Args:
        next_batch: the first of the places that are left.
        shrink: called with a batch that ran out of memory, which is then cut and made again. A
            batch of one place is not: the error is raised.
    """
    while order:
        batch = next_batch(order)
        results = _made_or_none(make, batch)
        if results is None:
            shrink(batch)
            # What the failed batch held is free, but not yet given back to the driver.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield batch, results
        order = order[len(batch) :]


def _made_or_none(
    make: Callable[[Sequence[int]], list[Result]], batch: Sequence[int]
) -> list[Result] | None:
    """None if memory ran out. Once this has returned, no frame of the failed batch is alive."""
    try:
        return make(batch)
    except RuntimeError as error:
        if not out_of_memory(error) or len(batch) == 1:
            raise
        return None


class Counted:
    """Passes progress on, and knows the sum of what it passed on since it was made."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.on_progress, self.tokens, self.finished = on_progress, 0, 0

    def add(self, tokens: int, finished: int) -> None:
        self.tokens, self.finished = self.tokens + tokens, self.finished + finished
        if self.on_progress and (tokens or finished):
            self.on_progress(tokens, finished)

    def catch_up(self, tokens: int, finished: int) -> None:
        """Passes on the difference to a new sum, which is lower where work was begun again."""
        self.add(tokens - self.tokens, finished - self.finished)
