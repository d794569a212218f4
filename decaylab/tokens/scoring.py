"""Scoring: student and teacher on the same tokens, one row of statistics per response token.

Each policy reads its own prompt followed by the same response. Its body runs over batches of whole
rollouts; its head is applied to a few positions at a time (`chunks`). Statistics are over the ids
that both tokenizers share, at one temperature, in float32.

Row i of a response is the distribution that predicts token i: row 0 depends only on the prompt, and
the end-of-turn token, if present, has a row too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.errors import UserError
from decaylab.maths.divergences import divergences
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import SharedVocabulary, share_vocabulary
from decaylab.rollouts.batches import in_batches
from decaylab.rollouts.sampling import Ids, OnProgress
from decaylab.tokens.chunks import HEAD_ELEMENTS as HEAD_ELEMENTS
from decaylab.tokens.chunks import over_chunks
from decaylab.tokens.heads import Head, HeadPrecision
from decaylab.tokens.ranks import rank_statistics

# Positions x vocabulary per computation of statistics; on a CPU sized to its caches.
STATISTICS_ELEMENTS = {"cpu": 2**19, "cuda": 2**27}

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class ScoringSettings:
    """How tokens are scored.

    temperature: of both policies' distributions. head: precision of the output heads. batch_tokens:
    tokens per batch, padding included.
    """

    temperature: float = 1.0
    head: HeadPrecision = "model"
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, got {self.batch_tokens}")


@dataclass(frozen=True)
class Rollout:
    """A response with each policy's prompt."""

    rollout_id: str
    student_prompt: Ids
    teacher_prompt: Ids
    response: Ids

    def __post_init__(self) -> None:
        if not (self.response and self.student_prompt and self.teacher_prompt):
            raise ValueError(f"rollout {self.rollout_id}: prompt and response must not be empty")

    @property
    def contexts(self) -> tuple[tuple[Ids, Ids], tuple[Ids, Ids]]:
        """Prompt and response of the student, and as the teacher reads them."""
        return (self.student_prompt, self.response), (self.teacher_prompt, self.response)

    @property
    def responses(self) -> tuple[Ids, ...]:
        """The response, in each vocabulary in which it is read."""
        return (self.response,)

    @property
    def context(self) -> int:
        """Tokens of the longer of the two contexts."""
        return max(len(prompt) + len(response) for prompt, response in self.contexts)


Scorable = TypeVar("Scorable", bound=Rollout)


@dataclass(frozen=True)
class ScoredRollout:
    """Statistics of one rollout's tokens, each column [time].

    top: policy -> ids and probabilities of its top 5, each [time, 5]; empty unless requested.
    """

    rollout_id: str
    columns: Columns
    top: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]]


