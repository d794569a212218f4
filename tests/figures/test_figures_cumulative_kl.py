"""The figure of the cumulative KL holds the table's shares and N, of both ways to sum and of every
student."""

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
from signal_rows import FEW, frame_of, gids, rows

from decaylab.figures import cumulative_kl, signals, style
from decaylab.runs import measurements as table

CONDITIONS = ("survivors", "mass")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two checkpoints, written and read back: what a figure is drawn from."""
    path = tmp_path_factory.mktemp("run") / "measurements.parquet"
    table.write(frame_of(FEW), path)
    return table.read(path)


@pytest.mark.parametrize("width", ["page", "column"])
def test_both_curves_hold_the_shares_from_none_at_0_to_all_at_their_own_horizon(
    stored: pd.DataFrame, width: style.Width
) -> None:
    figure = cumulative_kl.draw(stored, width=width)
    for condition, horizon in zip(CONDITIONS, (50, 60), strict=True):
        for name in FEW:
            curve = rows(stored, "cumulative_kl_share", condition, name).dropna(subset="value")
            line: Any = artist(figure, f"{condition}.{name}")
            points = line.get_xydata()
            length = rows(stored, "cumulative_kl_position", condition, name).value.iloc[0]
            ends = curve[["position_high", "value"]].to_numpy() * [1, 100]
            expected = np.vstack([ends, [[length, 45.0]]])
            np.testing.assert_allclose(points[1:-1], expected[expected[:, 0].argsort()])
            assert points[0].tolist() == [0, 0] and points[-1].tolist() == [horizon, 100]
    shares = stored[(stored.what == "cumulative_kl_share") & (stored.checkpoint == "base")].value
    assert shares.nunique() == len(shares), "a case in which a swap of the two would be seen"


def test_the_rule_is_thick_with_intervals_and_the_other_way_thin_beside_it(
    stored: pd.DataFrame,
) -> None:
    figure = cumulative_kl.draw(stored)
    for name in FEW:
        thick: Any = artist(figure, f"survivors.{name}")
        thin: Any = artist(figure, f"mass.{name}")
        bars: Any = artist(figure, f"survivors.{name}.bars")
        assert thick.get_linewidth() > 1.5 * thin.get_linewidth() and thick.axes is thin.axes
        assert thick.get_color() == thin.get_color() and artist(figure, f"mass.{name}.bars") is None
        curve = rows(stored, "cumulative_kl_share", "survivors", name).dropna(subset="value")
        np.testing.assert_allclose(
            [one[:, 1] for one in bars.get_segments()], curve[["low", "high"]] * 100
        )
    legend = [one.get_text() for one in figure.legends[0].get_texts()]
    assert legend == ["base student", *FEW[1:], "thick: survivors", "thin: all tokens"]


def test_n_stands_in_the_strip_with_its_interval_of_each_student_and_way_to_sum(
    stored: pd.DataFrame,
) -> None:
    figure = cumulative_kl.draw(stored)
    heights = []
    for condition in CONDITIONS:
        for name in FEW:
            row = rows(stored, "cumulative_kl_position", condition, name).iloc[0]
            dot: Any = artist(figure, f"{condition}.{name}.N")
            bar: Any = artist(figure, f"{condition}.{name}.N.bars")
            assert dot.get_xdata() == [row.value]
            np.testing.assert_allclose(bar.get_segments()[0][:, 0], [row.low, row.high])
            number = f"{row.value:.0f} [{row.low:.0f}, {row.high:.0f}]"
            assert number in texts(figure) and f"{name} {number} (horizon" in cumulative_kl.details(
                stored
            )
            heights.append(float(dot.get_ydata()[0]))
    assert heights == sorted(heights), "the table's order from above"
    labels = [one.get_text() for one in dot.axes.get_yticklabels()]
    assert labels == ["N, survivors", "N, all tokens"]
    for place, own in zip(dot.axes.get_yticks(), (heights[:3], heights[3:]), strict=True):
        assert place == pytest.approx(np.mean(own)), "a name stands at the middle of its own lines"


@pytest.mark.parametrize("share", [0.45, 0.3])
def test_the_threshold_is_drawn_where_the_table_has_it(stored: pd.DataFrame, share: float) -> None:
    frame = stored.copy()
    frame.loc[frame.what == "cumulative_kl_threshold", "value"] = share
    figure = cumulative_kl.draw(frame)
    line: Any = artist(figure, "survivors.threshold")
    assert line.get_ydata() == [share * 100] * 2 and f"{share * 100:g} %" in texts(figure)
    assert f"where {share * 100:g} % is reached" in cumulative_kl.details(frame)


def test_a_student_of_full_rollouts_has_the_colour_of_full_rollouts() -> None:
    frame = frame_of(("base", "prefix-20-seed-0", "full-seed-0"))
    for figure, gid in ((cumulative_kl.draw(frame), "survivors"), (signals.draw(frame), "d")):
        lines: list[Any] = [
            artist(figure, f"{gid}.{name}") for name in ("base", "prefix-20-seed-0", "full-seed-0")
        ]
        assert [to_hex(line.get_color()).upper() for line in lines] == [
            style.STUDENT,
            style.ESR,
            style.FULL_ROLLOUT,
        ]


def test_it_draws_what_the_figure_of_the_signals_draws(stored: pd.DataFrame) -> None:
    own, among = cumulative_kl.draw(stored), signals.draw(stored)
    for condition, panel in zip(CONDITIONS, "de", strict=True):
        for name in FEW:
            one: Any = artist(own, f"{condition}.{name}")
            other: Any = artist(among, f"{panel}.{name}")
            np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_captions_hold_estimands_level_counts_and_how_intervals_were_made(
    stored: pd.DataFrame,
) -> None:
    text = cumulative_kl.details(stored.assign(level=0.9))
    for part in (
        "90 %",
        "percentile bootstrap over problems",
        "mean over rollouts that reach them",
        "sum over tokens",
        "horizon 50 tokens, longest rollout 60",
        "base 45 problems, 135 rollouts",
        "two pairs",
    ):
        assert part in text, part
    assert "90 % intervals" in cumulative_kl.caption(stored.assign(level=0.9))


def test_the_drop_line_ends_on_its_curve(stored: pd.DataFrame) -> None:
    figure = cumulative_kl.draw(stored)
    for condition in CONDITIONS:
        for name in FEW:
            drop: Any = artist(figure, f"{condition}.{name}.drop")
            (place, bottom), (_, top) = drop.get_segments()[0]
            line: Any = artist(figure, f"{condition}.{name}")
            x, y = line.get_xydata().T
            assert bottom == 0 and np.interp(place, x, y) == pytest.approx(top)
            assert place == rows(stored, "cumulative_kl_position", condition, name).value.iloc[0]


def test_what_is_undefined_is_not_drawn_and_told(stored: pd.DataFrame) -> None:
    kept = stored.what == "cumulative_kl_threshold"
    nothing = stored.copy()
    nothing.loc[~kept, ["value", "low", "high"]] = math.nan
    figure = cumulative_kl.draw(nothing)
    assert not {
        gid for gid in gids(figure) if gid.endswith((".bars", ".N")) or gid == "survivors.base"
    }
    assert not len(artist(figure, "mass.base").get_xdata())
    assert "undefined" in cumulative_kl.details(nothing)


def test_a_single_bin_still_has_n() -> None:
    frame = frame_of(("base",), (0,))
    place = rows(frame, "cumulative_kl_position", "survivors", "base").value.iloc[0]
    dot: Any = artist(cumulative_kl.draw(frame), "survivors.base.N")
    assert dot.get_xdata() == [place] and "N, where 45 %" in cumulative_kl.details(frame)


@pytest.mark.parametrize(
    "checkpoints", [("base",), FEW, ("base", *(f"run/step-{i}" for i in range(5)))]
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_any_number_of_students_fits_the_page(
    checkpoints: tuple[str, ...], width: style.Width
) -> None:
    apart_on_the_page(cumulative_kl.draw(frame_of(checkpoints), width=width))


def test_the_same_table_gives_the_same_bytes(stored: pd.DataFrame, tmp_path: Path) -> None:
    first, again = (
        style.save(cumulative_kl.draw(stored), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_other_measurements_and_published_rows_are_refused(stored: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no cumulative_kl_position; pass those of signals"):
        cumulative_kl.draw(stored[stored.what == "reverse_kl"])
    for call in (cumulative_kl.draw, cumulative_kl.caption):
        with pytest.raises(ValueError, match="published must be None"):
            call(stored, published=stored)
