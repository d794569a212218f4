"""The heat maps of category and position, from stored tables alone: their artists hold their
numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from category_cells import EDGES, cells, stored_frame
from figure_parts import artist, texts

from decaylab.figures import category_map, style
from decaylab.paper import publication


@pytest.mark.parametrize("width", ["page", "column"])
def test_each_model_has_a_map_with_the_tables_numbers(width: style.Width, tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "early", "late")
    figure = category_map.draw(frame, width=width)
    for name in ("base", "early", "late"):
        mesh, expected = artist(figure, f"map.{name}"), cells(frame, name)
        found = np.ma.filled(mesh.get_array().astype(float), np.nan)
        np.testing.assert_allclose(found.ravel(), expected.value)
        written = {one.get_position(): one.get_text() for one in mesh.axes.texts}
        for i, value in enumerate(expected.value):
            assert written[i % len(EDGES) + 0.5, i // len(EDGES) + 0.5] == category_map.number_text(
                value
            )
    assert [one.get_title(loc="left") for one in figure.axes] == [
        "a  Reverse KL (nats), base student",
        "b  Reverse KL (nats), early",
        "c  Reverse KL (nats), late",
    ]


def test_measured_maps_share_a_scale_and_the_published_one_has_its_own_in_grey(
    tmp_path: Path,
) -> None:
    frame, published = stored_frame(tmp_path, "late"), publication.kl_by_category()
    figure = category_map.draw(frame, published=published)
    most = pd.concat([cells(frame, "base"), cells(frame, "late")]).value.max()
    assert [artist(figure, f"map.{name}").get_clim() for name in ("base", "late")] == [
        (0.0, most)
    ] * 2
    mesh = artist(figure, "map.published")
    np.testing.assert_allclose(mesh.get_array()[4], [8.84, 9.23, 6.50, 4.95, 2.97, 1.87])
    red, green, blue, _ = mesh.get_cmap()(0.9)
    assert red == green == blue and mesh.get_clim() == (0.0, 9.23)
    styles = {one.get_style() for one in mesh.axes.texts}
    assert styles == {"normal"}, "italics say that an interval is wide; none was published"
    text = category_map.details(frame, published)
    assert "(c, grey) Published, arXiv 2605.27028" in text and "another pair" in text
    assert artist(category_map.draw(frame), "map.published") is None
    assert "ublished" not in category_map.details(frame)


def test_a_map_alone_fills_the_page(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)

    def inches(figure: object) -> float:
        return float(figure.axes[0].get_position().width * figure.get_size_inches()[0])

    assert inches(category_map.draw(frame)) > 5.5
    assert inches(category_map.draw(frame, published=publication.kl_by_category())) < 2.5


def test_checkpoints_without_frozen_tokens_are_shown_on_their_own_and_say_so(
    tmp_path: Path,
) -> None:
    frame = stored_frame(tmp_path, "late")
    fresh = frame[frame["view"] == "fresh"]
    figure = category_map.draw(fresh)
    found = np.ma.filled(artist(figure, "map.late").get_array().astype(float), np.nan)
    expected = fresh[(fresh.what == "reverse_kl") & (fresh.checkpoint == "late")].value
    np.testing.assert_allclose(found.ravel(), expected)
    assert "late, own" in texts(figure) and "late, own" not in texts(category_map.draw(frame))
    assert "same tokens for all" in category_map.details(frame)
    assert "same tokens for all" not in category_map.details(fresh)


def test_caption_holds_counts_estimand_level_and_floor(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late").assign(level=0.9)
    text = category_map.details(frame)
    for part in (
        "12 problems",
        "24 rollouts",
        "720 tokens",
        "mean over tokens",
        "90 %",
        "winsorised means",
        "(a to b)",
        "not measured",
    ):
        assert part in text, part
    chosen = frame[(frame.what == "reverse_kl") & (frame["view"] == "frozen")].index
    frame.loc[chosen, "noise_floor"] = 0.004
    frame.loc[chosen[:2], "under_floor"] = True
    assert f"at most 4.0e-03 nats; under twice it 2 of {len(chosen)} cells" in category_map.details(
        frame
    )


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("with_paper", [False, True])
def test_any_number_of_maps_fits_the_page(
    count: int, width: style.Width, with_paper: bool, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *[f"full-seed-{i}/step-000050" for i in range(count)])
    published = publication.kl_by_category() if with_paper else None
    apart_on_the_page(
        category_map.draw(frame, published=published, width=width, title="teacher after student")
    )


def test_undefined_numbers_are_dashes(tmp_path: Path) -> None:
    figure = category_map.draw(
        stored_frame(tmp_path).assign(value=math.nan, low=math.nan, high=math.nan)
    )
    assert "\u2013" in texts(figure) and "nan" not in texts(figure)


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    for other in (frame[frame.what == "kl_share"], frame.assign(category="")):
        with pytest.raises(ValueError, match="no reverse_kl by category"):
            category_map.draw(other, published=publication.kl_by_category())
        with pytest.raises(ValueError, match="no reverse_kl by category"):
            category_map.details(other)
