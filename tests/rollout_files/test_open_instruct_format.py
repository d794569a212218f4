"""What open-instruct's trainer saves of its rollouts, as records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.rollout_files.formats.open_instruct import FORMATS
from decaylab.rollout_files.record import Record

FILES = Path(__file__).parent / "files"
ROLLOUTS, TRACES = FORMATS
PROMPTS = ([151644, 872, 17, 10, 17, 30, 151645], [151644, 872, 18, 10, 19, 30, 151645])
RESPONSES = ([19, 151645], [20, 151645], [22, 151645], [18, 488, 19, 374])
EXPECTED = [
    Record(
        prompt_ids=PROMPTS[index // 2],
        response_ids=RESPONSES[index],
        answer=[gold],
        stop=stop,
        grades={"reward": reward},
    )
    for index, (gold, stop, reward) in enumerate(
        [("4", "stop", 10.0), ("4", "stop", 0.0), ("7", "stop", 10.0), ("7", "length", 0.0)]
    )
]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FILES / name).read_text().splitlines()]


def test_saved_rollouts_are_read_by_their_ids() -> None:
    found = rows("open-instruct.jsonl")
    assert [[one.name for one in FORMATS if one.recognises(row)] for row in found] == [
        ["open-instruct"]
    ] * 4
    assert [record for row in found for record in ROLLOUTS.records(row, "a:1")] == EXPECTED


def test_filtered_rollouts_say_the_row_of_the_data_set_and_the_decoded_text() -> None:
    found = rows("open-instruct-filtered.jsonl")
    assert all(ROLLOUTS.recognises(row) for row in found)
    for row, expected, text in zip(found, EXPECTED[:2], ("4", "5"), strict=True):
        expected = Record(
            **{
                name: getattr(expected, name)
                for name in ("prompt_ids", "response_ids", "answer", "stop", "grades")
            },
            response=text,
            problem_id="17",
        )
        assert list(ROLLOUTS.records(row, "a:1")) == [expected]


def test_a_traced_step_is_as_many_rollouts_as_it_has_responses() -> None:
    (row,) = rows("open-instruct-traces.jsonl")
    assert [one.name for one in FORMATS if one.recognises(row)] == ["open-instruct-traces"]
    records = list(TRACES.records(row, "a:1"))
    assert [record.problem_id for record in records] == ["17", "17", "5", "5"]
    assert [record.response for record in records] == ["4", "5", "7", "3 + 4 is"]
    for record in records:
        record.problem_id, record.response = None, None
    assert records == EXPECTED


def test_an_older_step_without_decoded_texts_is_read_by_its_ids() -> None:
    (row,) = rows("open-instruct-traces.jsonl")
    for name in ("decoded_responses", "raw_queries", "indices"):
        del row[name]
    assert list(TRACES.records(row, "a:1")) == EXPECTED


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"prompt": "2 + 2?", "response": "4"},
        {
            "prompt_tokens": 7,
            "response_tokens": 2,
            "finish_reason": "stop",
            "prompt_idx": 0,
            "sample_idx": 0,
        },
        {"prompt_tokens": [1], "response_tokens": [2], "finish_reason": "stop"},
        {"step": 1, "queries": [[1]], "responses": [[2]], "scores": [1.0]},
    ],
)
def test_rows_of_others_are_not_recognised(row: dict[str, Any]) -> None:
    assert not any(one.recognises(row) for one in FORMATS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prompt_tokens": ["a"]},
            "column 'prompt_tokens' must hold a list of token ids, got ['a']",
        ),
        (
            {"response_tokens": [1, 2.0]},
            "column 'response_tokens' must hold a list of token ids, got [1, 2.0]",
        ),
        (
            {"response_tokens": [-1]},
            "column 'response_tokens' must hold a list of token ids, got [-1]",
        ),
        ({"reward": "10"}, "column 'reward' must hold a number, got '10'"),
        ({"reward": None}, "column 'reward' must hold a number, got nothing"),
        ({"finish_reason": 1}, "column 'finish_reason' must hold text, got 1"),
        ({"decoded_response": ["4"]}, "column 'decoded_response' must hold text, got ['4']"),
        ({"request_info": "none"}, "column 'request_info' must hold an object, got 'none'"),
        (
            {"request_info": {"tool_calleds": True}},
            "column 'request_info.tool_calleds' must hold false, got true",
        ),
    ],
)
def test_malformed_rollouts_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(ROLLOUTS.records({**rows("open-instruct.jsonl")[0], **change}, "a.jsonl:3"))
    assert str(caught.value).startswith(f"a.jsonl:3: {message}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [1.0]}, "column 'scores' must be as long as the 4 responses, got 1"),
        ({"decoded_responses": "4"}, "column 'decoded_responses' must hold a list, got '4'"),
        (
            {"responses": [[1], [2], [3], "x"]},
            "column 'responses.3' must hold a list of token ids, got 'x'",
        ),
    ],
)
def test_malformed_steps_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(TRACES.records({**rows("open-instruct-traces.jsonl")[0], **change}, "a.jsonl:1"))
    assert str(caught.value) == f"a.jsonl:1: {message}"
