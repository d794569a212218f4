"""One pass over the positions of a batch: both heads and a reduction, a few positions at a time.

Scoring and the training loss share it. No tensor of all positions x vocabulary exists: a chunk's
logits are reduced to a few numbers per position before the next chunk is made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from decaylab.tokens.heads import Head

# Positions x vocabulary per application of a head.
HEAD_ELEMENTS = {"cpu": 2**22, "cuda": 2**27}
# On a CPU, the backward pass through the head is faster with more rows.
BACKWARD_FACTOR = {"cpu": 2}

SLOPE = "slope"
"""The chunk column with the gradient in the student's logits, taken back through the head."""
GRADIENT = "gradient"
"""The column of the result with the gradient in the student's states."""

AtChunk = Callable[[Tensor, Tensor, slice], dict[str, Tensor]]
"""Logits of student and teacher at some positions, and the slice of positions, in; columns out."""


def head_elements(device: str, *, backward: bool = False) -> int:
    """Positions x vocabulary per application of a head on a kind of device."""
    elements = HEAD_ELEMENTS.get(device, HEAD_ELEMENTS["cuda"])
    return elements * BACKWARD_FACTOR.get(device, 1) if backward else elements


def chunk_rows(heads: tuple[Head, Head], states: tuple[Tensor, Tensor], elements: int) -> int:
    """Positions whose logits have at most this many elements; at least one."""
    return max(1, elements // max(map(_width, heads, states)))


def over_chunks(
    heads: tuple[Head, Head],
    states: tuple[Tensor, Tensor],
    at_chunk: AtChunk,
    *,
    statistics_elements: int | None = None,
    backward: bool = False,
) -> dict[str, Tensor]:
    """The columns of ``at_chunk`` over all positions; empty without positions.

    Args:
        heads, states: of student and teacher; states [positions, width] from `Head.states`.
        statistics_elements: maximum logits per call of ``at_chunk``, if fewer than per head.
        backward: ``at_chunk`` returns a `SLOPE`, [positions, vocab], which is taken back through
            the student's head: the column `GRADIENT` is the gradient in the states, and the
            gradient of the head's own parameters is added to their ``grad``.
    """
    assert not (backward and statistics_elements), "a slope needs a whole chunk"
    positions, device = len(states[0]), states[0].device.type
    rows_at_once = chunk_rows(heads, states, head_elements(device, backward=backward))
    few = rows_at_once
    if statistics_elements is not None:
        few = min(few, chunk_rows(heads, states, statistics_elements))
    columns: dict[str, Tensor] = {}
    for start in range(0, positions, rows_at_once):
        stop = min(start + rows_at_once, positions)
        inputs = states[0][start:stop]
        if backward:
            inputs = inputs.detach().requires_grad_()
        with torch.set_grad_enabled(backward):
            student = heads[0].logits(inputs)
        with torch.no_grad():
            teacher = heads[1].logits(states[1][start:stop]).to(student.device)
        # Not under a caller's autocast, which would sum over the vocabulary in 16 bits.
        with torch.autocast(device, enabled=False):
            for first in range(start, stop, few):
                rows = slice(first, min(first + few, stop))
                chunk = slice(first - start, rows.stop - start)
                with torch.no_grad():
                    values = at_chunk(student[chunk].detach(), teacher[chunk], rows)
                if backward:
                    torch.autograd.backward(student, values.pop(SLOPE).to(student.dtype))
                    assert inputs.grad is not None
                    values[GRADIENT] = inputs.grad
                _write(columns, values, rows, positions)
    return columns


def _write(
    columns: dict[str, Tensor], found: dict[str, Tensor], rows: slice, positions: int
) -> None:
    """Writes rows in place, since small results of a chunk would pin the memory of large ones."""
    for name, values in found.items():
        if name not in columns:
            columns[name] = values.new_empty((positions, *values.shape[1:]))
        columns[name][rows] = values


def _width(head: Head, states: Tensor) -> int:
    """Logits per position, from the output embeddings, or from states that are logits already."""
    if head.shell is None:
        return states.shape[-1]
    return int(head.model.get_output_embeddings().weight.shape[0])
