"""The forms in which texts are given to `score_texts.score`.

    "2 + 3 = 5"                                              scored whole
    ("What is 2 + 3?", "It is 5.")                           prompt and response
    {"prompt": "What is 2 + 3?", "response": "It is 5."}     the prompt may be chat messages
    {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}
    {"prompt_ids": [5, 17], "response_ids": [9, 1]}          exact tokens, as in a rollouts table

A DataFrame is read as one dict per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.files import mended
from decaylab.rollout_files.record import Message

FORMS = "a text, a pair (prompt, response), or a dict with prompt and response, or messages"
Ids = tuple[int, ...]


@dataclass(frozen=True)
class GivenText:
    """One text. place: its name in messages.

    prompt: text, chat messages or token ids; None if the response is scored whole. response: text
    or token ids. teacher_prompt: token ids that the teacher reads instead of those of the prompt.
    """

    place: str
    response: str | Ids
    prompt: str | list[Message] | Ids | None = None
    teacher_prompt: Ids | None = None


def given_texts(texts: Any) -> list[GivenText]:
    """The texts of a list or a DataFrame, in order.

    Raises:
        UserError: another form, or a text without a response.
    """
    if hasattr(texts, "to_dict") and hasattr(texts, "columns"):
        texts = texts.to_dict("records")
    if isinstance(texts, str | Mapping) or not isinstance(texts, Iterable):
        raise UserError(
            f"texts must be a list or a DataFrame, got {type(texts).__name__}; of a list, each is "
            f"{FORMS}"
        )
    read = [_read(value, f"text {number}") for number, value in enumerate(texts)]
    if not read:
        raise UserError(f"texts is empty; give at least one: {FORMS}")
    return read


def _read(value: Any, place: str) -> GivenText:
    if isinstance(value, str):
        given = GivenText(place, mended(value))
    elif isinstance(value, Mapping):
        given = _of_dict(value, place)
    elif isinstance(value, tuple | list) and len(value) == 2:
        prompt, response = value
        given = GivenText(place, _response(response, place), _prompt(prompt, place))
    else:
        raise UserError(f"{place}: must be {FORMS}, got {value!r:.60}")
    if not given.response:
        raise UserError(f"{place}: its response is empty, so there is nothing to score")
    return given


def _of_dict(row: Mapping[str, Any], place: str) -> GivenText:
    if _has(row, "response_ids"):
        response: str | Ids = _ids(row, "response_ids", place)
    elif _has(row, "messages"):
        return _of_messages(row["messages"], place)
    elif _has(row, "response"):
        response = _response(row["response"], place)
    else:
        raise UserError(
            f"{place}: needs response, response_ids or messages, found {', '.join(map(str, row))}"
        )
    if _has(row, "prompt_ids"):
        prompt: Any = _ids(row, "prompt_ids", place)
    elif _has(row, "prompt"):
        prompt = _prompt(row["prompt"], place)
    else:
        raise UserError(
            f"{place}: needs prompt or prompt_ids, found {', '.join(map(str, row))}; give the text "
            "alone to have it scored whole"
        )
    teacher = None
    if _has(row, "teacher_prompt_ids"):
        teacher = _ids(row, "teacher_prompt_ids", place)
    return GivenText(place, response, prompt, teacher)


def _of_messages(messages: Any, place: str) -> GivenText:
    """The last message, which is the assistant's, is the response."""
    messages = _prompt(messages, place)
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if last.get("role") != "assistant" or len(messages) < 2:
        raise UserError(
            f"{place}: messages must end with the assistant's, which is scored, after the user's"
        )
    return GivenText(place, _response(last.get("content"), place), messages[:-1])


def _has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a value; tables store a missing one as None or NaN."""
    value = row.get(name)
    return value is not None and not (isinstance(value, float) and value != value)


def _prompt(value: Any, place: str) -> str | list[Message]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value):
        return list(value)
    raise UserError(f"{place}: the prompt must be text or chat messages, got {value!r:.60}")


def _response(value: Any, place: str) -> str:
    if isinstance(value, str):
        return mended(value)
    raise UserError(f"{place}: the response must be text, got {value!r:.60}")


def _ids(row: Mapping[str, Any], name: str, place: str) -> Ids:
    value = row[name]
    value = value.tolist() if hasattr(value, "tolist") else value
    ids = tuple(value) if isinstance(value, list | tuple) else ()
    if not ids or not all(_is_id(token) for token in ids):
        raise UserError(f"{place}: {name} must be a list of token ids, got {value!r:.60}")
    return tuple(map(int, ids))


def _is_id(token: Any) -> bool:
    return isinstance(token, Integral) and not isinstance(token, bool) and int(token) >= 0
