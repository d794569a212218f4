"""Collects the rollouts and continuations of a decay measurement, stage by stage.

student          the student's own rollouts
teacher          the teacher's own rollouts
student-prefix   the teacher continues the student's rollouts
student-turns    ... after whole turns, if the student has several
own-prefix       the teacher continues its own rollouts
swapped          the teacher continues a student's rollout to another problem
reverse          the student continues the teacher's rollouts
hand-back        the teacher writes behind the student's prefixes, then the student finishes: two
                 stages, `decaylab.rollouts.hand_back`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from decaylab.policies.handover import Handed, HandOver
from decaylab.problems.abacus_checking import check_steps
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts import seams
from decaylab.rollouts.hand_back import HandBack
from decaylab.rollouts.sampling import Engine, Ids, Request, SamplingSettings
from decaylab.rollouts.stages import Pending, Stages, StageSettings
from decaylab.runs import own_tokens, store
from decaylab.runs.graded import Judge
from decaylab.runs.own_tokens import Prefix
from decaylab.runs.vocabulary import (
    HAND_BACK,
    HAND_BACK_TEACHER,
    OWN_PREFIX,
    REVERSE,
    STUDENT,
    STUDENT_PREFIX,
    STUDENT_TURNS,
    SWAPPED,
    TEACHER,
)

MOST_TURNS = 8
"""Maximum number of turns after which the teacher continues."""


@dataclass(frozen=True)
class DecayPlan:
    """What to sample.

    prefix_lengths: in tokens of the prefix's author, ascending, starting at 0.
    samples: rollouts per problem and policy.
    max_tokens: maximum length of prefix and continuation together.
    controls: names from the options; ``correct-so-far`` needs no rollouts of its own.
    part_rows: approximate number of sequences in a part on disk; parts have whole problems.
    parallel: parts sampled at once.
    hand_back: numbers of tokens that the teacher writes before the student finishes, ascending,
        above 0; none: no hand-back.
    """

    prefix_lengths: Ids
    samples: int
    max_tokens: int
    controls: tuple[str, ...]
    sampling: SamplingSettings
    part_rows: int = 256
    parallel: int = 1
    hand_back: Ids = ()


class Collector:
    """Runs the stages of one measurement and stores them in a run folder.

    left_out: number of prefixes that could not be handed over, by condition.
    """

    def __init__(
        self,
        student: Engine,
        teacher: Engine,
        problems: Sequence[Problem],
        prompts: dict[str, dict[str, Ids]],
        plan: DecayPlan,
        judge: Judge,
        folder: store.RunFolder,
        reporter: Reporter,
    ) -> None:
        """prompts: role -> problem_id -> prompt ids."""
        self.engines = {STUDENT: student, TEACHER: teacher}
        self.problems, self.prompts, self.plan = problems, prompts, plan
        self.judge, self.folder, self.reporter = judge, folder, reporter
        settings = StageSettings(plan.max_tokens, plan.sampling, plan.part_rows, plan.parallel)
        self.stages = Stages(self.engines, settings, judge, folder, reporter)
        self.hand_over = HandOver(student.policy, teacher.policy)
        self.tables: list[pa.Table] = []
        self.left_out: dict[str, int] = {}

    def collect(self, student_rollouts: pa.Table | None = None) -> pa.Table:
        """Runs every stage of the plan; writes the rollouts table to the folder and returns it.

        student_rollouts: existing rollouts in the table's schema, which replace the student stage.
        """
        finished = self.folder.read_rollouts()
        if finished is not None:
            current = self.judge.current(finished)
            if current is not finished:
                self.reporter.note(
                    "the rollouts are graded again, since the grading has changed since they were "
                    "written"
                )
                self.folder.merge([current])
            return current
        self.tables, self.left_out = [], {}
        if student_rollouts is None:
            student_rollouts = self._plain(STUDENT)
        else:
            self.tables.append(student_rollouts)
        teacher_rollouts = self._plain(TEACHER)
        self._continue(STUDENT_PREFIX, TEACHER, STUDENT, student_rollouts)
        if _has_masks(student_rollouts):
            self._continue(STUDENT_TURNS, TEACHER, STUDENT, student_rollouts)
        if OWN_PREFIX in self.plan.controls:
            self._continue(OWN_PREFIX, TEACHER, TEACHER, teacher_rollouts)
        if SWAPPED in self.plan.controls:
            shift = max(1, len(self.problems) // 2)
            self._continue(SWAPPED, TEACHER, STUDENT, student_rollouts, shift)
        if REVERSE in self.plan.controls:
            self._continue(REVERSE, STUDENT, TEACHER, teacher_rollouts)
        if self.plan.hand_back:
            self._hand_back(student_rollouts)
        return self.folder.merge(self.tables)

    def _plain(self, role: str) -> pa.Table:
        table = self.stages.plain(role, self.problems, self.prompts[role], self.plan.samples)
        self.tables.append(table)
        return table

    def _continue(
        self, condition: str, role: str, author: str, rollouts: pa.Table, shift: int = 0
    ) -> None:
        """One stage: ``role`` continues every prefix of each rollout.

        shift: a prefix is put after the prompt of the problem this many places later.
        """
        if shift and len(self.problems) < 2:
            self.reporter.note(f"{condition}: left out, since it needs at least two problems")
            return
        place = {problem.problem_id: index for index, problem in enumerate(self.problems)}
        names = {"rollout_id", "problem_id", "sample", "response_ids", own_tokens.MASK}
        pending: list[Pending] = []
        for row in rollouts.select(sorted(names & set(rollouts.column_names))).to_pylist():
            problem = self.problems[(place[row["problem_id"]] + shift) % len(self.problems)]
            for prefix in self._prefixes(condition, author, row):
                continuation = self._continuation(condition, role, author, problem, row, prefix)
                if continuation is not None:
                    pending.append(continuation)
        lengths = self.plan.prefix_lengths[1:]
        if lengths and not pending and condition != STUDENT_TURNS:
            self.reporter.note(
                f"{condition}: left out, since no rollout is unfinished after {lengths[0]} tokens"
            )
        # By problem, since parts have whole problems; a swapped prefix belongs to another one.
        pending.sort(key=lambda continuation: place[continuation.problem.problem_id])
        table = self.stages.run(condition, role, pending)
        self.tables.append(table if role == author else seams.told(table, self.hand_over))

    def _hand_back(self, rollouts: pa.Table) -> None:
        """Two stages: the teacher writes behind every prefix, and the student finishes behind its
        first tokens."""
        self._continue(HAND_BACK_TEACHER, TEACHER, STUDENT, rollouts)
        finishing = HandBack(
            self.hand_over,
            {problem.problem_id: problem for problem in self.problems},
            self.prompts[STUDENT],
            (0, *self.plan.hand_back),
            self.plan.max_tokens,
        )
        asked = [*finishing.pending(rollouts, self.tables[-1])]
        pending = [rollout for rollout in asked if rollout is not None]
        if len(pending) < len(asked):
            self.left_out[HAND_BACK] = len(asked) - len(pending)
        table = self.stages.run(HAND_BACK, STUDENT, pending)
        self.tables.append(seams.told(table, self.hand_over))

    def _prefixes(self, condition: str, author: str, row: dict[str, Any]) -> Iterator[Prefix]:
        """The first k tokens of a rollout that is unfinished at k, for every k > 0.

        For student-turns, the first turns and the answers to them, for each number of turns.
        """
        ids, mask = row["response_ids"], row.get(own_tokens.MASK)
        if condition == STUDENT_TURNS:
            if mask is not None:
                yield from islice(own_tokens.behind_turns(ids, mask), MOST_TURNS)
            return
        if ids and ids[-1] in self.engines[author].policy.end_ids:
            ids, mask = ids[:-1], mask and mask[:-1]
        for length in self.plan.prefix_lengths[1:]:
            prefix = own_tokens.prefix(ids, mask, length)
            if prefix is not None:
                yield prefix

    def _continuation(
        self,
        condition: str,
        role: str,
        author: str,
        problem: Problem,
        row: dict[str, Any],
        prefix: Prefix,
    ) -> Pending | None:
        """The rollout that continues a prefix; None if the prefix cannot be handed over, which is
        counted."""
        handed = Handed(prefix.ids) if role == author else self._handed(author, row, prefix)
        graded_ids = None
        if handed is not None:
            prefix = own_tokens.without(prefix, handed.shift)
            graded_ids = self._graded(prefix, handed, role == author, author)
        room = self.plan.max_tokens - len(handed.ids) if handed and handed.ids else 0
        if handed is None or graded_ids is None or room < 1:
            self.left_out[condition] = self.left_out.get(condition, 0) + 1
            return None
        correct = None
        if problem.steps is not None:
            text = self.engines[author].policy.decode(prefix.own_ids)
            correct = check_steps(text, problem.steps).correct_so_far
        length = len(prefix.own_ids) + handed.shift
        stage = f"{condition}/{prefix.turns or length}"
        prompt = self.prompts[role][problem.problem_id]
        columns = {
            "prefix_author": author,
            "prefix_tokens": length,
            "prefix_rollout_id": row["rollout_id"],
            "prefix_correct_so_far": correct,
            "prefix_turns": prefix.turns,
            "prefix_shift": handed.shift if self.hand_over.differs and role != author else None,
        }
        request = Request(prompt, tuple(handed.ids), room, stage, problem.problem_id, row["sample"])
        return Pending(request, problem, condition, columns, tuple(graded_ids))

    def _handed(self, author: str, row: dict[str, Any], prefix: Prefix) -> Handed | None:
        """A prefix in the reader's ids. It is not cut back into what a tool or a user wrote."""
        handed = self.hand_over.beginning(row["response_ids"], len(prefix.ids), author)
        mask = row.get(own_tokens.MASK)
        if handed is None or mask is None or not handed.shift:
            return handed
        cut = len(prefix.ids) - handed.shift
        return handed if all(mask[cut - 1 : len(prefix.ids)]) else None

    def _graded(
        self, prefix: Prefix, handed: Handed, is_own: bool, author: str
    ) -> Sequence[int] | None:
        """The ids of a prefix that are graded, of the policy that continues: tokens of tools and
        users are handed over, but not graded."""
        if len(prefix.own_ids) == len(prefix.ids):
            return handed.ids
        return prefix.own_ids if is_own else self.hand_over(prefix.own_ids, author)


def _has_masks(rollouts: pa.Table) -> bool:
    """Whether tools or users wrote parts of some responses."""
    if own_tokens.MASK not in rollouts.column_names:
        return False
    return bool(rollouts[own_tokens.MASK].null_count < len(rollouts))
