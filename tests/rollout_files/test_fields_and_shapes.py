"""Values of a row are checked as they are taken; rows are recognised by their shape."""

from __future__ import annotations

from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.rollout import add_reply, logged_rows, plain
from decaylab.rollout_files.formats.shapes import both, either, fits, has, logged_table
from decaylab.rollout_files.record import Record

ROW: dict[str, Any] = {
    "text": "5",
    "flag": True,
    "number": 0.5,
    "count": 3,
    "ids": [1, 2],
    "mask": [1.0, False],
    "inner": {"list": [{"text": 4}]},
    "nothing": None,
    "messages": [{"role": "user", "content": "2 + 3?"}],
}


def refusal(name: str, method: str, *arguments: Any, row: dict[str, Any] = ROW) -> str:
    with pytest.raises(UserError) as error:
        getattr(Fields(row, "mine.jsonl:3"), method)(name, *arguments)
    assert str(error.value).startswith("mine.jsonl:3: column ")
    return str(error.value).removeprefix("mine.jsonl:3: column ")


def test_values_of_the_right_type_are_taken_as_they_stand() -> None:
    row = Fields(ROW, "mine.jsonl:3")
    assert (row.text("text"), row.optional_flag("flag"), row.number("number")) == ("5", True, 0.5)
    assert (row.optional_whole("count"), row.optional_name("count")) == (3, "3")
    assert (row.ids("ids"), row.mask("mask", 2)) == ([1, 2], [1, 0])
    assert row.messages("messages") == row.prompt("messages") == ROW["messages"]


@pytest.mark.parametrize("method", ["text", "flag", "whole", "name", "ids"])
def test_what_is_optional_may_be_missing_or_null(method: str) -> None:
    row = Fields(ROW, "mine.jsonl:3")
    assert getattr(row, f"optional_{method}")("nothing") is None
    assert getattr(row, f"optional_{method}")("absent") is None


@pytest.mark.parametrize(
    ("name", "method", "must"),
    [
        ("nothing", "text", "'nothing' must hold text, got nothing"),
        ("absent", "listed", "'absent' must hold a list, got nothing"),
        ("count", "optional_text", "'count' must hold text, got 3"),
        ("flag", "number", "'flag' must hold a number, got True"),
        ("flag", "optional_whole", "'flag' must hold a whole number from 0, got True"),
        ("flag", "optional_name", "'flag' must hold text or a whole number, got True"),
        ("number", "optional_whole", "'number' must hold a whole number from 0, got 0.5"),
        ("text", "inner", "'text' must hold an object, got '5'"),
        ("ids", "objects", "'ids.0' must hold an object, got 1"),
        ("mask", "ids", "'mask' must hold a list of token ids, got [1.0, False]"),
        ("ids", "messages", "'ids.0' must hold a chat message with a role, got 1"),
        ("count", "prompt", "'count' must hold text or a list of messages, got 3"),
    ],
)
def test_a_value_of_another_type_is_one_line_with_its_column(
    name: str, method: str, must: str
) -> None:
    assert refusal(name, method) == must


@pytest.mark.parametrize("ids", [[True, 2], [1, True], [-1], [1, "2"], [1, None], [1, 2.0]])
def test_ids_are_whole_numbers_from_0(ids: list[Any]) -> None:
    assert "must hold a list of token ids" in refusal("ids", "ids", row={"ids": ids})


def test_a_mask_is_of_0_and_1_and_as_long_as_its_ids() -> None:
    assert refusal("ids", "mask", 2) == "'ids' must hold a mask of 0 and 1, got [1, 2]"
    assert refusal("mask", "mask", 3) == "'mask' must be as long as its 3 ids, got 2"


def test_a_value_inside_another_is_named_by_its_path() -> None:
    (inner,) = Fields(ROW, "mine.jsonl:3").inner("inner").objects("list")
    with pytest.raises(UserError, match=r"column 'inner\.list\.0\.text' must hold text, got 4"):
        inner.text("text")


