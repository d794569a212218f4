"""Boxes and repetition over checkpoints, from stored tables alone: artists hold the numbers, by
step or by model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page, bars, rollouts
from figure_parts import artist, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from decaylab.analyses.behaviour import Settings, measure
from decaylab.figures import boxed_repetition, style
from decaylab.paper import publication
from decaylab.runs import measurements as table

RULES = ("last_boxed", "first_boxed", "anywhere", "gsm8k")
STEPS = ("step-000025", "step-000050", "step-000100")
PANELS = {
    "a": "several_boxes_share",
    "b": "boxes_mean",
    "c": "repetition_3gram",
    "d": "natural_stop_share",
}
SCALES = {"a": 100, "b": 1, "c": 100, "d": 100}


def graded(seed: int) -> pd.DataFrame:
    """Rollouts of random length, boxes and grades under every rule, some of them cut off."""
    rng, rows = np.random.default_rng(seed + 100), rollouts(seed, cut=0.3)
    return rows.assign(
        **{f"grade_{rule}": rng.choice(["correct", "wrong"], len(rows)) for rule in RULES}
    )


def stored_frame(folder: Path, *names: str) -> pd.DataFrame:
    """Measurements of these models, written and read back."""
    frame = measure({name: graded(seed) for seed, name in enumerate(names)}, Settings(RULES))
    table.write(frame, folder / "measurements.parquet")
    return table.read(folder / "measurements.parquet")


def number(frame: pd.DataFrame, what: str, name: str, condition: str = "") -> pd.Series:
    """One row, picked without the figure's own helpers."""
    (row,) = frame[
        (frame.what == what) & (frame.checkpoint == name) & (frame.condition == condition)
    ].index
    return frame.loc[row, ["value", "low", "high"]].astype(float)


def holds(figure: Figure, gid: str, steps: list[float], numbers: pd.DataFrame) -> None:
    """A line with its intervals."""
    line = artist(figure, gid)
    np.testing.assert_allclose(line.get_xdata(), steps)
    np.testing.assert_allclose(line.get_ydata(), numbers.value)
    known = numbers[numbers.low.notna()]
    if len(known):
        drawn = [segment[:, 1] for segment in artist(figure, f"{gid}.bars").get_segments()]
        np.testing.assert_allclose(drawn, known[["low", "high"]])


# --- against the training step
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["page", "column"])
def test_checkpoints_of_one_run_stand_at_their_steps_the_base_student_at_0(
    width: style.Width, tmp_path: Path
) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS, "teacher")
    figure = boxed_repetition.draw(frame, width=width)
    for letter, what in PANELS.items():
        rows = (
            pd.DataFrame([number(frame, what, name) for name in ("base", *STEPS)]) * SCALES[letter]
        )
        holds(figure, f"{letter}.trained student", [0, 25, 50, 100], rows)
    for rule in RULES[:3]:
        rows = (
            pd.DataFrame([number(frame, "accuracy", name, rule) for name in ("base", *STEPS)]) * 100
        )
        holds(figure, f"e.{rule}.trained student", [0, 25, 50, 100], rows)
    assert artist(figure, "e.gsm8k.trained student") is None
    base = artist(figure, "a.trained student.base")
    assert base.get_xdata() == [0] and to_hex(base.get_color()).upper() == style.STUDENT


def test_the_teacher_is_a_line_with_its_interval(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS, "teacher")
    figure = boxed_repetition.draw(frame)
    for letter, what, rule in (("a", "several_boxes_share", ""), ("e", "accuracy", "last_boxed")):
        row = number(frame, what, "teacher", rule) * 100
        np.testing.assert_allclose(artist(figure, f"{letter}.teacher").get_ydata(), [row.value] * 2)
        band = artist(figure, f"{letter}.teacher.band").get_bbox()
        np.testing.assert_allclose((band.y0, band.y1), (row.low, row.high))
    assert (
        artist(boxed_repetition.draw(stored_frame(tmp_path, "base", *STEPS)), "a.teacher") is None
    )


