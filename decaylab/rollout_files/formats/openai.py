"""OpenAI's API, as OpenAI, vLLM, SGLang and others serve it: completions, batch files, and rows of
chat messages.

Sources: openai/openai-python 3.57.0, ``openai/types/chat/chat_completion.py`` (``ChatCompletion``,
``Choice``), ``chat_completion_message.py`` and ``completion_choice.py``. vllm-project/vllm,
``vllm/entrypoints/openai/protocol.py`` (now ``chat_completion/protocol.py`` and
``completion/protocol.py`` there), ``ChatCompletionResponseChoice``,
``CompletionResponseChoice``: stop_reason, token_ids, prompt_token_ids; ``ChatMessage``: reasoning,
in older versions reasoning_content. Batch files: ``BatchRequestInput`` and ``BatchRequestOutput``
of the same package, after OpenAI's guide. SGLang's choices have matched_stop in place of
stop_reason.

No server repeats the request, so the prompt is what a user keeps beside the completion: messages or
prompt in the row, or in a request there. A row of messages is split behind the last message that
the student did not write and no tool did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.openai_choices import ask, choice_records, has_choices
from decaylab.rollout_files.formats.row_values import (
    given_grades,
    is_messages,
    malformed,
    messages,
    name_rollout,
    optional_text,
    reply,
    text,
)
from decaylab.rollout_files.record import Record

HOLDERS = ("", "response", "completion", "output", "result")
OTHER_TEXTS = {"prompt", "input", "response", "completion", "output", "text", "generation"}
"""Columns that a row of chat messages does not have: its prompt and its response are messages."""
WRITTEN = ("assistant", "tool", "function")
"""Roles of the messages of a rollout."""


def _completion(row: Row) -> tuple[Any, str]:
    """The completion of a row and the name it stands under with a dot, empty where the row is
    one."""
    for name in HOLDERS:
        value = row.get(name) if name else row
        if has_choices(value):
            return value, name and f"{name}."
    return None, ""


def recognises(row: Row) -> bool:
    """A completion, or a row that holds one; a sample of inspect's holds one too, beside its epoch
    and target."""
    return _completion(row)[0] is not None and not ("epoch" in row and "target" in row)


def records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a completion, with the prompt that stands beside it."""
    completion, name = _completion(row)
    if completion is None:
        raise malformed(
            place, "choices", "a list of choices with a message or a text", row.get("choices")
        )
    yield from _asked_and_named(row, choice_records(completion, name, place), place)


def _asked_and_named(row: Row, found: Iterator[Record], place: str) -> Iterator[Record]:
    """Records with the prompt and with what a user's own columns say."""
    rollouts = list(found)
    for record in rollouts:
        ask(record, row, "", place)
        request = row.get("request")
        if isinstance(request, dict):
            ask(record, request, "request.", place)
        body = request.get("body") if isinstance(request, dict) else row.get("body")
        if isinstance(body, dict):
            ask(record, body, "body.", place)
        record.request_id = optional_text(row.get("custom_id"), "custom_id", place)
        record.grades = given_grades(row) if len(rollouts) == 1 else {}
        yield name_rollout(record, row, place)


# Batch files


def recognises_request(row: Row) -> bool:
    """A line of a batch's input file."""
    named = all(isinstance(row.get(name), str) for name in ("custom_id", "method", "url"))
    return (
        named
        and isinstance(row.get("body"), dict)
        and "response" not in row
        and not recognises(row)
    )


def request_records(row: Row, place: str) -> Iterator[Record]:
    """The prompt of a request, without a response."""
    body = row.get("body")
    if not isinstance(body, dict):
        raise malformed(place, "body", "a request with messages or a prompt", body)
    record = Record(request_id=text(row.get("custom_id"), "custom_id", place))
    ask(record, body, "body.", place)
    if record.prompt is None and record.prompt_ids is None:
        raise malformed(place, "body", "a request with messages or a prompt", body)
    yield name_rollout(record, row, place)


def recognises_result(row: Row) -> bool:
    """A line of a batch's output file or of its error file."""
    if not isinstance(row.get("custom_id"), str) or "response" not in row:
        return False
    response = row["response"]
    if response is None:
        return isinstance(row.get("error"), dict)
    return isinstance(response, dict) and "status_code" in response and "body" in response


def result_records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a request; one that failed has stop "error" and no response."""
    text(row.get("custom_id"), "custom_id", place)
    response = row.get("response")
    if response is not None and not isinstance(response, dict):
        raise malformed(place, "response", "an object with status_code and body", response)
    if response is None or row.get("error") is not None or response.get("status_code") != 200:
        found: Iterator[Record] = iter([Record(stop="error")])
    elif isinstance(response.get("body"), dict):
        found = choice_records(response["body"], "response.body.", place)
    else:
        raise malformed(place, "response.body", "a completion with choices", response.get("body"))
    yield from _asked_and_named(row, found, place)


# Chat messages


def recognises_chat(row: Row) -> bool:
    """Messages that end with the assistant's turn, and beside them nothing but plain values and the
    tools."""
    found = row.get("messages")
    if (
        not is_messages(found)
        or found[-1]["role"] != "assistant"
        or not OTHER_TEXTS.isdisjoint(row)
    ):
        return False
    beside = (
        value for name, value in row.items() if name not in ("messages", "tools", "functions")
    )
    return _behind_prompt(found) > 0 and not any(isinstance(value, dict | list) for value in beside)


def _behind_prompt(found: list[Any]) -> int:
    """Where the rollout begins: behind the last message of user, system or developer."""
    return next(
        (place for place in range(len(found), 0, -1) if found[place - 1]["role"] not in WRITTEN), 0
    )


def chat_records(row: Row, place: str) -> Iterator[Record]:
    """The rollout of a row of messages."""
    found = messages(row.get("messages"), "messages", place)
    start = _behind_prompt(found)
    if start == 0 or found[-1]["role"] != "assistant":
        raise malformed(place, "messages", "a question and the assistant's turn behind it", found)
    record = reply(found[start:], "messages", place)
    record.prompt = found[:start]
    record.stop = row.get("finish_reason", row.get("stop_reason"))
    record.grades = given_grades(row)
    yield name_rollout(record, row, place)


FORMATS = (
    Format("openai", "OpenAI completions", recognises, records),
    Format("openai-batch-input", "OpenAI batch requests", recognises_request, request_records),
    Format("openai-batch-output", "OpenAI batch results", recognises_result, result_records),
    Format("openai-messages", "chat messages", recognises_chat, chat_records),
)
