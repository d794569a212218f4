"""The figure of the signals holds the table's numbers, for any number of checkpoints."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from signal_rows import CENTRES, FEW, PROBLEMS, SIGNALS, frame_of, gids, rows

from decaylab.figures import signals, style
from decaylab.maths.selection import COMPARED
from decaylab.paper import publication
from decaylab.runs import measurements as table


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two checkpoints, written and read back: what a figure is drawn from."""
    path = tmp_path_factory.mktemp("run") / "measurements.parquet"
    table.write(frame_of(FEW), path)
    return table.read(path)


def artist(figure: Figure, gid: str) -> Any:
    found: list[Artist] = figure.findobj(lambda one: one.get_gid() == gid)
    assert len(found) == 1, f"{gid} is drawn {len(found)} times"
    return found[0]


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


@pytest.mark.parametrize("width", ["page", "column"])
def test_signals_stand_at_the_centres_of_their_bins_with_their_bars(
    stored: pd.DataFrame, width: style.Width
) -> None:
    figure = signals.draw(stored, width=width)
    for (panel, what), name in itertools.product(zip("abc", SIGNALS, strict=True), FEW):
        curve = rows(stored, f"winsorised_{what}", "all", name)
        np.testing.assert_allclose(
            artist(figure, f"{panel}.{name}").get_xydata(), np.array([CENTRES, curve.value]).T
        )
        bars = [segment[:, 1] for segment in artist(figure, f"{panel}.{name}.bars").get_segments()]
        np.testing.assert_allclose(bars, curve[["low", "high"]])


@pytest.mark.parametrize(
    ("panel", "condition", "horizon"), [("d", "survivors", 50), ("e", "mass", 60)]
)
def test_cumulative_shares_rise_from_none_at_0_to_all_at_the_horizon(
    stored: pd.DataFrame, panel: str, condition: str, horizon: int
) -> None:
    figure = signals.draw(stored)
    for name in FEW:
        curve = rows(stored, "cumulative_kl_share", condition, name).dropna(subset="value")
        line = artist(figure, f"{panel}.{name}").get_xydata()
        length = rows(stored, "cumulative_kl_position", condition, name).value.iloc[0]
        ends = curve[["position_high", "value"]].to_numpy() * [1, 100]
        expected = np.vstack([ends, [[length, 45.0]]])
        np.testing.assert_allclose(line[1:-1], expected[expected[:, 0].argsort()])
        assert line[0].tolist() == [0, 0] and line[-1, 1] == 100
        assert (
            line[-1, 0]
            == rows(stored, "cumulative_kl_horizon", condition, name).value.iloc[0]
            == horizon
        )
        bars = [segment[:, 1] for segment in artist(figure, f"{panel}.{name}.bars").get_segments()]
        np.testing.assert_allclose(bars, curve[["low", "high"]] * 100)
    assert artist(figure, f"{panel}.threshold").get_ydata() == [45, 45]


@pytest.mark.parametrize(("panel", "condition"), [("d", "survivors"), ("e", "mass")])
def test_n_is_marked_with_its_interval_and_written_out_with_its_horizon(
    stored: pd.DataFrame, panel: str, condition: str
) -> None:
    figure = signals.draw(stored)
    for name in FEW:
        row = rows(stored, "cumulative_kl_position", condition, name).iloc[0]
        assert artist(figure, f"{panel}.{name}.N").get_xdata() == [row.value]
        bar = artist(figure, f"{panel}.{name}.N.bars").get_segments()[0]
        np.testing.assert_allclose(bar[:, 0], [row.low, row.high])
        number = f"{row.value:.0f} [{row.low:.0f}, {row.high:.0f}]"
        assert number in texts(figure)
        assert (
            f"{name} {number} (horizon {50 if condition == 'survivors' else 60} tokens"
            in signals.details(stored)
        )


def test_concentration_and_selectors_are_dots_in_the_tables_order(stored: pd.DataFrame) -> None:
    figure = signals.draw(stored)
    conditions = ["top-10-tokens", "top-1-percent", "top-5-percent", "top-10-percent"]
    for panel, what, names, scale in (
        ("f", "kl_concentration", conditions, 100),
        ("g", "selector_kl_share", list(COMPARED), 100),
        ("h", "selector_mean_position", list(COMPARED), 1),
    ):
        for name in FEW:
            own = pd.concat([rows(stored, what, condition, name) for condition in names])
            line = artist(figure, f"{panel}.{name}")
            np.testing.assert_allclose(line.get_xdata(), own.value * scale)
            assert np.round(line.get_ydata()).tolist() == list(range(len(names))), (
                "each within its own row"
            )
            bars = [
                segment[:, 0] for segment in artist(figure, f"{panel}.{name}.bars").get_segments()
            ]
            # The prefix has one mean position in all problems, hence no interval.
            np.testing.assert_allclose(bars, own[["low", "high"]].dropna() * scale)