def test_each_of_several_runs_is_a_line_in_its_colour(tmp_path: Path) -> None:
    names = [f"{run}/{step}" for run in ("full-seed-0", "prefix-20-seed-0") for step in STEPS[:2]]
    frame = stored_frame(tmp_path, "base", *names)
    figure = boxed_repetition.draw(frame)
    for run, colour in (("full-seed-0", style.FULL_ROLLOUT), ("prefix-20-seed-0", style.ESR)):
        rows = pd.DataFrame(
            [
                number(frame, "boxes_mean", one)
                for one in ("base", f"{run}/{STEPS[0]}", f"{run}/{STEPS[1]}")
            ]
        )
        holds(figure, f"b.{run}", [0, 25, 50], rows)
        assert to_hex(artist(figure, f"b.{run}").get_color()).upper() == colour.upper()
        assert artist(figure, f"e.anywhere.{run}") is not None


def test_steps_are_known_by_their_names() -> None:
    runs = boxed_repetition.runs_of
    assert runs(["base", "step-50", "step-100", "teacher"]) == {
        "trained student": {50: "step-50", 100: "step-100"}
    }
    assert runs(["full/checkpoint-5", "full/checkpoint-10"]) == {
        "full": {5: "full/checkpoint-5", 10: "full/checkpoint-10"}
    }
    assert runs(["base", "step-50", "step-100", "other"]) == {}, "one that is no step"
    assert runs(["base", "one/step-50", "two/step-50"]) == {}, (
        "a single step of each run is no curve"
    )
    assert runs(["base", "teacher"]) == {}


def test_steps_in_any_order_make_a_rising_line(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS)
    shuffled = frame.iloc[::-1].reset_index(drop=True)
    drawn = [
        artist(boxed_repetition.draw(one), "b.trained student").get_xydata()
        for one in (frame, shuffled)
    ]
    np.testing.assert_allclose(drawn[0], drawn[1])


def test_shares_of_responses_have_the_whole_scale_and_zero_is_kept(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS)
    figure = boxed_repetition.draw(frame)
    for letter in "ade":
        low, high = artist(
            figure, f"{letter}.{'last_boxed.' if letter == 'e' else ''}trained student"
        ).axes.get_ylim()
        assert low < 0 and high > 100, "a marker at 0 or 100 is whole"
    for letter in "bc":
        assert artist(figure, f"{letter}.trained student").axes.get_ylim()[0] == 0


def test_the_published_collapse_is_grey_and_hollow_beside_it(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, "base", *STEPS), publication.boxed_repetition()
    figure = boxed_repetition.draw(frame, published=published)
    for gid, values in (
        ("f.trained student", [2.9, 91.5, 80.5, 89.1]),
        ("g.trained student", [1.0, 88.1, 54.1, 58.0]),
        ("h.trained student", [5.9, 78.8, 58.3, 77.5]),
        ("i.official.trained student", [65.60, 46.30, 49.70, 43.80]),
        ("i.relaxed.trained student", [74.60, 70.90, 71.90, 70.30]),
    ):
        line = artist(figure, gid)
        np.testing.assert_allclose(line.get_xydata(), np.transpose([[50, 100, 150, 200], values]))
        assert line.get_markerfacecolor() == "white" and to_hex(line.get_color()) == style.PUBLISHED
        assert line.get_linestyle() != "-" and artist(figure, f"{gid}.bars") is None
    text = boxed_repetition.details(frame, published)
    assert (
        "(f to i) Grey and hollow, in panels of their own: published, arXiv 2605.27028" in text
        and "another pair" in text
    )
    assert "published" not in boxed_repetition.details(frame)
    assert artist(boxed_repetition.draw(frame), "f.trained student") is None


def test_a_checkpoint_without_a_value_leaves_a_gap(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS)
    frame.loc[frame.checkpoint == STEPS[1], ["value", "low", "high"]] = math.nan
    figure = boxed_repetition.draw(frame)
    assert np.isnan(artist(figure, "a.trained student").get_ydata()).tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert "nan" not in texts(figure)


