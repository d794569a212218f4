"""Checks whether the thoughts in a file's responses agree with ``--thinking``."""

from __future__ import annotations

from collections.abc import Sequence

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy
from decaylab.problems import thoughts
from decaylab.rollout_files.given_prompts import text_of
from decaylab.rollout_files.reading import GivenRollout

LOOKED_AT = 200  # rollouts


def check(
    options: PairOptions, rollouts: Sequence[GivenRollout], student: Policy, reader: Policy
) -> None:
    """Raises UserError if most responses contain a thought that the reader's template closes."""
    if not reader.opening.endswith(_closing(reader)):
        return
    looked_at = rollouts[:LOOKED_AT]
    thinking = [rollout for rollout in looked_at if _thinks(rollout, student)]
    if 2 * len(thinking) > len(looked_at):
        raise UserError(
            f"{thinking[0].place}: {len(thinking)} of the first {len(looked_at)} responses contain "
            f"a thought, but with --thinking {options.thinking} the template of {reader.name} "
            "closes it in the prompt; use --thinking on"
        )


def notes(
    options: PairOptions, rollouts: Sequence[GivenRollout], name: str, student: Policy
) -> tuple[str, ...]:
    """Notes on thoughts in responses that suggest a wrong --thinking, for prompts rendered here.

    name: of the files.
    """
    looked_at = [rollout for rollout in rollouts if rollout.record.turns is None][:LOOKED_AT]
    if student.template is None or not looked_at:
        return ()
    opened = [mark for mark, _ in student.all_thought_marks if student.opening.endswith(mark)]
    texts = [_text(rollout, student).lstrip() for rollout in looked_at]
    again = sum(text.startswith(mark) for text in texts for mark in opened)
    thinking = sum(_thinks(rollout, student) for rollout in looked_at)
    counts: dict[str, int] = {}
    if thinking and student.opening.endswith(_closing(student)):
        counts["contain a thought that their prompt has closed"] = thinking
    if again:
        counts["open a thought that their prompt has already opened"] = again
    if options.thinking == "on" and not thinking:
        counts["contain no thought"] = len(looked_at)
    return tuple(
        f"{count} of the first {len(looked_at)} responses of {name} {what}; check whether they "
        f"were sampled with --thinking {options.thinking}"
        for what, count in counts.items()
    )


def _closing(policy: Policy) -> tuple[str, ...]:
    return tuple(closing for _, closing in policy.all_thought_marks)


def _text(rollout: GivenRollout, student: Policy) -> str:
    record = rollout.record
    if record.response is not None:
        return record.response
    return text_of(student, record.response_ids or [], rollout.place)


def _thinks(rollout: GivenRollout, student: Policy) -> bool:
    """Whether a response contains a thought, or the end of one that its prompt opened."""
    text = _text(rollout, student)
    start = thoughts.answer_start(text, "", student.all_thought_marks)
    return bool(rollout.record.reasoning) or start != 0
