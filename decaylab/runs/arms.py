"""Arms: the rollouts behind each point of a curve, with the grades they are compared with.

Rows of the rollouts table in, arrays out; the analyses estimate from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import statistics as st
from decaylab.problems import applicable
from decaylab.problems.grading import Verdict
from decaylab.runs import own_tokens
from decaylab.runs.vocabulary import STUDENT, STUDENT_TURNS, TEACHER

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """Continuations of one length, one entry per rollout, [rollouts].

    correct: the continuation's grade. author: the grade of the rollout that the prefix was cut
    from. unprefixed: the continuing policy's accuracy on the same problem without a prefix.
    problems: integer codes. tokens: length of each continuation with its end-of-turn token; 0 for a
    finished rollout that is carried forward.
    """

    correct: Floats
    author: Floats
    unprefixed: Floats
    problems: Integers
    tokens: Integers


class Arms:
    """The arms of one table of rollouts, graded by one rule, over the problems it applies to.

    codes: the problems' integer codes, sorted. outcome: whether each rollout is correct. accuracy:
    of each policy alone, per problem.
    """

    def __init__(
        self, rollouts: pd.DataFrame, answer_rule: str, prefix_lengths: tuple[int, ...]
    ) -> None:
        rollouts = applicable.rows(rollouts, answer_rule)
        names = sorted(set(rollouts["problem_id"]))
        code_of = {name: code for code, name in enumerate(names)}
        self.lengths = prefix_lengths[1:]
        self.data = rollouts.assign(
            correct=(rollouts[f"grade_{answer_rule}"] == Verdict.CORRECT).astype(float),
            code=rollouts["problem_id"].map(code_of),
            length=rollouts["response_ids"].map(len),
            written=own_tokens.count(rollouts),
        )
        self.outcome = self.data.set_index("rollout_id")["correct"]
        self.accuracy = {
            role: self.of(role).groupby("code")["correct"].mean() for role in (STUDENT, TEACHER)
        }
        self.codes = np.sort(self.data["code"].unique())

    def critical(
        self, columns: Iterable[tuple[Floats, Integers]], *, level: float, seed: int
    ) -> float:
        """Multiplier of the band over a family of means; NaN if none of them has a rollout.

        columns: values and problems of each mean, [rollouts].
        """
        filled = [(values, problems) for values, problems in columns if len(problems)]
        if not filled:
            return math.nan
        residuals = [st.influence(values, problems, self.codes) for values, problems in filled]
        # Problems without a rollout in any column do not belong to the family.
        counted = np.isin(self.codes, np.concatenate([problems for _, problems in filled]))
        return st.simultaneous_critical(
            np.stack(residuals, axis=1)[counted], level=level, seed=seed
        )

    def has(self, condition: str) -> bool:
        return bool((self.data.condition == condition).any())

    def of(self, condition: str) -> pd.DataFrame:
        """The rows of a condition."""
        return self.data[self.data.condition == condition]

    def written(self, author: str) -> pd.Series:
        """Response tokens of a policy's own rollouts, without the end-of-turn token."""
        return self.of(author)["written"]

    def unprefixed(self, role: str, problems: Integers) -> Floats:
        """A policy's accuracy without a prefix on each rollout's problem."""
        return np.asarray(pd.Series(problems).map(self.accuracy[role]), dtype=np.float64)

    def continued(self, condition: str, role: str, keep: pd.Series | None = None) -> dict[int, Arm]:
        """The continuations of a condition by prefix length; empty if all rollouts end before.

        role: the policy that wrote them.
        """
        rows = self.of(condition)
        if keep is not None:
            rows = rows[keep]
        return {
            length: self._arm(rows[rows.prefix_tokens == length], role) for length in self.lengths
        }

    def continued_behind_turns(self) -> dict[int, tuple[Arm, float]]:
        """Teacher continuations after whole turns of the student, by the number of turns.

        Each comes with the mean number of student tokens before it.
        """
        if not self.has(STUDENT_TURNS):
            return {}
        return {
            int(rows["prefix_turns"].iloc[0]): (
                self._arm(rows, TEACHER),
                float(rows["prefix_tokens"].mean()),
            )
            for _, rows in self.of(STUDENT_TURNS).groupby("prefix_turns")
        }

    def plain(self, role: str) -> Arm:
        """A policy's rollouts without a prefix: the point at prefix length 0 and the reference."""
        rows = self.of(role)
        return self._entries(rows, role, rows["correct"], rows["correct"], rows["length"])

    def carried_forward(self, condition: str, author: str) -> dict[int, Arm]:
        """All rollouts of an author by prefix length, finished ones with their own grade.

        An unfinished rollout has its continuation's grade. An unfinished one without a continuation
        is left out at that length.
        """
        authored, rows = self.of(author), self.of(condition)
        arms = {}
        for length in self.lengths:
            continued = rows[rows.prefix_tokens == length].set_index("prefix_rollout_id")
            is_continued = authored["rollout_id"].isin(continued.index)
            plain = authored[(authored.written < length) | is_continued]
            correct = plain["rollout_id"].map(continued["correct"]).fillna(plain["correct"])
            tokens = plain["rollout_id"].map(continued["length"]).fillna(0)
            arms[length] = self._entries(plain, TEACHER, correct, plain["correct"], tokens)
        return arms

    def _arm(self, rows: pd.DataFrame, role: str) -> Arm:
        """Continuations that a policy wrote."""
        authors = rows["prefix_rollout_id"].map(self.outcome)
        return self._entries(rows, role, rows["correct"], authors, rows["length"])

    def _entries(
        self,
        rows: pd.DataFrame,
        role: str,
        correct: pd.Series,
        author: pd.Series,
        tokens: pd.Series,
    ) -> Arm:
        return Arm(
            correct.to_numpy(dtype=float),
            author.to_numpy(dtype=float),
            rows["code"].map(self.accuracy[role]).to_numpy(dtype=float),
            rows["code"].to_numpy(dtype=np.int64),
            tokens.to_numpy(dtype=np.int64),
        )
