"""Grades of stored rollouts, with a record of how they were made.

A table of rollouts contains a record of its grading: the answer rules, the grader's own code, the
versions of its dependencies, the marks of thoughts, and the gold answers. If the record differs
from the current grader's, the table is graded again when it is read (nothing is sampled), so no
table mixes two graders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from decaylab.plugins import origins
from decaylab.policies import identity
from decaylab.policies.policy import Policy
from decaylab.problems import grading, judges, thoughts
from decaylab.problems.grading import Grader
from decaylab.problems.problem import Problem
from decaylab.problems.tasks import MATHEMATICS, Task
from decaylab.runs import given_verdicts, own_tokens, store
from decaylab.runs.given_verdicts import GivenVerdicts

GRADE, MESSAGE = "grade_", "message_"
Grade = Callable[[Sequence[str], Sequence[str]], Mapping[str, Sequence[str]]]
"""Answers (the text after the thoughts) and gold answers in; a column of verdicts per answer rule
out (``grade_RULE``), and of messages for rules that give reasons (``message_RULE``)."""
RAISE = "; a larger --max-tokens lets them end"
"""What to do about rollouts that the budget cut off, at the end of a note."""
RECORD = b"decaylab_graded"


@dataclass(frozen=True)
class Judge:
    """Grades rows of the rollouts table.

    gold: by problem_id. policies: by role. marks: of thoughts. by: hash of the grading code. own:
    records of the user's own rules, of programs that ran without a sandbox, and of given verdicts.
    given, whose: verdicts from a file, and whose rollouts these are.
    """

    grade: Grade
    rules: tuple[str, ...]
    gold: Mapping[str, str]
    policies: Mapping[str, Policy]
    marks: thoughts.Marks = thoughts.KNOWN
    by: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    given: GivenVerdicts | None = None
    whose: str = ""

    @property
    def schema(self) -> pa.Schema:
        explained = tuple(rule for rule in self.rules if rule in judges.JUDGED_HERE)
        schema = store.rollout_schema(self.rules, explained)
        return schema.with_metadata({RECORD: self.record.encode()})

    @property
    def record(self) -> str:
        """Everything that verdicts depend on, as JSON, with a hash of the gold answers."""
        gold = hashlib.sha256(json.dumps(sorted(self.gold.items())).encode()).hexdigest()
        made_by = {"grader": self.by, "rules": self.rules, "thought_marks": self.marks}
        return json.dumps({**made_by, "gold": gold, **self.own})

    def table(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        """Rows with the columns derived from a response: own tokens, ``answer_start``,
        ``grade_RULE``, ``message_RULE``.

        A continuation is graded together with its prefix, after the prompt of the policy that wrote
        it.
        """
        texts = [row["text"] for row in rows]
        # A template may open a thought in the prompt, so its end is read too.
        starts = [self._answer_start(row) for row in rows]
        gold = [self.gold.get(row["problem_id"], "") for row in rows]
        verdicts = dict(self.grade(thoughts.answers(texts, starts), gold))
        if self.given:
            verdicts[f"{GRADE}{given_verdicts.RULE}"] = self.given.of(self.whose, rows, gold)
        whole = []
        for index, row in enumerate(rows):
            tokens = own_tokens.number(
                row["response_ids"], row.get("response_mask"), row["stop_reason"]
            )
            grades = {name: column[index] for name, column in verdicts.items()}
            whole.append({**row, "tokens": tokens, "answer_start": starts[index], **grades})
        return pa.Table.from_pylist(whole, schema=self.schema)

    def current(self, table: pa.Table) -> pa.Table:
        """The same rollouts with this judge's verdicts, graded again if the record differs."""
        if (table.schema.metadata or {}).get(RECORD) == self.record.encode():
            return table
        names = [name for name in store.ROLLOUT_FIELDS if name in table.column_names]
        return self.table(table.select(names).to_pylist())

    def _answer_start(self, row: dict[str, Any]) -> int | None:
        prompt_end = list(row["prompt_ids"][-thoughts.PROMPT_TOKENS :])
        return thoughts.answer_start(
            row["text"], self.policies[row["author"]].decode(prompt_end), self.marks
        )


def judge(
    grader: Grader,
    problems: Iterable[Problem],
    policies: Mapping[str, Policy],
    thought_marks: str | None,
    *named: str,
    task: Task = MATHEMATICS,
    given: GivenVerdicts | None = None,
    whose: str = "",
) -> Judge:
    """The judge of a run, with the answer rules, the policies' marks and ``--thought-marks``.

    named: the answer rules that the run names, beside those of the task. given, whose: verdicts
    from a file, and the label there of these rollouts.
    """
    rules = task.graded_by(*named)
    judged = [rule for rule in rules if rule != given_verdicts.RULE]

    def grade(texts: Sequence[str], gold: Sequence[str]) -> dict[str, list[str]]:
        grades = grader.grade(texts, gold, rules=judged, marks=())
        given = {f"{GRADE}{rule}": list(map(str, found)) for rule, found in grades.verdicts.items()}
        return given | {f"{MESSAGE}{rule}": found for rule, found in grades.messages.items()}

    marks = thoughts.of_pair(policies.values(), thought_marks)
    gold = {problem.problem_id: problem.answer or "" for problem in problems}
    by = {"code": _code(grading.CODE), **_versions()}
    if files := judges.files_of(rules):
        by["judges"] = _code(files)
    own = origins.identity((origins.ANSWER_RULE, rule) for rule in rules)
    if not grader.sandboxed:
        own["sandboxed"] = False
    if given:
        own["verdicts"] = [whose, given.sha256]
    return Judge(grade, rules, gold, policies, marks, by, own, given, whose)


def count_open(table: pa.Table) -> int:
    """Number of rollouts that end inside a thought."""
    return int(table["answer_start"].null_count)


def _code(files: Iterable[Path]) -> str:
    """A hash of grading code. If it changes, stored rollouts are graded again."""
    # A hash of the source, since a version number is easily forgotten.
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _versions() -> dict[str, str]:
    versions = identity.versions()
    return {name: versions[name] for name in ("math-verify", "latex2sympy2-extended", "sympy")}
