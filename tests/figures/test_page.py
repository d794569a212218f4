"""The page of a figure: panels of the size that was given, with title, key and note around them."""

from __future__ import annotations

import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist
from matplotlib.axes import Axes

from decaylab.figures import artists, style
from decaylab.figures.page import Block, balanced, page, staggered

LONG = "A sentence that says what stands in the panels, and how the intervals were made. " * 4
NAMES = ["base student", "prefix-20-seed-0", "full-seed-0", "published, esr-100"] * 2
HANDLES = [artists.handle(artists.Look(name, style.ESR, "s"), line=True) for name in NAMES]


def inches(axes: Axes) -> tuple[float, float, float, float]:
    """Left, bottom, width and height."""
    across, up = style.root(axes).get_size_inches()
    left, bottom, width, height = axes.get_position().bounds
    return left * across, bottom * up, width * across, height * up


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("title", ["", "a teacher after a student", LONG])
def test_title_subtitle_key_and_note_stand_apart_from_the_panels(
    width: style.Width, title: str
) -> None:
    with style.context():
        block = Block([["a", "b"]], [1.0], between=0.6)
        figure, axes = page(width, [block], title=title, subtitle=LONG, handles=HANDLES, note=LONG)
        for name, panel in axes.items():
            panel.set(title=f"{name}  Panel", xlabel="position")
    apart_on_the_page(figure)
    assert (artist(figure, "title") is None) == (title == "")
    assert artist(figure, "subtitle").get_text().endswith("\u2026"), "two lines at most"
    assert artist(figure, "note").get_text().split() == LONG.split()
    key = artist(figure, "key").get_window_extent()
    for panel in axes.values():
        assert panel.get_window_extent().y1 < key.y0


def test_panels_have_the_heights_margins_and_gaps_of_their_block() -> None:
    with style.context():
        mosaic, heights = [["a", "b"], ["c", "."]], [1.5, 0.5]
        block = Block(mosaic, heights, left=0.5, right=0.2, widths=[2, 1], between=0.3, apart=0.4)
        _, axes = page("page", [block])
    a, b, c = (inches(axes[name]) for name in "abc")
    assert a == pytest.approx((0.5, c[1] + 0.5 + 0.4, 2 / 3 * 6.0, 1.5))
    assert b == pytest.approx((0.5 + 4.0 + 0.3, a[1], 2.0, 1.5))
    assert c == pytest.approx((0.5, c[1], 4.0, 0.5))


def test_blocks_stand_below_each_other_each_on_its_own_grid() -> None:
    with style.context():
        blocks = [
            Block([["a"]], [1.0], below=0.4),
            Block([["b", "c"]], [0.7], left=1.0, above=0.3, below=0.2),
        ]
        _, axes = page("column", blocks)
    a, b, c = (inches(axes[name]) for name in "abc")
    assert a[1] - (b[1] + b[3]) == pytest.approx(0.7), "room below the first, above the second"
    assert b[0] == pytest.approx(1.0) and b[1] == c[1] and a[0] == pytest.approx(0.55)


def test_staggered_columns_hold_each_panel_at_its_own_height() -> None:
    columns = [{"a": (0.0, 2.0)}, {"b": (0.0, 0.5), "c": (1.0, 2.0)}]
    with style.context():
        _, axes = page("page", [staggered(columns, Block(left=0.5, right=0.5, between=1.0))])
    a, b, c = (inches(axes[name]) for name in "abc")
    assert [a[3], b[3], c[3]] == pytest.approx([2.0, 0.5, 1.0])
    assert a[1] == pytest.approx(c[1]) and a[1] + a[3] == pytest.approx(b[1] + b[3])
    assert a[2] == pytest.approx(2.5) and b[0] == c[0] == pytest.approx(4.0)


def test_balanced_panels_stand_where_the_page_is_shorter() -> None:
    place = Block(left=0.5, right=0.5, between=1.0, above=0.3, below=0.4)
    heights = {"long": 4.0, "short": 1.0, "second": 1.0, "third": 1.0}
    with style.context():
        _, axes = page("page", [balanced(heights, "page", place)])
        _, single = page("column", [balanced(heights, "column", place)])
    lefts = {name: round(inches(panel)[0], 6) for name, panel in axes.items()}
    assert lefts == {"long": 0.5, "short": 4.0, "second": 4.0, "third": 4.0}
    assert {name: round(inches(axes[name])[3], 6) for name in heights} == heights
    assert len({round(inches(panel)[0], 6) for panel in single.values()}) == 1
    gap = inches(axes["short"])[1] - inches(axes["second"])[1] - 1.0
    assert gap == pytest.approx(place.above + place.below)
