"""The problems of a training step, and the student's rollouts on them.

Every draw is a function of (seed, step, problem, sample); no random state is carried between steps.
So a resumed run needs no generator state, and rollouts do not depend on the process that makes
them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from decaylab.policies.alignment import Span
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Engine, Ids, OnProgress, Request, Response, SamplingSettings
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens.scoring import Rollout

Prompts = Mapping[str, Mapping[str, Ids]]
"""Prompt ids by role and problem."""
EMPTY = "empty"


@dataclass(frozen=True)
class TrainingRollout:
    """A rollout and its scored part.

    scored: the tokens that both policies can read, with their prompts; a teacher's prefix counts as
    prompt. ids: the whole response. ended: whether it stopped naturally. offset: number of response
    tokens that the teacher wrote first. theirs: with two tokenizers, the scored part in the
    teacher's ids. spans: its spans, which cover all tokens of both.
    """

    scored: Rollout
    ids: Ids
    ended: bool
    offset: int = 0
    theirs: Ids = ()
    spans: tuple[Span, ...] = ()

    @property
    def teacher_response(self) -> Ids:
        """The scored part in the teacher's ids."""
        return self.theirs or self.scored.response

    @property
    def context(self) -> int:
        """Tokens of the longer of the two contexts."""
        return max(
            self.scored.context, len(self.scored.teacher_prompt) + len(self.teacher_response)
        )

    @property
    def written(self) -> Ids:
        """The student's tokens, without the end-of-turn token."""
        return self.ids[:-1] if self.ended else self.ids


@dataclass(frozen=True)
class Draw:
    """The rollouts of a step.

    left_out: number without a token to score. sampled: tokens. reasons: left-out rollouts by
    reason, without those that lack the teacher's prefix.
    """

    rollouts: list[TrainingRollout]
    left_out: int
    sampled: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How each step is drawn. teacher_prefix: tokens that the teacher writes first; 0 for none."""

    problems: tuple[Problem, ...]
    prompts: Prompts
    sampling: SamplingSettings
    problems_per_step: int
    rollouts_per_problem: int
    score_end: bool = True
    teacher_prefix: int = 0

    def problems_of(self, step: int) -> list[Problem]:
        """The problems of a step (counted from 1): every epoch is a new permutation."""
        count = len(self.problems)
        places = range((step - 1) * self.problems_per_step, step * self.problems_per_step)
        return [
            self.problems[order(self.sampling.seed, place // count, count)[place % count]]
            for place in places
        ]

    def draw(
        self,
        step: int,
        max_tokens: int,
        engines: Mapping[str, Engine],
        vocabulary: SharedVocabulary | None,
        share: slice = slice(None),
        on_progress: OnProgress | None = None,
    ) -> Draw:
        """The rollouts of a step, of at most ``max_tokens`` each.

        vocabulary: None with two tokenizers. share: this process's part of the step's problems.
        """
        stage = f"train-{step}"
        requests: list[Request] = []
        teacher_prompts: list[Ids] = []
        for place, problem in list(enumerate(self.problems_of(step)))[share]:
            name = problem.problem_id
            prompt = self.prompts[STUDENT][name]
            # With the place in the name, since a small set repeats within a step.
            for sample in range(self.rollouts_per_problem):
                requests.append(Request(prompt, (), max_tokens, stage, f"{place}/{name}", sample))
                teacher_prompts.append(self.prompts[TEACHER][name])
        sampled = left_out = 0
        if self.teacher_prefix:
            assert vocabulary is not None
            prefixes, sampled = self._prefixes(
                requests, teacher_prompts, engines[TEACHER], vocabulary, on_progress
            )
            # If the teacher stops or the student cannot read its tokens, nothing follows.
            full = [place for place, ids in enumerate(prefixes) if len(ids) == self.teacher_prefix]
            left_out = len(requests) - len(full)
            requests = [replace(requests[place], prefix_ids=prefixes[place]) for place in full]
            teacher_prompts = [teacher_prompts[place] for place in full]
        responses = engines[STUDENT].sample(requests, self.sampling, on_progress)
        rollouts, reasons = [], Counter[str]()
        for request, prompt, response in zip(requests, teacher_prompts, responses, strict=True):
            rollout = self._training_rollout(request, prompt, response, vocabulary)
            sampled += len(response.ids)
            if isinstance(rollout, str):
                reasons[rollout] += 1
            else:
                rollouts.append(rollout)
        return Draw(rollouts, left_out + reasons.total(), sampled, reasons)

    def _training_rollout(
        self,
        request: Request,
        teacher_prompt: Ids,
        response: Response,
        vocabulary: SharedVocabulary | None,
    ) -> TrainingRollout | str:
        """A response with its scored part, or why it has none."""
        assert vocabulary is not None
        scored = response.ids if self.score_end else response.written
        readable = scored[: vocabulary.readable(scored)]
        if not readable:
            return EMPTY
        name = f"{request.stage}/{request.problem_id}/{request.sample}"
        prefix = request.prefix_ids
        rollout = Rollout(name, request.prompt_ids + prefix, teacher_prompt + prefix, readable)
        return TrainingRollout(rollout, response.ids, response.ended, len(prefix))

    def _prefixes(
        self,
        requests: Sequence[Request],
        prompts: Sequence[Ids],
        teacher: Engine,
        vocabulary: SharedVocabulary,
        on_progress: OnProgress | None,
    ) -> tuple[list[Ids], int]:
        """The teacher's prefix of each rollout, and the total number of tokens it wrote.

        A prefix is shorter than `teacher_prefix` if the teacher stops or the student cannot read
        the next token.
        """
        budget = self.teacher_prefix
        asked = [
            replace(
                request, prompt_ids=prompt, max_new_tokens=budget, stage=f"{request.stage}-prefix"
            )
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        responses = teacher.sample(asked, self.sampling, on_progress)
        open_ids = [response.written for response in responses]
        prefixes = [ids[: vocabulary.readable(ids)] for ids in open_ids]
        return prefixes, sum(len(response.ids) for response in responses)


@cache
def order(seed: int, epoch: int, count: int) -> Ids:
    """The order of ``count`` problems in an epoch, counted from 0."""
    return tuple(np.random.default_rng([seed, epoch]).permutation(count).tolist())


def generator(seed: int, name: str) -> np.random.Generator:
    """The random generator for a rollout's selection, a function of the seed and its name."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
    )


def micro_batches(
    rollouts: Sequence[TrainingRollout], batch_tokens: int
) -> list[list[TrainingRollout]]:
    """Batches of rollouts of similar length, longest first.

    batch_tokens: maximum per batch, padding included; a longer rollout is a batch of its own.
    """
    batches: list[list[TrainingRollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: -rollout.context):
        if not batches or (len(batches[-1]) + 1) * batches[-1][0].context > batch_tokens:
            batches.append([])
        batches[-1].append(rollout)
    return batches
