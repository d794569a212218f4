"""Rollouts of open-instruct's GRPO trainer.

Source: allenai/open-instruct, ``open_instruct/rl_utils.py`` at commit 00feb3a, `RolloutRecord` and
`_save_rollouts` (``--save_traces`` with ``--rollouts_save_path``: RUN_rollouts_000000.jsonl, a
rollout a row); `FilteredRolloutRecord` and `_save_filtered_rollouts` of another version of that
file, whose commit is not known; and for older runs ``open_instruct/grpo_fast.py``,
`data_preparation_thread` (``--save_traces``: traces_RUN.jsonl, a training step a row with the
columns of the step's `Batch`), in several versions of unknown commits.

Both keep the ids of prompt and response and no mask, although the ids of tool outputs stand among
those of the response: rows that say of a tool call are refused. ``prompt_idx`` and ``sample_idx``
count inside one step and name no problem. ``raw_prompt`` joins roles and contents by line breaks,
which is neither a question nor a prompt: the ids say more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.errors import UserError
from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import ABSENT, Record

_STEP_COLUMNS = ("queries", "responses", "scores", "finish_reasons")


def _is_rollout(row: Row) -> bool:
    return (
        isinstance(row.get("prompt_tokens"), list)
        and isinstance(row.get("response_tokens"), list)
        and "prompt_idx" in row
        and "sample_idx" in row
        and "finish_reason" in row
    )


def _rollout(row: Row, place: str) -> Iterator[Record]:
    _refuse_tools(row.get("request_info"), place)
    decoded = must_hold.optional_text(row.get("decoded_response"), "decoded_response", place)
    index = row.get("dataset_index")
    yield Record(
        response=decoded,
        response_stripped=decoded is not None,
        problem_id=None if index is None else str(index),
        prompt_ids=must_hold.ids(row["prompt_tokens"], "prompt_tokens", place),
        response_ids=must_hold.ids(row["response_tokens"], "response_tokens", place),
        answer=row.get("ground_truth", ABSENT),
        answer_name="ground_truth",
        stop=must_hold.optional_text(row["finish_reason"], "finish_reason", place),
        grades={"reward": must_hold.number(row.get("reward"), "reward", place)},
    )


def _refuse_tools(info: Any, place: str) -> None:
    if info and must_hold.table(info, "request_info", place).get("tool_calleds"):
        raise UserError(
            f"{place}: column 'request_info.tool_calleds' must hold false, got true: "
            "open-instruct saves no mask, "
            "so which of 'response_tokens' the tool wrote is not known; leave such rows out"
        )


def _is_step(row: Row) -> bool:
    return "training_step" in row and all(isinstance(row.get(name), list) for name in _STEP_COLUMNS)


def _step(row: Row, place: str) -> Iterator[Record]:
    count = len(row["responses"])
    columns = {name: _column(row, name, count, place) for name in _STEP_COLUMNS}
    golds = _column(row, "ground_truths", count, place, ABSENT)
    decoded = _column(row, "decoded_responses", count, place)
    indices = _column(row, "indices", count, place)
    for number in range(count):
        text = must_hold.optional_text(decoded[number], f"decoded_responses.{number}", place)
        yield Record(
            response=text,
            response_stripped=text is not None,
            problem_id=None if indices[number] is None else str(indices[number]),
            prompt_ids=must_hold.ids(columns["queries"][number], f"queries.{number}", place),
            response_ids=must_hold.ids(columns["responses"][number], f"responses.{number}", place),
            answer=golds[number],
            answer_name=f"ground_truths.{number}",
            stop=must_hold.optional_text(
                columns["finish_reasons"][number], f"finish_reasons.{number}", place
            ),
            grades={
                "reward": must_hold.number(columns["scores"][number], f"scores.{number}", place)
            },
        )


def _column(row: Row, name: str, count: int, place: str, absent: Any = None) -> list[Any]:
    """The values of a column, one a response; ``absent`` as often where there is no such column."""
    if row.get(name) is None:
        return [absent] * count
    found = must_hold.items(row[name], name, place)
    if len(found) != count:
        raise UserError(
            f"{place}: column {name!r} must be as long as the {count} responses, got {len(found)}"
        )
    return found


FORMATS: tuple[Format, ...] = (
    Format("open-instruct", "open-instruct rollouts", _is_rollout, _rollout),
    Format("open-instruct-traces", "open-instruct traces, a training step a row", _is_step, _step),
)
