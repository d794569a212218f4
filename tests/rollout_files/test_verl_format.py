"""verl's dumps become records: prompts and responses without special tokens, scores as grades."""

from __future__ import annotations

from typing import Any

import pytest
from read_formats import complaint, read, read_file

from decaylab.rollout_files.formats import verl
from decaylab.rollout_files.record import ABSENT, Record

SUM = "system\nYou are a helpful assistant.\nuser\nWhat is 2 + 3?\nassistant\n"
PRODUCT = "system\nYou are a helpful assistant.\nuser\nWhat is 7 * 8?\nassistant\n"
ROW: dict[str, Any] = {"input": SUM, "output": "5", "gts": "5", "score": 1.0, "step": 10}
GENERATED: dict[str, Any] = {
    "data_source": "sums",
    "prompt": [{"role": "user", "content": "2 + 3?"}],
    "reward_model": {"style": "rule", "ground_truth": "5"},
    "responses": ["5", "6"],
}


def stripped(response: str, prompt: str, **more: Any) -> Record:
    return Record(response, prompt=prompt, prompt_stripped=True, **more)


def test_dumped_rollouts_are_read_as_verls_own_function_writes_them() -> None:
    right, wrong = {"score": 1.0, "acc": True}, {"score": -1.0, "acc": False}
    assert read_file("verl_rollouts.jsonl", "verl") == [
        stripped("2 + 3 = \\boxed{5}", SUM, answer="5", grades=right, request_id="r-0"),
        stripped("\\boxed{6}", SUM, answer="5", grades=wrong, request_id="r-1"),
        stripped("7 * 8 = \\boxed{56}", PRODUCT, answer="56", grades=right, request_id="r-2"),
        stripped("Seven eights: first", PRODUCT, answer="56", grades=wrong, request_id="r-3"),
    ]


def test_mlflows_list_of_validation_generations_is_read() -> None:
    assert read_file("verl_val_step10.json", "verl") == [
        stripped("\\boxed{5}", SUM, grades={"score": 1.0}),
        stripped("Seven", PRODUCT, grades={"score": 0.0}),
    ]


def test_the_logged_table_has_a_step_a_row() -> None:
    expected = [
        stripped("\\boxed{5}", SUM, grades={"score": 1.0}),
        stripped("Seven", PRODUCT, grades={"score": 0.0}),
    ]
    assert read_file("verl_generations.table.json", "verl-table") == expected
    names = ("step", "input_1", "output_1", "score_1", "input_2", "output_2", "score_2")
    row = dict(zip(names, (10, SUM, "\\boxed{5}", 1.0, PRODUCT, "Seven", 0.0)))
    assert read([row], "verl-table") == expected


def test_generations_beside_a_data_set_are_numbered() -> None:
    def expected(question: str, answer: str, responses: list[str]) -> list[Record]:
        prompt: Any = [{"content": question, "role": "user"}]
        return [
            Record(one, prompt=prompt, sample=sample, answer=answer)
            for sample, one in enumerate(responses)
        ]

    assert read_file("verl_generations.parquet", "verl-generations") == [
        *expected("What is 2 + 3?", "5", ["\\boxed{5}", "\\boxed{6}"]),
        *expected("What is 7 * 8?", "56", ["\\boxed{56}", "Seven eights: first"]),
    ]


def test_older_dumps_have_no_gold_answer_and_newer_ones_may_hold_none() -> None:
    older = {name: value for name, value in ROW.items() if name != "gts"}
    first, second, third = read(
        [older, ROW | {"gts": None}, ROW | {"gts": None, "answer": 5}], "verl"
    )
    assert (first.answer, second.answer, third.answer) == (ABSENT, None, 5)


def test_columns_of_ones_own_are_no_grades_and_uid_names_no_problem() -> None:
    (record,) = read(
        [ROW | {"problem_id": "sum-1", "sample": 3, "uid": "7f_0_0", "overlong": False}], "verl"
    )
    assert (record.problem_id, record.sample, record.request_id) == ("sum-1", 3, None)
    assert record.grades == {"score": 1.0, "overlong": False}


@pytest.mark.parametrize(
    "row",
    [
        {"input": "2 + 3?", "output": "5"},
        {"input": "2 + 3?", "output": "5", "score": 1.0, "id": 3},
        {"input": "2 + 3?", "output": ["5"], "score": 1.0, "step": 1},
        {"prompt": "2 + 3?", "responses": ["5"]},
        {key: value for key, value in GENERATED.items() if key != "data_source"},
    ],
)
def test_rows_without_verls_marks_are_left_alone(row: dict[str, Any]) -> None:
    assert not any(one.recognises(row) for one in verl.FORMATS)


@pytest.mark.parametrize(
    "which, row, said",
    [
        (0, ROW | {"output": None}, "column 'output' must hold text, got nothing"),
        (0, ROW | {"input": ["2 + 3?"]}, "column 'input' must hold text, got ['2 + 3?']"),
        (0, ROW | {"score": "right"}, "column 'score' must hold a number, got 'right'"),
        (0, ROW | {"request_id": 4}, "column 'request_id' must hold text, got 4"),
        (
            1,
            {"step": 1, "input_1": SUM, "score_1": 1.0},
            "column 'output_1' must hold text, got nothing",
        ),
        (
            2,
            GENERATED | {"responses": "5"},
            "column 'responses' must hold a list of texts, got '5'",
        ),
        (
            2,
            GENERATED | {"responses": ["5", None]},
            "column 'responses.1' must hold text, got nothing",
        ),
    ],
)
def test_a_malformed_row_is_told(which: int, row: dict[str, Any], said: str) -> None:
    assert complaint(verl.FORMATS[which], row) == said
