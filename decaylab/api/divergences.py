"""Divergences of student and teacher at each position, exact over the vocabulary, in nats.

All take log-probabilities, natural logs, [..., vocab], normalised over the last axis, with the
student first.

    >>> import torch
    >>> from decaylab.api import divergences
    >>> student = torch.tensor([0.5, 0.25, 0.25]).log()
    >>> teacher = torch.tensor([0.25, 0.5, 0.25]).log()
    >>> kl = divergences.reverse_kl(student, teacher)      # KL(student, teacher)
    >>> round(float(kl), 4)                                # 0.25 x ln 2
    0.1733

Of logits, with a batch and positions: ``reverse_kl(logits.log_softmax(-1), ...)``. `divergences`
returns all of them in one pass. `reverse_kl_k1` and `reverse_kl_k3` estimate the reverse KL from
the log-probabilities of sampled tokens alone.
"""

from __future__ import annotations

from decaylab.maths.divergences import (
    Divergences,
    divergences,
    entropy,
    forward_kl,
    js,
    reverse_kl,
    reverse_kl_k1,
    reverse_kl_k3,
)

__all__ = [
    "Divergences",
    "divergences",
    "entropy",
    "forward_kl",
    "js",
    "reverse_kl",
    "reverse_kl_k1",
    "reverse_kl_k3",
]
