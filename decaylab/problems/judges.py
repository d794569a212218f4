"""Answer rules that are judged here rather than in grading processes, with the reason.

Programs are executed in sandboxes of their own (`decaylab.code`); function calls are read and
compared, never executed (`decaylab.calls`). The gold answer of both is JSON text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import decaylab.calls
import decaylab.code
from decaylab.calls import judging
from decaylab.code import blocks

PROGRAMS, CALLS = frozenset(blocks.RULES), frozenset(judging.RULES)
JUDGED_HERE = PROGRAMS | CALLS
Asked = tuple[str, str, str]
"""Rule, response, gold answer."""
Judged = tuple[str, str]
"""A verdict, and why in a line; "" for a right response."""
VERDICTS = {
    "passed": "correct",
    "failed": "wrong",
    "error": "error",
    "timed_out": "timeout",
    "out_of_memory": "out_of_memory",
    "no_code": "no_answer",
}
"""The outcome of a program as a verdict."""


def judge(asked: Sequence[Asked], *, sandboxed: bool, workers: int) -> list[Judged]:
    """The verdicts, in order. sandboxed: whether programs run in sandboxes.

    Raises:
        UserError: no sandbox can be had.
    """
    programs = [one for one in asked if one[0] in PROGRAMS]
    outcomes = iter(_run(programs, sandboxed, workers))
    judged = []
    for one in asked:
        judged.append(next(outcomes) if one[0] in PROGRAMS else _read(*one))
    return judged


def _run(programs: Sequence[Asked], sandboxed: bool, workers: int) -> list[Judged]:
    if not programs:
        return []
    from decaylab.code import grading

    outcomes = grading.judge(programs, sandboxed=sandboxed, workers=workers)
    return [(VERDICTS[outcome.verdict], outcome.message) for outcome in outcomes]


def _read(rule: str, response: str, gold: str) -> Judged:
    outcome = judging.judge(rule, response, gold)
    return outcome.verdict, outcome.message


def files_of(rules: Sequence[str]) -> list[Path]:
    """The files that determine the verdicts of these rules, beside `grading.CODE`."""
    packages = []
    if PROGRAMS & set(rules):
        packages.append(decaylab.code)
    if CALLS & set(rules):
        packages.append(decaylab.calls)
    files = [sorted(Path(str(package.__file__)).parent.rglob("*.py")) for package in packages]
    return [Path(__file__), *sum(files, [])] if files else []
