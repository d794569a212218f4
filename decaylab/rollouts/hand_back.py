"""Hand-back: behind a student's prefix the teacher writes m tokens, then the student finishes.

The teacher writes once behind each prefix, to the end of the budget. For every m the first m of
those tokens are handed back, so the numbers of teacher tokens are cuts of one draw and are paired.
Where the teacher ended within m tokens there is nothing left to finish: its own response is the
outcome, and the student is not sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from decaylab.policies.handover import HandOver
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Ids, Request
from decaylab.rollouts.stages import Pending
from decaylab.runs import own_tokens
from decaylab.runs.own_tokens import Prefix
from decaylab.runs.vocabulary import HAND_BACK, STUDENT, TEACHER


@dataclass(frozen=True)
class HandBack:
    """Makes the student's requests.

    problems: by problem_id. prompts: the student's, by problem_id. teacher_tokens: ascending,
    from 0. max_tokens: maximum length of prefix, teacher tokens and continuation together.
    """

    hand_over: HandOver
    problems: Mapping[str, Problem]
    prompts: Mapping[str, Ids]
    teacher_tokens: Ids
    max_tokens: int

    def pending(self, rollouts: pa.Table, written: pa.Table) -> Iterator[Pending | None]:
        """A rollout for each teacher response and each number of teacher tokens that it exceeds.

        None stands for one that cannot be handed back.

        Args:
            rollouts: the student's rollouts.
            written: the teacher's responses behind their prefixes.
        """
        names = {"rollout_id", "response_ids", own_tokens.MASK} & set(rollouts.column_names)
        kept = rollouts.select(sorted(names)).to_pylist()
        sources = {source["rollout_id"]: source for source in kept}
        for row in written.to_pylist():
            source = sources[row["prefix_rollout_id"]]
            mask = source.get(own_tokens.MASK)
            prefix = own_tokens.prefix(source["response_ids"], mask, row["prefix_tokens"])
            assert prefix is not None, f"{row['rollout_id']} continues a prefix that is not there"
            for count in self.teacher_tokens:
                if len(row["response_ids"]) > count:
                    yield self._finishes(row, prefix, count)

    def _finishes(self, row: Mapping[str, Any], prefix: Prefix, count: int) -> Pending | None:
        """The student's rollout behind a prefix and the teacher's first ``count`` tokens."""
        handed = self._in_student_ids(prefix, row["response_ids"][:count])
        if handed is None:
            return None
        context = (*prefix.ids, *handed)
        room = self.max_tokens - len(context)
        if room < 1:
            return None
        problem = self.problems[row["problem_id"]]
        stage = f"{HAND_BACK}/{row['prefix_tokens']}/{count}"
        prompt = self.prompts[problem.problem_id]
        request = Request(prompt, context, room, stage, problem.problem_id, row["sample"])
        columns = {
            "prefix_author": STUDENT,
            "prefix_tokens": row["prefix_tokens"],
            "prefix_rollout_id": row["prefix_rollout_id"],
            "prefix_correct_so_far": row["prefix_correct_so_far"],
            "teacher_tokens": count,
        }
        return Pending(request, problem, HAND_BACK, columns, (*prefix.own_ids, *handed))

    def _in_student_ids(self, prefix: Prefix, ids: Sequence[int]) -> list[int] | None:
        """The teacher's tokens in ids of the student, as they follow the prefix; None if they
        cannot be expressed there."""
        hand_over, student = self.hand_over, self.hand_over.policies[STUDENT]
        if hand_over.agreement.kind != "different":
            return hand_over(list(ids), TEACHER) if ids else []
        before = student.decode(prefix.ids)
        # The teacher continued the prefix without an incomplete character at its end.
        if hand_over.expressible_text(prefix.ids, STUDENT) != before:
            return None
        handed = hand_over(list(ids), TEACHER) if ids else []
        if handed is None:
            return None
        # Some tokenizers put a space before text that begins inside a word.
        after = before + (hand_over.expressible_text(list(ids), TEACHER) if ids else "")
        return handed if student.decode([*prefix.ids, *handed]) == after else None
