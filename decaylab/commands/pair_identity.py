"""What identifies the pair of a command that measures, in its run.json."""

from __future__ import annotations

from typing import Any

from decaylab.pair import kept_prompts
from decaylab.pair.prepare import Setup
from decaylab.policies.policy import Policy
from decaylab.runs import records
from decaylab.runs.vocabulary import STUDENT, TEACHER


def policies(setup: Setup[Any]) -> dict[str, Policy]:
    """The pair by role."""
    return {STUDENT: setup.student, TEACHER: setup.teacher}


def identity(setup: Setup[Any]) -> dict[str, Any]:
    """Policies, problems and prompts. A command adds its options, and whatever else its
    results depend on."""
    return records.identity_of_pair(
        policies(setup),
        setup.problem_set,
        kept_prompts.digest(setup.prompts),
        asked=len(setup.problems),
    )
