"""run.json as every command writes it: what a run depends on, and what produced it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from decaylab.plugins import origins
from decaylab.policies.identity import versions
from decaylab.policies.policy import Policy
from decaylab.problems.problem import ProblemSet
from decaylab.runs.made import MADE, begun


def identity_of_pair(
    policies: Mapping[str, Policy],
    problem_set: ProblemSet,
    prompts_digest: str,
    **problems: Any,
) -> dict[str, Any]:
    """The part of a run's identity that follows from its pair and problems.

    Args:
        policies: by role.
        prompts_digest: a hash of all prompt ids.
        problems: more to say of the problems, such as how many are ``asked``.
    """
    about_problems = {
        "name": problem_set.name,
        "version": problem_set.version,
        "content_hash": problem_set.content_hash,
        "instruction": problem_set.instruction,
        **problems,
    }
    return {
        **{role: asdict(policy.identity) for role, policy in policies.items()},
        "precision": {role: policy.precision for role, policy in policies.items()},
        "prompts": prompts_digest,
        "problems": about_problems,
    }


def own_parts(options: Any, problem_set: ProblemSet) -> dict[str, Any]:
    """The part of a run's identity for the functions of the user's own that it uses; {} without.

    Args:
        options: of a command on a pair.
        problem_set: its problems, which may have an answer rule of the user's own.

    Raises:
        UserError: one of them cannot be imported by another process.
    """
    of_set = origins.ANSWER_RULE, problem_set.answer_rule
    return origins.identity([*options.own_parts(), of_set])


def end_ids(policies: Mapping[str, Policy]) -> dict[str, list[int]]:
    """The ids that end a response, by role."""
    return {role: sorted(policy.end_ids) for role, policy in policies.items()}


def example_prompt(
    policies: Mapping[str, Policy], prompts: Mapping[str, Mapping[str, Sequence[int]]]
) -> dict[str, str]:
    """The first prompt of each role as it is rendered."""
    return {
        role: str(policy.tokenizer.decode(list(next(iter(prompts[role].values())))))
        for role, policy in policies.items()
    }


def run_record(
    command: str,
    identity: dict[str, Any],
    *,
    notes: Sequence[str] = (),
    prompt_notes: Sequence[str] = (),
    engine: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The content of run.json. ``identity`` must agree for a run to be resumed.

    engine: what samples, as `engine_spec.engine_record` describes it. A run may be resumed with
        another: each rollout says which one sampled it.
    """
    return {
        "command": command,
        "identity": identity,
        "versions": versions(),
        MADE: begun(engine),
        "notes": list(notes),
        "prompt_notes": list(prompt_notes),
        **more,
    }
