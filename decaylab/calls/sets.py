"""The single-turn problems of the Berkeley Function Calling Leaderboard (BFCL), row by row.

    messages, parallel = problem(question_row, answer_row, "parallel")

A question has an id, turns of messages and function schemas; its answer has the expected calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decaylab.calls.judging import CallProblem, Expected
from decaylab.calls.schemas import Function, check_depth, functions, types_of
from decaylab.errors import UserError

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")
_DICTIONARY = frozenset({"dict", "object"})
Messages = list[dict[str, str]]


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
    if not turn[-1]["content"].strip():
        raise UserError(f"{where}: column 'question' is empty: the last message has no text")
    return [{"role": one["role"], "content": one["content"]} for one in turn]


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _expected(value: Any, offered: tuple[Function, ...], where: str) -> tuple[Expected, ...]:
    column = f"{where}: column 'ground_truth'"
    if not isinstance(value, list) or not value:
        raise UserError(f"{column} must hold a list of expected calls, got {value!r:.60}")
    check_depth(value, column)
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
        _check_dictionaries(call, offered, column)
    return tuple(value)


def _check_dictionaries(call: Expected, offered: tuple[Function, ...], column: str) -> None:
    """Raises UserError for a dictionary among the alternatives without lists for its keys."""
    ((name, arguments),) = call.items()
    function = next(one for one in offered if one["name"] == name)
    properties = function["parameters"]["properties"]
    for argument, alternatives in arguments.items():
        schema = properties.get(argument, {})
        if wrong := [one for one in alternatives if not _can_be_compared(one, schema)]:
            raise UserError(
                f"{column} must hold a list of alternatives for each key of a dictionary, got "
                f"{wrong[0]!r:.60} for {argument:.60}"
            )


def _can_be_compared(alternative: Any, schema: Mapping[str, Any]) -> bool:
    """Whether dictionaries that are compared key by key have lists of alternatives."""
    dictionaries: list[Any] = []
    if _DICTIONARY & types_of(schema):
        dictionaries.append(alternative)
    if _DICTIONARY & types_of(schema.get("items")) and isinstance(alternative, list):
        dictionaries += alternative
    compared = [one for one in dictionaries if isinstance(one, dict)]
    return all(isinstance(options, list) for one in compared for options in one.values())


def _is_expected(call: Any) -> bool:
    if not isinstance(call, Mapping) or len(call) != 1:
        return False
    (arguments,) = call.values()
    if not isinstance(arguments, Mapping):
        return False
    return all(isinstance(alternatives, list) for alternatives in arguments.values())
