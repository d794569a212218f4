"""One token by the teacher at given places, then the student finishes; beside it the student alone.

At a place the prefix is what the student wrote before the token there. The teacher writes behind
it, and its first token is handed back (`hand_back`). Both continuations by the student are fresh
draws, so nothing that chose the place by the rest of its rollout favours either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from decaylab.policies.handover import Handed, HandOver
from decaylab.problems.problem import Problem
from decaylab.rollouts import seams
from decaylab.rollouts.hand_back import HandBack
from decaylab.rollouts.sampling import Ids, Request
from decaylab.rollouts.stages import Pending, Stages
from decaylab.runs.vocabulary import HAND_BACK, HAND_BACK_TEACHER, STUDENT, TEACHER

WITHOUT, WITH = 0, 1
"""Teacher tokens of the two continuations."""
LOOK_AHEAD = 2  # tokens that the teacher writes: a second one shows that the first ended no turn
Places = Mapping[str, Sequence[int]]
"""Positions by rollout_id, ascending."""


def collect(
    stages: Stages,
    problems: Sequence[Problem],
    prompts: Mapping[str, Mapping[str, Ids]],
    rollouts: pa.Table,
    places: Places,
) -> list[pa.Table]:
    """The teacher's tokens and the student's continuations, a table each, part by part.

    Places that cannot be handed over, or leave no token of the budget, have no rows.

    Args:
        stages: of both policies.
        problems: those of the rollouts.
        prompts: role -> problem_id -> prompt ids.
        rollouts: the student's, with rollout_id, problem_id, sample and response_ids.
        places: positions of tokens, from 0.
    """
    policies = {role: engine.policy for role, engine in stages.engines.items()}
    hand_over = HandOver(policies[STUDENT], policies[TEACHER])
    by_id = {problem.problem_id: problem for problem in problems}
    budget = stages.settings.max_tokens
    asked = list(_asked(rollouts, places, hand_over, by_id, prompts[TEACHER], budget))
    written = stages.run("teacher tokens", TEACHER, asked)
    back = HandBack(hand_over, by_id, dict(prompts[STUDENT]), (WITHOUT, WITH), budget)
    finishing = [one for one in back.pending(rollouts, written) if one is not None]
    finished = stages.run(HAND_BACK, STUDENT, finishing)
    return [seams.told(written, hand_over), seams.told(finished, hand_over)]


def _asked(
    rollouts: pa.Table,
    places: Places,
    hand_over: HandOver,
    problems: Mapping[str, Problem],
    prompts: Mapping[str, Ids],
    budget: int,
) -> Iterator[Pending]:
    """The teacher's requests, by problem."""
    order = {name: number for number, name in enumerate(problems)}
    columns = ["rollout_id", "problem_id", "sample", "response_ids"]
    rows = rollouts.select(columns).to_pylist()
    for row in sorted(rows, key=lambda row: order[row["problem_id"]]):
        for position in places.get(row["rollout_id"], ()):
            handed = _handed(row["response_ids"], position, hand_over)
            if handed is not None and budget - len(handed.ids) >= 1:
                room = min(LOOK_AHEAD, budget - len(handed.ids))
                asked = _request(row, position, handed, room, problems, prompts)
                shift = handed.shift if hand_over.differs else None
                yield replace(asked, prefix={**asked.prefix, "prefix_shift": shift})


def _handed(response: Sequence[int], position: int, hand_over: HandOver) -> Handed | None:
    """What stands before a position in the teacher's ids; None if it has none."""
    return hand_over.beginning(response, position, STUDENT) if position else Handed([])


def _request(
    row: Mapping[str, Any],
    position: int,
    handed: Handed,
    room: int,
    problems: Mapping[str, Problem],
    prompts: Mapping[str, Ids],
) -> Pending:
    problem = problems[row["problem_id"]]
    stage = f"{HAND_BACK_TEACHER}/{position}"
    prompt = prompts[problem.problem_id]
    request = Request(prompt, tuple(handed.ids), room, stage, problem.problem_id, row["sample"])
    columns = {
        "prefix_author": STUDENT,
        "prefix_tokens": position,
        "prefix_rollout_id": row["rollout_id"],
        "prefix_correct_so_far": None,
    }
    return Pending(request, problem, HAND_BACK_TEACHER, columns, tuple(handed.ids))
