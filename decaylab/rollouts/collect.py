"""Collecting: the rollouts and continuations that a decay measurement stands on, stage by stage,
part by part.

student         what the student writes                          own-prefix   the teacher continues
its own rollouts teacher         what the teacher writes unprefixed                swapped      ...
a rollout to another problem student-prefix  the teacher continues the student's rollouts
reverse      the student continues the teacher's student-turns   ... behind whole turns, where the
student has several
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from decaylab.options.measuring import CONTROLS
from decaylab.policies.handover import HandOver
from decaylab.problems import abacus
from decaylab.problems.sets import Problem
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, Request, SamplingSettings
from decaylab.rollouts.stages import Pending, Stages, StageSettings
from decaylab.runs import own_tokens, store
from decaylab.runs.graded import Judge
from decaylab.runs.own_tokens import Prefix

MOST_TURNS = 8
"""Turns behind which the teacher continues at most."""


@dataclass(frozen=True)
class DecayPlan:
    """What is sampled.

    prefix_lengths: in tokens of the prefix's author, ascending, the first one 0.
    samples: rollouts for each problem and policy. max_tokens: the budget of prefix and continuation
    together.
    controls: a subset of `CONTROLS`; ``correct-so-far`` needs no rollouts of its own.
    part_rows: a part on disk holds whole problems and about this many sequences. parallel: parts
    sampled at once.
    """

    prefix_lengths: tuple[int, ...]
    samples: int
    max_tokens: int
    controls: tuple[str, ...]
    sampling: SamplingSettings
    part_rows: int = 256
    parallel: int = 1

    def __post_init__(self) -> None:
        lengths = self.prefix_lengths
        if not lengths or lengths[0] != 0 or any(a >= b for a, b in zip(lengths, lengths[1:])):
            raise ValueError(f"prefix_lengths must ascend from 0 without repeats, got {lengths}")
        if lengths[-1] >= self.max_tokens:
            raise ValueError(
                f"prefix_lengths must stay below max_tokens {self.max_tokens}, got {lengths[-1]}"
            )
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        unknown = set(self.controls) - set(CONTROLS)
        if unknown:
            raise ValueError(
                f"controls must be among {', '.join(CONTROLS)}, got {', '.join(sorted(unknown))}"
            )


class Collector:
    """Runs stages of one measurement into one run folder. Counts what could not be handed over in
    ``left_out``."""

    def __init__(
        self,
        student: Engine,
        teacher: Engine,
        problems: Sequence[Problem],
        prompts: dict[str, dict[str, tuple[int, ...]]],
        plan: DecayPlan,
        judge: Judge,
        folder: store.RunFolder,
        reporter: Reporter,
    ) -> None:
        """prompts: role -> problem_id -> prompt ids."""
        self.engines = {"student": student, "teacher": teacher}
        self.problems, self.prompts, self.plan = problems, prompts, plan
        self.judge, self.folder, self.reporter = judge, folder, reporter
        settings = StageSettings(plan.max_tokens, plan.sampling, plan.part_rows, plan.parallel)
        self.stages = Stages(self.engines, settings, judge, folder, reporter)
        self.hand_over = HandOver(student.policy, teacher.policy)
        self.tables: list[pa.Table] = []
        self.left_out: dict[str, int] = {}

    def collect(self, student_rollouts: pa.Table | None = None) -> pa.Table:
        """Every stage of the plan; returns the rollouts table, which is then also in the folder.

        student_rollouts: rollouts that somebody already has, in the table's schema, in place of the
        student's stage.
        """
        finished = self.folder.read_rollouts()
        if finished is not None:
            current = self.judge.current(finished)
            if current is not finished:
                self.reporter.note(
                    "the rollouts are graded again: the answer rules are others than when they "
                    "were graded"
                )
                self.folder.merge([current])
            return current
        self.tables, self.left_out = [], {}
        if student_rollouts is None:
            student_rollouts = self._plain("student")
        else:
            self.tables.append(student_rollouts)
        teacher_rollouts = self._plain("teacher")
        self._continue("student-prefix", "teacher", "student", student_rollouts)
        self._continue_turns(student_rollouts)
        if "own-prefix" in self.plan.controls:
            self._continue("own-prefix", "teacher", "teacher", teacher_rollouts)
        if "swapped" in self.plan.controls:
            self._continue(
                "swapped",
                "teacher",
                "student",
                student_rollouts,
                shift=max(1, len(self.problems) // 2),
            )
        if "reverse" in self.plan.controls:
            self._continue("reverse", "student", "teacher", teacher_rollouts)
        return self.folder.merge(self.tables)

    def _plain(self, role: str) -> pa.Table:
        table = self.stages.plain(role, self.problems, self.prompts[role], self.plan.samples)
        self.tables.append(table)
        return table

    def _continue(
        self, condition: str, role: str, author: str, rollouts: pa.Table, shift: int = 0
    ) -> None:
        """One stage: ``role`` continues the first k tokens of each rollout that is still open at k,
        for every k > 0.

        shift: the prefix stands under the problem so many places further on, instead of under its
        own.
        """
        if shift and len(self.problems) < 2:
            self.reporter.note(f"{condition}: needs at least two problems, left out")
            return
        by_id = {problem.problem_id: index for index, problem in enumerate(self.problems)}
        pending: list[Pending] = []
        columns = ["rollout_id", "problem_id", "sample", "response_ids", "response_mask"]
        for row in rollouts.select(
            [name for name in columns if name in rollouts.column_names]
        ).to_pylist():
            ids = self._content(row["response_ids"], author)
            mask = row.get("response_mask")
            problem = self.problems[(by_id[row["problem_id"]] + shift) % len(self.problems)]
            for length in self.plan.prefix_lengths[1:]:
                prefix = own_tokens.prefix(ids, None if mask is None else mask[: len(ids)], length)
                if prefix is not None:
                    one = self._continuation(condition, role, author, problem, row, prefix)
                    pending += [one] if one else []
        if not pending and self.plan.prefix_lengths[1:]:
            self.reporter.note(
                f"{condition}: no rollout holds {self.plan.prefix_lengths[1]} tokens, left out"
            )
        order = {problem.problem_id: index for index, problem in enumerate(self.problems)}
        pending.sort(key=lambda one: order[one.problem.problem_id])
        self.tables.append(self.stages.run(condition, role, pending))

    def _continue_turns(self, rollouts: pa.Table) -> None:
        """The teacher continues the student's rollouts of several turns behind each of the first
        turns and what answered it."""
        if own_tokens.MASK not in rollouts.column_names or rollouts[
            own_tokens.MASK
        ].null_count == len(rollouts):
            return
        problems = {problem.problem_id: problem for problem in self.problems}
        pending: list[Pending] = []
        columns = ["rollout_id", "problem_id", "sample", "response_ids", "response_mask"]
        for row in rollouts.select(columns).to_pylist():
            if row["response_mask"] is None:
                continue
            problem = problems[row["problem_id"]]
            for prefix in islice(
                own_tokens.behind_turns(row["response_ids"], row["response_mask"]), MOST_TURNS
            ):
                one = self._continuation(
                    "student-turns", "teacher", "student", problem, row, prefix
                )
                pending += [one] if one else []
        order = {problem.problem_id: index for index, problem in enumerate(self.problems)}
        pending.sort(key=lambda one: order[one.problem.problem_id])
        self.tables.append(self.stages.run("student-turns", "teacher", pending))

    def _content(self, ids: list[int], role: str) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self.engines[role].policy.end_ids else ids

    def _continuation(
        self,
        condition: str,
        role: str,
        author: str,
        problem: Problem,
        row: dict[str, Any],
        prefix: Prefix,
    ) -> Pending | None:
        handed = prefix.ids if role == author else self.hand_over(prefix.ids, author)
        own = handed
        if handed and len(prefix.own) < len(prefix.ids):
            own = prefix.own if role == author else self.hand_over(prefix.own, author)
        room = self.plan.max_tokens - len(handed) if handed else 0
        if handed is None or own is None or room < 1:
            self.left_out[condition] = self.left_out.get(condition, 0) + 1
            return None
        correct = None
        if problem.steps is not None:
            text = self.engines[author].policy.decode(prefix.own)
            correct = abacus.check_steps(text, problem.steps).correct_so_far
        stage = f"{condition}/{prefix.turns or len(prefix.own)}"
        prompt = self.prompts[role][problem.problem_id]
        return Pending(
            Request(prompt, tuple(handed), room, stage, problem.problem_id, row["sample"]),
            problem,
            condition,
            prefix_author=author,
            prefix_tokens=len(prefix.own),
            prefix_rollout_id=row["rollout_id"],
            prefix_correct_so_far=correct,
            prefix_turns=prefix.turns,
            own_prefix=tuple(own),
        )
