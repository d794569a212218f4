"""What stands in the logs of inspect, as records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.rollout_files.formats import inspect_logs
from decaylab.rollout_files.record import Record

FILES = Path(__file__).parent / "files"
(INSPECT,) = inspect_logs.FORMATS


def asked(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]


EXPECTED = [
    Record(
        response=response,
        problem_id=problem,
        sample=sample,
        prompt=asked(question),
        reasoning=reasoning,
        answer=answer,
        stop=stop,
        grades={"match": grade},
    )
    for response, problem, sample, question, reasoning, answer, stop, grade in [
        ("4", "one", 0, "2 + 2?", "Two and two.", "4", "stop", "C"),
        ("It is 5", "one", 1, "2 + 2?", None, "4", "stop", "I"),
        ("7", "2", 0, "3 + 4?", None, "7", "stop", "C"),
        ("3 + 4 is 3", "2", 1, "3 + 4?", None, "7", "max_tokens", "I"),
    ]
]


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FILES / "inspect.jsonl").read_text().splitlines()]


def record(change: dict[str, Any]) -> Record:
    (found,) = INSPECT.records({**rows()[0], **change}, "a:1")
    return found


def test_samples_are_read_by_epoch() -> None:
    assert all(INSPECT.recognises(row) for row in rows())
    assert [one for row in rows() for one in INSPECT.records(row, "a:1")] == EXPECTED


def test_tools_and_turns_are_kept_as_messages() -> None:
    call = {"id": "c1", "function": "add", "arguments": {"a": 2, "b": 2}, "type": "function"}
    messages = [
        {"role": "user", "content": "2 + 2?", "source": "input"},
        {"role": "assistant", "content": "Example.", "source": "input"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call], "source": "generate"},
        {"role": "tool", "content": "4", "tool_call_id": "c1", "function": "add"},
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "reasoning": "So."}, {"type": "text", "text": "4"}],
        },
    ]
    found = record({"messages": messages})
    assert found.prompt == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "Example."},
        {"role": "user", "content": "2 + 2?"},
    ]
    spelled = {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": {"a": 2, "b": 2}},
    }
    assert found.turns == [
        {"role": "assistant", "content": "", "tool_calls": [spelled]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
        {"role": "assistant", "content": "4", "reasoning_content": "So."},
    ]
    assert (found.response, found.reasoning) == (None, None)


def test_a_sample_without_conversation_is_read_by_its_output() -> None:
    found = record({"messages": []})
    assert (found.prompt, found.response, found.reasoning) == ("2 + 2?", "4", "Two and two.")
    chat = record(
        {"messages": [], "input": [{"role": "user", "content": "2 + 2?", "source": "input"}]}
    )
    assert chat.prompt == [{"role": "user", "content": "2 + 2?"}]


def test_a_sample_that_failed_has_no_response_and_one_that_was_halted_is_truncated() -> None:
    failed = record(
        {"messages": rows()[0]["messages"][:2], "output": {"choices": []}, "scores": {}}
    )
    assert failed == Record(problem_id="one", sample=0, prompt=asked("2 + 2?"), answer="4")
    assert record({"limit": {"type": "token", "limit": 100}}).truncated is True


def test_scores_and_targets_are_kept_as_they_stand() -> None:
    scores = {"a": {"value": 0.5}, "b": {"value": {"x": 1, "y": "C"}}, "c": {"value": [1, 0]}}
    found = record({"scores": scores, "target": ["4", "four"]})
    assert found.grades == {"a": 0.5, "b.x": 1, "b.y": "C", "c": [1, 0]}
    assert found.answer == ["4", "four"]


def test_reasoning_that_is_closed_is_read_by_its_summary() -> None:
    part = {"type": "reasoning", "reasoning": "x8f==", "redacted": True, "summary": "It adds."}
    message = {
        "role": "assistant",
        "content": [part, {"type": "text", "text": "4"}],
        "source": "generate",
    }
    assert record({"messages": [message]}).reasoning == "It adds."


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"id": 1, "input": "2 + 2?", "target": "4", "output": "4"},
        {"id": 1, "epoch": "1", "input": "2 + 2?", "target": "4", "messages": [], "output": {}},
        {"id": 1, "input": "2 + 2?", "output": {"choices": []}, "messages": []},
    ],
)
def test_rows_of_others_are_not_recognised(row: dict[str, Any]) -> None:
    assert not INSPECT.recognises(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 0}, "column 'epoch' must hold a whole number from 1, got 0"),
        ({"messages": ["4"]}, "column 'messages.0' must hold a chat message with a role, got '4'"),
        (
            {"messages": [{"role": "user", "content": 4}]},
            "column 'messages.0.content' must hold text or a list of parts",
        ),
        (
            {"messages": [{"role": "user", "content": ["4"]}]},
            "column 'messages.0.content.0' must hold an object, got '4'",
        ),
        ({"output": {"choices": 1}}, "column 'output.choices' must hold a list of objects, got 1"),
        (
            {"output": {"choices": [{"stop_reason": 1}]}},
            "column 'output.choices.0.stop_reason' must hold text, got 1",
        ),
        ({"scores": ["C"]}, "column 'scores' must hold an object, got ['C']"),
        ({"scores": {"match": "C"}}, "column 'scores.match' must hold an object, got 'C'"),
        (
            {"scores": {"match": {}}},
            "column 'scores.match' must hold an object with a value, got {}",
        ),
    ],
)
def test_malformed_samples_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        record(change)
    assert str(caught.value).startswith(f"a:1: {message}") and "\n" not in str(caught.value)


def test_without_inspect_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(UserError, match="pip install inspect_ai") as caught:
        list(inspect_logs.rows(Path("sums.eval")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_logs_that_inspect_writes_itself(tmp_path: Path, suffix: str) -> None:
    inspect_ai = pytest.importorskip("inspect_ai", reason="needs extra: pip install inspect_ai")
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ContentReasoning, ContentText, ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate, system_message

    thought = [ContentReasoning(reasoning="Two and two."), ContentText(text="4")]
    outputs: dict[str, list[Any]] = {"2 + 2?": [thought, "It is 5"], "3 + 4?": ["7", "3 + 4 is 3"]}

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        content = outputs[messages[-1].text].pop(0)
        stop = "max_tokens" if content == "3 + 4 is 3" else "stop"
        output = ModelOutput.from_content("mockllm/model", content, stop_reason=stop)
        output.usage = ModelUsage(input_tokens=5, output_tokens=5, total_tokens=10)
        return output

    samples = [
        Sample(id="one", input="2 + 2?", target="4"),
        Sample(id=2, input="3 + 4?", target="7"),
    ]
    task = inspect_ai.Task(
        dataset=samples,
        solver=[system_message("Be brief."), generate()],
        scorer=match(),
        epochs=2,
        name="sums",
    )
    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    folder = str(tmp_path / "logs")
    inspect_ai.eval(
        task, model=model, log_dir=folder, log_format=suffix, display="none", max_samples=1
    )
    (log,) = (tmp_path / "logs").glob(f"*.{suffix}")
    written = list(inspect_logs.rows(log))
    assert all(INSPECT.recognises(row) for row in written)
    found = [one for row in written for one in INSPECT.records(row, "a:1")]
    assert sorted(found, key=lambda one: (one.problem_id != "one", one.sample)) == EXPECTED


def test_a_log_that_inspect_cannot_read_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai", reason="needs extra: pip install inspect_ai")
    (tmp_path / "a.eval").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="is not a log that inspect can read") as caught:
        list(inspect_logs.rows(tmp_path / "a.eval"))
    assert "\n" not in str(caught.value)
