"""The artists that all figures share hold stored values and intervals, as far as the frame goes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_parts import artist
from matplotlib.axes import Axes

from decaylab.figures import artists, style
from decaylab.figures.artists import Look

STUDENT = Look("student", style.ESR, "s")
PUBLISHED = Look("published", style.PUBLISHED, "o", "--")
ROWS = pd.DataFrame(
    {"value": [1.0, 2.0, 3.0], "low": [0.5, math.nan, -5.0], "high": [1.5, math.nan, 99.0]}
)


@pytest.fixture
def axes() -> Iterator[Axes]:
    """From 0 to 4 both ways."""
    with style.context():
        figure = style.new_figure("column", 2.0)
        yield figure.add_subplot(xlim=(0, 4), ylim=(0, 4))


def found(axes: Axes, gid: str) -> Any:
    return artist(style.root(axes), gid)


@pytest.mark.parametrize("upright", [True, False])
def test_values_stand_at_their_places_and_bars_end_at_the_frame(axes: Axes, upright: bool) -> None:
    artists.draw(axes, [1, 2, 3], ROWS, STUDENT, "a", upright=upright)
    points = found(axes, "a").get_xydata()
    np.testing.assert_array_equal(points[:, int(upright)], ROWS.value)
    np.testing.assert_array_equal(points[:, int(not upright)], [1, 2, 3])
    bars = np.array(found(axes, "a.bars").get_segments())
    assert bars[:, :, int(upright)].tolist() == [[0.5, 1.5], [0, 4]], "no bar without an interval"
    assert bars[:, 0, int(not upright)].tolist() == [1, 3]
    heads = [line for line in axes.lines if line.get_gid() == "a.cut"]
    places = [line.get_xydata()[0].tolist() for line in heads]
    assert places == ([[3, 0], [3, 4]] if upright else [[0, 3], [4, 3]])
    assert found(axes, "a").get_linestyle() == ("-" if upright else "None"), "dots are no curve"


def test_intervals_are_scaled_with_their_values(axes: Axes) -> None:
    axes.set_ylim(0, 400)
    artists.draw(axes, [1], ROWS[:1], STUDENT, "a", scale=100)
    assert found(axes, "a").get_ydata().tolist() == [100]
    assert found(axes, "a.bars").get_segments()[0][:, 1].tolist() == [50, 150]


def test_an_infinite_end_is_cut_and_an_undefined_one_leaves_no_bar(axes: Axes) -> None:
    artists.intervals(axes, 1.0, 2.0, math.inf, "red", "a.bars")
    artists.intervals(axes, 1.0, math.nan, 3.0, "red", "b.bars")
    assert found(axes, "a.bars").get_segments()[0][:, 1].tolist() == [2, 4]
    assert found(axes, "a.cut").get_xydata().tolist() == [[1, 4]]
    assert found(axes, "b.bars") is None


def test_an_inverted_axis_cuts_at_its_own_ends(axes: Axes) -> None:
    axes.set_ylim(4, 0)
    artists.intervals(axes, 1.0, -1.0, 2.0, "red", "a.bars")
    assert found(axes, "a.bars").get_segments()[0][:, 1].tolist() == [0, 2]


def test_what_is_published_is_hollow_and_lies_behind(axes: Axes) -> None:
    artists.draw(axes, [1, 2, 3], ROWS, STUDENT, "measured")
    artists.draw(axes, [1, 2, 3], ROWS, PUBLISHED, "published")
    measured, published = found(axes, "measured"), found(axes, "published")
    assert published.get_markerfacecolor() == "white" != measured.get_markerfacecolor()
    assert published.get_linestyle() == "--" and published.get_zorder() < measured.get_zorder()


def test_a_shift_moves_curve_and_bars_by_points_and_changes_no_number(axes: Axes) -> None:
    artists.draw(axes, [1, 2, 3], ROWS, STUDENT, "a", shift=7.2)
    line, dots_per_point = found(axes, "a"), style.root(axes).dpi / 72
    drawn = line.get_transform().transform(line.get_xydata())
    plain = axes.transData.transform(line.get_xydata())
    np.testing.assert_allclose(drawn - plain, [[7.2 * dots_per_point, 0.0]] * 3)
    assert line.get_xdata().tolist() == [1, 2, 3]


def test_a_band_over_a_single_place_can_be_seen(axes: Axes) -> None:
    rows = pd.DataFrame({"band_low": [0.0, 1.0, 0.5, 1.0], "band_high": [2.0, 3.0, 2.5, math.nan]})
    artists.band(axes, [1, 2, 3], rows.iloc[[0, 1, 3]], "red", "area")
    artists.band(axes, [1], rows[2:3], "red", "bar")
    artists.band(axes, [1], rows[3:], "red", "nothing")
    corners = found(axes, "area").get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(1, 0), (1, 2), (2, 1), (2, 3)}
    assert found(axes, "bar").get_segments()[0][:, 1].tolist() == [0.5, 2.5]
    assert found(axes, "nothing") is None


@pytest.mark.parametrize("upright", [True, False])
def test_a_reference_is_a_line_across_with_its_interval_shaded(axes: Axes, upright: bool) -> None:
    artists.across(axes, (2.0, 1.0, 3.0), STUDENT, "a", upright=upright)
    artists.across(axes, (2.0, math.nan, math.nan), STUDENT, "bare", upright=upright)
    artists.across(axes, (math.nan,) * 3, STUDENT, "none", upright=upright)
    line, shade = found(axes, "a").get_xydata(), found(axes, "a.band").get_bbox()
    assert line[:, int(upright)].tolist() == [2, 2]
    assert (shade.y0, shade.y1) == (1, 3) if upright else (shade.x0, shade.x1) == (1, 3)
    assert found(axes, "bare") and found(axes, "bare.band") is None
    assert found(axes, "none") is None
