"""OpenAI's API, also served by vLLM, SGLang and others: completions, batch files, chat messages.

Sources: openai/openai-python 3.57.0, ``openai/types/chat/chat_completion.py`` (``ChatCompletion``,
``Choice``), ``chat_completion_message.py`` and ``completion_choice.py``. vllm-project/vllm,
``vllm/entrypoints/openai/protocol.py`` (now ``chat_completion/protocol.py`` and
``completion/protocol.py`` there), ``ChatCompletionResponseChoice``,
``CompletionResponseChoice``: stop_reason, token_ids, prompt_token_ids; ``ChatMessage``: reasoning,
in older versions reasoning_content. Batch files: ``BatchRequestInput`` and ``BatchRequestOutput``
of the same package, after OpenAI's guide. SGLang's choices have matched_stop in place of
stop_reason.

Servers do not repeat the request, so the user must store the prompt with the completion: messages
or prompt in the row, or in a request there. In a row of messages, the response begins after the
last message of user, system or developer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from decaylab.rollout_files.formats.fields import Fields, is_messages
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.openai_choices import (
    CHOICES,
    COMPLETION,
    add_prompt,
    choice_records,
)
from decaylab.rollout_files.formats.rollout import add_reply, given_grades, name_rollout
from decaylab.rollout_files.formats.shapes import either, has
from decaylab.rollout_files.record import Record

HOLDERS = ("response", "completion", "output", "result")
REQUEST = "a request with messages or a prompt"
OTHER_TEXTS = {"prompt", "input", "text", "generation", "response", "completion", "output"}
"""Columns that a row of chat messages must not have, since its prompt and response are messages."""
WRITTEN = ("assistant", "tool", "function")
"""Roles of the messages of a rollout."""


def _holder(row: Row) -> str | None:
    """The column with the completion; "" if the row itself is one."""
    if COMPLETION(row):
        return ""
    return next((name for name in HOLDERS if COMPLETION(row.get(name))), None)


def _is_completion(row: Row) -> bool:
    """Whether a row is or has a completion, and is not an inspect sample (epoch and target)."""
    return _holder(row) is not None and not ("epoch" in row and "target" in row)


def _read_completion(row: Fields) -> Iterator[Record]:
    """The rollouts of a completion, with the prompt in the same row."""
    holder = _holder(row.values)
    if holder is None:
        raise row.refused("choices", CHOICES, row.get("choices"))
    records = choice_records(row.inner(holder) if holder else row)
    yield from _complete(row, list(records))


def _complete(row: Fields, records: Sequence[Record]) -> Iterator[Record]:
    """Adds the row's prompt and the user's own columns to records."""
    for record in records:
        add_prompt(record, row)
        holder = row
        if isinstance(row.get("request"), dict):
            holder = row.inner("request")
            add_prompt(record, holder)
        if isinstance(holder.get("body"), dict):
            add_prompt(record, holder.inner("body"))
        record.request_id = row.optional_text("custom_id")
        record.grades = given_grades(row) if len(records) == 1 else {}
        yield name_rollout(record, row)


# Batch files

_is_batch_line = has(custom_id=str, method=str, url=str, body=dict)
# A line of a batch's output file, or of its error file.
_is_response = either(
    has(custom_id=str, response=has(status_code=object, body=object)),
    has(custom_id=str, response=type(None), error=dict),
)


def is_request(row: Row) -> bool:
    """Whether a row is a line of a batch's input file."""
    return _is_batch_line(row) and "response" not in row and not _is_completion(row)


def _read_request(row: Fields) -> Iterator[Record]:
    """The prompt of a request, without a response."""
    record = Record(request_id=row.text("custom_id"))
    add_prompt(record, row.inner("body", REQUEST))
    if record.prompt is None and record.prompt_ids is None:
        raise row.refused("body", REQUEST, row.get("body"))
    yield name_rollout(record, row)


def _read_response(row: Fields) -> Iterator[Record]:
    """The rollouts of a request; one that failed has stop "error" and no response."""
    row.text("custom_id")
    records = [Record(stop="error")]
    if row.get("response") is not None:
        response = row.inner("response", "an object with status_code and body")
        if row.get("error") is None and response.get("status_code") == 200:
            body = response.inner("body", "a completion with choices")
            records = list(choice_records(body))
    yield from _complete(row, records)


# Chat messages


def _is_chat(row: Row) -> bool:
    """Whether a row has messages that end with the assistant's turn; else only plain values."""
    messages = row.get("messages")
    if not is_messages(messages) or messages[-1]["role"] != "assistant":
        return False
    beside = row.keys() - {"messages", "tools", "functions"}
    nested = any(isinstance(row[name], dict | list) for name in beside)
    return _behind_prompt(messages) > 0 and OTHER_TEXTS.isdisjoint(row) and not nested


def _behind_prompt(messages: list[Any]) -> int:
    """Index where the rollout begins: after the last message of user, system or developer."""
    start = len(messages)
    while start and messages[start - 1]["role"] in WRITTEN:
        start -= 1
    return start


def _read_chat(row: Fields) -> Iterator[Record]:
    """The rollout of a row of messages."""
    messages = row.messages("messages")
    start = _behind_prompt(messages)
    if start == 0 or messages[-1]["role"] != "assistant":
        must = "a question followed by the assistant's turn"
        raise row.refused("messages", must, messages)
    record = Record(
        prompt=messages[:start],
        stop=row.get("finish_reason", row.get("stop_reason")),
        grades=given_grades(row),
    )
    add_reply(record, messages[start:], row.items("messages").inner(start))
    yield name_rollout(record, row)


FORMATS = (
    Format("openai", "OpenAI completions", _is_completion, _read_completion),
    Format("openai-batch-input", "OpenAI batch requests", is_request, _read_request),
    Format("openai-batch-output", "OpenAI batch results", _is_response, _read_response),
    Format("openai-messages", "chat messages", _is_chat, _read_chat),
)
