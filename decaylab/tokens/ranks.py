"""Ranks, largest probabilities and top ids of two distributions over one vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

OVERLAP, SHOWN = 16, 5
BLOCK = 64


def rank_statistics(student: Tensor, teacher: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Columns of the tokens table, and both policies' top 5, from log-probabilities.

    Ranks count from 1: one plus the number of ids with a larger probability. The top 5 are
    ``*_top_ids`` and ``*_top_logprobs``.

    Args:
        student, teacher: [positions, vocab].
        tokens: the response token at each position, [positions].
    """
    student_top, student_ids = top(student, OVERLAP)
    teacher_top, teacher_ids = top(teacher, OVERLAP)
    # Only the largest values are needed, so no row is sorted as a whole.
    common = student_ids[:, :, None] == teacher_ids[:, None, :]
    return {
        "student_top1_probability": student_top[:, 0].exp(),
        "student_top2_probability": student_top[:, 1].exp(),
        "teacher_top1_probability": teacher_top[:, 0].exp(),
        "teacher_top2_probability": teacher_top[:, 1].exp(),
        "token_rank": rank(teacher, tokens, teacher_top),
        "student_top1_rank": rank(teacher, student_ids[:, 0], teacher_top),
        "top16_overlap": common.any(2).sum(1),
        "student_overlap_mass": (student_top.exp() * common.any(2)).sum(1),
        "teacher_overlap_mass": (teacher_top.exp() * common.any(1)).sum(1),
        "student_top_ids": student_ids[:, :SHOWN],
        "student_top_logprobs": student_top[:, :SHOWN],
        "teacher_top_ids": teacher_ids[:, :SHOWN],
        "teacher_top_logprobs": teacher_top[:, :SHOWN],
    }


def rank(logprobs: Tensor, tokens: Tensor, largest: Tensor) -> Tensor:
    """Rank of a token in [positions, vocab], from 1: one plus the number of more probable ids.

    Ties share a rank.

    largest: the largest values of each position, [positions, count]; the whole row is searched only
    for a token below all of them.
    """
    taken = logprobs.gather(1, tokens[:, None])
    ranks = (largest > taken).sum(1) + 1
    below = taken[:, 0] < largest[:, -1]
    if bool(below.any()):
        ranks[below] = (logprobs[below] > taken[below]).sum(1) + 1
    return ranks


def top(logprobs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest values of [positions, vocab], descending, and their ids, each [positions, count].

    Only the blocks with the largest maxima are searched, which is several times faster.
    """
    positions, vocab = logprobs.shape
    blocks, count = vocab // BLOCK, min(count, vocab)
    if blocks <= 2 * count:
        return torch.topk(logprobs, count)
    blocked = logprobs[:, : blocks * BLOCK].view(positions, blocks, BLOCK)
    chosen = blocked.amax(2).topk(count).indices
    ids = (chosen[:, :, None] * BLOCK + torch.arange(BLOCK, device=chosen.device)).flatten(1)
    rest = torch.arange(blocks * BLOCK, vocab, device=chosen.device).expand(positions, -1)
    ids = torch.cat([ids, rest], dim=1)
    values, places = logprobs.gather(1, ids).topk(count)
    return values, ids.gather(1, places)
