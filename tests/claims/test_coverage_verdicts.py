"""Rates of wrong verdicts: those kept in benchmarks/results, and some draws of the cheap cases
anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coverage_parts import verdicts as part

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
DRAWS, ANEW = 1000, 300


def kept() -> list[dict[str, Any]]:
    found = json.loads((RESULTS / "coverage-verdicts.json").read_text())
    assert found["draws"] >= DRAWS
    return list(found["rows"])


def test_arms_that_are_equally_good_are_seldom_called_anything() -> None:
    rows = [row for row in kept() if row["case"] == "equal arms"]
    assert {(row["claim"], row["seeds"]) for row in rows} == {
        (claim, seeds) for claim in part.CLAIMS for seeds in (3, 5)
    }
    for row in rows:
        assert row["holds"] + row["contradicted"] <= 0.05 + 2 * row["error"], row


def test_one_or_two_seeds_of_equal_or_better_arms_decide_nothing() -> None:
    for count in (1, 2):
        for better in ({}, dict.fromkeys((*part.LENGTHS, *part.SELECTORS), 0.3)):
            for claim, found in part.sweeps(count, 3, better).items():
                assert set(found) == {"undecided"}, (claim, count)


def test_kl_without_an_effect_of_position_is_seldom_called_anything() -> None:
    rows = [row for row in kept() if row["claim"] == "early-kl"]
    assert {row["problems"] for row in rows} == {60, 300}
    for row in rows:
        assert row["holds"] + row["contradicted"] <= 0.05 + 2 * row["error"], row


@pytest.mark.slow
def test_the_rates_over_equal_arms_anew() -> None:
    for row in part.equal_arms(3, ANEW):
        assert row["shown"] <= 0.05 + 2 * row["error"], row


@pytest.mark.slow
def test_the_rate_without_an_effect_of_position_anew() -> None:
    row = part.by_position(60, ANEW, 1.0)
    assert row["shown"] <= 0.05 + 2 * row["error"], row


def test_seeds_of_which_some_collapsed_are_seen_to_disagree() -> None:
    found = part.collapsing(3, DRAWS)
    assert (
        found["disagree_where_some_collapsed"] > 0.99
        and found["disagree_where_none_or_all_did"] < 0.01
    )
    assert (
        found["coverage_of_every_t"] < 0.7 and found["sweeps_in_which_no_collapse_is_seen"] > 0.45
    )
