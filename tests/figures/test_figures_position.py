"""The figure of position KL holds the table's numbers, for any number of checkpoints, and what bins
share."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from decaylab.analyses.position_kl import Settings, measure
from decaylab.figures import bins, position_kl, style
from decaylab.paper import publication
from decaylab.runs import measurements as table
from decaylab.tokens.token_table import Scored, TokenTable

EDGES = (0, 5, 10, 20, 40, 60)
CENTRES = {
    0: 2.5,
    5: 7.5,
    10: 15,
    20: 30,
    40: 50,
    60: 70,
}  # the open bin from 60 on is drawn as wide as the one before
NAMES = ("reverse_kl", "forward_kl", "js", "student_entropy", "teacher_entropy")
LEVEL, CHANGE = "winsorised_reverse_kl", "winsorised_reverse_kl_relative_change"
PANELS = {"a": (LEVEL, "fresh"), "b": (LEVEL, "frozen")}
PROBLEMS = 100  # a band needs as many
CHANGES = {"c": "fresh", "d": "frozen"}
FEW = ["base", "ckpt-20", "ckpt-60"]


def tokens(seed: int, size: float = 1.0, longest: int = 80) -> TokenTable:
    rng = np.random.default_rng(seed)
    lengths = np.tile([longest, 15, longest // 2], PROBLEMS)
    columns = {name: size * rng.exponential(size=lengths.sum()) for name in NAMES}
    return TokenTable(lengths, np.repeat(np.arange(PROBLEMS), 3), PROBLEMS, columns)


def frame_of(checkpoints: list[str], edges: tuple[int, ...] = EDGES, longest: int = 80) -> Any:
    """Measurements of students of ever smaller KL, each on its own rollouts and all on the first
    one's."""
    scored = [
        Scored(name, view, tokens(10 * i + (view == "frozen"), 0.8**i, longest))
        for i, name in enumerate(checkpoints)
        for view in ("fresh", "frozen")
    ]
    return measure(scored, Settings(edges, 20, run="synthetic")).assign(noise_floor=0.01)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two checkpoints, written and read back: what a figure is drawn from."""
    path = tmp_path_factory.mktemp("run") / "measurements.parquet"
    table.write(frame_of(FEW), path)
    return table.read(path)


def rows(frame: pd.DataFrame, what: str, view: str, checkpoint: str) -> pd.DataFrame:
    """The rows of one curve, picked without the figure's own helper."""
    found = frame.query(f"what == '{what}' and checkpoint == '{checkpoint}' and condition == 'all'")
    return found[found["view"] == view].sort_values("position_low")


def artist(figure: Figure, gid: str) -> Any:
    found: list[Artist] = figure.findobj(lambda one: one.get_gid() == gid)
    assert len(found) == 1, f"{gid} is drawn {len(found)} times"
    return found[0]


def gids(figure: Figure) -> set[str]:
    return {str(one.get_gid()) for one in figure.findobj(lambda one: one.get_gid() is not None)}


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


@pytest.mark.parametrize("width", ["page", "column"])
def test_levels_stand_at_the_centres_of_their_bins_with_their_bars(
    stored: pd.DataFrame, width: style.Width
) -> None:
    figure = position_kl.draw(stored, width=width)
    for panel, (what, view) in PANELS.items():
        for name in FEW:
            curve = rows(stored, what, view, name)
            assert curve.value.notna().all() and curve.position_high.iloc[-1] == math.inf
            line = artist(figure, f"{panel}.{name}").get_xydata()
            np.testing.assert_allclose(line[:, 0], list(CENTRES.values()))
            np.testing.assert_allclose(line[:, 1], curve.value)
            bars = [
                segment[:, 1] for segment in artist(figure, f"{panel}.{name}.bars").get_segments()
            ]
            np.testing.assert_allclose(bars, curve[["low", "high"]])
            dots = artist(figure, f"{panel}.{name}.plain").get_xydata()
            np.testing.assert_allclose(dots[:, 1], rows(stored, "reverse_kl", view, name).value)


def test_changes_are_per_cent_of_what_was_there_before(stored: pd.DataFrame) -> None:
    figure = position_kl.draw(stored)
    for panel, view in CHANGES.items():
        for name in FEW[1:]:
            curve = rows(stored, CHANGE, view, name)
            line = artist(figure, f"{panel}.{name}").get_xydata()
            np.testing.assert_allclose(line[:, 1], 100 * curve.value)
            new, old = (
                rows(stored, "reverse_kl", view, one).value.to_numpy() for one in (name, "base")
            )
            plain = artist(figure, f"{panel}.{name}.plain").get_xydata()
            np.testing.assert_allclose(plain[:, 1], 100 * (new / old - 1))
            bars = [
                segment[:, 1] for segment in artist(figure, f"{panel}.{name}.bars").get_segments()
            ]
            np.testing.assert_allclose(bars, curve[["low", "high"]] * 100)
        assert f"{panel}.base" not in gids(figure), (
            "the base student has not changed against itself"
        )


