"""Approximate scores of a teacher served by an engine: a lower bound of the reverse KL.

The student's distribution is exact. For the teacher, the engine returns log-probabilities of some
ids at each position: the student's top ids if vLLM can score given ids (its second model runner, on
GPUs), otherwise the teacher's own top ids, and always the response token. All other ids form one
bucket with known mass under each policy. Merging outcomes can only lower a KL, so the result is a
lower bound of the exact reverse KL, and equals it if all ids are included. Scores are at
temperature 1, the only one that engines support for given tokens. The student's distribution is
over the shared ids, as in `scoring`; the teacher's is over all ids of its head.

Row i scores response token i, as in `scoring`: row 0 depends only on the prompt.

CACHE/served-KEY/tokens.parquet   one row per token: rollout_id, position, `COLUMNS`, and the route,
                                  the kind of ids behind the bound; with record and parts as in
                                  `score_store`
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
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Ids, OnProgress
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.runs import store
from decaylab.runs.store import Parts
from decaylab.tokens import score_store
from decaylab.tokens.heads import Head
from decaylab.tokens.ranks import top
from decaylab.tokens.score_store import ScoreKey
from decaylab.tokens.scoring import Columns, Rollout, check_readable, scaled, states
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
"""Smallest remaining mass that float32 log-probabilities resolve; smaller masses are set to it."""
NONE = -1  # no id: padding, or the response token a second time


class PartialKL(NamedTuple):
    """Each [...]: the bound in nats, and both policies' masses on the included ids."""

    reverse_kl_bound: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def partial_reverse_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> PartialKL:
    """Lower bound of KL(student || teacher) at each position, in nats, from some ids and a bucket.

    It is the sum over the ids of s (log s - log t), plus the same term for the two remaining
    masses. It grows with every added id and never exceeds the exact KL (data-processing inequality:
    Cover and Thomas, Elements of Information Theory, 2.8). A teacher's remaining mass below
    `LEAST_MASS` is raised to it, which keeps the lower bound valid.

    student_logprobs, teacher_logprobs: [..., ids], of the same distinct ids; -inf in both for no
    id.
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

    The response token comes first; `NONE` has -inf.
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
    """The response's entries of vLLM's output: an empty entry, then one per token."""
    first, last = flat.start_indices[start], flat.end_indices[-1]
    ids = np.array(flat.token_ids[first:last], dtype=np.int64).reshape(len(response), -1)
    logprobs = np.array(flat.logprobs[first:last], dtype=np.float32).reshape(ids.shape)
    assert (ids[:, 0] == response).all(), "each entry begins with the given token"
    twice = np.zeros(ids.shape, dtype=bool)
    twice[:, 1:] = ids[:, 1:] == ids[:, :1]
    logprobs[twice] = -np.inf
    return TeacherRows(np.where(twice, NONE, ids), logprobs)


def rows_of_ids(
    engine: VllmEngine, contexts: Sequence[Context], wanted: Sequence[NDArray[np.int64]]
) -> list[TeacherRows]:
    """The teacher's log-probabilities of the wanted ids [time, ids] and of the response tokens."""
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
    the student's entropy, the bound, and both masses on the included ids."""

    rollout_id: str
    columns: Columns


class ServedScorer:
    """A student in this process and a teacher in an engine, ready to score.

    count: ids at each position, beside the response token; at most the engine's max_logprobs.

    Raises:
        UserError: the tokenizers assign different tokens to one id, or the engine supports fewer
            ids.
    """

    def __init__(self, student: Policy, teacher: VllmEngine, count: int = 64) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not teacher.scores_given_ids and count > teacher.settings.max_logprobs:
            raise UserError(
                f"{count} ids per position exceed vLLM's max_logprobs, "
                f"{teacher.settings.max_logprobs}; raise max_logprobs"
            )
        self.student, self.teacher, self.count = student, teacher, count
        self.vocabulary = share_vocabulary(student, teacher.policy)
        self.head = Head(student)

    @property
    def route(self) -> str:
        """The ids behind the bound, as stored in run.json."""
        whose = "student's" if self.teacher.scores_given_ids else "teacher's"
        return (
            f"a lower bound from the {whose} top {self.count} ids, the response token and "
            "one bucket for the rest"
        )

    def score(
        self, rollouts: Sequence[Rollout], on_progress: OnProgress | None = None
    ) -> list[ServedScores]:
        """One result per rollout, in order.

        Raises:
            UserError: a rollout exceeds the teacher's context in the engine.
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
        # vLLM generates one token after those it scores.
        length = len(rollout.teacher_prompt) + len(rollout.response) + 1
        if length > self.teacher.max_model_len:
            raise UserError(
                f"rollout {rollout.rollout_id} needs {length} positions, more than the "
                f"{self.teacher.max_model_len} of {self.teacher.policy.name} in vLLM; use shorter "
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
    # The student never writes ids that only the teacher has.
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
    """The table of the scored tokens, from the cache or scored now, part by part.

    scorer: called only if something is left to score. part_tokens: minimum tokens of a part on
    disk, prompts included.
    """
    record = key.record(rollouts, TOKENS)
    folder = score_store.folder_of(cache, "served", record)
    path = folder / "tokens.parquet"
    # A finished table is read even if another process holds the folder's lock.
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
