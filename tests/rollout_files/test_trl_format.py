"""TRL's completions become records: what was decoded without special tokens is told, whatever the
version."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from read_formats import complaint, format_of, read, read_file, rows

from decaylab.errors import UserError
from decaylab.rollout_files.formats import trl
from decaylab.rollout_files.record import ABSENT, Record

ROW: dict[str, Any] = {
    "step": 3,
    "prompt": "2 + 3 =",
    "completion": " 5",
    "reward_fn": 1.0,
    "advantage": 0.5,
}
STRIPPED = "system\nBe brief.\nuser\n2 + 3?\nassistant\n"
RENDERED = "<|im_start|>user\n2 + 3?<|im_end|>\n<|im_start|>assistant\n"


def test_the_parquet_file_of_grpo_is_read_row_by_row() -> None:
    def expected(question: str, response: str, answer: str, grades: dict[str, float]) -> Record:
        prompt: Any = [{"content": question, "role": "user"}]
        return Record(response, prompt=prompt, answer=answer, grades=grades)

    assert read_file("trl_completions.parquet", "trl") == [
        expected("What is 2 + 3?", "2 + 3 = \\boxed{5}", "5", {"accuracy_reward": 1.0}),
        expected("What is 2 + 3?", "\\boxed{6}", "5", {"accuracy_reward": 0.0}),
        expected("What is 7 * 8?", "7 * 8 = \\boxed{56}", "56", {"accuracy_reward": 1.0}),
        expected("What is 7 * 8?", "Seven eights: first", "56", {}),
    ]


def test_a_logged_table_is_read_and_golds_special_tokens_are_seen() -> None:
    first, second = read_file("trl_gold.table.json", "trl-table")
    prompt = "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"
    assert first == Record("\\boxed{5}<|im_end|>", prompt=prompt)
    assert second == Record("Two and", prompt=prompt)


@pytest.mark.parametrize(
    "changes, stripped",
    [
        ({}, False),
        ({"prompt": STRIPPED}, True),
        ({"prompt": "user\n2 + 3?\nmodel\n"}, True),
        ({"prompt": "user\n\n2 + 3?assistant\n\n"}, True),
        ({"prompt": STRIPPED + "<think>\n"}, True),
        ({"prompt": "user2 + 3?\nassistant"}, True),
        ({"prompt": "Who is your assistant?"}, False),
        ({"prompt": RENDERED}, False),
    ],
)
def test_grpos_prompt_is_stripped_where_the_bare_role_ends_it(
    changes: dict[str, Any], stripped: bool
) -> None:
    (record,) = read([ROW | changes], "trl")
    assert record.prompt_stripped is stripped


@pytest.mark.parametrize(
    "prompt, completion, stripped",
    [
        (STRIPPED, "5", True),
        (RENDERED, "5<|im_end|>", False),
        (RENDERED, "5", False),
        ("2 + 3 =", "5</s>", False),
    ],
)
def test_without_advantages_the_texts_show_which_distillation_wrote_them(
    prompt: str, completion: str, stripped: bool
) -> None:
    (record,) = read([{"step": 3, "prompt": prompt, "completion": completion}], "trl")
    assert record.prompt_stripped is stripped


def test_older_steps_are_text_and_a_reward_needs_no_advantage() -> None:
    (record,) = read([{"step": "3", "prompt": RENDERED, "completion": "5", "reward": 1.0}], "trl")
    assert record == Record("5", prompt=RENDERED, grades={"reward": 1.0})


def test_tools_and_thoughts_stand_apart() -> None:
    thought: Any = [
        {
            "role": "assistant",
            "content": "5",
            "reasoning_content": "Two, three.",
            "tool_calls": None,
        }
    ]
    call: Any = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "plus"}}]}
    ]
    turns = [*call, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "5"}]
    first, second = read([ROW | {"completion": thought}, ROW | {"completion": turns}], "trl")
    assert (first.response, first.reasoning, first.turns) == ("5", "Two, three.", None)
    assert (second.response, second.turns) == (None, turns)


def test_columns_of_ones_own_are_no_rewards() -> None:
    own = {"problem_id": 7, "index": 2, "answer": 5, "note": "mine", "reward_fn": float("nan")}
    (record,) = read([ROW | own], "trl")
    assert (record.problem_id, record.sample, record.answer, record.grades) == ("7", 2, 5, {})
    (record,) = read([ROW | {"index": 1200, "sample": 1, "ground_truth": None}], "trl")
    assert (record.problem_id, record.sample, record.answer) == (None, 1, None)
    (record,) = read([ROW | {"index": 1200}], "trl")
    assert (record.sample, record.answer) == (None, ABSENT)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 3 =", "completion": " 5"},
        {"step": 3, "prompt": "2 + 3 =", "completion": " 5", "note": "text"},
        {"step": True, "prompt": "2 + 3 =", "completion": " 5"},
        {"step": 3, "prompt": "2 + 3 =", "completion": ["5"]},
        {"columns": ["prompt", "completion"], "data": []},
    ],
)
def test_rows_without_trls_marks_are_left_alone(row: dict[str, Any]) -> None:
    assert not any(one.recognises(row) for one in trl.FORMATS)


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"completion": 5},
            "column 'completion' must hold a list of messages with role and content, got 5",
        ),
        (
            {"completion": []},
            "column 'completion' must hold a list of messages with role and content, got []",
        ),
        ({"prompt": None}, "column 'prompt' must hold text or a list of messages, got nothing"),
        (
            {"prompt": [{"role": "user"}]},
            "must hold a message with role and content, got {'role': 'user'}",
        ),
        (
            {"completion": [{"role": "assistant", "content": 5}]},
            "column 'completion.0.content' must hold text or a list of parts, got 5",
        ),
        ({"sample": -1}, "column 'sample' must hold a whole number from 0, got -1"),
        ({"problem_id": 1.5}, "column 'problem_id' must hold text or a whole number, got 1.5"),
    ],
)
def test_a_malformed_row_is_told(changes: dict[str, Any], said: str) -> None:
    assert complaint(trl.FORMATS[0], ROW | changes).endswith(said)


def test_a_table_with_a_short_row_is_told() -> None:
    row = {
        "columns": ["step", "prompt", "completion"],
        "data": [[1, "2 + 3 =", " 5"], [1, "2 + 3 ="]],
    }
    with pytest.raises(UserError) as error:
        list(trl.FORMATS[1].records(row, "mine.json"))
    assert (
        str(error.value)
        == "mine.json, table row 2: column 'data' must hold 3 values per row, got [1, '2 + 3 =']"
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs extra: trl")
@pytest.mark.parametrize("chat", [True, False], ids=["messages", "text"])
def test_the_file_that_trl_writes_itself_is_read(tmp_path: Path, chat: bool) -> None:
    from datasets import Dataset
    from tiny_models import byte_tokenizer, tiny_llama
    from trl import GRPOConfig, GRPOTrainer

    def length_reward(
        completions: list[Any], solution: list[str], log_extra: Any, **_: Any
    ) -> list[float]:
        log_extra("solution", solution)
        return [float(len(str(one))) for one in completions]

    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    questions: list[Any] = ["2 + 3 =", "7 * 8 ="]
    prompts = [[{"role": "user", "content": one}] for one in questions] if chat else questions
    args = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        max_steps=1,
        logging_steps=1,
        log_completions=True,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    data = Dataset.from_dict({"prompt": prompts, "solution": ["5", "56"]})
    GRPOTrainer(
        model=tiny_llama(0, vocab_size=len(tokenizer)),
        reward_funcs=length_reward,
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
    ).train()
    found = rows(tmp_path / "completions" / "completions_00001.parquet")
    records = read(found, "trl")
    assert format_of(found[0]).name == "trl" and len(records) == 4
    assert {str(record.prompt) for record in records} == set(map(str, prompts))
    assert {record.answer for record in records} == {"5", "56"}
    assert all(not record.prompt_stripped for record in records)
    assert all(
        isinstance(record.response, str) and set(record.grades) == {"length_reward"}
        for record in records
    )
