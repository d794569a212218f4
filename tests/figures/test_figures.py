"""Figures are drawn from stored tables without a model, and their artists hold the table's
numbers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_parts import artist, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from decaylab.analyses.prefix_decay import Settings, measure
from decaylab.figures import prefix_decay, style
from decaylab.paper import publication
from decaylab.runs import measurements as table

LENGTHS = (0, 25, 50, 100)


def synthetic_rollouts(
    lengths: tuple[int, ...] = LENGTHS,
    problems: int = 60,
    samples: int = 4,
    ease: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """A rollouts table with every condition: the teacher decays along wrong prefixes. ``ease``:
    logits on all."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []

    def add(
        condition: str, problem: int, sample: int, logit: float, tokens: int, **more: object
    ) -> dict[str, object]:
        right = rng.random() < 1 / (1 + math.exp(-logit - ease))
        row = {
            "rollout_id": f"{condition}/{more.get('prefix_tokens', 0)}/{problem}/{sample}",
            "condition": condition,
            "problem_id": f"p{problem:03d}",
            "sample": sample,
            "prefix_tokens": 0,
            "prefix_rollout_id": "",
            "prefix_correct_so_far": None,
            "response_ids": list(range(tokens)),
            "stop_reason": "eos",
            "grade_last_boxed": "correct" if right else "wrong",
            **more,
        }
        rows.append(row)
        return row

    for problem in range(problems):
        level = rng.normal(0, 1.2)
        for sample in range(samples):
            length = int(rng.gamma(4, lengths[-1] / 3)) + 5
            student = add("student", problem, sample, level - 0.3, length)
            teacher = add("teacher", problem, sample, level + 3.0, 2 * length)
            good = student["grade_last_boxed"] == "correct"
            broken = (
                math.inf if good else rng.uniform(0, 1.5 * lengths[-1])
            )  # the token at which the student slips
            for k in lengths[1:]:
                place = {"prefix_tokens": k, "prefix_rollout_id": student["rollout_id"]}
                if length > k:
                    drop = 0.5 * k / lengths[-1] + (2.5 if broken < k else 0.0)
                    add(
                        "student-prefix",
                        problem,
                        sample,
                        level + 3 - drop,
                        60,
                        **place,
                        prefix_correct_so_far=broken >= k,
                    )
                    add("swapped", problem, sample, level + 3 - 4 * k / lengths[-1], 60, **place)
                if 2 * length > k:
                    place["prefix_rollout_id"] = teacher["rollout_id"]
                    add(
                        "own-prefix",
                        problem,
                        sample,
                        6 if teacher["grade_last_boxed"] == "correct" else -2,
                        60,
                        **place,
                    )
                    add("reverse", problem, sample, level + 1.5 * k / lengths[-1], 60, **place)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """All measurements, written and read back: what a figure is drawn from."""
    path = tmp_path_factory.mktemp("run") / "measurements.parquet"
    table.write(
        measure(synthetic_rollouts(), Settings(LENGTHS, "last_boxed", run="runs/synthetic")), path
    )
    return table.read(path)


def rows(frame: pd.DataFrame, what: str, condition: str, view: str) -> pd.DataFrame:
    """The rows of one curve, picked without the figure's own helper."""
    query = frame.query(f"what == '{what}' and condition == '{condition}'")
    return query[query["view"] == view].sort_values("prefix_tokens")


def xy(figure: Figure, gid: str) -> np.ndarray:
    line = artist(figure, gid)
    assert line is not None, f"{gid} is not drawn"
    return np.asarray(line.get_xydata())


@pytest.mark.parametrize("width", ["page", "column"])
def test_headline_and_what_stands_beside_it_hold_the_tables_numbers(
    stored: pd.DataFrame, width: style.Width
) -> None:
    figure = prefix_decay.draw(stored, width=width)
    teacher, student = (
        rows(stored, "accuracy", role, "all").value.iloc[0] for role in ("teacher", "student")
    )
    for gid, what, first in (
        ("a.headline", "accuracy", [(0.0, teacher)]),
        ("a.outcome", "student_accuracy", [(0.0, student)]),
        ("a.reference", "reference_accuracy", []),
    ):
        curve = rows(stored, what, "student-prefix", "open")
        expected = np.array(
            [*first, *curve[["prefix_tokens", "value"]].itertuples(index=False)]
        ) * [1, 100]
        np.testing.assert_allclose(xy(figure, gid), expected)
    assert xy(figure, "a.headline")[:, 0].tolist() == list(LENGTHS)


def test_bars_are_the_pointwise_intervals_and_the_area_is_the_band(stored: pd.DataFrame) -> None:
    figure = prefix_decay.draw(stored)
    for gid, view in (("a.headline", "open"), ("c.carry-forward", "carry-forward")):
        curve = rows(stored, "accuracy", "student-prefix", view)
        alone = rows(stored, "accuracy", "teacher", "all")
        bars = np.array([segment[:, 1] for segment in artist(figure, f"{gid}.bars").get_segments()])
        np.testing.assert_allclose(
            bars, pd.concat([alone, curve])[["low", "high"]].to_numpy() * 100
        )
        corners = artist(figure, f"{gid[0]}.band").get_paths()[0].vertices
        for length, low, high in curve[["prefix_tokens", "band_low", "band_high"]].itertuples(
            index=False
        ):
            at = corners[corners[:, 0] == length, 1]
            np.testing.assert_allclose((at.min(), at.max()), (low * 100, high * 100))
        assert (curve.band_low < curve.low).all(), "a case in which the two intervals differ"