@pytest.mark.parametrize(
    ("message", "must"),
    [
        ({"content": "5"}, "'messages.0' must hold a chat message with a role"),
        ({"role": "user"}, "'messages.0' must hold a message with role and content"),
        ({"role": "user", "content": 5}, "'messages.0.content' must hold text or a list of parts"),
    ],
)
def test_a_message_has_a_role_and_content(message: dict[str, Any], must: str) -> None:
    assert refusal("messages", "messages", row={"messages": [message]}).startswith(must)
    assert "got []" in refusal("messages", "messages", row={"messages": []})


def replied(*turns: dict[str, Any]) -> Record:
    record = Record()
    add_reply(record, list(turns), Fields(turns[0], "mine.jsonl:3", "messages.1"))
    return record


def test_one_answer_is_a_response_and_more_are_turns() -> None:
    answer = {"role": "assistant", "content": "5"}
    assert replied(answer) == Record(response="5")
    assert replied(answer | {"reasoning": "2 + 3"}) == Record(response="5", reasoning="2 + 3")
    assert replied({"role": "assistant", "content": None}) == Record(response="")
    assert replied({"role": "assistant", "content": None, "refusal": "No."}).response == "No."
    parts = [{"type": "text", "text": "It is"}, {"type": "text", "text": " 5"}]
    assert replied({"role": "assistant", "content": parts}).response == "It is 5"
    for turns in (
        [answer, {"role": "user", "content": "Sure?"}],
        [answer | {"tool_calls": [{"name": "add"}]}],
        [answer | {"function_call": {"name": "add"}}],
        [{"role": "user", "content": "5"}],
    ):
        assert replied(*turns) == Record(turns=turns)
    with pytest.raises(
        UserError, match=r"'messages\.1\.content' must hold text or parts with text"
    ):
        replied({"role": "assistant", "content": [{"type": "image"}]})


def test_tool_calls_have_one_spelling() -> None:
    function = {"name": "add", "arguments": "{}"}
    wanted = [{"id": "a", "type": "function", "function": function}]
    for call in (
        {"id": "a", "function": function},
        {"id": "a", "function": "add", "arguments": "{}"},
        {"id": "a", "name": "add", "arguments": "{}"},
        '{"id": "a", "name": "add", "arguments": "{}"}',
    ):
        message = {"role": "assistant", "content": None, "tool_calls": [call], "tool_call_id": "b"}
        written = plain(Fields(message, "mine.jsonl:3", "messages.1"))
        assert (written["tool_calls"], written["tool_call_id"]) == (wanted, "b")


def test_a_shape_names_columns_and_the_kinds_of_their_values() -> None:
    outputs = has(outputs=[has(text=str, ids=object)], step=int)
    row = {"outputs": [{"text": "5", "ids": None}], "step": 4}
    assert outputs(row)
    assert not outputs(row | {"outputs": []}) and not outputs(row | {"outputs": [{"text": "5"}]})
    assert not outputs(row | {"step": True}) and not outputs([row])
    assert fits(None, str | None) and not fits(5, str | None)
    assert either(str, [int])([1, 2]) and not either(str, [int])(["1"])
    assert both(has(a=object), has(b=object))({"a": 1, "b": 2})
    assert not both(has(a=object), has(b=object))({"a": 1})


def test_a_logged_table_is_known_by_its_first_columns_and_read_row_by_row() -> None:
    table = {"columns": ["step", "prompt", "reward"], "data": [[1, "2 + 3", 0.5]]}
    assert logged_table("step", "prompt")(table) and not logged_table("prompt", "step")(table)
    (row,) = logged_rows(Fields(table, "mine.json"))
    assert row.place == "mine.json, table row 1"
    assert row.values == {"step": 1, "prompt": "2 + 3", "reward": 0.5}
