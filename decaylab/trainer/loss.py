"""The loss at each response position and its gradient, a few positions at a time.

The gradient in the logits is computed in closed form, without autograd, and taken through the
output head chunk by chunk. Losses are at temperature 1, over the ids that both policies have. With
s and t the next-token probabilities of student and teacher, z the student's logits and y the
sampled token:

    reverse-kl       KL(s || t)           d/dz = s (log s/t - KL)
    forward-kl       KL(t || s)           d/dz = s - t
    js               JS(s, t)             d/dz = s (log s/m - KL(s || m)) / 2, m the even mixture
    policy-gradient  log s(y)/t(y) = k1   d/dz = k1 (1[y] - s); its expectation over y ~ s is the
                                          gradient of reverse-kl

Source: KL(s || t) over the whole vocabulary is the loss of arXiv 2605.27028; most trainers use the
one-sample form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from decaylab.maths import divergences
from decaylab.maths.divergences import LN2, Pair, expectation
from decaylab.options.training import Divergence
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens.chunks import GRADIENT, SLOPE, over_chunks
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import scaled


class TokenLosses(NamedTuple):
    """Per response position, [positions], in nats; log-probabilities are of the response token."""

    loss: Tensor
    reverse_kl: Tensor
    student_entropy: Tensor
    teacher_entropy: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor


class _Chunk(NamedTuple):
    """Both policies at a few positions, and the response tokens there, [positions]."""

    pair: Pair
    tokens: Tensor


def _reverse_kl(at: _Chunk) -> tuple[Tensor, Tensor]:
    value = at.pair.reverse_kl()
    return value, _centred(at.pair.student, at.pair.gap, value)


def _forward_kl(at: _Chunk) -> tuple[Tensor, Tensor]:
    return at.pair.forward_kl(), at.pair.student - at.pair.teacher


def _js(at: _Chunk) -> tuple[Tensor, Tensor]:
    above = LN2 - torch.nn.functional.softplus(-at.pair.gap)  # log s/m
    inner = expectation(at.pair.student, above)
    return at.pair.js(), _centred(0.5 * at.pair.student, above, inner)


def _policy_gradient(at: _Chunk) -> tuple[Tensor, Tensor]:
    taken = at.tokens[:, None]
    student, teacher = at.pair.student_logprobs, at.pair.teacher_logprobs
    value = divergences.reverse_kl_k1(student.gather(1, taken), teacher.gather(1, taken))
    gradient = -value * at.pair.student
    return value[:, 0], gradient.scatter_add_(1, taken, value)


def _centred(probabilities: Tensor, values: Tensor, mean: Tensor) -> Tensor:
    """p (x - mean) for each id; 0 where p is 0, even if x is not finite."""
    return probabilities * torch.where(probabilities > 0, values - mean[:, None], 0.0)


FORMS: dict[Divergence, Callable[[_Chunk], tuple[Tensor, Tensor]]] = {
    "reverse-kl": _reverse_kl,
    "forward-kl": _forward_kl,
    "js": _js,
    "policy-gradient": _policy_gradient,
}
"""The loss [positions] and its gradient in the student's logits [positions, size]."""


def chunked_loss(
    heads: tuple[Head, Head],
    states: tuple[Tensor, Tensor],
    tokens: Tensor,
    vocabulary: SharedVocabulary,
    weights: Tensor | None = None,
    divergence: Divergence = "reverse-kl",
) -> tuple[TokenLosses, Tensor | None]:
    """The loss at each position; with weights also the gradient of sum(weights x loss).

    The gradient is in the student's states, [positions, width]; the caller takes it back through
    the body. If the student's head is trained, its gradient is added to its parameters' ``grad``.

    Args:
        heads, states: of student and teacher; states [positions, width] from `Head.states`.
        tokens: the response token at each position, [positions].
        weights: [positions]; None: no gradient is computed.

    Raises:
        ValueError: there are no positions.
    """

    def at_chunk(student: Tensor, teacher: Tensor, rows: slice) -> dict[str, Tensor]:
        losses, slope = _at_chunk(student, teacher, tokens[rows], vocabulary, divergence)
        columns = losses._asdict()
        if weights is not None:
            slope *= weights[rows, None]
            beyond = student.shape[1] - slope.shape[1]  # ids that only the student has
            columns[SLOPE] = torch.nn.functional.pad(slope, (0, beyond)) if beyond else slope
        return columns

    columns = over_chunks(heads, states, at_chunk, backward=weights is not None)
    if not columns:
        raise ValueError("the loss needs at least one position")
    gradient = columns.pop(GRADIENT, None)
    return TokenLosses(**columns), gradient


def _at_chunk(
    student_logits: Tensor,
    teacher_logits: Tensor,
    tokens: Tensor,
    vocabulary: SharedVocabulary,
    divergence: Divergence,
) -> tuple[TokenLosses, Tensor]:
    """Losses at a few positions, and the gradient in the student's logits of the shared ids."""
    student, _ = vocabulary.logprobs(scaled(student_logits))
    teacher, _ = vocabulary.logprobs(scaled(teacher_logits))
    pair, taken = Pair(student, teacher), tokens[:, None]
    # First, before more is cached, since its temporaries set the peak of memory.
    value, slope = FORMS[divergence](_Chunk(pair, tokens))
    losses = TokenLosses(
        value,
        value if divergence == "reverse-kl" else pair.reverse_kl(),
        pair.student_entropy(),
        pair.teacher_entropy(),
        student.gather(1, taken)[:, 0],
        teacher.gather(1, taken)[:, 0],
    )
    return losses, slope
