"""Entropy and divergences of two next-token distributions, from log-probabilities, in nats; no I/O.

Log-probabilities are natural logs, [..., vocab], normalised over the last axis; -inf is a
probability of 0. The student always comes before the teacher.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

LN2 = 0.6931471805599453


class Divergences(NamedTuple):
    """Every quantity of `Pair`, each [...], in nats."""

    student_entropy: Tensor
    teacher_entropy: Tensor
    reverse_kl: Tensor
    forward_kl: Tensor
    js: Tensor


class Pair:
    """Two distributions over the same [..., vocab]. Shared intermediate results are cached.

    student, teacher: probabilities. gap: log s - log t.
    """

    def __init__(self, student_logprobs: Tensor, teacher_logprobs: Tensor) -> None:
        self.student_logprobs, self.teacher_logprobs = student_logprobs, teacher_logprobs

    @cached_property
    def student(self) -> Tensor:
        return self.student_logprobs.exp()

    @cached_property
    def teacher(self) -> Tensor:
        return self.teacher_logprobs.exp()

    @cached_property
    def gap(self) -> Tensor:
        return self.student_logprobs - self.teacher_logprobs

    def student_entropy(self) -> Tensor:
        """Shannon entropy at each position, in nats: -sum s log s."""
        return negative(expectation(self.student, self.student_logprobs))

    def teacher_entropy(self) -> Tensor:
        """Shannon entropy at each position, in nats: -sum t log t."""
        return negative(expectation(self.teacher, self.teacher_logprobs))

    def reverse_kl(self) -> Tensor:
        """KL(student || teacher) at each position, in nats: sum s (log s - log t).

        On-policy distillation minimises it. Infinite where the teacher gives probability 0 to a
        token that the student may write. Source: arXiv 2605.27028, section 3.
        """
        return expectation(self.student, self.gap)

    def forward_kl(self) -> Tensor:
        """KL(teacher || student) at each position, in nats: sum t (log t - log s)."""
        return negative(expectation(self.teacher, self.gap))

    def js(self) -> Tensor:
        """Jensen-Shannon divergence at each position, in nats, at most ln 2.

        The mean KL of both to their equal mixture. With d = log s - log t it is half of
        sum s (ln 2 - softplus(-d)) + sum t (ln 2 - softplus(d)). Each term is 0 where the two
        agree. Source: Lin 1991.
        """
        return _js(self.student, self.teacher, self.gap)


def divergences(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Divergences:
    """Every quantity of `Pair` over the same [..., vocab]."""
    pair = Pair(student_logprobs, teacher_logprobs)
    return Divergences(
        pair.student_entropy(),
        pair.teacher_entropy(),
        pair.reverse_kl(),
        pair.forward_kl(),
        pair.js(),
    )


def entropy(logprobs: Tensor) -> Tensor:
    """Shannon entropy at each position, in nats: -sum p log p."""
    return Pair(logprobs, logprobs).student_entropy()


def reverse_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """`Pair.reverse_kl`: KL(student || teacher) at each position, in nats."""
    return Pair(student_logprobs, teacher_logprobs).reverse_kl()


def forward_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """`Pair.forward_kl`: KL(teacher || student) at each position, in nats."""
    return Pair(student_logprobs, teacher_logprobs).forward_kl()


def js(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """`Pair.js`: the Jensen-Shannon divergence at each position, in nats."""
    return Pair(student_logprobs, teacher_logprobs).js()


def reverse_kl_k1(student_token_logprob: Tensor, teacher_token_logprob: Tensor) -> Tensor:
    """One-sample estimate of the reverse KL: log s(y) - log t(y), y from the student. Unbiased."""
    return student_token_logprob - teacher_token_logprob


def reverse_kl_k3(student_token_logprob: Tensor, teacher_token_logprob: Tensor) -> Tensor:
    """One-sample estimate of the reverse KL: r - 1 - log r, r = t(y) / s(y), y from the student.

    Never negative. Unbiased if the teacher gives probability 0 wherever the student does. Source:
    Schulman 2020, k3.
    """
    log_ratio = teacher_token_logprob - student_token_logprob
    return torch.expm1(log_ratio) - log_ratio


def _js(student: Tensor, teacher: Tensor, gap: Tensor) -> Tensor:
    # log t/m, m the equal mixture; log s/m is larger by the gap
    above = LN2 - torch.nn.functional.softplus(gap)
    found: Tensor = 0.5 * (
        torch.linalg.vecdot(student, above + gap) + torch.linalg.vecdot(teacher, above)
    )
    if bool(found.isfinite().all()):
        return found
    # above + gap is undefined where the gap is infinite
    apart = LN2 - torch.nn.functional.softplus(-gap)
    return 0.5 * (expectation(student, apart) + expectation(teacher, above))


def negative(values: Tensor) -> Tensor:
    """-values, with 0 rather than -0."""
    return -values + 0.0


def expectation(probabilities: Tensor, values: Tensor) -> Tensor:
    """Sum of p x over the last axis; a term with p = 0 is 0 even if x is infinite."""
    found: Tensor = torch.linalg.vecdot(probabilities, values)
    if not bool(found.isfinite().all()):
        found = torch.linalg.vecdot(probabilities, torch.where(probabilities > 0, values, 0.0))
    return found
