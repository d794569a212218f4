"""Completions of OpenAI's API, batch files and rows of messages become records."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from read_formats import FOLDER, complaint, format_of, read, read_file, rows

from decaylab.rollout_files.formats import openai
from decaylab.rollout_files.record import Record

COMPLETIONS, REQUESTS, RESULTS, CHAT = openai.FORMATS
SUM: Any = [{"role": "user", "content": "What is 2 + 3?"}]
PRODUCT: Any = [{"role": "user", "content": "What is 7 * 8?"}]
CHOICE: dict[str, Any] = {
    "index": 0,
    "message": {"role": "assistant", "content": "5"},
    "finish_reason": "stop",
}
ROW: dict[str, Any] = {"messages": SUM, "choices": [CHOICE]}
REQUEST: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"messages": SUM},
}
RESULT: dict[str, Any] = {
    "custom_id": "a",
    "response": {"status_code": 200, "body": {"choices": [CHOICE]}},
    "error": None,
}


def test_completions_are_read_beside_messages_a_request_or_a_text() -> None:
    shared: dict[str, Any] = {"prompt": SUM, "prompt_ids": [1, 2, 3], "answer": "5"}
    assert read_file("openai_completions.jsonl", "openai") == [
        Record(
            "\\boxed{5}",
            reasoning="Two and three.",
            response_ids=[11, 99],
            sample=0,
            stop="stop",
            **shared,
        ),
        Record("", reasoning="Two and", response_ids=[12], sample=1, stop="length", **shared),
        Record(
            "\\boxed{56}", prompt=PRODUCT, problem_id="2", sample=3, stop="stop", stop_detail=99
        ),
        Record(" 56", prompt="7 * 8 =", stop="length"),
    ]


def test_batch_requests_have_prompts_and_batch_results_have_responses() -> None:
    assert read_file("openai_batch_input.jsonl", "openai-batch-input") == [
        Record(prompt=SUM, request_id="sum-1"),
        Record(prompt="7 * 8 =", request_id="sum-2"),
    ]
    assert read_file("openai_batch_output.jsonl", "openai-batch-output") == [
        Record("\\boxed{5}", sample=0, stop="stop", request_id="sum-1"),
        Record("Two and", sample=1, stop="length", request_id="sum-1"),
        Record(stop="error", request_id="sum-2"),
        Record(stop="error", request_id="sum-3"),
    ]


def test_rows_of_messages_are_split_behind_the_last_question() -> None:
    thought, cut, called = read_file("openai_messages.jsonl", "openai-messages")
    system = {"role": "system", "content": "Be brief."}
    assert thought == Record(
        "\\boxed{5}", prompt=[system, *SUM], reasoning="Two and three.", answer="5"
    )
    assert cut == Record("Two and", prompt=SUM, answer="5", stop="length")
    assert (called.response, called.prompt, called.answer, called.stop) == (
        None,
        PRODUCT,
        "56",
        "stop",
    )
    assert called.turns is not None and [one["role"] for one in called.turns] == [
        "assistant",
        "tool",
        "assistant",
    ]


def test_earlier_turns_of_the_assistant_belong_to_the_prompt() -> None:
    earlier = [*SUM, {"role": "assistant", "content": "5"}, *PRODUCT]
    (record,) = read(
        [{"messages": [*earlier, {"role": "assistant", "content": "56"}]}], "openai-messages"
    )
    assert (record.prompt, record.response) == (earlier, "56")


def test_a_call_of_a_tool_is_a_turn_and_a_refusal_is_a_response() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "plus"}}]}
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    first, second = read(
        [ROW | {"choices": [CHOICE | {"message": one}]} for one in (call, refused)], "openai"
    )
    assert (first.response, first.turns) == (None, [call])
    assert (second.response, second.turns) == ("No.", None)


def test_a_prompt_of_token_ids_and_vllms_extras_of_text_completions() -> None:
    choice = {
        "index": 0,
        "text": " 5",
        "finish_reason": "stop",
        "stop_reason": "\n",
        "token_ids": [11],
    }
    (given,) = read([{"prompt": [1, 2], "choices": [choice]}], "openai")
    assert (given.prompt, given.prompt_ids, given.response_ids, given.stop_detail) == (
        None,
        [1, 2],
        [11],
        "\n",
    )
    (told,) = read([{"choices": [choice | {"prompt_token_ids": [1, 2]}]}], "openai")
    assert (told.prompt, told.prompt_ids) == (None, [1, 2])
    (listed,) = read([{"prompt": ["2 + 3 ="], "choices": [choice], "correct": True}], "openai")
    assert (listed.prompt, listed.grades) == ("2 + 3 =", {"correct": True})


def test_a_batch_result_beside_its_request_has_its_prompt() -> None:
    (record,) = read([REQUEST | RESULT], "openai-batch-output")
    assert (record.prompt, record.response, record.request_id) == (SUM, "5", "a")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2 + 3?", "choices": ["4", "5"]},
        {"messages": SUM},
        {"messages": SUM, "response": "5"},
        {"messages": [CHOICE["message"]]},
        {"messages": [*SUM, CHOICE["message"]], "output": "5"},
        {"messages": [*SUM, CHOICE["message"]], "scores": {"match": 1}},
        {"custom_id": "a", "result": {"type": "succeeded", "message": {"content": []}}},
        {"custom_id": "a", "response": "5"},
    ],
)
def test_rows_without_the_marks_are_left_alone(row: dict[str, Any]) -> None:
    assert not any(one.recognises(row) for one in openai.FORMATS)


BAD_MESSAGE = "a list of messages with role and content"
BAD_CHOICES = "a list of choices with a message or a text"


@pytest.mark.parametrize(
    "which, row, said",
    [
        (COMPLETIONS, {"messages": SUM}, f"column 'choices' must hold {BAD_CHOICES}, got nothing"),
        (
            COMPLETIONS,
            ROW | {"messages": ["2 + 3?"]},
            "column 'messages.0' must hold a chat message with a role, got '2 + 3?'",
        ),
        (
            COMPLETIONS,
            {"prompt": ["a", "b"], "choices": [CHOICE]},
            "column 'prompt' must hold one prompt per row, got ['a', 'b']",
        ),
        (
            COMPLETIONS,
            ROW
            | {
                "choices": [
                    CHOICE | {"message": {"role": "assistant", "content": [{"type": "image"}]}}
                ]
            },
            "column 'choices.0.message.content' must hold text or parts with text, got [{'type': "
            "'image'}",
        ),
        (
            COMPLETIONS,
            ROW | {"choices": [{"text": None}]},
            "column 'choices.0.text' must hold text, got nothing",
        ),
        (
            COMPLETIONS,
            ROW | {"choices": [CHOICE | {"token_ids": "11"}]},
            "column 'choices.0.token_ids' must hold a list of token ids, got '11'",
        ),
        (
            COMPLETIONS,
            ROW | {"choices": [CHOICE, CHOICE | {"index": -1}]},
            "column 'choices.1.index' must hold a whole number from 0, got -1",
        ),
        (
            REQUESTS,
            REQUEST | {"body": {"input": "2 + 3?"}},
            "column 'body' must hold a request with messages or a prompt, got {'input': '2 + 3?'}",
        ),
        (REQUESTS, REQUEST | {"custom_id": None}, "column 'custom_id' must hold text, got nothing"),
        (
            RESULTS,
            RESULT | {"response": "5"},
            "column 'response' must hold an object with status_code and body, got '5'",
        ),
        (
            RESULTS,
            RESULT | {"response": {"status_code": 200, "body": {"data": []}}},
            f"column 'response.body.choices' must hold {BAD_CHOICES}, got nothing",
        ),
        (
            RESULTS,
            RESULT | {"response": {"status_code": 200, "body": None}},
            "column 'response.body' must hold a completion with choices, got nothing",
        ),
        (
            CHAT,
            {"messages": [CHOICE["message"]]},
            "column 'messages' must hold a question followed by the assistant's turn, got "
            "[{'role': 'assistant'",
        ),
        (CHAT, {"messages": "2 + 3?"}, f"column 'messages' must hold {BAD_MESSAGE}, got '2 + 3?'"),
    ],
)
def test_a_malformed_row_is_told(which: Any, row: dict[str, Any], said: str) -> None:
    assert complaint(which, row).startswith(said)


def test_no_two_formats_recognise_a_row_of_any_fixture() -> None:
    for path in sorted(FOLDER.iterdir()):
        if path.name.startswith(("trl", "verl", "vllm", "sglang", "openai")):
            assert rows(path) and all(format_of(row) for row in rows(path))


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs extra: openai")
def test_completions_that_openais_client_dumps_are_read() -> None:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

    found = rows(FOLDER / "openai_completions.jsonl")
    chat = ChatCompletion.model_validate(found[0]).model_dump(mode="json")
    text = Completion.model_validate(found[2]).model_dump(mode="json")
    records = read([chat, text], "openai")
    assert records[:2] == read(found[:1], "openai") and records[2:] == read(found[2:], "openai")
