"""Grades that a file brings: kept as an answer rule of their own, ``file``, beside those that
decaylab gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from decaylab.problems.grading import Verdict
from decaylab.rollout_files.reading import GivenRollout

RULE = "file"
FIRST = ("correct", "is_correct", "acc", "accuracy", "exact_match", "pass", "passed")
"""Names of verdicts; a reward may add to those what a trainer likes, such as a format."""
WORDS = {
    **dict.fromkeys((True, 1, 1.0, "C", "correct", "true", "True", "1", "1.0"), Verdict.CORRECT),
    **dict.fromkeys(
        (False, 0, 0.0, -1, -1.0, "I", "incorrect", "wrong", "false", "False", "0", "0.0"),
        Verdict.WRONG,
    ),
    "N": Verdict.NO_ANSWER,
}


def verdicts(rollouts: Sequence[GivenRollout]) -> tuple[list[str | None], tuple[str, ...]]:
    """The file's verdict on each rollout, None where it has none, and sentences about what was
    taken and what was not.

    The first grade that is a verdict everywhere it stands counts: right or wrong, 1 or 0, 1 or -1,
    C or I.
    """
    there = {name for one in rollouts for name in one.record.grades}
    names = sorted(there, key=lambda name: (_rank(name), name))
    if not names:
        return [None] * len(rollouts), ()
    taken = next((name for name in names if _is_verdict(name, rollouts)), None)
    others = [name for name in names if name != taken]
    notes = (
        [f"grades of the file that are not used: {', '.join(others)}"] if taken and others else []
    )
    if taken is None:
        return [None] * len(rollouts), (
            f"grades of the file are no verdicts and are not used: {', '.join(names)}",
        )
    found = [_verdict(one.record.grades.get(taken)) for one in rollouts]
    notes = [f"the file's own grade, {taken}, stands beside ours as answer rule {RULE}", *notes]
    return found, tuple(notes)


def _rank(name: str) -> int:
    last = name.rpartition(".")[2].partition(",")[0]
    return FIRST.index(last) if last in FIRST else len(FIRST)


def _is_verdict(name: str, rollouts: Sequence[GivenRollout]) -> bool:
    values = [one.record.grades.get(name) for one in rollouts]
    given = [value for value in values if value is not None]
    return bool(given) and all(_verdict(value) is not None for value in given)


def _verdict(value: Any) -> str | None:
    found = WORDS.get(value) if isinstance(value, str | int | float) else None
    return None if found is None else str(found)