def test_controls_are_drawn_as_differences_in_points(stored: pd.DataFrame) -> None:
    figure = prefix_decay.draw(stored)
    for name in (
        "student-prefix",
        "own-prefix",
        "correct-so-far",
        "already-wrong",
        "swapped",
        "reverse",
    ):
        curve = rows(stored, "accuracy_difference", name, "open")
        assert len(curve) == len(LENGTHS) - 1
        np.testing.assert_allclose(
            xy(figure, f"b.{name}"), curve[["prefix_tokens", "value"]].to_numpy() * [1, 100]
        )


def test_baselines_of_the_carry_forward_panel_are_the_policies_alone(stored: pd.DataFrame) -> None:
    figure = prefix_decay.draw(stored)
    for role, colour in (("teacher", style.TEACHER), ("student", style.STUDENT)):
        line = artist(figure, f"c.{role}-alone")
        value = rows(stored, "accuracy", role, "all").value.iloc[0] * 100
        np.testing.assert_allclose(line.get_ydata(), [value, value])
        assert to_hex(line.get_color()).upper() == colour


def test_absent_conditions_are_not_drawn(stored: pd.DataFrame) -> None:
    without = stored[~stored.condition.isin(["swapped", "reverse"])]
    figure = prefix_decay.draw(without)
    assert artist(figure, "b.own-prefix") is not None
    assert artist(figure, "b.swapped") is None and artist(figure, "b.reverse") is None
    assert "reverse" not in (texts(figure) + prefix_decay.details(without)).lower()
    bare = stored[
        stored.condition.isin(["student", "teacher", "student-prefix"])
        & (stored["view"] != "carry-forward")
    ]
    assert len(prefix_decay.draw(bare).axes) == 2, "panel a and its strip"
    assert "(b)" not in prefix_decay.details(bare) and "(c)" not in prefix_decay.details(bare)


def test_published_curve_is_drawn_only_when_given_and_cannot_be_taken_for_measured(
    stored: pd.DataFrame,
) -> None:
    assert artist(prefix_decay.draw(stored), "published") is None
    figure = prefix_decay.draw(stored, published=publication.prefix_curve())
    line = artist(figure, "published")
    np.testing.assert_allclose(line.get_ydata(), [65.30, 62.70, 56.30, 51.75])
    assert line.get_linestyle() == "--" and line.get_markerfacecolor() == "white"
    assert artist(figure, "published.bars") is None, "no interval was published"
    assert "another pair" in line.axes.get_title(loc="left")
    measured = artist(figure, "c.carry-forward").axes
    assert line.axes is not measured
    alone = artist(prefix_decay.draw(stored), "c.carry-forward").axes
    assert measured.get_xlim() == alone.get_xlim() and measured.get_ylim() == alone.get_ylim()
    measured = [
        one
        for one in figure.findobj(lambda one: str(one.get_gid()).startswith(("a.", "b.", "c.")))
        if one is not line
    ]
    colours = {to_hex(one.get_color()) for one in measured if hasattr(one, "get_markerfacecolor")}
    assert to_hex(line.get_color()) not in colours


def test_half_decay_is_marked_where_it_is_defined(stored: pd.DataFrame) -> None:
    def with_half(value: float, low: float, high: float) -> pd.DataFrame:
        changed = stored.copy()
        changed.loc[changed.what == "half_decay_length", ["value", "low", "high"]] = (
            value,
            low,
            high,
        )
        return changed

    reached = prefix_decay.draw(with_half(62.4, 41.0, math.inf))
    np.testing.assert_allclose(artist(reached, "a.half-decay").get_xdata(), [62.4, 62.4])
    assert "half-decay 62 tokens [41, > 100]" in texts(reached)
    censored = with_half(math.inf, math.inf, math.inf)
    assert artist(prefix_decay.draw(censored), "a.half-decay") is None
    assert "Half-decay > 100 tokens:" in prefix_decay.details(censored)
    undefined = with_half(math.nan, math.nan, math.nan)
    assert "alf-decay" not in texts(prefix_decay.draw(undefined)) + prefix_decay.details(undefined)


def test_caption_and_foot_hold_counts_level_and_answer_rule(stored: pd.DataFrame) -> None:
    changed = stored.assign(level=0.9, answer_rule="first_boxed")
    text = prefix_decay.details(changed)
    for part in (
        "60 problems × 4 samples",
        "avg@4",
        "90 %",
        "answer rule first_boxed",
        "clustered Wilson",
    ):
        assert part in text, part
    for part in ("60 problems × 4 samples", "90 %", "avg@4"):
        assert part in prefix_decay.caption(changed), part
    uneven = stored.assign(rollouts=stored.rollouts.where(stored["view"] != "all", 239))
    assert "239 rollouts of 60 problems" in prefix_decay.details(
        uneven
    ) and "avg@" not in prefix_decay.details(uneven)


