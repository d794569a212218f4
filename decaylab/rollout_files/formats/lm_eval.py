"""Samples of lm-evaluation-harness (``--log_samples``: samples_TASK_DATE.jsonl).

Source: EleutherAI/lm-evaluation-harness, lm-eval 0.4.13, ``lm_eval/evaluator.py``, `evaluate`,
``lm_eval/result_schema.py``, `SampleResult`, ``lm_eval/loggers/evaluation_tracker.py``,
`save_results_samples`; ``lm_eval/models/api_models.py``, `JsonChatStr`, for prompts that are chat
messages. ``arguments`` is an object of gen_args_0, gen_args_1, ... now, and was a list of lists in
older files.

A task with several filters writes its rollouts once for each: a rollout is read with the filter it
stands with first, and its other rows give no rollout. Grades have lm-eval's own names,
"metric,filter". With several responses in a row they are of all of them together (a majority, say)
and are left out. Nothing is said of why a rollout ended, and whether special tokens were decoded
depends on the backend. Rows of log-likelihood tasks hold no rollouts and are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import ABSENT, Message, Record

_FIXED = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_HASHES = {"doc_hash", "prompt_hash", "target_hash"}
_PLACE = re.compile(r"(.*?)(\d*)", re.DOTALL)


class _FirstFilters:
    """The filter that each sample of a file stands with first.

    A row alone can't tell: which filters a task has stands nowhere. So this remembers, by file,
    what was read before.
    """

    def __init__(self) -> None:
        self._filters: dict[str, dict[int, Any]] = {}
        self._lines: dict[str, int] = {}

    def has(self, row: Row, place: str) -> bool:
        """Whether a row is the sample's first, or repeats it with the filter of its first."""
        found = _PLACE.fullmatch(place)
        file, line = (found[1], int(found[2] or 0)) if found else (place, 0)
        if line <= self._lines.get(file, 0):  # the file is read anew
            self._filters.pop(file, None)
        self._lines[file] = line
        sample = hash(f"{row['doc_id']}\n{row.get('doc_hash')}\n{row.get('prompt_hash')}")
        name = row.get("filter")
        return bool(self._filters.setdefault(file, {}).setdefault(sample, name) == name)


_first_filters = _FirstFilters()


def _is_sample(row: Row) -> bool:
    return (
        isinstance(row.get("resps"), list)
        and isinstance(row.get("filtered_resps"), list)
        and isinstance(row.get("arguments"), dict | list)
        and "doc_id" in row
        and "doc" in row
    )


def _sample(row: Row, place: str) -> Iterator[Record]:
    prompt = _prompt(row["arguments"], place)
    responses = _responses(row["resps"], place)
    if not _first_filters.has(row, place):
        return
    grades = _grades(row, place) if len(responses) == 1 else {}
    for index, response in enumerate(responses):
        yield Record(
            response=must_hold.text(response, f"resps.0.{index}", place),
            problem_id=str(row["doc_id"]),
            prompt=prompt,
            answer=row.get("target", ABSENT),
            answer_name="target",
            grades=grades,
        )


def _prompt(arguments: Any, place: str) -> str | list[Message]:
    """What the model was given: the first argument of the only request, which was one to
    generate."""
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not requests:
        raise must_hold.refused(place, "arguments", "a request", arguments)
    first = list(requests[0].values()) if isinstance(requests[0], dict) else requests[0]
    if not isinstance(first, list) or not first:
        raise must_hold.refused(place, "arguments", "lists or objects of arguments", arguments)
    if len(first) < 2 or not isinstance(first[1], dict):
        raise UserError(
            f"{place}: column 'arguments' must hold a request to generate, got one of a "
            "log-likelihood task (such as multiple "
            "choice), which has no rollouts"
        )
    if len(requests) > 1:
        raise UserError(f"{place}: column 'arguments' must hold one request, got {len(requests)}")
    return (
        _chat(first[0], place)
        if isinstance(first[0], list)
        else must_hold.text(first[0], "arguments", place)
    )


def _chat(value: list[Any], place: str) -> list[Message]:
    """Messages, which stand in a list of one JSON text (`JsonChatStr`)."""
    if len(value) == 1 and isinstance(value[0], str):
        try:
            value = json.loads(value[0])
        except ValueError as error:
            raise must_hold.refused(
                place, "arguments", "JSON text of chat messages", value[0]
            ) from error
    return must_hold.messages(value, "arguments", place)


def _responses(resps: list[Any], place: str) -> list[Any]:
    """The texts of the only request; one text where they are not in a list of their own."""
    if len(resps) != 1:
        raise must_hold.refused(place, "resps", "the responses to one request", resps)
    return resps[0] if isinstance(resps[0], list) else resps


def _grades(row: Row, place: str) -> dict[str, Any]:
    """Metrics of the row's filter: those that ``metrics`` names, or all other columns in files that
    don't name them."""
    named = row.get("metrics")
    if named is None:
        named = [
            name
            for name, value in row.items()
            if name not in _FIXED | _HASHES and isinstance(value, int | float)
        ]
    behind = (
        "" if row.get("filter") is None else f",{must_hold.text(row['filter'], 'filter', place)}"
    )
    grades = {}
    for name in must_hold.items(named, "metrics", place):
        if name not in row:
            raise UserError(
                f"{place}: column 'metrics' must name columns of the row, got {name!r:.60}"
            )
        grades[f"{name}{behind}"] = row[name]
    return grades


FORMATS: tuple[Format, ...] = (
    Format("lm-eval", "lm-evaluation-harness samples", _is_sample, _sample),
)
