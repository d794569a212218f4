"""Rows of measurements are found by their words, or the lookup raises."""

import math

import pandas as pd
import pytest

from decaylab.runs import vocabulary

FRAME = pd.DataFrame(
    {
        "what": ["accuracy", "accuracy", "reverse_kl"],
        "view": ["last", "best", "fresh"],
        "prefix_tokens": [8.0, math.nan, math.nan],
        "value": [0.5, 0.6, 1.5],
    }
)


def test_one_row_is_found_by_its_coordinates():
    assert vocabulary.row(FRAME, what="accuracy", view="best").value == 0.6
    assert vocabulary.row(FRAME, what="accuracy", prefix_tokens=math.nan).value == 0.6
    assert vocabulary.rows(FRAME, view=["last", "best"]).value.tolist() == [0.5, 0.6]


def test_a_lookup_that_finds_nothing_says_what_is_there():
    with pytest.raises(LookupError, match="no row has view 'worst'.*there are: best, last"):
        vocabulary.rows(FRAME, what="accuracy", view="worst")


def test_a_lookup_of_one_row_that_finds_two_raises():
    with pytest.raises(LookupError, match="2 rows at what 'accuracy'"):
        vocabulary.row(FRAME, what="accuracy")


def test_a_column_that_is_not_there_is_an_error_and_no_empty_selection():
    with pytest.raises(KeyError):
        vocabulary.select(FRAME, wat="accuracy")


def test_names_of_differences():
    assert vocabulary.minus("avg_at_4", vocabulary.BASE) == "avg_at_4_minus_base"
    assert vocabulary.detectable(vocabulary.minus("avg_at_4", "full")) == (
        "avg_at_4_minus_full_detectable"
    )


def test_a_lookup_without_coordinates_in_an_empty_frame_is_a_lookup_error():
    with pytest.raises(LookupError, match="no rows"):
        vocabulary.rows(FRAME.iloc[:0])
