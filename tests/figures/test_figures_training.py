"""The curves of a training run hold the numbers of its records; they are drawn after the run, and
where that fails the run stays whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist
from matplotlib.colors import to_hex

from decaylab.commands import drawing
from decaylab.figures import style, training
from decaylab.trainer.loop import TrainResult

STEPS = np.arange(1, 31)
METRICS = pd.DataFrame(
    {"step": STEPS, "loss": 1.0 / STEPS, "response_tokens": 20.0 + STEPS % 3, "reverse_kl": 9.0}
)
VALIDATION = pd.DataFrame(
    {
        "step": [0, 10, 30],
        "problems": 100,
        "accuracy": [0.4, 0.5, 0.45],
        "reverse_kl": [0.2, 0.15, 0.1],
        "response_tokens": [60.0, 62.0, 70.0],
    }
)


@pytest.mark.parametrize("width", ["page", "column"])
def test_curves_hold_the_numbers_of_the_records(width: style.Width) -> None:
    figure = training.draw(METRICS, VALIDATION, width=width)
    for gid, rows, column, scale in (
        ("held-out.reverse_kl", VALIDATION, "reverse_kl", 1),
        ("held-out.accuracy", VALIDATION, "accuracy", 100),
        ("held-out.response_tokens", VALIDATION, "response_tokens", 1),
        ("training.loss", METRICS, "loss", 1),
        ("training.response_tokens", METRICS, "response_tokens", 1),
    ):
        line: Any = artist(figure, gid)
        np.testing.assert_allclose(line.get_xydata(), np.array([rows.step, rows[column] * scale]).T)
        low, high = line.axes.get_ylim()
        assert low == 0 and high > line.get_ydata().max()
    lengths = {artist(figure, f"{of}.response_tokens").axes for of in ("training", "held-out")}
    assert len(lengths) == 1, "both lengths in one panel"
    apart_on_the_page(figure)


def test_panels_stand_alone_and_captions_are_short() -> None:
    for figure in training.sheet(METRICS, VALIDATION).panels().values():
        apart_on_the_page(figure)
        assert figure.get_figheight() <= 3.0 + 1e-9
    text = training.caption(METRICS, VALIDATION)
    assert len(text.split()) <= 60 and "30 steps" in text and "100 held-out problems" in text


def test_a_student_of_full_rollouts_has_their_colour() -> None:
    for full, colour in ((False, style.ESR), (True, style.FULL_ROLLOUT)):
        line: Any = artist(training.draw(METRICS, VALIDATION, full=full), "held-out.accuracy")
        assert to_hex(line.get_color()).upper() == colour


@pytest.mark.parametrize("lost", ["accuracy", "reverse_kl"])
def test_what_was_not_measured_has_no_panel(lost: str) -> None:
    figure = training.draw(METRICS, VALIDATION.assign(**{lost: math.nan}))
    assert artist(figure, f"held-out.{lost}") is None and len(figure.axes) == 3
    alone = training.draw(METRICS, VALIDATION[:0])
    assert len(alone.axes) == 2 and artist(alone, "held-out.accuracy") is None


def test_one_step_is_a_figure_and_none_is_refused() -> None:
    apart_on_the_page(training.draw(METRICS[:1], VALIDATION[:1]))
    with pytest.raises(ValueError, match="no step"):
        training.draw(METRICS[:0], VALIDATION)


def result(folder: Path, selector: str = "prefix") -> TrainResult:
    record = {"identity": {"training": {"selector": selector}}}
    return TrainResult(folder, record, METRICS, VALIDATION, ("a note",), ())


def test_after_the_run_the_curves_stand_in_its_folder(tmp_path: Path) -> None:
    METRICS.to_csv(tmp_path / "metrics.csv", index=False)
    VALIDATION.to_csv(tmp_path / "validation.csv", index=False)
    assert drawing.with_curves(result(tmp_path)).notes == ("a note",)
    found = {path.name for path in tmp_path.glob("training.*")}
    assert found == {"training.png", "training.svg", "training.txt"}


def test_a_run_whose_curves_cannot_be_drawn_is_whole_and_says_so(tmp_path: Path) -> None:
    drawn = drawing.with_curves(result(tmp_path))
    assert drawn.notes[0] == "a note" and "curves were not drawn" in drawn.notes[1]
    assert not list(tmp_path.iterdir())
