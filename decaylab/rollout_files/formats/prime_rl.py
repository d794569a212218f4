"""Rollouts of verifiers and of prime-rl, which saves what verifiers returns.

Source of results.jsonl (``vf-eval``) and of prime-rl's older train_rollouts.jsonl and
eval_rollouts.jsonl: PrimeIntellect-ai/verifiers 0.1.14, ``verifiers/utils/save_utils.py``,
`state_to_output` and `save_outputs`, ``verifiers/types.py``, `RolloutOutput` and `TrajectoryStep`;
PrimeIntellect-ai/prime-rl, ``src/prime_rl/orchestrator/utils.py`` at commit 004274e,
`save_rollouts`; rows without ``is_truncated``: verifiers 0.1.8, ``verifiers/utils/eval_utils.py``,
`make_dataset`. ``trajectory`` is optional; its tokens are joined if each step's prompt continues
all earlier ones.

Source of traces.jsonl and of prime-rl's newer rollouts: verifiers 0.4.0, ``verifiers/v1/trace.py``,
`Trace`, ``verifiers/v1/graph.py``, `MessageNode`, ``verifiers/v1/utils/trace_store.py``,
`write_episode` (one episode of traces per row).

``stop`` of an older row is its ``stop_condition``, which is always "max_turns_reached" for a
single-turn environment, so ``is_truncated`` decides. A rollout that failed before its response has
no response.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats import verifiers_traces
from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.rollout import add_reply, plain_messages
from decaylab.rollout_files.formats.shapes import both, either, has
from decaylab.rollout_files.record import ABSENT, Message, Record

UNNAMED = (None, "", "default")
OUTPUT = both(
    has(example_id=object, prompt=object, completion=str | list | None, reward=object),
    either(
        has(is_truncated=object),
        has(is_completed=object),
        has(generation_ms=object, scoring_ms=object),
    ),
)


def _read(row: Fields) -> Iterator[Record]:
    record = Record(
        problem_id=_problem(row),
        prompt=_prompt(row),
        answer=row.get("answer", ABSENT),
        stop=row.optional_text("stop_condition"),
        truncated=row.optional_flag("is_truncated"),
        grades=_grades(row),
    )
    completion = row.get("completion")
    if completion is None or isinstance(completion, str):
        record.response = completion
    elif completion != []:
        turns = plain_messages(row, "completion")
        add_reply(record, turns, row.items("completion").inner(0))
    if row.get("trajectory"):
        _add_ids(record, row.objects("trajectory"))
    yield record


def _problem(row: Fields) -> str:
    """The example's id, prefixed by its environment's name if several are mixed."""
    example = row.optional_name("example_id")
    if example is None:
        raise row.refused("example_id", "text or a whole number")
    environment = row.get("env_name", row.get("task"))
    named = isinstance(environment, str) and environment not in UNNAMED
    return f"{environment}/{example}" if named else example


def _prompt(row: Fields) -> str | list[Message] | None:
    prompt = row.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    messages = plain_messages(row, "prompt")
    if len(messages) == 1 and messages[0]["role"] == "text":
        return row.items("prompt").inner(0).text("content")
    return messages


def _grades(row: Fields) -> dict[str, Any]:
    grades = {} if row.get("reward") is None else {"reward": row.number("reward")}
    return grades | verifiers_traces.metrics(row)


def _add_ids(record: Record, steps: list[Fields]) -> None:
    """Joins the ids of a trajectory, if all steps have tokens and each continues the one before."""
    prompt: list[int] = []
    response: list[int] = []
    written: list[int] = []
    for index, step in enumerate(steps):
        if step.get("tokens") is None:
            return
        tokens = step.inner("tokens")
        read, wrote = tokens.ids("prompt_ids"), tokens.ids("completion_ids")
        marks = tokens.mask("completion_mask", len(wrote))
        if index == 0:
            prompt, response, written = read, wrote, marks
            continue
        before = len(prompt) + len(response)
        # A rewritten prompt cannot be joined to the steps before it.
        if read[:before] != prompt + response:
            return
        response = response + read[before:] + wrote
        written = written + [0] * (len(read) - before) + marks
    record.prompt_ids, record.response_ids, record.response_mask = prompt, response, written


FORMATS = (
    Format("verifiers", "verifiers results and prime-rl rollouts", OUTPUT, _read),
    *verifiers_traces.FORMATS,
)
