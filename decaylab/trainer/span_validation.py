"""Held-out log-ratios of whole responses, where student and teacher have two tokenizers.

    response_log_ratio   sum of log s - log t over a response, in nats: its end included if it is
                         finished, up to its last closed span if the budget cuts it off; the mean
                         over the rollouts that could be aligned
    log_ratio            the same sums for each of the student's tokens in them

Sampled at temperature 1 without top-p and top-k, and if every rollout finishes and can be aligned,
the first is unbiased for the KL of the student's law over its tokens from the teacher's law of its
own tokenization of the same text. Cut-off rollouts make it a number at this budget, off a KL by
about a span. It is the estimand of `position-kl` (`response_log_ratio`, condition "all").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Response
from decaylab.runs.vocabulary import RESPONSE_LOG_RATIO, STUDENT, TEACHER
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import states
from decaylab.trainer.draw import EMPTY, TrainingRollout, micro_batches
from decaylab.trainer.machinery.setup import TrainSetup
from decaylab.trainer.span_draw import aligned
from decaylab.trainer.span_loss import span_losses
from decaylab.trainer.span_step import log_ratios, sides
from decaylab.trainer.validation import HeldOut, Scored, mean_of, with_interval


class SpanScores:
    """Scores of rollouts by their log-ratio. They have no reverse KL."""

    def __init__(
        self,
        heads: tuple[Head, Head],
        vocabularies: tuple[OwnVocabulary, OwnVocabulary],
        batch_tokens: int,
    ) -> None:
        self.heads, self.vocabularies, self.batch_tokens = heads, vocabularies, batch_tokens

    def __call__(
        self, setup: TrainSetup, problems: Sequence[Problem], responses: Sequence[Response]
    ) -> dict[str, Scored]:
        """The rollouts that can be aligned, up to the last closed span: 0 nats where none is."""
        rollouts, found = [], {}
        for name, rollout in _aligned(setup, problems, responses):
            if isinstance(rollout, TrainingRollout):
                rollouts.append(rollout)
            elif rollout == EMPTY:
                found[name] = Scored(0, math.nan, 0.0)
        for batch in micro_batches(rollouts, self.batch_tokens):
            for rollout, total in zip(batch, self._log_ratios(batch), strict=True):
                tokens = len(rollout.scored.response)
                found[rollout.scored.rollout_id] = Scored(tokens, math.nan, total)
        return found

    @torch.inference_mode()
    def _log_ratios(self, batch: Sequence[TrainingRollout]) -> list[float]:
        student = states(
            self.heads[0], [(one.scored.student_prompt, one.scored.response) for one in batch]
        )
        teacher = states(
            self.heads[1], [(one.scored.teacher_prompt, one.teacher_response) for one in batch]
        )
        both = student, teacher.to(student.device)
        found, _ = span_losses(*sides(self.heads, self.vocabularies, both, batch))
        return log_ratios(found.loss.double().cpu().numpy(), batch)


def _aligned(
    setup: TrainSetup, problems: Sequence[Problem], responses: Sequence[Response]
) -> Iterator[tuple[str, TrainingRollout | str]]:
    """The rollouts that hold a token, by the names of their problems, or why there is none."""
    assert setup.aligner is not None
    prompts = setup.pair.prompts
    for problem, response in zip(problems, responses, strict=True):
        name = problem.problem_id
        both = prompts[STUDENT][name], prompts[TEACHER][name]
        if response.ids:
            yield name, aligned(setup.aligner, name, both, response)


def columns(held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """The columns of validation.csv that only such a pair has; intervals over problems."""
    rollouts = sorted(held_out, key=lambda one: one.problem_id)
    known = [one for one in rollouts if not math.isnan(one.log_ratio)]
    sums = [one.log_ratio for one in known]
    by_token = mean_of(sums, [one.tokens for one in known], signed=True)
    whole = mean_of(sums, [1] * len(known), signed=True)
    return {
        **with_interval(RESPONSE_LOG_RATIO, whole),
        "finished": sum(one.ended for one in known),
        **with_interval("log_ratio", by_token),
        "aligned": len(known),
    }
