"""Approximate scores of a teacher that only an engine holds: a lower bound of the reverse KL.

The student's distribution is exact. Of the teacher's, the engine gives log-probabilities of some
ids at each position: the student's own top ids if vLLM can be asked for ids (its second model
runner, on GPUs), otherwise the teacher's; the token that was taken always. All other ids are one
bucket, of which each policy's mass is known. The KL of two distributions can only fall where
outcomes are put together, so the result is a lower bound of the exact reverse KL; with every id it
is that KL. Scores are at temperature 1: engines know no other for given tokens. The student's
distribution is over the ids that both policies have, as in `scoring`; the teacher's is over all
that its head has, as engines give it.

Row i scores response token i, as in `scoring`: row 0 follows from the prompt alone.

CACHE/served-KEY/tokens.parquet   one row per token: rollout_id, position, `COLUMNS`, and the route,
                                  which says what ids the bound is from; beside it the record, and
                                  parts as long as the work goes on, as in `score_store`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as cache_of
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from decaylab.errors import UserError
from decaylab.maths.divergences import entropy, expectation
from decaylab.policies.loading import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Ids, OnProgress
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.runs import store
from decaylab.runs.store import Parts
from decaylab.tokens import score_store
from decaylab.tokens.heads import Head
from decaylab.tokens.score_store import ScoreKey
from decaylab.tokens.scoring import Columns, Rollout, check_readable, scaled, states, top
from decaylab.tokens.token_table import REAL, WHOLE, WORDS

TOKENS = "decaylab.served-tokens/1"
COLUMNS = (
    "student_logprob",
    "teacher_logprob",
    "student_entropy",
    "reverse_kl_bound",
    "student_mass",
    "teacher_mass",
)
SCHEMA = pa.schema(
    {"rollout_id": WORDS, "position": WHOLE, **dict.fromkeys(COLUMNS, REAL), "route": WORDS}
)
LEAST_MASS = 1e-6
"""What float32 log-probabilities leave uncertain of a remaining mass: the least taken for it."""
NONE = -1  # an id that is not there: padding, or the taken token a second time


class PartialKL(NamedTuple):
    """Each [...]: the bound in nats, and both policies' masses on the ids behind it."""

    reverse_kl_bound: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def partial_reverse_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> PartialKL:
    """Lower bound of KL(student || teacher) at each position, in nats, from some ids and a bucket.

    It is the sum over the ids of s (log s - log t), and the same of the two remaining masses. It
    grows with every id that is added, and is never above the exact KL (data-processing inequality:
    Cover and Thomas, Elements of Information Theory, 2.8). A teacher's remaining mass below
    `LEAST_MASS` is taken for that: the bound stays one.

    student_logprobs, teacher_logprobs: [..., ids], of the same distinct ids; -inf in both without
    one.
    """
    student, teacher = student_logprobs.double(), teacher_logprobs.double()
    probabilities = student.exp()
    student_mass, teacher_mass = probabilities.sum(-1), teacher.exp().sum(-1)
    rest = (1 - student_mass).clamp(min=0)
    others = (1 - teacher_mass).clamp(min=LEAST_MASS)
    gap = torch.where(probabilities > 0, student - teacher, 0.0)
    ratio = (rest / others).clamp(min=torch.finfo(rest.dtype).tiny)
    tail = torch.where(rest > 0, rest * ratio.log(), 0.0)
    bound = (expectation(probabilities, gap) + tail).clamp(min=0)
    kind = student_logprobs.dtype
    return PartialKL(
        bound.to(kind), student_mass.clamp(max=1).to(kind), teacher_mass.clamp(max=1).to(kind)
    )


class TeacherRows(NamedTuple):
    """Ids and their log-probabilities under the teacher, each [time, ids].

    The taken token comes first; `NONE` has -inf.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]


Context = tuple[Ids, Ids]
"""Prompt and response."""


def likeliest_rows(
    engine: VllmEngine, contexts: Sequence[Context], count: int
) -> list[TeacherRows]:
    """The teacher's top ``count`` ids at each response token, and the token itself."""
    asked = {"prompt_logprobs": min(count, engine.policy.head_width), "flat_logprobs": True}
    outputs = engine.run(
        [prompt + response for prompt, response in contexts], [asked] * len(contexts)
    )
    return [
        _likeliest(output.prompt_logprobs, len(prompt), response)
        for output, (prompt, response) in zip(outputs, contexts, strict=True)
    ]


def _likeliest(flat: Any, start: int, response: Ids) -> TeacherRows:
    """The response's entries among vLLM's, which has one per token behind an empty one first."""
    first, last = flat.start_indices[start], flat.end_indices[-1]
    ids = np.array(flat.token_ids[first:last], dtype=np.int64).reshape(len(response), -1)
    logprobs = np.array(flat.logprobs[first:last], dtype=np.float32).reshape(ids.shape)
    assert (ids[:, 0] == response).all(), "each entry begins with the token that was given"
    twice = np.zeros(ids.shape, dtype=bool)
    twice[:, 1:] = ids[:, 1:] == ids[:, :1]
    logprobs[twice] = -np.inf
    return TeacherRows(np.where(twice, NONE, ids), logprobs)


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
    rows = []
    for output, table in zip(outputs, tables, strict=True):
        scores = np.asarray(output.prompt_token_id_logprobs, dtype=np.float32)
        assert scores.shape == table.shape, "one row a response token"
        rows.append(TeacherRows(table, scores))
    return rows


