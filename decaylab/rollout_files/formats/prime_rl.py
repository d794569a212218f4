"""Rollouts of verifiers and of prime-rl, which saves what verifiers returns.

Source of results.jsonl (``vf-eval``) and of prime-rl's train_rollouts.jsonl and
eval_rollouts.jsonl, the older ones:
PrimeIntellect-ai/verifiers 0.1.14, ``verifiers/utils/save_utils.py``, `state_to_output` and
`save_outputs`, ``verifiers/types.py``, `RolloutOutput` and `TrajectoryStep`;
PrimeIntellect-ai/prime-rl, ``src/prime_rl/orchestrator/utils.py`` at commit 004274e,
`save_rollouts`; rows without ``is_truncated``: verifiers 0.1.8, ``verifiers/utils/eval_utils.py``,
`make_dataset`. ``trajectory`` is there where it was asked for; its tokens are joined where each
step's prompt goes on from all that stood before it.

Source of traces.jsonl and of prime-rl's newer rollouts: verifiers 0.4.0, ``verifiers/v1/trace.py``,
`Trace`, ``verifiers/v1/graph.py``, `MessageNode`, ``verifiers/v1/utils/trace_store.py``,
`write_episode` (an episode of traces a row).

``stop`` of an older row is its ``stop_condition``, and a single-turn environment ends at
"max_turns_reached" always:
``is_truncated`` is what tells. A rollout that failed before a response has none here either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats import verifiers_traces
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import ABSENT, Message, Record

_UNNAMED = (None, "", "default")


def _is_output(row: Row) -> bool:
    if not ("example_id" in row and "prompt" in row and "completion" in row and "reward" in row):
        return False
    return isinstance(row.get("completion"), str | list | None) and (
        "is_truncated" in row
        or "is_completed" in row
        or {"generation_ms", "scoring_ms"} <= row.keys()
    )


def _output(row: Row, place: str) -> Iterator[Record]:
    record = Record(
        problem_id=_problem(row, place),
        prompt=_prompt(row["prompt"], place),
        answer=row.get("answer", ABSENT),
        stop=must_hold.optional_text(row.get("stop_condition"), "stop_condition", place),
        truncated=must_hold.optional_flag(row.get("is_truncated"), "is_truncated", place),
        grades=_grades(row, place),
    )
    _complete(record, row["completion"], place)
    if row.get("trajectory"):
        _add_ids(record, must_hold.items(row["trajectory"], "trajectory", place), place)
    yield record


def _problem(row: Row, place: str) -> str:
    """The example's id, behind the name of its environment where several were mixed."""
    found = row["example_id"]
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise must_hold.refused(place, "example_id", "a number or text", found)
    named = row.get("env_name", row.get("task"))
    return str(found) if named in _UNNAMED or not isinstance(named, str) else f"{named}/{found}"


def _prompt(value: Any, place: str) -> str | list[Message] | None:
    if value is None or isinstance(value, str):
        return value
    found = must_hold.messages(value, "prompt", place)
    messages = [must_hold.message(one, f"prompt.{index}", place) for index, one in enumerate(found)]
    if (
        len(messages) == 1 and messages[0]["role"] == "text"
    ):  # of an environment that completes text
        return must_hold.text(messages[0]["content"], "prompt.0.content", place)
    return messages


def _complete(record: Record, completion: Any, place: str) -> None:
    """Fills in the text, or the messages where there are several or where a tool was called."""
    if completion is None or isinstance(completion, str):
        record.response = completion
        return
    found = must_hold.messages(completion, "completion", place)
    turns = [
        must_hold.message(one, f"completion.{index}", place) for index, one in enumerate(found)
    ]
    if (
        len(turns) == 1
        and turns[0]["role"] in ("assistant", "text")
        and not turns[0].get("tool_calls")
    ):
        record.response = must_hold.text(turns[0]["content"], "completion.0.content", place)
        record.reasoning = turns[0].get("reasoning_content")
    elif turns:
        record.turns = turns


def _grades(row: Row, place: str) -> dict[str, Any]:
    grades = (
        {}
        if row["reward"] is None
        else {"reward": must_hold.number(row["reward"], "reward", place)}
    )
    metrics = row.get("metrics")
    if metrics:
        found = must_hold.table(metrics, "metrics", place)
        grades |= {name: value for name, value in found.items() if value is not None}
    return grades


def _add_ids(record: Record, steps: list[Any], place: str) -> None:
    """The ids of a trajectory as one sequence, where every step goes on from the one before and all
    have tokens."""
    prompt: list[int] = []
    response: list[int] = []
    written: list[int] = []
    for index, step in enumerate(steps):
        column = f"trajectory.{index}"
        found = must_hold.table(step, column, place).get("tokens")
        if found is None:
            return
        tokens = must_hold.table(found, f"{column}.tokens", place)
        read = must_hold.ids(tokens.get("prompt_ids"), f"{column}.tokens.prompt_ids", place)
        wrote = must_hold.ids(
            tokens.get("completion_ids"), f"{column}.tokens.completion_ids", place
        )
        marks = must_hold.mask(
            tokens.get("completion_mask"), f"{column}.tokens.completion_mask", len(wrote), place
        )
        if index == 0:
            prompt, response, written = read, wrote, marks
            continue
        before = len(prompt) + len(response)
        if read[:before] != prompt + response:
            return
        response = response + read[before:] + wrote
        written = written + [0] * (len(read) - before) + marks
    record.prompt_ids, record.response_ids, record.response_mask = prompt, response, written


FORMATS: tuple[Format, ...] = (
    Format("verifiers", "verifiers results and prime-rl rollouts", _is_output, _output),
    *verifiers_traces.FORMATS,
)
