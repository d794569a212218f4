"""Curves and reference lines that are named at their ends, their axes, and words of words."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from figure_parts import artist

from decaylab.figures import curves, style, words
from decaylab.figures.artists import Look

LOOK = Look("a curve", style.ESR, "o")


def rows(values: list[float], places: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"at": places, "value": values})
    table["low"], table["high"] = table.value - 0.1, table.value + 0.2
    return table.assign(band_low=math.nan, band_high=math.nan)


def test_a_curve_holds_its_rows_in_per_cent_and_is_named_at_its_last_defined_one() -> None:
    frame = rows([0.5, 0.6, math.nan], [0, 10, 20])
    with style.context():
        figure = style.new_figure("column", 2.0)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 20), ylim=(0, 100))
        (label,) = curves.draw_curve(axes, frame, "at", LOOK, "c")
        assert curves.draw_curve(axes, frame[frame.value.isna()], "at", LOOK, "none") == []
        curves.draw_curve(axes, frame, "at", LOOK, "aside", shift=9.0)
    np.testing.assert_allclose(artist(figure, "c").get_xydata(), [[0, 50], [10, 60]])
    ends = [segment[:, 1] for segment in artist(figure, "c.bars").get_segments()]
    np.testing.assert_allclose(ends, [[40, 70], [50, 80]])
    assert (label.x, label.y, label.text) == (10, 60, "a curve")
    assert artist(figure, "none") is None


def test_the_label_of_a_curve_that_is_moved_aside_moves_with_it() -> None:
    figure = style.new_figure("column", 2.0)
    axes = figure.add_axes((0.1, 0.1, 0.5, 0.5))
    axes.set_xlim(0, style.size_points(axes)[0])  # a unit is a point
    (label,) = curves.draw_curve(axes, rows([0.5], [10.0]), "at", LOOK, "c", shift=3.0)
    assert label.x == pytest.approx(13.0)


def test_an_undefined_reference_has_neither_line_nor_label() -> None:
    figure = style.new_figure("column", 2.0)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 5), ylim=(0, 100))
    assert curves.draw_reference(axes, (math.nan,) * 3, LOOK, "none") == []
    (label,) = curves.draw_reference(axes, (40.0, 30.0, 45.0), LOOK, "r")
    assert (label.x, label.y) == (5, 40) and artist(figure, "none") is None
    band = artist(figure, "r.band").get_bbox()
    np.testing.assert_allclose((band.y0, band.y1), (30, 45))


def test_curves_stand_evenly_about_their_places() -> None:
    assert curves.shifts(1, 3.0) == [0.0] and curves.shifts(2, 3.0) == [-1.5, 1.5]
    assert curves.shifts(3, 2.0) == [-2.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.31, 0.47], (20, 70)),  # with intervals 0.21 to 0.67
        ([0.05], (0, 30)),
        ([0.95], (80, 100)),
        ([math.nan], (0, 100)),
    ],
)
def test_an_axis_of_accuracy_is_whole_tens_around_what_is_drawn(
    values: list[float], expected: tuple[float, float]
) -> None:
    figure = style.new_figure("column", 2.0)
    axes = figure.add_subplot()
    curves.accuracy_axis(axes, [rows(values, list(range(len(values))))])
    low, high = axes.get_ylim()
    room = 0.03 * (expected[1] - expected[0])
    assert (low, high) == pytest.approx((expected[0] - room, expected[1] + room))


def test_steps_begin_at_0_and_a_single_length_has_room() -> None:
    figure = style.new_figure("column", 2.0)
    axes = figure.add_subplot()
    curves.step_axis(axes, [50.0, 100.0])
    assert axes.get_xticks().tolist() == [0, 50, 100]
    curves.length_axis(axes, [7.0])
    assert axes.get_xlim() == pytest.approx((5.92, 8.08))


def test_words_of_captions() -> None:
    frame = pd.DataFrame(
        {
            "level": [0.95, 0.9, 0.95],
            "method": ["b", "", "a"],
            "checkpoint": ["x", "x", "y"],
            "training_seed": [0.0, 1.0, 0.0],
        }
    )
    assert words.levels(frame) == "90 % / 95 %" and words.methods(frame) == "a; b"
    assert words.per_arm(frame, "seed") == "1 to 2 seeds per arm"
    assert words.per_arm(frame[:1], "run") == "1 run per arm"
    assert words.span([1200.0, 3.0]) == "3 to 1,200" and words.span([3, 3]) == "3"
    assert words.printed("avg_at_4") == "avg@4" and words.samples("pass_at_16") == 16
