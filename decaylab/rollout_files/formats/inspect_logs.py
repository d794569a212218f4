"""Logs of inspect, .eval and .json: a sample of an epoch is a rollout.

    for row in rows(Path("logs/2026-01-01_gsm8k.eval")): ...    # plain dicts, which the format
    reads

Source: UKGovernmentBEIS/inspect_ai, inspect_ai 0.3.285, ``inspect_ai/log/_log.py``, `EvalSample`,
``inspect_ai/log/_file.py``, `read_eval_log` and `read_eval_log_samples`,
``inspect_ai/model/_model_output.py``, `ModelOutput`, ``inspect_ai/model/_chat_message.py``,
``inspect_ai/_util/content.py``, `ContentReasoning`, ``inspect_ai/scorer/_metric.py``, `Score`. A
log is read by inspect's own reader, as its attachments and older versions need.

The prompt is what stands before the first message that the model generated, solvers' system
messages and templates included. ``truncated`` is true where a limit of the sample halted it
(``limit``). Epochs count from 1, samples from 0.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import Message, Record

_COLUMNS = {"id", "epoch", "input", "target", "messages", "output", "scores", "error", "limit"}
_UNREAD = {"events", "events_data", "timelines", "store", "metadata"}


def is_log(row: Row) -> bool:
    """Whether the one object of a .json file is a whole log, which `rows` reads."""
    return isinstance(row.get("eval"), dict) and isinstance(row.get("samples"), list)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a log, one plain dict each.

    Raises:
        UserError: inspect_ai is not installed, or its reader can't read the log.
    """
    try:
        reader = importlib.import_module("inspect_ai.log")
    except ImportError as error:
        raise UserError(
            f"{path} is a log of inspect, whose reader is missing ({error}): pip install inspect_ai"
        ) from error
    try:
        for sample in _samples(reader, path):
            yield sample.model_dump(mode="json", include=_COLUMNS, exclude_none=True)
    except Exception as error:  # of zipfile, pydantic, the JSON reader and inspect itself
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} is not a log that inspect can read: {lines[0]:.160}") from error


def _samples(reader: Any, path: Path) -> Iterable[Any]:
    """Samples one by one from a .eval; all at once from a .json, which would be parsed anew for
    each."""
    if path.suffix == ".json":
        return reader.read_eval_log(str(path), resolve_attachments=True).samples or []
    read = reader.read_eval_log_samples
    knows = "exclude_fields" in inspect.signature(read).parameters
    less = {"exclude_fields": _UNREAD} if knows else {}
    found: Iterable[Any] = read(
        str(path), all_samples_required=False, resolve_attachments=True, **less
    )
    return found


def _is_sample(row: Row) -> bool:
    return (
        isinstance(row.get("output"), dict)
        and isinstance(row.get("epoch"), int)
        and isinstance(row.get("messages"), list)
        and isinstance(row.get("input"), str | list)
        and "target" in row
        and "id" in row
    )


def _sample(row: Row, place: str) -> Iterator[Record]:
    if isinstance(row["epoch"], bool) or row["epoch"] < 1:
        raise must_hold.refused(place, "epoch", "a whole number from 1", row["epoch"])
    messages = must_hold.messages(row["messages"], "messages", place)
    start = _start(messages)
    choice = _choice(row["output"], place)
    record = Record(
        problem_id=str(row["id"]),
        sample=row["epoch"] - 1,
        prompt=_asked(row, messages[:start], place),
        answer=row["target"],
        answer_name="target",
        stop=must_hold.optional_text(
            choice.get("stop_reason"), "output.choices.0.stop_reason", place
        ),
        truncated=True if row.get("limit") else None,
        grades=_grades(row.get("scores") or {}, place),
    )
    turns = [
        _message(one, f"messages.{start + index}", place)
        for index, one in enumerate(messages[start:])
    ]
    if not turns and isinstance(choice.get("message"), dict):  # a solver that keeps no conversation
        turns = [_message(choice["message"], "output.choices.0.message", place)]
    if len(turns) == 1 and not turns[0].get("tool_calls") and isinstance(turns[0]["content"], str):
        record.response, record.reasoning = turns[0]["content"], turns[0].get("reasoning_content")
    elif turns:
        record.turns = turns
    yield record


def _start(messages: list[Message]) -> int:
    """Where the prompt ends: at the first message that was generated, or at the first assistant's
    where none says so."""
    written = [index for index, one in enumerate(messages) if one["role"] == "assistant"]
    generated = [index for index in written if messages[index].get("source") == "generate"]
    return next(iter(generated or written), len(messages))


def _asked(row: Row, before: list[Message], place: str) -> str | list[Message]:
    if before:
        return [_message(one, f"messages.{index}", place) for index, one in enumerate(before)]
    if isinstance(row["input"], str):
        return row["input"]
    found = must_hold.messages(row["input"], "input", place)
    return [_message(one, f"input.{index}", place) for index, one in enumerate(found)]


def _choice(output: Row, place: str) -> Row:
    choices = must_hold.items(output.get("choices", []), "output.choices", place)
    return must_hold.table(choices[0], "output.choices.0", place) if choices else {}


def _message(one: Message, column: str, place: str) -> Message:
    """A message whose parts of reasoning stand apart from its text."""
    content = one.get("content")
    if not isinstance(content, list):
        return must_hold.message(one, column, place)
    parts = [
        must_hold.table(part, f"{column}.content.{index}", place)
        for index, part in enumerate(content)
    ]
    thoughts = [part for part in parts if part.get("type") == "reasoning"]
    rest = [
        {**part, "type": part.get("type", "text")}
        for part in parts
        if part.get("type") != "reasoning"
    ]
    plain = must_hold.message({**one, "content": rest}, column, place)
    if thoughts:
        plain["reasoning_content"] = "".join(_thought(part, column, place) for part in thoughts)
    return plain


def _thought(part: Row, column: str, place: str) -> str:
    """The reasoning itself, or its summary where only that is open to read."""
    kept = (part.get("summary") or "") if part.get("redacted") else part.get("reasoning")
    return must_hold.text(kept, f"{column}.content.reasoning", place)


def _grades(scores: Any, place: str) -> dict[str, Any]:
    """The value of each score, as it stands: C, I, a number; a value with several has a grade for
    each."""
    grades: dict[str, Any] = {}
    for name, score in must_hold.table(scores, "scores", place).items():
        found = must_hold.table(score, f"scores.{name}", place)
        if "value" not in found:
            raise must_hold.refused(place, f"scores.{name}", "an object with a value", score)
        value = found["value"]
        grades |= (
            {f"{name}.{key}": one for key, one in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return grades


FORMATS: tuple[Format, ...] = (Format("inspect", "inspect logs", _is_sample, _sample),)