class BatchScorer(ABC, Generic[Scorable]):
    """Scores rollouts in batches, the longest first. If memory runs out, batches are halved."""

    def __init__(
        self,
        student: Policy,
        teacher: Policy,
        settings: ScoringSettings,
        on_warning: Callable[[str], None] | None,
    ) -> None:
        self.student, self.teacher, self.settings = student, teacher, settings
        self.heads = Head(student, settings.head), Head(teacher, settings.head)
        self.on_warning = on_warning or (lambda message: None)
        self.batch_tokens = settings.batch_tokens

    def score(
        self,
        rollouts: Sequence[Scorable],
        on_progress: OnProgress | None = None,
        shown: frozenset[str] = frozenset(),
    ) -> list[ScoredRollout]:
        """One result per rollout, in order. shown: ids of rollouts whose top 5 are kept.

        If memory runs out, it halves the batches, warns and continues.

        Raises:
            UserError: a rollout exceeds a policy's context, or the logits contain NaN (names policy
                and rollout).
        """
        for rollout in rollouts:
            self._check(rollout)

        def next_batch(left: Sequence[int]) -> Sequence[int]:
            return left[: max(1, self.batch_tokens // rollouts[left[0]].context)]

        def make(batch: Sequence[int]) -> list[ScoredRollout]:
            return self._batch([rollouts[index] for index in batch], shown)

        def shrink(batch: Sequence[int]) -> None:
            self.batch_tokens = sum(rollouts[index].context for index in batch) // 2
            self.on_warning(
                f"out of memory: scoring continues with batches of {self.batch_tokens} tokens"
            )

        # Longest first, so that memory runs out early or not at all.
        order = sorted(range(len(rollouts)), key=lambda index: -rollouts[index].context)
        scored: dict[int, ScoredRollout] = {}
        for batch, results in in_batches(order, next_batch, make, shrink):
            scored.update(zip(batch, results, strict=True))
            if on_progress:
                on_progress(sum(len(rollouts[index].response) for index in batch), len(batch))
        return [scored[index] for index in range(len(rollouts))]

    def _check(self, rollout: Scorable) -> None:
        for policy, (prompt, response) in zip(
            (self.student, self.teacher), rollout.contexts, strict=True
        ):
            length = len(prompt) + len(response) - 1  # the last token is not read
            if length > policy.context_length:
                raise UserError(
                    f"rollout {rollout.rollout_id} needs {length} positions, more than the context "
                    f"of {policy.name} ({policy.context_length}); use shorter rollouts "
                    "(--max-tokens)"
                )

    @abstractmethod
    def _batch(self, rollouts: list[Scorable], shown: frozenset[str]) -> list[ScoredRollout]:
        """The statistics of each rollout, in order. shown: ids of those whose top 5 are kept."""

    def _states(self, rollouts: list[Scorable]) -> tuple[Tensor, Tensor]:
        """Both policies' states that predict their response tokens, each [positions, width]."""
        student, teacher = zip(*(rollout.contexts for rollout in rollouts), strict=True)
        return states(self.heads[0], list(student)), states(self.heads[1], list(teacher))

    def _refuse_nan(self, columns: Columns, rollouts: list[Scorable]) -> None:
        # NaN of either policy makes the KL NaN; NaN of the student also its entropy.
        broken = np.isnan(columns["reverse_kl"])
        if not broken.any():
            return
        place = int(broken.argmax())
        policy = self.student if np.isnan(columns["student_entropy"][place]) else self.teacher
        for rollout in rollouts:
            if place < len(rollout.response):
                self._raise_nan(policy, rollout.rollout_id, place)
            place -= len(rollout.response)

    @staticmethod
    def _raise_nan(policy: Policy, rollout_id: str, position: int) -> None:
        raise UserError(
            f"NaN in the logits of {policy.name} at response position {position} of rollout "
            f"{rollout_id}; try --dtype float32"
        )


class Scorer(BatchScorer[Rollout]):
    """A student and a teacher of one vocabulary, ready to score.

    Raises:
        UserError: the tokenizers assign different tokens to one id, or a float32 head is not
            available.
    """

    def __init__(
        self,
        student: Policy,
        teacher: Policy,
        settings: ScoringSettings = ScoringSettings(),
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.vocabulary = share_vocabulary(student, teacher)
        super().__init__(student, teacher, settings, on_warning)

    def _check(self, rollout: Rollout) -> None:
        check_readable(rollout, self.vocabulary)
        super()._check(rollout)

    @torch.inference_mode()
    def _batch(self, rollouts: list[Rollout], shown: frozenset[str]) -> list[ScoredRollout]:
        student, teacher = self._states(rollouts)
        device = student.device
        tokens = torch.tensor(
            [token for rollout in rollouts for token in rollout.response], device=device
        )

        def at_chunk(student: Tensor, teacher: Tensor, rows: slice) -> dict[str, Tensor]:
            temperature = self.settings.temperature
            return token_statistics(student, teacher, tokens[rows], self.vocabulary, temperature)

        few = STATISTICS_ELEMENTS.get(device.type, STATISTICS_ELEMENTS["cuda"])
        statistics = over_chunks(self.heads, (student, teacher), at_chunk, statistics_elements=few)
        columns = {name: values.cpu().numpy() for name, values in statistics.items()}
        self._refuse_nan(columns, rollouts)
        return [
            _of_rollout(rollout, values, shown) for rollout, values in _split(rollouts, columns)
        ]


def check_readable(rollout: Rollout, vocabulary: SharedVocabulary) -> None:
    """Raises ValueError if a token of the response is outside the shared vocabulary."""
    readable = vocabulary.readable(rollout.response)
    if readable < len(rollout.response):
        raise ValueError(
            f"rollout {rollout.rollout_id}: token {rollout.response[readable]} at response "
            f"position {readable} is outside the shared vocabulary; cut the response before it"
        )


def token_statistics(
    student_logits: Tensor,
    teacher_logits: Tensor,
    tokens: Tensor,
    vocabulary: SharedVocabulary,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """Columns of the tokens table from logits [positions, vocab], and both policies' top 5.

    tokens: the response token at each position.
    """
    student, student_removed = vocabulary.logprobs(scaled(student_logits, temperature))
    teacher, teacher_removed = vocabulary.logprobs(scaled(teacher_logits, temperature))
    taken = tokens[:, None]
    return {
        **divergences(student, teacher)._asdict(),
        "student_logprob": student.gather(1, taken)[:, 0],
        "teacher_logprob": teacher.gather(1, taken)[:, 0],
        **rank_statistics(student, teacher, tokens),
        "student_removed_mass": student_removed,
        "teacher_removed_mass": teacher_removed,
    }


def scaled(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits divided by the temperature, in float32, or float64 if the model uses it."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if temperature == 1 else wide / temperature


def states(head: Head, contexts: list[tuple[Ids, Ids]]) -> Tensor:
    """States that predict the responses of (prompt, response) contexts, [positions, width].

    Rollout by rollout, in order.
    """
    device = head.model.device
    longest = max(len(prompt) + len(response) - 1 for prompt, response in contexts)
    ids = torch.zeros(len(contexts), longest, dtype=torch.long)
    rows, columns = [], []
    for row, (prompt, response) in enumerate(contexts):
        context = (prompt + response)[:-1]
        ids[row, : len(context)] = torch.tensor(context)
        rows.append(torch.full((len(response),), row))
        columns.append(torch.arange(len(prompt) - 1, len(context)))
    return head.states(ids.to(device), torch.cat(rows).to(device), torch.cat(columns).to(device))


def _split(rollouts: list[Rollout], columns: Columns) -> Iterator[tuple[Rollout, Columns]]:
    start = 0
    for rollout in rollouts:
        end = start + len(rollout.response)
        yield rollout, {name: values[start:end] for name, values in columns.items()}
        start = end


def _of_rollout(rollout: Rollout, columns: Columns, shown: frozenset[str]) -> ScoredRollout:
    tops = {}
    for policy in ("student", "teacher"):
        ids = columns.pop(f"{policy}_top_ids").astype(np.int32)
        tops[policy] = ids, np.exp(columns.pop(f"{policy}_top_logprobs"))
    return ScoredRollout(rollout.rollout_id, columns, tops if rollout.rollout_id in shown else {})
