"""The single-turn problems of the Berkeley Function Calling Leaderboard (BFCL), from files.

    load(Path("bfcl"), "parallel")                        # parallel.jsonl, parallel_answers.jsonl
    load(Path("data/BFCL_v4_parallel.json"), "parallel")  # and data/possible_answer/BFCL_v4_...

A question has an id, turns of messages and function schemas; its answer has the same id and the
expected calls. The hub's data set (gorilla-llm/Berkeley-Function-Calling-Leaderboard, files
BFCL_v3_...) was not available: its names are accepted, unverified.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.calls.judging import CallProblem, Expected
from decaylab.calls.schemas import Function, functions
from decaylab.errors import UserError

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
WITHOUT_ANSWERS = "irrelevance"
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class CallQuestion:
    """One problem. messages: role and content of each message that the model is given."""

    problem_id: str
    messages: Messages
    problem: CallProblem


def load(path: Path, category: str) -> list[CallQuestion]:
    """The problems of a category, in the order of their file.

    Args:
        path: the file of questions, or the folder that holds it under one of its usual names.
        category: one of `CATEGORIES`.

    Raises:
        UserError: another category, no such file, or a row that cannot be used.
    """
    if category not in CATEGORIES:
        raise UserError(f"no category {category!r} of bfcl; there are {', '.join(CATEGORIES)}")
    questions = _questions_file(path, category)
    answers: dict[str, Mapping[str, Any]] = {}
    if category != WITHOUT_ANSWERS:
        file = _answers_file(questions)
        answers = {_id(row, where): row for where, row in _rows(file)}
    loaded = [_question(row, answers, category, where) for where, row in _rows(questions)]
    if not loaded:
        raise UserError(f"{questions} has no problems: it is empty")
    return loaded


def _question(
    row: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]], category: str, where: str
) -> CallQuestion:
    problem_id = _id(row, where)
    answer = answers.get(problem_id)
    if answer is None and category != WITHOUT_ANSWERS:
        raise UserError(f"{where}: no answer has the id {problem_id!r}; add it to the answers")
    return CallQuestion(problem_id, *problem(row, answer, category, where))


def problem(
    question_row: Mapping[str, Any],
    answer_row: Mapping[str, Any] | None,
    category: str,
    where: str = "",
) -> tuple[Messages, CallProblem]:
    """The messages of a question, and what is expected of the response.

    Args:
        question_row: with the columns question and function.
        answer_row: with the column ground_truth; None where no call is correct.
        category: one of `CATEGORIES`.
        where: the row in messages; by default its id.

    Raises:
        UserError: a column that cannot be used, named with its row.
    """
    where = where or f"row {question_row.get('id')}"
    offered = functions(question_row.get("function"), f"{where}: column 'function'")
    expected: tuple[Expected, ...] = ()
    if answer_row is not None:
        expected = _expected(answer_row.get("ground_truth"), offered, where)
    messages = _messages(question_row.get("question"), where)
    return messages, CallProblem(category, offered, expected)


def _messages(value: Any, where: str) -> Messages:
    """The messages of the only turn; a text is one message of the user."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    turns = value if isinstance(value, list) and value else [None]
    turn = turns if isinstance(turns[0], Mapping) else turns[0]
    if turn is not turns and len(turns) > 1:
        raise UserError(
            f"{where}: column 'question' has {len(turns)} turns; only single-turn problems can be "
            "judged"
        )
    if not isinstance(turn, list) or not turn or not all(_is_message(one) for one in turn):
        raise UserError(
            f"{where}: column 'question' must hold messages with role and content, got "
            f"{value!r:.60}"
        )
    return [{"role": one["role"], "content": one["content"]} for one in turn]


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _expected(value: Any, offered: tuple[Function, ...], where: str) -> tuple[Expected, ...]:
    column = f"{where}: column 'ground_truth'"
    if not isinstance(value, list) or not value:
        raise UserError(f"{column} must hold a list of expected calls, got {value!r:.60}")
    names = [function["name"] for function in offered]
    for call in value:
        if not _is_expected(call):
            raise UserError(
                f"{column} must hold one function with lists of alternatives for each argument a "
                f"call, got {call!r:.60}"
            )
        if not set(call) <= set(names):
            raise UserError(
                f"{column} expects {', '.join(call)}, which column 'function' does not offer "
                f"({', '.join(names):.60})"
            )
    return tuple(value)


def _is_expected(call: Any) -> bool:
    if not isinstance(call, Mapping) or len(call) != 1:
        return False
    (arguments,) = call.values()
    return isinstance(arguments, Mapping) and all(
        isinstance(alternatives, list) for alternatives in arguments.values()
    )


def _questions_file(path: Path, category: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"no such file or folder: {path}")
    old = category.removesuffix("_python")  # before version 4
    names = (f"{category}.jsonl", f"BFCL_v4_{category}.json", f"BFCL_v3_{old}.json")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path} has no problems of {category}: no file {', '.join(names)}")


def _answers_file(questions: Path) -> Path:
    beside = questions.with_name(f"{questions.stem}_answers{questions.suffix}")
    published = questions.parent / "possible_answer" / questions.name
    for file in (beside, published):
        if file.is_file():
            return file
    raise UserError(f"{questions} has no answers: no file {beside} or {published}")


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The place and the columns of each row: one JSON object a line, whatever the suffix."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}:{number}", _row(line, f"{path}:{number}")


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error):.60}); a row must be one line") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be an object with id, question and function")
    return value


def _id(row: Mapping[str, Any], where: str) -> str:
    if not isinstance(row.get("id"), str):
        raise UserError(f"{where}: column 'id' must hold text, got {row.get('id')!r:.60}")
    return str(row["id"])
