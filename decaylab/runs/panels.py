"""The rollouts or problems that several runs share, for a comparison of the runs.

same, total = identical_rollouts(tables)
ours, theirs = at_length([Arms(...), Arms(...)], 20, codes, by_rollout=same == total)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decaylab.maths.retention import OpenRollouts
from decaylab.runs.arms import Arms, Floats, Integers
from decaylab.runs.vocabulary import STUDENT, STUDENT_PREFIX, TEACHER

COLUMNS = ("correct", "student", "alone", "tokens")


@dataclass(frozen=True)
class Panel:
    """One run at one prefix length, over the units that all runs share, [units].

    A unit is a rollout of the student, or a problem with the means of its rollouts. correct: grade
    of the teacher's continuation. student: grade of the student's own rollout. alone: the teacher's
    accuracy on the problem without a prefix. tokens: length of the continuation. problems: integer
    codes. rollouts: total number of student rollouts behind the units.
    """

    correct: Floats
    student: Floats
    alone: Floats
    tokens: Floats
    problems: Integers
    rollouts: int

    @property
    def open(self) -> OpenRollouts:
        return OpenRollouts(self.correct, self.student, self.alone, self.problems)


def identical_rollouts(tables: Sequence[pd.DataFrame]) -> tuple[int, int]:
    """How many student rollouts are identical in all tables, and how many there are.

    Identical rollouts agree in problem, sample and response ids.
    """
    written = []
    for table in tables:
        rows = table[table["condition"] == STUDENT]
        keys = zip(rows["problem_id"], rows["sample"], strict=True)
        written.append(dict(zip(keys, map(tuple, rows["response_ids"]), strict=True)))
    first, *others = written
    same = sum(all(other.get(key) == ids for other in others) for key, ids in first.items())
    return same, len(set().union(*written))


def at_length(
    arms: Sequence[Arms], length: int, codes: Mapping[str, int], *, by_rollout: bool
) -> tuple[Panel, ...]:
    """The panel of each run at a prefix length; at 0, the teacher without a prefix.

    codes: by problem name. by_rollout: use the rollouts that every run continued; otherwise the
    problems of which every run continued a rollout.
    """
    frames = []
    for each in arms:
        frame = _continued(each, length)
        if by_rollout:
            frames.append(frame.assign(rollouts=1).set_index("rollout"))
        else:
            by_problem = frame.groupby("problem")
            means = by_problem[[*COLUMNS]].mean().assign(rollouts=by_problem.size())
            frames.append(
                means.rename_axis("problem").reset_index().set_index("problem", drop=False)
            )
    shared = sorted(set.intersection(*(set(frame.index) for frame in frames)))
    made = []
    for frame in frames:
        kept = frame.loc[shared]
        columns = {name: kept[name].to_numpy(dtype=np.float64) for name in COLUMNS}
        problems = np.asarray(kept["problem"].map(codes), dtype=np.int64)
        rollouts = int(kept["rollouts"].sum())
        made.append(Panel(problems=problems, rollouts=rollouts, **columns))
    return tuple(made)


def _continued(arms: Arms, length: int) -> pd.DataFrame:
    """The student rollouts that the teacher continued at a length, one row each.

    At length 0 the teacher's accuracy on the problem replaces the grade of a continuation.
    """
    rows = arms.of(STUDENT_PREFIX if length else STUDENT)
    if length:
        rows = rows[rows["prefix_tokens"] == length]
    alone = rows["code"].map(arms.accuracy[TEACHER])
    if length:
        rollout, correct, tokens = rows["prefix_rollout_id"], rows["correct"], rows["written"]
    else:
        rollout, correct = rows["rollout_id"], alone
        tokens = rows["code"].map(arms.of(TEACHER).groupby("code")["written"].mean())
    return pd.DataFrame(
        {
            "rollout": rollout,
            "problem": rows["problem_id"],
            "correct": correct,
            "student": rollout.map(arms.outcome),
            "alone": alone,
            "tokens": tokens,
        }
    )
