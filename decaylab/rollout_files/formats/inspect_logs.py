"""Logs of inspect, .eval and .json: each sample of an epoch is a rollout.

    for row in rows(Path("logs/2026-01-01_gsm8k.eval")):
        ...     # plain dicts, which the format reads

Source: UKGovernmentBEIS/inspect_ai, inspect_ai 0.3.285, ``inspect_ai/log/_log.py``, `EvalSample`,
``inspect_ai/log/_file.py``, `read_eval_log` and `read_eval_log_samples`,
``inspect_ai/model/_model_output.py``, `ModelOutput`, ``inspect_ai/model/_chat_message.py``,
``inspect_ai/_util/content.py``, `ContentReasoning`, ``inspect_ai/scorer/_metric.py``, `Score`. A
log is read by inspect's own reader, which handles attachments and older versions.

The prompt is everything before the first message that the model generated, including solvers'
system messages and templates. ``truncated`` is true if a limit ended the sample (``limit``). Epochs
count from 1, samples from 0.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.files import one_line
from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.rollout import add_reply, plain
from decaylab.rollout_files.formats.shapes import has
from decaylab.rollout_files.record import Message, Record

_COLUMNS = {"id", "epoch", "input", "target", "messages", "output", "scores", "error", "limit"}
_UNREAD = {"events", "events_data", "timelines", "store", "metadata"}
SAMPLE = has(output=dict, epoch=int, messages=list, input=str | list, target=object, id=object)

is_log = has(eval=dict, samples=list)
"""Whether the object of a .json file is a whole log, which `rows` reads."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a log, one plain dict each.

    Raises:
        UserError: inspect_ai is not installed, or its reader can't read the log.
    """
    try:
        reader = importlib.import_module("inspect_ai.log")
    except ImportError as error:
        raise UserError(
            f"{path} is an inspect log, which needs inspect_ai ({error}): pip install inspect_ai"
        ) from error
    try:
        for sample in _samples(reader, path):
            yield sample.model_dump(mode="json", include=_COLUMNS, exclude_none=True)
    except Exception as error:  # from zipfile, pydantic, the JSON reader or inspect itself
        raise UserError(f"{path} is not a log that inspect can read: {one_line(error)}") from error


def _samples(reader: Any, path: Path) -> Iterable[Any]:
    """Samples of a log: lazily from a .eval; at once from a .json, to parse it only once."""
    if path.suffix == ".json":
        return reader.read_eval_log(str(path), resolve_attachments=True).samples or []
    read = reader.read_eval_log_samples
    knows = "exclude_fields" in inspect.signature(read).parameters
    less = {"exclude_fields": _UNREAD} if knows else {}
    found: Iterable[Any] = read(
        str(path), all_samples_required=False, resolve_attachments=True, **less
    )
    return found


def _read(row: Fields) -> Iterator[Record]:
    if type(row.get("epoch")) is not int or row.get("epoch") < 1:
        raise row.refused("epoch", "a whole number from 1", row.get("epoch"))
    messages = _messages(row, "messages") if row.get("messages") else []
    start = _start(row.get("messages"))
    choices = row.inner("output").objects("choices") if "choices" in row.get("output") else []
    record = Record(
        problem_id=str(row.get("id")),
        sample=row.get("epoch") - 1,
        prompt=messages[:start] or _input(row),
        answer=row.get("target"),
        answer_name="target",
        stop=choices[0].optional_text("stop_reason") if choices else None,
        truncated=True if row.get("limit") else None,
        grades=_grades(row),
    )
    turns = messages[start:]
    if not turns and choices and isinstance(choices[0].get("message"), dict):
        choices[0].message("message")  # a solver that keeps no conversation
        turns = [_message(choices[0].inner("message"))]
    if turns:
        add_reply(record, turns, Fields(turns[0], row.place, f"messages.{start}"))
    yield record


def _start(messages: list[Message]) -> int:
    """Index of the first generated message, or of the first assistant message if none is marked."""
    written = [index for index, one in enumerate(messages) if one["role"] == "assistant"]
    generated = [index for index in written if messages[index].get("source") == "generate"]
    return next(iter(generated or written), len(messages))


def _input(row: Fields) -> str | list[Message]:
    text = row.get("input")
    return text if isinstance(text, str) else _messages(row, "input")


def _messages(row: Fields, name: str) -> list[Message]:
    row.messages(name)
    return [_message(message) for message in row.objects(name)]


def _message(message: Fields) -> Message:
    """A message with its reasoning parts separated from its text."""
    if not isinstance(message.get("content"), list):
        return plain(message)
    parts = message.objects("content")
    thoughts = [_thought(part) for part in parts if part.get("type") == "reasoning"]
    rest = [part.values for part in parts if part.get("type") != "reasoning"]
    written = plain(Fields({**message.values, "content": rest}, message.place, message.column))
    if thoughts:
        written["reasoning_content"] = "".join(thoughts)
    return written


def _thought(part: Fields) -> str:
    """The reasoning, or its summary if the reasoning is redacted."""
    if part.get("redacted"):
        return part.optional_text("summary") or ""
    return part.text("reasoning")


def _grades(row: Fields) -> dict[str, Any]:
    """The value of each score, unchanged (C, I, a number); an object gives one grade per key."""
    grades: dict[str, Any] = {}
    scores = row.inner("scores") if row.get("scores") else Fields({}, row.place)
    for name in scores.values:
        score = scores.inner(name)
        if "value" not in score:
            raise scores.refused(name, "an object with a value", score.values)
        value = score.get("value")
        if isinstance(value, dict):
            grades |= {f"{name}.{key}": part for key, part in value.items()}
        else:
            grades[name] = value
    return grades


FORMATS = (Format("inspect", "inspect logs", SAMPLE, _read),)