def test_undefined_intervals_are_points_without_bars(stored: pd.DataFrame) -> None:
    bare = stored.assign(low=math.nan, high=math.nan, band_low=math.nan, band_high=math.nan)
    figure = prefix_decay.draw(bare)
    assert artist(figure, "a.headline.bars") is None and artist(figure, "a.band") is None
    assert len(xy(figure, "a.headline")) == len(LENGTHS)


@pytest.mark.parametrize(
    ("ease", "lengths", "problems"),
    [(4.0, (0, 50), 60), (-6.0, (0, 100, 200, 300), 60), (0.0, (0, 5, 10, 50, 300), 5)],
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_text_stays_on_the_page_and_apart(
    ease: float, lengths: tuple[int, ...], problems: int, width: style.Width
) -> None:
    frame = measure(
        synthetic_rollouts(lengths, problems, ease=ease), Settings(lengths, "last_boxed")
    )
    figure = prefix_decay.draw(
        frame, published=publication.prefix_curve(), width=width, title="a teacher after a student"
    )
    with style.context():
        figure.draw(figure.canvas.get_renderer())
        shown = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text()]
        boxes = [
            (one.get_text(), Text.get_window_extent(one)) for one in shown
        ]  # of an annotation without its leader
    assert min(one.get_fontsize() for one in shown) >= 7.0
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0.5 or up <= 0.5, f"{one!r} overlaps {other!r}"


def test_a_single_finished_length_and_no_open_rollout_still_give_a_figure() -> None:
    rollouts = synthetic_rollouts((0, 50))
    plain = rollouts[rollouts.condition.isin(["student", "teacher"])]
    figure = prefix_decay.draw(measure(plain, Settings((0, 50), "last_boxed")))
    assert len(xy(figure, "a.headline")) == 1


def test_measurements_without_the_teacher_are_refused(stored: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no accuracy of condition 'teacher'"):
        prefix_decay.draw(stored[stored.condition != "teacher"])


def test_saving_twice_gives_the_same_bytes_and_text_stays_text(
    stored: pd.DataFrame, tmp_path: Path
) -> None:
    figure = prefix_decay.draw(stored)
    first, second, again = tmp_path / "first", tmp_path / "second", tmp_path / "again"
    style.save(figure, first)
    png, svg = style.save(figure, second)
    style.save(prefix_decay.draw(stored), again)
    assert png.name == "second.png" and svg.name == "second.svg"
    for kind in ("png", "svg"):
        content = [
            path.with_name(f"{path.name}.{kind}").read_bytes() for path in (first, second, again)
        ]
        assert content[0] == content[1] == content[2], kind
    text = svg.read_text()
    assert "unfinished</text>" in text and "<dc:date>" not in text


def test_a_figure_can_be_saved_as_pdf_too_and_twice_gives_the_same_bytes(
    stored: pd.DataFrame, tmp_path: Path
) -> None:
    figure = prefix_decay.draw(stored)
    written = style.save(figure, tmp_path / "first", kinds=("png", "svg", "pdf"))
    assert [path.name for path in written] == ["first.png", "first.svg", "first.pdf"]
    assert all(path.is_file() for path in written)
    (again,) = style.save(prefix_decay.draw(stored), tmp_path / "again", kinds=["pdf"])
    content = again.read_bytes()
    assert content == written[2].read_bytes() and content.startswith(b"%PDF")
    assert not any(word in content for word in (b"CreationDate", b"Producer", b"Creator"))
    assert b"/FontFile2" in content and b"/Type3" not in content, "TrueType inside the file"
    assert not (tmp_path / "again.png").exists()


def test_a_kind_of_file_that_is_not_known_is_refused(stored: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kinds must be among png, svg, pdf, got 'gif'"):
        style.save(prefix_decay.draw(stored), tmp_path / "one", kinds=("png", "gif"))
    assert not list(tmp_path.iterdir())


def test_figures_are_drawn_at_print_width_and_resolution(
    stored: pd.DataFrame, tmp_path: Path
) -> None:
    for width, inches in (("column", 3.4), ("page", 7.0)):
        figure = prefix_decay.draw(stored, width=width)
        assert figure.get_size_inches()[0] == inches
        png, _ = style.save(figure, tmp_path / width, dots_per_inch=200)
        assert int.from_bytes(png.read_bytes()[16:20], "big") == round(inches * 200)


def test_labels_are_moved_apart_within_the_room() -> None:
    places = style.spread([50, 50, 51, 99], [10, 10, 10, 10], 100)
    assert np.all(np.diff(places) >= 10) and places[0] >= 5 and places[-1] <= 95
    assert style.spread([20, 60], [10, 10], 100) == [20, 60], "labels that do not overlap stay"


def test_crowded_ticks_lose_their_numbers_but_not_the_first_and_last() -> None:
    assert style.far_apart([0, 5, 10, 50, 100], 18) == [0, 3, 4]
    assert style.far_apart([0, 50, 100], 18) == [0, 1, 2]
    assert style.far_apart([], 18) == []
