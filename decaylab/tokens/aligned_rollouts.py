"""Rollouts in the tokens of both policies, and notes on those that only one can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from decaylab.errors import UserError
from decaylab.policies.alignment import REASONS, Aligner, Alignment, coverage
from decaylab.problems.grading import Verdict
from decaylab.rollouts.sampling import Ids
from decaylab.runs import own_tokens
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens.aligned_scoring import AlignedRollout

MOST_LEFT_OUT = 0.02
"""Share of rollouts left out above which a note warns."""
EMPTY, LONG = "hold no token", "go beyond a context"


@dataclass(frozen=True)
class Found:
    """rollouts: those that both can read, as a whole. notes: of the others, and of the spans."""

    rollouts: list[AlignedRollout]
    notes: list[str]


def read(
    rollouts: pa.Table, teacher_prompts: Mapping[str, Ids], aligner: Aligner, answer_rule: str
) -> Found:
    """The rollouts in the tokens of both.

    Args:
        rollouts: rows of the rollouts table, graded by ``answer_rule``.
        teacher_prompts: by problem_id.

    Raises:
        UserError: tools or users wrote parts of them.
    """
    _check_one_turn(rollouts)
    kept: list[AlignedRollout] = []
    grades = {True: list[bool](), False: list[bool]()}
    reasons = Counter[str]()
    grade = f"grade_{answer_rule}"
    columns = ["rollout_id", "problem_id", "prompt_ids", "response_ids", grade]
    for row in rollouts.select(columns).to_pylist():
        theirs = teacher_prompts[row["problem_id"]]
        prompts = {STUDENT: tuple(row["prompt_ids"]), TEACHER: theirs}
        found = aligned(row["rollout_id"], prompts, tuple(row["response_ids"]), aligner)
        is_read = isinstance(found, AlignedRollout)
        grades[is_read].append(row[grade] == Verdict.CORRECT)
        if isinstance(found, AlignedRollout):
            kept.append(found)
        else:
            reasons[found] += 1
    notes = [*_left_out(reasons, grades), *of_spans([one.alignment for one in kept])]
    return Found(kept, notes)


def aligned(
    name: str, prompts: Mapping[str, Ids], response: Ids, aligner: Aligner
) -> AlignedRollout | str:
    """A response in the tokens of both, or why it cannot be read by both: "hold no token" and such.

    prompts: of ``student`` and ``teacher``.
    """
    if not response:
        return EMPTY
    alignment = aligner.align(response)
    if not isinstance(alignment, Alignment):
        return REASONS[alignment]
    both = prompts[STUDENT], prompts[TEACHER]
    rollout = AlignedRollout(name, *both, alignment.student, alignment)
    policies = aligner.student.policy, aligner.teacher.policy
    for policy, context in zip(policies, rollout.contexts, strict=True):
        if sum(map(len, context)) - 1 > policy.context_length:
            return LONG
    return rollout


def _left_out(reasons: Counter[str], grades: Mapping[bool, Sequence[bool]]) -> Iterator[str]:
    """How many rollouts are left out, why, and how accurate they are beside the others."""
    count = reasons.total()
    if not count:
        return
    total = count + len(grades[True])
    why = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    note = (
        f"{count} of {total} rollouts left out: {why}; {_accuracy(grades[False])} of them correct"
    )
    if grades[True]:
        note += f", {_accuracy(grades[True])} of the others"
    if count > MOST_LEFT_OUT * total:
        note += (
            f"; that is more than {100 * MOST_LEFT_OUT:g} %: the numbers are those of the others, "
            "which may differ from them"
        )
    if reasons[LONG]:
        note += "; a smaller --max-tokens keeps responses within both contexts"
    yield note


def of_spans(alignments: Sequence[Alignment]) -> Iterator[str]:
    """How much of the responses both tokenizations cut alike."""
    if not alignments:
        return
    shares = coverage(alignments)
    limits = ", ".join(map(str, shares))
    of_bytes = ", ".join(f"{100 * share.bytes:.1f}" for share in shares.values())
    of_tokens = ", ".join(f"{100 * share.student_tokens:.1f}" for share in shares.values())
    yield (
        f"spans between boundaries of both tokenizers, of up to {limits} tokens on either side, "
        f"hold {of_bytes} % of the bytes and {of_tokens} % of the student's tokens"
    )
    canonical = sum(one.canonical for one in alignments)
    yield (
        f"{canonical} of {len(alignments)} responses are the tokens that the student's own "
        "tokenizer gives to their text; only for those the log-ratio of tokens is one of texts"
    )


def other_law(rollouts: pa.Table, score_temperature: float) -> str:
    """Why rollouts were not drawn from the law that is scored; "" if they were.

    That is the whole distribution at the scoring temperature.
    """
    drawn = rollouts.select(["temperature", "top_p", "top_k"]).to_pandas().drop_duplicates()
    if drawn["temperature"].isna().any():
        return "the rollouts are of a file that does not say how they were drawn"
    same = np.isclose(drawn["temperature"].astype(float), score_temperature)
    whole = drawn["top_p"].isin([1.0]) & drawn["top_k"].isin([0])
    if bool((same & whole).all()):
        return ""
    return (
        f"the rollouts are not drawn from the whole distribution at temperature "
        f"{score_temperature:g}, at which they are scored: sample them so (--temperature "
        f"{score_temperature:g}, without --top-p and --top-k)"
    )


def _accuracy(correct: Sequence[bool]) -> str:
    return f"{100 * sum(correct) / len(correct):.0f} %"


def _check_one_turn(rollouts: pa.Table) -> None:
    names = rollouts.column_names
    if own_tokens.MASK in names and rollouts[own_tokens.MASK].null_count < len(rollouts):
        raise UserError(
            "rollouts with tools or several users need one tokenizer: use a teacher with the "
            "student's tokenizer"
        )
