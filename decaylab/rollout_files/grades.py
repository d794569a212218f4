"""The grades in a rollout file, stored as an additional answer rule, ``file``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from decaylab.problems.grading import Verdict
from decaylab.rollout_files.reading import GivenRollout

RULE = "file"
FIRST = ("correct", "is_correct", "acc", "accuracy", "exact_match", "pass", "passed")
"""Names of verdicts, preferred to rewards, which may include more, such as a format score."""
WORDS = {
    **dict.fromkeys((True, 1, 1.0, "C", "correct", "true", "True", "1", "1.0"), Verdict.CORRECT),
    **dict.fromkeys(
        (False, 0, 0.0, -1, -1.0, "I", "incorrect", "wrong", "false", "False", "0", "0.0"),
        Verdict.WRONG,
    ),
    "N": Verdict.NO_ANSWER,
}


def verdicts(rollouts: Sequence[GivenRollout]) -> tuple[list[str | None], tuple[str, ...]]:
    """The file's verdict on each rollout, None if it has none; and notes on the grades.

    Uses the first grade whose values are all verdicts: correct or wrong, 1 or 0, 1 or -1, C or I.
    """
    grades = [rollout.record.grades for rollout in rollouts]
    names = sorted(
        {name for given in grades for name in given}, key=lambda name: (_rank(name), name)
    )
    columns = {name: [given.get(name) for given in grades] for name in names}
    taken = next((name for name in names if _are_verdicts(columns[name])), None)
    if taken is None:
        unused = f"the file's grades are not verdicts and are not used: {', '.join(names)}"
        return [None] * len(rollouts), (unused,) if names else ()
    notes = [f"the file's own grade, {taken}, is shown as answer rule {RULE}"]
    names.remove(taken)
    if names:
        notes.append(f"unused grades of the file: {', '.join(names)}")
    return [_verdict(value) for value in columns[taken]], tuple(notes)


def _rank(name: str) -> int:
    last = name.rpartition(".")[2].partition(",")[0]
    return FIRST.index(last) if last in FIRST else len(FIRST)


def _are_verdicts(values: Sequence[Any]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(_verdict(value) for value in given)


def _verdict(value: Any) -> str | None:
    verdict = WORDS.get(value) if isinstance(value, str | int | float) else None
    return None if verdict is None else str(verdict)
