"""Rows out of estimates: columns come from where they should, and every reason for a missing
interval is the right one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.seeds import OverSeeds
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement
from decaylab.runs.skewed_cells import NO_TOKENS, NOT_FINITE

SETTINGS = rows.Settings(level=0.9, seed=3, run="mine")
ESTIMATE = st.Estimate(0.5, 0.4, 0.6, 0.05, "how", 7, 28, "why")


def test_a_row_takes_numbers_from_the_estimate_and_the_rest_from_settings_and_place() -> None:
    row = rows.row(SETTINGS, "accuracy", "fraction", ESTIMATE, "", "more", view="fresh", tokens=9)
    assert row == Measurement(
        what="accuracy",
        condition="",
        value=0.5,
        unit="fraction",
        view="fresh",
        low=0.4,
        high=0.6,
        standard_error=0.05,
        level=0.9,
        method="how",
        problems=7,
        rollouts=28,
        tokens=9,
        seed=3,
        run="mine",
        note="why; more",
    )


def test_a_place_goes_before_the_estimate_and_means_over_seeds_count_no_problems() -> None:
    assert rows.row(SETTINGS, "x", "nats", ESTIMATE, problems=2, note="this").problems == 2
    assert rows.row(SETTINGS, "x", "nats", ESTIMATE, note="this").note == "this"
    row = rows.row(SETTINGS, "x", "nats", OverSeeds(1.0, 0.0, 2.0, 0.5, 0.04, 3, "t"))
    assert (row.problems, row.rollouts, row.method) == (0, 0, "t") and math.isnan(row.p_value)


def test_notes() -> None:
    assert rows.joined("", "a", "", "b") == "a; b" and rows.joined() == ""
    assert rows.left_out(2, 60, "seeds are lost") == "2 of 60 seeds are lost, left out"
    assert rows.left_out(0, 60, "seeds are lost") == rows.graded_late(0, 4) == ""
    assert (
        rows.graded_late(1, 4) == "1 of 4 responses took too long to grade and count as not correct"
    )


def test_a_bare_number_has_the_reason_of_what_it_stands_beside_only_where_it_is_undefined() -> None:
    assert rows.bare(0.2, ESTIMATE).note == "" and rows.bare(math.nan, ESTIMATE).note == "why"
    bare = rows.bare(0.2, ESTIMATE)
    assert (bare.value, bare.problems, bare.rollouts, bare.method) == (0.2, 7, 28, "")
    assert np.isnan([bare.low, bare.high, bare.standard_error]).all()


def test_the_smallest_difference_that_can_be_found_follows_from_the_wider_of_both_errors() -> None:
    narrow = replace(ESTIMATE, low=0.49, high=0.51)
    least = rows.detectable_difference(narrow, level=0.95).value
    assert least == pytest.approx((1.959964 + 0.841621) * 0.05, rel=1e-5)
    assert rows.detectable_difference(ESTIMATE, level=0.95).value > least


def test_one_run_has_no_interval_and_no_mean_has_no_value() -> None:
    single, none = rows.one_run(3.0, "counted"), rows.undefined_over_seeds(4, "why not")
    assert (single.value, single.seeds, single.note) == (3.0, 1, "counted")
    assert math.isnan(single.low) and math.isnan(none.value)
    assert (none.seeds, none.method, none.note) == (4, "", "why not")


def test_ends_are_cut_at_what_is_possible_and_undefined_ends_stay() -> None:
    cut = rows.within(replace(ESTIMATE, low=-0.1, high=1.2), 0.0, 1.0)
    assert (cut.low, cut.high) == (0.0, 1.0)
    none = rows.within(replace(ESTIMATE, low=math.nan, high=math.nan), 0.0, 1.0)
    assert math.isnan(none.low) and math.isnan(none.high)


def test_each_cell_says_why_it_has_no_interval() -> None:
    #   cells: two problems, none, one, the same twice, one value not finite
    sums = np.array([[1.0, 0.0, 2.0, 3.0, np.inf], [4.0, 0.0, 0.0, 3.0, 1.0]])
    counts = np.array([[1.0, 0.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 1.0, 1.0]])
    means = tm.means(sums, counts)
    cells = rows.of_cells(means, level=0.95)
    notes = ["", NO_TOKENS, st.ONE_PROBLEM, st.ALIKE, NOT_FINITE]
    assert [cell.note for cell in cells] == notes
    low, high = tm.interval(means, level=0.95)
    first = cells[0]
    assert (first.value, first.low, first.high) == (means.value[0], low[0], high[0])
    assert (first.problems, first.method) == (2, means.method)
    assert np.isnan([cell.low for cell in cells[1:]]).all()
    silent = rows.of_cells(means, level=0.95, undefined="", alike="", empty="nothing")
    assert [cell.note for cell in silent] == ["", "nothing", st.ONE_PROBLEM, "", ""]
    given = rows.of_cells(means, level=0.95, ends=(np.zeros(5), np.ones(5)))
    assert {(cell.low, cell.high) for cell in given} == {(0.0, 1.0)}


def test_coordinates() -> None:
    spans = rows.spans((0, 4))
    assert spans[0] == {"position_low": 0.0, "position_high": 4.0}
    assert spans[1] == {"position_low": 4.0, "position_high": math.inf} and len(spans) == 2
    tables = {
        "a": pd.DataFrame({"problem_id": ["q", "p"]}),
        "b": pd.DataFrame({"problem_id": "r"}, [0]),
    }
    assert rows.problem_codes(tables) == {"p": 0, "q": 1, "r": 2}
    assert rows.shared([2.0, 2.0]) == 2.0
    assert math.isnan(rows.shared([2.0, 3.0])) and math.isnan(rows.shared([]))


def test_holm_corrects_each_family_by_itself() -> None:
    def tested(what: str, p_value: float, checkpoint: str = "x") -> Measurement:
        return Measurement(what, "", 0.0, "fraction", checkpoint=checkpoint, p_value=p_value)

    given = [tested("a", 0.01), tested("b", 0.04), tested("a", 0.03), tested("a", math.nan)]
    corrected = [row.p_value_holm for row in rows.with_holm(given, ("what",))]
    assert corrected[:3] == pytest.approx([0.02, 0.04, 0.03]) and math.isnan(corrected[3])
    family = [tested("a", 0.01), tested("a", 0.03, "base")]
    alone = rows.with_holm(family, ("what",), lambda row: row.checkpoint != "base")
    assert alone[0].p_value_holm == 0.01 and math.isnan(alone[1].p_value_holm)