def test_shades_are_the_band_over_all_bins_of_the_base_student_and_the_last(
    stored: pd.DataFrame,
) -> None:
    figure = position_kl.draw(stored)
    for panel, what, view, name, scale in (
        ("a", LEVEL, "fresh", "base", 1),
        ("a", LEVEL, "fresh", "ckpt-60", 1),
        ("d", CHANGE, "frozen", "ckpt-60", 100),
    ):
        curve = rows(stored, what, view, name)
        found = corners(figure, f"{panel}.{name}.band")
        expected = curve[["band_low", "band_high"]].to_numpy() * scale
        np.testing.assert_allclose([found[place] for place in CENTRES.values()], expected)
        colour = artist(figure, f"{panel}.{name}.band").get_facecolor()[0]
        line = artist(figure, f"{panel}.{name}").get_color()
        assert to_hex(colour) == to_hex(line), "a shade has the colour of its curve"
        assert (curve.band_low < curve.low).all(), "a case in which the two intervals differ"
    assert "a.ckpt-20.band" not in gids(figure)


def corners(figure: Figure, gid: str) -> dict[float, tuple[float, float]]:
    """Lower and upper end of an area at the centre of each bin that it reaches."""
    vertices = np.concatenate([path.vertices for path in artist(figure, gid).get_paths()])
    at = {place: vertices[np.isclose(vertices[:, 0], place), 1] for place in CENTRES.values()}
    return {place: (heights.min(), heights.max()) for place, heights in at.items() if len(heights)}


def test_the_noise_floor_is_drawn_to_twice_its_size(stored: pd.DataFrame) -> None:
    changed = stored.copy()
    changed.loc[(changed.what == LEVEL) & (changed.position_low == 5), "noise_floor"] = 0.02
    figure = position_kl.draw(changed)
    level = artist(figure, "a.floor").get_paths()[0].vertices
    assert level[:, 1].min() == 0 and level[:, 1].max() == 0.04
    assert sorted(set(level[level[:, 1] == 0.04, 0])) == [5, 10], "over its own bin alone"
    change = artist(figure, "c.floor").get_paths()[0].vertices
    np.testing.assert_allclose(
        (change[:, 1].min(), change[:, 1].max()), (-2, 2)
    )  # 2 x 0.01, per cent
    assert "0.02 nats" in position_kl.details(changed).replace("2.0e-02", "0.02")
    assert "a.floor" not in gids(position_kl.draw(stored.assign(noise_floor=math.nan)))
    assert "not measured" in position_kl.details(stored.assign(noise_floor=math.nan))


def test_values_under_twice_the_floor_are_counted_in_the_caption(stored: pd.DataFrame) -> None:
    flagged = stored.assign(under_floor=False)
    assert "no value lies under it" in position_kl.details(flagged)
    flagged.loc[flagged[(flagged.what == LEVEL)].index[:2], "under_floor"] = True
    assert " 2 of " in position_kl.details(flagged)


def test_cascade_ratios_are_dots_with_bars_and_stand_in_the_text(stored: pd.DataFrame) -> None:
    figure = position_kl.draw(stored)
    for panel, view in (("e", "fresh"), ("f", "frozen")):
        for name in FEW[1:]:
            row = rows(stored, "cascade_ratio", view, name).iloc[0]
            assert artist(figure, f"{panel}.{name}").get_xdata() == [row.value]
            bar = artist(figure, f"{panel}.{name}.bars").get_segments()[0]
            np.testing.assert_allclose(bar[:, 0], [row.low, row.high])
            number = f"{name} {row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
            assert number in position_kl.details(stored)


def test_a_ratio_is_on_the_page_however_large_it_or_its_interval_is(stored: pd.DataFrame) -> None:
    high = stored.copy()
    high.loc[high.what == "cascade_ratio", ["value", "high"]] = 9.0, 1e6
    axes = artist(position_kl.draw(high), "e.ckpt-20").axes
    assert axes.get_xlim()[0] < 1 and 9 < axes.get_xlim()[1] < 10


