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

from decaylab.policies.handover import Handed, HandOver
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts import seams
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
class Asked:
    """A prefix that both continue.

    row: of its rollout. position: of the grid. prefix: in the student's ids; with two tokenizers it
    may end before the position. handed: the same in the teacher's ids.
    """

    problem: Problem
    row: dict[str, Any]
    position: int
    prefix: Ids
    handed: Handed


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
            table = self.stages.run(f"{condition}s", role, pending)
            tables.append(seams.told(table, self.hand_over) if role == TEACHER else table)
        return tables

    def prefixes(self, rollouts: pa.Table) -> list[Asked]:
        """The prefixes of all rollouts, by problem."""
        order = {problem.problem_id: place for place, problem in enumerate(self.problems)}
        rows = rollouts.select(["rollout_id", "problem_id", "sample", "response_ids"]).to_pylist()
        found = []
        for row in sorted(rows, key=lambda row: order[row["problem_id"]]):
            problem, response = self.problems[order[row["problem_id"]]], row["response_ids"]
            for position in self._unfinished(response):
                handed = self._handed(response, position)
                if handed is None:
                    continue
                prefix = tuple(response[: position - handed.shift])
                if max(len(prefix), len(handed.ids)) < self.stages.settings.max_tokens:
                    found.append(Asked(problem, row, position, prefix, handed))
        return found

    def cost(self, prefixes: Sequence[Asked]) -> Cost:
        """What the draws of these prefixes cost at most."""
        budget, each = self.stages.settings.max_tokens, len(CONDITIONS) * self.plan.draws
        tokens = sum(budget - len(asked.prefix) for asked in prefixes)
        return Cost(len(prefixes), each * len(prefixes), each * tokens)

    def _unfinished(self, response: Sequence[int]) -> Iterator[int]:
        """The positions of the grid that a response reaches."""
        ended = bool(response) and response[-1] in self.end_ids
        written = len(response) - ended
        yield from (position for position in self.plan.grid if position <= written)

    def _handed(self, response: Sequence[int], position: int) -> Handed | None:
        """What stands before a position in the teacher's ids."""
        return self.hand_over.beginning(response, position, STUDENT) if position else Handed([])

    def _pending(self, condition: str, role: str, prefixes: Sequence[Asked]) -> Iterator[Pending]:
        """The requests of one policy: those of a prefix are neighbours."""
        for asked in prefixes:
            columns = {
                "prefix_author": STUDENT,
                "prefix_tokens": asked.position,
                "prefix_rollout_id": asked.row["rollout_id"],
                "prefix_shift": asked.handed.shift if self.hand_over.differs else None,
            }
            handed = asked.prefix if role == STUDENT else tuple(asked.handed.ids)
            room = self.stages.settings.max_tokens - len(handed)
            problem = asked.problem
            prompt, sample = self.prompts[role][problem.problem_id], asked.row["sample"]
            for draw in range(self.plan.draws):
                stage = f"{condition}/{asked.position}/{draw}"
                request = Request(prompt, handed, room, stage, problem.problem_id, sample)
                yield Pending(request, problem, condition, columns, handed)
