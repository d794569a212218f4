"""The loss at each response position and its gradient, from last hidden states, a few positions at
a time.

No tensor of all positions x vocabulary exists: the gradient in the logits is written down, not
recorded, and taken through the output head chunk by chunk. Losses stand at temperature 1, over the
ids that both policies have; with s and t the next-token probabilities of student and teacher, z the
student's logits and y the token it drew:

    reverse-kl       KL(s || t)             d/dz = s (log s/t - KL) forward-kl       KL(t || s)
    d/dz = s - t js               JS(s, t)               d/dz = s (log s/m - KL(s || m)) / 2, m the
    even mixture policy-gradient  log s(y)/t(y) = k1     d/dz = k1 (1[y] - s): its expectation over
    y ~ s is that of reverse-kl

Source: KL(s || t) over the whole vocabulary is the loss of arXiv 2605.27028; the one-sample form is
that of most trainers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from decaylab.maths import divergences
from decaylab.maths.divergences import LN2, expectation
from decaylab.options.training import Divergence
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens.heads import Head

# Positions x vocabulary at a time. On a CPU twice what scoring takes: the pass back through the
# head wants more rows.
HEAD_ELEMENTS = {"cpu": 2**23, "cuda": 2**27}


class TokenLosses(NamedTuple):
    """Of each response position, [positions], in nats; the log-probabilities are those of the token
    that was taken."""

    loss: Tensor
    reverse_kl: Tensor
    student_entropy: Tensor
    teacher_entropy: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor


class _Logprobs(NamedTuple):
    """Of both policies over the shared ids, [positions, size], with what every loss needs of
    them."""

    student: Tensor
    teacher: Tensor
    student_probabilities: Tensor
    gap: Tensor  # log s - log t
    tokens: Tensor  # [positions]


def _reverse_kl(at: _Logprobs) -> tuple[Tensor, Tensor]:
    value = expectation(at.student_probabilities, at.gap)
    return value, at.student_probabilities * torch.where(
        at.student_probabilities > 0, at.gap - value[:, None], 0.0
    )


def _forward_kl(at: _Logprobs) -> tuple[Tensor, Tensor]:
    return divergences.forward_kl(
        at.student, at.teacher
    ), at.student_probabilities - at.teacher.exp()


def _js(at: _Logprobs) -> tuple[Tensor, Tensor]:
    above = LN2 - torch.nn.functional.softplus(-at.gap)  # log s/m
    inner = expectation(at.student_probabilities, above)
    gradient = (
        0.5
        * at.student_probabilities
        * torch.where(at.student_probabilities > 0, above - inner[:, None], 0.0)
    )
    return divergences.js(at.student, at.teacher), gradient


def _policy_gradient(at: _Logprobs) -> tuple[Tensor, Tensor]:
    taken = at.tokens[:, None]
    value = divergences.reverse_kl_k1(at.student.gather(1, taken), at.teacher.gather(1, taken))
    gradient = -value * at.student_probabilities
    return value[:, 0], gradient.scatter_add_(1, taken, value)


FORMS: dict[Divergence, Callable[[_Logprobs], tuple[Tensor, Tensor]]] = {
    "reverse-kl": _reverse_kl,
    "forward-kl": _forward_kl,
    "js": _js,
    "policy-gradient": _policy_gradient,
}
"""Log-probabilities in; the loss [positions] and its gradient in the student's logits [positions,
size] out."""


def chunked_loss(
    heads: tuple[Head, Head],
    states: tuple[Tensor, Tensor],
    tokens: Tensor,
    vocabulary: SharedVocabulary,
    weights: Tensor | None = None,
    divergence: Divergence = "reverse-kl",
) -> tuple[TokenLosses, Tensor | None]:
    """The loss at each position; with weights [positions], also the gradient of sum(weights x loss)
    in the student's states.

    Args:
        heads, states: of student and teacher; states [positions, width], as `Head.states` gives
        them.
        tokens: what was taken at each position, [positions].
        weights: None: no gradient is taken.

    The gradient, [positions, width], is the caller's to take on through the body; where the
    student's head is trained, that of its own parameters is added to their ``grad`` here.
    """
    width = max(_width(head, own) for head, own in zip(heads, states, strict=True))
    at_once = max(1, HEAD_ELEMENTS.get(tokens.device.type, HEAD_ELEMENTS["cuda"]) // width)
    gradient = None if weights is None else torch.zeros_like(states[0], requires_grad=False)
    found: TokenLosses | None = None
    for start in range(0, len(tokens), at_once):
        rows = slice(start, start + at_once)
        own = states[0][rows].detach().requires_grad_(weights is not None)
        with torch.set_grad_enabled(weights is not None):
            logits = heads[0].logits(own)
        with torch.no_grad():
            teacher_logits = heads[1].logits(states[1][rows]).to(tokens.device)
        with torch.autocast(
            tokens.device.type, enabled=False
        ):  # of a caller's: it would take sums over ids in 16 bits
            with torch.no_grad():
                part, slope = _at_chunk(
                    logits.detach(),
                    teacher_logits,
                    tokens[rows],
                    vocabulary,
                    divergence,
                    weights is not None,
                )
            # rows are written in place: small results kept between chunks would pin their memory
            if found is None:
                found = TokenLosses(*(one.new_empty(len(tokens)) for one in part))
            for whole, one in zip(found, part, strict=True):
                whole[rows] = one
            if weights is not None and gradient is not None and slope is not None:
                slope *= weights[rows, None]
                torch.autograd.backward(logits, slope.to(logits.dtype))
                assert own.grad is not None
                gradient[rows] = own.grad
    if found is None:
        raise ValueError("no position to take a loss of")
    return found, gradient


def _width(head: Head, states: Tensor) -> int:
    """Logits at a position: those of the output embeddings, or what the states are themselves."""
    return (
        int(head.model.get_output_embeddings().weight.shape[0])
        if head.shell is not None
        else states.shape[-1]
    )


def _at_chunk(
    student_logits: Tensor,
    teacher_logits: Tensor,
    tokens: Tensor,
    vocabulary: SharedVocabulary,
    divergence: Divergence,
    wanted: bool,
) -> tuple[TokenLosses, Tensor | None]:
    """The losses of a few positions, and the gradient in all of the student's logits where it is
    wanted."""
    student, teacher = (
        vocabulary.logprobs(_wide(logits))[0] for logits in (student_logits, teacher_logits)
    )
    at = _Logprobs(student, teacher, student.exp(), student - teacher, tokens)
    value, slope = FORMS[divergence](at)
    taken = tokens[:, None]
    losses = TokenLosses(
        value,
        value if divergence == "reverse-kl" else expectation(at.student_probabilities, at.gap),
        divergences.negative(expectation(at.student_probabilities, student)),
        divergences.entropy(teacher),
        student.gather(1, taken)[:, 0],
        teacher.gather(1, taken)[:, 0],
    )
    if not wanted:
        return losses, None
    if slope.shape == student_logits.shape:
        return losses, slope
    whole = slope.new_zeros(student_logits.shape)
    whole[:, : vocabulary.size] = slope
    return losses, whole


def _wide(logits: Tensor) -> Tensor:
    """In float32, or float64 where the model has that."""
    return logits if logits.dtype == torch.float64 else logits.float()
