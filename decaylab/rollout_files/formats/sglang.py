"""Outputs of SGLang's engine and ``/generate``, dumped as JSON, with a prompt added by the user.

Sources: sgl-project/sglang, ``python/sglang/srt/managers/tokenizer_manager.py``,
``_handle_batch_output``: text, output_ids (newer versions) and meta_info with id, finish_reason and
counts. ``python/sglang/srt/managers/schedule_batch.py`` (commit 000eaffacf04), ``to_json`` of the
finish reasons: {"type": "stop", "matched": id or text}, {"type": "length", "length": n}, {"type":
"abort", "message": ...}. Text is decoded without special tokens by default.

An output does not include its prompt. The prompt is read from other columns of the row: prompt,
messages, input_ids, or text if the output has its own column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.rollout import given_grades, name_rollout
from decaylab.rollout_files.formats.shapes import both, either, fits, has
from decaylab.rollout_files.record import Record

META = "an object with id and finish_reason"
HOLDERS = (
    *("output", "outputs", "response", "responses", "completion", "completions"),
    *("generation", "result", "results"),
)
OUTPUT = both(
    has(meta_info=either(has(finish_reason=object), has(prompt_tokens=object))),
    either(has(text=str), has(output_ids=list)),
)


def _holder(row: Row) -> str | None:
    """The column with the outputs of a row; "" if the row itself is an output."""
    if "meta_info" in row:
        return ""
    for name in HOLDERS:
        value = row.get(name)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and "meta_info" in first:
            return name
    return None


def _recognises(row: Row) -> bool:
    holder = _holder(row)
    outputs: Any = row.get(holder) if holder else row
    return holder is not None and fits(outputs, either(OUTPUT, [OUTPUT]))


def _read(row: Fields) -> Iterator[Record]:
    """The rollouts of a row, numbered in order if there are several."""
    holder = _holder(row.values)
    if holder is None:
        raise row.refused("meta_info", f"{META}, here or inside an output")
    if not holder:
        outputs = [row]
    elif isinstance(row.get(holder), list):
        outputs = row.objects(holder)
    else:
        outputs = [row.inner(holder)]
    # If the row itself is an output, its text is the response.
    prompts = ("prompt", "messages", "text") if holder else ("prompt", "messages")
    name = next((name for name in prompts if row.get(name) is not None), None)
    prompt = None if name is None else row.prompt(name)
    for number, output in enumerate(outputs):
        record = _record(output)
        record.prompt, record.prompt_ids = prompt, row.optional_ids("input_ids")
        if len(outputs) > 1:
            record.sample = number
        else:
            record.grades = given_grades(row)
        yield name_rollout(record, row)


def _record(output: Fields) -> Record:
    meta = output.inner("meta_info", META)
    response, ids = output.optional_text("text"), output.optional_ids("output_ids")
    if response is None and ids is None:
        raise output.refused("text", "text if there are no output_ids")
    stop = meta.get("finish_reason")
    return Record(
        response=response,
        response_ids=ids,
        stop=stop,
        stop_detail=stop.get("matched") if isinstance(stop, dict) else None,
        request_id=meta.optional_text("id"),
    )


FORMATS = (Format("sglang", "SGLang outputs", _recognises, _read),)
