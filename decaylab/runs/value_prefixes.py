"""Prefixes of rollouts with their values and signals, and the segments between them.

Rows of the rollouts table and of the scored tokens in, one row per prefix out. A prefix is the
first ``position`` tokens of a rollout that is unfinished there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from decaylab.maths.clusters import Floats
from decaylab.maths.noisy_values import Counts
from decaylab.problems import applicable
from decaylab.problems.grading import Verdict
from decaylab.runs import own_tokens
from decaylab.runs import rows as estimated
from decaylab.runs.vocabulary import STUDENT, STUDENT_VALUE, TEACHER_VALUE

SCORES = (
    *("reverse_kl", "student_entropy", "teacher_entropy"),
    *("student_logprob", "teacher_logprob"),
)
"""The columns of scored tokens that signals are made of, in nats."""
POSITION = "token position"
SIGNALS = {
    POSITION: "tokens written so far",
    "KL so far": "mean reverse KL of the tokens written so far",
    "KL of the next window": "mean reverse KL up to the next position of the grid",
    "student entropy so far": "mean over the tokens written so far",
    "student entropy next": "at the next token",
    "teacher entropy so far": "mean over the tokens written so far",
    "teacher entropy next": "at the next token",
    "log-ratio so far": "sum of log teacher / student of the tokens written so far",
    "teacher log-probability": "mean over the tokens written so far",
}
"""Each signal at a prefix, and what it is."""
UNCERTAINTY = ("student entropy so far", "student entropy next")
STUDENT_COUNTS, TEACHER_COUNTS = "student", "teacher"
FIRST_HALF, SECOND_HALF = "first", "second"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of everything that is measured of values.

    grid: token positions of the prefixes, ascending from 0. answer_rule: by which answers are
    right. rate: false-discovery rate of turning points.
    """

    grid: tuple[int, ...]
    answer_rule: str
    rate: float = 0.1


