"""One step's gradient: rollouts scored by both policies, weighted by the selector, taken back.

Gradients are sums over positions until the whole step is known; the loop then divides by the one
denominator that holds for all micro-batches and all processes. So neither their number nor their
sizes change what a position counts for.
"""

from __future__ import annotations

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
    """A loss that is NaN or infinite, with its place."""

    def __init__(self, rollout: TrainingRollout, position: int, values: dict[str, float]) -> None:
        super().__init__(
            f"the loss is not finite at response position {position} of rollout "
            f"{rollout.scored.rollout_id}"
        )
        self.rollout, self.position, self.values = rollout, position, values


class Gradient:
    """Accumulates a step's gradient in the parameters' ``grad``, and its records in ``sums``."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        vocabulary: SharedVocabulary,
        options: TrainOptions,
        meter: Meter,
        budget: int | None,
        most: Callable[[int], int] | None = None,
    ) -> None:
        """budget: of this step's selection; None: every token carries loss.

        most: of a sharded student, the largest of a number over all processes. A pass through such
        a student is one of all processes. So all make as many as the one with the most
        micro-batches, and add nothing in the passes that they have no rollouts for.
        """
        self.heads, self.vocabulary, self.options, self.meter = heads, vocabulary, options, meter
        self.budget, self.sums, self.most = budget, Sums(), most
        self.selector = SELECTORS[options.selector]

    def add(self, rollouts: Sequence[TrainingRollout]) -> None:
        """Takes the gradient of all these rollouts, micro-batch by micro-batch.

        Raises:
            NotFinite: a loss that is not finite; some micro-batches may have been taken already.
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
        """A pass of the student, forward and back, whose gradient is 0."""
        with self.meter.phase("training"):
            with self._autocast():
                student = states(self.heads[0], [((0,), (0,))])
            torch.autograd.backward(student, torch.zeros_like(student))

    def _add_batch(self, batch: Batch) -> None:
        scored = [rollout.scored for rollout in batch]
        with self.meter.phase("scoring"), torch.no_grad(), self._autocast():
            teacher = states(
                self.heads[1], [(rollout.teacher_prompt, rollout.response) for rollout in scored]
            )
        with self.meter.phase("training"):
            with self._autocast():
                contexts = [(rollout.student_prompt, rollout.response) for rollout in scored]
                student = states(self.heads[0], contexts)
            both = student.detach(), teacher.to(student.device)
            try:
                losses, weights, gradient = self._gradient(both, batch)
            except NotFinite:
                if self.most:
                    torch.autograd.backward(student, torch.zeros_like(student))
                raise
            # Without a weight the way back is saved, unless other processes take part in it.
            if weights.any() or self.most:
                torch.autograd.backward(student, gradient)
        shares = self._rollout_shares(batch, weights)
        self.sums.add_batch(batch, losses, weights, shares, self.options.bins or ())

    def _gradient(
        self, both: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[dict[str, Floats], Floats, Tensor]:
        """Losses and weights of each position, and the gradient in the student's states.

        A selector that needs the losses has them before it weighs. Otherwise those of the selected
        positions come with the gradient, and those of the rest afterwards.
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
            # Those that the selector weighed by are of all positions.
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
        """Losses at the positions of the batch that ``places`` marks, 0 elsewhere.

        weights: of those positions; with them also the gradient in the student's states there.
        """
        student, teacher = both
        tokens = [token for rollout in batch for token in rollout.scored.response]
        taken = torch.tensor(tokens, device=places.device)[places]
        if not bool(places.all()):  # otherwise nothing is copied
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
        _refuse_broken(by_position, batch, places)
        losses = {}
        for name, column in by_position._asdict().items():
            losses[name] = np.zeros(len(places))
            losses[name][places.cpu().numpy()] = column.double().cpu().numpy()
        return losses, slope

    def _weights(self, batch: Batch, losses: dict[str, Floats]) -> Floats:
        """What the selector gives each position of the batch, [positions]."""
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
        """The divisor of each position's weight: its rollout's selected tokens, or 1.

        It is 1 if all tokens of a step count alike.
        """
        shares = np.ones(len(weights))
        if self.options.normalise == "rollouts":
            for _, rows in rows_of(batch):
                shares[rows] = max(int(np.count_nonzero(weights[rows])), 1)
        return shares

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.options.autocast == "off":
            return nullcontext()
        return torch.autocast(self.heads[0].model.device.type, dtype=torch.bfloat16)


def batch_tokens_of(options: TrainOptions, device: torch.device) -> int:
    """Tokens of a micro-batch: as set, or what suits the device."""
    return options.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def _refuse_broken(found: TokenLosses, batch: Batch, places: Tensor) -> None:
    """Raises NotFinite at the first position with a loss that is not finite."""
    finite = torch.stack([found.loss, found.reverse_kl]).isfinite().all(0)
    if bool(finite.all()):
        return
    at = int((~finite).nonzero()[0, 0])
    place = int(places.nonzero()[at, 0])
    for rollout, rows in rows_of(batch):
        if place < rows.stop:
            values = {name: float(column[at]) for name, column in found._asdict().items()}
            raise NotFinite(rollout, rollout.offset + place - rows.start, values)
