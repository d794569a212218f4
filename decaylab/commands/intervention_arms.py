"""The prefixes that interventions continue: made ones, changed rollouts, edits of the user's own.

Each is text; `pending` has it encoded by the policy that continues it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from decaylab.errors import UserError, did_you_mean
from decaylab.policies.policy import Policy
from decaylab.problems import abacus_interventions as world
from decaylab.problems.edits import Edits
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Ids, Request
from decaylab.rollouts.stages import Pending
from decaylab.runs.vocabulary import AS_WRITTEN, CHANGED, EDIT, MADE


@dataclass(frozen=True)
class Arm:
    """A prefix to continue.

    condition: of its rollouts, see `decaylab.analyses.interventions`. samples: numbers of its
    continuations. correct: what the verifier says of the prefix; None without known steps. line:
    of a file of edits, for messages. rollout_id: of the rollout that it was cut from.
    """

    condition: str
    problem: Problem
    text: str
    samples: tuple[int, ...]
    correct: bool | None = None
    line: int = 0
    rollout_id: str = ""


def made(
    problems: Sequence[Problem], counts: Sequence[int], samples: int, seed: int
) -> Iterator[Arm]:
    """The first steps of each problem, correct and wrong, in both styles."""
    for problem in problems:
        assert problem.steps is not None, "the problem set has steps"
        subject = world.world_problem(problem.question, problem.steps)
        for count in counts:
            rng = random.Random(f"made/{seed}/{problem.problem_id}/{count}")
            for (content, style), text in world.made(subject, count, rng).items():
                condition = f"{MADE}/{count}/{content}/{style}"
                correct = content == world.CORRECT
                yield Arm(condition, problem, text, tuple(range(samples)), correct)


def changed(
    rollouts: pa.Table, problems: Mapping[str, Problem], policy: Policy, seed: int
) -> Iterator[Arm]:
    """Each rollout of the student up to a wrong or a correct step, as written and changed."""
    columns = ["rollout_id", "problem_id", "sample", "response_ids"]
    for row in rollouts.select(columns).to_pylist():
        problem = problems[row["problem_id"]]
        assert problem.steps is not None, "the problem set has steps"
        rng = random.Random(f"changed/{seed}/{row['rollout_id']}")
        text = policy.decode(row["response_ids"])
        for edit in world.edited(text, problem.steps, rng):
            repaired = edit.kind == "repaired"
            for arm, prefix in ((AS_WRITTEN, edit.as_written), (CHANGED, edit.changed)):
                yield Arm(
                    f"{edit.kind}/{edit.number}/{arm}",
                    problem,
                    prefix,
                    (row["sample"],),
                    repaired == (arm == CHANGED),
                    rollout_id=row["rollout_id"],
                )


def own(edits: Edits, problems: Mapping[str, Problem], samples: int) -> Iterator[Arm]:
    """The prefixes of a file.

    Raises:
        UserError: a problem is not among those that were selected.
    """
    numbers: dict[tuple[str, str], int] = {}
    for row in edits.rows:
        problem = problems.get(row.problem)
        if problem is None:
            raise UserError(
                f"--edits {edits.name}, line {row.line}: problem {row.problem!r} is not among the "
                f"{len(problems)} problems selected{did_you_mean(row.problem, problems)}; correct "
                "it, or select more (--problems, --limit)"
            )
        number = numbers[row.problem, row.label] = numbers.get((row.problem, row.label), -1) + 1
        condition = f"{EDIT}/{number}/{row.label}"
        yield Arm(condition, problem, row.prefix, tuple(range(samples)), line=row.line)


def pending(
    arms: Sequence[Arm], role: str, policy: Policy, prompts: Mapping[str, Ids], budget: int
) -> Iterator[Pending]:
    """The continuations of every arm by one policy.

    Raises:
        UserError: a prefix leaves no token of the budget, or holds the end of the turn.
    """
    for arm in arms:
        ids = tuple(policy.encode(arm.text)) if arm.text else ()
        _check(arm, ids, policy, budget)
        prompt = prompts[arm.problem.problem_id]
        columns = {
            "prefix_author": "",
            "prefix_tokens": len(ids),
            "prefix_rollout_id": arm.rollout_id,
            "prefix_correct_so_far": arm.correct,
        }
        for sample in arm.samples:
            # noise of its own for each policy and arm
            stage = f"interventions/{role}/{arm.condition}"
            request = Request(prompt, ids, budget - len(ids), stage, arm.problem.problem_id, sample)
            yield Pending(request, arm.problem, arm.condition, columns, ids)


def _check(arm: Arm, ids: Ids, policy: Policy, budget: int) -> None:
    """Raises UserError if nothing can be written behind a prefix."""
    where = f"--edits, line {arm.line}" if arm.line else "a prefix of --chain-steps"
    if len(ids) >= budget:
        remedy = "shorten it" if arm.line else "lower --chain-steps"
        raise UserError(
            f"{where}: the prefix has {len(ids)} tokens of {policy.name}, and the budget is "
            f"{budget}; {remedy}, or raise --max-tokens"
        )
    if set(ids) & set(policy.end_ids):
        raise UserError(
            f"{where}: the prefix holds the end-of-turn token of {policy.name}, behind which "
            "nothing is written; remove it"
        )
