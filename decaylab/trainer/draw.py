"""What a training step is made of: the problems of the step, and the rollouts that the student
writes to them now.

Every draw is a function of (seed, step, problem, sample): nothing random is carried from one step
to the next, so that a run which goes on after a kill needs no state of a generator, and it does not
matter which process makes which rollout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.problems.sets import Problem
from decaylab.rollouts.sampling import Engine, OnProgress, Request, SamplingSettings
from decaylab.tokens.scoring import Rollout

Prompts = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Prompt ids by role and problem."""


@dataclass(frozen=True)
class TrainingRollout:
    """A rollout and what of it is scored.

    scored: the part that both policies read, behind its prompts; a teacher's prefix counts among
    those. ids: the whole response. ended: the student ended it by itself. offset: response tokens
    that the teacher wrote before.
    """

    scored: Rollout
    ids: tuple[int, ...]
    ended: bool
    offset: int = 0

    @property
    def written(self) -> tuple[int, ...]:
        """What the student wrote, without the token that ends its turn."""
        return self.ids[:-1] if self.ended else self.ids


@dataclass(frozen=True)
class Draw:
    """The rollouts of a step. left_out: those of which nothing can be scored. sampled: tokens that
    were written."""

    rollouts: list[TrainingRollout]
    left_out: int
    sampled: int


@dataclass(frozen=True)
class Plan:
    """How each step is drawn. teacher_prefix: tokens that the teacher writes ahead; 0 where it
    writes none."""

    problems: tuple[Problem, ...]
    prompts: Prompts
    sampling: SamplingSettings
    problems_per_step: int
    rollouts_per_problem: int
    score_end: bool = True
    teacher_prefix: int = 0

    def problems_of(self, step: int) -> list[Problem]:
        """The problems of a step, from 1: each once before any comes again, in a new order each
        time."""
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
        vocabulary: SharedVocabulary,
        share: slice = slice(None),
        on_progress: OnProgress | None = None,
    ) -> Draw:
        """The rollouts of a step, of at most so many tokens. share: of the problems, those that
        this process takes."""
        problems = self.problems_of(step)
        stage = f"train-{step}"
        wanted = [
            Request(
                self.prompts["student"][one.problem_id],
                (),
                max_tokens,
                stage,
                f"{place}/{one.problem_id}",
                sample,
            )
            for place, one in list(enumerate(problems))[share]
            for sample in range(self.rollouts_per_problem)
        ]
        teacher_prompts = [
            self.prompts["teacher"][one.problem_id]
            for one in problems[share]
            for _ in range(self.rollouts_per_problem)
        ]
        sampled, left_out = 0, 0
        if self.teacher_prefix:
            prefixes, sampled = self._prefixes(
                wanted, teacher_prompts, engines["teacher"], vocabulary, on_progress
            )
            # A response that the teacher has ended, or that the student cannot read, has no later
            # window.
            going_on = [
                place for place, ids in enumerate(prefixes) if len(ids) == self.teacher_prefix
            ]
            left_out += len(wanted) - len(going_on)
            wanted = [_behind(wanted[place], prefixes[place]) for place in going_on]
            teacher_prompts = [teacher_prompts[place] for place in going_on]
        responses = engines["student"].sample(wanted, self.sampling, on_progress)
        rollouts = []
        for request, prompt, response in zip(wanted, teacher_prompts, responses, strict=True):
            sampled += len(response.ids)
            ended = response.stop_reason == "eos"
            scored = response.ids if self.score_end or not ended else response.ids[:-1]
            readable = scored[: vocabulary.readable(scored)]
            if not readable:
                left_out += 1
                continue
            own = request.prompt_ids + request.prefix_ids
            name = f"{stage}/{request.problem_id}/{request.sample}"
            rollout = Rollout(name, own, prompt + request.prefix_ids, readable)
            rollouts.append(TrainingRollout(rollout, response.ids, ended, len(request.prefix_ids)))
        return Draw(rollouts, left_out, sampled)

    def _prefixes(
        self,
        wanted: Sequence[Request],
        prompts: Sequence[tuple[int, ...]],
        teacher: Engine,
        vocabulary: SharedVocabulary,
        on_progress: OnProgress | None,
    ) -> tuple[list[tuple[int, ...]], int]:
        """What the teacher writes ahead of each rollout, shorter than `teacher_prefix` where it
        ends or cannot be read; and the tokens that it wrote in all."""
        requests = [
            Request(
                prompt, (), self.teacher_prefix, f"{one.stage}-prefix", one.problem_id, one.sample
            )
            for one, prompt in zip(wanted, prompts, strict=True)
        ]
        responses = teacher.sample(requests, self.sampling, on_progress)
        open_ids = [one.ids[:-1] if one.stop_reason == "eos" else one.ids for one in responses]
        return [ids[: vocabulary.readable(ids)] for ids in open_ids], sum(
            len(one.ids) for one in responses
        )


@cache
def order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """The order in which so many problems are taken in an epoch, from 0."""
    return tuple(np.random.default_rng([seed, epoch]).permutation(count).tolist())


def _behind(request: Request, prefix: tuple[int, ...]) -> Request:
    return Request(
        request.prompt_ids,
        prefix,
        request.max_new_tokens,
        request.stage,
        request.problem_id,
        request.sample,
    )


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one rollout's selection, a function of the seed and the rollout's
    name."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
    )


def micro_batches(
    rollouts: Sequence[TrainingRollout], batch_tokens: int
) -> list[list[TrainingRollout]]:
    """Rollouts of similar lengths together, each batch at most so many tokens with its padding, the
    longest first."""
    order = sorted(range(len(rollouts)), key=lambda place: (-rollouts[place].scored.context, place))
    found: list[list[TrainingRollout]] = []
    for place in order:
        if not found or (len(found[-1]) + 1) * found[-1][0].scored.context > batch_tokens:
            found.append([])
        found[-1].append(rollouts[place])
    return found
