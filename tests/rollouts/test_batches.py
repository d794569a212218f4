"""Batches that become smaller where memory runs out, and progress that can be taken back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from decaylab.rollouts.batches import Counted, in_batches, out_of_memory


class Work:
    """Makes batches of up to ``size``, with memory for ``room``."""

    def __init__(self, size: int, room: int, error: Exception | None = None) -> None:
        self.size, self.room = size, room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.failed: list[int] = []

    def make(self, batch: Sequence[int]) -> list[int]:
        if len(batch) > self.room:
            raise self.error
        return [10 * place for place in batch]

    def shrink(self, batch: Sequence[int]) -> None:
        self.failed.append(len(batch))
        self.size = len(batch) // 2

    def run(self, order: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        made = in_batches(order, lambda left: left[: self.size], self.make, self.shrink)
        return [(list(batch), results) for batch, results in made]


def test_batches_come_in_order_with_their_results() -> None:
    assert Work(2, 2).run([3, 1, 2]) == [([3, 1], [30, 10]), ([2], [20])]
    assert Work(2, 2).run([]) == []


def test_a_batch_that_does_not_fit_is_made_again_in_smaller_ones() -> None:
    work = Work(5, 1)
    assert [batch for batch, _ in work.run(range(5))] == [[0], [1], [2], [3], [4]]
    assert work.failed == [5, 2] and work.size == 1


def test_a_batch_of_one_and_other_errors_are_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Work(1, 0).run([7])
    with pytest.raises(RuntimeError, match="shapes"):
        Work(2, 0, RuntimeError("shapes do not match")).run([7, 8])


def test_out_of_memory_is_known_on_every_device() -> None:
    assert out_of_memory(torch.OutOfMemoryError("x"))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert out_of_memory(RuntimeError("cublas: CUBLAS_STATUS_ALLOC_FAILED"))
    assert not out_of_memory(RuntimeError("memory"))


def test_progress_adds_up_and_can_be_taken_back() -> None:
    passed: list[tuple[int, int]] = []
    count = Counted(lambda *news: passed.append(news))
    count.add(5, 1)
    count.catch_up(7, 1)
    count.catch_up(7, 1)  # nothing new
    count.catch_up(0, 0)
    assert passed == [(5, 1), (2, 0), (-7, -1)] and (count.tokens, count.finished) == (0, 0)
    Counted(None).add(1, 1)
