"""Rows with a question and an answer become problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.chat_questions import Messages, asked
from decaylab.problems.columns import Columns, find_columns, gold_answer
from decaylab.problems.files import MENDED, Row
from decaylab.problems.nested_columns import lookup
from decaylab.problems.problem import Problem
from decaylab.problems.published import PUBLISHED, Read

Parsed = tuple[list[Problem], list[str]]
"""Problems, and notes about their rows."""
OF_OTHER_TASKS = {
    "humaneval": ("code", {"entry_point", "test", "prompt"}),
    "mbpp": ("code", {"test_list", "task_id"}),
    "bfcl:CATEGORY": ("calls", {"question", "function"}),
}
"""The task of the sets of other tasks, and the columns by which they are known."""


def parsed(
    rows: Sequence[Row],
    known: str | None,
    given: Mapping[str, str] | None,
    source: str,
    halves: Sequence[str],
) -> Parsed:
    """The problems of rows with a question and an answer.

    known: the name of a published set. given: the caller's map of columns. source: of the rows, in
    messages. halves: places of rows with half a character.

    Raises:
        UserError: no rows, or a row or column that cannot be used.
    """
    _check_any(rows, source)
    return problems_of(rows, _columns(rows[0], known, given or {}, source), halves)


def parsed_by(
    read: Read, rows: Sequence[Row], name: str, source: str, halves: Sequence[str]
) -> Parsed:
    """The problems of the rows of a published set with columns of its own.

    Raises:
        UserError: no rows, or a row that cannot be used.
    """
    _check_any(rows, source)
    ids = _Ids(name)
    problems, questions = [], set()
    for index, (where, row) in enumerate(rows):
        problem = read(row, where)
        if problem is None:
            continue
        problem_id = ids.unique(problem.problem_id, index)
        problems.append(replace(problem, problem_id=problem_id))
        questions.add((problem.question, problem.messages, problem.tools))
    if not problems:
        raise UserError(f"{source} has no row that can be used, of {len(rows)}")
    notes = ids.notes()
    if left := len(rows) - len(problems):
        notes.append(f"{left} of {len(rows)} rows offer no functions that can be read, left out")
    notes += _about(problems, len(questions), halves)
    return problems, notes


def _check_any(rows: Sequence[Row], source: str) -> None:
    if not rows:
        raise UserError(f"{source} has no problems: it is empty")


def _columns(row: Row, known: str | None, given: Mapping[str, str], source: str) -> Columns:
    """The columns of a known set, else the usual ones.

    A set is known by its name, or by its columns if the caller maps none.
    """
    known = known or (None if given else _recognised(row[1], source))
    if known is None:
        return find_columns(row, given, source)
    columns = PUBLISHED[known]
    return find_columns(
        row,
        given,
        source,
        questions=(columns.question,),
        ids=(columns.id,) if columns.id else (),
        prefix=known,
        hashes=known == "gsm8k",
    )


def _recognised(row: Mapping[str, Any], source: str) -> str | None:
    """A set of questions and answers that has these columns.

    Raises:
        UserError: the columns of another task, whose grader the caller has to name.
    """
    if {"problem", "answer", "unique_id"} <= row.keys():
        return "math500"
    if "question" in row and "####" in str(row.get("answer")):
        return "gsm8k"
    for name, (task, columns) in OF_OTHER_TASKS.items():
        if columns <= row.keys():
            raise UserError(
                f"{source} has the columns of {name.partition(':')[0]}: name the file as "
                f"{name}:FILE, or register the rows with problem_set(..., task={task!r})"
            )
    return None


class _Ids:
    """Ids that join rollouts and measurements, so they must be unique.

    prefix: starts the generated ids of problems without an id.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.taken: set[str] = set()
        self.repeated = 0

    def unique(self, given: str | None, index: int) -> str:
        """The id, or a generated one; a repeated id gets its row number."""
        problem_id = given or f"{self.prefix}-{index:06d}"
        if problem_id in self.taken:
            self.repeated += 1
            problem_id = f"{problem_id}#{index:06d}"
        self.taken.add(problem_id)
        return problem_id

    def notes(self) -> list[str]:
        if not self.repeated:
            return []
        return [f"{self.repeated} ids are duplicates: their row number was added"]


def _about(problems: Sequence[Problem], questions: int, halves: Sequence[str]) -> list[str]:
    """Notes on half characters, turns and repeated questions. questions: how many differ."""
    count, notes = len(problems), []
    if halves:
        notes.append(MENDED.format(len(halves), count, "problems"))
    chats = sum(bool(problem.messages) for problem in problems)
    if chats:
        notes.append(f"{chats} of {count} problems have a system message or several turns")
    if repeated := count - questions:
        notes.append(f"{repeated} problems have the same question as an earlier one")
    return notes


def problems_of(rows: Iterable[Row], columns: Columns, halves: Sequence[str] = ()) -> Parsed:
    """The problems of the rows, and notes. A repeated id gets its row number, to stay unique."""
    problems: list[Problem] = []
    ids, questions, unwrapped = _Ids(columns.prefix), set[tuple[str, Messages]](), 0
    for index, (where, row) in enumerate(rows):
        question, messages = _question(row, columns, where)
        problem_id = ids.unique(_own_id(row, columns, where), index)
        questions.add((question, messages))
        gold = gold_answer(row, columns, where)
        unwrapped += gold.unwrapped
        problems.append(Problem(problem_id, question, gold.text, messages=messages))
    notes = ids.notes()
    about = _about(problems, len(questions), halves)
    if unwrapped:
        of = f"{unwrapped} of {len(problems)} gold answers"
        about.insert(bool(halves), f"{of} were unwrapped from an object or list")
    return problems, [*notes, *about]


def _question(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[str, Messages]:
    question = lookup(row, columns.question)
    messages: Messages = ()
    if isinstance(question, list):
        question, messages = asked(question, where, columns.question)
    if not isinstance(question, str) or not question.strip():
        raise UserError(
            f"{where}: column {columns.question!r} must hold the question, got {question!r:.60}"
        )
    return question, messages


def _own_id(row: Mapping[str, Any], columns: Columns, where: str) -> str | None:
    value = lookup(row, columns.id) if columns.id else None
    if isinstance(value, dict | list):
        raise UserError(
            f"{where}: column {columns.id!r} must hold text or a number, got {value!r:.60}"
        )
    return None if value is None else str(value)
