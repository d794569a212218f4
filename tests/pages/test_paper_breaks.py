"""A tall figure parts between its rows of panels on paper, and looks whole on the screen."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from decaylab.pages.inlining import drawing
from decaylab.pages.paper_breaks import breaks

SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 70 100">'
    b'<g id="a"><path d="M0 0"/></g></svg>'
)


def panels(height: float, *bottoms: float) -> Figure:
    """A figure of 7 inches with two panels beside each other at each of these heights."""
    figure = Figure((7, height))
    for bottom in bottoms:
        for left in (0.1, 0.6):
            figure.add_axes((left, bottom, 0.3, 0.2))
    return figure


def test_a_tall_figure_parts_between_its_rows() -> None:
    first, second = breaks(panels(8, 0.7, 0.4, 0.1))
    # Panels from 0.1 to 0.3, 0.4 to 0.6 and 0.7 to 0.9 of the height; the numbers at an axis reach
    # a little below it.
    assert first == pytest.approx(0.36, abs=0.015) and second == pytest.approx(0.66, abs=0.015)
    assert 0.3 < first < 0.4 and 0.6 < second < 0.7


def test_a_low_figure_and_one_row_stay_whole() -> None:
    assert breaks(panels(4, 0.7, 0.4, 0.1)) == [] and breaks(panels(8, 0.4)) == []


def test_a_legend_stays_with_the_row_below_it_and_a_panel_beside_two_rows_holds_them() -> None:
    figure = panels(8, 0.6, 0.1)
    figure.text(0.5, 0.97, "legend")
    (only,) = breaks(figure)
    assert 0.4 < only < 0.7
    figure.add_axes((0.45, 0.2, 0.1, 0.5))
    assert breaks(figure) == []


def test_the_parts_of_a_drawing_make_up_the_whole() -> None:
    parts = ElementTree.fromstring(
        f"<div>{drawing(SVG, 'f', 'All', 'wide', breaks=[0.25, 0.6])}</div>"
    )
    views = [[float(one) for one in part.attrib["viewBox"].split()] for part in parts]
    assert views == [[0, 0, 70, 25], [0, 25, 70, 35], [0, 60, 70, 40]]
    whole, *others = parts
    assert whole.attrib["role"] == "img" and whole[0].attrib["id"] == "f-whole"
    assert [one[0].attrib for one in others] == [{"href": "#f-whole"}] * 2
    assert all(one.attrib["aria-hidden"] == "true" for one in others)
