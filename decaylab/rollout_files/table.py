"""Rollouts of a file as rows of the rollouts table, in the order of the problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from decaylab.policies.policy import Policy
from decaylab.problems.sets import Problem
from decaylab.rollout_files import grades
from decaylab.rollout_files.reading import GivenRollout, Read
from decaylab.rollout_files.responses import Encoder
from decaylab.runs.graded import Judge


def to_table(
    read: Read,
    problems: Sequence[Problem],
    author: Policy,
    judge: Judge,
    prompts: Mapping[str, tuple[int, ...]],
) -> tuple[pa.Table, tuple[str, ...]]:
    """Rows of the rollouts table and notes; rollouts of other problems are not in it.

    Args:
        author: the student, whose tokens the responses are in.
        prompts: its prompt ids by problem.

    Raises:
        UserError: responses that cannot be those of this student.
    """
    by_problem: dict[str, list[GivenRollout]] = defaultdict(list)
    for one in read.rollouts:
        by_problem[one.problem_id].append(one)
    chosen = [one for problem in problems for one in by_problem[problem.problem_id]]
    # Only the rollouts that are measured are encoded: a file may hold many more.
    encoder = Encoder(author)
    responses = encoder.responses(chosen)
    verdicts, graded = grades.verdicts(chosen)
    rows = [
        {
            "rollout_id": f"student/{one.problem_id}/{one.sample}",
            "condition": "student",
            "problem_id": one.problem_id,
            "sample": one.sample,
            "author": "student",
            "policy": author.name,
            "prompt_ids": prompts[one.problem_id],
            "prefix_ids": [],
            "prefix_author": "",
            "prefix_tokens": 0,
            "prefix_rollout_id": "",
            "response_ids": response.ids,
            "response_mask": response.mask,
            "text": response.text,
            "stop_reason": response.stop_reason,
            "engine": "external",
            "file_grade": verdict,
        }
        for one, response, verdict in zip(chosen, responses, verdicts, strict=True)
    ]
    return judge.table(rows), (*encoder.notes(read.name), *graded)
