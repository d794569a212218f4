"""The tokens of the highest mean reverse KL, from stored tables alone: artists hold their
numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from category_cells import stored_frame
from figure_parts import artist, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from decaylab.figures import category_kl, high_kl_tokens, style
from decaylab.paper import publication


def of(frame: pd.DataFrame, what: str, name: str = "base", view: str = "frozen") -> pd.DataFrame:
    rows = frame[(frame.what == what) & (frame.checkpoint == name) & (frame["view"] == view)]
    return rows.set_index("token")


def columns(figure: Figure, gid: str) -> list[str]:
    """What is written right of the bars of a panel, the headings first."""
    return [one.get_text() for one in artist(figure, gid).axes.texts]


@pytest.mark.parametrize("width", ["page", "column"])
def test_bars_hold_the_means_of_the_tokens_from_the_highest_down(
    width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = high_kl_tokens.draw(frame, width=width)
    expected = of(frame, "token_mean_reverse_kl").sort_values("value", ascending=False)
    assert 10 < len(expected) <= high_kl_tokens.MOST
    np.testing.assert_allclose(artist(figure, "a.base").get_xdata(), expected.value)
    assert artist(figure, "a.base.bars") is None, "a plain mean has no interval"
    late = of(frame, "token_mean_reverse_kl", "late").value.reindex(expected.index)
    np.testing.assert_allclose(artist(figure, "a.late").get_xdata(), late)
    names = [one.get_text() for one in artist(figure, "a.base").axes.get_yticklabels()]
    assert names == [high_kl_tokens.printable(token) for token in expected.index]


def test_beside_each_token_stand_its_number_and_its_share_of_the_kl(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    expected = of(frame, "token_mean_reverse_kl").sort_values("value", ascending=False)
    share = of(frame, "token_kl_share").value[expected.index]
    written = columns(high_kl_tokens.draw(frame), "a.base")
    half = len(expected) + 1
    assert written[:half] == ["count", *(f"{count:,}" for count in expected.tokens)]
    assert written[half:] == ["KL (%)", *(f"{part * 100:.1f}" for part in share)]
    lacking = frame[~((frame.what == "token_kl_share") & (frame.token == expected.index[0]))]
    assert columns(high_kl_tokens.draw(lacking), "a.base")[half + 1] == "\u2013"


def test_only_the_first_of_many_tokens_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = stored_frame(tmp_path)
    monkeypatch.setattr(high_kl_tokens, "MOST", 3)
    highest = of(frame, "token_mean_reverse_kl").value.nlargest(3)
    np.testing.assert_allclose(artist(high_kl_tokens.draw(frame), "a.base").get_xdata(), highest)
    assert "the 3 with the highest mean reverse KL of the base student" in high_kl_tokens.details(
        frame
    )


def test_published_tokens_are_grey_and_hollow_on_an_axis_of_their_own(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path), publication.high_kl_tokens()
    figure = high_kl_tokens.draw(frame, published=published)
    line = artist(figure, "b.published.base")
    assert list(line.get_xdata())[:3] == [21.93, 16.49, 13.21] and len(line.get_xdata()) == 20
    assert line.get_markerfacecolor() == "white" and to_hex(line.get_color()) == style.PUBLISHED
    assert (
        artist(figure, "b.published.base.bars") is None
        and line.axes is not artist(figure, "a.base").axes
    )
    written = columns(figure, "b.published.base")
    assert written[:3] == ["count", "152", "125"] and "KL (%)" not in written, (
        "no share was published"
    )
    names = [one.get_text() for one in line.axes.get_yticklabels()]
    assert "\u2423First" in names and "First" in names, (
        "with and without a space in front they are two"
    )
    text = high_kl_tokens.details(frame, published)
    assert (
        "(b) Grey and hollow, in panels of their own: published, arXiv 2605.27028" in text
        and "another pair" in text
    )
    assert (
        "published" not in high_kl_tokens.details(frame) + texts(high_kl_tokens.draw(frame)).lower()
    )


def test_the_panel_is_that_of_the_figure_of_categories(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    alone, beside = (
        artist(high_kl_tokens.draw(frame), "a.base"),
        artist(category_kl.draw(frame), "d.base"),
    )
    np.testing.assert_allclose(alone.get_xydata(), beside.get_xydata())


def test_caption_holds_counts_level_and_method(tmp_path: Path) -> None:
    text = high_kl_tokens.details(stored_frame(tmp_path, "late").assign(level=0.9))
    for part in (
        "12 problems",
        "24 rollouts",
        "No intervals",
        "winsorised",
        "those of the base student",
        "not measured",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "names", [(), ("late",), ("full-seed-0", "prefix-20-seed-0", "prefix-20-seed-1")]
)
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("with_paper", [False, True])
def test_any_number_of_models_fits_the_page(
    names: tuple[str, ...], width: style.Width, with_paper: bool, tmp_path: Path
) -> None:
    published = publication.high_kl_tokens() if with_paper else None
    figure = high_kl_tokens.draw(
        stored_frame(tmp_path, *names), published=published, width=width, title="a title"
    )
    apart_on_the_page(figure)


def test_undefined_numbers_leave_no_mark(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path).assign(value=math.nan, low=math.nan, high=math.nan)
    figure = high_kl_tokens.draw(frame)
    assert artist(figure, "a.base.bars") is None and "nan" not in texts(figure)


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    other = frame[frame.what == "reverse_kl"]
    with pytest.raises(ValueError, match="no token_mean_reverse_kl"):
        high_kl_tokens.draw(other, published=publication.high_kl_tokens())
    with pytest.raises(ValueError, match="no token_mean_reverse_kl"):
        high_kl_tokens.details(other)
