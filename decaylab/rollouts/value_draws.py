"""Draws of values: fresh continuations of the prefixes of a student's rollouts, by both policies.

The value of a prefix to a policy is the probability that its continuation is correct. Each prefix
is continued ``draws`` times by each policy, within the budget of the rollout. Every draw has noise
of its own, so that it repeats neither the rollout nor another draw.

    student-value   the student continues its own prefix
    teacher-value   the teacher continues the student's prefix
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from decaylab.policies.handover import HandOver
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Ids, Request
from decaylab.rollouts.stages import Pending, Stages
from decaylab.runs.vocabulary import STUDENT, STUDENT_VALUE, TEACHER, TEACHER_VALUE

CONDITIONS = {STUDENT_VALUE: STUDENT, TEACHER_VALUE: TEACHER}
"""Condition -> the policy that continues."""


@dataclass(frozen=True)
class ValuePlan:
    """What to draw. grid: token positions of the prefixes, ascending. draws: of each prefix, by
    each policy."""

    grid: Ids
    draws: int


@dataclass(frozen=True)
class Cost:
    """What values cost at most.

    prefixes: that are continued. continuations: by both policies. tokens: that these may have.
    """

    prefixes: int
    continuations: int
    tokens: int

    @property
    def words(self) -> str:
        return (
            f"values: {self.continuations:,} continuations of {self.prefixes:,} prefixes by both "
            f"policies, at most {self.tokens:,} tokens"
        )


class ValueDraws:
    """The draws of one run, by stages that resume. A prefix that the teacher cannot read, or that
    leaves no token of the budget, is left out."""

    def __init__(
        self,
        stages: Stages,
        problems: Sequence[Problem],
        prompts: dict[str, dict[str, Ids]],
        plan: ValuePlan,
        reporter: Reporter,
    ) -> None:
        """prompts: role -> problem_id -> prompt ids."""
        self.stages, self.problems, self.prompts = stages, problems, prompts
        self.plan, self.reporter = plan, reporter
        policies = {role: engine.policy for role, engine in stages.engines.items()}
        self.hand_over = HandOver(policies[STUDENT], policies[TEACHER])
        self.end_ids = policies[STUDENT].end_ids

    def collect(self, rollouts: pa.Table) -> list[pa.Table]:
        """Draws of both policies, a table each; prints beforehand what they cost at most."""
        prefixes = self.prefixes(rollouts)
        self.reporter.note(self.cost(prefixes).words)
        tables = []
        for condition, role in CONDITIONS.items():
            pending = [*self._pending(condition, role, prefixes)]
            tables.append(self.stages.run(f"{condition}s", role, pending))
        return tables

    def prefixes(self, rollouts: pa.Table) -> list[tuple[Problem, dict[str, Any], Ids]]:
        """The prefixes of all rollouts, by problem, each with its problem and its rollout's row."""
        asked = {problem.problem_id: place for place, problem in enumerate(self.problems)}
        rows = rollouts.select(["rollout_id", "problem_id", "sample", "response_ids"]).to_pylist()
        found = []
        for row in sorted(rows, key=lambda row: asked[row["problem_id"]]):
            for prefix in self._unfinished(row["response_ids"]):
                has_room = len(prefix) < self.stages.settings.max_tokens
                if has_room and (not prefix or self.hand_over(list(prefix), STUDENT)):
                    found.append((self.problems[asked[row["problem_id"]]], row, prefix))
        return found

    def cost(self, prefixes: Sequence[tuple[Problem, dict[str, Any], Ids]]) -> Cost:
        """What the draws of these prefixes cost at most."""
        budget, each = self.stages.settings.max_tokens, len(CONDITIONS) * self.plan.draws
        tokens = sum(budget - len(prefix) for _, _, prefix in prefixes)
        return Cost(len(prefixes), each * len(prefixes), each * tokens)

    def _unfinished(self, response: Sequence[int]) -> Iterator[Ids]:
        """The beginnings of a response at the positions of the grid that it reaches."""
        ended = bool(response) and response[-1] in self.end_ids
        written = len(response) - ended
        for position in self.plan.grid:
            if position <= written:
                yield tuple(response[:position])

    def _pending(
        self,
        condition: str,
        role: str,
        prefixes: Sequence[tuple[Problem, dict[str, Any], Ids]],
    ) -> Iterator[Pending]:
        """The requests of one policy: those of a prefix are neighbours."""
        for problem, row, prefix in prefixes:
            columns = {
                "prefix_author": STUDENT,
                "prefix_tokens": len(prefix),
                "prefix_rollout_id": row["rollout_id"],
            }
            handed = tuple(prefix if role == STUDENT else self._handed(prefix))
            room = self.stages.settings.max_tokens - len(handed)
            prompt = self.prompts[role][problem.problem_id]
            for draw in range(self.plan.draws):
                stage = f"{condition}/{len(prefix)}/{draw}"
                request = Request(prompt, handed, room, stage, problem.problem_id, row["sample"])
                yield Pending(request, problem, condition, columns, handed)

    def _handed(self, prefix: Ids) -> Sequence[int]:
        """A prefix in the teacher's ids."""
        return (self.hand_over(list(prefix), STUDENT) or ()) if prefix else ()
