"""One pass over the positions of a batch: the heads and a reduction, a few positions at a time.

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

AtChunk = Callable[..., dict[str, Tensor]]
"""Logits of each head at some positions, and the slice of positions, in; columns out."""


def head_elements(device: str, *, backward: bool = False) -> int:
    """Positions x vocabulary per application of a head on a kind of device."""
    elements = HEAD_ELEMENTS.get(device, HEAD_ELEMENTS["cuda"])
    return elements * BACKWARD_FACTOR.get(device, 1) if backward else elements


def chunk_rows(heads: tuple[Head, ...], states: tuple[Tensor, ...], elements: int) -> int:
    """Positions whose logits have at most this many elements; at least one."""
    return max(1, elements // max(map(_width, heads, states)))


def over_chunks(
    heads: tuple[Head, ...],
    states: tuple[Tensor, ...],
    at_chunk: AtChunk,
    *,
    statistics_elements: int | None = None,
    backward: bool = False,
) -> dict[str, Tensor]:
    """The columns of ``at_chunk`` over all positions; empty without positions.

    Args:
        heads, states: of student and teacher, or of one policy; states [positions, width] from
            `Head.states`.
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
            first_logits = heads[0].logits(inputs)
        logits = [first_logits.detach()]
        with torch.no_grad():
            for head, others in zip(heads[1:], states[1:], strict=True):
                logits.append(head.logits(others[start:stop]).to(first_logits.device))
        # Not under a caller's autocast, which would sum over the vocabulary in 16 bits.
        with torch.autocast(device, enabled=False):
            for first in range(start, stop, few):
                rows = slice(first, min(first + few, stop))
                chunk = slice(first - start, rows.stop - start)
                with torch.no_grad():
                    values = at_chunk(*(of_head[chunk] for of_head in logits), rows)
                if backward:
                    slope = values.pop(SLOPE).to(first_logits.dtype)
                    torch.autograd.backward(first_logits, slope)
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
