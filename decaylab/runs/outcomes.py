"""Outcomes: what became of each rollout of an evaluation, one row a rollout, in
``outcomes.parquet``.

checkpoint       ``base``, ``teacher``, or the label of a checkpoint
step             of training: 0 for base, NaN for the teacher and where a checkpoint's folder does
not tell problem_id, sample stop_reason      eos or length response_tokens  that the policy wrote,
the end-of-turn token not counted grade_RULE       correct, wrong, no_answer, timeout or
not_applicable, for each answer rule vote_RULE        for each rule that names one answer: 0 the
right class, 1, 2, ... other classes of the problem, -1 no vote
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
from decaylab.runs import own_tokens, store

OUTCOMES = "decaylab.outcomes/1"
SCHEMA = pa.schema(
    [
        ("checkpoint", pa.string()),
        ("step", pa.float64()),
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("stop_reason", pa.string()),
        ("response_tokens", pa.int32()),
        *((f"grade_{rule}", pa.string()) for rule in ANSWER_RULES),
        *((f"vote_{rule}", pa.int32()) for rule in votes.VOTING_RULES),
    ]
)
Same = Callable[[str, Sequence[tuple[str, str]]], Sequence[bool]]
"""A rule and pairs of answers in; whether the two of each pair are one out. `Grader.same` is
one."""


def collect(
    rollouts: Mapping[str, pd.DataFrame], steps: Mapping[str, float], same: Same
) -> pd.DataFrame:
    """The outcomes of plain rollouts by checkpoint, in the order given. steps: NaN for those that
    it lacks."""
    tables = []
    for name, rows in rollouts.items():
        written = own_tokens.count(rows)
        kept = rows[
            ["problem_id", "sample", "stop_reason", *(f"grade_{rule}" for rule in ANSWER_RULES)]
        ]
        said = thoughts.answers(rows["text"].tolist(), rows["answer_start"].tolist())
        tables.append(
            kept.assign(
                checkpoint=name, step=steps.get(name, np.nan), response_tokens=written, text=said
            )
        )
    frame = pd.concat(tables, ignore_index=True)
    for rule in votes.VOTING_RULES:
        frame[f"vote_{rule}"] = _votes(frame, rule, same)
    return pd.DataFrame(frame[SCHEMA.names])


def write(frame: pd.DataFrame, path: Path) -> None:
    store.write_table(
        pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False), path, OUTCOMES
    )


def read(path: Path) -> pd.DataFrame:
    """Reads outcomes.

    Raises:
        UserError: the file is missing, damaged, or of another schema.
    """
    return pd.DataFrame(store.read_table(path, OUTCOMES).to_pandas())


def _votes(frame: pd.DataFrame, rule: str, same: Same) -> np.ndarray:
    """What each rollout votes for, by the classes of its checkpoint and problem."""
    grades = frame[f"grade_{rule}"].to_numpy()
    found = np.where(grades == Verdict.CORRECT, votes.RIGHT, votes.NO_VOTE)
    wrong = _places(frame, grades == Verdict.WRONG)
    texts = frame["text"].to_numpy()
    ballots = [[votes.named_answer(rule, texts[row]) or "" for row in rows] for rows in wrong]
    for rows, classes in zip(wrong, votes.classes(ballots, partial(same, rule)), strict=True):
        found[rows] = 1 + np.array(classes)
    free = (
        int(found.max(initial=votes.RIGHT)) + 1
    )  # beyond those of the wrong answers: no two of these are held equal
    for rows in _places(frame, grades == Verdict.TIMEOUT):
        found[rows] = free + np.arange(len(rows))
    return found


def _places(frame: pd.DataFrame, chosen: np.ndarray) -> list[np.ndarray]:
    """Rows of the chosen rollouts, those of one checkpoint and problem together."""
    groups = frame[chosen].groupby(["checkpoint", "problem_id"], sort=False).indices
    rows = np.flatnonzero(chosen)
    return [rows[places] for places in groups.values()]
