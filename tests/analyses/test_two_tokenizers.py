"""Log-ratios of whole responses and of spans, against sums by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses import two_tokenizers
from decaylab.runs.vocabulary import (
    BASE,
    CUT_OFF,
    FINISHED,
    FRESH,
    FROZEN,
    LOG_RATIO_PER_BYTE,
    RESPONSE_K3,
    RESPONSE_LOG_RATIO,
    SPAN_LOG_RATIO,
)
from decaylab.tokens.token_table import Scored, TokenTable

END = 9
# Two problems of two responses each, the last of them cut off. A span begins where bytes stand.
ROWS: dict[str, list[Any]] = {
    "token_id": [1, 2, END, 1, END, 3, 2, 2, END, 1, 2],
    "span_log_ratio": [0.5, math.nan, -0.1, 1.0, 0.2, 2.0, math.nan, -0.5, 0.3, 0.7, math.nan],
    "at_shared_boundary": [True, False, True, True, True, True, False, True, True, True, False],
    "as_own_tokenizer": [True] * 5 + [False] * 4 + [True] * 2,
    "reverse_kl": [0.1, math.nan, 11.0, 9.9, math.inf, 0.2, math.nan, 0, 0, 12.0, math.nan],
    "span_bytes": [4, 0, 1, 2, 1, 6, 0, 3, 1, 5, 0],
    "student_span_entropy": [1.0, math.nan, 0.5, 1.0, 0.1, 2, math.nan, 0.3, 0.2, 0.4, math.nan],
    "teacher_span_entropy": [2.0, math.nan, 0.5, 1.5, 0.4, 3, math.nan, 0.6, 0.1, 0.8, math.nan],
    "span_student_tokens": [2, 0, 1, 1, 1, 2, 0, 1, 1, 1, 0],
    "span_teacher_tokens": [1, 0, 1, 1, 1, 3, 0, 2, 1, 1, 0],
}
LENGTHS, PROBLEMS = np.array([3, 2, 4, 2]), np.array([0, 0, 1, 1])
SETTINGS = two_tokenizers.Settings((0, 2))


def scored(view: str = FRESH) -> Scored:
    columns = {name: np.array(values) for name, values in ROWS.items()}
    whole = TokenTable(LENGTHS, PROBLEMS, 2, columns)
    return Scored(BASE, view, whole.at(columns["span_bytes"] > 0))


def measured(**more: Any) -> pd.DataFrame:
    return two_tokenizers.measure([scored()], SETTINGS, {END}, more.get("other_law", {}))


def value(frame: pd.DataFrame, what: str, condition: str, **at: Any) -> float:
    rows = frame[(frame["what"] == what) & (frame["condition"] == condition)]
    for column, wanted in at.items():
        rows = rows[rows[column] == wanted]
    (number,) = rows["value"]
    return float(number)


def test_a_response_counts_with_its_end_and_a_cut_off_one_apart() -> None:
    frame = measured()
    ratios = [0.4, 1.2, 1.8]
    assert value(frame, RESPONSE_LOG_RATIO, FINISHED) == pytest.approx(sum(ratios) / 3)
    assert value(frame, RESPONSE_LOG_RATIO, CUT_OFF) == pytest.approx(0.7)
    # The third is not what the student's own tokenizer writes.
    k3 = [math.exp(-0.4) - 1 + 0.4, math.exp(-1.2) - 1 + 1.2, 0 - 1 + 1.8]
    assert value(frame, RESPONSE_K3, FINISHED) == pytest.approx(sum(k3) / 3)
    assert value(frame, LOG_RATIO_PER_BYTE, FINISHED) == pytest.approx(3.4 / (5 + 3 + 10))


def test_the_interval_is_that_of_a_mean_over_problems() -> None:
    frame = measured()
    (row,) = frame[frame["condition"].eq(FINISHED) & frame["what"].eq(RESPONSE_LOG_RATIO)].to_dict(
        "records"
    )
    assert row["problems"] == 2 and row["rollouts"] == 3 and row["tokens"] == 9
    # Two problems of sums 1.6 and 1.8 over 2 and 1 responses: the jackknife of a ratio of sums.
    whole, left_out = 3.4 / 3, np.array([1.8 / 1, 1.6 / 2])
    error = math.sqrt(((whole - left_out) ** 2).sum() / 2)
    assert row["standard_error"] == pytest.approx(error)
    assert row["low"] < whole < row["high"]


def test_spans_are_counted_where_they_begin() -> None:
    frame = measured()
    first = [0.5, 1.0, 0.2, 2.0, 0.7]
    behind = [-0.1, -0.5, 0.3]
    means = [sum(first) / len(first), sum(behind) / len(behind)]
    for low, mean in zip((0.0, 2.0), means, strict=True):
        assert value(frame, SPAN_LOG_RATIO, "all", position_low=low) == pytest.approx(mean)


def test_entropies_are_those_of_each_ones_own_tokens() -> None:
    frame = measured()
    student, teacher, size = 5.5, 8.9, 23
    assert value(frame, "student_entropy_per_byte", "all") == pytest.approx(student / size)
    assert value(frame, "teacher_entropy_per_byte", "all") == pytest.approx(teacher / size)
    assert value(frame, "student_entropy_per_own_token", "all") == pytest.approx(student / 10)
    assert value(frame, "teacher_entropy_per_own_token", "all") == pytest.approx(teacher / 11)


def test_boundaries_above_the_cap_are_counted() -> None:
    assert value(measured(), "above_cap_share", "all") == pytest.approx(3 / 8)


def test_responses_of_another_law_have_no_log_ratio_and_say_why() -> None:
    frame = measured(other_law={BASE: "sampled at another temperature"})
    rows = frame[frame["what"].isin([RESPONSE_LOG_RATIO, RESPONSE_K3, LOG_RATIO_PER_BYTE])]
    assert rows["value"].isna().all() and rows["low"].isna().all()
    assert set(rows["note"]) == {"sampled at another temperature"}
    assert frame[frame["what"] == SPAN_LOG_RATIO]["value"].notna().all()


def test_rollouts_of_another_policy_are_not_measured() -> None:
    frozen = two_tokenizers.measure([scored(FROZEN)], SETTINGS, {END}, {})
    assert frozen.empty