def spans(figure: Figure, panel: str) -> dict[str, tuple[float, float]]:
    """Of each student the positions of the line above a panel."""
    found = {}
    for one in figure.findobj(LineCollection):
        gid = str(one.get_gid())
        if gid.startswith(f"{panel}.") and gid.endswith(".trained"):
            found[gid.split(".")[1]] = tuple(one.get_segments()[0][:, 0])
    return found


def test_where_no_training_is_known_the_start_of_the_cascade_is_marked(
    stored: pd.DataFrame,
) -> None:
    figure = position_kl.draw(stored)
    for panel in "abcd":
        assert artist(figure, f"{panel}.rollout-length").get_xdata() == [20, 20]
        assert not spans(figure, panel)
    assert "N = 20" in texts(figure) and "N = 20" in position_kl.details(stored)
    assert "trained" not in " ".join(texts(figure)), "which positions were trained is not known"
    without = stored[stored.what != "cascade_ratio"]
    assert not {
        gid
        for gid in gids(position_kl.draw(without))
        if "rollout-length" in gid or "trained" in gid
    }
    assert "Dotted" not in position_kl.details(without)


def trained_frame(stored: pd.DataFrame, **lengths: float) -> pd.DataFrame:
    known = {name.replace("_", "-"): length for name, length in lengths.items()}
    return stored.assign(rollout_length=stored.checkpoint.map(known).astype(float))


def test_the_trained_positions_of_each_student_are_a_line_in_its_colour(
    stored: pd.DataFrame,
) -> None:
    frame = trained_frame(stored, ckpt_20=10, ckpt_60=40)
    figure = position_kl.draw(frame)
    for panel in "abcd":
        assert spans(figure, panel) == {"ckpt-20": (0, 10), "ckpt-60": (0, 40)}
        for name in FEW[1:]:
            line = artist(figure, f"{panel}.{name}.trained").get_color()[0]
            assert to_hex(line) == to_hex(artist(figure, f"{panel}.{name}").get_color())
    assert texts(figure).count("trained to 10") == texts(figure).count("trained to 40") == 4
    assert "ckpt-20 (N = 10)" in [text.replace("\n", " ") for text in texts(figure)]
    assert "ckpt-20 N = 10; ckpt-60 N = 40" in position_kl.details(frame)


def test_a_student_of_full_rollouts_was_trained_everywhere_and_has_no_band(
    stored: pd.DataFrame,
) -> None:
    frame = trained_frame(stored, ckpt_20=20, ckpt_60=math.inf)
    figure = position_kl.draw(frame)
    assert spans(figure, "a") == {"ckpt-20": (0, 20)}
    assert texts(figure).count("trained to 20") == 4
    assert "ckpt-60 (full rollouts)" in [text.replace("\n", " ") for text in texts(figure)]
    assert "ckpt-60 full rollouts" in position_kl.details(frame)
    same = position_kl.draw(trained_frame(stored, ckpt_20=20, ckpt_60=20))
    assert "ckpt-20" in texts(same), "a length that all share is not repeated at each name"


def test_the_base_student_alone_stands_beside_both_entropies() -> None:
    frame = frame_of(["base"])
    figure = position_kl.draw(frame)
    for panel, what in zip("abc", ("reverse_kl", "student_entropy", "teacher_entropy")):
        line = artist(figure, f"{panel}.base")
        np.testing.assert_allclose(
            line.get_ydata(), rows(frame, f"winsorised_{what}", "fresh", "base").value
        )
        dots = artist(figure, f"{panel}.base.plain")
        np.testing.assert_allclose(dots.get_ydata(), rows(frame, what, "fresh", "base").value)
        assert to_hex(line.get_color()).upper() == style.STUDENT
    assert len(figure.axes) == 3 and "cascade" not in position_kl.details(frame).lower()


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_each_of_many_checkpoints_can_be_told_from_the_others(count: int) -> None:
    names = [f"step-{i}" for i in range(count)]
    figure = position_kl.draw(frame_of(["base", *names]))
    looks = {
        (to_hex(line.get_color()), line.get_marker())
        for line in (artist(figure, f"a.{name}") for name in names)
    }
    assert len(looks) == count
    assert all(any(name in text for text in [*texts(figure), *_key(figure)]) for name in names)
    if count == 1:
        assert looks == {(style.ESR.lower(), "s")}


def _key(figure: Figure) -> list[str]:
    return [one.get_text() for legend in figure.legends for one in legend.get_texts()]


