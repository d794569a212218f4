"""Verdicts on stored rollouts, and by what they were given: where that changes, rollouts are graded
again, not sampled.

A table of rollouts carries the record of its grading: the answer rules, the grader's own code, the
versions of what it calls, the marks of thoughts, and the gold answers. A table with another record
is graded again when it is read, so that verdicts of two graders never stand in one table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from decaylab.policies import identity
from decaylab.policies.policy import Policy
from decaylab.problems import grading, thoughts
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Grader
from decaylab.problems.sets import Problem
from decaylab.runs import store

Grade = Callable[[Sequence[str], Sequence[str]], Mapping[str, Sequence[str]]]
"""Answers (what a response holds behind its thoughts) and gold answers in; one verdict a response
for each answer rule out."""
RECORD = b"decaylab_graded"


@dataclass(frozen=True)
class Judge:
    """Grades rows of the rollouts table.

    gold: by problem_id. policies: by the role that wrote a response. marks: of thoughts. by: the
    code that gives verdicts.
    """

    grade: Grade
    rules: tuple[str, ...]
    gold: Mapping[str, str]
    policies: Mapping[str, Policy]
    marks: thoughts.Marks = thoughts.KNOWN
    by: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        return store.rollout_schema(self.rules).with_metadata({RECORD: self.record.encode()})

    @property
    def record(self) -> str:
        """By what verdicts are given, as JSON; the gold answers as a hash."""
        gold = hashlib.sha256(json.dumps(sorted(self.gold.items())).encode()).hexdigest()
        return json.dumps(
            {"grader": self.by, "rules": self.rules, "thought_marks": self.marks, "gold": gold}
        )

    def table(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        """Rows without verdicts, graded: with ``answer_start`` and a ``grade_RULE`` column for each
        answer rule.

        A continuation is graded together with its prefix, behind the prompt of the policy that
        wrote it.
        """
        starts = [
            thoughts.answer_start(
                row["text"], self._prompt_end(row["author"], row["prompt_ids"]), self.marks
            )
            for row in rows
        ]
        found = thoughts.answers([row["text"] for row in rows], starts)
        graded = self.grade(found, [self.gold.get(row["problem_id"], "") for row in rows])
        whole = [
            {
                **row,
                "answer_start": start,
                **{f"grade_{rule}": graded[rule][index] for rule in self.rules},
            }
            for index, (row, start) in enumerate(zip(rows, starts, strict=True))
        ]
        return pa.Table.from_pylist(whole, schema=self.schema)

    def current(self, table: pa.Table) -> pa.Table:
        """The same rollouts with the verdicts of this judge: as they stand where it gave them, else
        graded again."""
        if (table.schema.metadata or {}).get(RECORD) == self.record.encode():
            return table
        return self.table(
            table.select(
                [name for name, _ in store.ROLLOUT_FIELDS if name in table.column_names]
            ).to_pylist()
        )

    def _prompt_end(self, role: str, ids: Sequence[int]) -> str:
        return self.policies[role].decode(list(ids[-thoughts.PROMPT_TOKENS :]))


def judge(
    grader: Grader,
    problems: Iterable[Problem],
    policies: Mapping[str, Policy],
    thought_marks: str | None,
) -> Judge:
    """The judge of a run: every answer rule, the marks of its policies and of
    ``--thought-marks``."""

    def grade(found: Sequence[str], gold: Sequence[str]) -> dict[str, list[str]]:
        verdicts = grader.grade(found, gold, marks=()).verdicts
        return {rule: [str(verdict) for verdict in given] for rule, given in verdicts.items()}

    marks = thoughts.of_pair(policies.values(), thought_marks)
    gold = {problem.problem_id: problem.answer or "" for problem in problems}
    return Judge(grade, ANSWER_RULES, gold, policies, marks, {"code": _code(), **_versions()})


def count_open(table: pa.Table) -> int:
    """Number of rollouts that end inside a thought."""
    return int(table["answer_start"].null_count)


def _code() -> str:
    """A hash of the code that gives verdicts: whatever changes in it, stored ones are given
    again."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in grading.CODE)).hexdigest()


def _versions() -> dict[str, str]:
    found = identity.versions()
    return {name: found[name] for name in ("math-verify", "latex2sympy2-extended", "sympy")}
