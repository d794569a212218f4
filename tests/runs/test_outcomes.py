"""The outcomes table: columns that others read, what stands in them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from made_votes import never, rollouts

from decaylab.errors import UserError
from decaylab.runs import outcomes, store

COLUMNS = [
    *("checkpoint", "step", "problem_id", "sample", "stop_reason", "response_tokens"),
    *("grade_last_boxed", "grade_first_boxed", "grade_anywhere", "grade_gsm8k"),
    *("vote_last_boxed", "vote_first_boxed", "vote_gsm8k"),
]


@pytest.fixture
def frame() -> pd.DataFrame:
    tables = {
        name: rollouts((r"\boxed{1}", "wrong"), (r"\boxed{2}", "correct"))
        for name in ("base", "step-10", "teacher")
    }
    return outcomes.collect(tables, {"base": 0.0, "step-10": 10.0}, never)


def test_the_table_has_the_columns_that_others_read_and_comes_back_as_it_was(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    outcomes.write(frame, tmp_path / "outcomes.parquet")
    assert (
        store.read_table(tmp_path / "outcomes.parquet", "decaylab.outcomes/1").column_names
        == COLUMNS
    )
    found = outcomes.read(tmp_path / "outcomes.parquet")
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_the_step_is_that_of_training_and_unknown_of_the_teacher(frame: pd.DataFrame) -> None:
    steps = frame.groupby("checkpoint")["step"].first()
    assert (steps["base"], steps["step-10"]) == (0, 10) and pd.isna(steps["teacher"])


def test_tokens_are_counted_without_the_end_of_turn_and_whole_where_cut_off(
    frame: pd.DataFrame,
) -> None:
    """Three ids each: one cut off, one closed by the end-of-turn token."""
    assert frame.groupby("stop_reason")["response_tokens"].unique().map(list).to_dict() == {
        "eos": [2],
        "length": [3],
    }


def test_another_schema_is_one_line(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no such file"):
        outcomes.read(tmp_path / "outcomes.parquet")
    frame.to_parquet(tmp_path / "outcomes.parquet")
    with pytest.raises(UserError, match="has schema none, expected decaylab.outcomes/1"):
        outcomes.read(tmp_path / "outcomes.parquet")
