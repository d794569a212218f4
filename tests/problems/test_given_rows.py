"""Problems in memory are those that a JSONL file of the same rows holds."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.errors import UserError
from decaylab.problems import given_rows
from decaylab.problems.problem import ProblemSet
from decaylab.problems.sets import load_problems

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "4 + 4?"}]
ROWS: list[dict[str, Any]] = [
    {"question": "2 + 2?", "answer": "4", "id": "a"},
    {"question": "1 + 2?", "answer": 3, "id": "a"},  # a repeated id
    {"question": "0.1 + 0.02?", "answer": 0.12, "id": None},
    {"question": "half a character \ud83d", "answer": None, "id": 7},
    {"question": CHAT, "answer": {"value": "8"}, "id": "chat"},
]
GSM8K = [{"question": "How many?", "answer": "One and\n#### 1,200"}]
OTHER = [{"q": "2 + 2?", "reward": {"gold": "4"}, "key": 5}]
COLUMNS = {"question": "q", "answer": "reward.gold", "id": "key"}


def given(rows: Any, **more: Any) -> ProblemSet:
    read = given_rows.as_rows(rows)
    assert read is not None
    with given_rows.held(read) as name:
        return load_problems(name, **more)


def of_file(rows: Any, path: Path, **more: Any) -> ProblemSet:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(str(path), **more)


@pytest.mark.parametrize(
    ("rows", "more"),
    [(ROWS, {}), (ROWS, {"limit": 2}), (GSM8K, {}), (OTHER, {"columns": COLUMNS})],
)
def test_a_list_is_read_as_a_file_of_the_same_rows(
    rows: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    listed, filed = given(rows, **more), of_file(rows, tmp_path / "mine.jsonl", **more)
    assert listed.content_hash == filed.content_hash and listed.notes == filed.notes
    renamed = dataclasses.replace(filed, name=listed.name, version="given in Python")
    assert listed == renamed and listed.own


def test_a_data_frame_is_read_as_the_file_that_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "question": ["2 + 2?", "1 / 3?", "?"],
            "answer": [4.0, 1 / 3, np.nan],
            "id": pd.array([10, None, 12], dtype="Int64"),
            "tags": [np.array([1, 2]), np.array([]), None],
        },
        index=[5, 5, 6],
    )
    path = tmp_path / "mine.jsonl"
    frame.to_json(path, orient="records", lines=True, double_precision=15)
    listed, filed = given(frame), load_problems(str(path))
    assert [problem.problem_id for problem in listed.problems] == ["10", "row-000001", "12"]
    assert listed.problems[0] == filed.problems[0] and listed.problems[2] == filed.problems[2]
    # pandas rounds to 15 digits
    assert listed.problems[1].answer == str(1 / 3) != filed.problems[1].answer


def test_a_missing_id_is_a_row_number_whatever_the_table_has_in_its_place() -> None:
    for missing in (np.nan, None, pd.NA, pd.NaT):
        frame = pd.DataFrame({"question": ["?", "!"], "answer": ["1", "2"], "id": ["a", missing]})
        assert [one.problem_id for one in given(frame).problems] == ["a", "row-000001"]


def test_the_name_follows_the_rows() -> None:
    def name(rows: Any) -> str:
        with given_rows.held(given_rows.as_rows(rows) or []) as spec:
            return spec

    assert name(ROWS) == name(list(ROWS)) != name(ROWS[:-1])
    assert name(pd.DataFrame(ROWS[:2])) == name(ROWS[:2])
    assert name([{"a": Decimal("1.5"), "b": np.int64(2)}]) == name([{"a": "1.5", "b": 2}])
    with pytest.raises(UserError, match="were problems in the memory of a Python process: give"):
        load_problems(name(ROWS))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "problems has no problems: it is empty"),
        (["2 + 2?"], "problems, row 1: must be a dict with a question and an answer, got str"),
        ([{"text": "?"}], "problems has no column 'problem' or .*set it with --column question="),
        ([GSM8K[0], {"answer": "1"}], "problems, row 2: column 'question' must hold the question"),
        ([{"question": date(2020, 1, 1)}], "problems, row 1: holds a value that is neither text"),
        ({"question": ["?"]}, "problems must be a name, a list of dicts or a DataFrame, got dict"),
        (
            pd.DataFrame([[1, 2]], columns=["question", "question"]),
            "the DataFrame has two columns 'question'; rename one",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_refused_in_a_line(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        given(rows)
    assert "\n" not in str(refused.value)


def test_a_hub_option_does_not_apply_to_rows() -> None:
    with pytest.raises(UserError, match="a list of problems is in memory, so it has no revision"):
        given(ROWS, revision="main")
