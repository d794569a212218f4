"""Which problems an answer rule can grade: gsm8k, for example, needs a numeric gold answer.

    applicable.rows(outcomes, "gsm8k")       # the problems that the rule can grade
    applicable.is_shown(outcomes, "gsm8k")   # whether these are at least 95 % of the problems

Rows are those of the rollouts or the outcomes table. Below `LEAST` a rule is not measured.
"""

from __future__ import annotations

import pandas as pd

from decaylab.problems.grading import Verdict

LEAST = 0.95
"""Smallest share of problems to which a rule must apply to be shown."""


def rows(graded: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The rows of the problems that the rule can grade."""
    return graded[graded[f"grade_{rule}"] != Verdict.NOT_APPLICABLE]


def is_shown(graded: pd.DataFrame, rule: str) -> bool:
    """Whether the rule applies to at least `LEAST` of the problems."""
    return bool(
        rows(graded, rule)["problem_id"].nunique() >= LEAST * graded["problem_id"].nunique()
    )


def note(graded: pd.DataFrame, rule: str) -> str:
    """A note on how many problems an accuracy by this rule leaves out; "" if none."""
    asked, judged = graded["problem_id"].nunique(), rows(graded, rule)["problem_id"].nunique()
    return (
        f"{rule} does not apply to {asked - judged} of {asked} gold answers, left out"
        if judged < asked
        else ""
    )
