"""What run.json holds of a pair, whatever the command: what identifies it, and what is only noted.

What stands under ``identity`` must agree for a run to be resumed; the rest may differ.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from decaylab.pair import kept_prompts
from decaylab.pair.prepare import Setup
from decaylab.policies.identity import versions
from decaylab.policies.loading import Policy
from decaylab.rollouts.engine_spec import engine_record


def policies(setup: Setup[Any]) -> dict[str, Policy]:
    """The pair by role."""
    return {"student": setup.student, "teacher": setup.teacher}


def identity(setup: Setup[Any], **problems: Any) -> dict[str, Any]:
    """Policies, precision, engine, prompts and problems of a pair.

    A command adds its options, and whatever else its results depend on.

    problems: more of the problems, such as how many were asked.
    """
    pair, problem_set = policies(setup), setup.problem_set
    return {
        **{role: asdict(policy.identity) for role, policy in pair.items()},
        "precision": {role: policy.precision for role, policy in pair.items()},
        "engine": engine_record(setup.options),
        "prompts": kept_prompts.digest(setup.prompts),
        "problems": {
            "name": problem_set.name,
            "version": problem_set.version,
            "content_hash": problem_set.content_hash,
            "instruction": problem_set.instruction,
            **problems,
        },
    }


def end_ids(setup: Setup[Any]) -> dict[str, list[int]]:
    """The end-of-turn tokens of each policy."""
    return {role: sorted(policy.end_ids) for role, policy in policies(setup).items()}


def noted(setup: Setup[Any]) -> dict[str, Any]:
    """Versions, and what must be known of the pair and its prompts."""
    return {
        "versions": versions(),
        "notes": list(setup.notes),
        "prompt_notes": list(setup.prompt_notes),
    }


def example_prompt(setup: Setup[Any]) -> dict[str, Any]:
    """The first problem as each policy reads it."""
    texts: dict[str, Any] = {}
    for role, policy in policies(setup).items():
        first = next(iter(setup.prompts[role].values()))
        texts[role] = policy.tokenizer.decode(list(first))
    return texts
