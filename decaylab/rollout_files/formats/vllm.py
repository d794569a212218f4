"""vLLM: what ``LLM.generate`` and ``LLM.chat`` return, dumped as JSON.

Sources: vllm-project/vllm, ``vllm/outputs.py``, ``RequestOutput`` and ``CompletionOutput`` (commit
003d3ee22261): request_id, prompt, prompt_token_ids and outputs, each with index, text, token_ids,
finish_reason and stop_reason. Both classes are dumped by people themselves (``vars``,
``dataclasses.asdict``), so other fields may be missing. ``vllm/sampling_params.py``,
``SamplingParams.skip_special_tokens`` (commit 00388f6573cc): text is without special tokens unless
asked for; token_ids hold them all.
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
    text,
    token_ids,
    whole,
)
from decaylab.rollout_files.record import Record


def recognises(row: Row) -> bool:
    """A request with outputs that have text and token ids."""
    outputs = row.get("outputs")
    if (
        not isinstance(outputs, list)
        or not outputs
        or not ("request_id" in row or "prompt_token_ids" in row)
    ):
        return False
    return all(
        isinstance(one, dict) and isinstance(one.get("text"), str) and "token_ids" in one
        for one in outputs
    )


def records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a request; where there are several, each has its index as sample."""
    outputs = row.get("outputs")
    if not isinstance(outputs, list):
        raise malformed(place, "outputs", "a list of outputs", outputs)
    name = "prompt" if row.get("prompt") is not None else "messages"
    prompt = None if row.get(name) is None else asked(row[name], name, place)
    prompt_ids = token_ids(row.get("prompt_token_ids"), "prompt_token_ids", place)
    request = row.get("request_id")
    for output in outputs:
        record = _record(output, place, several=len(outputs) > 1)
        record.prompt, record.prompt_ids = prompt, prompt_ids
        record.request_id = None if request is None else str(request)
        record.grades = given_grades(row) if len(outputs) == 1 else {}
        yield name_rollout(record, row, place)


def _record(output: Any, place: str, several: bool) -> Record:
    if not isinstance(output, dict):
        raise malformed(place, "outputs", "outputs with text and token_ids", output)
    return Record(
        response=text(output.get("text"), "outputs.text", place),
        response_ids=token_ids(output.get("token_ids"), "outputs.token_ids", place),
        response_stripped=True,
        sample=whole(output.get("index"), "outputs.index", place) if several else None,
        stop=output.get("finish_reason"),
        stop_detail=output.get("stop_reason"),
    )


FORMATS = (Format("vllm", "vLLM request outputs", recognises, records),)
