"""Rollouts that vote."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from decaylab.problems.answers import ANSWER_RULES


def rollouts(
    *responses: tuple[str, str], problem: str = "p", rule: str = "last_boxed"
) -> pd.DataFrame:
    """Responses to one problem with their verdict by a rule; by the other rules none has an
    answer."""
    return pd.DataFrame(
        [
            {
                "problem_id": problem,
                "sample": sample,
                "stop_reason": "eos" if sample else "length",
                "response_ids": [5, 6, 7],
                "text": text,
                "answer_start": 0,
                **{
                    f"grade_{other}": verdict if other == rule else "no_answer"
                    for other in ANSWER_RULES
                },
            }
            for sample, (text, verdict) in enumerate(responses)
        ]
    )


def never(rule: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    return [False for _ in pairs]
