"""Hand-back: behind a student's prefix the teacher writes m tokens, then the student finishes.

The teacher writes once behind each prefix, to the end of the budget. For every m the first m of
those tokens are handed back, so the numbers of teacher tokens are cuts of one draw and are paired.
Where the teacher ended within m tokens there is nothing left to finish: its own response is the
outcome, and the student is not sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from decaylab.policies.handover import HandOver
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Ids, Request
from decaylab.rollouts.stages import Pending
from decaylab.runs import own_tokens
from decaylab.runs.own_tokens import Prefix
from decaylab.runs.vocabulary import HAND_BACK, STUDENT


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
            length = row["prefix_tokens"] - (row["prefix_shift"] or 0)
            prefix = own_tokens.prefix(source["response_ids"], mask, length)
            assert prefix is not None, f"{row['rollout_id']} continues a prefix that is not there"
            for count in self.teacher_tokens:
                if len(row["response_ids"]) > count:
                    yield self._finishes(row, prefix, count)

    def _finishes(self, row: Mapping[str, Any], prefix: Prefix, count: int) -> Pending | None:
        """The student's rollout behind a prefix and the teacher's first ``count`` tokens."""
        response = row["response_ids"]
        handed = self.hand_over.behind(prefix.ids, row["prefix_ids"], response, count)
        if handed is None:
            return None
        context = (*prefix.ids, *handed.ids)
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
            "prefix_shift": handed.shift if self.hand_over.differs else None,
        }
        return Pending(request, problem, HAND_BACK, columns, (*prefix.own_ids, *handed.ids))
