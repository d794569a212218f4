"""Outcomes of the rollouts of an evaluation, one row each, in ``outcomes.parquet``.

checkpoint            ``base``, ``teacher``, or the label of a checkpoint
step                  of training: 0 for base, NaN for the teacher or if unknown
problem_id, sample
stop_reason           eos or length
response_tokens       tokens that the policy wrote, without the end-of-turn token
grade_RULE            for each answer rule: correct, wrong, no_answer, timeout or not_applicable
vote_RULE             for each of these rules that yields one answer: 0 for the correct class, 1,
                      2, ... for the problem's other classes, -1 for no vote
message_RULE          why a program or a call is not right, where the rule gives reasons
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from decaylab.problems import thoughts, votes
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Verdict
from decaylab.problems.judges import JUDGED_HERE
from decaylab.runs import own_tokens, store
from decaylab.runs.graded import GRADE, MESSAGE

OUTCOMES = "decaylab.outcomes/1"
FIELDS: dict[str, pa.DataType] = {
    "checkpoint": pa.string(),
    "step": pa.float64(),
    "problem_id": pa.string(),
    "sample": pa.int32(),
    "stop_reason": pa.string(),
    "response_tokens": pa.int32(),
}
Same = Callable[[str, Sequence[tuple[str, str]]], Sequence[bool]]
"""A rule and pairs of answers in; whether the answers of each pair are equal out: `Grader.same`."""


def schema(rules: Sequence[str]) -> pa.Schema:
    """The schema of the outcomes under these answer rules."""
    grades = {f"{GRADE}{rule}": pa.string() for rule in rules}
    ballots = {f"vote_{rule}": pa.int32() for rule in votes.VOTING_RULES if rule in rules}
    messages = {f"{MESSAGE}{rule}": pa.string() for rule in rules if rule in JUDGED_HERE}
    return pa.schema({**FIELDS, **grades, **messages, **ballots})


def collect(
    rollouts: Mapping[str, pd.DataFrame],
    steps: Mapping[str, float],
    same: Same,
    rules: Sequence[str] = ANSWER_RULES,
) -> pd.DataFrame:
    """The outcomes of plain rollouts by checkpoint, in the given order. A missing step is NaN.

    rules: the answer rules whose grades are kept.
    """
    tables = []
    derived = schema(rules).names[len(FIELDS) :]
    grades = [name for name in derived if not name.startswith("vote_")]
    for name, rows in rollouts.items():
        table = rows[["problem_id", "sample", "stop_reason", *grades]].assign(
            checkpoint=name,
            step=steps.get(name, np.nan),
            response_tokens=own_tokens.count(rows),
            text=thoughts.answers(rows["text"].tolist(), rows["answer_start"].tolist()),
        )
        tables.append(table)
    frame = pd.concat(tables, ignore_index=True)
    for rule in votes.VOTING_RULES:
        if rule not in rules:
            continue
        frame[f"vote_{rule}"] = _votes(frame, rule, same)
    return pd.DataFrame(frame[schema(rules).names])


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes outcomes, with the answer rules of their columns."""
    rules = [name.removeprefix(GRADE) for name in frame.columns if name.startswith(GRADE)]
    table = pa.Table.from_pandas(frame, schema=schema(rules), preserve_index=False)
    store.write_table(table, path, OUTCOMES)


def read(path: Path) -> pd.DataFrame:
    """Reads outcomes.

    Raises:
        UserError: the file is missing, is damaged, or has another schema.
    """
    return pd.DataFrame(store.read_table(path, OUTCOMES).to_pandas())


def _votes(frame: pd.DataFrame, rule: str, same: Same) -> np.ndarray:
    """The vote of each rollout, as a class of its checkpoint and problem."""
    grades = frame[f"grade_{rule}"].to_numpy()
    ballots = np.where(grades == Verdict.CORRECT, votes.RIGHT, votes.NO_VOTE)
    wrong = _places(frame, grades == Verdict.WRONG)
    texts = frame["text"].to_numpy()
    named = [[votes.named_answer(rule, texts[row]) or "" for row in rows] for rows in wrong]
    for rows, classes in zip(wrong, votes.classes(named, partial(same, rule)), strict=True):
        ballots[rows] = 1 + np.array(classes)
    # Answers whose grading timed out get a class each: no two count as equal.
    free = int(ballots.max(initial=votes.RIGHT)) + 1
    for rows in _places(frame, grades == Verdict.TIMEOUT):
        ballots[rows] = free + np.arange(len(rows))
    return ballots


def _places(frame: pd.DataFrame, chosen: np.ndarray) -> list[np.ndarray]:
    """Rows of the chosen rollouts, grouped by checkpoint and problem."""
    groups = frame[chosen].groupby(["checkpoint", "problem_id"], sort=False).indices
    rows = np.flatnonzero(chosen)
    return [rows[places] for places in groups.values()]