def _with_taken(response: Ids, ids: NDArray[np.int64]) -> NDArray[np.int64]:
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
                f"{count} ids a position are more than vLLM was set up to give, at most "
                f"{teacher.settings.max_logprobs}; raise max_logprobs"
            )
        self.student, self.teacher, self.count = student, teacher, count
        self.vocabulary = share_vocabulary(student, teacher.policy)
        self.head = Head(student)

    @property
    def route(self) -> str:
        """Which ids the bound is computed from, as a sentence for run.json."""
        whose = "student's" if self.teacher.scores_given_ids else "teacher's"
        return (
            f"a lower bound from the {whose} {self.count} likeliest ids, the taken token and "
            "the rest as one"
        )

    def score(
        self, rollouts: Sequence[Rollout], on_progress: OnProgress | None = None
    ) -> list[ServedScores]:
        """One result per rollout, in their order.

        Raises:
            UserError: a rollout beyond the teacher's context in the engine.
        """
        for rollout in rollouts:
            self._check(rollout)
        contexts = [(rollout.teacher_prompt, rollout.response) for rollout in rollouts]
        if self.teacher.scores_given_ids:
            wanted = [
                top(self._student(rollout), self.count)[1].cpu().numpy() for rollout in rollouts
            ]
            rows = rows_of_ids(self.teacher, contexts, wanted)
        else:
            rows = likeliest_rows(self.teacher, contexts, self.count)
        scores = []
        for rollout, row in zip(rollouts, rows, strict=True):
            scores.append(ServedScores(rollout.rollout_id, _columns(self._student(rollout), row)))
            if on_progress:
                on_progress(len(rollout.response), 1)
        return scores

    def table(self, rollouts: Sequence[Rollout], on_progress: OnProgress) -> pa.Table:
        """One row per token, with the columns of `SCHEMA`."""
        scores = self.score(rollouts, on_progress)
        columns: dict[str, Any] = {
            name: np.concatenate([scored_rollout.columns[name] for scored_rollout in scores])
            for name in COLUMNS
        }
        columns["route"] = [self.route] * len(columns["student_logprob"])
        return score_store.token_rows(SCHEMA, rollouts, columns)

    def _check(self, rollout: Rollout) -> None:
        check_readable(rollout, self.vocabulary)
        # vLLM writes one token behind what it scores.
        length = len(rollout.teacher_prompt) + len(rollout.response) + 1
        if length > self.teacher.max_model_len:
            raise UserError(
                f"rollout {rollout.rollout_id} needs {length} positions, beyond the "
                f"{self.teacher.max_model_len} of {self.teacher.policy.name} in vLLM; give shorter "
                "rollouts (--max-tokens)"
            )

    @torch.inference_mode()
    def _student(self, rollout: Rollout) -> Tensor:
        """Exact log-probabilities over the shared ids, [time, vocab]."""
        logits = self.head.logits(states(self.head, [(rollout.student_prompt, rollout.response)]))
        return self.vocabulary.logprobs(scaled(logits))[0]


def _columns(student: Tensor, rows: TeacherRows) -> Columns:
    ids = torch.from_numpy(rows.ids).to(student.device)
    teacher = torch.from_numpy(rows.logprobs).to(student.device)
    # Ids that only the teacher has, the student never writes.
    known = (ids >= 0) & (ids < student.shape[1])
    at_ids = student.gather(1, ids.clamp(0, student.shape[1] - 1)).masked_fill(~known, -torch.inf)
    bound = partial_reverse_kl(at_ids, teacher)
    columns = {
        "student_logprob": at_ids[:, 0],
        "teacher_logprob": teacher[:, 0],
        "student_entropy": entropy(student),
        **bound._asdict(),
    }
    return {name: values.cpu().numpy() for name, values in columns.items()}


def scored(
    rollouts: Sequence[Rollout],
    key: ScoreKey,
    scorer: Callable[[], ServedScorer],
    cache: Path,
    reporter: Reporter,
    *,
    name: str,
    part_tokens: int,
) -> Path:
    """The table of the scored tokens, from the cache or made now, part by part.

    scorer: called only if something is left to score. part_tokens: least tokens of a part on disk,
    prompts included.
    """
    record = key.record(rollouts, TOKENS)
    folder = score_store.folder_of(cache, "served", record)
    path = folder / "tokens.parquet"
    # A finished table is read even while another process works in the folder.
    if path.exists():
        return path
    with store.RunFolder(folder).lock(wait=reporter.note):
        if not path.exists():
            score_store.check_record(folder, record)
            parts, ready = Parts(folder, "part", TOKENS), cache_of(scorer)

            def write(number: int, part: Sequence[Rollout], progress: OnProgress) -> None:
                parts.write(number, ready().table(part, progress))

            count = score_store.fill(parts, rollouts, part_tokens, write, reporter, name)
            parts.merge(count, path, SCHEMA)
    return path
