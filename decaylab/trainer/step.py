"""The gradient of a step: rollouts are scored by both policies, weighted by the selector, and
backpropagated.

Gradients are sums over positions. At the end of the step the loop divides them by one denominator
for all micro-batches and processes, so a position's weight does not depend on their number or size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decaylab.maths.selection import SELECTORS, Signals, weigh
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import states
from decaylab.trainer.draw import TrainingRollout, generator, micro_batches
from decaylab.trainer.loss import TokenLosses, chunked_loss
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.metrics import Floats, Sums, rows_of

Batch = list[TrainingRollout]


class NotFinite(ValueError):
    """The loss is NaN or infinite; the message names the place."""

    def __init__(self, rollout: TrainingRollout, position: int, values: dict[str, float]) -> None:
        super().__init__(
            f"the loss is not finite at response position {position} of rollout "
            f"{rollout.scored.rollout_id}"
        )
        self.rollout, self.position, self.values = rollout, position, values


class Accumulated(ABC):
    """Accumulates a step's gradient in the parameters' ``grad``, and its records in ``sums``."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        options: TrainOptions,
        meter: Meter,
        budget: int | None,
        most: Callable[[int], int] | None = None,
    ) -> None:
        """budget: positions selected per rollout; None: every token carries loss.

        most: for a sharded student, maximum of a number over all processes. Such a student needs
        all processes in every pass, so each makes as many passes as the one with the most
        micro-batches, with a zero gradient in passes for which it has no rollouts.
        """
        self.heads, self.options, self.meter = heads, options, meter
        self.budget, self.sums, self.most = budget, Sums(), most
        self.selector = SELECTORS[options.selector]

    def add(self, rollouts: Sequence[TrainingRollout]) -> None:
        """Adds the gradient of these rollouts, micro-batch by micro-batch.

        Raises:
            NotFinite: a loss is not finite; some micro-batches may have been added already.
        """
        batches = micro_batches(rollouts, batch_tokens_of(self.options, self.heads[0].model.device))
        passes = self.most(len(batches)) if self.most else len(batches)
        broken = None
        for number in range(passes):
            if broken or number >= len(batches):
                self._add_nothing()
                continue
            try:
                self._add_batch(batches[number])
            except NotFinite as error:
                if self.most is None:
                    raise
                broken = error
        if broken:
            raise broken

    def _add_nothing(self) -> None:
        """A forward and backward pass of the student with gradient 0."""
        with self.meter.phase("training"):
            with self._autocast():
                student = states(self.heads[0], [((0,), (0,))])
            torch.autograd.backward(student, torch.zeros_like(student))

    def _add_batch(self, batch: Batch) -> None:
        with self.meter.phase("scoring"), torch.no_grad(), self._autocast():
            theirs = [(one.scored.teacher_prompt, one.teacher_response) for one in batch]
            teacher = states(self.heads[1], theirs)
        with self.meter.phase("training"):
            with self._autocast():
                own = [(one.scored.student_prompt, one.scored.response) for one in batch]
                student = states(self.heads[0], own)
            both = student.detach(), teacher.to(student.device)
            try:
                losses, weights, gradient = self._gradient(both, batch)
            except NotFinite:
                if self.most:
                    torch.autograd.backward(student, torch.zeros_like(student))
                raise
            # Without weights the backward pass is skipped, unless other processes take part.
            if weights.any() or self.most:
                torch.autograd.backward(student, gradient)
        shares = self._rollout_shares(batch, weights)
        self.sums.add_batch(batch, losses, weights, shares, self.options.bins or ())

    @abstractmethod
    def _gradient(
        self, both: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[dict[str, Floats], Floats, Tensor]:
        """Losses and weights of each position of the student, and the gradient in its states.

        both: states of student and teacher at their response tokens.
        """

    def _weights(self, batch: Batch, losses: dict[str, Floats]) -> Floats:
        """The selector's weight of each position of the batch, [positions]."""
        weights = []
        for rollout, rows in rows_of(batch):
            time = rows.stop - rows.start
            nothing = np.zeros(time)
            columns = [losses[name][rows] if losses else nothing for name in Signals._fields]
            budget = time if self.budget is None else self.budget
            rng = generator(self.options.seed, rollout.scored.rollout_id)
            weights.append(weigh(self.options.selector, Signals(*columns), budget, rng))
        return np.concatenate(weights)

    def _rollout_shares(self, batch: Batch, weights: Floats) -> Floats:
        """The divisor of each position's weight: the number of selected tokens of its rollout, or 1
        if all tokens of a step have equal weight."""
        shares = np.ones(len(weights))
        if self.options.normalise == "rollouts":
            for _, rows in rows_of(batch):
                shares[rows] = max(int(np.count_nonzero(weights[rows])), 1)
        return shares

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.options.autocast == "off":
            return nullcontext()
        return torch.autocast(self.heads[0].model.device.type, dtype=torch.bfloat16)


class Gradient(Accumulated):
    """A step's gradient where both policies have one tokenizer."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        vocabulary: SharedVocabulary,
        options: TrainOptions,
        meter: Meter,
        budget: int | None,
        most: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(heads, options, meter, budget, most)
        self.vocabulary = vocabulary

    def _gradient(
        self, both: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[dict[str, Floats], Floats, Tensor]:
        """Losses, weights and gradient.

        If the selector needs the losses, they are computed first. Otherwise those of selected
        positions are computed with the gradient, and the others afterwards.
        """
        device = both[0].device
        losses: dict[str, Floats] = {}
        if self.selector.needs_signals:
            places = torch.ones(len(both[0]), dtype=torch.bool, device=device)
            losses, _ = self._losses(both, batch, places)
        weights = self._weights(batch, losses)
        gradient = torch.zeros_like(both[0])
        chosen = torch.as_tensor(weights != 0, device=device)
        if bool(chosen.any()):
            scale = torch.as_tensor(weights / self._rollout_shares(batch, weights), device=device)
            selected, slope = self._losses(both, batch, chosen, scale[chosen])
            assert slope is not None
            gradient[chosen] = slope
            # The losses for the selector cover all positions.
            losses = losses or selected
        if not self.selector.needs_signals and not bool(chosen.all()):
            others, _ = self._losses(both, batch, ~chosen)
            losses = {name: others[name] + losses.get(name, 0.0) for name in others}
        return losses, weights, gradient

    def _losses(
        self,
        both: tuple[Tensor, Tensor],
        batch: Batch,
        places: Tensor,
        weights: Tensor | None = None,
    ) -> tuple[dict[str, Floats], Tensor | None]:
        """Losses at the positions of the batch marked in ``places``, 0 elsewhere.

        weights: of those positions; if given, also returns the gradient in their states.
        """
        student, teacher = both
        tokens = [token for rollout in batch for token in rollout.scored.response]
        taken = torch.tensor(tokens, device=places.device)[places]
        if not bool(places.all()):  # avoids a copy
            student, teacher = student[places], teacher[places]
        if weights is not None:
            is_wide = student.dtype == torch.float64
            weights = weights.to(torch.float64 if is_wide else torch.float32)
        with self._autocast():
            by_position, slope = chunked_loss(
                self.heads,
                (student, teacher),
                taken,
                self.vocabulary,
                weights,
                self.options.divergence,
            )
        refuse_broken(by_position, batch, places, ("loss", "reverse_kl"))
        losses = {}
        for name, column in by_position._asdict().items():
            losses[name] = np.zeros(len(places))
            losses[name][places.cpu().numpy()] = column.double().cpu().numpy()
        return losses, slope


def batch_tokens_of(options: TrainOptions, device: torch.device) -> int:
    """Tokens per micro-batch: as set, or the default of the device."""
    return options.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def refuse_broken(found: TokenLosses, batch: Batch, places: Tensor, names: tuple[str, ...]) -> None:
    """Raises NotFinite for the first position at which a column of these names is not finite."""
    finite = torch.stack([getattr(found, name) for name in names]).isfinite().all(0)
    if bool(finite.all()):
        return
    at = int((~finite).nonzero()[0, 0])
    place = int(places.nonzero()[at, 0])
    for rollout, rows in rows_of(batch):
        if place < rows.stop:
            values = {name: float(column[at]) for name, column in found._asdict().items()}
            raise NotFinite(rollout, rollout.offset + place - rows.start, values)
