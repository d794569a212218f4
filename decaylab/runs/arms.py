"""Arms: which rollouts stand at a point of a curve, with the grades that they are compared with.

Rows of the rollouts table in, arrays out; what is estimated from them stands in the analyses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.problems import applicable
from decaylab.runs import own_tokens

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """Continuations of one length, one entry a rollout [rollouts].

    correct: the continuation's grade. author: the grade of the rollout that the prefix is cut from.
    unprefixed: the continuing policy's accuracy on the same problem without a prefix. problems:
    integer codes. tokens: written in each continuation; 0 where a finished rollout stands for it.
    """

    correct: Floats
    author: Floats
    unprefixed: Floats
    problems: NDArray[np.int64]
    tokens: NDArray[np.int64]


class Arms:
    """The arms of one table of rollouts, graded by one rule; without the problems to which that
    does not apply.

    codes: the problems' integer codes, sorted. outcome: correct or not by rollout. accuracy: of
    each policy alone, by problem.
    """

    def __init__(
        self, rollouts: pd.DataFrame, answer_rule: str, prefix_lengths: tuple[int, ...]
    ) -> None:
        self.lengths, rollouts = prefix_lengths[1:], applicable.rows(rollouts, answer_rule)
        self.data = rollouts.assign(
            correct=(rollouts[f"grade_{answer_rule}"] == "correct").astype(float),
            code=rollouts["problem_id"].map(
                {name: i for i, name in enumerate(sorted(set(rollouts["problem_id"])))}
            ),
            tokens=rollouts["response_ids"].map(len),
        )
        self.data["written"] = own_tokens.count(self.data)
        self.outcome = self.data.set_index("rollout_id")["correct"]
        self.accuracy = {
            role: self.data[self.data.condition == role].groupby("code")["correct"].mean()
            for role in ("student", "teacher")
        }
        self.codes = np.sort(self.data["code"].unique())

    def has(self, condition: str) -> bool:
        return bool((self.data.condition == condition).any())

    def of(self, condition: str) -> pd.DataFrame:
        """The rows of a condition."""
        return self.data[self.data.condition == condition]

    def written(self, author: str) -> pd.Series:
        """Response tokens of a policy's own rollouts, without the end-of-turn token."""
        return self.of(author)["written"]

    def unprefixed(self, role: str, problems: NDArray[np.int64]) -> Floats:
        """A policy's accuracy without a prefix on the problem of each rollout."""
        return np.asarray(pd.Series(problems).map(self.accuracy[role]), dtype=np.float64)

    def continued(self, condition: str, role: str, keep: pd.Series | None = None) -> dict[int, Arm]:
        """The continuations of a condition by prefix length, empty where no rollout was open;
        ``role`` wrote them."""
        rows = self.of(condition)
        if keep is not None:
            rows = rows[keep]
        found = {}
        for length in self.lengths:
            at = rows[rows.prefix_tokens == length]
            found[length] = self._arm(at, role)
        return found

    def _arm(self, rows: pd.DataFrame, role: str) -> Arm:
        """Continuations that a policy wrote."""
        return Arm(
            rows["correct"].to_numpy(),
            rows["prefix_rollout_id"].map(self.outcome).to_numpy(dtype=float),
            rows["code"].map(self.accuracy[role]).to_numpy(dtype=float),
            rows["code"].to_numpy(dtype=np.int64),
            rows["tokens"].to_numpy(dtype=np.int64),
        )

    def continued_behind_turns(self) -> dict[int, tuple[Arm, float]]:
        """Continuations behind whole turns of the student, by how many, each with the mean of the
        student's tokens there."""
        rows = self.of("student-turns")
        found = {}
        for turns in sorted(rows["prefix_turns"].dropna().unique()) if len(rows) else []:
            at = rows[rows["prefix_turns"] == turns]
            found[int(turns)] = self._arm(at, "teacher"), float(at["prefix_tokens"].mean())
        return found

    def plain(self, role: str) -> Arm:
        """The unprefixed rollouts of a policy; at prefix length 0 they are both curve and
        reference."""
        rows = self.of(role)
        codes = rows["code"].to_numpy(dtype=np.int64)
        unprefixed = rows["code"].map(self.accuracy[role]).to_numpy(dtype=float)
        correct = rows["correct"].to_numpy()
        return Arm(correct, correct, unprefixed, codes, rows["tokens"].to_numpy(dtype=np.int64))

    def carried_forward(self, condition: str, author: str) -> dict[int, Arm]:
        """All rollouts of an author by prefix length: a finished one keeps its grade, an open one
        has its continuation's.

        A rollout that is open but could not be handed over is in neither camp and left out at that
        length.
        """
        authored, rows = self.of(author), self.of(condition)
        found = {}
        for length in self.lengths:
            at = rows[rows.prefix_tokens == length]
            continued = at.set_index("prefix_rollout_id")
            plain = authored[
                (authored.written < length) | authored["rollout_id"].isin(continued.index)
            ]
            kept = (
                plain["rollout_id"]
                .map(continued["correct"])
                .fillna(plain["correct"])
                .to_numpy(dtype=float)
            )
            tokens = plain["rollout_id"].map(continued["tokens"]).fillna(0).to_numpy(dtype=np.int64)
            unprefixed = plain["code"].map(self.accuracy["teacher"]).to_numpy(dtype=float)
            codes = plain["code"].to_numpy(dtype=np.int64)
            found[length] = Arm(kept, plain["correct"].to_numpy(), unprefixed, codes, tokens)
        return found
