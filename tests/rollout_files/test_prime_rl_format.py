"""What verifiers and prime-rl save of their rollouts, as records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.rollout_files.formats.prime_rl import FORMATS
from decaylab.rollout_files.record import ABSENT, Record

FILES = Path(__file__).parent / "files"
RESULTS, TRACE, EPISODE = FORMATS
PROMPTS = ([151644, 872, 17, 10, 17, 30, 151645], [151644, 872, 18, 10, 19, 30, 151645])
ASKED = [{"role": "user", "content": "2 + 2?"}]
WITH_TOOLS = [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "3 + 4?"}]
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 3, "b": 4}'},
}


def turns(first: str | None) -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "content": first, "tool_calls": [CALL]},
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 7."},
    ]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FILES / name).read_text().splitlines()]


def names(row: dict[str, Any]) -> list[str]:
    return [one.name for one in FORMATS if one.recognises(row)]


def test_results_are_read_with_the_ids_of_their_trajectory() -> None:
    found = rows("verifiers.jsonl")
    assert [names(row) for row in found] == [["verifiers"]] * 4
    assert [record for row in found for record in RESULTS.records(row, "a:1")] == [
        Record(
            response="4",
            problem_id="0",
            prompt=ASKED,
            prompt_ids=PROMPTS[0],
            response_ids=[19, 151645],
            response_mask=[1, 1],
            reasoning="Two and two.",
            answer="4",
            stop="max_turns_reached",
            truncated=False,
            grades={"reward": 1.0, "correct": 1.0, "num_turns": 1},
        ),
        Record(
            response="2 + 2 is",
            problem_id="0",
            prompt=ASKED,
            prompt_ids=PROMPTS[0],
            response_ids=[17, 10, 17, 374],
            response_mask=[1, 1, 1, 1],
            answer="4",
            stop="max_turns_reached",
            truncated=True,
            grades={"reward": 0.0, "correct": 0.0, "num_turns": 1},
        ),
        Record(
            problem_id="1",
            prompt=WITH_TOOLS,
            prompt_ids=PROMPTS[1],
            response_ids=[50, 151645, 60, 61, 22, 151645],
            response_mask=[1, 1, 0, 0, 1, 1],
            turns=turns(""),
            answer="7",
            stop="no_tools_called",
            truncated=False,
            grades={"reward": 1.0, "correct": 1.0, "num_turns": 1},
        ),
        Record(
            problem_id="1",
            prompt=WITH_TOOLS,
            stop="has_error",
            truncated=False,
            grades={"reward": 0.0},
        ),
    ]


def test_results_of_older_versions_and_of_text_environments_are_read() -> None:
    chat, text = rows("verifiers-0.1.8.jsonl")
    assert names(chat) == names(text) == ["verifiers"]
    assert list(RESULTS.records(chat, "a:1")) == [
        Record(response="4", problem_id="0", prompt=ASKED, answer="4", grades={"reward": 1.0})
    ]
    assert list(RESULTS.records(text, "a:2")) == [
        Record(response=" 4", problem_id="sums/5", prompt="2 + 2 =", grades={"reward": 1.0})
    ]
    newer = {**text, "prompt": [{"role": "text", "content": "2 + 2 ="}]}
    assert next(RESULTS.records(newer, "a:2")).prompt == "2 + 2 ="


def test_steps_that_do_not_go_on_from_each_other_give_no_ids() -> None:
    row = rows("verifiers.jsonl")[2]
    row["trajectory"][1]["tokens"]["prompt_ids"][0] = 1
    (record,) = RESULTS.records(row, "a:1")
    assert (record.prompt_ids, record.response_ids, record.response_mask) == (None, None, None)
    assert record.turns == turns("")
    row["trajectory"][1]["tokens"] = None
    assert next(RESULTS.records(row, "a:1")).response_ids is None


def test_content_in_parts_of_text_is_joined() -> None:
    row = rows("verifiers.jsonl")[0]
    row["completion"][0]["content"] = [
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "4"},
    ]
    assert next(RESULTS.records(row, "a:1")).response == "It is 4"


TRACED = [
    Record(
        response="4",
        problem_id="0",
        prompt=ASKED,
        prompt_ids=[*PROMPTS[0], 77],
        response_ids=[19, 151645],
        response_mask=[1, 1],
        reasoning="Two and two.",
        answer="4",
        stop="stop",
        grades={"correct": 1.0, "length": 2.0},
    ),
    Record(
        response="2 + 2 is",
        problem_id="0",
        prompt=ASKED,
        prompt_ids=[*PROMPTS[0], 77],
        response_ids=[17, 10],
        response_mask=[1, 1],
        answer="4",
        stop="length",
        grades={"correct": 0.0, "length": 2.0},
    ),
    Record(
        problem_id="1",
        prompt=WITH_TOOLS[1:],
        prompt_ids=[*PROMPTS[1], 77],
        response_ids=[50, 151645, 60, 61, 77, 22, 151645],
        response_mask=[1, 1, 0, 0, 0, 1, 1],
        turns=turns(None),
        answer="7",
        stop="stop",
        grades={"correct": 1.0, "length": 2.0},
    ),
    Record(
        problem_id="1",
        prompt=WITH_TOOLS[1:],
        prompt_ids=[*PROMPTS[1], 77],
        response_ids=[22, 61, 77, 90],
        response_mask=[1, 0, 0, 1],
        turns=[
            {"role": "assistant", "content": "7"},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes"},
        ],
        answer="7",
        stop="max_turns",
        grades={"correct": 0.0, "length": 2.0},
    ),
]


def test_traces_are_read_along_their_messages() -> None:
    found = rows("verifiers-trace.jsonl")
    assert [names(row) for row in found] == [["verifiers-trace"]] * 4
    assert [record for row in found for record in TRACE.records(row, "a:1")] == TRACED


def test_episodes_give_the_traces_of_the_agents_that_are_trained() -> None:
    found = rows("verifiers-episode.jsonl")
    assert [names(row) for row in found] == [["verifiers-episode"]] * 2
    assert [record for row in found for record in EPISODE.records(row, "a:1")] == TRACED[:2]


def test_a_trace_with_branches_is_read_along_its_last() -> None:
    row = rows("verifiers-trace.jsonl")[0]
    row["nodes"].append(
        {**row["nodes"][1], "message": {"role": "assistant", "content": "four"}, "token_ids": []}
    )
    row["nodes"][2]["mask"] = []
    (record,) = TRACE.records(row, "a:1")
    assert (record.response, record.response_ids) == ("four", None)


def test_traces_of_older_versions_and_of_prime_rl_with_several_environments_are_read() -> None:
    row = rows("verifiers-trace.jsonl")[0]
    row["rewards"], row["calls"] = {"correct": 1.0}, []
    row["nodes"][1]["finish_reason"] = "length"
    row["task"], row["info"] = {"idx": 4, "prompt": "2 + 2?"}, {"prime_rl": {"env_name": "sums"}}
    (record,) = TRACE.records(row, "a:1")
    assert (record.problem_id, record.answer, record.stop) == ("sums/4", ABSENT, "length")
    assert record.grades == {"correct": 1.0, "length": 2.0}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"prompt": "2 + 2?", "completion": "4", "reward": 1.0},
        {"example_id": 1, "prompt": "2 + 2?", "completion": "4", "reward": 1.0},
        {
            "example_id": 1,
            "prompt": "2 + 2?",
            "completion": 4,
            "reward": 1.0,
            "is_truncated": False,
        },
        {"nodes": [], "task": "sums", "rewards": {}},
        {"traces": []},
        {"traces": [{"nodes": []}]},
    ],
)
def test_rows_of_others_are_not_recognised(row: dict[str, Any]) -> None:
    assert names(row) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"example_id": None}, "column 'example_id' must hold text or a whole number, got nothing"),
        (
            {"prompt": 5},
            "column 'prompt' must hold a list of messages with role and content, got 5",
        ),
        (
            {"prompt": ["2 + 2?"]},
            "column 'prompt.0' must hold a chat message with a role, got '2 + 2?'",
        ),
        (
            {"completion": [{"role": "assistant"}]},
            "column 'completion.0' must hold a message with role and content, "
            "got {'role': 'assistant'}",
        ),
        (
            {"completion": [{"role": "assistant", "content": "", "tool_calls": ["add"]}]},
            "column 'completion.0.tool_calls.0' must hold a tool call with a name, got 'add'",
        ),
        ({"reward": "1"}, "column 'reward' must hold a number, got '1'"),
        ({"metrics": [1]}, "column 'metrics' must hold an object, got [1]"),
        ({"is_truncated": "no"}, "column 'is_truncated' must hold true or false, got 'no'"),
        ({"stop_condition": {}}, "column 'stop_condition' must hold text, got {}"),
        ({"trajectory": [5]}, "column 'trajectory.0' must hold an object, got 5"),
        (
            {
                "trajectory": [
                    {
                        "tokens": {
                            "prompt_ids": [1],
                            "completion_ids": [2],
                            "completion_mask": [1, 1],
                        }
                    }
                ]
            },
            "column 'trajectory.0.tokens.completion_mask' must be as long as its 1 ids, got 2",
        ),
    ],
)
def test_malformed_results_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(RESULTS.records({**rows("verifiers.jsonl")[0], **change}, "a.jsonl:3"))
    assert str(caught.value) == f"a.jsonl:3: {message}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": [5]}, "column 'nodes.0' must hold an object, got 5"),
        (
            {"nodes": [{"parent": 0}]},
            "column 'nodes.0.parent' must hold the number of an earlier node, got 0",
        ),
        (
            {"nodes": [{"message": None}]},
            "column 'nodes.0.message' must hold a chat message with a role, got nothing",
        ),
        (
            {
                "nodes": [
                    {"message": {"role": "user", "content": "?"}, "token_ids": [1], "mask": [2]}
                ]
            },
            "column 'nodes.0.mask' must hold a mask of 0 and 1, got [2]",
        ),
        (
            {"rewards": {"correct": {"score": "1"}}},
            "column 'rewards.correct.score' must hold a number, got '1'",
        ),
        ({"calls": 5}, "column 'calls' must hold a list of objects, got 5"),
    ],
)
def test_malformed_traces_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(TRACE.records({**rows("verifiers-trace.jsonl")[0], **change}, "a.jsonl:3"))
    assert str(caught.value) == f"a.jsonl:3: {message}"


def test_results_that_verifiers_saves_itself(tmp_path: Path) -> None:
    saving = pytest.importorskip(
        "verifiers.utils.save_utils", reason="needs extra: pip install 'verifiers<0.2'"
    )
    types = pytest.importorskip("verifiers.types")
    state = types.State()
    state.update(
        example_id=0, prompt=[types.UserMessage(content="2 + 2?")], answer="4", info={}, reward=1.0
    )
    state.update(completion=[types.AssistantMessage(content="4", reasoning_content="Two and two.")])
    state.update(
        metrics={"correct": 1.0}, timing=types.RolloutTiming(), is_completed=True, is_truncated=True
    )
    ids = {
        "prompt_ids": [1, 2],
        "prompt_mask": [0, 0],
        "completion_ids": [3],
        "completion_mask": [1],
    }
    state.update(stop_condition="max_turns_reached", trajectory=[{"tokens": ids}])
    saving.save_outputs([saving.state_to_output(state, ["trajectory"])], tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert names(row) == ["verifiers"]
    assert list(RESULTS.records(row, "a:1")) == [
        Record(
            response="4",
            problem_id="0",
            prompt=ASKED,
            prompt_ids=[1, 2],
            response_ids=[3],
            response_mask=[1],
            reasoning="Two and two.",
            answer="4",
            stop="max_turns_reached",
            truncated=True,
            grades={"reward": 1.0, "correct": 1.0},
        )
    ]


def test_traces_that_verifiers_saves_itself(tmp_path: Path) -> None:
    v1 = pytest.importorskip(
        "verifiers.v1.trace", reason="needs extra: pip install 'verifiers>=0.4'"
    )
    store = pytest.importorskip(
        "verifiers.v1.utils.trace_store", reason="needs extra: pip install 'verifiers>=0.4'"
    )
    from verifiers.v1.episode import EnvInfo, Episode

    record = {**rows("verifiers-trace.jsonl")[2], "timing": {}}
    agent = {"config": {"harness": {"id": "null"}}}
    trace = v1.WireTrace.model_validate({**record, "agent": agent})
    assert list(TRACE.records(trace.to_record(), "a:1")) == [TRACED[2]]
    store.write_episode(
        tmp_path, Episode(env=EnvInfo(id="sums"), task=trace.task, traces=[trace], ok=True)
    )
    (row,) = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert names(row) == ["verifiers-episode"]
    assert list(EPISODE.records(row, "a:1")) == [TRACED[2]]
