"""Traces of verifiers' evaluator and of prime-rl: a graph of messages with their token ids.

Source: PrimeIntellect-ai/verifiers 0.4.0, ``verifiers/v1/trace.py``, `Trace`, `TraceTask` and
`ModelCall`, ``verifiers/v1/graph.py``, `MessageNode`, ``verifiers/v1/task.py``, `TaskData`,
``verifiers/v1/utils/trace_store.py``, `write_episode`; PrimeIntellect-ai/prime-rl,
``src/prime_rl/orchestrator/utils.py``, `save_rollouts` (one trace per row).

If a trace has several branches, the last one is read, as in `Trace.messages`. The prompt ends
before the first message from a model call. ``stop`` is the last call's finish reason, or the
trace's ``stop_condition`` if that is one of the limits in `Trace.is_truncated`. Traces of an agent
that isn't trained (``agent.trainable``) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.rollout import add_reply, plain
from decaylab.rollout_files.formats.shapes import has
from decaylab.rollout_files.record import ABSENT, Message, Record

LIMITS = {"max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens"}
LIMITS |= {"compaction_failed", "context_length", "harness_timeout"}  # the last two are of 0.2
TRACE = has(nodes=list, task=dict, rewards=dict)


def _is_episode(row: Any) -> bool:
    traces = row.get("traces")
    return isinstance(traces, list) and bool(traces) and TRACE(traces[0])


def _read_episode(row: Fields) -> Iterator[Record]:
    for index, trace in enumerate(row.objects("traces")):
        if not TRACE(trace.values):
            must = "a trace with nodes, task and rewards"
            raise row.refused(f"traces.{index}", must, trace.values)
        agent = trace.get("agent")
        if not (isinstance(agent, dict) and agent.get("trainable") is False):
            yield from _read_trace(trace)


def _read_trace(row: Fields) -> Iterator[Record]:
    numbers, nodes = _path(row.objects("nodes"))
    sampled = [index for index, node in enumerate(nodes) if node.get("sampled")]
    start = sampled[0] if sampled else len(nodes)
    task = row.inner("task")
    if "data" in task:
        task = task.inner("data")
    messages = [_message(node) for node in nodes]
    record = Record(
        problem_id=_problem(task, row),
        prompt=messages[:start] or None,
        answer=task.get("answer", ABSENT),
        answer_name="task.data.answer" if "data" in row.get("task") else "task.answer",
        stop=_stop(row, dict(zip(numbers, nodes, strict=True))),
        grades=_grades(row),
    )
    if start < len(nodes):
        add_reply(record, messages[start:], nodes[start].inner("message"))
    _add_ids(record, nodes)
    yield record


def _path(nodes: list[Fields]) -> tuple[list[int], list[Fields]]:
    """The numbers of the nodes from the root to the last leaf, and the nodes."""
    parents = set()
    for index, node in enumerate(nodes):
        parent = node.get("parent")
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise node.refused("parent", "the number of an earlier node", parent)
        parents.add(parent)
    leaves = [index for index in range(len(nodes)) if index not in parents]
    number = leaves[-1] if leaves else None
    path: list[int] = []
    while number is not None:
        path.insert(0, number)
        number = nodes[number].get("parent")
    return path, [nodes[index] for index in path]


def _message(node: Fields) -> Message:
    # A message without content is an empty response.
    message = node.get("message")
    if isinstance(message, dict):
        node = Fields({"message": {"content": None, **message}}, node.place, node.column)
    node.message("message")
    return plain(node.inner("message"))


def _problem(task: Fields, row: Fields) -> str | None:
    names = [task.get(name) for name in ("id", "idx", "name")]
    problem = next((name for name in names if name is not None), None)
    environment: Any = row.get("info")
    for name in ("prime_rl", "env_name"):
        environment = environment.get(name) if isinstance(environment, dict) else None
    if problem is None:
        return None
    return f"{environment}/{problem}" if environment else str(problem)


def _stop(row: Fields, nodes: dict[int, Fields]) -> str | None:
    condition = row.optional_text("stop_condition")
    if condition in LIMITS:
        return condition
    # In 0.2 the finish reason is on the message itself.
    reasons = {number: node.get("finish_reason") for number, node in nodes.items()}
    for call in row.objects("calls") if "calls" in row else []:
        number: Any = call.get("node")
        if call.get("error") is None and number in reasons:
            reasons[number] = call.optional_text("finish_reason")
    return next((reason for reason in reversed(reasons.values()) if reason), condition)


def _grades(row: Fields) -> dict[str, Any]:
    rewards, grades = row.inner("rewards"), {}
    for name, reward in rewards.values.items():
        if isinstance(reward, dict):
            grades[name] = rewards.inner(name).number("score")
        elif reward is not None:  # plain numbers before 0.3
            grades[name] = rewards.number(name)
    return grades | metrics(row)


def metrics(row: Fields) -> dict[str, Any]:
    """The metrics of a row that are not null."""
    if not row.get("metrics"):
        return {}
    values = row.inner("metrics").values
    return {name: value for name, value in values.items() if value is not None}


def _add_ids(record: Record, nodes: list[Fields]) -> None:
    """Joins the ids of all messages; the response begins at the student's first token."""
    ids: list[int] = []
    written: list[int] = []
    for node in nodes:
        of_node = node.optional_ids("token_ids") or []
        ids += of_node
        if of_node or node.get("mask"):
            written += node.mask("mask", len(of_node))
    if 1 in written:
        start = written.index(1)
        record.prompt_ids, record.response_ids = ids[:start], ids[start:]
        record.response_mask = written[start:]


FORMATS = (
    Format("verifiers-trace", "verifiers traces, as prime-rl saves them", TRACE, _read_trace),
    Format("verifiers-episode", "verifiers traces.jsonl", _is_episode, _read_episode),
)
