"""The figure of the three signals holds the base student's numbers, with what was published apart
from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from matplotlib.colors import to_hex
from signal_rows import CENTRES, FEW, PROBLEMS, SIGNALS, frame_of, gids, rows

from decaylab.figures import style, three_signals
from decaylab.paper import publication
from decaylab.runs import measurements as table


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two checkpoints, written and read back: what a figure is drawn from."""
    path = tmp_path_factory.mktemp("run") / "measurements.parquet"
    table.write(frame_of(FEW), path)
    return table.read(path)


@pytest.mark.parametrize("width", ["page", "column"])
def test_each_signal_of_the_base_student_stands_in_a_panel_of_its_own_over_the_same_positions(
    stored: pd.DataFrame, width: style.Width
) -> None:
    figure = three_signals.draw(stored, width=width)
    panels = []
    for letter, what, title in zip(
        "bcd", SIGNALS, ("b  Student entropy", "c  Teacher entropy", "d  Reverse KL"), strict=True
    ):
        curve = rows(stored, f"winsorised_{what}", "all", "base")
        line: Any = artist(figure, f"{letter}.base")
        bars: Any = artist(figure, f"{letter}.base.bars")
        np.testing.assert_allclose(line.get_xydata(), np.array([CENTRES, curve.value]).T)
        np.testing.assert_allclose(
            [one[:, 1] for one in bars.get_segments()], curve[["low", "high"]]
        )
        assert line.axes.get_title(loc="left") == title and line.axes.get_ylabel() == "nats"
        panels.append(line.axes)
    assert len(set(panels)) == 3 and len({one.get_xlim() for one in panels}) == 1


def test_checkpoints_are_left_to_the_figure_of_the_signals(stored: pd.DataFrame) -> None:
    figure = three_signals.draw(stored)
    assert not {gid for gid in gids(figure) if "ckpt" in gid}
    assert not figure.legends, "a single student needs no key"
    assert "ckpt" not in three_signals.details(stored)


def test_published_signals_are_grey_dashed_hollow_and_only_there_when_given(
    stored: pd.DataFrame,
) -> None:
    assert not {gid for gid in gids(three_signals.draw(stored)) if "published" in gid}
    assert "published" not in three_signals.details(stored)
    figure = three_signals.draw(stored, published=publication.three_signals())
    for what, first in (("student_entropy", 1.07), ("teacher_entropy", 0.25), ("reverse_kl", 4.5)):
        line: Any = artist(figure, f"published.{what}")
        np.testing.assert_allclose(line.get_xydata()[0], (5, first))
        assert line.get_linestyle() == "--" and line.get_markerfacecolor() == "white"
        assert to_hex(line.get_color()) == style.PUBLISHED
        assert f"published.{what}.bars" not in gids(figure), "no interval was published"
        assert line.axes.get_ylim()[1] > first
    for said in (
        three_signals.details(stored, publication.three_signals()),
        texts(figure),
    ):
        assert "another pair" in said


def test_caption_and_note_hold_counts_level_estimand_and_floor(stored: pd.DataFrame) -> None:
    frame = stored.assign(level=0.9)
    counted = (
        f"{PROBLEMS} problems, {3 * PROBLEMS} rollouts, {PROBLEMS * (50 + 8 + 30) + 10:,} tokens"
    )
    for part in (
        "winsorised mean of problem means",
        "pointwise 90 % intervals",
        "percentile bootstrap over problems",
        counted,
        "1.0e-02 nats",
    ):
        assert part in three_signals.details(frame), part
    for part in (counted, "winsorised means with 90 % intervals"):
        assert part in three_signals.caption(frame), part


def test_the_first_panel_has_the_three_curves_on_one_axis_as_in_the_paper(
    stored: pd.DataFrame,
) -> None:
    figure = three_signals.draw(stored)
    lines: list[Any] = [artist(figure, f"all.{what}") for what in SIGNALS]
    for what, line in zip(SIGNALS, lines, strict=True):
        curve = rows(stored, f"winsorised_{what}", "all", "base")
        np.testing.assert_allclose(line.get_xydata(), np.array([CENTRES, curve.value]).T)
    assert len({line.axes for line in lines}) == 1
    assert len({to_hex(line.get_color()) for line in lines}) == 3


def test_what_is_undefined_is_not_drawn(stored: pd.DataFrame) -> None:
    figure = three_signals.draw(stored.assign(**dict.fromkeys(["value", "low", "high"], math.nan)))
    assert not {gid for gid in gids(figure) if gid.endswith((".base", ".bars"))}
    assert texts(figure).count("no value") == 4


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("width", ["page", "column"])
def test_text_stays_on_the_page_and_apart(
    stored: pd.DataFrame, width: style.Width, published: bool
) -> None:
    theirs = publication.three_signals() if published else None
    apart_on_the_page(three_signals.draw(stored, published=theirs, width=width))


def test_the_same_table_gives_the_same_bytes(stored: pd.DataFrame, tmp_path: Path) -> None:
    first, again = (
        style.save(three_signals.draw(stored), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_a_table_without_the_base_student_is_refused(stored: pd.DataFrame) -> None:
    for call in (three_signals.draw, three_signals.caption):
        with pytest.raises(ValueError, match="no reverse_kl of the base student"):
            call(stored[stored.checkpoint != "base"])


def test_a_signal_keeps_its_colour_and_letters_read_row_by_row(stored: pd.DataFrame) -> None:
    figure = three_signals.draw(stored, published=publication.three_signals())
    for letter, what in zip("bcd", SIGNALS, strict=True):
        alone: Any = artist(figure, f"{letter}.base")
        together: Any = artist(figure, f"all.{what}")
        assert to_hex(alone.get_color()) == to_hex(together.get_color())
    assert to_hex(artist(figure, "c.base").get_color()).upper() == style.TEACHER
    by_place = sorted(figure.axes, key=lambda one: (-one.get_position().y1, one.get_position().x0))
    titles = [one.get_title(loc="left") for one in by_place]
    assert [title[0] for title in titles] == list("abcde")
    assert "shades: 95 % for all bins at once" in three_signals.caption(stored)
