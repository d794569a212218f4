"""Student rollouts that somebody already has: a JSONL file in, rows of the rollouts table out.

Each line holds ``response`` (or ``text``, ``completion``, ``output``) and either ``problem_id`` of a problem in the set
that is asked, or ``question`` and ``answer`` of its own. ``sample`` numbers the rollouts of a problem (by order where it is
missing), ``stop_reason`` (or ``finish_reason``) says ``length`` for a rollout that was cut off; without it a rollout counts as ended.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from decaylab import store
from decaylab.errors import UserError
from decaylab.policies import Policy
from decaylab.problems import Problem

RESPONSE_COLUMNS = ("response", "text", "completion", "output")
QUESTION_COLUMNS = ("question", "problem", "prompt")


@dataclass(frozen=True)
class ExternalRollout:
    """One line of the file."""

    problem_id: str
    sample: int
    response: str
    cut_off: bool


@dataclass(frozen=True)
class ExternalRollouts:
    """The lines of a file, the problems it brings itself (empty where it names those of a set), and its hash."""

    rollouts: tuple[ExternalRollout, ...]
    problems: tuple[Problem, ...]
    content_hash: str

    @property
    def samples(self) -> int:
        """Most rollouts of one problem."""
        return 1 + max(rollout.sample for rollout in self.rollouts)


def read(path: Path) -> ExternalRollouts:
    """Reads a JSONL file of rollouts.

    Raises:
        UserError: no such file, an empty one, a malformed line (with its number), a line without a response or a problem.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read rollouts {path}: {error.strerror}") from error
    rollouts: list[ExternalRollout] = []
    problems: dict[str, Problem] = {}
    seen: dict[str, int] = defaultdict(int)
    for number, line in enumerate(raw.decode("utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        row = _row(line, f"{path}:{number}")
        response = _first(row, RESPONSE_COLUMNS)
        if not isinstance(response, str):
            raise UserError(f"{path}:{number}: no text under {' or '.join(RESPONSE_COLUMNS)} (found {', '.join(row)})")
        problem_id = _problem_of(row, f"{path}:{number}", problems)
        sample = int(row.get("sample", seen[problem_id]))
        seen[problem_id] += 1
        reason = row.get("stop_reason", row.get("finish_reason", "eos"))
        rollouts.append(ExternalRollout(problem_id, sample, response, reason == "length"))
    if not rollouts:
        raise UserError(f"{path} holds no rollouts")
    keys = [(rollout.problem_id, rollout.sample) for rollout in rollouts]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{path}: sample {twice[1]} of problem {twice[0]} stands there twice")
    return ExternalRollouts(tuple(rollouts), tuple(problems.values()), hashlib.sha256(raw).hexdigest())


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: a line must be an object with a response, got {type(row).__name__}")
    return row


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _problem_of(row: dict[str, Any], place: str, problems: dict[str, Problem]) -> str:
    """The id a line names; a line with a question of its own adds that problem."""
    question = _first(row, QUESTION_COLUMNS)
    if question is not None and "answer" in row:
        own = str(row.get("problem_id", hashlib.sha256(str(question).encode()).hexdigest()[:12]))
        problems.setdefault(own, Problem(own, str(question), str(row["answer"])))
        return own
    if "problem_id" not in row:
        raise UserError(f"{place}: neither problem_id nor question and answer (found {', '.join(row)})")
    return str(row["problem_id"])


def to_table(
    external: ExternalRollouts,
    problems: Sequence[Problem],
    author: Policy,
    grade: Callable[[Sequence[str], Sequence[str]], dict[str, list[str]]],
    answer_rules: tuple[str, ...],
    prompts: dict[str, tuple[int, ...]],
) -> pa.Table:
    """Rows of the rollouts table, in the order of the problems; rollouts of other problems are not in it.

    The responses are encoded by the author's tokenizer, since only their text is known.
    """
    by_problem: dict[str, list[ExternalRollout]] = defaultdict(list)
    for rollout in external.rollouts:
        by_problem[rollout.problem_id].append(rollout)
    chosen = [(problem, rollout) for problem in problems for rollout in by_problem[problem.problem_id]]
    graded = grade([rollout.response for _, rollout in chosen], [problem.answer or "" for problem, _ in chosen])
    end = min(author.end_ids)
    rows = [
        {
            "rollout_id": f"student/{problem.problem_id}/{rollout.sample}",
            "condition": "student",
            "problem_id": problem.problem_id,
            "sample": rollout.sample,
            "author": "student",
            "policy": author.name,
            "prompt_ids": prompts[problem.problem_id],
            "prefix_ids": [],
            "prefix_author": "",
            "prefix_tokens": 0,
            "prefix_rollout_id": "",
            "response_ids": author.encode(rollout.response) + ([] if rollout.cut_off else [end]),
            "text": rollout.response,
            "stop_reason": "length" if rollout.cut_off else "eos",
            "engine": "external",
            **{f"grade_{rule}": verdicts[index] for rule, verdicts in graded.items()},
        }
        for index, (problem, rollout) in enumerate(chosen)
    ]
    return pa.Table.from_pylist(rows, schema=store.rollout_schema(answer_rules))
