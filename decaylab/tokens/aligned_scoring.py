"""Scoring with two tokenizers: both policies on the same text, each in its own tokens.

One row per token of the student, as with one tokenizer, and the same columns, but:

    reverse_kl, forward_kl, js     of the next byte given the bytes so far (`BytesSoFar`), at tokens
                                   that begin at a boundary of both
    ranks, modes, overlaps         over the strings that are one token in both, at those tokens
    *_removed_mass                 on all other tokens, at those tokens
    student_logprob, *_entropy     of each policy over its own tokens
    teacher_logprob                of the teacher's tokens of the span that begins there

At all other tokens they are NaN, or 0 where they are counts. Columns of their own are listed in
`token_table.SPAN_COLUMNS`. Source: docs/two-tokenizers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.maths.byte_laws import among, written_by_both
from decaylab.maths.bytes_so_far import BytesSoFar
from decaylab.maths.divergences import divergences, entropy
from decaylab.policies.alignment import Aligner, Alignment
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.policies.policy import Policy
from decaylab.rollouts.sampling import Ids
from decaylab.tokens.aligned_columns import TOPS, Floats, columns_of
from decaylab.tokens.chunks import head_elements, over_chunks
from decaylab.tokens.heads import Head
from decaylab.tokens.ranks import rank_statistics
from decaylab.tokens.scoring import (
    STATISTICS_ELEMENTS,
    BatchScorer,
    Columns,
    Rollout,
    ScoredRollout,
    Scorer,
    ScoringSettings,
    scaled,
)
from decaylab.tokens.shared_strings import NONE, SharedStrings, by_bytes
from decaylab.tokens.token_table import (
    ONE_TOKENIZER,
    TWO_TOKENIZERS,
    Kind,
)


@dataclass(frozen=True)
class AlignedRollout(Rollout):
    """A response in the ids of both. response: in those of the student."""

    alignment: Alignment

    @property
    def contexts(self) -> tuple[tuple[Ids, Ids], tuple[Ids, Ids]]:
        """Prompt and response of the student, and those of the teacher."""
        return (
            (self.student_prompt, self.alignment.student),
            (self.teacher_prompt, self.alignment.teacher),
        )

    @property
    def responses(self) -> tuple[Ids, ...]:
        """The response in the ids of both."""
        return self.alignment.student, self.alignment.teacher


class AlignedScorer(BatchScorer[AlignedRollout]):
    """A student and a teacher of two tokenizers, ready to score.

    Raises:
        UserError: the tokens of one of them cannot be read as bytes, or a float32 head is not
            available.
    """

    def __init__(
        self,
        student: Policy,
        teacher: Policy,
        settings: ScoringSettings = ScoringSettings(),
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(student, teacher, settings, on_warning)
        aligner = Aligner(student, teacher)
        readers = aligner.student, aligner.teacher
        self.own = OwnVocabulary(student), OwnVocabulary(teacher)
        self.inside = self.beginning = SharedStrings(*readers)
        if any(reader.drops_blank for reader in readers):
            self.beginning = SharedStrings(*readers, begins=True)
        self.readers = readers
        self.vocabularies = [(by_bytes(one), by_bytes(one, begins=True)) for one in readers]
        boundaries = [inside.at_boundary for inside, _ in self.vocabularies]
        self.written_by_both = written_by_both(boundaries[0], boundaries[1])

    @torch.inference_mode()
    def _batch(self, rollouts: list[AlignedRollout], shown: frozenset[str]) -> list[ScoredRollout]:
        both = self._states(rollouts)
        device = both[0].device
        tokens = _tokens(rollouts, device)
        places = _places(rollouts, device)
        laws = [self._laws(rollouts, side) for side in (0, 1)]
        first = torch.tensor(
            [place == 0 for one in rollouts for place in one.alignment.boundaries[0].tolist()]
        )

        def at_chunk(student: Tensor, teacher: Tensor, rows: slice) -> dict[str, Tensor]:
            logprobs = self._logprobs(student, 0), self._logprobs(teacher, 1)
            columns = self._ranks(logprobs, tokens[0][places[0][rows]], first[rows])
            for side in (0, 1):
                its = places[side][rows]
                laws[side].add(its.tolist(), logprobs[side])
                own = self.own[side].taken(logprobs[side], tokens[side][its])
                columns[f"logprob_{side}"] = own
                columns[f"entropy_{side}"] = entropy(self.own[side].ends_as_one(logprobs[side]))
            return columns

        few = STATISTICS_ELEMENTS.get(device.type, STATISTICS_ELEMENTS["cuda"])
        at_both = both[0][places[0]], both[1][places[1]]
        columns = over_chunks(self.heads, at_both, at_chunk, statistics_elements=few)
        sides = []
        for side in (0, 1):
            known = {name: columns.pop(f"{name}_{side}") for name in ("logprob", "entropy")}
            own = self._side(side, both[side], tokens[side], places[side], known, laws[side])
            sides.append(own)
        columns |= self._divergences(laws, sides)
        at_rows = {name: values.cpu().numpy() for name, values in columns.items()}
        return self._results(rollouts, at_rows, sides, shown)

    def _laws(self, rollouts: Sequence[AlignedRollout], side: int) -> BytesSoFar:
        """The boundaries of the rollouts, for the laws of the next byte."""
        reader, laws = self.readers[side], BytesSoFar(*self.vocabularies[side])
        for rollout in rollouts:
            alignment = rollout.alignment
            ids = (alignment.student, alignment.teacher)[side]
            body = ids[:-1] if alignment.ended else ids
            pieces = reader.of(body)
            blank = pieces[:1] == [b""] and bool(reader.table[body[0]])
            if alignment.ended:
                pieces.append(b"")
            texts = reader.policy.control.texts
            written = [b"" if token in texts else piece for token, piece in zip(ids, pieces)]
            laws.response(written, alignment.boundaries[side].tolist(), blank=blank)
        return laws

    def _divergences(
        self, laws: Sequence[BytesSoFar], sides: Sequence[dict[str, Floats]]
    ) -> dict[str, Tensor]:
        """Divergences of the next byte at boundaries of both, given the bytes so far."""
        (student, ours), (teacher, theirs) = (
            among(law.logprobs(torch.from_numpy(own["logprob"])), self.written_by_both)
            for law, own in zip(laws, sides, strict=True)
        )
        found = divergences(student, teacher)
        return {
            "reverse_kl": found.reverse_kl,
            "forward_kl": found.forward_kl,
            "js": found.js,
            "student_other_mass": ours,
            "teacher_other_mass": theirs,
        }

    def _ranks(
        self, logprobs: tuple[Tensor, Tensor], tokens: Tensor, first: Tensor
    ) -> dict[str, Tensor]:
        """Ranks and masses over shared strings. first: true at the beginning of a response."""
        columns = self._compared(logprobs, tokens, self.inside)
        if self.beginning is not self.inside and bool(first.any()):
            of_first = logprobs[0][first], logprobs[1][first]
            there = self._compared(of_first, tokens[first], self.beginning)
            for name, values in there.items():
                columns[name][first] = values
        return columns

    def _compared(
        self, logprobs: tuple[Tensor, Tensor], tokens: Tensor, strings: SharedStrings
    ) -> dict[str, Tensor]:
        student, student_removed = strings.over_strings(logprobs[0], self.own[0], 0)
        teacher, teacher_removed = strings.over_strings(logprobs[1], self.own[1], 1)
        place = strings.place(tokens, self.own[0])
        ranks = rank_statistics(student, teacher, place.clamp(min=0))
        ranks["token_rank"] = torch.where(place == NONE, 0, ranks["token_rank"])
        for top in TOPS:
            ranks[f"{top}_ids"] = strings.student_ids(ranks[f"{top}_ids"])
        masses = {"student_removed_mass": student_removed, "teacher_removed_mass": teacher_removed}
        return ranks | masses

    def _logprobs(self, logits: Tensor, side: int) -> Tensor:
        return self.own[side].logprobs(scaled(logits, self.settings.temperature))

    def _side(
        self,
        side: int,
        states: Tensor,
        tokens: Tensor,
        places: Tensor,
        known: dict[str, Tensor],
        laws: BytesSoFar,
    ) -> dict[str, Floats]:
        """Log-probability and entropy of every token of one side, those at ``places`` known."""
        head, own = self.heads[side], self.own[side]
        columns = {name: values.new_empty(len(states)) for name, values in known.items()}
        rest = torch.ones(len(states), dtype=torch.bool, device=states.device)
        rest[places] = False
        others = rest.nonzero()[:, 0]
        for name, values in known.items():
            columns[name][places] = values
        size = _rows(head, own)
        for start in range(0, len(others), size):
            rows = others[start : start + size]
            logprobs = self._logprobs(head.logits(states[rows]), side)
            laws.add(rows.tolist(), logprobs)
            columns["logprob"][rows] = own.taken(logprobs, tokens[rows]).to(states.device)
            columns["entropy"][rows] = entropy(own.ends_as_one(logprobs)).to(states.device)
        return {name: values.cpu().numpy() for name, values in columns.items()}

    def _results(
        self,
        rollouts: list[AlignedRollout],
        at_rows: Columns,
        sides: list[dict[str, Floats]],
        shown: frozenset[str],
    ) -> list[ScoredRollout]:
        results, row, starts = [], 0, [0, 0]
        for rollout in rollouts:
            alignment = rollout.alignment
            stops = starts[0] + len(alignment.student), starts[1] + len(alignment.teacher)
            own = [
                {name: values[starts[side] : stops[side]] for name, values in sides[side].items()}
                for side in (0, 1)
            ]
            count = len(alignment.boundaries[0])
            here = {name: values[row : row + count] for name, values in at_rows.items()}
            self._refuse_broken(rollout, own)
            results.append(
                columns_of(rollout.rollout_id, alignment, here, own, rollout.rollout_id in shown)
            )
            row, starts = row + count, [*stops]
        return results

    def _refuse_broken(self, rollout: AlignedRollout, own: list[dict[str, Floats]]) -> None:
        for policy, columns in zip((self.student, self.teacher), own, strict=True):
            broken = np.isnan(columns["entropy"]) | np.isnan(columns["logprob"])
            if broken.any():
                self._raise_nan(policy, rollout.rollout_id, int(broken.argmax()))


def scoring_of(*, two_tokenizers: bool) -> tuple[Kind, Callable[..., BatchScorer[Any]]]:
    """The tokens table and the scorer of a pair of one tokenizer, or of two."""
    if two_tokenizers:
        return TWO_TOKENIZERS, AlignedScorer
    return ONE_TOKENIZER, Scorer


def _tokens(rollouts: Sequence[AlignedRollout], device: torch.device) -> tuple[Tensor, Tensor]:
    """The response tokens of both sides, each [positions]."""
    sides: list[list[int]] = [[], []]
    for rollout in rollouts:
        sides[0] += rollout.alignment.student
        sides[1] += rollout.alignment.teacher
    return torch.tensor(sides[0], device=device), torch.tensor(sides[1], device=device)


def _places(rollouts: Sequence[AlignedRollout], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the tokens at boundaries of both stand among all response tokens of each side."""
    found: list[list[NDArray[np.int64]]] = [[], []]
    starts = [0, 0]
    for rollout in rollouts:
        alignment = rollout.alignment
        for side, places in enumerate(alignment.boundaries):
            found[side].append(places + starts[side])
        starts[0] += len(alignment.student)
        starts[1] += len(alignment.teacher)
    sides = [torch.from_numpy(np.concatenate(places)).to(device) for places in found]
    return sides[0], sides[1]


def _rows(head: Head, own: OwnVocabulary) -> int:
    """Positions per application of one head."""
    return max(1, head_elements(head.model.device.type) // own.width)