# --- by model
# ---------------------------------------------------------------------------


def test_other_checkpoints_are_dots_by_model(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", "prefix-20-seed-0", "full-seed-0", "teacher")
    figure = boxed_repetition.draw(frame)
    groups = {
        "a": [("several_boxes_share", ""), ("repetition_3gram", ""), ("natural_stop_share", "")],
        "b": [("boxes_mean", "")],
        "c": [("accuracy", rule) for rule in RULES[:3]],
    }
    for letter, rows in groups.items():
        for name in ("base", "prefix-20-seed-0", "full-seed-0", "teacher"):
            expected = pd.DataFrame([number(frame, what, name, rule) for what, rule in rows]) * (
                1 if letter == "b" else 100
            )
            np.testing.assert_allclose(
                artist(figure, f"{letter}.{name}").get_xdata(), expected.value
            )
            np.testing.assert_allclose(
                bars(figure, f"{letter}.{name}"), expected.dropna()[["low", "high"]]
            )
    colour = to_hex(artist(figure, "a.full-seed-0").get_color()).upper()
    assert colour == style.FULL_ROLLOUT and "(e)" not in boxed_repetition.details(frame)


def test_published_steps_are_hollow_marks_where_models_are_dots(tmp_path: Path) -> None:
    frame, published = stored_frame(tmp_path, "base", "late"), publication.boxed_repetition()
    figure = boxed_repetition.draw(frame, published=published)
    for letter, values in (("d", [91.5, 78.8]), ("e", [46.3, 70.9]), ("f", [88.1])):
        line = artist(figure, f"{letter}.published.step-100")
        np.testing.assert_allclose(line.get_xdata(), values)
        assert line.get_markerfacecolor() == "white"
    assert "(d to f) Grey and hollow" in boxed_repetition.details(frame, published)


# --- both
# ---------------------------------------------------------------------------


def test_caption_holds_counts_level_and_rules(tmp_path: Path) -> None:
    for names in (("base", *STEPS), ("base", "late")):
        text = boxed_repetition.details(stored_frame(tmp_path, *names).assign(level=0.9))
        for part in (
            "15 problems",
            "45 rollouts",
            "90 %",
            "clustered Wilson",
            "last_boxed, first_boxed, anywhere.",
        ):
            assert part in text, part
        assert "gsm8k" not in text


@pytest.mark.parametrize(
    "names",
    [
        ("base", *STEPS, "teacher"),
        STEPS,
        (
            "base",
            *(f"a-rather-long-name-of-a-run-{i}/{step}" for i in range(3) for step in STEPS),
            "teacher",
        ),
        ("base", "prefix-20-seed-0", "full-seed-0", "teacher"),
    ],
)
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("with_paper", [False, True])
def test_text_stays_on_the_page_and_apart(
    names: tuple[str, ...], width: style.Width, with_paper: bool, tmp_path: Path
) -> None:
    published = publication.boxed_repetition() if with_paper else None
    frame = stored_frame(tmp_path, *names)
    apart_on_the_page(
        boxed_repetition.draw(
            frame, published=published, width=width, title="teacher after student"
        )
    )


def test_an_axis_of_boxes_holds_its_intervals(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS)
    frame.loc[frame.what == "boxes_mean", ["value", "high"]] = 50.0, 60.0
    assert artist(boxed_repetition.draw(frame), "b.trained student").axes.get_ylim()[1] > 60
    assert boxed_repetition.scale_of(frame[frame.what == "boxes_mean"]) == 1.0


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, "base", *STEPS)
    other = frame[frame.what == "accuracy"]
    with pytest.raises(ValueError, match="no several_boxes_share"):
        boxed_repetition.draw(other, published=publication.boxed_repetition())
    with pytest.raises(ValueError, match="no several_boxes_share"):
        boxed_repetition.details(other)
