"""Code shared by the formats: replies, the user's own columns, grades, and tables inside a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from decaylab.problems.chat_questions import joined
from decaylab.rollout_files.formats.fields import Fields, is_number
from decaylab.rollout_files.record import ABSENT, Message, Record

GOLD_COLUMNS = ("answer", "ground_truth", "solution")
USER_COLUMNS = frozenset(("problem_id", "sample", "index", *GOLD_COLUMNS))
GRADE_COLUMNS = ("reward", "score", "acc", "accuracy", "correct", "is_correct")
SPEAKERS = ("assistant", "text")
"""Roles of the student. verifiers writes ``text`` where an environment completes text."""


def add_reply(record: Record, turns: list[Message], first: Fields) -> None:
    """Adds the messages after a prompt to a record.

    A single text message of the student is the response; anything else is stored as turns. first:
    the first message; without content, its refusal or an empty text is the response.
    """
    calls = first.get("tool_calls") or first.get("function_call")
    if len(turns) > 1 or calls or first.get("role", "assistant") not in SPEAKERS:
        record.turns = turns
        return
    content = first.get("content")
    if content is None:
        content = first.get("refusal") or ""
    text = joined(content) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise first.refused("content", "text or parts with text", content)
    thought = "reasoning" if first.get("reasoning_content") is None else "reasoning_content"
    record.response, record.reasoning = text, first.optional_text(thought)


def plain(message: Fields) -> Message:
    """A message reduced to the fields that chat templates read; content is text if possible."""
    content = message.get("content")
    text = joined(content) if isinstance(content, list) else None
    plain: Message = {"role": message.text("role"), "content": content if text is None else text}
    if message.get("reasoning_content") is not None:
        plain["reasoning_content"] = message.text("reasoning_content")
    if message.get("tool_calls"):
        calls = message.items("tool_calls", "tool calls")
        plain["tool_calls"] = [_tool_call(calls, number) for number in calls.values]
    if message.get("tool_call_id") is not None:
        plain["tool_call_id"] = message.get("tool_call_id")
    return plain


def _tool_call(calls: Fields, number: int) -> dict[str, Any]:
    """A tool call in the form of chat templates.

    That is ``{"id", "type", "function": {"name", "arguments"}}``.
    """
    given = calls.values[number]
    try:
        call = json.loads(given) if isinstance(given, str) else given
        function = call.get("function")
        if not isinstance(function, dict):
            function = {"name": function or call["name"], "arguments": call.get("arguments")}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise calls.refused(number, "a tool call with a name", given) from error
    return {"id": call.get("id"), "type": "function", "function": function}


def plain_messages(row: Fields, name: str) -> list[Message]:
    """Chat messages, each reduced by `plain`."""
    row.messages(name)
    return [plain(message) for message in row.objects(name)]


def name_rollout(
    record: Record, row: Fields, gold: Any = ABSENT, gold_name: str = "answer"
) -> Record:
    """Adds problem_id, sample and gold answer from the user's own columns to a record.

    gold, gold_name: the writer's gold answer and its column; without one, a user's column is used.
    An ``index`` is a sample number only with a problem_id; otherwise it usually counts rows.
    """
    problem_id = row.optional_name("problem_id")
    if problem_id is not None:
        record.problem_id = problem_id
    if record.sample is None:
        counts = problem_id is not None and row.get("sample") is None
        record.sample = row.optional_whole("index" if counts else "sample")
    record.answer, record.answer_name = gold, gold_name
    if gold is None or gold is ABSENT:
        for name in GOLD_COLUMNS:
            if name in row:
                record.answer, record.answer_name = row.get(name), name
                break
    return record


def given_grades(row: Fields) -> dict[str, Any]:
    """Verdicts and scores in a user's own columns."""
    values = {name: row.get(name) for name in GRADE_COLUMNS}
    return {name: value for name, value in values.items() if is_number(value)}


def other_grades(row: Fields, own_columns: frozenset[str]) -> dict[str, Any]:
    """The numbers in columns that are neither the writer's nor a known user column."""
    columns = row.values.items()
    return {name: value for name, value in columns if name not in own_columns and is_number(value)}


def logged_rows(row: Fields) -> Iterator[Fields]:
    """The rows of a Weights & Biases table, each with its place."""
    names = row.listed("columns")
    for number, values in enumerate(row.listed("data"), start=1):
        place = f"{row.place}, table row {number}"
        if not isinstance(values, list) or len(values) != len(names):
            raise Fields({}, place).refused("data", f"{len(names)} values per row", values)
        yield Fields(dict(zip(names, values, strict=True)), place)
