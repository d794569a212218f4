"""Problem sets of function calls: a question, the functions at hand, and the calls that are right.

    bfcl:CATEGORY    Berkeley Function Calling Leaderboard, single turn, Python
    glaive           glaiveai/glaive-function-calling-v2: prompts for training, without answers

The questions and the right calls of BFCL are in two files, joined by id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from decaylab.calls import glaive as glaive_rows
from decaylab.calls import schemas, sets
from decaylab.errors import UserError
from decaylab.problems.chat_questions import asked
from decaylab.problems.problem import Problem

CATEGORIES = sets.CATEGORIES
IRRELEVANCE = "irrelevance"


def bfcl(row: Mapping[str, Any], where: str, category: str) -> Problem:
    """A problem of one category, from a row with its right calls in ``ground_truth``."""
    answer = None if category == IRRELEVANCE else row
    messages, problem = sets.problem(row, answer, category, where)
    question, turns = asked(messages, where, "question")
    return Problem(
        str(row.get("id") or ""),
        question,
        problem.text(),
        messages=turns,
        tools=_tools(problem.functions),
    )


def own(row: Mapping[str, Any], where: str) -> Problem:
    """A problem of a user's own set, in the columns of BFCL; without right calls, none is right."""
    return bfcl(row, where, "parallel_multiple" if row.get("ground_truth") else IRRELEVANCE)


def glaive(row: Mapping[str, Any], where: str) -> Problem | None:
    """A training prompt; None for a row without functions, or one that cannot be read.

    Raises:
        UserError: a row without the columns.
    """
    glaive_rows.check_columns(row, where)
    try:
        prompt = glaive_rows.prompt(row, where)
    except UserError:
        return None
    if prompt is None:
        return None
    question, turns = asked(prompt.messages, where, "chat")
    return Problem("", question, None, messages=turns, tools=_tools(prompt.functions))


def _tools(functions: Sequence[dict[str, Any]]) -> str:
    return json.dumps(schemas.as_tools(tuple(functions)), ensure_ascii=False)
