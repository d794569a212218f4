"""What captions say of rows: templates filled from them, numbers with intervals, counts, floors."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from decaylab.figures import words

ROWS = pd.DataFrame(
    {
        "what": "reverse_kl",
        "view": "fresh",
        "condition": "all",
        "checkpoint": ["base", "base", "late"],
        "selector": "",
        "problems": [12, 10, 12],
        "rollouts": [24, 20, 24],
        "tokens": [1000, 418, 1200],
        "level": 0.95,
        "method": ["bootstrap", "", "jackknife"],
        "estimand": "mean over tokens",
        "unit": "nats",
        "noise_floor": [0.001, 0.002, math.nan],
        "under_floor": [True, False, None],
    }
)


def test_a_template_takes_its_fields_from_the_rows() -> None:
    template = """{estimand}; {level} ({methods}).
        {more} {published}"""
    text = words.filled(template, ROWS, more="")
    assert text == "mean over tokens; 95 % (bootstrap; jackknife)."
    assert "arXiv 2605.27028" in words.filled(template, ROWS, ROWS, more="")


def test_a_field_that_nobody_fills_is_an_error() -> None:
    with pytest.raises(KeyError, match="level"):
        words.filled("{level}")


@pytest.mark.parametrize(
    ("number", "places", "text"),
    [
        ((0.125, 0.115, 1480.5), 2, "0.13 [0.12, 1,480.50]"),  # half away from zero
        ((29.5, math.nan, math.nan), 0, "30"),
        ((math.nan, math.nan, math.nan), 2, "undefined"),
    ],
)
def test_a_number_stands_with_its_interval(
    number: tuple[float, float, float], places: int, text: str
) -> None:
    row = pd.Series(number, index=["value", "low", "high"])
    assert words.number(row, places) == text


def test_counts_are_the_most_problems_and_rollouts_and_all_tokens_of_the_bins() -> None:
    assert words.counts(ROWS, "fresh") == {
        "base": "12 problems, 24 rollouts, 1,418 tokens",
        "late": "12 problems, 24 rollouts, 1,200 tokens",
    }
    assert words.counts(ROWS, "frozen") == {}
    assert words.first_counts(ROWS, "fresh") == (
        "12 problems, 24 rollouts, 1,418 tokens of the base student"
    )


def test_the_floor_is_the_largest_of_each_unit_with_how_many_values_lie_under_it() -> None:
    assert "at most 2.0e-03 nats" in words.floor_text(ROWS)
    assert "1 of 2 values lie under it" in words.floor_text(ROWS)
    assert "no value lies" in words.floor_text(ROWS.assign(under_floor=False))
    assert words.floor_text(ROWS.assign(noise_floor=math.nan)) == "Noise floor: not measured."
