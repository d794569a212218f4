"""SGLang: what its engine and its ``/generate`` return, dumped as JSON, with the prompt that a user
keeps beside it.

Sources: sgl-project/sglang, ``python/sglang/srt/managers/tokenizer_manager.py``,
``_handle_batch_output``: text, output_ids (newer versions) and meta_info with id, finish_reason and
counts. ``python/sglang/srt/managers/schedule_batch.py`` (commit 000eaffacf04), ``to_json`` of the
finish reasons: {"type": "stop", "matched": id or text}, {"type": "length", "length": n}, {"type":
"abort", "message": ...}. Text is decoded without special tokens by default.

An output does not repeat its prompt. It is looked for beside it: prompt, messages, input_ids, and
text where the output stands under a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.row_values import (
    asked,
    given_grades,
    malformed,
    name_rollout,
    optional_text,
    token_ids,
)
from decaylab.rollout_files.record import Record

HOLDERS = (
    "output",
    "outputs",
    "response",
    "responses",
    "completion",
    "completions",
    "generation",
    "result",
    "results",
)


def recognises(row: Row) -> bool:
    """An output, or a row that has one or several under one of `HOLDERS`."""
    outputs, _ = _outputs(row)
    return bool(outputs) and all(map(_is_output, outputs))


def _is_output(value: Any) -> bool:
    meta = value.get("meta_info") if hasattr(value, "get") else None
    if not isinstance(meta, dict) or not ("finish_reason" in meta or "prompt_tokens" in meta):
        return False
    return isinstance(value.get("text"), str) or isinstance(value.get("output_ids"), list)


def _outputs(row: Row) -> tuple[list[Any], str]:
    """The outputs of a row and the name they stand under, which is empty for a row that is an
    output."""
    if "meta_info" in row:
        return [row], ""
    for name in HOLDERS:
        value = row.get(name)
        if isinstance(value, dict) and "meta_info" in value:
            return [value], name
        if (
            isinstance(value, list)
            and value
            and isinstance(value[0], dict)
            and "meta_info" in value[0]
        ):
            return value, name
    return [], ""


def records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a row, numbered as they stand where there are several."""
    outputs, holder = _outputs(row)
    if not outputs:
        raise malformed(
            place,
            "meta_info",
            "an object with id and finish_reason, here or inside an output",
            None,
        )
    names = ("prompt", "messages", "text") if holder else ("prompt", "messages")
    name = next((name for name in names if row.get(name) is not None), None)
    prompt = None if name is None else asked(row[name], name, place)
    prompt_ids = token_ids(row.get("input_ids"), "input_ids", place)
    for number, output in enumerate(outputs):
        record = _record(output, holder and f"{holder}.", place)
        record.prompt, record.prompt_ids = prompt, prompt_ids
        if len(outputs) > 1:
            record.sample = number
        else:
            record.grades = given_grades(row)
        yield name_rollout(record, row, place)


def _record(output: Any, holder: str, place: str) -> Record:
    meta = output.get("meta_info") if hasattr(output, "get") else None
    if not isinstance(meta, dict):
        raise malformed(place, f"{holder}meta_info", "an object with id and finish_reason", meta)
    response = optional_text(output.get("text"), f"{holder}text", place)
    ids = token_ids(output.get("output_ids"), f"{holder}output_ids", place)
    if response is None and ids is None:
        raise malformed(place, f"{holder}text", "text, where there are no output_ids", None)
    stop = meta.get("finish_reason")
    return Record(
        response=response,
        response_ids=ids,
        response_stripped=response is not None,
        stop=stop,
        stop_detail=stop.get("matched") if isinstance(stop, dict) else None,
        request_id=optional_text(meta.get("id"), f"{holder}meta_info.id", place),
    )


FORMATS = (Format("sglang", "SGLang outputs", recognises, records),)