def prefixes(rollouts: pd.DataFrame, tokens: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """One row per prefix, in the order of the rollouts and then of the positions.

    Columns: rollout_id; problem, a code; position; written, the tokens of the whole rollout without
    its end; outcome, 0 or 1, of the rollout. ``NAME_right`` and ``NAME_draws`` of the continuations
    by ``student`` and ``teacher``, and of the ``first`` and the ``second`` half of the student's. A
    column for each of `SIGNALS`, NaN where it is undefined. score: the sum of log teacher / student
    from here to the next position, or to the rollout's end if that comes first.

    Args:
        rollouts: rows of the rollouts table: conditions ``student``, ``student-value`` and
            ``teacher-value``.
        tokens: rollout_id, position and `SCORES`, a row per token, ordered by position.
        settings: grid and answer rule.
    """
    grid, answer_rule = settings.grid, settings.answer_rule
    judged = applicable.rows(rollouts, answer_rule)
    judged = judged.assign(
        right=(judged[f"grade_{answer_rule}"] == Verdict.CORRECT).astype(np.int64)
    )
    base = judged[judged["condition"] == STUDENT]
    found = _counted(judged).join(_of_rollouts(base), on="prefix_rollout_id", how="inner")
    found = found.reset_index().rename(
        columns={"prefix_rollout_id": "rollout_id", "prefix_tokens": "position"}
    )
    found = found.sort_values(["order", "position"], ignore_index=True)
    return pd.concat([found, _signals(found, tokens, grid)], axis=1)


def _of_rollouts(base: pd.DataFrame) -> pd.DataFrame:
    """What is known of each rollout of the student, by its id."""
    codes = {name: code for code, name in enumerate(sorted(set(base["problem_id"])))}
    return pd.DataFrame(
        {
            "problem": base["problem_id"].map(codes).to_numpy(),
            "written": own_tokens.count(base),
            "response": base["response_ids"].map(len).to_numpy(),
            "outcome": base["right"].to_numpy(),
            "order": np.arange(len(base)),
        },
        index=pd.Index(base["rollout_id"], name="prefix_rollout_id"),
    )


def _counted(judged: pd.DataFrame) -> pd.DataFrame:
    """Right continuations and continuations of each prefix, by rollout and position."""
    place = ["prefix_rollout_id", "prefix_tokens"]
    student = judged[judged["condition"] == STUDENT_VALUE]
    number = student.groupby(place).cumcount()
    half = student.groupby(place)["right"].transform("size") // 2
    of = {
        STUDENT_COUNTS: student,
        TEACHER_COUNTS: judged[judged["condition"] == TEACHER_VALUE],
        FIRST_HALF: student[number < half],
        SECOND_HALF: student[number >= half],
    }
    columns = []
    for name, draws in of.items():
        counts = draws.groupby(place)["right"].agg(["sum", "size"])
        columns.append(counts.rename(columns={"sum": f"{name}_right", "size": f"{name}_draws"}))
    return pd.concat(columns, axis=1, join="inner")


def _signals(found: pd.DataFrame, tokens: pd.DataFrame, grid: Sequence[int]) -> pd.DataFrame:
    """The signals at each prefix, and the score of the segment behind it."""
    places = tokens.groupby("rollout_id", sort=False, observed=True).indices
    columns = tokens[[*SCORES]].to_numpy(dtype=np.float64)
    empty = np.zeros((0, len(SCORES)))
    windows = dict(pairwise([*grid, 2 * grid[-1] - grid[-2]]))
    ends = dict(pairwise([*grid, np.inf]))
    rows = []
    for name, position, response in zip(
        found["rollout_id"], found["position"].tolist(), found["response"].tolist(), strict=True
    ):
        scores = columns[places[name]] if name in places else empty
        signals = [*_at(scores, position, windows[position])]
        rows.append([*signals, _score(scores, position, min(ends[position], response))])
    return pd.DataFrame(rows, columns=[*SIGNALS, "score"], dtype=np.float64)


def _at(scores: Floats, position: int, window_end: int) -> Iterator[float]:
    """The values of `SIGNALS` at a prefix. scores: of its rollout, [tokens, `SCORES`]."""
    read = position <= len(scores)
    so_far = _means(scores[:position]) if read else _means(scores[:0])
    behind = _means(scores[position:window_end])
    following = _means(scores[position : position + 1])
    kl, student, teacher, log_student, log_teacher = so_far
    yield float(position)
    yield kl
    yield behind[0]
    yield from (student, following[1], teacher, following[2])
    yield position * (log_teacher - log_student)
    yield log_teacher


def _means(scores: Floats) -> list[float]:
    """Means over tokens, [`SCORES`]; NaN without a token."""
    if not len(scores):
        return [np.nan] * len(SCORES)
    means: list[float] = scores.mean(axis=0).tolist()
    return means


def _score(scores: Floats, start: int, end: float) -> float:
    """Sum of log teacher / student over these positions; NaN where one of them has no score."""
    if end > len(scores):
        return np.nan
    student, teacher = SCORES.index("student_logprob"), SCORES.index("teacher_logprob")
    part = scores[start : int(end)]
    return float((part[:, teacher] - part[:, student]).sum())


def values(found: pd.DataFrame, name: str) -> Floats:
    """Share of right continuations of each prefix, by the draws of a policy or of a half."""
    shares: Floats = (found[f"{name}_right"] / found[f"{name}_draws"]).to_numpy(dtype=np.float64)
    return shares


@dataclass(frozen=True)
class Segments:
    """Segments of rollouts from a position of the grid to the next one, or to the rollout's end if
    that comes first.

    starts: rows of `prefixes`. ends: the row of the same rollout at the next position, [segments];
    -1 where the rollout ended before, and its value is its outcome.
    """

    starts: pd.DataFrame
    ends: pd.DataFrame
    ended: np.ndarray

    def start(self, name: str) -> Counts:
        """The draws of a policy at the starts."""
        return Counts.of(self.starts[f"{name}_right"], self.starts[f"{name}_draws"])

    def end(self, name: str) -> Counts:
        """The same at the ends; a rollout that has ended has its outcome, known exactly."""
        right = np.where(self.ended, self.starts["outcome"], self.ends[f"{name}_right"])
        draws = np.where(self.ended, 0, self.ends[f"{name}_draws"])
        return Counts.of(right, draws)

    def both_ends(self, name: str) -> tuple[Floats, Floats]:
        """Values at the starts and at the ends, by the draws of a policy or of a half."""
        ends = np.where(self.ended, self.starts["outcome"], values(self.ends, name))
        return values(self.starts, name), ends

    def only(self, chosen: np.ndarray) -> Segments:
        """Some of the segments. chosen: true where kept, [segments]."""
        return Segments(self.starts[chosen], self.ends[chosen], self.ended[chosen])


def segments(found: pd.DataFrame, grid: Sequence[int]) -> Segments:
    """The segments between these prefixes; one whose end was left out is left out. The last
    position of the grid begins a segment that goes to the end of the rollout."""
    after = dict(pairwise([*grid, np.inf]))
    following = found["position"].map(after)
    keys = pd.MultiIndex.from_arrays([found["rollout_id"], found["position"]])
    wanted = pd.MultiIndex.from_arrays([found["rollout_id"], following])
    place = keys.get_indexer(wanted)
    ended = (found["written"] < following).to_numpy()
    kept = ended | (place >= 0)
    starts, ends = found[kept], found.iloc[place[kept]]
    return Segments(starts.reset_index(drop=True), ends.reset_index(drop=True), ended[kept])
