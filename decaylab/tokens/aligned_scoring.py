"""Scoring with two tokenizers: both policies on the same text, each in its own tokens.

One row per token of the student, as with one tokenizer, and the same columns, but:

    reverse_kl, forward_kl, js       of the next byte, at tokens that begin at a boundary of both
    ranks, modes, overlaps           over the strings that are one token in both, at those tokens
    *_removed_mass                   on all other tokens, at those tokens
    student_logprob, *_entropy       of each policy over its own tokens
    teacher_logprob                  of the teacher's tokens of the span that begins there

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

from decaylab.maths.divergences import divergences, entropy
from decaylab.policies.alignment import Aligner, Alignment
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.policies.policy import Policy
from decaylab.rollouts.sampling import Ids
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
from decaylab.tokens.shared_strings import NONE, SharedStrings
from decaylab.tokens.token_table import (
    COLUMN_TYPES,
    ONE_TOKENIZER,
    SPAN_COLUMNS,
    TWO_TOKENIZERS,
    WHOLE,
    Kind,
)

COUNTS = ("token_rank", "student_top1_rank", "top16_overlap")
TOPS = ("student_top", "teacher_top")
Floats = NDArray[np.float32]


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

    @torch.inference_mode()
    def _batch(self, rollouts: list[AlignedRollout], shown: frozenset[str]) -> list[ScoredRollout]:
        both = self._states(rollouts)
        device = both[0].device
        tokens = _tokens(rollouts, device)
        places = _places(rollouts, device)
        first = torch.tensor(
            [place == 0 for one in rollouts for place in one.alignment.boundaries[0].tolist()]
        )

        def at_chunk(student: Tensor, teacher: Tensor, rows: slice) -> dict[str, Tensor]:
            taken = tokens[0][places[0][rows]], tokens[1][places[1][rows]]
            return self._at_boundaries((student, teacher), taken, first[rows])

        few = STATISTICS_ELEMENTS.get(device.type, STATISTICS_ELEMENTS["cuda"])
        at_both = both[0][places[0]], both[1][places[1]]
        columns = over_chunks(self.heads, at_both, at_chunk, statistics_elements=few)
        sides = []
        for side in (0, 1):
            taken = {name: columns.pop(f"{name}_{side}") for name in ("logprob", "entropy")}
            sides.append(self._side(side, both[side], tokens[side], places[side], taken))
        at_rows = {name: values.cpu().numpy() for name, values in columns.items()}
        return self._results(rollouts, at_rows, sides, shown)

    def _at_boundaries(
        self, logits: tuple[Tensor, Tensor], taken: tuple[Tensor, Tensor], first: Tensor
    ) -> dict[str, Tensor]:
        """Columns at boundaries of both, and log-probability and entropy of each side's token."""
        logprobs = self._logprobs(logits[0], 0), self._logprobs(logits[1], 1)
        columns = self._compared(logprobs, taken[0], self.inside)
        if self.beginning is not self.inside and bool(first.any()):
            of_first = logprobs[0][first], logprobs[1][first]
            there = self._compared(of_first, taken[0][first], self.beginning)
            for name, values in there.items():
                columns[name][first] = values
        for side in (0, 1):
            columns[f"logprob_{side}"] = self.own[side].taken(logprobs[side], taken[side])
            columns[f"entropy_{side}"] = entropy(logprobs[side])
        return columns

    def _compared(
        self, logprobs: tuple[Tensor, Tensor], tokens: Tensor, strings: SharedStrings
    ) -> dict[str, Tensor]:
        """Next-byte divergences, and ranks over shared strings."""
        of_bytes = [strings.events[side].logprobs(logprobs[side]) for side in (0, 1)]
        student, student_removed = strings.over_strings(logprobs[0], self.own[0], 0)
        teacher, teacher_removed = strings.over_strings(logprobs[1], self.own[1], 1)
        place = strings.place(tokens, self.own[0])
        compared = divergences(*of_bytes)
        ranks = rank_statistics(student, teacher, place.clamp(min=0))
        ranks["token_rank"] = torch.where(place == NONE, 0, ranks["token_rank"])
        for top in TOPS:
            ranks[f"{top}_ids"] = strings.student_ids(ranks[f"{top}_ids"])
        return {
            "reverse_kl": compared.reverse_kl,
            "forward_kl": compared.forward_kl,
            "js": compared.js,
            **ranks,
            "student_removed_mass": student_removed,
            "teacher_removed_mass": teacher_removed,
        }

    def _logprobs(self, logits: Tensor, side: int) -> Tensor:
        return self.own[side].logprobs(scaled(logits, self.settings.temperature))

    def _side(
        self, side: int, states: Tensor, tokens: Tensor, places: Tensor, known: dict[str, Tensor]
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
            columns["logprob"][rows] = own.taken(logprobs, tokens[rows]).to(states.device)
            columns["entropy"][rows] = entropy(logprobs).to(states.device)
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
            results.append(_of_rollout(rollout, here, own, rollout.rollout_id in shown))
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


def _of_rollout(
    rollout: AlignedRollout,
    at_boundaries: Columns,
    own: list[dict[str, Floats]],
    shown: bool,
) -> ScoredRollout:
    """The columns of one rollout, each [tokens of the student]."""
    alignment, time = rollout.alignment, len(rollout.alignment.student)
    places, their_places = alignment.boundaries
    columns: Columns = {}
    tops: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
    for policy, top in zip(("student", "teacher"), TOPS, strict=True):
        ids = at_boundaries[f"{top}_ids"]
        everywhere = np.zeros((time, ids.shape[1]), dtype=np.int32)
        everywhere[places] = ids
        probabilities = np.full(everywhere.shape, np.nan, dtype=np.float32)
        probabilities[places] = np.exp(at_boundaries[f"{top}_logprobs"])
        tops[policy] = everywhere, probabilities
    for name in COLUMN_TYPES:
        if name in at_boundaries:
            columns[name] = _spread(at_boundaries[name], places, time, whole=name in COUNTS)
    columns["student_logprob"] = own[0]["logprob"]
    columns["student_entropy"] = own[0]["entropy"]
    columns["teacher_entropy"] = _spread(own[1]["entropy"][their_places], places, time)
    columns |= _of_spans(alignment, own)
    return ScoredRollout(rollout.rollout_id, columns, tops if shown else {})


def _spread(
    values: NDArray[np.generic], places: NDArray[np.int64], time: int, *, whole: bool = False
) -> NDArray[np.generic]:
    """Values at some places of [time]; elsewhere NaN, or 0 for whole numbers."""
    kind = np.int32 if whole else np.float32
    everywhere: NDArray[np.generic] = np.full(time, 0 if whole else np.nan, dtype=kind)
    everywhere[places] = values
    return everywhere


def _of_spans(alignment: Alignment, own: list[dict[str, Floats]]) -> Columns:
    """Columns of the spans, at their first tokens; NaN elsewhere."""
    time, spans = len(alignment.student), alignment.spans
    first = np.array([span.student.start for span in spans], dtype=np.int64)
    boundary = np.zeros(time, dtype=bool)
    boundary[alignment.boundaries[0]] = True
    sums = {
        (side, name): np.array(
            [
                own[side][name][(span.student, span.teacher)[side]].sum(dtype=np.float64)
                for span in spans
            ]
        )
        for side in (0, 1)
        for name in ("logprob", "entropy")
    }
    sizes = np.diff([0, *(span.stop for span in spans)])
    of_spans = {
        "teacher_logprob": sums[1, "logprob"],
        "span_log_ratio": sums[0, "logprob"] - sums[1, "logprob"],
        "student_span_entropy": sums[0, "entropy"],
        "teacher_span_entropy": sums[1, "entropy"],
        "span_bytes": sizes,
        "span_student_tokens": np.array([s.student.stop - s.student.start for s in spans]),
        "span_teacher_tokens": np.array([s.teacher.stop - s.teacher.start for s in spans]),
    }
    columns: Columns = {"at_shared_boundary": boundary}
    for name, values in of_spans.items():
        whole = SPAN_COLUMNS.get(name) == WHOLE
        columns[name] = _spread(values, first, time, whole=whole)
    return columns
