"""The gradient of a step where student and teacher have two tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from decaylab.options.training import TrainOptions
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.tokens.heads import Head
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.metrics import Floats
from decaylab.trainer.span_loss import Side, span_gradient, span_losses
from decaylab.trainer.step import Accumulated, Batch, refuse_broken


class SpanGradient(Accumulated):
    """As `step.Gradient`, with the loss of `span_loss`."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        vocabularies: tuple[OwnVocabulary, OwnVocabulary],
        options: TrainOptions,
        meter: Meter,
        budget: int | None,
        most: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(heads, options, meter, budget, most)
        self.vocabularies = vocabularies

    def _gradient(
        self, both: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[dict[str, Floats], Floats, Tensor]:
        """Losses, weights and gradient.

        The head runs twice at positions with a gradient, since it needs all tokens of a span.
        """
        student, teacher = sides(self.heads, self.vocabularies, both, batch)
        everywhere = torch.ones(len(student.tokens), dtype=torch.bool)
        with torch.no_grad(), self._autocast():
            found, ratios = span_losses(student, teacher)
        refuse_broken(found, batch, everywhere, ("loss", "student_logprob"))
        losses = {name: one.double().cpu().numpy() for name, one in found._asdict().items()}
        weights = self._weights(batch, losses)
        gradient = torch.zeros_like(both[0])
        chosen = torch.as_tensor(weights != 0, device=gradient.device)
        if bool(chosen.any()):
            scale = torch.as_tensor(weights / self._rollout_shares(batch, weights)).to(ratios)
            part = student._replace(states=student.states[chosen], tokens=student.tokens[chosen])
            with self._autocast():
                gradient[chosen] = span_gradient(part, ratios[chosen], scale[chosen])
        self.sums.add(log_ratio=losses["loss"].sum(), spans=sum(len(one.spans) for one in batch))
        return losses, weights, gradient


def sides(
    heads: tuple[Head, Head],
    vocabularies: tuple[OwnVocabulary, OwnVocabulary],
    both: tuple[Tensor, Tensor],
    batch: Sequence[TrainingRollout],
) -> tuple[Side, Side]:
    """Student and teacher at the tokens of a batch, with its spans numbered through."""
    numbers = count()
    tokens: tuple[list[int], list[int]] = [], []
    spans: tuple[list[int], list[int]] = [], []
    for rollout in batch:
        tokens[0].extend(rollout.scored.response)
        tokens[1].extend(rollout.teacher_response)
        for span in rollout.spans:
            number = next(numbers)
            spans[0].extend([number] * len(rollout.scored.response[span.student]))
            spans[1].extend([number] * len(rollout.teacher_response[span.teacher]))
    device = both[0].device
    student, teacher = (
        Side(head, vocabulary, states, *(torch.tensor(one, device=device) for one in lists))
        for head, vocabulary, states, *lists in zip(
            heads, vocabularies, both, tokens, spans, strict=True
        )
    )
    return student, teacher


def log_ratios(losses: Floats, batch: Sequence[TrainingRollout]) -> list[float]:
    """The sum of the losses of each rollout: log s - log t over its spans, in nats."""
    ends = np.cumsum([len(rollout.scored.response) for rollout in batch])
    return [float(part.sum()) for part in np.split(losses, ends[:-1])]
