"""One step's gradient: rollouts scored by both policies, weighted by the selector, taken back
through the student.

Gradients are sums over positions until the whole step is known; the loop then divides by the one
denominator that holds for all micro-batches and all processes. So neither their number nor their
sizes change what a position counts for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.analyses.behaviour import repetition_3gram
from decaylab.maths.selection import SELECTORS, Signals, weigh
from decaylab.options.training import BATCH_TOKENS, TrainOptions
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import states
from decaylab.trainer.draw import TrainingRollout, generator, micro_batches
from decaylab.trainer.loss import TokenLosses, chunked_loss
from decaylab.trainer.machinery.meter import Meter

Floats = NDArray[np.float64]
REPETITIVE = 0.5
"""A rollout is repetitive where more than this share of its 3-grams came before."""


class NotFinite(ValueError):
    """A loss that is no number: where it stands, for whoever looks into it."""

    def __init__(self, rollout: TrainingRollout, position: int, values: dict[str, float]) -> None:
        super().__init__(
            f"the loss is not finite at response position {position} of rollout "
            f"{rollout.scored.rollout_id}"
        )
        self.rollout, self.position, self.values = rollout, position, values


@dataclass
class Sums:
    """What a step's records are made of: sums over the tokens and rollouts of this process, by
    name."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + float(value)


