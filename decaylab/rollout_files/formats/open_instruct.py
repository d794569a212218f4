"""Rollouts of open-instruct's GRPO trainer.

Source: allenai/open-instruct, ``open_instruct/rl_utils.py`` at commit 00feb3a, `RolloutRecord` and
`_save_rollouts` (``--save_traces`` with ``--rollouts_save_path``: RUN_rollouts_000000.jsonl, one
rollout per row); `FilteredRolloutRecord` and `_save_filtered_rollouts` of another version of that
file, of unknown commit; and for older runs ``open_instruct/grpo_fast.py``,
`data_preparation_thread` (``--save_traces``: traces_RUN.jsonl, one training step per row with the
columns of the step's `Batch`), in several versions of unknown commits.

Both store the ids of prompt and response without a mask, although the response ids include those of
tool outputs, so rows with tool calls are refused. ``prompt_idx`` and ``sample_idx`` count within a
step and do not identify a problem. ``raw_prompt`` joins roles and contents with line breaks, which
is neither a question nor a prompt, so the ids are used instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.shapes import has
from decaylab.rollout_files.record import ABSENT, Record

ROLLOUT = has(
    prompt_tokens=list,
    response_tokens=list,
    prompt_idx=object,
    sample_idx=object,
    finish_reason=object,
)
STEP = has(training_step=object, queries=list, responses=list, scores=list, finish_reasons=list)


def _read_rollout(row: Fields) -> Iterator[Record]:
    if row.get("request_info") and row.inner("request_info").get("tool_calleds"):
        raise UserError(
            f"{row.place}: column 'request_info.tool_calleds' must hold false, got true: "
            "open-instruct saves no mask, so it is unknown which of 'response_tokens' are the "
            "tool's; remove such rows"
        )
    yield _record(
        row.optional_text("decoded_response"),
        row.get("dataset_index"),
        prompt_ids=row.ids("prompt_tokens"),
        response_ids=row.ids("response_tokens"),
        answer=row.get("ground_truth", ABSENT),
        answer_name="ground_truth",
        stop=row.optional_text("finish_reason"),
        grades={"reward": row.number("reward")},
    )


def _read_step(row: Fields) -> Iterator[Record]:
    """The rollouts of a training step; each column is a list with one value per rollout."""
    count = len(row.listed("responses"))
    queries = _column(row, "queries", count)
    responses = _column(row, "responses", count)
    scores = _column(row, "scores", count)
    reasons = _column(row, "finish_reasons", count)
    golds = _column(row, "ground_truths", count, ABSENT)
    decoded = _column(row, "decoded_responses", count)
    indices = _column(row, "indices", count)
    for number in range(count):
        yield _record(
            decoded.optional_text(number),
            indices.values[number],
            prompt_ids=queries.ids(number),
            response_ids=responses.ids(number),
            answer=golds.values[number],
            answer_name=f"ground_truths.{number}",
            stop=reasons.optional_text(number),
            grades={"reward": scores.number(number)},
        )


def _record(response: str | None, index: Any, **fields: Any) -> Record:
    return Record(
        response=response,
        problem_id=None if index is None else str(index),
        **fields,
    )


def _column(row: Fields, name: str, count: int, absent: Any = None) -> Fields:
    """The values of a column, one per response; ``absent`` for each if there is no such column."""
    if row.get(name) is None:
        return Fields(dict.fromkeys(range(count), absent), row.place, name)
    column = row.items(name)
    if len(column.values) != count:
        raise UserError(
            f"{row.place}: column {name!r} must be as long as the {count} responses, got "
            f"{len(column.values)}"
        )
    return column


FORMATS = (
    Format("open-instruct", "open-instruct rollouts", ROLLOUT, _read_rollout),
    Format("open-instruct-traces", "open-instruct traces, a training step a row", STEP, _read_step),
)
