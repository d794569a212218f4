"""Outputs of vLLM's ``LLM.generate`` and ``LLM.chat``, dumped as JSON.

Sources: vllm-project/vllm, ``vllm/outputs.py``, ``RequestOutput`` and ``CompletionOutput`` (commit
003d3ee22261): request_id, prompt, prompt_token_ids and outputs, each with index, text, token_ids,
finish_reason and stop_reason. Users dump both classes in their own way (``vars``,
``dataclasses.asdict``), so other fields may be missing. ``vllm/sampling_params.py``,
``SamplingParams.skip_special_tokens`` (commit 00388f6573cc): by default text has no special tokens;
token_ids include them.
"""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.rollout import given_grades, name_rollout
from decaylab.rollout_files.formats.shapes import both, either, has
from decaylab.rollout_files.record import Record

ROW = both(
    has(outputs=[has(text=str, token_ids=object)]),
    either(has(request_id=object), has(prompt_token_ids=object)),
)


def _read(row: Fields) -> Iterator[Record]:
    """The rollouts of a request; if there are several, their index is the sample number."""
    outputs = row.objects("outputs", "a list of outputs with text and token_ids")
    name = "messages" if row.get("prompt") is None else "prompt"
    prompt = None if row.get(name) is None else row.prompt(name)
    request_id = row.get("request_id")
    for output in outputs:
        record = Record(
            prompt=prompt,
            prompt_ids=row.optional_ids("prompt_token_ids"),
            response=output.text("text"),
            response_ids=output.optional_ids("token_ids"),
            stop=output.get("finish_reason"),
            stop_detail=output.get("stop_reason"),
            request_id=None if request_id is None else str(request_id),
        )
        if len(outputs) > 1:
            record.sample = output.optional_whole("index")
        else:
            record.grades = given_grades(row)
        yield name_rollout(record, row)


FORMATS = (Format("vllm", "vLLM request outputs", ROW, _read),)
