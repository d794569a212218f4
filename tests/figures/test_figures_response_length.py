"""The figure of response lengths, from stored tables alone: its artists hold their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from behaviour_figures import apart_on_the_page, bars, stored_frame
from figure_parts import artist, texts
from matplotlib.colors import to_hex

from decaylab.figures import response_length, style
from decaylab.paper import publication

MODELS = ("base", "prefix-20-seed-0", "full-seed-0", "teacher")
QUANTITIES = [f"response_tokens_{name}" for name in ("p10", "p50", "p90", "mean")]


@pytest.mark.parametrize("width", ["page", "column"])
def test_bars_hold_percentiles_and_mean_of_every_model_with_intervals(
    width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *MODELS)
    figure = response_length.draw(frame, width=width)
    assert len(figure.axes) == 1
    for name in MODELS:
        rows = frame[frame.checkpoint == name].set_index("what").loc[QUANTITIES]
        np.testing.assert_allclose(artist(figure, f"a.{name}").get_xdata(), rows.value)
        np.testing.assert_allclose(bars(figure, f"a.{name}"), rows[["low", "high"]])
    assert frame[frame.what == "response_tokens_p10"].value.nunique() > 1, "models that differ"


def test_each_policy_has_its_colour(tmp_path: Path) -> None:
    figure = response_length.draw(stored_frame(tmp_path, *MODELS))
    colours = [to_hex(artist(figure, f"a.{name}").get_color()).upper() for name in MODELS]
    assert colours == [style.STUDENT, style.ESR, style.FULL_ROLLOUT, style.TEACHER]


def test_published_lengths_are_in_their_own_unit_in_the_order_of_the_models(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, *MODELS), publication.response_length()
    figure = response_length.draw(frame, published=published)
    names = ("base", "full-rollout", "esr-100", "teacher")
    lines = [artist(figure, f"b.published.{name}") for name in names]
    np.testing.assert_allclose(lines[2].get_xdata(), [190, 380, 800, 460])
    assert np.all(np.diff([line.get_ydata()[0] for line in lines]) > 0)
    for line in lines:
        assert line.get_markerfacecolor() == "white" and to_hex(line.get_color()) == style.PUBLISHED
        assert line.axes.get_xlabel() == "characters / 3.5"
        assert line.axes is not artist(figure, "a.base").axes
    text = response_length.details(frame, published)
    assert (
        "(b) Grey and hollow, in panels of their own: published, arXiv 2605.27028" in text
        and "not tokens" in text
    )
    assert "published" not in response_length.details(frame)


def test_lengths_of_cut_rollouts_are_lower_bounds(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", cut=0.5)
    assert "\u2265" in texts(response_length.draw(frame))
    assert "lower bound" in response_length.details(frame)
    assert "lower bound" not in response_length.details(stored_frame(tmp_path, "base"))


def test_caption_holds_counts_level_and_only_the_methods_of_lengths(tmp_path: Path) -> None:
    text = response_length.details(stored_frame(tmp_path, "base", "late").assign(level=0.9))
    for part in (
        "15 problems",
        "45 rollouts",
        "tokens",
        "90 %",
        "percentile bootstrap",
        "jackknife",
    ):
        assert part in text, part
    assert "Wilson" not in text, "no share is drawn"


@pytest.mark.parametrize("names", [("base",), MODELS, ("base", *"abcdefg", "teacher")])
@pytest.mark.parametrize("width", ["page", "column"])
def test_any_number_of_models_fits_the_page(
    names: tuple[str, ...], width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *names)
    for published in (None, publication.response_length()):
        apart_on_the_page(
            response_length.draw(
                frame, published=published, width=width, title="teacher after student"
            )
        )


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base")
    other = frame[frame.what == "accuracy"]
    with pytest.raises(ValueError, match="no response length"):
        response_length.draw(other, published=publication.response_length())
    with pytest.raises(ValueError, match="no response length"):
        response_length.details(other)
