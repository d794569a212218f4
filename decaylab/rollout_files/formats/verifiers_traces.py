"""Traces of verifiers, as its evaluator and prime-rl save them: a graph of messages with the ids of
each.

Source: PrimeIntellect-ai/verifiers 0.4.0, ``verifiers/v1/trace.py``, `Trace`, `TraceTask` and
`ModelCall`, ``verifiers/v1/graph.py``, `MessageNode`, ``verifiers/v1/task.py``, `TaskData`,
``verifiers/v1/utils/trace_store.py``, `write_episode`; PrimeIntellect-ai/prime-rl,
``src/prime_rl/orchestrator/utils.py``, `save_rollouts` (a trace a row).

A trace with several branches is read along its last one, as `Trace.messages` is. The prompt ends
before the first message that a model call produced. ``stop`` is that call's finish reason, or the
trace's ``stop_condition`` where that is one of the limits that `Trace.is_truncated` knows. Traces
of an agent that isn't trained (``agent.trainable``) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import ABSENT, Message, Record

_LIMITS = {
    "max_turns",
    "max_input_tokens",
    "max_output_tokens",
    "max_total_tokens",
    "compaction_failed",
}
_LIMITS |= {"context_length", "harness_timeout"}  # of 0.2


def _is_trace(row: Row) -> bool:
    return (
        isinstance(row.get("nodes"), list)
        and isinstance(row.get("task"), dict)
        and isinstance(row.get("rewards"), dict)
    )


def _is_episode(row: Row) -> bool:
    traces = row.get("traces")
    return (
        isinstance(traces, list)
        and bool(traces)
        and isinstance(traces[0], dict)
        and _is_trace(traces[0])
    )


def _episode(row: Row, place: str) -> Iterator[Record]:
    for index, trace in enumerate(row["traces"]):
        found = must_hold.table(trace, f"traces.{index}", place)
        if not _is_trace(found):
            raise must_hold.refused(
                place, f"traces.{index}", "a trace with nodes, task and rewards", trace
            )
        agent = found.get("agent")
        if not (isinstance(agent, dict) and agent.get("trainable") is False):
            yield from _trace(found, place)


def _trace(row: Row, place: str) -> Iterator[Record]:
    path = _path(row["nodes"], place)
    start = next((index for index, (_, node) in enumerate(path) if node.get("sampled")), len(path))
    data = row["task"].get("data", row["task"])
    task = must_hold.table(data, "task.data", place)
    record = Record(
        problem_id=_problem(task, row),
        prompt=[_message(node, number, place) for number, node in path[:start]] or None,
        answer=task.get("answer", ABSENT),
        answer_name="task.data.answer" if "data" in row["task"] else "task.answer",
        stop=_stop(row, path, place),
        grades=_grades(row, place),
    )
    turns = [_message(node, number, place) for number, node in path[start:]]
    if len(turns) == 1 and not turns[0].get("tool_calls"):
        record.response = must_hold.text(
            turns[0]["content"] or "", f"nodes.{path[start][0]}.message.content", place
        )
        record.reasoning = turns[0].get("reasoning_content")
    elif turns:
        record.turns = turns
    _add_ids(record, path, place)
    yield record


def _path(nodes: list[Any], place: str) -> list[tuple[int, Row]]:
    """The messages from the root to the last leaf, with their numbers."""
    for index, node in enumerate(nodes):
        parent = must_hold.table(node, f"nodes.{index}", place).get("parent")
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise must_hold.refused(
                place, f"nodes.{index}.parent", "the number of an earlier node", parent
            )
    parents = {node.get("parent") for node in nodes}
    leaf = next((index for index in reversed(range(len(nodes))) if index not in parents), None)
    path = []
    while leaf is not None:
        path.append((leaf, nodes[leaf]))
        leaf = nodes[leaf].get("parent")
    return path[::-1]


def _message(node: Row, number: int, place: str) -> Message:
    column = f"nodes.{number}.message"
    if not isinstance(node.get("message"), dict):
        raise must_hold.refused(place, column, "a chat message with a role", node.get("message"))
    return must_hold.message(must_hold.messages([node["message"]], column, place)[0], column, place)


def _problem(task: Row, row: Row) -> str | None:
    found = next((task[name] for name in ("id", "idx", "name") if task.get(name) is not None), None)
    info = row.get("info")
    trainer = info.get("prime_rl") if isinstance(info, dict) else None
    named = trainer.get("env_name") if isinstance(trainer, dict) else None
    return None if found is None else f"{named}/{found}" if named else str(found)


def _stop(row: Row, path: list[tuple[int, Row]], place: str) -> str | None:
    condition = must_hold.optional_text(row.get("stop_condition"), "stop_condition", place)
    if condition in _LIMITS:
        return condition
    reasons = {
        number: node.get("finish_reason") for number, node in path
    }  # on the message itself in 0.2
    for index, value in enumerate(must_hold.items(row.get("calls", []), "calls", place)):
        call = must_hold.table(value, f"calls.{index}", place)
        if call.get("error") is None and call.get("node") in reasons:
            reasons[call["node"]] = must_hold.optional_text(
                call.get("finish_reason"), f"calls.{index}.finish_reason", place
            )
    return next((reason for reason in reversed(reasons.values()) if reason), condition)


def _grades(row: Row, place: str) -> dict[str, Any]:
    grades: dict[str, Any] = {}
    for name, reward in row["rewards"].items():
        if reward is not None:
            score = (
                reward.get("score") if isinstance(reward, dict) else reward
            )  # plain numbers before 0.3
            grades[name] = must_hold.number(score, f"rewards.{name}", place)
    metrics = must_hold.table(row.get("metrics") or {}, "metrics", place)
    return grades | {name: value for name, value in metrics.items() if value is not None}


def _add_ids(record: Record, path: list[tuple[int, Row]], place: str) -> None:
    """The ids of all messages in a row; the response begins with the first token that the student
    wrote."""
    ids: list[int] = []
    written: list[int] = []
    for number, node in path:
        found = must_hold.ids(node.get("token_ids") or [], f"nodes.{number}.token_ids", place)
        ids += found
        written += must_hold.mask(node.get("mask") or [], f"nodes.{number}.mask", len(found), place)
    if 1 in written:
        start = written.index(1)
        record.prompt_ids, record.response_ids, record.response_mask = (
            ids[:start],
            ids[start:],
            written[start:],
        )


FORMATS: tuple[Format, ...] = (
    Format("verifiers-trace", "verifiers traces, as prime-rl saves them", _is_trace, _trace),
    Format("verifiers-episode", "verifiers traces.jsonl", _is_episode, _episode),
)
