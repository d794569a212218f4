"""The rollouts of a step where student and teacher have two tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from decaylab.policies.alignment import REASONS, Aligner, Alignment
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.rollouts.sampling import Ids, Request, Response
from decaylab.tokens.scoring import Rollout
from decaylab.trainer.draw import EMPTY, Draw, Plan, TrainingRollout

BEYOND = "beyond_context"


@dataclass(frozen=True, kw_only=True)
class SpanPlan(Plan):
    """How each step is drawn. A response is scored up to its last closed span."""

    aligner: Aligner

    def _training_rollout(
        self,
        request: Request,
        teacher_prompt: Ids,
        response: Response,
        vocabulary: SharedVocabulary | None,
    ) -> TrainingRollout | str:
        name = f"{request.stage}/{request.problem_id}/{request.sample}"
        prompts = request.prompt_ids, teacher_prompt
        return aligned(self.aligner, name, prompts, response, self.score_end)


def aligned(
    aligner: Aligner,
    name: str,
    prompts: tuple[Ids, Ids],
    response: Response,
    score_end: bool = True,
) -> TrainingRollout | str:
    """A response in the tokens of both, up to its last closed span; or why there is none.

    prompts: of student and teacher. score_end: False leaves out the end of the turn, which is a
    span of its own.
    """
    found = aligner.align(response.ids) if response.ids else EMPTY
    if not isinstance(found, Alignment):
        return found
    spans = found.spans
    if found.ended and not score_end:
        spans = spans[:-1]
    if not spans:
        return EMPTY
    last = spans[-1]
    own, theirs = found.student[: last.student.stop], found.teacher[: last.teacher.stop]
    # The last token is not read.
    if len(prompts[1]) + len(theirs) - 1 > aligner.teacher.policy.context_length:
        return BEYOND
    scored = Rollout(name, *prompts, own)
    return TrainingRollout(scored, response.ids, found.ended, theirs=theirs, spans=spans)


def counts(draw: Draw) -> Mapping[str, int]:
    """Sums for the step's record: tokens behind the last closed span, and rollouts left out.

    An end of the turn that is not scored does not count as open.
    """
    opened = 0
    for rollout in draw.rollouts:
        if not rollout.ended:
            opened += len(rollout.ids) - len(rollout.scored.response)
    return {
        "tokens_open": opened,
        "unaligned": sum(draw.reasons.get(reason, 0) for reason in REASONS),
        BEYOND: draw.reasons.get(BEYOND, 0),
    }
