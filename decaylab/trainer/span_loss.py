r"""The policy-gradient loss where student and teacher have two tokenizers.

A teacher has no law over the student's tokens, so there is no loss at one position. What both give
a probability to is the text of a span (`decaylab.policies.alignment`). With s and t the policies'
own laws at temperature 1, y_i the student's tokens of a span of n and u_j the teacher's:

    r        = sum_i log s(y_i) - sum_j log t(u_j)       the log-ratio of the span
    loss     = r / n at each token of the span           so the losses of a span add up to r
    d/dz_i   = r (1[y_i] - s), z_i the logits at token i; r is held fixed

With one tokenizer each span is one token, and this is `loss.FORMS["policy-gradient"]`. The ids that
end a turn are one event, so 1[y] of an end is the law among them.

What is exact. Every token has the ratio of its whole span: of the tokens behind it, since they
depend on it, and of those before it, whose share has expectation 0. Where the end of a span is
known once its last token is written, the expected gradient of a span, given the text before, is
the gradient of the expected r: the reverse KL up to the end of the span. A teacher's boundary can
depend on what follows ("a" is a token only if no "b" comes behind it). Then a span of mean r other
than 0 is made up for by the next one, which its tokens do not carry: the gradient is biased, and
is not 0 even for one law of text under two vocabularies. The log-ratio of a finished response has
no such bias; validation measures that one.

Others. rllm (`trainer/distill/alignment.py`) divides log t(u_j) equally among the student's tokens
that overlap u_j, and a token's advantage is its own part alone: it lacks the effect of a token on
the rest of its span. TRL's GOLD multiplies the distribution at the first token of a span by the
probabilities of the tokens behind it, and compares sorted probabilities, or those of tokens that
are the same string: another loss, dense, and no estimate of a KL. NeMo-RL (X-Token) maps the
teacher's distributions onto the student's ids with a projection matrix; it trains on given texts,
not on rollouts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from decaylab.maths import divergences
from decaylab.maths.divergences import entropy
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.tokens.chunks import GRADIENT, SLOPE, over_chunks
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import scaled
from decaylab.trainer.loss import TokenLosses


class Side(NamedTuple):
    """One policy at the tokens of a batch.

    states: [positions, width]. tokens, spans: the token at each position and the number of its
    span, [positions].
    """

    head: Head
    vocabulary: OwnVocabulary
    states: Tensor
    tokens: Tensor
    spans: Tensor


def span_losses(student: Side, teacher: Side) -> tuple[TokenLosses, Tensor]:
    """Losses at each of the student's positions, and the log-ratio of its span, both [positions].

    NaN is what a teacher with other tokens does not have at the student's positions: the reverse
    KL, its entropy and its log-probability.

    Raises:
        ValueError: there are no positions.
    """
    if not len(student.tokens):
        raise ValueError("the loss needs at least one position")
    own, theirs = _scored(student), _scored(teacher)["logprob"]
    count = int(student.spans.max()) + 1
    sums = [
        logprobs.new_zeros(count).index_add_(0, side.spans, logprobs)
        for side, logprobs in ((student, own["logprob"]), (teacher, theirs.to(own["logprob"])))
    ]
    ratios = divergences.reverse_kl_k1(*sums)
    tokens = student.spans.bincount(minlength=count)
    nothing = torch.full_like(own["logprob"], math.nan)
    losses = TokenLosses(
        loss=(ratios / tokens)[student.spans],
        reverse_kl=nothing,
        student_entropy=own["entropy"],
        teacher_entropy=nothing,
        student_logprob=own["logprob"],
        teacher_logprob=nothing,
    )
    return losses, ratios[student.spans]


def span_gradient(student: Side, ratios: Tensor, weights: Tensor) -> Tensor:
    """The gradient of sum(weights x r x log s(y)), r held fixed, in the student's states.

    It is [positions, width]; that of the head's own parameters is added to their ``grad``.
    ratios: r of each position. weights: [positions].
    """

    def at_chunk(logits: Tensor, rows: slice) -> dict[str, Tensor]:
        logprobs = student.vocabulary.logprobs(scaled(logits))
        slope = _slope(logprobs, student.tokens[rows], ratios[rows, None], student.vocabulary)
        slope *= weights[rows, None]
        return {SLOPE: slope}

    return over_chunks((student.head,), (student.states,), at_chunk, backward=True)[GRADIENT]


def _scored(side: Side) -> dict[str, Tensor]:
    """Log-probability of each token, and entropy there, [positions]."""

    def at_chunk(logits: Tensor, rows: slice) -> dict[str, Tensor]:
        logprobs = side.vocabulary.logprobs(scaled(logits))
        taken = side.vocabulary.taken(logprobs, side.tokens[rows])
        return {"logprob": taken, "entropy": entropy(side.vocabulary.ends_as_one(logprobs))}

    return over_chunks((side.head,), (side.states,), at_chunk)


def _slope(logprobs: Tensor, tokens: Tensor, ratios: Tensor, vocabulary: OwnVocabulary) -> Tensor:
    """r (1[y] - s) at each position, [positions, width]. ratios: [positions, 1]."""
    slope = -ratios * logprobs.exp()
    ends = vocabulary.ends.to(tokens.device)
    is_end = torch.isin(tokens, ends)
    slope.scatter_add_(1, tokens[:, None], torch.where(is_end[:, None], 0.0, ratios))
    if bool(is_end.any()):
        among = logprobs[is_end][:, ends] - vocabulary.ending(logprobs[is_end])[:, None]
        places = is_end.nonzero(), ends[None]
        slope[places] += ratios[is_end] * among.exp()
    return slope
