"""A problem and a problem set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from decaylab.problems import abacus
from decaylab.problems.chat_questions import Messages
from decaylab.problems.tasks import MATHEMATICS, Task

BOXED_INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."


@dataclass(frozen=True)
class Problem:
    """One question with its gold answer.

    question: text of the last user turn, without the set's instruction. answer: what a grader
    compares with, as text (for code and calls, JSON); None if the set has none. steps: the
    problem's chain of steps, for abacus. messages: role and content of all messages if there is a
    system message or several turns; the last one is `question`. tools: the functions that the
    model may call, as JSON text of the list that chat templates take; "" for none. completion: the
    text that a base model continues; "" for the plain form of the question.
    """

    problem_id: str
    question: str
    answer: str | None
    steps: tuple[abacus.Step, ...] | None = None
    messages: Messages = ()
    tools: str = ""
    completion: str = ""


@dataclass(frozen=True)
class ProblemSet:
    """Problems in their own order, with what a run must record about them.

    name: "abacus", "math500", "gsm8k", "gym:task", the hub id (with its configuration), the file's
    name, or "rows:" and a hash.
    version: of the generator, or the hub commit of the rows, "local file", or "given in Python".
    content_hash: SHA-256 over ids, questions, answers and any messages, functions and completion
    prompts of these problems, in order.
    instruction: text appended to each question; "" for none.
    answer_rule: the default answer rule.
    notes: what a reader of the results must know about the rows.
    own: the user's own problems, which may already contain an instruction.
    task: what is asked of the model, and how it is graded.
    """

    name: str
    version: str
    content_hash: str
    instruction: str
    answer_rule: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    own: bool = False
    task: Task = MATHEMATICS

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def without_gold(self) -> int:
        """Number of problems that have no gold answer."""
        return sum(problem.answer is None for problem in self.problems)


def content_hash(problems: Sequence[Problem]) -> str:
    """SHA-256 over what is asked and what counts as right."""
    digest = hashlib.sha256()
    # Line by line, to match the hashes of stored runs.
    for problem in problems:
        parts: list[Any] = [problem.problem_id, problem.question, problem.answer]
        parts += [part for part in (problem.messages, problem.tools, problem.completion) if part]
        row = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
        digest.update(f"{row}\n".encode())
    return digest.hexdigest()


def problem_set(
    name: str,
    version: str,
    problems: Sequence[Problem],
    notes: Sequence[str],
    instruction: str | None = BOXED_INSTRUCTION,
    task: Task = MATHEMATICS,
) -> ProblemSet:
    """A problem set with its hash. instruction: None for the user's own problems."""
    missing = sum(problem.answer is None for problem in problems)
    if missing:
        notes = [*notes, f"{missing} of {len(problems)} problems have no gold answer"]
    return ProblemSet(
        name=name,
        version=version,
        content_hash=content_hash(problems),
        instruction=instruction or "",
        answer_rule=task.answer_rules[0],
        problems=tuple(problems),
        notes=tuple(notes),
        own=instruction is None,
        task=task,
    )
