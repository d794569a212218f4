"""Approximate scores of a teacher that only an engine holds: a lower bound of the reverse KL, from
a few of its probabilities.

The student's distribution is exact. Of the teacher's the engine tells the log-probabilities of some
ids at each position: the student's own likeliest where vLLM can be asked for ids (its second model
runner, on GPUs), otherwise the teacher's likeliest; the token that was taken always. All other ids
are one bucket, of which each policy's mass is known. The KL of two distributions can only fall
where outcomes are put together, so what is left is a lower bound of the exact reverse KL; with
every id it is that KL. Scores are at temperature 1: engines know no other for tokens that are
given. The student's distribution is over the ids that both policies have, as in `scoring`; the
teacher's is over all that its head has, as engines tell it.

Row i scores response token i, as in `scoring`: row 0 follows from the prompt alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.errors import UserError
from decaylab.maths.divergences import entropy, expectation
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Columns, Rollout, states, top

LEAST_MASS = 1e-6
"""What float32 log-probabilities leave uncertain of a remaining mass: a teacher's is never taken
for less."""
NONE = -1  # an id that is not there: padding, or the taken token a second time


class PartialKL(NamedTuple):
    """Each [...]: the bound in nats, and both policies' masses on the ids behind it."""

    reverse_kl_bound: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def partial_reverse_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> PartialKL:
    """Lower bound of KL(student || teacher) at each position, in nats, from some ids and one bucket
    for all others.

    sum over the ids of s (log s - log t), and the same of the two remaining masses. It grows with
    every id that is added, and is never above the exact KL (data-processing inequality: Cover and
    Thomas, Elements of Information Theory, 2.8). Where a teacher's remaining mass is under
    `LEAST_MASS`, that is taken for it: the bound stays one.

    student_logprobs, teacher_logprobs: [..., ids], of the same distinct ids; -inf in both where
    there is none.
    """
    student, teacher = student_logprobs.double(), teacher_logprobs.double()
    own = student.exp()
    student_mass, teacher_mass = own.sum(-1), teacher.exp().sum(-1)
    rest = (1 - student_mass).clamp(min=0)
    others = (1 - teacher_mass).clamp(min=LEAST_MASS)
    gap = torch.where(own > 0, student - teacher, 0.0)
    tail = torch.where(
        rest > 0, rest * (rest / others).clamp(min=torch.finfo(rest.dtype).tiny).log(), 0.0
    )
    bound = (expectation(own, gap) + tail).clamp(min=0)
    kind = student_logprobs.dtype
    return PartialKL(
        bound.to(kind), student_mass.clamp(max=1).to(kind), teacher_mass.clamp(max=1).to(kind)
    )


class TeacherRows(NamedTuple):
    """Ids and their log-probabilities under the teacher, each [time, ids]; the taken token comes
    first, `NONE` is -inf."""

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]


Context = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt and response."""


def likeliest_rows(
    engine: VllmEngine, contexts: Sequence[Context], count: int
) -> list[TeacherRows]:
    """The teacher's `count` likeliest ids at each response token, and the token itself."""
    asked = {"prompt_logprobs": min(count, engine.policy.head_width), "flat_logprobs": True}
    outputs = engine.run(
        [prompt + response for prompt, response in contexts], [asked] * len(contexts)
    )
    return [
        _likeliest(output.prompt_logprobs, len(prompt), response)
        for output, (prompt, response) in zip(outputs, contexts, strict=True)
    ]


def _likeliest(flat: Any, start: int, response: tuple[int, ...]) -> TeacherRows:
    """Of vLLM's entries, one a token of prompt and response, those of the response. Entry 0 is
    empty; entry i is of token i."""
    first, last = flat.start_indices[start], flat.end_indices[-1]
    ids = np.array(flat.token_ids[first:last], dtype=np.int64).reshape(len(response), -1)
    logprobs = np.array(flat.logprobs[first:last], dtype=np.float32).reshape(ids.shape)
    assert (ids[:, 0] == response).all(), "each entry begins with the token that was given"
    twice = np.zeros(ids.shape, dtype=bool)
    twice[:, 1:] = ids[:, 1:] == ids[:, :1]
    return TeacherRows(
        np.where(twice, NONE, ids), np.where(twice, -np.inf, logprobs).astype(np.float32)
    )


