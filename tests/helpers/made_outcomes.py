"""Outcomes at random, in the columns of the outcomes table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from decaylab.problems.votes import NO_VOTE, VOTING_RULES

RIGHT, WRONG = "correct", "wrong"


def outcomes(
    models: Mapping[str, Mapping[str, Sequence[int]]],
    steps: Mapping[str, float] | None = None,
    anywhere: str | None = None,
) -> pd.DataFrame:
    """Rows of the outcomes table. models: checkpoint -> problem -> the vote of each sample.
    anywhere: grade by that rule."""
    rows = [
        {
            "checkpoint": checkpoint,
            "step": (steps or {}).get(checkpoint, math.nan),
            "problem_id": problem,
            "sample": sample,
            "stop_reason": "eos",
            "response_tokens": 10,
            "grade_last_boxed": {0: RIGHT, NO_VOTE: "no_answer"}.get(vote, WRONG),
            "grade_anywhere": anywhere or (RIGHT if vote == 0 else WRONG),
            **{f"vote_{rule}": vote for rule in VOTING_RULES},
        }
        for checkpoint, problems in models.items()
        for problem, votes in problems.items()
        for sample, vote in enumerate(votes)
    ]
    return pd.DataFrame(rows)


def at_random(seed: int, problems: int = 25, samples: int = 4) -> dict[str, list[int]]:
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.1, 0.7, problems)
    return {
        f"p{number:02}": np.where(
            rng.random(samples) < ease[number], 0, rng.choice([-1, 1, 2, 3], samples)
        ).tolist()
        for number in range(problems)
    }
