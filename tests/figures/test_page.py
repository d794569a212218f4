"""The page of a figure: panels of the size that was given, with title and key above them."""

from __future__ import annotations

import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist
from matplotlib.axes import Axes

from decaylab.figures import artists, style
from decaylab.figures.layout import Block, balanced, page, staggered
from decaylab.figures.page import Part, Sheet

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
def test_title_subtitle_and_key_stand_apart_from_the_panels(width: style.Width, title: str) -> None:
    with style.context():
        block = Block([["a", "b"]], [1.0], between=0.6)
        figure, axes = page(width, [block], title=title, subtitle=LONG, handles=HANDLES)
        for name, panel in axes.items():
            panel.set(title=f"{name}  Panel", xlabel="position")
    apart_on_the_page(figure)
    assert (artist(figure, "title") is None) == (title == "")
    assert artist(figure, "subtitle").get_text().endswith("\u2026"), "two lines at most"
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


def part(title: str, height: float = 1.0, **more: object) -> Part:
    """A panel of its own name, which draws a line."""
    name = title.split()[0]
    block = Block([[name]], [height])

    def draw(axes: dict[str, Axes]) -> None:
        axes[name].plot([0, 1])
        axes[name].set(xticks=[], yticks=[])

    return Part(title, block, draw, **more)


def test_a_page_has_all_panels_with_letters_and_a_panel_alone_has_none() -> None:
    parts = {"a": part("one of two"), "b": part("other of two", handles=HANDLES[:1])}
    sheet = Sheet(parts, [Block([["one", "other"]], [1.0], between=0.6)], "A title")
    whole, panels = sheet.draw("page"), sheet.panels()
    titles = [axes.get_title(loc="left") for axes in whole.axes]
    assert titles == ["a  one of two", "b  other of two"] and artist(whole, "title") is not None
    assert list(panels) == ["a", "b"]
    assert [figure.axes[0].get_title(loc="left") for figure in panels.values()] == [
        "one of two",
        "other of two",
    ]
    assert not panels["a"].legends and len(panels["b"].legends) == 1, "its own key alone"
    assert all(artist(figure, "title") is None for figure in panels.values())


def test_panels_and_pages_that_are_too_high_shrink_and_columns_do_not() -> None:
    parts = {name: part(name, 5.0) for name in ("a", "b")}
    sheet = Sheet(parts)
    assert [figure.get_figheight() for figure in sheet.panels().values()] == pytest.approx([3, 3])
    assert sheet.draw("page").get_figheight() == pytest.approx(8.0)
    assert sheet.draw("column").get_figheight() > 10


def test_gaps_between_panels_stay_where_panels_shrink() -> None:
    columns = [{"a": (0.0, 4.0), "b": (4.7, 9.0)}]
    with style.context():
        _, axes = page("page", [staggered(columns, Block())], room=style.PAGE_HEIGHT)
    a, b = (inches(axes[name]) for name in "ab")
    assert a[1] - (b[1] + b[3]) == pytest.approx(0.7) and a[3] < 4.0


def test_pieces_stand_alone_in_the_place_of_a_panel_that_is_too_long() -> None:
    pieces = [part("first"), part("second")]
    sheet = Sheet({"a": part("whole", pieces=pieces), "b": part("other")})
    assert list(sheet.panels()) == ["a1", "a2", "b"]
    assert len(sheet.draw("column").axes) == 2


def test_a_title_is_folded_within_the_room_of_its_panel() -> None:
    parts = {"a": part("one " + "word " * 12), "b": part("other")}
    sheet = Sheet(parts, [Block([["one", "other"]], [1.0], between=0.6, above=0.8)])
    apart_on_the_page(sheet.draw("page"))
    apart_on_the_page(sheet.panels()["a"])


def test_strips_keep_their_height_where_panels_shrink() -> None:
    block = Block([["a"], ["strip"]], [20.0, 0.3], apart=0.1, fixed=["strip"])
    with style.context():
        _, axes = page("page", [block], room=style.PAGE_HEIGHT)
    assert inches(axes["strip"])[3] == pytest.approx(0.3) and inches(axes["a"])[3] < 8.0
