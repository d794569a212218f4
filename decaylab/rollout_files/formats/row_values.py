"""Values of a row, checked as they are taken, with one wording for what is malformed.

token_ids(row.get("output_ids"), "output_ids", place)     # the list, None where there is none, or a
UserError reply([{"role": "assistant", "content": "4"}], "completion", place)     # a Record whose
response is "4"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from decaylab.errors import UserError
from decaylab.rollout_files.formats.format import Row
from decaylab.rollout_files.record import ABSENT, Message, Record

GOLD_COLUMNS = ("answer", "ground_truth", "solution")
USER_COLUMNS = frozenset(("problem_id", "sample", "index", *GOLD_COLUMNS))
GRADE_COLUMNS = ("reward", "score", "acc", "accuracy", "correct", "is_correct")


def malformed(place: str, name: str, wanted: str, found: Any) -> UserError:
    """The error of a column that holds something else than it must."""
    got = "nothing" if found is None or found is ABSENT else repr(found)[:60]
    return UserError(f"{place}: column {name!r} must hold {wanted}, got {got}")


def text(value: Any, name: str, place: str) -> str:
    """A text that must be there."""
    if isinstance(value, str):
        return value
    raise malformed(place, name, "text", value)


def optional_text(value: Any, name: str, place: str) -> str | None:
    return None if value is None else text(value, name, place)


def token_ids(value: Any, name: str, place: str) -> list[int] | None:
    """Token ids, where there are any."""
    if value is None:
        return None
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        raise malformed(place, name, "a list of token ids", value)
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a score or a verdict; NaN stands for none."""
    return isinstance(value, int | float) and value == value


def is_messages(value: Any) -> TypeGuard[list[Message]]:
    """Whether a value is a list of chat messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and "role" in one for one in value)
    )


def messages(value: Any, name: str, place: str) -> list[Message]:
    """Chat messages, at least one, each with a role, and with content or tool calls."""
    if not is_messages(value):
        raise malformed(place, name, "a list of messages with role and content", value)
    for one in value:
        if not isinstance(one["role"], str) or not ("content" in one or "tool_calls" in one):
            raise malformed(place, name, "a list of messages with role and content", one)
    return list(value)


def asked(value: Any, name: str, place: str) -> str | list[Message]:
    """A prompt: text or chat messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return messages(value, name, place)
    raise malformed(place, name, "text or a list of messages", value)


def reply(turns: list[Message], name: str, place: str) -> Record:
    """What the messages behind a prompt say: the response of one assistant message, the turns where
    there is more to them."""
    first = turns[0]
    if len(turns) > 1 or first.get("tool_calls") or first.get("function_call"):
        return Record(turns=turns)
    thought = first.get("reasoning_content")
    if thought is None:
        thought = first.get("reasoning")
    return Record(
        response=_content(first, name, place),
        reasoning=optional_text(thought, f"{name}.reasoning", place),
    )


def _content(message: Message, name: str, place: str) -> str:
    """The text of an assistant's message; one without content wrote a refusal, or nothing behind
    its thought."""
    content = message.get("content")
    if content is None:
        return message.get("refusal") or ""
    if isinstance(content, list):
        return "".join(_parts(content, f"{name}.content", place))
    return text(content, f"{name}.content", place)


def _parts(content: list[Any], name: str, place: str) -> Iterator[str]:
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise malformed(place, name, "text or parts with text", part)
        yield part["text"]


def name_rollout(
    record: Record, row: Row, place: str, gold: Any = ABSENT, gold_name: str = "answer"
) -> Record:
    """The record with what a user's own columns say: problem_id, sample, and the gold answer.

    gold: what the writer has as gold answer, and the column it stands in; where that is nothing, a
    column of the user's stands for it. An ``index`` counts rollouts only beside a problem_id; alone
    it usually counts the rows of a data set.
    """
    named = row.get("problem_id")
    if named is not None:
        if isinstance(named, bool) or not isinstance(named, str | int):
            raise malformed(place, "problem_id", "text or a whole number", named)
        record.problem_id = str(named)
    if record.sample is None:
        column = "sample" if named is None or row.get("sample") is not None else "index"
        record.sample = whole(row.get(column), column, place)
    record.answer, record.answer_name = gold, gold_name
    if gold is None or gold is ABSENT:
        for name in GOLD_COLUMNS:
            if name in row:
                record.answer, record.answer_name = row[name], name
                break
    return record


def given_grades(row: Row) -> dict[str, Any]:
    """Verdicts and scores that a user keeps beside one rollout."""
    return {name: row[name] for name in GRADE_COLUMNS if name in row and is_number(row[name])}


def whole(value: Any, name: str, place: str) -> int | None:
    """A whole number from 0, where there is one."""
    if value is None or (type(value) is int and value >= 0):
        return value
    raise malformed(place, name, "a whole number from 0", value)


def is_logged_table(row: Row, columns: tuple[str, ...]) -> bool:
    """Whether a row is a table as Weights & Biases keeps it (``media/table/*.table.json``), with
    these columns first."""
    names, data = row.get("columns"), row.get("data")
    return (
        isinstance(names, list)
        and isinstance(data, list)
        and tuple(names[: len(columns)]) == columns
    )


def logged_rows(row: Row, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of such a table, each with its place."""
    names = row["columns"]
    for number, values in enumerate(row["data"], start=1):
        if not isinstance(values, list) or len(values) != len(names):
            raise malformed(
                f"{place}, table row {number}", "data", f"{len(names)} values a row", values
            )
        yield f"{place}, table row {number}", dict(zip(names, values))