def test_the_overlap_map_holds_every_pair_once_under_the_names_of_its_rows(
    stored: pd.DataFrame,
) -> None:
    figure = signals.draw(stored)
    shown = np.ma.filled(artist(figure, "i.overlap").get_array(), np.nan)
    names = list(COMPARED)
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        expected = rows(stored, "selector_overlap", f"{first}|{second}", "base").value.iloc[0] * 100
        np.testing.assert_allclose(shown[j, i], expected)
        assert np.isnan(shown[i, j])
    assert len({round(value, 6) for value in shown[~np.isnan(shown)]}) > 20, (
        "a case in which a swap would be seen"
    )
    labels = [one.get_text() for one in figure.axes[-3].get_yticklabels()]
    assert (
        labels[0] == "prefix  1"
        and labels[4] == "KL  5"
        and labels[8] == "teacher H \u00d7 student H  9"
    )


def test_the_noise_floor_is_drawn_to_twice_its_size(stored: pd.DataFrame) -> None:
    figure = signals.draw(stored)
    assert artist(figure, "c.floor").get_paths()[0].vertices[:, 1].max() == 0.02
    assert artist(figure, "g.floor").get_extents().width > 0
    assert artist(figure, "g.floor").get_width() == 2  # 2 x 0.01, per cent
    assert artist(figure, "h.floor").get_width() == 0.02
    none = gids(signals.draw(stored.assign(noise_floor=math.nan)))
    assert not {gid for gid in none if gid.endswith(".floor")}


def test_published_signals_are_drawn_only_when_given_and_cannot_be_taken_for_measured(
    stored: pd.DataFrame,
) -> None:
    assert not {gid for gid in gids(signals.draw(stored)) if "published" in gid}
    figure = signals.draw(stored, published=publication.three_signals())
    for what, first in (("student_entropy", 1.07), ("teacher_entropy", 0.25), ("reverse_kl", 4.5)):
        line = artist(figure, f"published.{what}")
        np.testing.assert_allclose(line.get_xydata()[0], (5, first))
        assert line.get_linestyle() == "--" and line.get_markerfacecolor() == "white"
        assert to_hex(line.get_color()) == style.PUBLISHED
        assert f"published.{what}.bars" not in gids(figure), "no interval was published"
    for said in (signals.details(stored, publication.three_signals()), " ".join(texts(figure))):
        assert "another pair" in said
    assert "published" not in signals.details(stored)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_student_has_its_own_look_and_stands_in_the_key(count: int) -> None:
    names = ("base", *(f"step-{i}" for i in range(count)))
    figure = signals.draw(frame_of(names))
    lines = [artist(figure, f"c.{name}") for name in names]
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in lines}) == count + 1
    key = [one.get_text() for legend in figure.legends for one in legend.get_texts()]
    assert key == (["base student", *names[1:]] if count else []), "a single student needs no key"


def test_what_is_undefined_is_not_drawn(stored: pd.DataFrame) -> None:
    nothing = stored.assign(**dict.fromkeys(["value", "low", "high"], math.nan))
    figure = signals.draw(nothing)
    assert not {
        gid for gid in gids(figure) if gid.endswith((".bars", ".N", *(f".{name}" for name in FEW)))
    }
    assert texts(figure).count("no value") == 3 and "undefined" in signals.details(nothing)


def test_a_single_bin_has_no_shares_but_still_n() -> None:
    frame = frame_of(("base",), (0,))
    figure = signals.draw(frame)
    assert len(artist(figure, "c.base").get_xdata()) == 1
    (length,) = rows(frame, "cumulative_kl_position", "survivors", "base").value
    expected = [[0, 0], [length, 45], [50, 100]]
    np.testing.assert_allclose(artist(figure, "d.base").get_xydata(), expected)
    assert artist(figure, "d.base.N").get_xdata() == [length]


def test_captions_hold_estimands_level_counts_and_what_was_left_out(stored: pd.DataFrame) -> None:
    text = signals.details(stored.assign(level=0.9))
    counted = PROBLEMS * (50 + 8 + 30) + 10
    parts = (
        "winsorised mean of problem means",
        "90 %",
        "selectors of 10 tokens",
        "45 % is reached",
        "percentile bootstrap",
        f"base {PROBLEMS} problems, {3 * PROBLEMS} rollouts, {counted:,} tokens",
        "1.0e-02 nats",
        f"base {PROBLEMS} rollouts of at most 10 tokens, left out",
    )
    for part in parts:
        assert part in text, part


@pytest.mark.parametrize(
    "checkpoints", [("base",), FEW, ("base", *(f"run/step-{i}" for i in range(5)))]
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_text_stays_on_the_page_and_apart(checkpoints: tuple[str, ...], width: style.Width) -> None:
    figure = signals.draw(frame_of(checkpoints), published=publication.three_signals(), width=width)
    with style.context():
        figure.draw(figure.canvas.get_renderer())
        shown = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text()]
        boxes = [(one.get_text(), Text.get_window_extent(one)) for one in shown]
    assert min(float(one.get_fontsize()) for one in shown) >= 7.0
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0.5 or up <= 0.5, f"{one!r} overlaps {other!r}"


def test_the_same_table_gives_the_same_bytes(stored: pd.DataFrame, tmp_path: Path) -> None:
    first, again = (
        style.save(signals.draw(stored), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_a_table_without_reverse_kl_is_refused(stored: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no winsorised_reverse_kl"):
        signals.draw(stored[stored.what != "winsorised_reverse_kl"])
