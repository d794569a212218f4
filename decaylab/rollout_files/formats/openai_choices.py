"""A request of OpenAI's API and its choices, as records, for the formats that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.format import Row
from decaylab.rollout_files.formats.row_values import (
    asked,
    malformed,
    reply,
    text,
    token_ids,
    whole,
)
from decaylab.rollout_files.record import Record


def has_choices(value: Any) -> bool:
    """Whether a value is a completion: choices that each have a message or a text."""
    choices = value.get("choices") if hasattr(value, "get") else None
    if not isinstance(choices, list) or not choices:
        return False
    return all(
        isinstance(one, dict) and (isinstance(one.get("message"), dict) or "text" in one)
        for one in choices
    )


def ask(record: Record, request: Row, name: str, place: str) -> None:
    """Fills in the prompt of a request: messages, a text, or token ids. A prompt that is there
    already stays."""
    if record.prompt is not None:
        return
    column = "messages" if request.get("messages") is not None else "prompt"
    prompt = request.get(column)
    if column == "prompt" and isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        record.prompt_ids = record.prompt_ids or token_ids(prompt, f"{name}prompt", place)
    elif column == "prompt" and isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
        if len(prompt) > 1:
            raise malformed(place, f"{name}prompt", "one prompt a row", prompt)
        record.prompt = prompt[0]
    elif prompt is not None:
        record.prompt = asked(prompt, f"{name}{column}", place)


def choice_records(completion: Row, name: str, place: str) -> Iterator[Record]:
    """The rollouts of a completion; where there are several, each has its index as sample."""
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        raise malformed(
            place, f"{name}choices", "a list of choices with a message or a text", choices
        )
    prompt_ids = token_ids(completion.get("prompt_token_ids"), f"{name}prompt_token_ids", place)
    for choice in choices:
        record = _record(choice, f"{name}choices.", place)
        if record.prompt_ids is None:
            record.prompt_ids = prompt_ids
        record.sample = (
            whole(choice.get("index"), f"{name}choices.index", place) if len(choices) > 1 else None
        )
        yield record


def _record(choice: Any, name: str, place: str) -> Record:
    if not isinstance(choice, dict):
        raise malformed(place, name.rstrip("."), "choices with a message or a text", choice)
    message = choice.get("message")
    if message is None:
        record = Record(response=text(choice.get("text"), f"{name}text", place))
    elif isinstance(message, dict):
        record = reply([message], f"{name}message", place)
    else:
        raise malformed(place, f"{name}message", "a message with role and content", message)
    record.response_ids = token_ids(choice.get("token_ids"), f"{name}token_ids", place)
    record.prompt_ids = token_ids(choice.get("prompt_token_ids"), f"{name}prompt_token_ids", place)
    record.stop = choice.get("finish_reason")
    record.stop_detail = choice.get("stop_reason", choice.get("matched_stop"))
    return record
