"""vLLM's request outputs become records, with their token ids."""

from __future__ import annotations

from typing import Any

import pytest
from read_formats import complaint, read, read_file

from decaylab.rollout_files.formats import vllm
from decaylab.rollout_files.record import Record

OUTPUT: dict[str, Any] = {
    "index": 0,
    "text": "5",
    "token_ids": [11, 99],
    "finish_reason": "stop",
    "stop_reason": None,
}
ROW: dict[str, Any] = {
    "request_id": "0",
    "prompt": "2 + 3 =",
    "prompt_token_ids": [1, 2],
    "outputs": [OUTPUT],
}


def test_the_outputs_of_a_request_are_numbered_and_keep_their_stop_reasons() -> None:
    def expected(question: str, ids: list[int], request: str, **more: Any) -> Record:
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        return Record(prompt=prompt, prompt_ids=ids, request_id=request, **more)

    total, product = ("What is 2 + 3?", [1, 2, 3], "0"), ("What is 7 * 8?", [1, 2, 4], "1")
    assert read_file("vllm_outputs.jsonl", "vllm") == [
        expected(*total, response="\\boxed{5}", response_ids=[11, 12, 99], sample=0, stop="stop"),
        expected(
            *total,
            response="\\boxed{6}",
            response_ids=[11, 13, 99],
            sample=1,
            stop="stop",
            stop_detail=99,
        ),
        expected(
            *product,
            response="7 * 8 is \\boxed{56}",
            response_ids=[14, 15],
            sample=0,
            stop="stop",
            stop_detail="###",
        ),
        expected(
            *product, response="Seven eights: first", response_ids=[16, 17], sample=1, stop="length"
        ),
    ]


def test_columns_of_ones_own_and_a_prompt_that_is_kept_as_messages() -> None:
    asked: Any = [{"role": "user", "content": "2 + 3?"}]
    own = {
        "prompt": None,
        "messages": asked,
        "problem_id": "sum-1",
        "sample": 3,
        "answer": "5",
        "correct": True,
    }
    (record,) = read([ROW | own], "vllm")
    assert (record.prompt, record.prompt_ids, record.problem_id, record.sample) == (
        asked,
        [1, 2],
        "sum-1",
        3,
    )
    assert (record.answer, record.grades) == ("5", {"correct": True})


def test_a_single_output_has_no_number_of_its_own() -> None:
    assert [record.sample for record in read([ROW, ROW], "vllm")] == [None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": []},
        {"outputs": ["5"]},
        {"outputs": [{"text": "5"}]},
        {"outputs": {"embedding": [0.1]}},
    ],
)
def test_rows_without_vllms_marks_are_left_alone(changes: dict[str, Any]) -> None:
    assert not vllm.FORMATS[0].recognises(ROW | changes)
    assert not vllm.FORMATS[0].recognises({"prompt": "2 + 3 =", "outputs": [OUTPUT]})


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"outputs": None},
            "column 'outputs' must hold a list of outputs with text and token_ids, got nothing",
        ),
        ({"outputs": ["5"]}, "column 'outputs.0' must hold an object, got '5'"),
        (
            {"outputs": [OUTPUT | {"text": None}]},
            "column 'outputs.0.text' must hold text, got nothing",
        ),
        (
            {"outputs": [OUTPUT | {"token_ids": [1, "2"]}]},
            "column 'outputs.0.token_ids' must hold a list of token ids, got [1, '2']",
        ),
        (
            {"outputs": [OUTPUT, OUTPUT | {"index": "1"}]},
            "column 'outputs.1.index' must hold a whole number from 0, got '1'",
        ),
        (
            {"prompt_token_ids": "1 2"},
            "column 'prompt_token_ids' must hold a list of token ids, got '1 2'",
        ),
        ({"prompt": 4}, "column 'prompt' must hold text or a list of messages, got 4"),
    ],
)
def test_a_malformed_row_is_told(changes: dict[str, Any], said: str) -> None:
    assert complaint(vllm.FORMATS[0], ROW | changes) == said