def rows_of_ids(
    engine: VllmEngine, contexts: Sequence[Context], wanted: Sequence[NDArray[np.int64]]
) -> list[TeacherRows]:
    """The teacher at the wanted ids [time, ids] of each response, and at its tokens."""
    tables = [
        _with_taken(response, ids) for (_, response), ids in zip(contexts, wanted, strict=True)
    ]
    asked = [
        {"prompt_logprob_token_ids": table, "prompt_logprob_start": len(prompt) - 1}
        for (prompt, _), table in zip(contexts, tables, strict=True)
    ]
    outputs = engine.run([prompt + response for prompt, response in contexts], asked)
    found = []
    for output, table in zip(outputs, tables, strict=True):
        scores = np.asarray(output.prompt_token_id_logprobs, dtype=np.float32)
        assert scores.shape == table.shape, "one row a response token"
        found.append(TeacherRows(table, scores))
    return found


def _with_taken(response: tuple[int, ...], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    taken = np.array(response, dtype=np.int64)[:, None]
    return np.concatenate([taken, np.where(ids == taken, NONE, ids)], axis=1)


@dataclass(frozen=True)
class ServedScores:
    """Statistics of one rollout's tokens, each column [time]: both log-probabilities of the token,
    the student's entropy, the bound, and both masses on the ids behind it."""

    rollout_id: str
    columns: Columns


class ServedScorer:
    """A student with its weights here and a teacher in an engine, ready to score.

    count: of the ids at each position beside the taken token; up to the engine's max_logprobs.

    Raises:
        UserError: two tokenizers that give an id two meanings, or more ids than the engine was made
        for.
    """

    def __init__(self, student: Policy, teacher: VllmEngine, count: int = 64) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not teacher.scores_given_ids and count > teacher.settings.max_logprobs:
            raise UserError(
                f"{count} ids a position are more than vLLM was set up to tell, at most "
                f"{teacher.settings.max_logprobs}; "
                "raise max_logprobs"
            )
        self.student, self.teacher, self.count = student, teacher, count
        self.vocabulary = share_vocabulary(student, teacher.policy)
        self.head = Head(student)

    @property
    def route(self) -> str:
        """Which ids the bound stands on, as a sentence for run.json."""
        whose = "student's" if self.teacher.scores_given_ids else "teacher's"
        return (
            f"a lower bound from the {whose} {self.count} likeliest ids, the taken token and "
            "the rest as one"
        )

    def score(
        self, rollouts: Sequence[Rollout], on_progress: Callable[[int, int], None] | None = None
    ) -> list[ServedScores]:
        """One result a rollout, in their order.

        Raises:
            UserError: a rollout beyond the teacher's context in the engine.
        """
        for one in rollouts:
            self._check(one)
        contexts = [(one.teacher_prompt, one.response) for one in rollouts]
        if self.teacher.scores_given_ids:
            wanted = [top(self._student(one), self.count)[1].cpu().numpy() for one in rollouts]
            rows = rows_of_ids(self.teacher, contexts, wanted)
        else:
            rows = likeliest_rows(self.teacher, contexts, self.count)
        found = []
        for one, row in zip(rollouts, rows, strict=True):
            found.append(ServedScores(one.rollout_id, _columns(self._student(one), row)))
            if on_progress:
                on_progress(len(one.response), 1)
        return found

    def _check(self, rollout: Rollout) -> None:
        readable = self.vocabulary.readable(rollout.response)
        if readable < len(rollout.response):
            raise ValueError(
                f"rollout {rollout.rollout_id}: token {rollout.response[readable]} at response "
                f"position {readable} is not one "
                "that both policies have; give the response up to there"
            )
        length = (
            len(rollout.teacher_prompt) + len(rollout.response) + 1
        )  # vLLM writes one token behind what it scores
        if length > self.teacher.max_model_len:
            raise UserError(
                f"rollout {rollout.rollout_id} needs {length} positions, beyond the "
                f"{self.teacher.max_model_len} of "
                f"{self.teacher.policy.name} in vLLM; give shorter rollouts (--max-tokens)"
            )

    @torch.inference_mode()
    def _student(self, rollout: Rollout) -> Tensor:
        """Exact log-probabilities over the shared ids, [time, vocab]."""
        logits = self.head.logits(states(self.head, [(rollout.student_prompt, rollout.response)]))
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return self.vocabulary.logprobs(wide)[0]


def _columns(student: Tensor, rows: TeacherRows) -> Columns:
    ids = torch.from_numpy(rows.ids).to(student.device)
    teacher = torch.from_numpy(rows.logprobs).to(student.device)
    known = (ids >= 0) & (
        ids < student.shape[1]
    )  # what only the teacher has, the student never writes
    own = student.gather(1, ids.clamp(0, student.shape[1] - 1)).masked_fill(~known, -torch.inf)
    bound = partial_reverse_kl(own, teacher)
    found = {
        "student_logprob": own[:, 0],
        "teacher_logprob": teacher[:, 0],
        "student_entropy": entropy(student),
        **bound._asdict(),
    }
    return {name: values.cpu().numpy() for name, values in found.items()}
