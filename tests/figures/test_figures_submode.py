"""The figure of sub-mode commitment, from stored tables alone: its artists hold their numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page, bars
from figure_parts import artist, texts

from decaylab.analyses.submode import Settings, measure, measure_styles
from decaylab.figures import style, submode
from decaylab.paper import publication
from decaylab.runs import measurements as table
from decaylab.tokens.token_table import Scored, TokenTable

QUANTITIES = [
    "equals_teacher_top1",
    "in_teacher_top2to5",
    "outside_teacher_top5",
    "student_top1_probability",
]


def scored_tokens(seed: int) -> TokenTable:
    rng = np.random.default_rng(seed)
    lengths, problems = np.full(24, 30), np.repeat(np.arange(12), 2)
    columns = {
        "reverse_kl": rng.exponential(1, 720).astype(np.float32),
        "student_top1_rank": rng.integers(1, 9, 720).astype(np.int32),
        "student_top1_probability": rng.uniform(0.3, 1, 720).astype(np.float32),
        "teacher_top2_probability": np.random.default_rng(0)
        .uniform(0, 0.3, 720)
        .astype(np.float32),
    }
    return TokenTable(lengths, problems, 12, columns)


def stored_frame(folder: Path, *names: str, wordy: bool = True) -> pd.DataFrame:
    """Measurements of base and these checkpoints, written and read back; fresh and frozen tokens
    differ."""
    scored = [Scored("base", view, scored_tokens(0)) for view in ("fresh", "frozen")]
    for i, name in enumerate(names):
        scored += [
            Scored(name, "fresh", scored_tokens(100 + i)),
            Scored(name, "frozen", scored_tokens(200 + i)),
        ]
    frames = [measure(scored, Settings(share=0.3))]
    if wordy:
        rows = {
            "problem_id": ["p0", "p1", "p2"],
            "text": ["1+1=2", "1+2=3", "1+3=4"],
            "response_ids": [[1]] * 3,
        }
        styles = pd.DataFrame({**rows, "stop_reason": "eos"})
        frames.append(measure_styles(dict.fromkeys(("base", *names), styles), Settings()))
    table.write(pd.concat(frames, ignore_index=True), folder / "measurements.parquet")
    return table.read(folder / "measurements.parquet")


def rows(
    frame: pd.DataFrame, condition: str, view: str, name: str, ending: str = ""
) -> pd.DataFrame:
    query = frame[
        (frame.condition == condition) & (frame["view"] == view) & (frame.checkpoint == name)
    ]
    return query.set_index("what").loc[[one + ending for one in QUANTITIES]]


def test_each_panel_holds_the_numbers_of_its_set(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = submode.draw(frame)
    for panel, condition, view in (
        ("a", "common", "frozen"),
        ("b", "common, two modes", "frozen"),
        ("c", "own", "fresh"),
        ("d", "own, two modes", "fresh"),
    ):
        for name in ("base", "late"):
            expected = rows(frame, condition, view, name)
            found = artist(figure, f"{panel}.{name}").get_xdata()[:4]
            np.testing.assert_allclose(found, expected.value * 100)
            np.testing.assert_allclose(
                bars(figure, f"{panel}.{name}")[:4], expected[["low", "high"]] * 100
            )
    other = rows(frame, "own", "frozen", "late").value * 100
    assert not np.allclose(artist(figure, "c.late").get_xdata()[:4], other), (
        "own sets are those of the own rollouts"
    )


def test_changes_are_drawn_around_zero_in_points(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late")
    figure = submode.draw(frame)
    line = artist(figure, "e.late")
    expected = rows(frame, "common", "frozen", "late", "_change").value * 100
    np.testing.assert_allclose(line.get_xdata(), expected)
    low, high = line.axes.get_xlim()
    assert low == -high and artist(figure, "e.base") is None


def test_noise_floor_is_drawn_to_twice_its_size_and_told(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late", wordy=False).assign(noise_floor=0.02)
    frame["under_floor"] = frame.value.abs() < 0.04
    figure = submode.draw(frame)
    level = figure.findobj(lambda one: one.get_gid() == "a.base.floor")
    change = figure.findobj(lambda one: one.get_gid() == "e.late.floor")
    np.testing.assert_allclose([(one.get_x(), one.get_width()) for one in level], [(0, 4)] * 5)
    np.testing.assert_allclose([(one.get_x(), one.get_width()) for one in change], [(-4, 8)] * 4)
    assert "2.0e-02 fraction" in submode.details(frame)


def test_without_a_checkpoint_there_is_one_set(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    figure = submode.draw(frame)
    assert len(figure.axes) == 3, "all positions, two modes, wordy"
    np.testing.assert_allclose(
        artist(figure, "a.base").get_xdata()[:4], rows(frame, "own", "fresh", "base").value * 100
    )
    assert (
        "own set" not in submode.details(frame).lower()
        and "change" not in submode.details(frame).lower()
    )


def test_wordy_share_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    figure = submode.draw(stored_frame(tmp_path, "late"))
    assert artist(figure, "g.late").get_xdata().tolist() == [0.0]
    assert "erbose" not in texts(submode.draw(stored_frame(tmp_path, "late", wordy=False)))


def test_published_shares_stand_hollow_in_a_panel_of_their_own(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, "late"), publication.submode()
    figure = submode.draw(frame, published=published)
    line = artist(figure, "h.published.esr-100")
    np.testing.assert_allclose(line.get_xdata()[:4], [41.9, 47.4, 10.7, 79.0])
    assert (
        line.get_markerfacecolor() == "white" and artist(figure, "h.published.esr-100.bars") is None
    )
    assert line.axes is not artist(figure, "c.late").axes
    assert "another pair" in submode.details(frame, published)
    assert artist(submode.draw(frame), "h.published.esr-100") is None


def test_caption_says_which_tokens_and_how_many(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "late").assign(level=0.9)
    text = submode.details(frame)
    for part in (
        "mean over the 30 % of tokens",
        "averaged over the models",
        "12 problems",
        "24 rollouts",
        "216 tokens",
        "90 %",
    ):
        assert part in text, part
    two = int(rows(frame, "common, two modes", "frozen", "base").tokens.iloc[0])
    assert f"{two} tokens" in text


@pytest.mark.parametrize(("count", "width"), [(0, "page"), (1, "column"), (5, "page")])
def test_any_number_of_checkpoints_fits_the_page(
    count: int, width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, *[f"ckpt-{i}" for i in range(count)])
    apart_on_the_page(
        submode.draw(
            frame, published=publication.submode(), width=width, title="a teacher after a student"
        )
    )


def test_undefined_numbers_are_dashes(tmp_path: Path) -> None:
    figure = submode.draw(
        stored_frame(tmp_path, "late").assign(value=math.nan, low=math.nan, high=math.nan)
    )
    assert (
        np.isnan(artist(figure, "a.base").get_xdata()).all()
        and artist(figure, "a.base.bars") is None
    )
    assert "\u2013" in texts(figure) and "nan" not in texts(figure)


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path)
    with pytest.raises(ValueError, match="no equals_teacher_top1"):
        submode.draw(frame[frame.what == "wordy_share"])
