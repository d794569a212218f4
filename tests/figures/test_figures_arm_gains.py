"""The figure of arm gains: arms in one order, each panel with the table's numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from decaylab.figures import arm_gains
from decaylab.runs.measurements import Measurement, to_frame

GAINS = {"prefix-40": 0.02, "full": 0.12, "middle-40": 0.13}


def rows(truth: bool = True) -> pd.DataFrame:
    made = []
    for place, (arm, gain) in enumerate(GAINS.items()):
        numbers = {"training_gain": gain, "one_token_gain": 0.01 * place, "masked_kl_share": 0.5}
        if truth:
            numbers["masked_truth_gain"] = 0.05
        for what, value in numbers.items():
            at = {"checkpoint": arm, "low": value - 0.01, "high": value + 0.01, "problems": 30}
            made.append(Measurement(what, "training", value, "fraction", tokens=400, **at))
    return to_frame(made)


def test_arms_stand_in_the_order_of_what_training_gave() -> None:
    panels = arm_gains.panels_of(rows())
    assert [panel.gid for panel in panels] == list("abcd")
    for panel in panels:
        assert list(panel.groups) == ["middle-40", "full", "prefix-40"]
    (series,) = panels[1].series
    assert series.rows.loc["middle-40", "value"] == pytest.approx(0.02)


def test_long_names_of_arms_take_two_lines() -> None:
    assert arm_gains._broken("top-student-entropy-40") == "top-student-\nentropy-40"
    assert arm_gains._broken("prefix-40") == "prefix-40"


def test_what_was_not_measured_has_no_panel() -> None:
    titles = [panel.title for panel in arm_gains.panels_of(rows(truth=False))]
    assert len(titles) == 3 and not any("correct tokens" in title for title in titles)


def test_it_is_drawn_with_a_short_caption_and_its_details() -> None:
    figure = arm_gains.draw(rows())
    assert len(figure.axes) == 4
    assert 15 < len(arm_gains.caption(rows()).split()) <= 60
    details = arm_gains.details(rows())
    assert "30 problems, 400 tokens an arm" in details and "{" not in details


def test_rows_of_another_command_are_refused() -> None:
    with pytest.raises(ValueError, match="pass those of arm-gains"):
        arm_gains.draw(rows()[lambda frame: frame.what == "training_gain"])