def test_published_numbers_are_drawn_only_when_given_and_cannot_be_taken_for_measured(
    stored: pd.DataFrame,
) -> None:
    assert not {gid for gid in gids(position_kl.draw(stored)) if "published" in gid}
    published = publication.position_kl()
    figure = position_kl.draw(stored, published=published)
    for name, value in (
        ("base", 2.06),
        ("esr-100", 1.02),
    ):  # of the first bin, [0, 50)
        line = artist(figure, f"published.{name}")
        np.testing.assert_allclose(line.get_xydata()[0], (25, value))
        assert line.get_linestyle() == "--" and line.get_markerfacecolor() == "white"
        assert to_hex(line.get_color()) == style.PUBLISHED
        assert f"published.{name}.bars" not in gids(figure), "no interval was published"
    for panel in "ab":
        own = artist(figure, f"{panel}.base").axes
        alone = artist(position_kl.draw(stored), f"{panel}.base").axes
        assert own is not line.axes and own.get_ylim() == alone.get_ylim(), "nothing is squeezed"
    for said in (position_kl.details(stored, published), " ".join(texts(figure))):
        assert "another pair" in said
    assert "published" not in position_kl.details(stored)


def test_an_interval_that_runs_away_ends_at_the_frame_with_an_arrowhead(
    stored: pd.DataFrame,
) -> None:
    wide = stored.copy()
    wide.loc[
        (wide.what == LEVEL) & (wide.position_low == 10) & (wide.checkpoint == "base"), "high"
    ] = 1e6
    figure = position_kl.draw(wide)
    top = figure.axes[0].get_ylim()[1]
    assert top < 3 * wide[wide.what == LEVEL].value.max()
    assert artist(figure, "a.base.cut").get_xydata().tolist() == [[15, top]]
    assert not {gid for gid in gids(position_kl.draw(stored)) if gid.endswith(".cut")}


def test_bins_without_a_value_leave_a_gap_and_none_at_all_says_so(stored: pd.DataFrame) -> None:
    holed = stored.copy()
    numbers = ["value", "low", "high", "band_low", "band_high"]
    holed.loc[holed.position_low == 10, numbers] = math.nan
    line = artist(position_kl.draw(holed), "a.base")
    assert line.get_xdata().tolist() == [2.5, 7.5, 30, 50, 70]
    figure = position_kl.draw(stored.assign(**dict.fromkeys(numbers, math.nan)))
    assert not {gid for gid in gids(figure) if gid.endswith((".base", ".bars", ".band"))}
    assert (
        texts(figure).count("no value") == 4
        and sum(text.endswith(" –") for text in texts(figure)) == 4
    )


def test_an_open_bin_is_as_wide_as_the_last_closed_one() -> None:
    frame = pd.DataFrame({"position_low": [0.0, 5.0, 20.0], "position_high": [5.0, 20.0, math.inf]})
    lows, highs, centres = bins.bin_places(frame)
    assert (
        lows.tolist() == [0, 5, 20]
        and highs.tolist() == [5, 20, 35]
        and centres.tolist() == [2.5, 12.5, 27.5]
    )
    reversed_ = bins.bin_places(frame[::-1])
    assert reversed_[2].tolist() == [27.5, 12.5, 2.5], "whatever the order"


def test_the_open_bin_is_named_and_a_bin_beyond_the_longest_rollout_takes_no_room(
    stored: pd.DataFrame,
) -> None:
    labels = [one.get_text() for one in position_kl.draw(stored).axes[0].get_xticklabels()]
    assert labels[-1] == "\u2265 60"
    short = position_kl.draw(frame_of(["base"], (0, 5, 10, 20, 40, 60), longest=40))
    assert short.axes[0].get_xlim() == (0, 40)
    assert "\u2265 60" not in texts(short)


def test_a_single_bin_is_a_point() -> None:
    figure = position_kl.draw(frame_of(["base", "ckpt-20"], (0,)))
    assert len(artist(figure, "a.base").get_xdata()) == 1 and "all" in texts(figure)
    alone = position_kl.draw(frame_of(["base"], (0,)))
    assert len(artist(alone, "a.base").get_xdata()) == 1


def test_narrow_bins_are_told_apart_by_a_square_root_axis_that_says_so(
    stored: pd.DataFrame,
) -> None:
    assert position_kl.draw(stored).axes[0].get_xscale() == "linear"
    figure = position_kl.draw(frame_of(["base"], (0, 5, 20, 50, 100, 200, 300), longest=350))
    assert figure.axes[0].get_xscale() == "function" and any(
        "square-root axis" in text for text in texts(figure)
    )
    pixels = figure.axes[0].transData.transform([(0, 0), (100, 0), (400, 0)])[:, 0]
    np.testing.assert_allclose(
        pixels[1] - pixels[0], (pixels[2] - pixels[0]) / 2
    )  # sqrt 100 / sqrt 400


