"""SGLang's outputs become records, with the prompt that stands beside them."""

from __future__ import annotations

from typing import Any

import pytest
from read_formats import complaint, read, read_file

from decaylab.rollout_files.formats import sglang
from decaylab.rollout_files.record import Record

META: dict[str, Any] = {
    "id": "a",
    "finish_reason": {"type": "stop", "matched": 99},
    "prompt_tokens": 2,
}
OUTPUT: dict[str, Any] = {"text": "5", "output_ids": [11, 99], "meta_info": META}
ROW: dict[str, Any] = {"prompt": "2 + 3 =", **OUTPUT}


def test_outputs_are_read_beside_their_prompt_and_under_a_name() -> None:
    def expected(number: int, **more: Any) -> Record:
        return Record(request_id=f"{number:032x}", **more)

    asked: Any = [{"role": "user", "content": "What is 7 * 8?"}]
    ended, marked = {"type": "stop", "matched": 99}, {"type": "stop", "matched": "###"}
    first = expected(
        1,
        response="\\boxed{5}",
        response_ids=[11, 12, 99],
        prompt="What is 2 + 3?",
        stop=ended,
        stop_detail=99,
    )
    second = expected(
        2,
        response="\\boxed{6}",
        response_ids=[11, 13],
        prompt_ids=[1, 2, 3],
        stop=marked,
        stop_detail="###",
    )
    second.problem_id, second.sample, second.answer = "sum-1", 1, 5
    third = expected(
        3,
        response="\\boxed{56}",
        response_ids=[14, 99],
        prompt=asked,
        sample=0,
        stop=ended,
        stop_detail=99,
    )
    cut = {"type": "length", "length": 2}
    fourth = expected(
        4, response="Seven eights: first", response_ids=[16, 17], prompt=asked, sample=1, stop=cut
    )
    assert read_file("sglang_outputs.jsonl", "sglang") == [first, second, third, fourth]


def test_text_beside_an_output_is_the_prompt_and_older_outputs_have_no_ids() -> None:
    older = {name: value for name, value in OUTPUT.items() if name != "output_ids"}
    (record,) = read([{"text": "2 + 3 =", "response": older, "score": 1}], "sglang")
    assert (record.prompt, record.response, record.response_ids) == ("2 + 3 =", "5", None)
    assert record.grades == {"score": 1}


def test_without_a_tokenizer_there_are_ids_alone() -> None:
    (record,) = read([{"input_ids": [1, 2], "output_ids": [11, 99], "meta_info": META}], "sglang")
    assert (record.response, record.response_ids) == (None, [11, 99])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 3 =", "text": "5"},
        {"prompt": "2 + 3 =", "text": "5", "meta_info": {"note": "mine"}},
        {"prompt": "2 + 3 =", "output": {"text": "5"}},
        {"embedding": [0.1], "meta_info": META},
    ],
)
def test_rows_without_sglangs_marks_are_left_alone(row: dict[str, Any]) -> None:
    assert not sglang.FORMATS[0].recognises(row)


@pytest.mark.parametrize(
    "row, said",
    [
        (
            {"prompt": "2 + 3 ="},
            "column 'meta_info' must hold an object with id and finish_reason, here or inside an "
            "output",
        ),
        (
            ROW | {"meta_info": "stop"},
            "column 'meta_info' must hold an object with id and finish_reason, got 'stop'",
        ),
        (ROW | {"text": 5}, "column 'text' must hold text, got 5"),
        (
            ROW | {"output_ids": [1.0]},
            "column 'output_ids' must hold a list of token ids, got [1.0]",
        ),
        (
            {"meta_info": META},
            "column 'text' must hold text if there are no output_ids, got nothing",
        ),
        (
            {"outputs": [OUTPUT, {"text": "6"}]},
            "column 'outputs.1.meta_info' must hold an object with id and finish_reason",
        ),
        (ROW | {"prompt": 4}, "column 'prompt' must hold text or a list of messages, got 4"),
    ],
)
def test_a_malformed_row_is_told(row: dict[str, Any], said: str) -> None:
    assert complaint(sglang.FORMATS[0], row).startswith(said)
