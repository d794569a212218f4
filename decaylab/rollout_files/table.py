"""Converts the rollouts of a file to rows of the rollouts table, in the order of the problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from decaylab.policies.policy import Policy
from decaylab.problems.problem import Problem
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
    """The rollouts table of these problems, and notes.

    Args:
        read: the files' contents.
        problems: the measured problems; rollouts of others are left out.
        author: the student, in whose tokens the responses are encoded.
        judge: grades the rows.
        prompts: the student's prompt ids by problem.

    Raises:
        UserError: responses that cannot be from this student.
    """
    by_problem: dict[str, list[GivenRollout]] = defaultdict(list)
    for one in read.rollouts:
        by_problem[one.problem_id].append(one)
    chosen = [one for problem in problems for one in by_problem[problem.problem_id]]
    # Encode only the measured rollouts: a file may have many more.
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