def test_captions_hold_estimand_level_counts_and_views(stored: pd.DataFrame) -> None:
    text = position_kl.details(stored.assign(level=0.9))
    counted = PROBLEMS * (80 + 15 + 40)
    for part in (
        "winsorised mean of problem means",
        "90 %",
        f"base {PROBLEMS} problems, {3 * PROBLEMS} rollouts, {counted:,} tokens",
        "All on the base student's rollouts:",
        "percentile bootstrap",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "checkpoints", [["base"], ["base", "one"], FEW, ["base", *(f"run/step-{i}" for i in range(5))]]
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_text_stays_on_the_page_and_apart(checkpoints: list[str], width: style.Width) -> None:
    check_text(
        position_kl.draw(frame_of(checkpoints), published=publication.position_kl(), width=width)
    )


def check_text(figure: Figure) -> None:
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


def test_survivors_are_dashed_beside_their_level_and_explained_in_the_caption() -> None:
    entries = [Scored("base", "fresh", tokens(0))]
    frame = measure(entries, Settings(EDGES, 20, survivors=30))
    drawn = artist(position_kl.draw(frame), "a.base.survivors")
    wanted = frame[(frame.what == LEVEL) & (frame.condition == "survivors")].value.dropna()
    np.testing.assert_allclose(drawn.get_ydata(), wanted)
    assert drawn.get_linestyle() == "--"
    assert "on either side), of rollouts of at least 30 tokens" in position_kl.details(frame)
    assert "Dashed" not in position_kl.details(measure(entries, Settings(EDGES, 20)))


def test_the_same_table_gives_the_same_bytes(stored: pd.DataFrame, tmp_path: Path) -> None:
    first, again = (
        style.save(position_kl.draw(stored), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_a_table_without_reverse_kl_is_refused(stored: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no winsorised_reverse_kl"):
        position_kl.draw(stored[stored.what != LEVEL])


def test_a_change_is_named_as_the_mean_of_ratios_that_it_is(stored: pd.DataFrame) -> None:
    figure = position_kl.draw(stored)
    axes = artist(figure, "c.ckpt-20").axes
    assert axes.get_title(loc="left") == "c  Change by problem, own rollouts"
    assert axes.get_ylabel() == "geometric mean (%)"
    assert "geometric mean of the problems' ratios, not the ratio" in position_kl.caption(stored)
    for part in (
        "winsorised geometric mean of the problems' ratios, minus 1",
        "not the ratio of two levels",
        "Dots: ratio of the means over tokens, minus 1",
    ):
        assert part in position_kl.details(stored), part
    assert "geometric" not in position_kl.caption(stored[stored.checkpoint == "base"])


def many_of_one_length(stored: pd.DataFrame, count: int = 40) -> pd.DataFrame:
    """Base and so many students, all trained on the first 20 tokens."""
    base, one = (stored[stored.checkpoint == name] for name in ("base", "ckpt-20"))
    students = [one.assign(checkpoint=f"run/step-{place}") for place in range(count)]
    frame = pd.concat([base, *students], ignore_index=True)
    return frame.assign(rollout_length=np.where(frame.checkpoint == "base", math.nan, 20.0))


def test_students_of_one_length_share_a_line_and_their_rows_are_named(
    stored: pd.DataFrame,
) -> None:
    frame = many_of_one_length(stored)
    sheet = position_kl.sheet(frame)
    figure = sheet.draw("page")
    assert texts(figure).count("trained to 20") == 4, "once above each panel"
    assert list(spans(figure, "a")) == ["run/step-39"]
    rows_named = [text for text in texts(figure) if text.startswith("run/step-")]
    assert "run/step-0" in rows_named and len(rows_named) > 10
    pieces = [one for letter, one in sheet.panels().items() if letter.startswith("e")]
    alone = [text for one in pieces for text in texts(one) if text.startswith("run/step-")]
    assert alone == [f"run/step-{place}" for place in range(40)], "alone, each has its name"
    for one in (figure, *pieces):
        check_text(one)


def test_lines_of_several_lengths_stand_above_each_other(stored: pd.DataFrame) -> None:
    figure = position_kl.draw(trained_frame(stored, ckpt_20=20, ckpt_60=22))
    check_text(figure)
    assert "ckpt-20, ckpt-60 N = 20" in position_kl.details(
        trained_frame(stored, ckpt_20=20, ckpt_60=20)
    )