class Gradient:
    """Accumulates the gradient of one step in the parameters' ``grad``, and what is recorded of it
    in ``sums``."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        vocabulary: SharedVocabulary,
        options: TrainOptions,
        meter: Meter,
        step: int,
        budget: int | None,
        most: Callable[[int], int] | None = None,
    ) -> None:
        """budget: of this step's selection; None where every token carries loss.

        most: of a sharded student, the largest of a number over all processes. A pass through such
        a student is one of all processes, so all make as many as the one with the most
        micro-batches, with nothing to add where they have none.
        """
        self.heads, self.vocabulary, self.options, self.meter = heads, vocabulary, options, meter
        self.step, self.budget, self.sums, self.most = step, budget, Sums(), most

    def add(self, rollouts: Sequence[TrainingRollout]) -> None:
        """Takes the gradient of all these rollouts, micro-batch by micro-batch.

        Raises:
            NotFinite: a loss that is no number; some micro-batches may have been taken already.
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

    def _add_batch(self, batch: list[TrainingRollout]) -> None:
        scored = [one.scored for one in batch]
        with self.meter.phase("scoring"), torch.no_grad(), self._autocast():
            teacher = states(self.heads[1], [(one.teacher_prompt, one.response) for one in scored])
        with self.meter.phase("training"):
            with self._autocast():
                student = states(
                    self.heads[0], [(one.student_prompt, one.response) for one in scored]
                )
            teacher = teacher.to(student.device)
            tokens = torch.tensor(
                [token for one in scored for token in one.response], device=student.device
            )
            try:
                losses, weights, gradient = self._gradient(student.detach(), teacher, tokens, batch)
            except NotFinite:
                if self.most:
                    torch.autograd.backward(student, torch.zeros_like(student))
                raise
            if weights.any() or self.most:
                torch.autograd.backward(student, gradient)
        self._record(batch, losses, weights)

    def _gradient(
        self, student: Tensor, teacher: Tensor, tokens: Tensor, batch: list[TrainingRollout]
    ) -> tuple[dict[str, Floats], Floats, Tensor]:
        """Losses and weights of each position, and the gradient in the student's states."""
        every = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        if SELECTORS[self.options.selector].needs_signals:
            losses = self._losses(student, teacher, tokens, every, batch)
            weights = self._weights(batch, losses)
        else:
            losses, weights = {}, self._weights(batch, None)
        gradient = torch.zeros_like(student)
        chosen = torch.as_tensor(weights != 0, device=tokens.device)
        if bool(chosen.any()):
            scale = torch.as_tensor(
                weights / self._rollout_shares(batch, weights), device=tokens.device
            )
            own = scale[chosen].to(
                torch.float64 if student.dtype == torch.float64 else torch.float32
            )
            with self._autocast():
                found, slope = chunked_loss(
                    self.heads,
                    (student[chosen], teacher[chosen]),
                    tokens[chosen],
                    self.vocabulary,
                    own,
                    self.options.divergence,
                )
            assert slope is not None
            gradient[chosen] = slope
            self._refuse_broken(found, batch, chosen)
            if not losses:
                losses = _spread(found, chosen)
        rest = ~chosen
        if not SELECTORS[self.options.selector].needs_signals and bool(rest.any()):
            others = self._losses(student[rest], teacher[rest], tokens[rest], rest, batch)
            losses = {
                name: np.where(rest.cpu().numpy(), others[name], losses.get(name, 0.0))
                for name in others
            }
        return losses, weights, gradient

    def _losses(
        self,
        student: Tensor,
        teacher: Tensor,
        tokens: Tensor,
        places: Tensor,
        batch: list[TrainingRollout],
    ) -> dict[str, Floats]:
        """Losses without a gradient at the positions of the batch that ``places`` marks."""
        with self._autocast():
            found, _ = chunked_loss(
                self.heads,
                (student, teacher),
                tokens,
                self.vocabulary,
                None,
                self.options.divergence,
            )
        self._refuse_broken(found, batch, places)
        return _spread(found, places)

    def _weights(self, batch: list[TrainingRollout], losses: dict[str, Floats] | None) -> Floats:
        """What the selector gives each position of the batch, [positions]."""
        parts = []
        for one, rows in _rows(batch):
            time = rows.stop - rows.start
            columns = (losses[name][rows] if losses else np.zeros(time) for name in Signals._fields)
            budget = time if self.budget is None else self.budget
            rng = generator(self.options.seed, one.scored.rollout_id)
            parts.append(weigh(self.options.selector, Signals(*columns), budget, rng))
        return np.concatenate(parts)

    def _rollout_shares(self, batch: list[TrainingRollout], weights: Floats) -> Floats:
        """What each position's weight is divided by now: its rollout's selected tokens, or 1 where
        tokens count alike."""
        shares = np.ones(len(weights))
        if self.options.normalise == "rollouts":
            for _, rows in _rows(batch):
                shares[rows] = max(int(np.count_nonzero(weights[rows])), 1)
        return shares

    def _refuse_broken(
        self, found: TokenLosses, batch: list[TrainingRollout], places: Tensor
    ) -> None:
        whole = torch.stack([found.loss, found.reverse_kl]).isfinite().all(0)
        if bool(whole.all()):
            return
        at = int((~whole).nonzero()[0, 0])
        place = int(places.nonzero()[at, 0])
        for one, rows in _rows(batch):
            if place < rows.stop:
                values = {name: float(column[at]) for name, column in found._asdict().items()}
                raise NotFinite(one, one.offset + place - rows.start, values)

    def _record(
        self, batch: list[TrainingRollout], losses: dict[str, Floats], weights: Floats
    ) -> None:
        positions = np.concatenate(
            [np.arange(len(one.scored.response)) + one.offset for one in batch]
        )
        shares = self._rollout_shares(batch, weights)
        chosen, kl = weights != 0, losses["reverse_kl"]
        self.sums.add(
            loss=float((weights / shares * losses["loss"]).sum()),
            selected=int(chosen.sum()),
            selecting=sum(bool(chosen[rows].any()) for _, rows in _rows(batch)),
            weight=float(weights.sum()),
            weighted_position=float((weights * positions).sum()),
            scored=len(weights),
            reverse_kl=float(kl.sum()),
            inside=float(kl[chosen].sum()),
            student_entropy=float(losses["student_entropy"].sum()),
            teacher_entropy=float(losses["teacher_entropy"].sum()),
            rollouts=len(batch),
            written=sum(len(one.written) for one in batch),
            ended=sum(one.ended for one in batch),
            repetitive=sum(repetition_3gram(one.written) > REPETITIVE for one in batch),
        )
        bins = np.asarray(self.options.bins)
        cells = np.searchsorted(bins, positions, side="right") - 1
        for code, low in enumerate(bins):
            here = cells == code
            self.sums.add(
                **{f"tokens_{low}": int(here.sum()), f"reverse_kl_{low}": float(kl[here].sum())}
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.options.autocast == "off":
            return nullcontext()
        return torch.autocast(self.heads[0].model.device.type, dtype=torch.bfloat16)


def batch_tokens_of(options: TrainOptions, device: torch.device) -> int:
    """Tokens of a micro-batch: what was said, or what suits the device."""
    return options.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def denominator(sums: dict[str, float], normalise: str) -> float:
    """What the step's summed loss and gradient are divided by: its selected tokens, or its rollouts
    that have any."""
    return sums.get("selected" if normalise == "tokens" else "selecting", 0.0)


def record(sums: dict[str, float], options: TrainOptions) -> dict[str, float]:
    """A row of the metrics file from the sums over all processes; NaN where there is nothing to be
    a mean of."""

    def mean(name: str, over: str) -> float:
        return sums.get(name, 0.0) / sums[over] if sums.get(over) else math.nan

    bins = options.bins or ()
    return {
        "loss": mean("loss", "selected" if options.normalise == "tokens" else "selecting"),
        "reverse_kl": mean("reverse_kl", "scored"),
        **{f"reverse_kl_{low}": mean(f"reverse_kl_{low}", f"tokens_{low}") for low in bins},
        **{f"tokens_{low}": sums.get(f"tokens_{low}", 0.0) for low in bins},
        "reverse_kl_inside": sums.get("inside", 0.0),
        "reverse_kl_outside": sums.get("reverse_kl", 0.0) - sums.get("inside", 0.0),
        "student_entropy": mean("student_entropy", "scored"),
        "teacher_entropy": mean("teacher_entropy", "scored"),
        "tokens_sampled": sums.get("sampled", 0.0),
        "tokens_scored": sums.get("scored", 0.0),
        "tokens_selected": sums.get("selected", 0.0),
        "mean_selected_position": mean("weighted_position", "weight"),
        "response_tokens": mean("written", "rollouts"),
        "natural_stop_share": mean("ended", "rollouts"),
        "repetition_share": mean("repetitive", "rollouts"),
        "rollouts": sums.get("rollouts", 0.0),
        "left_out": sums.get("left_out", 0.0),
    }


def _rows(batch: list[TrainingRollout]) -> Iterator[tuple[TrainingRollout, slice]]:
    """Each rollout with its positions in the batch."""
    start = 0
    for one in batch:
        end = start + len(one.scored.response)
        yield one, slice(start, end)
        start = end


def _spread(found: TokenLosses, places: Tensor) -> dict[str, Floats]:
    """Columns over all positions of the batch, 0 where ``places`` marks none."""
    spread = {}
    for name, column in found._asdict().items():
        whole = np.zeros(len(places))
        whole[places.cpu().numpy()] = column.double().cpu().numpy()
        spread[name] = whole
    return spread
