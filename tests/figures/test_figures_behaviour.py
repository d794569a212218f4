"""The figure of rollout behaviour, from stored tables alone: its artists hold their numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from behaviour_figures import RULES, apart_on_the_page, bars, stored_frame
from figure_parts import artist, texts
from matplotlib.colors import to_hex

from decaylab.figures import behaviour, style
from decaylab.paper import publication


def test_bars_hold_the_tables_numbers_and_their_intervals(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", "late", "teacher")
    figure = behaviour.draw(frame)
    groups = {
        "a": (
            [
                "response_tokens_p10",
                "response_tokens_p50",
                "response_tokens_p90",
                "response_tokens_mean",
            ],
            1.0,
        ),
        "b": (["natural_stop_share", "several_boxes_share", "repetition_3gram"], 100.0),
        "c": (["accuracy", "accuracy"], 100.0),
    }
    for name in ("base", "late", "teacher"):
        for panel, (quantities, scale) in groups.items():
            own = frame[(frame.checkpoint == name) & frame.what.isin(quantities)]
            own = own.set_index(["what", "condition"])
            conditions = RULES if panel == "c" else [""] * len(quantities)
            rows = own.loc[list(zip(quantities, conditions, strict=True))]
            line = artist(figure, f"{panel}.{name}")
            np.testing.assert_allclose(line.get_xdata(), rows.value * scale)
            known = rows[rows.low.notna()]
            np.testing.assert_allclose(
                bars(figure, f"{panel}.{name}"), known[["low", "high"]] * scale
            )
    assert frame[frame.what == "accuracy"].groupby("checkpoint").value.nunique().max() == 2, (
        "rules that differ"
    )


def test_dots_of_a_group_stand_below_each_other_in_the_order_of_the_models(tmp_path: Path) -> None:
    figure = behaviour.draw(stored_frame(tmp_path, "base", "one", "two", "teacher"))
    heights = np.array(
        [artist(figure, f"a.{name}").get_ydata() for name in ("base", "one", "two", "teacher")]
    )
    assert (np.diff(heights, axis=0) > 0).all() and (heights[0, 1:] > heights[-1, :-1]).all()
    colours = [
        to_hex(artist(figure, f"a.{name}").get_color()).upper() for name in ("base", "teacher")
    ]
    assert colours == [style.STUDENT, style.TEACHER]


def test_lengths_of_cut_rollouts_are_marked_as_lower_bounds(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", cut=0.5)
    bounds = frame.note.str.contains("at least:").sum()
    assert bounds and texts(behaviour.draw(frame)).count("\u2265") == bounds
    assert "lower bound" in behaviour.details(frame)
    assert "lower bound" in behaviour.caption(frame)
    whole = stored_frame(tmp_path, "base")
    assert "\u2265" not in texts(behaviour.draw(whole)) + behaviour.details(whole)


def test_published_lengths_stand_apart_since_their_unit_is_another(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, "base"), publication.response_length()
    figure = behaviour.draw(frame, published=published)
    line = artist(figure, "d.published.base")
    np.testing.assert_allclose(line.get_xdata(), [400, 860, 1500, 990])
    assert line.get_markerfacecolor() == "white" and artist(figure, "d.published.base.bars") is None
    assert (
        line.axes is not artist(figure, "a.base").axes
        and line.axes.get_xlabel() == "characters / 3.5"
    )
    text = behaviour.details(frame, published)
    assert "arXiv 2605.27028" in text and "another pair" in text
    assert artist(behaviour.draw(frame), "d.published.base") is None


def test_caption_holds_counts_level_and_rules(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", "late").assign(level=0.9)
    text = behaviour.details(frame)
    tokens = sorted(frame.groupby("checkpoint").tokens.max())
    for part in (
        "15 problems",
        "45 rollouts",
        f"{tokens[0]:,} to {tokens[1]:,} tokens",
        "90 %",
        "last_boxed, anywhere",
    ):
        assert part in text, part


def test_an_interval_that_runs_away_ends_in_an_arrowhead(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base")
    frame.loc[frame.what == "response_tokens_p50", "high"] = math.inf
    figure = behaviour.draw(frame)
    limit = artist(figure, "a.base").axes.get_xlim()[1]
    assert artist(figure, "a.base.cut").get_xdata().tolist() == [limit]
    assert limit <= 1.05 * 2.5 * frame[frame.what == "response_tokens_p90"].value.iloc[0]
    assert artist(behaviour.draw(stored_frame(tmp_path, "base")), "a.base.cut") is None


def test_a_number_is_drawn_once_as_a_dot(tmp_path: Path) -> None:
    """Neither a bar from zero nor its digits beside the dot."""
    frame = stored_frame(tmp_path, "base", "late")
    figure = behaviour.draw(frame)
    panel = artist(figure, "a.base").axes
    assert not panel.patches, "no bar"
    value = frame[frame.what == "response_tokens_mean"].value.iloc[0]
    assert f"{value:.0f}" not in texts(figure).split("\n")


@pytest.mark.parametrize(
    "names", [("base",), ("base", "one", "two"), ("base", *"abcde", "teacher")]
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_any_number_of_models_fits_the_page(
    names: tuple[str, ...], width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *names)
    apart_on_the_page(
        behaviour.draw(
            frame,
            published=publication.response_length(),
            width=width,
            title="teacher after student",
        )
    )


def test_undefined_numbers_are_dashes(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", "late").assign(
        value=math.nan, low=math.nan, high=math.nan
    )
    figure = behaviour.draw(frame)
    assert (
        np.isnan(artist(figure, "a.base").get_xdata()).all()
        and artist(figure, "a.base.bars") is None
    )
    assert "\u2013" in texts(figure) and "nan" not in texts(figure)


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base")
    with pytest.raises(ValueError, match="no response length"):
        behaviour.draw(frame[frame.what == "accuracy"])


def test_long_names_of_checkpoints_are_cut_and_stay_apart(tmp_path: Path) -> None:
    names = [f"runs/a-very-long-name-of-a-run/with-a-suffix/checkpoint-{i}" for i in range(3)]
    figure = behaviour.draw(stored_frame(tmp_path, "base", *names), width="column")
    apart_on_the_page(figure)
    assert sum("checkpoint-" in line for line in set(texts(figure).split("\n"))) == 3
