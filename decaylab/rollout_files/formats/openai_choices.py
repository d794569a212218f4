"""Converts requests and choices of OpenAI's API to records, for all formats that contain them."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.rollout import add_reply
from decaylab.rollout_files.formats.shapes import either, has
from decaylab.rollout_files.record import Record

CHOICES = "a list of choices with a message or a text"
COMPLETION = has(choices=[either(has(message=dict), has(text=object))])


def add_prompt(record: Record, request: Fields) -> None:
    """Fills in the prompt of a request (messages, text or token ids), unless there is one."""
    if record.prompt is not None:
        return
    column = "prompt" if request.get("messages") is None else "messages"
    prompt = request.get(column)
    first = prompt[0] if column == "prompt" and isinstance(prompt, list) and prompt else None
    if isinstance(first, int):
        record.prompt_ids = record.prompt_ids or request.ids("prompt")
    elif isinstance(first, str):
        if len(prompt) > 1:
            raise request.refused("prompt", "one prompt per row", prompt)
        record.prompt = first
    elif prompt is not None:
        record.prompt = request.prompt(column)


def choice_records(completion: Fields) -> Iterator[Record]:
    """The rollouts of a completion; if there are several, their index is the sample number."""
    choices = completion.objects("choices", CHOICES)
    if not choices:
        raise completion.refused("choices", CHOICES, [])
    prompt_ids = completion.optional_ids("prompt_token_ids")
    for choice in choices:
        record = Record(
            response_ids=choice.optional_ids("token_ids"),
            prompt_ids=choice.optional_ids("prompt_token_ids"),
            stop=choice.get("finish_reason"),
            stop_detail=choice.get("stop_reason", choice.get("matched_stop")),
        )
        if record.prompt_ids is None:
            record.prompt_ids = prompt_ids
        if choice.get("message") is None:
            record.response = choice.text("text")
        else:
            message = choice.inner("message", "a message with role and content")
            add_reply(record, [dict(message.values)], message)
        if len(choices) > 1:
            record.sample = choice.optional_whole("index")
        yield record
