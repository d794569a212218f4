"""The next-token laws of student and teacher at chosen places: their masses on sets of tokens.

    asked = Asked(rollout, (17, 30), {"true": ((5, 9), (7,))})
    SetScorer(student, teacher).at([asked])

Laws are those of `scoring`: over the shared vocabulary, in float32, each policy behind its own
prompt. The law at position i predicts token i of the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from decaylab.rollouts.sampling import Ids, OnProgress
from decaylab.tokens.chunks import over_chunks
from decaylab.tokens.scoring import (
    STATISTICS_ELEMENTS,
    Columns,
    Rollout,
    ScoredRollout,
    Scorer,
    scaled,
    states,
)

NONE = -1  # pads sets of tokens to one length


@dataclass(frozen=True)
class Asked:
    """Places of one rollout, and the sets of tokens there.

    positions: at least one. sets: name -> a set of ids for each position; ids are distinct.
    """

    rollout: Rollout
    positions: tuple[int, ...]
    sets: Mapping[str, tuple[Ids, ...]]

    def __post_init__(self) -> None:
        for name, sets in self.sets.items():
            if len(sets) != len(self.positions):
                raise ValueError(
                    f"{name} needs a set for each of {len(self.positions)} positions, got "
                    f"{len(sets)}"
                )
            if any(len(set(ids)) < len(ids) for ids in sets):
                raise ValueError(f"{name}: an id stands in a set twice")


class SetStatistics(NamedTuple):
    """Each [places].

    student, teacher: probability of the set. pairs: probability that of two tokens drawn from the
    student, the first is in the set and the second is not. concordant: that moreover the first one
    has the larger log t/s; ties count half.
    """

    student: Tensor
    teacher: Tensor
    pairs: Tensor
    concordant: Tensor


def set_statistics(student: Tensor, teacher: Tensor, ids: Tensor) -> SetStatistics:
    """What both laws say of a set of tokens at each place.

    student, teacher: log-probabilities, [places, vocab]. ids: distinct, [places, set], padded with
    `NONE`.
    """
    places, vocab = student.shape
    inside = torch.zeros(places, vocab + 1, dtype=torch.bool, device=student.device)
    inside.scatter_(1, torch.where(ids == NONE, vocab, ids), True)
    inside = inside[:, :vocab]
    s, t, ratio = student.exp(), teacher.exp(), teacher - student
    outside = s.masked_fill(inside, 0.0)
    concordant = torch.zeros_like(s[:, 0])
    for column in ids.T:
        chosen = column.clamp(min=0)[:, None]
        own = ratio.gather(1, chosen)
        beaten = outside * ((ratio < own).to(s.dtype) + 0.5 * (ratio == own).to(s.dtype))
        weight = s.gather(1, chosen)[:, 0].masked_fill(column == NONE, 0.0)
        concordant += weight * beaten.sum(1)
    mass = s.masked_fill(~inside, 0.0).sum(1)
    of_teacher = t.masked_fill(~inside, 0.0).sum(1)
    return SetStatistics(mass, of_teacher, mass * outside.sum(1), concordant)


class SetScorer(Scorer):
    """A student and a teacher, ready to give their masses on sets of tokens."""

    def at(self, asked: Sequence[Asked], on_progress: OnProgress | None = None) -> list[Columns]:
        """Of each rollout the columns ``SET_student``, ``SET_teacher``, ``SET_pairs`` and
        ``SET_concordant`` (`SetStatistics`), each [places].

        Raises:
            UserError: as `Scorer.score`.
        """
        self._asked = {one.rollout.rollout_id: one for one in asked}
        scored = self.score([one.rollout for one in asked], on_progress)
        return [one.columns for one in scored]

    @torch.inference_mode()
    def _batch(self, rollouts: list[Rollout], shown: frozenset[str]) -> list[ScoredRollout]:
        asked = [self._asked[rollout.rollout_id] for rollout in rollouts]
        rows = _rows(asked)
        student = states(self.heads[0], [(one.student_prompt, one.response) for one in rollouts])
        teacher = states(self.heads[1], [(one.teacher_prompt, one.response) for one in rollouts])
        sets = {name: _padded(asked, name).to(student.device) for name in asked[0].sets}
        temperature = self.settings.temperature

        def at_chunk(student: Tensor, teacher: Tensor, chunk: slice) -> dict[str, Tensor]:
            own, _ = self.vocabulary.logprobs(scaled(student, temperature))
            others, _ = self.vocabulary.logprobs(scaled(teacher, temperature))
            found: dict[str, Tensor] = {}
            for name, ids in sets.items():
                statistics = set_statistics(own, others, ids[chunk])._asdict()
                found |= {f"{name}_{what}": values for what, values in statistics.items()}
            return found

        few = STATISTICS_ELEMENTS.get(student.device.type, STATISTICS_ELEMENTS["cuda"])
        at_places = student[rows.to(student.device)], teacher[rows.to(teacher.device)]
        found = over_chunks(self.heads, at_places, at_chunk, statistics_elements=few)
        self._refuse_undefined(found, asked)
        sizes = [len(one.positions) for one in asked]
        ends = np.cumsum(sizes)[:-1]
        parts = {name: np.split(values.cpu().numpy(), ends) for name, values in found.items()}
        results = []
        for place, one in enumerate(rollouts):
            columns = {name: split[place] for name, split in parts.items()}
            results.append(ScoredRollout(one.rollout_id, columns, {}))
        return results

    def _refuse_undefined(self, found: Mapping[str, Tensor], asked: Sequence[Asked]) -> None:
        """Has NaN reported as scoring reports it."""
        broken = {name: values for name, values in found.items() if bool(values.isnan().any())}
        if not broken:
            return
        name, values = next(iter(broken.items()))
        place = int(values.isnan().cpu().int().argmax())
        where = [(one, at) for one in asked for at in one.positions][place]
        policy = self.teacher if name.endswith("_teacher") else self.student
        self._raise_nan(policy, where[0].rollout.rollout_id, where[1])


def _rows(asked: Sequence[Asked]) -> Tensor:
    """Row of each place among the states of the rollouts, which stand one after another."""
    rows, start = [], 0
    for one in asked:
        rows += [start + position for position in one.positions]
        start += len(one.rollout.response)
    return torch.tensor(rows)


def _padded(asked: Sequence[Asked], name: str) -> Tensor:
    """The sets of this name at each place, [places, largest set], padded with `NONE`."""
    sets = [ids for one in asked for ids in one.sets[name]]
    width = max(1, *map(len, sets))
    return torch.tensor([[*ids, *[NONE] * (width - len(ids))] for ids in sets])
