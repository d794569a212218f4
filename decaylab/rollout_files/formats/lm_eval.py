"""Samples of lm-evaluation-harness (``--log_samples``: samples_TASK_DATE.jsonl).

Source: EleutherAI/lm-evaluation-harness, lm-eval 0.4.13, ``lm_eval/evaluator.py``, `evaluate`,
``lm_eval/result_schema.py``, `SampleResult`, ``lm_eval/loggers/evaluation_tracker.py``,
`save_results_samples`; ``lm_eval/models/api_models.py``, `JsonChatStr`, for prompts that are chat
messages. ``arguments`` is an object of gen_args_0, gen_args_1, ... now, and was a list of lists in
older files.

A task with several filters writes every rollout once per filter; only the row with a sample's first
filter is read. Grades have lm-eval's own names, "metric,filter". With several responses in a row,
grades apply to all of them together (a majority, for example) and are left out. There are no stop
reasons, and whether special tokens were decoded depends on the backend. Rows of log-likelihood
tasks have no rollouts and are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.shapes import has
from decaylab.rollout_files.record import ABSENT, Message, Record

_FIXED = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_FIXED |= {"doc_hash", "prompt_hash", "target_hash"}


class _FirstFilters:
    """The first filter of each sample in a file.

    Rows do not list a task's filters, so this keeps track of the rows read before, by file.
    """

    def __init__(self) -> None:
        self._filters: dict[str, dict[int, Any]] = {}
        self._lines: dict[str, int] = {}

    def has(self, row: Fields) -> bool:
        """Whether a row has the first filter of its sample."""
        file = row.place.rstrip("0123456789")
        line = int(row.place[len(file) :] or 0)
        if line <= self._lines.get(file, 0):  # the file is being read again
            self._filters.pop(file, None)
        self._lines[file] = line
        sample = hash(f"{row.get('doc_id')}\n{row.get('doc_hash')}\n{row.get('prompt_hash')}")
        name = row.get("filter")
        return bool(self._filters.setdefault(file, {}).setdefault(sample, name) == name)


_first_filters = _FirstFilters()


SAMPLE = has(resps=list, filtered_resps=list, arguments=dict | list, doc_id=object, doc=object)


def _read(row: Fields) -> Iterator[Record]:
    prompt = _prompt(row)
    responses = _responses(row)
    if not _first_filters.has(row):
        return
    grades = _grades(row) if len(responses.values) == 1 else {}
    for number in responses.values:
        yield Record(
            response=responses.text(number),
            problem_id=str(row.get("doc_id")),
            prompt=prompt,
            answer=row.get("target", ABSENT),
            answer_name="target",
            grades=grades,
        )


def _prompt(row: Fields) -> str | list[Message]:
    """The prompt: the first argument of the only request, a request to generate."""
    requests = _values(row.get("arguments"))
    if not requests:
        raise row.refused("arguments", "a request", row.get("arguments"))
    arguments = _values(requests[0])
    if not isinstance(arguments, list) or not arguments:
        raise row.refused("arguments", "lists or objects of arguments", row.get("arguments"))
    if len(arguments) < 2 or not isinstance(arguments[1], dict):
        raise UserError(
            f"{row.place}: column 'arguments' must hold a request to generate, got one of a "
            "log-likelihood task (such as multiple choice), which has no rollouts"
        )
    if len(requests) > 1:
        raise UserError(
            f"{row.place}: column 'arguments' must hold one request, got {len(requests)}"
        )
    prompt = arguments[0]
    # Messages are a list of one JSON text (`JsonChatStr`).
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        try:
            prompt = json.loads(prompt[0])
        except ValueError as error:
            raise row.refused("arguments", "JSON text of chat messages", prompt[0]) from error
    return Fields({"arguments": prompt}, row.place).prompt("arguments")


def _values(arguments: Any) -> Any:
    """The values of an object; a list, as in older files, is unchanged."""
    return list(arguments.values()) if isinstance(arguments, dict) else arguments


def _responses(row: Fields) -> Fields:
    """The responses to the only request, which may be a single text."""
    requests = row.items("resps")
    if len(requests.values) != 1:
        raise row.refused("resps", "the responses to one request", row.get("resps"))
    return requests.items(0) if isinstance(requests.values[0], list) else requests


def _grades(row: Fields) -> dict[str, Any]:
    """Metrics of the row's filter: those in ``metrics``, or else all other number columns."""
    others = row.values.items() if row.get("metrics") is None else ()
    names = [key for key, value in others if key not in _FIXED and isinstance(value, int | float)]
    if row.get("metrics") is not None:
        names = row.listed("metrics")
    filtered = row.optional_text("filter")
    behind = "" if filtered is None else f",{filtered}"
    grades = {}
    for name in names:
        if name not in row:
            raise UserError(
                f"{row.place}: column 'metrics' must name columns of the row, got {name!r:.60}"
            )
        grades[f"{name}{behind}"] = row.get(name)
    return grades


FORMATS = (Format("lm-eval", "lm-evaluation-harness samples", SAMPLE, _read),)
