"""The figure of KL by category, from stored tables alone: its artists hold their numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page, bars
from category_cells import cells, stored_frame
from figure_parts import artist, texts
from matplotlib.text import Text

from decaylab.figures import category_kl, category_map, high_kl_tokens, style
from decaylab.paper import publication


def test_maps_hold_the_tables_numbers_in_colour_and_in_writing(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = category_kl.draw(frame)
    for name in ("base", "late"):
        mesh, expected = artist(figure, f"map.{name}"), cells(frame, name)
        found = np.ma.filled(mesh.get_array().astype(float), np.nan)
        np.testing.assert_allclose(found.ravel(), expected.value)
        written = [one for one in mesh.axes.texts if one.get_gid() is None]
        at = {one.get_position(): one.get_text() for one in written}
        for i, value in enumerate(expected.value):
            assert at[i % 3 + 0.5, i // 3 + 0.5] == category_map.number_text(value)
    limits = [artist(figure, f"map.{name}").get_clim() for name in ("base", "late")]
    both = pd.concat([cells(frame, "base"), cells(frame, "late")]).value.max()
    assert limits == [(0.0, both)] * 2, "one scale of colours for all that was measured"


def test_numbers_in_cells_keep_their_size() -> None:
    shown = [
        category_map.number_text(value) for value in (12.34, 0.526, 0.01, 0.00321, 0.0, math.nan)
    ]
    assert shown == ["12.3", "0.53", "0.01", "3e-3", "0.00", "\u2013"]


def test_columns_are_named_by_the_edges_of_their_bins(tmp_path: Path) -> None:
    axes = artist(category_kl.draw(stored_frame(tmp_path)), "map.base").axes
    assert [one.get_text() for one in axes.get_xticklabels()] == ["0", "5", "20", "\u221e"]
    assert axes.get_xticks().tolist() == [0, 1, 2, 3]


def test_cells_say_when_they_are_unsure_and_when_the_floor_is_near(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    chosen, robust = frame.what == "reverse_kl", frame.what == "winsorised_reverse_kl"
    frame.loc[robust, ["value", "low", "high"]] = [1.0, 0.9, 1.1]
    plain = category_kl.draw(frame)
    index = frame[chosen & (frame["view"] == "frozen")].index
    frame.loc[frame[robust & (frame["view"] == "frozen")].index[0], ["low", "high"]] = [0.4, 1.5]
    frame.loc[index[1], "under_floor"] = True
    marked = category_kl.draw(frame)

    def italics(figure: object) -> int:
        return sum(one.get_style() == "italic" for one in figure.findobj(Text))

    assert (italics(plain), italics(marked)) == (0, 1)
    assert artist(plain, "under-floor") is None and artist(marked, "under-floor") is not None


def test_shares_of_tokens_and_kl_are_dots_with_intervals(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = category_kl.draw(frame)
    frozen = frame[frame["view"] == "frozen"]
    for gid, what, name in (
        ("c.tokens", "token_share", "base"),
        ("c.base", "kl_share", "base"),
        ("c.late", "kl_share", "late"),
    ):
        expected = frozen[(frozen.what == what) & (frozen.checkpoint == name)]
        np.testing.assert_allclose(artist(figure, gid).get_xdata(), expected.value * 100)
        known = expected[expected.low.notna()]
        np.testing.assert_allclose(bars(figure, gid), known[["low", "high"]] * 100)


def test_tokens_are_those_of_the_highest_mean_of_base_with_count_and_share(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = category_kl.draw(frame)
    frozen = frame[(frame["view"] == "frozen")].set_index("token")
    base = frozen[(frozen.what == "token_mean_reverse_kl") & (frozen.checkpoint == "base")]
    expected = base.sort_values("value", ascending=False)
    line = artist(figure, "d.base")
    np.testing.assert_allclose(line.get_xdata(), expected.value)
    assert artist(figure, "d.base.bars") is None, "a plain mean has no interval"
    late = frozen[(frozen.what == "token_mean_reverse_kl") & (frozen.checkpoint == "late")].value
    np.testing.assert_allclose(artist(figure, "d.late").get_xdata(), late.reindex(expected.index))
    written = {one.get_text() for one in line.axes.texts}
    share = frozen[(frozen.what == "token_kl_share") & (frozen.checkpoint == "base")].value
    for token in expected.index:
        assert {f"{expected.tokens[token]:,}", f"{share[token] * 100:.1f}"} <= written, token


def test_tokens_are_shown_as_they_are_white_space_and_all(tmp_path: Path) -> None:
    figure = category_kl.draw(stored_frame(tmp_path))
    names = [one.get_text() for one in artist(figure, "c.base").axes.get_yticklabels()]
    assert {"$x$", "\u2423add", "\u21b5", "\u2423\\u4e2d\u2026", "</s>"} <= set(names)
    assert not any(one.get_parse_math() for one in figure.findobj(Text) if "$" in one.get_text())


def test_what_the_font_lacks_is_shown_by_its_code_and_long_tokens_are_cut() -> None:
    assert high_kl_tokens.printable(" \t\n") == "\u2423\u21e5\u21b5"
    assert (
        high_kl_tokens.printable("\u4e2d") == "\\u4e2d"
        and high_kl_tokens.printable("\x07") == "\\u0007"
    )
    assert high_kl_tokens.printable("e\u0301") == "e\\u0301", (
        "an accent of its own is no letter with an accent"
    )
    assert (
        high_kl_tokens.printable("a" * 13) == "a" * 12 + "\u2026"
        and high_kl_tokens.printable("a" * 12) == "a" * 12
    )


def test_checkpoints_without_frozen_tokens_are_shown_on_their_own(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    fresh = frame[frame["view"] == "fresh"]
    figure = category_kl.draw(fresh)
    found = np.ma.filled(artist(figure, "map.late").get_array().astype(float), np.nan)
    expected = fresh[(fresh.what == "reverse_kl") & (fresh.checkpoint == "late")].value
    np.testing.assert_allclose(found.ravel(), expected)
    assert "late, own" in texts(figure) and "late, own" not in texts(category_kl.draw(frame))
    assert "same tokens for all" in category_kl.details(frame)
    assert "same tokens for all" not in category_kl.details(fresh)


def test_published_map_is_grey_and_on_its_own_scale(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, "late"), publication.kl_by_category()
    figure = category_kl.draw(frame, published=published)
    mesh = artist(figure, "map.published")
    np.testing.assert_allclose(mesh.get_array()[0], [4.50, 0.79, 1.49, 1.66, 1.49, 2.37])
    red, green, blue, _ = mesh.get_cmap()(1.0)
    assert red == green == blue and mesh.get_clim() == (0.0, 9.23)
    text = category_kl.details(frame, published)
    assert "arXiv 2605.27028" in text and "another pair" in text and "(c, grey)" in text
    assert artist(category_kl.draw(frame), "map.published") is None


def test_caption_holds_counts_estimand_and_level(tmp_path: Path) -> None:
    text = category_kl.details(stored_frame(tmp_path, "late").assign(level=0.9))
    for part in (
        "12 problems",
        "24 rollouts",
        "720 tokens",
        "mean over tokens",
        "90 %",
        "(a to b)",
        "not measured",
    ):
        assert part in text, part


@pytest.mark.parametrize(("count", "width"), [(0, "page"), (1, "column"), (2, "page"), (5, "page")])
def test_any_number_of_checkpoints_fits_the_page(
    count: int, width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *[f"ckpt-{i}" for i in range(count)])
    apart_on_the_page(
        category_kl.draw(
            frame, published=publication.kl_by_category(), width=width, title="teacher, student"
        )
    )


@pytest.mark.parametrize("edges", [(0,), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20)])
def test_any_number_of_bins_fits_the_page(edges: tuple[int, ...], tmp_path: Path) -> None:
    figure = category_kl.draw(stored_frame(tmp_path, edges=edges))
    apart_on_the_page(figure)
    assert artist(figure, "map.base").get_array().shape[1] == len(edges)


def test_undefined_numbers_are_dashes(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late").assign(value=math.nan, low=math.nan, high=math.nan)
    figure = category_kl.draw(frame)
    apart_on_the_page(figure)
    assert "\u2013" in texts(figure) and "nan" not in texts(figure)
    assert artist(figure, "c.base.bars") is None


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    with pytest.raises(ValueError, match="no reverse_kl by category"):
        category_kl.draw(frame[frame.what == "kl_share"], published=publication.kl_by_category())
